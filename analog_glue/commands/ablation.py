"""The command `evaluate ablate=true`: which non-ideality of the hardware costs the accuracy?

The same chips are scored with all non-idealities of the hardware, with each one left out, with each one alone, and with none. A
draw is keyed by chip and layer, so what is left is the same to the last bit, and scores are paired by chip. Of
`evaluation.times` the first and the last are taken. Input ranges and output scales are those of the full hardware throughout.

Each of these is a sweep in a folder of its own, `<run>/ablation-<noise>-<tile>-<id>/<what>-<id>/`, so that it resumes and
nothing is measured twice: what an ordinary sweep of the full hardware has measured is taken over, and outputs without any
noise are scored once instead of on every chip. Rows say in the column `ablation` what they are of.
"""

import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from analog_glue.commands import deploy
from analog_glue.commands.deploy import (
    EvaluationJob,
    Share,
    Subject,
    forgotten_by_force,
    point_of,
    silent,
    subject_of,
    sweep,
    unmeasured,
)
from analog_glue.commands.naming import SweepRequest
from analog_glue.commands.summary import RunSummary
from analog_glue.devices.device import Device
from analog_glue.errors import UserError
from analog_glue.evaluation import Point, points
from analog_glue.nn.attention import FLOAT32, Attention
from analog_glue.nn.attention_interface import products_of
from analog_glue.nn.computation import Computation
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.nn.placement import Placement
from analog_glue.progress import Progress
from analog_glue.reports.ablation import FULL, NONE, ablation_table, alone, left_out
from analog_glue.runs.configuration import config_of
from analog_glue.runs.folder import one_call, read_run
from analog_glue.runs.rows import Measurement, ResultsFile
from analog_glue.settings import RunSettings
from analog_glue.tasks.task import Task
from analog_glue.tiles.crossbar import Crossbar

ATTENTION = "attention"  # the non-ideality that is neither of the devices nor of the tiles


@dataclass(frozen=True)
class Variant:
    """The hardware with some of its non-idealities."""

    label: str  # column `ablation`
    hardware: Hardware
    attention: Attention
    stages: tuple[str, ...]  # that are scored of it


def variants(hardware: Hardware, attention: Attention) -> list[Variant]:
    """The full hardware, none of its non-idealities, each one left out, and each one alone."""

    def variant(label: str, hardware: Hardware, attention: Attention) -> Variant:
        return Variant(label, hardware, attention, ("ideal_devices",) if hardware.is_deterministic else ("chip",))

    bare = hardware.only("")
    found = [variant(FULL, hardware, attention), Variant(NONE, bare, FLOAT32, ("digital",))]
    found += [variant(left_out(name), hardware.without(name), attention) for name in hardware.non_idealities]
    found += [] if attention.is_float32 else [variant(left_out(ATTENTION), hardware, FLOAT32)]
    found += [variant(alone(name), hardware.only(name), FLOAT32) for name in hardware.non_idealities]
    found += [] if attention.is_float32 else [variant(alone(ATTENTION), bare, attention)]
    return found


@dataclass(frozen=True)
class Part:
    """One variant as a sweep: how it is asked for, where its rows are, and what it scores."""

    variant: Variant
    settings: RunSettings
    placement: Placement
    computation: Computation
    config: dict[str, Any]
    asked: SweepRequest
    folder: Path
    wanted: list[Point]
    ordinary: Path | None  # folder of an ordinary sweep of the same

    @property
    def missing(self) -> list[Point]:
        own = ResultsFile(self.folder).rows()
        if not self.settings.force:
            return unmeasured(self.wanted, [*own, *self.known_elsewhere()])
        begun = forgotten_by_force(self.folder)
        return unmeasured(self.wanted, [row for row in own if point_of(row) in begun])

    def known_elsewhere(self) -> list[Measurement]:
        """Rows of the ordinary sweep that hold for this one; not those that are older than some columns."""
        if self.ordinary is None:
            return []
        name, label, own_id = f"{self.folder.parent.name}/{self.folder.name}", self.variant.label, self.asked.physics.id
        wanted, rows = set(self.wanted), ResultsFile(self.ordinary).rows()
        known = [row for row in rows if row.data and point_of(row) in wanted]
        return [replace(row, ablation=label, sweep=name, hardware_id=own_id) for row in known]


