"""How often a chip has to be programmed again: three criteria over the times of a sweep, from the mean to a single chip.

All of them ask whether a score is still at least digital − loss:

1. the mean over chips, two standard errors below: the last time at which it is;
2. the same, before the first time at which it is not;
3. a single chip: a one-sided tolerance bound, which a stated share of all chips exceeds with a stated confidence.

The bound takes the scores of chips as normal: mean − k s, with s the sample standard deviation of n chips and

    k = t'⁻¹(confidence; n − 1, z √n) / √n,   z = Φ⁻¹(share)

where t' is the non-central t distribution: exact for a normal law (Owen 1968; Hahn and Meeker, Statistical Intervals, Sec.
4.4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MOST_CHIPS = 10_000  # that are told to measure


@dataclass(frozen=True)
class TimePoint:
    """The chips at one age.

    Args:
        t: Time since programming [s].
        mean: Score over chips [points].
        sem: Its standard error [points]; None for a single chip.
        spread: Sample standard deviation over chips [points]; None for a single chip.
        bound: One-sided tolerance bound [points]; None for a single chip.
        chips: How many.
        needed: Chips with which the bound would reach the threshold if mean and spread stayed; None: with no number of them, or
            not known.
    """

    t: float
    mean: float
    sem: float | None
    spread: float | None
    bound: float | None
    chips: int
    needed: int | None

    def mean_holds(self, threshold: float) -> bool | None:
        """Whether the mean minus two standard errors is at least the threshold; None: a single chip, or an undefined score."""
        return None if self.sem is None else _at_least(self.mean - 2 * self.sem, threshold)

    def chip_holds(self, threshold: float) -> bool | None:
        """The same of the tolerance bound."""
        return None if self.bound is None else _at_least(self.bound, threshold)


def _at_least(score: float, threshold: float) -> bool | None:
    return score >= threshold if math.isfinite(score) and math.isfinite(threshold) else None


@dataclass(frozen=True)
class Verdict:
    """What the times say; None where not even the first holds, or is known to.

    Args:
        digital: Score of the same network in software [points].
        loss: What is accepted below it [points].
        share, confidence: Of the tolerance bound.
        points: Every time, in order.
        last_mean: Last time whose mean minus 2 SEM holds [s].
        before_failure: Last time before the first whose mean does not [s].
        single_chip: Last time before the first whose tolerance bound does not hold [s].
    """

    digital: float
    loss: float
    share: float
    confidence: float
    points: Sequence[TimePoint]
    last_mean: float | None
    before_failure: float | None
    single_chip: float | None

    @property
    def threshold(self) -> float:
        return self.digital - self.loss

    @property
    def means(self) -> list[bool | None]:
        """Whether the mean holds, by time; None: not known."""
        return [point.mean_holds(self.threshold) for point in self.points]

    @property
    def single_chips(self) -> list[bool | None]:
        """Whether a single chip holds, by time; None: not known."""
        return [point.chip_holds(self.threshold) for point in self.points]


def tolerance_factor(chips: int, share: float, confidence: float) -> float:
    """k of the module's text; infinite for fewer than two chips."""
    from scipy.special import nctdtrit, ndtri

    if chips < 2:
        return math.inf
    root = math.sqrt(chips)
    return float(nctdtrit(chips - 1, ndtri(share) * root, confidence)) / root


def chips_needed(margin: float, share: float, confidence: float) -> int | None:
    """The fewest chips whose tolerance factor is at most `margin`, in standard deviations; None: no number, or too many.

    Args:
        margin: (mean − threshold) / s; the factor falls with the number of chips towards Φ⁻¹(share).
    """
    if not margin > tolerance_factor(MOST_CHIPS, share, confidence):
        return None
    few, many = 1, MOST_CHIPS  # too few, enough
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if tolerance_factor(middle, share, confidence) <= margin else (middle, many)
    return many


def verdict(by_time: Mapping[float, Sequence[float]], digital: float, loss: float, share: float, confidence: float) -> Verdict:
    """Judge the scores of chips by their age.

    Args:
        by_time: Time [s] → scores of its chips [points], one of each.
        digital: Score of the same network in software [points].
        loss: What is accepted below it [points].
        share: Of chips that the tolerance bound speaks of.
        confidence: Of the bound.
    """
    threshold = digital - loss
    points = [_point(t, by_time[t], threshold, share, confidence) for t in sorted(by_time)]
    held = [point.t for point in points if point.mean_holds(threshold)]
    return Verdict(
        digital,
        loss,
        share,
        confidence,
        points,
        held[-1] if held else None,
        _before_first([(point.t, point.mean_holds(threshold)) for point in points]),
        _before_first([(point.t, point.chip_holds(threshold)) for point in points]),
    )


def _before_first(holds: Sequence[tuple[float, bool | None]]) -> float | None:
    last = None
    for t, held in holds:
        if not held:
            break
        last = t
    return last


def _point(t: float, scores: Sequence[float], threshold: float, share: float, confidence: float) -> TimePoint:
    chips, mean = len(scores), sum(scores) / len(scores)
    if chips < 2:
        return TimePoint(t, mean, None, None, None, chips, None)
    spread = math.sqrt(sum((score - mean) ** 2 for score in scores) / (chips - 1))
    bound = mean - tolerance_factor(chips, share, confidence) * spread if spread else mean
    margin = math.inf if spread == 0 and mean >= threshold else -math.inf if spread == 0 else (mean - threshold) / spread
    needed = chips if bound >= threshold else chips_needed(margin, share, confidence)
    return TimePoint(t, mean, spread / math.sqrt(chips), spread, bound, chips, needed)
