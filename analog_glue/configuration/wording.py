"""What is wrong with a word of the command line, in words."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from omegaconf import Container, DictConfig, ListConfig, OmegaConf

from analog_glue.settings import quoted

COMPONENTS = (
    "task",
    "model",
    "attention",
    "noise",
    "tile",
    "device",
    "training",
    "tuning",
    "costs",
)  # what a run is built from, in the order of the signal


GROUPS = (*COMPONENTS, "recipe", "experiment")


def plain(word: str) -> str:
    """`+experiment=demo` is `experiment=demo`: Hydra takes no plus for a group of the defaults list.

    A path that begins with `~`, which Hydra's grammar does not know, is put in quotes.
    """
    word = word[1:] if word.startswith("+") and word[1:].split("=")[0] in GROUPS else word
    return re.sub(r"(?<=[=,])~(/[^,]*)?(?=,|$)", lambda path: quoted(path[0]), word)


def all_keys(config: Container, above: str = "") -> Iterable[str]:
    """All keys of a configuration with their full path, inner ones too."""
    if isinstance(config, DictConfig) and not config._is_none() and not config._is_missing():
        for name in config:
            full = f"{above}{name!s}"
            yield full
            node = config._get_node(name)
            if isinstance(node, Container):
                yield from all_keys(node, f"{full}.")


def unknown_key(key: str, known: Sequence[str], top: Sequence[str]) -> str:
    parent, _, name = key.rpartition(".")
    siblings = [k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == parent and not k.endswith("_target_")]
    beside = difflib.get_close_matches(name, siblings, n=1)
    same_name = [k for k in known if k.rpartition(".")[2] == name]
    meant = [key.removesuffix(name) + near for near in beside] or same_name
    hint = f" Did you mean `{meant[0]}`?" if meant else did_you_mean(key, [k for k in known if not key.startswith(f"{k}.")])
    if siblings:
        if parent:
            where = f"`{parent}` has {', '.join(siblings)}"
        else:
            groups = [name for name in top if name in GROUPS]
            settings = [name for name in top if name not in GROUPS]
            where = f"Groups: {', '.join(groups)}; settings: {', '.join(settings)}"
        return f"There is no setting `{key}`. {where}.{hint}"
    return f"There is no setting `{key}`: nothing is called `{parent}`. The settings are {', '.join(top)}.{hint}"


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f" Did you mean `{near[0]}`?" if near else ""


_WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "text"}


def type_words(node: Any) -> str:
    if isinstance(node, ListConfig):
        return f"a list such as [{','.join(str(item) for item in node)}]"
    if isinstance(node, DictConfig):
        return f"a group of settings ({', '.join(str(name) for name in node)})"
    return _WORDS.get(node._metadata.ref_type, "of another type")


def kind_of(default: Any) -> str:
    if isinstance(default, list):
        return f"a list such as [{','.join(str(item) for item in default)}]"
    if isinstance(default, dict):
        return f"a group of settings ({', '.join(default)})"
    return "a number" if type(default) in (int, float) else _WORDS[type(default)]


def same_kind(default: Any, value: Any) -> bool:
    """Whether `value` may replace `default` in a component's yaml; a null is left to the class to judge."""
    if default is None or value is None or (isinstance(value, str) and "${" in value):
        return True
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, int | float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, str):
        return not isinstance(value, list | dict)
    return isinstance(value, type(default))


def container(value: Any) -> Any:
    return OmegaConf.to_container(value) if isinstance(value, Container) else value


def as_typed(value: Any) -> Any:
    """A value as it is typed on the command line, except that text stays text."""
    return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else value
