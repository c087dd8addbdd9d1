"""Components from resolved yaml: a node with `_target_` becomes an object of that class of analog_glue."""

import importlib
import importlib.resources
import inspect
import typing
from typing import Any

from analog_glue.configuration.wording import unknown_key
from analog_glue.errors import WrongInput
from analog_glue.runs.aliases import as_of_today


def build(config: Any, key: str) -> Any:
    """Build the component that a resolved yaml node describes, its parts first.

    A node with `_target_` becomes an object of that class, which must be one of analog_glue's own: a
    configuration can run no other code. Lists become tuples, since components are frozen. Names that classes and
    settings had before are understood (`runs/aliases.py`).

    Args:
        config: Resolved yaml: plain dicts, lists and scalars.
        key: Where it stands in the configuration, for messages ("noise", "tile.adc").

    Raises:
        WrongInput: an unknown class, an argument too many or too few, or a value the class refuses.
    """
    if isinstance(config, list | tuple):
        return tuple(build(item, f"{key}[{i}]") for i, item in enumerate(config))
    if not isinstance(config, dict):
        return config
    config = as_of_today(config)
    arguments = {name: build(value, f"{key}.{name}") for name, value in config.items() if name != "_target_"}
    if "_target_" not in config:
        return arguments
    kind = _own_class(config["_target_"], key)
    known = inspect.signature(kind).parameters
    if unknown := [name for name in arguments if name not in known]:
        raise WrongInput(unknown_key(f"{key}.{unknown[0]}", [f"{key}.{name}" for name in known], []))
    if missing := [n for n, p in known.items() if p.default is inspect.Parameter.empty and n not in arguments]:
        raise WrongInput(f"Setting `{key}.{missing[0]}` must be given: {kind.__name__} has no default for it.")
    try:
        return kind(**arguments)
    except ValueError as error:
        raise WrongInput(str(error)) from None
    except TypeError as error:
        raise WrongInput(f"Setting group `{key}` ({kind.__name__}) has a value of the wrong type: {error}.") from None


def as_annotated(config: Any, key: str) -> Any:
    """The same yaml node with 25 written as 25.0 where the class says float.

    So `noise.g_max=25` and `noise.g_max=25.0` are one configuration, with one identity.
    """
    if not isinstance(config, dict):
        return config
    config = as_of_today(config)
    node = {name: as_annotated(value, f"{key}.{name}") for name, value in config.items()}
    if "_target_" in node:
        hints = _annotations(_own_class(node["_target_"], key))
        for name, value in node.items():
            kinds = {hints.get(name), *typing.get_args(hints.get(name))}
            if type(value) is int and float in kinds and int not in kinds:
                node[name] = float(value)
    return node


def _annotations(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind.__init__)
    except NameError:  # an annotation that only type checkers import; such a class has no plain numbers to read
        return {}


def _own_class(target: Any, key: str) -> type:
    module_name, _, name = str(target).rpartition(".")
    if module_name.startswith("analog_glue."):
        try:
            kind = getattr(importlib.import_module(module_name), name, None)
        except ModuleNotFoundError as error:
            if not str(error.name).startswith("analog_glue"):
                raise  # something that the module needs is not installed
            kind = None
        if isinstance(kind, type) and kind.__module__ == module_name:
            return kind
    raise WrongInput(f"Setting `{key}._target_` must name a class of analog_glue.<module>, but is {target!r}.")
