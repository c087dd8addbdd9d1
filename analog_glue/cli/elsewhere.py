"""A network that was fine-tuned elsewhere: a Hugging Face folder as a checkpoint of `evaluate`, `tune`, `diagnose`, `place`.

It becomes a run of `training=digital training.max_steps=0`, which takes its weights as they are, in `output_root`; the command
goes on from that run. The task has to be named, since such a folder does not say it.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analog_glue.errors import UserError
from analog_glue.runs.as_written import below

if TYPE_CHECKING:
    from analog_glue.configuration.compose import Composed

OF_A_RUN = ("run.json", "run_config.json", "extraction.json")


def is_elsewhere(composed: "Composed") -> bool:
    """Whether `checkpoint` is a model's folder that no run of ours wrote."""
    from analog_glue.runs.files import read_json

    folder = Path(composed.settings.checkpoint or "")
    ours = any((folder / name).exists() for name in OF_A_RUN)
    return composed.settings.checkpoint is not None and not ours and "model_type" in read_json(folder / "config.json")


def as_training(composed: "Composed") -> "Composed":
    """The job of `train` that takes the weights in, without chips.

    Raises:
        UserError: no task is named.
    """
    settings = composed.settings
    if composed.config["task"] is None:
        raise UserError(
            f"Setting `task` must name the task that {settings.checkpoint} was fine-tuned on, since no run of analog-glue "
            "wrote it, but is not given. Write task=…; `analog-glue list options` shows them."
        )
    folder = Path(str(settings.checkpoint))
    short = re.sub(r"[^A-Za-z0-9_.]+", "_", folder.resolve().name).strip("_.") or "model"
    model: dict[str, Any] = {
        "_target_": "analog_glue.models.PretrainedModel", "name": short, "revision": "", "short": short,
        "path": below(settings.checkpoint, folder), "dropout": None,
    }  # fmt: skip
    config = composed.config | {
        "model": model,
        "training": composed.option("training", "digital") | {"max_steps": 0},
        "attention": composed.option("attention", "fp32"),
        "tuning": None,
    }
    evaluation = replace(settings.evaluation, chips=0, ideal_devices=False, also=[])
    settings = replace(settings, checkpoint=None, evaluation=evaluation, ablate=False)
    return replace(
        composed, settings=settings, config=config, choices=composed.choices | {"model": short, "training": "digital"}
    )


def with_its_chips(training: "Composed", composed: "Composed", command: str) -> "Composed":
    """The job that takes the weights in, described with the chips that the command itself scores afterwards."""
    evaluation = training.settings.evaluation if command == "diagnose" else composed.settings.evaluation
    return replace(training, settings=replace(training.settings, evaluation=evaluation))


def on_the_run(composed: "Composed", run: Path) -> "Composed":
    """The command itself, on the run that has the weights now."""
    settings = replace(composed.settings, checkpoint=str(run))
    return replace(composed, settings=settings, config=composed.config | {"task": None})
