"""The words that choose a hardware again: its options, and every value that differs from what their yaml says.

An option is a name alone; what was changed of it by words, an experiment or a recipe stands in the resolved configuration that
is kept beside a run (`run_config.json`) or a sweep (`config.json`). What either is too old to say has its recorded default.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from analog_glue.configuration.compose import conf_dir, option_files, option_yaml
from analog_glue.configuration.wording import as_typed
from analog_glue.runs.aliases import recorded_name
from analog_glue.runs.recorded import recorded_defaults
from analog_glue.settings import MISSING, HardwareSettings, quoted, typed

HARDWARE = ("noise", "tile")
OBJECT = "custom"  # what a choice is called where a component is no option, but an object of a notebook


def words_again(config: Mapping[str, Any], choices: Mapping[str, str], groups: Sequence[str] = HARDWARE) -> list[str]:
    """The words that give the components of these groups, and the settings `hardware`, once more, as typed in a shell.

    Args:
        config: The resolved configuration of a run or a sweep.
        choices: Group → option; a group without one, or with what is no option's name, is left out.
    """
    words = []
    for group in groups:
        if re.fullmatch(r"[\w.-]+", option := str(choices.get(group) or "")) and option != OBJECT:
            words += [typed(group, option), *changed(config, group, option)]
    return words + changed_settings(config)


def changed(config: Mapping[str, Any], group: str, option: str) -> list[str]:
    """What stands in `config` at a component otherwise than in its option, as words; nothing of a user's own option."""
    files, node = option_files(group, [conf_dir()]), config.get(group)
    if option not in files or not isinstance(node, Mapping):
        return []
    return list(_changed(group, node, option_yaml(option, files), _kind(node)))


def changed_settings(config: Mapping[str, Any]) -> list[str]:
    """The same of the settings `hardware`, against their defaults."""
    node = config.get("hardware")
    if not isinstance(node, Mapping):
        return []
    return list(_changed("hardware", node, asdict(HardwareSettings()), HardwareSettings.__name__))


def _kind(node: Mapping[str, Any]) -> str:
    return recorded_name(str(node.get("_target_", "")).rpartition(".")[2])


def _changed(key: str, own: Mapping[str, Any], option: Mapping[str, Any], kind: str) -> Iterator[str]:
    defaults = recorded_defaults(kind)
    for name in (name for name in {**option, **own} if name != "_target_"):
        stands = option.get(name, defaults.get(name, MISSING))
        value = own.get(name, {} if isinstance(stands, Mapping) else defaults.get(name, MISSING))
        if isinstance(value, Mapping) and isinstance(stands, Mapping):
            yield from _changed(f"{key}.{name}", value, stands, _kind(value) or str(defaults.get(name, "")))
        elif value not in (MISSING, stands) and (word := _word(f"{key}.{name}", value)):
            yield word if name in option else f"+{word}"  # Hydra wants a plus for what the yaml does not list


def _word(key: str, value: Any) -> str:
    """`key=value` as it is typed in a shell; nothing of what no command line holds, since a run may come from others."""
    word = shlex.quote(f"{key}={_listed(value)}") if isinstance(value, list) else typed(key, as_typed(value))
    plain = re.fullmatch(r"[\w.]+", key) and word.isprintable() and "${" not in word and "`" not in word
    return word if plain else ""


def _listed(values: Sequence[Any]) -> str:
    """A list in Hydra's grammar: names and patterns as they are, other texts in its quotes."""
    bare = [re.fullmatch(r"[A-Za-z_*][\w.*-]*", str(as_typed(value))) or not isinstance(value, str) for value in values]
    return f"[{','.join(str(as_typed(value)) if plain else quoted(value) for value, plain in zip(values, bare, strict=True))}]"
