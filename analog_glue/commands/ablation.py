"""The command `evaluate ablate=true`: which non-ideality of the hardware costs the accuracy?

The same chips are scored with all non-idealities of the hardware, with each one left out, with each one alone, and with none,
at the first and the last of `evaluation.times`. Each is a variant of the hardware with a folder of its own (variants.py).
"""

import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from analog_glue.commands import deploy
from analog_glue.commands.deploy import EvaluationJob
from analog_glue.commands.summary import RunSummary
from analog_glue.commands.variants import Family, Network, Part, Variant, on_chips
from analog_glue.devices.device import Device
from analog_glue.errors import UserError
from analog_glue.nn.attention import FLOAT32, Attention
from analog_glue.nn.hardware import Hardware
from analog_glue.progress import Progress
from analog_glue.reports.ablation import FULL, NONE, ablation_table, alone, left_out
from analog_glue.runs.folder import one_call
from analog_glue.settings import RunSettings
from analog_glue.tasks.task import Task
from analog_glue.tiles.crossbar import Crossbar

ATTENTION = "attention"  # the non-ideality that is neither of the devices nor of the tiles


def variants(hardware: Hardware, attention: Attention) -> list[Variant]:
    """The full hardware, none of its non-idealities, each one left out, and each one alone."""
    found = [on_chips(FULL, hardware, attention, ordinary=True), in_software(hardware, attention)]
    found += [on_chips(left_out(name), hardware.without(name), attention) for name in hardware.non_idealities]
    found += [] if attention.is_float32 else [on_chips(left_out(ATTENTION), hardware, FLOAT32)]
    found += [on_chips(alone(name), hardware.only(name), FLOAT32) for name in hardware.non_idealities]
    found += [] if attention.is_float32 else [on_chips(alone(ATTENTION), hardware.only(""), attention)]
    return found


def in_software(hardware: Hardware, attention: Attention) -> Variant:
    """None of its non-idealities: the weights in float32."""
    return Variant(NONE, hardware.only(""), FLOAT32, ("digital",), ordinary=attention.is_float32)


@dataclass(frozen=True)
class AblationJob:
    """An ablation that could begin: data and weights are loaded, nothing is programmed or written."""

    evaluation: EvaluationJob  # at the first and the last time

    @property
    def folder(self) -> Path:
        """Of the training run."""
        return self.evaluation.folder

    @cached_property
    def family(self) -> Family:
        return Family(self.evaluation, "ablation")

    @property
    def below(self) -> Path:
        """Folder around those of the variants."""
        return self.family.below

    @cached_property
    def parts(self) -> list[Part]:
        hardware, attention = self.evaluation.placement.hardware, self.evaluation.attention
        return [self.family.part(variant) for variant in variants(hardware, attention)]


def prepare(
    settings: RunSettings,
    task: Task,
    device: Device,
    tile: Crossbar,
    config: dict[str, Any] | None = None,
    choices: dict[str, str] | None = None,
    overrides: Iterable[str] = (),
    attention: Attention = FLOAT32,
) -> AblationJob:
    """Load what is needed to put the trained weights of `settings.checkpoint` on the hardware of this command, part by part.

    Args:
        task: The task that the checkpoint was trained on.

    Raises:
        UserError: no finished training run in `settings.checkpoint`, or ideal hardware.
    """
    if not Hardware(device, tile).non_idealities and attention.is_float32:
        raise UserError(
            "Setting `ablate` must be false for ideal hardware, but is True. There is nothing to leave out: choose other "
            "devices (noise=pcm) or tiles (tile=spoon2021)."
        )
    times = settings.evaluation.times
    ends = sorted({min(times), max(times)})
    settings = replace(settings, evaluation=replace(settings.evaluation, times=ends, ideal_devices=False))
    return AblationJob(deploy.prepare(settings, task, device, tile, config, choices, overrides, attention))


@one_call()
def run(job: AblationJob, log: Callable[[str], None] = print) -> RunSummary:
    """Score the weights on every variant of the job's hardware; only what is not known is measured."""
    network = Network.of(job.family, log)
    missing, wanted = (sum(map(len, points)) for points in zip(*((p.missing, p.wanted) for p in job.parts), strict=True))
    if not missing:
        log(f"Already done: {job.below}")
    elif missing < wanted:
        log(f"Resuming the ablation: {wanted - missing:,} of {wanted:,} scores are measured.")
    rows = []
    with Progress("ablation", missing, "score", log=log) as progress:
        for part in job.parts:
            progress.begin(f"ablation, {part.variant.label}")
            rows += network.sweep(part, progress)
    root = job.evaluation.settings.output_root
    return RunSummary(job.below, ablation_table(rows), (f"analog-glue tables {shlex.quote(root)}",))
