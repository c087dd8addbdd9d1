"""The components of one job: which groups of the configuration it has, and objects of their classes.

What a job has follows from the kinds of its task and its training mode: each says which sections of the configuration it uses,
the task what it may be trained on, and the mode what it trains on.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analog_glue.errors import UserError, raise_together
from analog_glue.runs.as_written import texts
from analog_glue.settings import ON_CHIPS

if TYPE_CHECKING:
    from analog_glue.configuration.compose import Composed


@dataclass(frozen=True)
class Components:
    """What one job is built from."""

    config: dict[str, Any]  # resolved, every number in the type of its class
    parts: dict[str, Any]  # component by group


def build_components(composed: "Composed", command: str, words: list[str]) -> Components:
    """Build and check the components of one job; data and model files are looked for, but not loaded.

    Args:
        words: What was typed for the job: none of them may be about what it has not.

    Raises:
        UserError: a value that a component refuses, or data or model files that are not there.
    """
    from analog_glue.configuration.build import as_annotated, build
    from analog_glue.configuration.wording import COMPONENTS

    config, settings = dict(composed.config), composed.settings
    if settings.extract.array is not None:
        if command != "extract" or settings.checkpoint is not None:
            raise UserError(
                "Setting `extract.array` must be null, except for `extract` without a checkpoint, but is set. "
                "Write analog-glue extract +experiment=gokmen_figure6."
            )
        return Components(config, {})
    if command == "factsheet":  # it reads what is there, of no data and no weights
        of_sheet = ("task", "model", "attention", "noise", "tile", "costs")
        config |= {group: as_annotated(config[group], group) for group in of_sheet}
        return Components(config, {group: build(config[group], group) for group in of_sheet if config[group] is not None})
    if command == "specify":
        settings.specify.require_whole(settings.evaluation)
    trained_in = None if command == "train" else _take_over(config, composed, command)
    if command == "publish":  # loads no data and computes nothing
        return Components(config, {})
    if settings.ablate and config["device"] is not None:
        raise UserError(
            "Setting `ablate` must be false for weights that were trained in situ, but is True. "
            "Name the folder of a run of training=digital or training=hardware_aware as checkpoint."
        )
    features = (Path(settings.output_root) if trained_in is None else trained_in.resolve().parent) / "features"

    def built(group: str) -> Any:
        config[group] = as_annotated(config[group], group)
        return build(config[group], group)

    # The task, which needs no torch, says what is missing before a training mode imports it.
    parts = {"task": built("task")}
    if len(parts["task"].trained_on) == 1:  # the mode that does not fit is named before its data are looked for
        parts["training"] = _fitting(built("training"), parts["task"], composed)
    checks = [lambda: parts["task"].check(settings.data.root)]
    if "model" in parts["task"].sections and config["model"] is not None:
        parts["model"] = built("model")
        checks.append(parts["model"].check)
    raise_together(*checks)
    if config["training"] is not None and "training" not in parts:
        parts["training"] = built("training")
    used = {section for part in parts.values() for section in getattr(part, "sections", ())}
    if command == "train":
        _refuse_what_is_unused(words, used, parts["training"].trains_on, composed)
    if command == "tune" and config["device"] is not None:
        raise UserError(
            "Setting `checkpoint` must be a run of training=digital or training=hardware_aware for `tune`, but "
            f"{composed.settings.checkpoint} was trained in situ. `analog-glue evaluate` puts its weights on chips."
        )
    if command in ON_CHIPS:
        used |= {"noise", "tile"} | ({"attention"} if config["device"] is None else set())
        used |= {"tune": {"tuning"}, "place": {"costs"}}.get(command, set())
        if "attention" not in used and config["attention"] is not None:
            raise UserError(
                f"Setting `attention` must be left out for weights that were trained in situ, but is "
                f"{composed.choices['attention']}. Their networks have attention in float32, or none."
            )
    parts |= {group: built(group) for group in COMPONENTS if group in used - parts.keys() and config[group] is not None}
    if "device" in parts and "model" in parts:
        from analog_glue.in_situ.tasks.heads import HeadTask

        parts["task"] = HeadTask(parts["task"], parts.pop("model"), features)
        parts["task"].check(settings.data.root)
    return Components(config, parts)


def _take_over(config: dict[str, Any], composed: "Composed", command: str) -> Path:
    """Put what the checkpoint was trained from into `config`, and where its data lie into the settings; the run's folder.

    Raises:
        UserError: `checkpoint` is not what `command` goes on from.
    """
    from analog_glue.in_situ.files import CURVE, EXTRACTION
    from analog_glue.settings import typed

    settings = composed.settings
    if settings.checkpoint is None:
        raise UserError(
            "Setting `checkpoint` must name the folder of a training run, but is not given. "
            "Write checkpoint=outputs/…; `analog-glue list runs` shows the runs."
        )
    checkpoint = Path(settings.checkpoint)
    if not checkpoint.is_dir():
        raise UserError(
            f"Setting `checkpoint` must be the folder of a training run, but `{checkpoint}` is none. "
            f"`analog-glue list runs {settings.output_root}` shows the runs."
        )
    extracted = (checkpoint / EXTRACTION).is_file()
    if command in ("diagnose", "specify", "place", "publish") and (extracted or (checkpoint / CURVE).is_file()):
        raise UserError(
            f"Setting `checkpoint` must be the folder of a run of training=digital or training=hardware_aware for `{command}`, "
            f"but {str(checkpoint)!r} was trained in situ. `analog-glue list runs {settings.output_root}` shows the runs."
        )
    if extracted and command == "extract":
        raise UserError(
            f"Setting `checkpoint` must be the folder of an in-situ run, but `{checkpoint}` is an extraction of one. "
            f"`analog-glue extract {typed('checkpoint', checkpoint.parent)}` extracts from its run again."
        )
    if command == "extract" or extracted:
        from analog_glue.in_situ.commands.train import run_of

        folder = checkpoint.parent if extracted else checkpoint
        trained, groups = run_of(folder), ["task", "model", "device", "training"]
    elif (checkpoint / CURVE).is_file():
        raise UserError(
            "Setting `checkpoint` must be an extraction of a run that was trained in situ, but is the run itself, "
            f"{str(checkpoint)!r}. `analog-glue extract {typed('checkpoint', checkpoint)}` makes one."
        )
    else:
        from analog_glue.runs.folder import checkpoint_config

        folder = checkpoint
        trained, groups = checkpoint_config(checkpoint), ["task"]
        groups += ["attention"] if config["attention"] is None else []
    if config["task"] is not None:
        raise UserError(
            f"Setting `task` must be left out for a run of analog-glue, which knows its own, but is {composed.choices['task']}."
            f" {typed('checkpoint', checkpoint)} says enough."
        )
    taken = {group: trained[group] for group in groups if group in trained}
    if settings.data.root is None:
        settings.data.root = trained.get("data", {}).get("root")
        taken["data"] = {"root": settings.data.root}
    _refuse_variables(taken, folder)
    config |= {group: value for group, value in taken.items() if group != "data"}
    return folder


def _refuse_variables(taken: dict[str, Any], run: Path) -> None:
    """Raises UserError where what a run says refers to something, such as a variable of the environment."""
    for key, text in texts(taken):
        if "${" in text:
            how = f"Write {key}='{text}'." if key == "data.root" else "Train again with the value in its place."
            raise UserError(
                f"Setting `{key}` of the run in {run} must be a value, but is {text}. A run may come from others, so that "
                f"no variable of your environment is put into it. {how}"
            )


def _fitting(mode: Any, task: Any, composed: "Composed") -> Any:
    """The training mode, where the task may be trained on what it trains on; raises UserError elsewhere."""
    if mode.trains_on in task.trained_on:
        return mode
    fitting = composed.options_for("training", lambda kind: kind.trains_on in task.trained_on)
    raise UserError(
        f"Setting `training` must be one of {', '.join(fitting)} for task={composed.choices['task']}, but is "
        f"{composed.choices['training']}. Choose the task or the training mode that fits, for example "
        f"`analog-glue train task={composed.choices['task']} training={fitting[-1]}`."
    )


def _refuse_what_is_unused(words: list[str], used: set[str], trains_on: str, composed: "Composed") -> None:
    """Raises UserError for words of `train` that choose what its kind of training has not: it would be ignored silently."""
    unused = {"model", "attention", "noise", "tile", "device", "hardware", "evaluation"} - used
    for word in words:
        key = word.lstrip("+~").split("=")[0]
        if key.split(".")[0].split("@")[0] not in unused:
            continue
        if trains_on == "devices":
            raise UserError(
                f"Setting `{key}` must be left out of training in situ, but is given: {word}. Its arrays have devices "
                "(device=…), converters and noise (training.periphery) of their own; PCM tiles come afterwards: "
                "`analog-glue extract`, then `analog-glue evaluate … noise=pcm`."
            )
        modes = composed.options_for("training", lambda kind: kind.trains_on == "devices")
        raise UserError(
            f"Setting `{key}` must be left out where nothing is trained in situ, but is given: {word}. Choose "
            f"training={', '.join(modes)}, or noise=… for the devices of inference."
        )


def priced() -> Any:
    """What prices an inference where no command line says it: the option bottom_up of the group `costs`."""
    from omegaconf import OmegaConf

    from analog_glue.configuration.build import as_annotated, build
    from analog_glue.configuration.compose import conf_dir

    node = OmegaConf.to_container(OmegaConf.load(conf_dir() / "costs" / "bottom_up.yaml"))
    return build(as_annotated(node, "costs"), "costs")
