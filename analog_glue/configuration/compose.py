"""From the words of a command line to settings and components; every mistake is named before anything runs.

The yaml files of conf/ are composed by Hydra on top of the typed settings (`settings.RunSettings`). This
module finds the folder, composes, and judges each override by itself; `build` makes the components that the
yaml names with `_target_`.
Only this room and `cli` know Hydra; a notebook calls the classes directly.

    with Composer("train") as composer:
        composed = composer.compose(["task=demo", "model=tiny", "noise.noise_scale=0.5"])
    device = build(composed.config["noise"], "noise")      # analog_glue.devices.pcm.PCM(…)
"""

import copy
import importlib.resources
import importlib.util
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, cast

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from omegaconf.resolvers import oc

from analog_glue.configuration.build import own_class
from analog_glue.configuration.wording import (
    COMPONENTS,
    GROUPS,
    all_keys,
    as_typed,
    container,
    did_you_mean,
    kind_of,
    plain,
    same_kind,
    type_words,
    unknown_key,
)
from analog_glue.errors import UserError, require
from analog_glue.runs.as_written import FromEnvironment
from analog_glue.settings import COMMANDS_OF, RunSettings, commands_of, quoted

HYDRA_VERSION = "1.3"


def conf_dir() -> Path:
    """The folder of yaml files: inside the installed package, or at the top of a checkout."""
    installed = Path(str(importlib.resources.files("analog_glue"))) / "conf"
    return installed if installed.is_dir() else installed.parents[1] / "conf"


def register_settings() -> None:
    """Give Hydra the typed settings under the name that conf/base.yaml starts from."""
    ConfigStore.instance().store(name="run_settings", node=RunSettings)


@dataclass(frozen=True)
class Composed:
    """One job's configuration: typed settings, the yaml of every component, and which options were chosen."""

    settings: RunSettings
    config: dict[str, Any]  # everything, resolved
    choices: dict[str, str]  # group → option
    folders: tuple[Path, ...]  # of yaml files that options come from
    launcher: dict[str, Any] = field(default_factory=dict)  # what is said to Hydra of the launcher of a sweep's jobs

    def options_for(self, group: str, fits: Callable[[Any], bool]) -> list[str]:
        """The options of a component's group whose class `fits`, in alphabetical order; imports the classes."""
        files = self.files(group)
        return sorted(option for option in files if fits(own_class(_target(files, option), group)))

    def option(self, group: str, name: str) -> dict[str, Any]:
        """What the yaml of an option says, whatever was chosen or changed; UserError where the group has none of that name."""
        files = self.files(group)
        if name not in files:
            hint = did_you_mean(name, list(files))
            raise UserError(f"Group `{group}` must be one of {', '.join(sorted(files))}, but is `{name}`.{hint}")
        return option_yaml(name, files)

    def explained(self, group: str) -> dict[str, str]:
        """Key → what the yaml of the option that was chosen says about it."""
        return option_comments(self.choices[group], self.files(group))

    def files(self, group: str) -> dict[str, Path]:
        """Option → its yaml, of a group."""
        return option_files(group, self.folders)


def option_files(group: str, folders: Sequence[Path]) -> dict[str, Path]:
    """Option → its yaml, of a group; a later folder goes before."""
    return {file.stem: file for folder in folders for file in (folder / group).glob("*.yaml")}


def option_yaml(name: str, files: Mapping[str, Path]) -> dict[str, Any]:
    """What the yaml of an option says, with what those in its defaults list say."""
    node = OmegaConf.load(files[name])
    assert isinstance(node, DictConfig)
    above = [own for own in node.pop("defaults", ()) if own in files]
    whole = OmegaConf.merge(*(option_yaml(own, files) for own in above), node)
    return {str(key): value for key, value in cast(dict[Any, Any], _resolved(whole)).items()}


