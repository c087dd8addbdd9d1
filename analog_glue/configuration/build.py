"""Components from resolved yaml: a node with `_target_` becomes an object of that class of analog_glue."""

import importlib
import inspect
import types
import typing
from dataclasses import is_dataclass
from typing import Any

from analog_glue.configuration.wording import unknown_key
from analog_glue.errors import UserError, WrongArgument, require
from analog_glue.runs.aliases import as_of_today


def build(config: Any, key: str) -> Any:
    """Build the component that a resolved yaml node describes, its parts first.

    A node with `_target_` becomes an object of that class, which must be one of analog_glue's own: a
    configuration can run no other code. Lists become tuples, since components are frozen. Names that classes and
    settings had before are understood (`runs/aliases.py`). A component refuses values of its arguments by their own names;
    here the key is put before them.

    Args:
        config: Resolved yaml: plain dicts, lists and scalars.
        key: Where it stands in the configuration, for messages ("noise", "tile.adc").

    Raises:
        UserError: an unknown class, an argument too many or too few, of another type than the class says, or one it refuses.
    """
    if isinstance(config, list | tuple):
        return tuple(build(item, f"{key}[{i}]") for i, item in enumerate(config))
    if not isinstance(config, dict):
        return config
    config = as_of_today(config)
    arguments = {name: build(value, f"{key}.{name}") for name, value in config.items() if name != "_target_"}
    if "_target_" not in config:
        return arguments
    kind = own_class(config["_target_"], key)
    known = inspect.signature(kind).parameters
    if unknown := [name for name in arguments if name not in known]:
        raise UserError(unknown_key(f"{key}.{unknown[0]}", [f"{key}.{name}" for name in known], []))
    if missing := [n for n, p in known.items() if p.default is inspect.Parameter.empty and n not in arguments]:
        raise UserError(f"Setting `{key}.{missing[0]}` must be given: {kind.__name__} has no default for it.")
    hints = _annotations(kind)
    for name, value in arguments.items():
        require(_fits(value, hints.get(name)), f"{key}.{name}", f"be {_in_words(hints.get(name))}", config[name])
    try:
        return kind(**arguments)
    except WrongArgument as error:
        raise error.as_setting(key) from None


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a built value is of an annotated type; what is neither plain, nor a list, nor a dataclass is not judged."""
    parts = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if typing.get_origin(hint) is tuple:
        parts = parts[:1] * len(value) if isinstance(value, tuple) and parts[-1] is Ellipsis else parts
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(_fits, value, parts))
    if hint in _WORDS:
        # A text may be one that is stored otherwise; true and false are no numbers.
        return isinstance(value, str) if hint is str else type(value) in ((int, float) if hint is float else (hint,))
    return isinstance(value, hint) if is_dataclass(hint) and isinstance(hint, type) else True


def _in_words(hint: Any) -> str:
    """What a value of an annotated type is, for a message."""
    parts = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return " or ".join(_in_words(part) for part in parts)
    if typing.get_origin(hint) is tuple:
        number = "" if parts[-1] is Ellipsis else f"{len(parts)} × "
        return f"a list ({number}{_in_words(parts[0])})"
    return _WORDS.get(hint, "a group of settings")


def as_annotated(config: Any, key: str) -> Any:
    """The same yaml node with 25 written as 25.0 where the class says float.

    So `noise.g_max=25` and `noise.g_max=25.0` are one configuration, with one identity.
    """
    if not isinstance(config, dict):
        return config
    config = as_of_today(config)
    node = {name: as_annotated(value, f"{key}.{name}") for name, value in config.items()}
    if "_target_" in node:
        hints = _annotations(own_class(node["_target_"], key))
        for name, value in node.items():
            kinds = {hints.get(name), *typing.get_args(hints.get(name))}
            if type(value) is int and float in kinds and int not in kinds:
                node[name] = float(value)
    return node


def _annotations(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind.__init__)  # type: ignore[misc]  # of this very class
    except NameError:  # an annotation that only type checkers import; such a class has no plain numbers to read
        return {}


def own_class(target: Any, key: str) -> type:
    """The class of analog_glue that the `_target_` of the node at `key` names.

    Raises:
        UserError: it is none of ours, or its module needs a package that is not installed.
    """
    module_name, _, name = str(target).rpartition(".")
    if module_name.startswith("analog_glue."):
        try:
            kind = getattr(importlib.import_module(module_name), name, None)
        except ModuleNotFoundError as error:
            if not str(error.name).startswith("analog_glue"):
                needs = f"Setting `{key}` needs the package {error.name}, which is not installed."
                raise UserError(f"{needs} Install analog-glue with its dependencies: pip install analog-glue.") from error
            kind = None
        if isinstance(kind, type) and kind.__module__ == module_name:
            return kind
    raise UserError(f"Setting `{key}._target_` must name a class of analog_glue.<module>, but is {target!r}.")
