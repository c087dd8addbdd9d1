"""The way of one job: build its components, call its command, print the table and what to do next."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analog_glue.configuration.compose import Composed
    from analog_glue.settings import RunSettings


def run_job(composed: "Composed", command: str, overrides: list[str]) -> str:
    """Build the components, call `experiment`, print its table and what to do next.

    Returns:
        The folder of the run.
    """
    config, parts = build_components(composed, command, overrides)
    if command == "extract":
        return _run_extraction(composed.settings, parts)
    settings, task, choices = composed.settings, parts["task"], composed.choices
    if "device" in parts and command == "train":
        return _run_in_situ(settings, parts, config, choices, overrides)
    if "device" in parts:
        from analog_glue.in_situ.commands.deploy import deploy

        mode = parts["training"]
        summary = deploy(settings, task, parts["device"], mode, parts["noise"], parts["tile"], config, choices, overrides)
    elif command == "train":
        from analog_glue.commands.train import train

        model, mode = parts["model"], parts["training"]
        summary = train(settings, task, model, parts["noise"], parts["tile"], mode, config, choices, overrides)
    else:
        from analog_glue.commands.deploy import evaluate

        summary = evaluate(settings, task, parts["noise"], parts["tile"], config, choices, overrides)
    if int(os.environ.get("RANK", "0")) == 0:  # one voice among the processes of `accelerate launch`
        print(summary.table)
        if settings.dry_run:
            print("Nothing was run. The same command without dry_run=true runs it.")
        else:
            print(f"rows: {summary.run_dir}")
            print("\n".join(f"next: {step}" for step in summary.next_steps))
    return str(summary.run_dir)


def _run_in_situ(
    settings: "RunSettings", parts: dict[str, Any], config: dict[str, Any], choices: dict[str, str], overrides: list[str]
) -> str:
    from analog_glue.in_situ.commands.train import train_in_situ
    from analog_glue.settings import typed

    folder, table = train_in_situ(settings, parts["task"], parts["device"], parts["training"], config, choices, overrides)
    print(table)
    print(
        "Nothing was run. The same command without dry_run=true runs it."
        if settings.dry_run
        else f"run: {folder}\nnext: analog-glue extract {typed('checkpoint', folder)}"
    )
    return str(folder)


def _run_extraction(settings: "RunSettings", parts: dict[str, Any]) -> str:
    if settings.extract.array is not None:
        from analog_glue.in_situ.commands.extract_array import extract_array

        folder, table = extract_array(settings)
        steps = [] if settings.dry_run else [f"analog-glue tables {shlex.quote(settings.output_root)}"]
    else:
        from analog_glue.in_situ.commands.extract import extract_run

        folder, table, steps = extract_run(settings, parts["task"], parts["device"], parts["training"])
    print(table)
    print("Nothing was run. The same command without dry_run=true runs it." if settings.dry_run else f"written: {folder}")
    print("\n".join(f"next: {step}" for step in steps), end="\n" if steps else "")
    return str(folder)


def build_components(composed: "Composed", command: str, words: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Build and check the components of one job; data and model files are looked for, but not loaded.

    Args:
        words: What was typed for the job: none of them may be about what it has not.

    Returns:
        The configuration with every number in the type of its class, and the components by group.

    Raises:
        ValueError: a value that a component refuses, or data or model files that are not there.
    """
    from analog_glue.configuration.build import as_annotated, build
    from analog_glue.configuration.wording import COMPONENTS
    from analog_glue.errors import WrongInput
    from analog_glue.in_situ.files import EXTRACTION
    from analog_glue.settings import typed

    config = dict(composed.config)
    if composed.settings.extract.array is not None:
        if command != "extract" or composed.settings.checkpoint is not None:
            raise WrongInput(
                "Setting `extract.array` must be null, except for `extract` without a checkpoint, but is set. "
                "Write analog-glue extract +experiment=gokmen_figure6."
            )
        return config, {}
    if command in ("evaluate", "extract"):
        if composed.settings.checkpoint is None:
            raise WrongInput(
                "Setting `checkpoint` must name the folder of a training run, but is not given. "
                "Write checkpoint=outputs/…; `analog-glue list runs` shows the runs."
            )
        checkpoint = Path(composed.settings.checkpoint)
        if not checkpoint.is_dir():
            raise WrongInput(
                f"Setting `checkpoint` must be the folder of a training run, but `{checkpoint}` is none. "
                f"`analog-glue list runs {composed.settings.output_root}` shows the runs."
            )
        extracted = (checkpoint / EXTRACTION).is_file()
        if extracted and command == "extract":
            raise WrongInput(
                f"Setting `checkpoint` must be the folder of an in-situ run, but `{checkpoint}` is an extraction of one. "
                f"`analog-glue extract {typed('checkpoint', checkpoint.parent)}` extracts from its run again."
            )
        if command == "extract" or extracted:
            from analog_glue.in_situ.commands.train import run_of

            run = run_of(checkpoint.parent if extracted else checkpoint)
            config |= {group: run[group] for group in ("task", "model", "device", "training") if group in run}
            composed.settings.data.root = composed.settings.data.root or run["data"]["root"]
        else:
            from analog_glue.runs.folder import checkpoint_config

            trained = checkpoint_config(checkpoint)
            if str(trained["training"]["_target_"]).split(".")[-2] in IN_SITU_MODES:
                raise WrongInput(
                    "Setting `checkpoint` must be an extraction of a run that was trained in situ, but is the run itself, "
                    f"{str(checkpoint)!r}. `analog-glue extract {typed('checkpoint', checkpoint)}` makes one."
                )
            config["task"] = trained["task"]
            composed.settings.data.root = composed.settings.data.root or trained.get("data", {}).get("root")
    from analog_glue.in_situ.tasks.task import InSituTask

    parts: dict[str, Any] = {}
    unused: tuple[str, ...] = ()
    for group in COMPONENTS:  # task and model come first, and need no torch to say what is missing
        if config[group] is None or group in unused:
            continue
        config[group] = as_annotated(config[group], group)
        parts[group] = build(config[group], group)
        if group == "task":
            whole = isinstance(parts[group], InSituTask)
            in_situ = _learns_in_situ(config["training"], whole, composed)
            unused = ("model", "noise", "tile") if whole else ("noise", "tile") if in_situ else ("device",)
            if command == "evaluate":  # its chips are those of this command
                unused = tuple(group for group in unused if group not in ("noise", "tile"))
            parts[group].check(composed.settings.data.root)
        elif group == "model":
            parts[group].check()
            if in_situ:
                from analog_glue.in_situ.tasks.heads import HeadTask

                root = Path(composed.settings.output_root) if command == "train" else checkpoint.resolve().parent
                root = root.parent if command == "evaluate" else root  # of the run, not of its extraction
                parts["task"] = HeadTask(parts["task"], parts.pop("model"), root / "features")
                parts["task"].check(composed.settings.data.root)
    if command == "train":
        _refuse_what_is_unused(words, parts)
    return config, parts


