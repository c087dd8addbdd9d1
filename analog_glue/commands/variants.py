"""Variants of a hardware under one network: what `evaluate ablate=true` and `specify` put on chips, each a sweep of its own.

A draw is keyed by chip and layer, so what two variants share is the same to the last bit, and scores are paired by chip. Input
ranges and output scales are those of the hardware as it is throughout. Folders lie in one around them,
`<run>/<kind>-<noise>-<tile>-<id>/<what>-<id>/`, so that each resumes and nothing is measured twice; rows say in the column
`ablation` what they are of. What an ordinary sweep of the same hardware has measured is taken over.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

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
from analog_glue.evaluation import Point, points
from analog_glue.nn.attention import Attention
from analog_glue.nn.attention_interface import products_of
from analog_glue.nn.computation import Computation
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.nn.placement import Placement
from analog_glue.progress import Progress
from analog_glue.runs.configuration import config_of
from analog_glue.runs.folder import read_run
from analog_glue.runs.rows import Measurement, ResultsFile
from analog_glue.settings import RunSettings


@dataclass(frozen=True)
class Variant:
    """The hardware with something changed.

    Args:
        label: Column `ablation`.
        stages: That are scored of it.
        ordinary: Whether it is the hardware as it is, which an ordinary sweep may have measured.
    """

    label: str
    hardware: Hardware
    attention: Attention
    stages: tuple[str, ...]
    ordinary: bool = False


def on_chips(label: str, hardware: Hardware, attention: Attention, ordinary: bool = False) -> Variant:
    """A variant whose chips are scored; outputs without any noise are scored once instead of on every chip."""
    return Variant(label, hardware, attention, ("ideal_devices",) if hardware.is_deterministic else ("chip",), ordinary)


@dataclass(frozen=True)
class Part:
    """One variant as a sweep: how it is asked for, where its rows are, and what it scores."""

    variant: Variant
    share: Share
    settings: RunSettings
    placement: Placement
    computation: Computation
    config: dict[str, Any]
    asked: SweepRequest
    folder: Path
    wanted: list[Point]
    ordinary: Path | None  # folder of an ordinary sweep of the same

    @property
    def sweep(self) -> str:
        """As rows name it, below their run."""
        return f"{self.folder.parent.name}/{self.folder.name}"

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
        name, label, own_id = self.sweep, self.variant.label, self.asked.physics.id
        wanted, rows = set(self.wanted), ResultsFile(self.ordinary).rows()
        known = [row for row in rows if row.data and point_of(row) in wanted]
        return [replace(row, ablation=label, sweep=name, hardware_id=own_id) for row in known]


@dataclass(frozen=True)
class Family:
    """All variants of the hardware of an evaluation.

    Args:
        kind: How the folder around theirs begins.
    """

    evaluation: EvaluationJob
    kind: str

    @cached_property
    def facts(self) -> dict[str, Any]:
        """run.json of the training run."""
        return read_run(self.evaluation.folder, "checkpoint")

    @cached_property
    def ordinary(self) -> Path:
        """Folder of the sweep of the hardware as it is."""
        job = self.evaluation
        root = Path(job.settings.output_root) / self.facts["name"]
        asked = self._request(job.settings, job.placement.hardware, job.attention, job.computation, job.config)
        return asked.find(root, f"{job.choices['noise']}-{job.choices['tile']}").folder

    @cached_property
    def below(self) -> Path:
        """Folder around those of the variants."""
        return self.ordinary.with_name(f"{self.kind}-{self.ordinary.name}")

    def part(self, variant: Variant, chips: range | None = None) -> Part:
        """A variant as a sweep, of chips with these numbers; None: `evaluation.chips` from 0 on."""
        job, hardware = self.evaluation, variant.hardware
        runtime, evaluation = job.settings.runtime, job.settings.evaluation
        chips = range(evaluation.chips) if chips is None else chips
        once = variant.stages == ("ideal_devices",)
        evaluation = replace(evaluation, chips=0, ideal_devices=True) if once else replace(evaluation, chips=chips.stop)
        settings = replace(job.settings, evaluation=evaluation)
        compensation = settings.hardware.compensation
        computation = Computation.resolved(hardware, job.computation.where, runtime.kernel, runtime.product, **compensation)
        config = job.config | config_of(noise=hardware.device, tile=hardware.crossbar)
        asked = self._request(settings, hardware, variant.attention, computation, config)
        folder = asked.find(self.below, stem_of(variant.label)).folder
        share = Share(variant.label, stem_of(variant.label), variant.stages, chips.start)
        wanted = [point for point in points(evaluation, hardware.device.drifts) if share.has(point)]
        placement = replace(job.placement, hardware=hardware)
        ordinary = self.ordinary if variant.ordinary else None
        return Part(variant, share, settings, placement, computation, config, asked, folder, wanted, ordinary)

    def _request(
        self,
        settings: RunSettings,
        hardware: Hardware,
        attention: Attention,
        computation: Computation,
        config: dict[str, Any],
    ) -> SweepRequest:
        return SweepRequest(
            settings, attention, hardware, computation, config, self.facts["train_id"], self.evaluation.raw.fingerprint
        )


def stem_of(label: str) -> str:
    """How the folder of a variant is called before its id: "without_1_f_noise"."""
    return re.sub(r"[^a-z0-9]+", "_", label.lower())


@dataclass(frozen=True)
class Network:
    """The network of a family, whose periphery is found once, when a chip is first programmed."""

    family: Family
    subject: Subject
    prepared: Callable[[nn.Module], tuple[nn.Module, dict[str, LayerPeriphery], str]]

    @classmethod
    def of(cls, family: Family, log: Callable[[str], None]) -> "Network":
        one = family.evaluation
        subject = subject_of(
            one.settings, one.attention, one.computation.kernel, one.placement, one.task, one.raw, one.loaded, one.encoded,
            one.folder, log,
        )  # fmt: skip
        subject = replace(subject, folder=f"{subject.folder}/{family.below.name}")
        return cls(family, subject, _once(subject))

    def sweep(self, part: Part, progress: Progress) -> list[Measurement]:
        """Measure what a part lacks; the rows of its folder."""
        one = self.family.evaluation
        if not one.settings.force and (known := part.known_elsewhere()):
            ResultsFile(part.folder).append(known)
        own = _with_attention(self.subject, part.variant.attention, self.prepared)
        how = part.placement, part.computation, own, part.config, one.choices, one.overrides
        sweep(part.settings, *how, silent, part.share, progress)
        return ResultsFile(part.folder).rows()


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
