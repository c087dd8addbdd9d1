"""From the words of a command line to settings and components; every mistake is named before anything runs.

The yaml files of conf/ are composed by Hydra on top of the typed settings (`settings.RunSettings`). This
module finds the folder, composes, judges each override by itself, and builds the components that the yaml
names with `_target_`.
Only this module and `cli` know Hydra; a notebook calls the classes directly.

    with Composer("train") as composer:
        composed = composer.compose(["task=demo", "model=tiny", "noise.noise_scale=0.5"])
    device = build(composed.config["noise"], "noise")      # analog_glue.devices.pcm.PCM(…)
"""

import copy
import difflib
import importlib
import importlib.resources
import inspect
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import Container, DictConfig, ListConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from analog_glue.settings import RunSettings, quoted

HYDRA_VERSION = "1.3"
COMPONENTS = (
    "task",
    "model",
    "noise",
    "tile",
    "device",
    "training",
)  # what a run is built from, in the order of the signal
GROUPS = (*COMPONENTS, "experiment")


class WrongInput(ValueError):
    """What the user gave cannot be run; the message says which key, what is allowed and what was meant."""


def conf_dir() -> Path:
    """The folder of yaml files: inside the installed package, or at the top of a checkout."""
    installed = Path(str(importlib.resources.files("analog_glue"))) / "conf"
    return installed if installed.is_dir() else installed.parents[1] / "conf"


def register_settings() -> None:
    """Give Hydra the typed settings under the name that conf/base.yaml starts from."""
    ConfigStore.instance().store(name="run_settings", node=RunSettings)


# --- compose --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Composed:
    """One job's configuration: typed settings, the yaml of every component, and which options were chosen."""

    settings: RunSettings
    config: dict[str, Any]  # everything, resolved
    choices: dict[str, str]  # group → option