def _refuse_what_is_unused(words: list[str], parts: dict[str, Any]) -> None:
    """Raises WrongInput for words of `train` that choose what its kind of training has not: it would be ignored silently."""
    from analog_glue.errors import WrongInput

    in_situ = "device" in parts
    unused = {"noise", "tile", "hardware", "evaluation"} if in_situ else {"device"}
    if in_situ and "model" not in parts["task"].config():
        unused.add("model")
    for word in words:
        key = word.lstrip("+~").split("=")[0]
        if key.split(".")[0].split("@")[0] in unused:
            raise WrongInput(
                f"Setting `{key}` must be left out of training in situ, but is given: {word}. Its arrays have devices "
                "(device=…), converters and noise (training.periphery) of their own; PCM tiles come afterwards: "
                "`analog-glue extract`, then `analog-glue evaluate … noise=pcm`."
                if in_situ
                else f"Setting `{key}` must be left out where nothing is trained in situ, but is given: {word}. Choose "
                "training=ttv2, tiki_taka or sgd_pulsed, or noise=… for the devices of inference."
            )


IN_SITU_MODES = ("sgd_digital", "sgd_pulsed", "tiki_taka", "ttv2", "chopped_ttv2")


def _learns_in_situ(training: dict[str, Any] | None, whole: bool, composed: "Composed") -> bool:
    """Whether the mode is one for pulsed devices, as it must be where the `whole` network of a task is on them."""
    from analog_glue.errors import WrongInput

    if training is None:
        return False
    mode = str(training["_target_"]).split(".")[-2]
    if whole and mode not in IN_SITU_MODES:
        raise WrongInput(
            f"Setting `training` must be one of {', '.join(IN_SITU_MODES)} for task={composed.choices['task']}, but is {mode}. "
            "Choose the task or the training mode that fits."
        )
    return mode in IN_SITU_MODES
