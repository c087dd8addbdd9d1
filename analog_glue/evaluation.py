"""The drift sweep: for each chip program once, visit the times in order, compensate, score.

A `Workload` is what networks are scored on; `Sentences` are those of a GLUE task. `drift_sweep` yields one batch of
measurements per score, so that the caller can write each down before the next is measured.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from analog_glue.devices.ideal import Ideal
from analog_glue.nn.computation import Computation
from analog_glue.nn.convert import ChipGroup, program, to_digital
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.nn.placement import Placement
from analog_glue.nn.read_noise import in_words, spread_errors
from analog_glue.settings import Evaluation
from analog_glue.tasks.task import Encoded, RawData, Task, evaluation_batches


@dataclass(frozen=True)
class Score:
    """One metric of one split."""

    split: str
    metric: str
    value: float  # [points]
    examples: int


@dataclass(frozen=True)
class Point:
    """What is scored: a stage of the experiment, for a chip also which one, when, and whether compensated."""

    stage: str  # digital | majority | ideal_devices | chip
    chip: int | None = None
    t: float | None = None  # [s] after programming
    compensated: bool | None = None


@dataclass(frozen=True)
class Scored:
    point: Point
    scores: list[Score]
    extrapolated: bool  # the time lies beyond what the device model was fitted to
    seconds: float  # wall time of this score (and what it had to be prepared with)


class Workload(ABC):
    """Examples with answers, and how a network's outputs are scored."""

    @property
    @abstractmethod
    def headline(self) -> str:
        """The metric that is reported."""

    @abstractmethod
    def score(self, model: nn.Module, chips: int = 1) -> list[list[Score]]:
        """All scores of each of several `chips` that `model` (a `ChipGroup`'s) evaluates in one pass."""

    @abstractmethod
    def majority(self) -> list[Score]:
        """Scores of always giving the training set's commonest answer, or the shares of all answers."""


@dataclass(frozen=True)
class Sentences(Workload):
    """The validation splits of a task, tokenized; see `score`."""

    task: Task
    raw: RawData
    validation: dict[str, Encoded]
    token_budget: int

    @property
    def headline(self) -> str:
        return self.task.headline

    def score(self, model: nn.Module, chips: int = 1) -> list[list[Score]]:
        return score_together(model, chips, self.task, self.validation, self.token_budget)

    def majority(self) -> list[Score]:
        return [
            Score(split, metric, value, len(self.validation[split]))
            for split, metrics in self.task.majority(self.raw).items()
            for metric, value in metrics.items()
        ]


def read_noise_error(
    model: nn.Module,
    placement: Placement,
    computation: Computation,
    periphery: dict[str, LayerPeriphery],
    sentences: Sentences,
    evaluation: Evaluation,
) -> str:
    """One line: how far the read noise is off that a product draws from an estimate, over the first batch on the first chip."""
    chip = program(model, placement, computation, periphery, chip=0, chip_seed=evaluation.chip_seed)
    chip.set_time(float(min(evaluation.times)))
    encoded = next(iter(sentences.validation.values()))
    indices = evaluation_batches(encoded, sentences.token_budget)[0]
    batch = {name: tensor.to(computation.where) for name, tensor in encoded.batch(indices).items() if name != "labels"}
    return in_words(spread_errors(chip, [batch]))


def score(model: nn.Module, task: Task, validation: dict[str, Encoded], token_budget: int) -> list[Score]:
    """All metrics of all validation splits, in points. Batches are sorted by length; the order is always the same."""
    return score_together(model, 1, task, validation, token_budget)[0]