@dataclass(frozen=True)
class AblationJob:
    """An ablation that could begin: data and weights are loaded, nothing is programmed or written."""

    evaluation: EvaluationJob  # at the first and the last time

    @property
    def folder(self) -> Path:
        """Of the training run."""
        return self.evaluation.folder

    @cached_property
    def _facts(self) -> dict[str, Any]:
        return read_run(self.folder, "checkpoint")

    @cached_property
    def ordinary(self) -> Path:
        """Folder of the sweep of the full hardware, beside which those of this ablation lie."""
        job = self.evaluation
        root = Path(job.settings.output_root) / self._facts["name"]
        asked = self._request(job.settings, job.placement.hardware, job.attention, job.computation, job.config)
        return asked.find(root, f"{job.choices['noise']}-{job.choices['tile']}").folder

    @cached_property
    def below(self) -> Path:
        """Folder around those of the variants."""
        return self.ordinary.with_name(f"ablation-{self.ordinary.name}")

    @cached_property
    def parts(self) -> list[Part]:
        return [self._part(variant) for variant in variants(self.evaluation.placement.hardware, self.evaluation.attention)]

    def _part(self, variant: Variant) -> Part:
        job, hardware = self.evaluation, variant.hardware
        runtime, evaluation = job.settings.runtime, job.settings.evaluation
        if variant.stages == ("ideal_devices",):
            evaluation = replace(evaluation, chips=0, ideal_devices=True)
        settings = replace(job.settings, evaluation=evaluation)
        compensation = settings.hardware.compensation
        computation = Computation.resolved(hardware, job.computation.where, runtime.kernel, runtime.product, **compensation)
        config = job.config | config_of(noise=hardware.device, tile=hardware.crossbar)
        asked = self._request(settings, hardware, variant.attention, computation, config)
        folder = asked.find(self.below, stem_of(variant.label)).folder
        wanted = [point for point in points(evaluation, hardware.device.drifts) if point.stage in variant.stages]
        placement = replace(job.placement, hardware=hardware)
        same = variant.label == FULL or (variant.label == NONE and job.attention.is_float32)
        ordinary = self.ordinary if same else None
        return Part(variant, settings, placement, computation, config, asked, folder, wanted, ordinary)

    def _request(
        self,
        settings: RunSettings,
        hardware: Hardware,
        attention: Attention,
        computation: Computation,
        config: dict[str, Any],
    ) -> SweepRequest:
        fingerprint = self.evaluation.raw.fingerprint
        return SweepRequest(settings, attention, hardware, computation, config, self._facts["train_id"], fingerprint)


def stem_of(label: str) -> str:
    """How the folder of a variant is called before its id: "without_1_f_noise"."""
    return re.sub(r"[^a-z0-9]+", "_", label.lower())


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
    one = job.evaluation
    subject = subject_of(
        one.settings, one.attention, one.computation.kernel, one.placement, one.task, one.raw, one.loaded, one.encoded,
        job.folder, log,
    )  # fmt: skip
    subject = replace(subject, folder=f"{subject.folder}/{job.below.name}")
    prepared = _once(subject)
    missing, wanted = (sum(map(len, points)) for points in zip(*((p.missing, p.wanted) for p in job.parts), strict=True))
    if not missing:
        log(f"Already done: {job.below}")
    elif missing < wanted:
        log(f"Resuming the ablation: {wanted - missing:,} of {wanted:,} scores are measured.")
    if not one.settings.force:
        for part in job.parts:
            if known := part.known_elsewhere():
                ResultsFile(part.folder).append(known)
    with Progress("ablation", missing, "score", log=log) as progress:
        for part in job.parts:
            progress.begin(f"ablation, {part.variant.label}")
            own = _with_attention(subject, part.variant.attention, prepared)
            share = Share(part.variant.label, stem_of(part.variant.label), part.variant.stages, progress)
            how = part.placement, part.computation, own, part.config, one.choices, one.overrides
            sweep(part.settings, *how, silent, share)
    rows = [row for part in job.parts for row in ResultsFile(part.folder).rows()]
    return RunSummary(job.below, ablation_table(rows), (f"analog-glue tables {shlex.quote(one.settings.output_root)}",))


def _with_attention(
    subject: Subject, attention: Attention, prepared: Callable[[nn.Module], tuple[nn.Module, dict[str, LayerPeriphery], str]]
) -> Subject:
    """The subject with its own attention, or with that of the digital network; `prepared` is its periphery with its own."""

    def periphery(model: nn.Module) -> tuple[nn.Module, dict[str, LayerPeriphery], str]:
        found = prepared(model)
        for layer in products_of(found[0]).values():
            layer.active = not attention.is_float32
        return found

    scales = "" if attention.is_float32 else subject.attention_scales
    return replace(subject, attention=attention, attention_scales=scales, periphery=periphery)


def _once(subject: Subject) -> Callable[[nn.Module], tuple[nn.Module, dict[str, LayerPeriphery], str]]:
    """The periphery of the full hardware, found when it is first asked for."""
    found: list[tuple[nn.Module, dict[str, LayerPeriphery], str]] = []

    def periphery(model: nn.Module) -> tuple[nn.Module, dict[str, LayerPeriphery], str]:
        if not found:
            found.append(subject.periphery(model))
        return found[0]

    return periphery
