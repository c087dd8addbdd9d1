"""Means over chips and seeds, and how well they are known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy


@dataclass(frozen=True)
class Statistic:
    """A mean and how well it is known.

    Args:
        mean: Mean over the seeds of the means over chips [points].
        error: Standard error of `mean` [points]: over chips with one seed, over seeds with several;
            None for a single chip or where the score is undefined.
        error_chips: Standard error over chips of these very networks [points], whatever the seeds.
        chips: Smallest number of chips of any seed.
        most_chips: Largest number of chips of any seed.
        seeds: Number of training seeds.
    """

    mean: float
    error: float | None
    error_chips: float | None
    chips: int
    most_chips: int
    seeds: int


def summarise(seeds: Mapping[int, Mapping[Any, float]]) -> Statistic | None:
    """Mean and standard error of scores given by seed and chip; None without any score."""
    by_seed = [numpy.array([chips[c] for c in sorted(chips)]) for _, chips in sorted(seeds.items()) if chips]
    if not by_seed:
        return None
    means = numpy.array([scores.mean() for scores in by_seed])
    # Chips do not know of each other's networks: the errors of the seeds add in variance.
    each = [_standard_error(scores) for scores in by_seed]
    error_chips = None if None in each else math.sqrt(sum(e * e for e in each if e is not None)) / len(each)
    return Statistic(
        mean=float(means.mean()),
        error=error_chips if len(means) == 1 else _standard_error(means),
        error_chips=error_chips,
        chips=min(map(len, by_seed)),
        most_chips=max(map(len, by_seed)),
        seeds=len(by_seed),
    )


def _standard_error(samples: numpy.ndarray) -> float | None:
    if len(samples) < 2 or not numpy.isfinite(samples).all():
        return None
    return float(samples.std(ddof=1)) / math.sqrt(len(samples))


def repeated_over(statistics: Iterable[Statistic | None]) -> str:
    """What the standard errors are taken over."""
    several = {statistic.seeds > 1 for statistic in statistics if statistic is not None}
    if several == {True}:
        return "over training seeds"
    return "over training seeds, or over chips where there is one seed" if True in several else "over chips"