class Composer:
    """Composes the configurations of one command; a context manager, since Hydra keeps global state.

    Args:
        command: Which primary file of conf/ to start from: "train", "evaluate" or "extract".
        extra_dir: A user's own folder of yaml files beside conf/ (`--config-dir`), or None.
    """

    def __init__(self, command: str, extra_dir: str | None = None) -> None:
        self.command = command
        self._search = [f"hydra.searchpath=[{quoted(str(Path(extra_dir).resolve()))}]"] if extra_dir else []
        self._bases: dict[tuple[str, ...], DictConfig] = {}

    def __enter__(self) -> "Composer":
        register_settings()
        self._context = initialize_config_dir(version_base=HYDRA_VERSION, config_dir=str(conf_dir()))
        self._context.__enter__()
        self._loader = GlobalHydra.instance().config_loader()
        self._parser = OverridesParser.create(config_loader=self._loader)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.__exit__(kind, error, trace)

    def options(self, group: str) -> list[str]:
        """The options of a config group, in alphabetical order."""
        listed = self._loader.get_group_options(
            group, ObjectType.CONFIG, config_name=self.command, overrides=self._search
        )
        return sorted(listed)

    def compose(self, words: Sequence[str]) -> Composed:
        """Compose one job.

        Raises:
            WrongInput: a key, option or value is not allowed; all that is wrong is in the message.
        """
        words = [plain(word) for word in words]
        problems = self.problems(words)
        if problems:
            raise WrongInput("\n".join(problems))
        return self._compose_checked(words)

    def problems(self, words: Sequence[str]) -> list[str]:
        """Everything wrong with the overrides of one job, a sentence each; empty when they compose."""
        found: list[str] = []
        overrides: list[Override] = []
        for word in words:
            try:
                overrides.append(self.parse(word))
            except WrongInput as error:
                found.append(str(error))
        kept = [o.input_line for o in overrides if o.is_hydra_override()]
        overrides = [o for o in overrides if not o.is_hydra_override()]
        chosen = self._base([*self._search, *kept]).hydra.runtime.choices

        values: list[Override] = []
        for override in overrides:
            key = override.key_or_group
            if key in GROUPS:
                problem = self._option_problem(override, chosen)
                found += [problem] if problem else []
                kept += [] if problem else [override.input_line]
            else:
                values.append(override)
        try:
            base = self._base([*self._search, *kept])
        except WrongInput as error:
            if self.command != "train" and "Could not override" in str(error):
                return [*found, f"Group `experiment` must be one that is made for `{self.command}`, but is one of `train`."]
            return [*found, str(error)]
        found += [problem for override in values if (problem := self._value_problem(override, base))]
        if not found:
            try:
                self._compose_checked(words)
            except WrongInput as error:
                found.append(str(error))
        return found

    def parse(self, word: str) -> Override:
        """Read a word as an override in Hydra's grammar; WrongInput when it is none."""
        try:
            return self._parser.parse_overrides([word])[0]
        except (HydraException, OmegaConfBaseException):
            advice = (
                "Lists are written [1,2]; a value with spaces or special signs needs quotes: \"key='a b'\"."
                if "=" in word
                else "Write group=option or key=value."
            )
            raise WrongInput(f"Argument `{word}` cannot be read as a setting. {advice}") from None

    def _option_problem(self, override: Override, chosen: DictConfig) -> str | None:
        group, option = override.key_or_group, override.value()
        if group not in chosen:
            come = {"evaluate": "Task, model and training come", "extract": "Everything comes"}.get(self.command)
            why = f" {come} with the checkpoint." if come else ""
            groups = ", ".join(self._groups(chosen))
            only = f", only {groups}" if groups else ""
            return f"Command `{self.command}` has no group `{group}`{only}.{why}"
        options = self.options(group)
        if group == "experiment" and (option is None or override.is_delete()):
            return None
        if override.is_delete() or not isinstance(option, str) or option not in options:
            shown = "deleted" if override.is_delete() else f"`{_yaml(option)}`"
            hint = _did_you_mean(str(option), options)
            return f"Group `{group}` must be one of {', '.join(options)}, but is {shown}.{hint}"
        return None

    @staticmethod
    def _groups(chosen: DictConfig) -> list[str]:
        return [group for group in GROUPS if group in chosen]

    def _value_problem(self, override: Override, base: DictConfig) -> str | None:
        key, value = override.key_or_group, override.value()
        if override.is_delete():
            return f"Setting `{key}` cannot be deleted, only changed: {key}=value."
        base = _without_hydra(base)
        parent_key, _, name = key.rpartition(".")
        parent = OmegaConf.select(base, parent_key) if parent_key else base
        if isinstance(parent, ListConfig):
            return None
        if not isinstance(parent, DictConfig) or name not in parent:
            adds = override.is_add() or override.is_force_add()
            if adds and key.split(".")[0] in COMPONENTS:
                return None  # an argument of a class that its yaml does not list; `build` judges it
            return _unknown_key(key, list(_keys(base)), [str(setting) for setting in base])
        if override.is_add():
            return f"Setting `{key}` is there already. Write it without the plus: {key}={_yaml(value)}."
        node = parent._get_node(name)
        default = None if OmegaConf.is_missing(parent, name) else _plain(parent[name])
        if key.split(".")[0] in COMPONENTS and not _same_kind(default, value):
            return f"Setting `{key}` must be {_kind(default)}, but is {_yaml(value)!r}."
        try:
            OmegaConf.update(base, key, value, merge=False)
        except OmegaConfBaseException:
            return f"Setting `{key}` must be {_typed(node)}, but is {_yaml(value)!r}."
        return None

    def _base(self, words: list[str]) -> DictConfig:
        if tuple(words) not in self._bases:
            self._bases[tuple(words)] = self._hydra(words)
        return self._bases[tuple(words)]

    def _hydra(self, words: list[str]) -> DictConfig:
        try:
            return compose(self.command, words, return_hydra_config=True)
        except (HydraException, OmegaConfBaseException) as error:
            lines = [
                *str(error).splitlines(),
                *(str(error.__cause__).splitlines() if error.__cause__ else []),
            ]
            kept = dict.fromkeys(line.strip() for line in lines if line.strip() and "object_type" not in line)
            raise WrongInput(" ".join(kept)) from None

    def _compose_checked(self, words: Sequence[str]) -> Composed:
        composed = self._hydra([*self._search, *words])
        choices = {
            group: option for group, option in composed.hydra.runtime.choices.items() if group in GROUPS
        }
        return composed_job(_without_hydra(composed), choices)


def _without_hydra(config: DictConfig) -> DictConfig:
    own = copy.deepcopy(config)
    with read_write(own), open_dict(own):
        del own["hydra"]
    return own


def composed_job(config: DictConfig, choices: dict[str, Any]) -> Composed:
    """Resolve a composed job and check its settings; components are checked when they are built.

    Raises:
        WrongInput: a setting has a value that its class refuses, or one that must be given is missing.
    """
    try:
        settings = OmegaConf.to_object(config)
        resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise WrongInput(f"Setting `{error.full_key}` must be given. Write {error.full_key}=value.") from None
    except ValueError as error:  # from __post_init__ of the settings
        raise WrongInput(str(error)) from None
    assert isinstance(settings, RunSettings) and isinstance(resolved, dict)
    chosen = {group: str(choices[group]) for group in GROUPS if choices.get(group) is not None}
    return Composed(settings, {str(k): v for k, v in resolved.items()}, chosen)


