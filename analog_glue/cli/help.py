"""`analog-glue COMMAND --help`: what it does, examples, every choice and every setting that it has, with what each means.

What is said stands where it is used: of a command at the top of its yaml file, of a component beside its keys in conf/, of the
typed settings in `settings.py`.
"""

import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from analog_glue.configuration.wording import GROUPS, as_typed
from analog_glue.settings import RunSettings, commands_of, typed, typed_list

if TYPE_CHECKING:
    from analog_glue.configuration.compose import Composed

WIDTH = 110  # columns of all that is printed
KEY = 44  # columns of a setting, before what it means
ENDS = """\
-m, --multirun   one job for each value of lists, key=1,2,3        --cfg job   the configuration that would run
dry_run=true     say what would be done, then stop                 analog-glue list   what each option is"""


def help_of(command: str, composed: "Composed", options: Mapping[str, Sequence[str]], conf: Path) -> str:
    """The help of a command for the options that were chosen.

    Args:
        options: Group → its options, of the groups that the command has.
        conf: The folder of yaml files that the command's own is in.
    """
    title, examples, remarks = head_of(conf / f"{command}.yaml")
    parts = [
        _filled(f"analog-glue {command}: {title}"),
        *([_filled(remarks)] if remarks else []),
        "\n".join(f"  {example}" for example in examples),
    ]
    apart = _of_other_trainings(composed) if command == "train" else ()
    parts += [f"choices, group=option (* chosen)\n{_choices(options, composed, command)}"] if options else []
    said = explanations(RunSettings)
    for group in composed.choices:
        said |= {f"{group}.{key}": text for key, text in composed.explained(group).items()}
    shown = [(key, value) for key, value in _settings(composed.config, said) if command in commands_of(key)]
    own = [line for key, value in shown if key.split(".")[0] not in apart for line in _line(key, value, said)]
    return "\n\n".join([*parts, "settings, key=value\n" + "\n".join(own), ENDS])


def head_of(file: Path) -> tuple[str, list[str], str]:
    """The comment at the top of a yaml file: its first line, the commands that it shows, and the rest; empty without one."""
    top = takewhile(lambda line: line.startswith("#"), file.read_text(encoding="utf-8").splitlines())
    title, *rest = [line[1:] for line in top if "@package" not in line] or [""]
    shown = [line.strip() for line in rest if line.startswith("   analog-glue ")]
    return title.strip(), shown, " ".join(line.strip() for line in rest if not line.startswith("   "))


def explanations(kind: type) -> dict[str, str]:
    """Setting → the comment behind it, of a dataclass of settings and those inside it."""
    told = dict(re.findall(r"^    (\w+): .+?  # (.+)$", inspect.getsource(kind), re.MULTILINE))
    hints = get_type_hints(kind)
    for field in fields(kind):
        for inner in (hints[field.name], *get_args(hints[field.name])):
            if is_dataclass(inner) and isinstance(inner, type):
                told |= {f"{field.name}.{key}": text for key, text in explanations(inner).items()}
    return told


def _of_other_trainings(composed: "Composed") -> tuple[str, ...]:
    """Sections that the training mode which was chosen has no use for."""
    in_situ = str(composed.config["training"]["_target_"]).startswith("analog_glue.in_situ.")
    return ("attention", "noise", "tile", "hardware", "evaluation") if in_situ else ("device",)


def _choices(options: Mapping[str, Sequence[str]], composed: "Composed", command: str) -> str:
    lines = []
    for group, names in options.items():
        files = composed.files(group)
        fitting = [name for name in names if group != "experiment" or _is_of(files[name], command)]
        marked = ", ".join(f"{name}*" if name == composed.choices.get(group) else name for name in fitting)
        lines.append(textwrap.fill(f"  {group + '=':12} {marked}", WIDTH, subsequent_indent=" " * 15))
    return "\n".join(lines)


def _is_of(experiment: Path, command: str) -> bool:
    """Whether the examples at the top of an experiment are of the command; true where it shows none."""
    _, examples, _ = head_of(experiment)
    return not examples or any(example.startswith(f"analog-glue {command} ") for example in examples)


def _settings(config: Mapping[str, Any], said: dict[str, str], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting that can be typed with its value, by its full key; a number with a source adds to what is `said`."""
    for name, value in config.items():
        key = f"{above}{name}"
        if isinstance(value, dict) and value.keys() >= {"value", "source"}:
            said[f"{key}.value"] = f"{said[key]}; {value['source']}" if key in said else value["source"]
            yield f"{key}.value", value["value"]
        elif isinstance(value, dict):
            yield from _settings(value, said, f"{key}.")
        elif name != "_target_" and key not in GROUPS:
            yield key, value


def _line(key: str, value: Any, said: Mapping[str, str]) -> list[str]:
    word = f"  {_typed(key, value)}"
    meaning = textwrap.wrap(said.get(key, ""), WIDTH - KEY - 3, break_on_hyphens=False)
    marked = [f"{' ' * KEY} {'# ' if line is meaning[0] else '  '}{line}" for line in meaning]
    return [word, *marked] if len(word) > KEY or not marked else [f"{word:{KEY}}{marked[0][KEY:]}", *marked[1:]]


def _typed(key: str, value: Any) -> str:
    """`key=value` as it is typed in a shell."""
    if isinstance(value, str):
        return typed(key, value)
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return typed_list(key, value)
    return f"{key}={_plain(value)}"


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_plain, value))}]"
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(as_typed(value))


def _filled(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_on_hyphens=False)