@torch.no_grad()
def score_together(
    model: nn.Module, chips: int, task: Task, validation: dict[str, Encoded], token_budget: int
) -> list[list[Score]]:
    """`score` of each of several `chips` that `model` (a `ChipGroup`'s) evaluates in one pass, `token_budget` tokens each."""
    device = next(model.parameters()).device
    scores: list[list[Score]] = [[] for _ in range(chips)]
    for split, encoded in validation.items():
        batches = evaluation_batches(encoded, token_budget)
        logits = torch.empty(chips, len(encoded), task.num_labels)
        for indices in batches:
            once = {name: tensor.to(device) for name, tensor in encoded.batch(indices).items() if name != "labels"}
            batch = {name: torch.cat([tensor] * chips) for name, tensor in once.items()}
            logits[:, indices] = model(**batch).logits.float().cpu().view(chips, len(indices), -1)
        for own, answers in zip(scores, logits, strict=True):
            metrics = task.score(split, answers.numpy(), encoded.labels.numpy())
            own += [Score(split, metric, value, len(encoded)) for metric, value in metrics.items()]
    return scores


def points(evaluation: Evaluation, drifts: bool) -> list[Point]:
    """Every point of a sweep in the order of measurement. Devices that do not drift are never compensated."""
    compensation = sorted(set(evaluation.compensation)) if drifts else [False]
    fixed = [Point("digital"), Point("majority")] + [Point("ideal_devices")] * evaluation.ideal_devices
    chips = [
        Point("chip", chip, float(t), compensated)
        for chip in range(evaluation.chips)
        for t in sorted(set(evaluation.times))
        for compensated in compensation
    ]
    return fixed + chips


def drift_sweep(
    model: nn.Module,
    placement: Placement,
    computation: Computation,
    periphery: dict[str, LayerPeriphery],
    workload: Workload,
    evaluation: Evaluation,
    measured: Callable[[Point], bool] = lambda point: False,
) -> Iterator[Scored]:
    """Score the plain `model` digitally and on chips; it is never changed.

    Args:
        periphery: Input ranges and output scales of the layers on tiles, by name.
        measured: Says which points are known already; they are left out, and a chip that has none left is not programmed.
            Every draw is keyed by chip and time, so leaving some out changes no other.

    Yields:
        One `Scored` per point, in the order of `points`; of chips that share a pass, time by time.
    """
    device = placement.hardware.device
    missing = [point for point in points(evaluation, device.drifts) if not measured(point)]
    for point in missing:
        if point.stage == "chip":
            continue
        started = time.monotonic()
        if point.stage == "digital":
            (scores,) = workload.score(to_digital(model, periphery))
        elif point.stage == "majority":
            scores = workload.majority()
        else:
            ideal = placement.with_devices(Ideal(g_max=device.g_max))
            chip = program(model, ideal, computation, periphery, chip=0, chip_seed=evaluation.chip_seed)
            chip.set_time(0.0)
            (scores,) = workload.score(chip.ready_to_score(compensated=False))
        yield Scored(point, scores, False, time.monotonic() - started)

    states_of: dict[int, list[tuple[float, bool]]] = {}
    for point in missing:
        if point.chip is not None and point.t is not None and point.compensated is not None:
            states_of.setdefault(point.chip, []).append((point.t, point.compensated))
    indices = list(states_of)
    for first in range(0, len(indices), evaluation.chips_per_pass):
        group = indices[first : first + evaluation.chips_per_pass]
        started = time.monotonic()
        chips = {index: program(model, placement, computation, periphery, index, evaluation.chip_seed) for index in group}
        for t, compensated in sorted({state for index in group for state in states_of[index]}):
            here = [index for index in group if (t, compensated) in states_of[index]]
            for index in here:
                if chips[index].t != t:
                    chips[index].set_time(t)
            together = ChipGroup([chips[index] for index in here]) if len(here) > 1 else chips[here[0]]
            of_chips = workload.score(together.ready_to_score(compensated), len(here))
            seconds = (time.monotonic() - started) / len(here)
            for index, scores in zip(here, of_chips, strict=True):
                yield Scored(Point("chip", index, t, compensated), scores, t > device.fitted_until, seconds)
            started = time.monotonic()