# --- build ----------------------------------------------------------------------------------------------


def build(config: Any, key: str) -> Any:
    """Build the component that a resolved yaml node describes, its parts first.

    A node with `_target_` becomes an object of that class, which must be one of analog_glue's own: a
    configuration can run no other code. Lists become tuples, since components are frozen.

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
    arguments = {name: build(value, f"{key}.{name}") for name, value in config.items() if name != "_target_"}
    if "_target_" not in config:
        return arguments
    kind = _own_class(config["_target_"], key)
    known = inspect.signature(kind).parameters
    if unknown := [name for name in arguments if name not in known]:
        raise WrongInput(_unknown_key(f"{key}.{unknown[0]}", [f"{key}.{name}" for name in known], []))
    if missing := [
        n for n, p in known.items() if p.default is inspect.Parameter.empty and n not in arguments
    ]:
        raise WrongInput(
            f"Setting `{key}.{missing[0]}` must be given: {kind.__name__} has no default for it."
        )
    try:
        return kind(**arguments)
    except ValueError as error:
        raise WrongInput(str(error)) from None
    except TypeError as error:
        raise WrongInput(
            f"Setting group `{key}` ({kind.__name__}) has a value of the wrong type: {error}."
        ) from None


def as_annotated(config: Any, key: str) -> Any:
    """The same yaml node with 25 written as 25.0 where the class says float.

    So `noise.g_max=25` and `noise.g_max=25.0` are one configuration, with one identity.
    """
    if not isinstance(config, dict):
        return config
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
    except (
        NameError
    ):  # an annotation that only type checkers import; such a class has no plain numbers to read
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
    raise WrongInput(
        f"Setting `{key}._target_` must name a class of analog_glue.<module>, but is {target!r}."
    )


# --- words for what is wrong ----------------------------------------------------------------------------


def plain(word: str) -> str:
    """`+experiment=demo` is `experiment=demo`: Hydra takes no plus for a group of the defaults list."""
    return word[1:] if word.startswith("+") and word[1:].split("=")[0] in GROUPS else word


def _keys(config: Container, above: str = "") -> Iterable[str]:
    """All keys of a configuration with their full path, inner ones too."""
    if isinstance(config, DictConfig) and not config._is_none() and not config._is_missing():
        for name in config:
            full = f"{above}{name}"
            yield full
            node = config._get_node(name)
            if isinstance(node, Container):
                yield from _keys(node, f"{full}.")


def _unknown_key(key: str, known: Sequence[str], top: Sequence[str]) -> str:
    parent, _, name = key.rpartition(".")
    siblings = [
        k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == parent and not k.endswith("_target_")
    ]
    beside = difflib.get_close_matches(name, siblings, n=1)
    same_name = [k for k in known if k.rpartition(".")[2] == name]
    meant = [key.removesuffix(name) + near for near in beside] or same_name
    hint = f" Did you mean `{meant[0]}`?" if meant else _did_you_mean(key, [k for k in known if not key.startswith(f"{k}.")])
    if siblings:
        if parent:
            where = f"`{parent}` has {', '.join(siblings)}"
        else:
            groups = [name for name in siblings if name in GROUPS]
            settings = [name for name in siblings if name not in GROUPS]
            where = f"Groups: {', '.join(groups)}; settings: {', '.join(settings)}"
        return f"There is no setting `{key}`. {where}.{hint}"
    return (
        f"There is no setting `{key}`: nothing is called `{parent}`. The settings are {', '.join(top)}.{hint}"
    )


def _did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f" Did you mean `{near[0]}`?" if near else ""


_WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "text"}


def _typed(node: Any) -> str:
    if isinstance(node, ListConfig):
        return f"a list such as [{','.join(str(item) for item in node)}]"
    if isinstance(node, DictConfig):
        return f"a group of settings ({', '.join(str(name) for name in node)})"
    return _WORDS.get(node._metadata.ref_type, "of another type")


def _kind(default: Any) -> str:
    if isinstance(default, list):
        return f"a list such as [{','.join(str(item) for item in default)}]"
    if isinstance(default, dict):
        return f"a group of settings ({', '.join(default)})"
    return "a number" if type(default) in (int, float) else _WORDS[type(default)]


def _same_kind(default: Any, value: Any) -> bool:
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


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if isinstance(value, Container) else value


def _yaml(value: Any) -> Any:
    """A value as it is typed on the command line, except that text stays text."""
    return (
        {None: "null", True: "true", False: "false"}[value]
        if value is None or isinstance(value, bool)
        else value
    )
