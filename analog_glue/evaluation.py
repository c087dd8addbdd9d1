"""The drift sweep: for each chip program once, visit the times in order, compensate, score.

`score` is the official score of a model on the validation splits; `drift_sweep` yields one batch of measurements per score, so
that the caller can write each down before the next is measured.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from analog_glue.devices.ideal import Ideal
from analog_glue.nn.convert import program, to_digital
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.linear import Periphery
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


@torch.no_grad()
def score(model: nn.Module, task: Task, validation: dict[str, Encoded], token_budget: int) -> list[Score]:
    """All metrics of all validation splits, in points. Batches are sorted by length; the order is always the same."""
    device = next(model.parameters()).device
    scores = []
    for split, encoded in validation.items():
        batches = evaluation_batches(encoded, token_budget)
        logits = torch.empty(len(encoded), task.num_labels)
        for indices in batches:
            batch = {name: tensor.to(device) for name, tensor in encoded.batch(indices).items() if name != "labels"}
            logits[indices] = model(**batch).logits.float().cpu()
        metrics = task.score(split, logits.numpy(), encoded.labels.numpy())
        scores += [Score(split, metric, value, len(encoded)) for metric, value in metrics.items()]
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
    hardware: Hardware,
    periphery: dict[str, Periphery],
    task: Task,
    raw: RawData,
    validation: dict[str, Encoded],
    evaluation: Evaluation,
    measured: Callable[[Point], bool] = lambda point: False,
) -> Iterator[Scored]:
    """Score the plain `model` digitally and on chips; it is never changed.

    Args:
        periphery: Input ranges and output scales of the layers on tiles, by name.
        measured: Says which points are known already; they are left out, and a chip that has none left is not programmed.
            Every draw is keyed by chip and time, so leaving some out changes no other.

    Yields:
        One `Scored` per point, in the order of `points`.
    """
    missing = [point for point in points(evaluation, hardware.device.drifts) if not measured(point)]
    for point in missing:
        if point.stage == "chip":
            continue
        started = time.monotonic()
        if point.stage == "digital":
            scores = score(to_digital(model, periphery), task, validation, evaluation.token_budget)
        elif point.stage == "majority":
            scores = _majority(task, raw, validation)
        else:
            ideal = replace(hardware, device=Ideal(g_max=hardware.device.g_max))
            chip = program(model, ideal, periphery, chip=0, chip_seed=evaluation.chip_seed)
            chip.set_time(0.0)
            scores = score(chip.ready_to_score(compensated=False), task, validation, evaluation.token_budget)
        yield Scored(point, scores, False, time.monotonic() - started)

    of_chips: dict[int, list[Point]] = {}
    for point in missing:
        if point.chip is not None:
            of_chips.setdefault(point.chip, []).append(point)
    for index, chip_points in of_chips.items():
        started = time.monotonic()
        chip = program(model, hardware, periphery, index, evaluation.chip_seed)
        for point in chip_points:
            if chip.t != point.t:
                chip.set_time(point.t)
            scores = score(chip.ready_to_score(point.compensated), task, validation, evaluation.token_budget)
            extrapolated = point.t > hardware.device.fitted_until
            yield Scored(point, scores, extrapolated, time.monotonic() - started)
            started = time.monotonic()


def _majority(task: Task, raw: RawData, validation: dict[str, Encoded]) -> list[Score]:
    return [
        Score(split, metric, value, len(validation[split]))
        for split, metrics in task.majority(raw).items()
        for metric, value in metrics.items()
    ]