def option_comments(name: str, files: Mapping[str, Path]) -> dict[str, str]:
    """Key → the comment behind it in the yaml of an option, or in those of its defaults list."""
    lines = files[name].read_text(encoding="utf-8").splitlines() if name in files else []
    told: dict[str, str] = {}
    for above in (found[1] for line in lines if (found := re.match(r"  - (\w+)$", line)) and found[1] in files):
        told |= option_comments(above, files)
    path: list[str] = []  # of the key of the last line
    for line in lines:
        if found := re.match(r"((?:  )*)(\w+):(?: .*?)??(?:\s+# (.+))?$", line):
            path = [*path[: len(found[1]) // 2], found[2]]
            told |= {".".join(path): found[3]} if found[3] else {}
    return told


class Base(NamedTuple):
    """What the options alone give, before any value is changed. Never changed: whoever sets a value copies `config` first."""

    config: DictConfig  # without Hydra's own part
    runtime: DictConfig  # of that part: which options were chosen, and where yaml files come from
    launcher: dict[str, Any]  # of that part, too


# Composed once in a process where all their yaml files are the package's own.
SHIPPED: dict[tuple[str, ...], Base] = {}
SHIPPED_OPTIONS: dict[tuple[str, str], list[str]] = {}  # of a group, by command


class Composer:
    """Composes the configurations of one command; a context manager, since Hydra keeps global state.

    Args:
        command: Which primary file of conf/ to start from: "train", "evaluate", "specify", "place", "publish" …
        extra_dir: A user's own folder of yaml files beside conf/ (`--config-dir`), or None.
    """

    def __init__(self, command: str, extra_dir: str | None = None) -> None:
        self.command = command
        self._search = [f"hydra.searchpath=[{quoted(str(Path(extra_dir).resolve()))}]"] if extra_dir else []
        self._bases, self._options = ({}, {}) if extra_dir else (SHIPPED, SHIPPED_OPTIONS)

    def __enter__(self) -> "Composer":
        register_settings()
        self._context = initialize_config_dir(version_base=HYDRA_VERSION, config_dir=str(conf_dir()))
        self._context.__enter__()
        self._loader = GlobalHydra.instance().config_loader()
        self._parser = OverridesParser.create(config_loader=self._loader)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._context.__exit__(kind, error, trace)

    def options(self, group: str) -> list[str]:
        """The options of a config group, in alphabetical order."""
        if (self.command, group) not in self._options:
            listed = self._loader.get_group_options(group, ObjectType.CONFIG, config_name=self.command, overrides=self._search)
            self._options[self.command, group] = sorted(listed)
        return self._options[self.command, group]

    def compose(self, words: Sequence[str]) -> Composed:
        """Compose one job.

        Raises:
            UserError: a key, option or value is not allowed; all that is wrong is in the message.
        """
        words = [plain(word) for word in words]
        problems, composed = self._judged(words)
        if composed is None:
            raise UserError("\n".join(problems))
        return composed

    def groups(self) -> list[str]:
        """The groups that the command lets choose from."""
        return self._groups(self._base(self._search).runtime.choices)

    def _judged(self, words: Sequence[str]) -> tuple[list[str], Composed | None]:
        found: list[str] = []
        overrides: list[Override] = []
        for word in words:
            try:
                overrides.append(self.parse(word))
            except UserError as error:
                found.append(str(error))
        kept = [str(o.input_line) for o in overrides if o.is_hydra_override()]
        overrides = [o for o in overrides if not o.is_hydra_override()]
        chosen = self._base([*self._search, *kept]).runtime.choices

        values: list[Override] = []
        for override in overrides:
            key = override.key_or_group
            if key in GROUPS:
                problem = self._option_problem(override, chosen)
                found += [problem] if problem else []
                kept += [] if problem else [str(override.input_line)]
            else:
                values.append(override)
        try:
            base = self._base([*self._search, *kept])
        except UserError as error:
            if self.command != "train" and "Could not override" in str(error):
                only = f"Group `experiment` must be one that is made for `{self.command}`, but is one of `train`."
                return [*found, only], None
            return [*found, str(error)], None
        own = copy.deepcopy(base.config)
        scalars = {key: own[key] for key in COMMANDS_OF if key in own and not isinstance(own[key], DictConfig)}
        idle = [key for key, value in scalars.items() if value != getattr(RunSettings, key)]  # by an experiment
        found += [self._is_idle(key) for key in idle if self.command not in commands_of(key)]
        found += [problem for override in values if (problem := self._value_problem(override, own))]
        if found:
            return found, None
        try:
            if not all(_only_changes(override, own) for override in values):
                own = self._hydra([*self._search, *words]).config
            return [], replace(composed_job(own, base.runtime), launcher=base.launcher)
        except UserError as error:
            return [str(error)], None

    def parse(self, word: str) -> Override:
        """Read a word as an override in Hydra's grammar; UserError when it is none."""
        try:
            return self._parser.parse_overrides([word])[0]
        except (HydraException, OmegaConfBaseException):
            advice = (
                "Lists are written [1,2]; a value with spaces or special signs needs quotes: \"key='a b'\"."
                if "=" in word
                else "Write group=option or key=value."
            )
            raise UserError(f"Argument `{word}` cannot be read as a setting. {advice}") from None

    def _option_problem(self, override: Override, chosen: DictConfig) -> str | None:
        group, option = override.key_or_group, override.value()
        if group not in chosen:
            trained = "Model and training come"
            come = {
                "evaluate": trained,
                "tune": trained,
                "diagnose": trained,
                "specify": trained,
                "place": trained,
                "factsheet": trained,
                "publish": "Everything comes",
                "extract": "Everything comes",
            }.get(self.command)
            why = f" {come} with the checkpoint." if come else ""
            groups = ", ".join(self._groups(chosen))
            only = f", only {groups}" if groups else ""
            return f"Command `{self.command}` has no group `{group}`{only}.{why}"
        options = self.options(group)
        if group == "experiment" and (option is None or override.is_delete()):
            return None
        if override.is_delete() or not isinstance(option, str) or option not in options:
            shown = "deleted" if override.is_delete() else f"`{as_typed(option)}`"
            hint = did_you_mean(str(option), options)
            return f"Group `{group}` must be one of {', '.join(options)}, but is {shown}.{hint}"
        return None

    @staticmethod
    def _groups(chosen: DictConfig) -> list[str]:
        return [group for group in GROUPS if group in chosen]

    def _value_problem(self, override: Override, base: DictConfig) -> str | None:
        key, value = override.key_or_group, override.value()
        if override.is_delete():
            return f"Setting `{key}` cannot be deleted, only changed: {key}=value."
        parent_key, _, name = key.rpartition(".")
        parent = OmegaConf.select(base, parent_key) if parent_key else base
        if isinstance(parent, ListConfig):
            return None
        if not isinstance(parent, DictConfig) or name not in parent:
            adds = override.is_add() or override.is_force_add()
            if adds and key.split(".")[0] in COMPONENTS:
                return None  # an argument of a class that its yaml does not list; `build` judges it
            return unknown_key(key, list(all_keys(base)), [str(own) for own in base if self.command in commands_of(str(own))])
        if self.command not in commands_of(key):
            return self._is_idle(key)
        if override.is_add():
            return f"Setting `{key}` is there already. Write it without the plus: {key}={as_typed(value)}."
        node = parent._get_node(name)
        default = None if OmegaConf.is_missing(parent, name) else container(parent[name])
        if key.split(".")[0] in COMPONENTS and not same_kind(default, value):
            return f"Setting `{key}` must be {kind_of(default)}, but is {as_typed(value)!r}."
        try:
            OmegaConf.update(base, key, value, merge=False)
        except OmegaConfBaseException:
            return f"Setting `{key}` must be {type_words(node)}, but is {as_typed(value)!r}."
        return None

    def _is_idle(self, key: str) -> str:
        own = ", ".join(f"`{command}`" for command in commands_of(key))
        return f"Setting `{key}` must be left out of `{self.command}`, where it would do nothing. It belongs to {own}."

    def _base(self, words: list[str]) -> Base:
        key = (self.command, *words)
        if key not in self._bases:
            self._bases[key] = self._hydra(words)
        return self._bases[key]

    def _hydra(self, words: list[str]) -> Base:
        try:
            composed = compose(self.command, words, return_hydra_config=True)
            launcher = OmegaConf.to_container(composed.hydra.launcher, resolve=True)
        except (HydraException, OmegaConfBaseException) as error:
            lines = [
                *str(error).splitlines(),
                *(str(error.__cause__).splitlines() if error.__cause__ else []),
            ]
            kept = dict.fromkeys(line.strip() for line in lines if line.strip() and "object_type" not in line)
            if any("hydra/launcher" in word for word in words) and importlib.util.find_spec("submitit") is None:
                raise UserError(
                    "Group `hydra/launcher` must be left out here: the extra `sweep` is not installed. "
                    'Write pip install -c constraints.txt -e ".[sweep]"'
                ) from None
            raise UserError(" ".join(kept)) from None
        _refuse_code(composed.hydra)
        runtime = composed.hydra.runtime
        with read_write(composed), open_dict(composed):
            del composed["hydra"]
        return Base(composed, runtime, cast(dict[str, Any], launcher))


# Hydra builds these of any class that a configuration names, and so would run any code.
OF_SWEEPS = {
    "launcher": (
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    ),
    "sweeper": ("hydra._internal.core_plugins.basic_sweeper.BasicSweeper",),
}
OF_LOGGING = ("formatters", "filters", "handlers", "loggers")


def _refuse_code(hydra: DictConfig) -> None:
    """Raises UserError where what a configuration says to Hydra itself would run code or change the environment."""
    for part, known in OF_SWEEPS.items():
        named = OmegaConf.select(hydra, f"{part}._target_")
        if named not in known:
            names = ", ".join(target.rpartition(".")[2] for target in known)
            raise UserError(
                f"Setting `hydra.{part}._target_` must be one of {names}, but is {named!r}. A configuration may come from "
                f"others, and no other code is run for it. Choose with hydra/{part}=…"
            )
    empty = ["callbacks", "job.env_set", *(f"{name}_logging.{part}" for name in ("job", "hydra") for part in OF_LOGGING)]
    for key in empty:
        if OmegaConf.select(hydra, key):
            raise UserError(
                f"Setting `hydra.{key}` must be empty, but is not: it would run code of the configuration, or change the "
                "environment. Leave it out."
            )


def _numbers(node: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Every number below a node, with its full key."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _numbers(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for value in node:
            yield from _numbers(value, key)
    elif isinstance(node, float):
        yield key, node


def _only_changes(override: Override, config: DictConfig) -> bool:
    """Whether an override gives a plain value to a key that is there: Hydra would set it too, and do nothing else."""
    parent = OmegaConf.select(config, override.key_or_group.rpartition(".")[0] or override.key_or_group)
    adds = override.is_add() or override.is_force_add()
    return not adds and not isinstance(parent, ListConfig) and not isinstance(override.value(), (dict, list))


def _resolved(config: Any, settings: Any = None) -> Any:
    """A node in plain containers; texts that a variable of the environment is part of know how they were written.

    Args:
        settings: The same as an object, which gets these texts, too.
    """
    READ.clear()
    resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    if READ:
        _as_written(config, [resolved] if settings is None else [resolved, settings])
    return resolved


def _as_written(config: Any, holders: list[Any]) -> None:
    """Put the texts of `config` that read the environment into the same places of `holders`."""
    for name in range(len(config)) if isinstance(config, ListConfig) else config:
        READ.clear()
        value = config[name]
        if isinstance(value, (DictConfig, ListConfig)):
            _as_written(value, [_part(holder, name) for holder in holders])
        elif isinstance(value, str) and READ and OmegaConf.is_interpolation(config, name):
            written = str(config._get_node(name)._value())
            for holder in holders:
                text = FromEnvironment(_part(holder, name), written)
                if isinstance(holder, dict | list):
                    holder[name] = text
                else:
                    setattr(holder, str(name), text)


def _part(holder: Any, name: Any) -> Any:
    return holder[name] if isinstance(holder, dict | list) else getattr(holder, name)


READ: list[str] = []  # variables of the environment, as they are asked for


def _variable(name: str, *default: Any) -> Any:
    READ.append(name)
    return oc.env(name, *default)


OmegaConf.register_new_resolver("oc.env", _variable, replace=True)


def _target(files: dict[str, Path], option: str) -> Any:
    """The `_target_` of an option; one without it takes over that of the option in its defaults list."""
    node = OmegaConf.load(files[option])
    assert isinstance(node, DictConfig)
    above = next((name for name in node.get("defaults", ()) if name != "_self_" and name in files), None)
    return node["_target_"] if "_target_" in node or above is None else _target(files, above)


def composed_job(config: DictConfig, runtime: Any) -> Composed:
    """Resolve a composed job and check its settings; components are checked when they are built.

    Args:
        runtime: What Hydra says of the composition: the options that were chosen, and where yaml files come from.

    Raises:
        UserError: a setting has a value that it cannot have, or one that must be given is missing.
    """
    try:
        settings = OmegaConf.to_object(config)
        resolved = _resolved(config, settings)
    except MissingMandatoryValue as error:
        raise UserError(f"Setting `{error.full_key}` must be given. Write {error.full_key}=value.") from None
    except OmegaConfBaseException as error:
        said = str(error).splitlines()[0]
        raise UserError(f"Setting `{error.full_key}` must be a value or refer to one, but: {said}.") from None
    assert isinstance(settings, RunSettings) and isinstance(resolved, dict)
    for key, value in _numbers(resolved):
        require(math.isfinite(value), key, "be a finite number", value)
    chosen = {group: str(runtime.choices[group]) for group in GROUPS if runtime.choices.get(group) is not None}
    folders = tuple(Path(source.path) for source in runtime.config_sources if source.schema == "file")
    return Composed(settings, {str(k): v for k, v in resolved.items()}, chosen, folders)
