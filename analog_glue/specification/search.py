"""How much is borne: bisection on chips, with a confidence in what is answered.

A knob has values x from harmless to severe, a chip c the score S_c(x), and μ(x) is the mean over all chips that could be made.
A value is *borne* where μ(x) ≥ θ. One look scores n chips at one value and says that it is borne where the lower confidence
bound of the mean reaches the threshold,

    mean(S) − t_{1−α/k, n−1} · std(S) / √n  ≥  θ,        α = 1 − confidence, k = the most looks that the answer can take

so that "not borne" also covers "cannot be told with so few chips". The answer is the most severe value whose look said so.

What the confidence covers: with probability at least 1 − α the answered value is really borne. It is assumed that μ falls
along the knob, and that a mean of n scores is about normal; nothing is assumed of how the scores of two looks depend on each
other, so that all looks may see the same chips, as they do here. Proof: let x* be the last value that is borne. Once a look
denies a value that is borne, only milder ones follow, all of them borne, and the answer is right. So before the first wrong
"borne" every look was right, and looks that are all right are the same ones in every experiment: those of a bisection that
knows x*. The answer is wrong only if one of these at most k looks is wrong, each with probability α / k at most (Bonferroni).

The same chips at every look (common random numbers) cost no confidence, and make the curve of their mean as smooth as that of
each chip. Each answer has its confidence by itself, each point of a contour too; not all of them together.

Source:
    The bound is Student's one-sided interval. Waeber, Frazier and Henderson, SIAM J. Control Optim. 51, 2261 (2013) bisect by
    weighing all looks together; here every look stands for itself, which needs no model of the scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, stdev


@dataclass(frozen=True)
class Rule:
    """When scores of chips say that a value is borne.

    Args:
        threshold: θ [points] that the mean over chips must keep.
        confidence: 1 − α, of an answer.
        looks: k, the most looks that an answer can take.
    """

    threshold: float
    confidence: float
    looks: int

    def lower_bound(self, scores: Sequence[float]) -> float:
        """Of the mean over chips [points], see the module; a single score is that of every chip, where nothing is random."""
        return fmean(scores) - self._reach(scores, (1 - self.confidence) / self.looks)

    def keeps(self, scores: Sequence[float]) -> bool:
        return self.lower_bound(scores) >= self.threshold  # never with a nan

    def verdict(self, scores: Sequence[float]) -> str:
        """Of fresh chips, looked at once: "holds" | "fails" (their upper bound is below θ) | "undecided" (their mean is)."""
        if fmean(scores) >= self.threshold:
            return "holds"
        return "fails" if fmean(scores) + self._reach(scores, 1 - self.confidence) < self.threshold else "undecided"

    def _reach(self, scores: Sequence[float], error: float) -> float:
        from scipy.special import stdtrit

        if len(scores) == 1:
            return 0.0
        return float(stdtrit(len(scores) - 1, 1 - error)) * standard_error(scores)


def standard_error(scores: Sequence[float]) -> float:
    """Of the mean over chips [points]; 0 of a single score."""
    return stdev(scores) / math.sqrt(len(scores)) if len(scores) > 1 and all(map(math.isfinite, scores)) else 0.0


@dataclass(frozen=True)
class Scale:
    """The values that are looked for.

    Args:
        values: From harmless to severe.
        least: One more, milder than all and far from them, that is looked at where none of them is borne; None: there is none.
    """

    values: tuple[float, ...]
    least: float | None = None

    @property
    def most_looks(self) -> int:
        return len(self.values).bit_length() + (self.least is not None)

    def first(self, count: int) -> tuple[float, ...]:
        """The `count` values that a bisection can come to first, from harmless to severe."""
        found: list[int] = []
        spans = [(0, len(self.values))]
        while spans and len(found) < count:
            low, high = spans.pop(0)
            if low < high:
                middle = (low + high) // 2
                found.append(middle)
                spans += [(low, middle), (middle + 1, high)]
        return tuple(self.values[place] for place in sorted(found))


def factors(largest: float, looks: int) -> Scale:
    """Factors on today's value: largest^(2u − 1) at u = i / 2^looks, so that 1 is looked at first, and 0 at last.

    One more look halves every step of before and looks at the same values on its way.
    """
    steps = 2**looks
    return Scale(tuple(float(f"{largest ** (2 * i / steps - 1):.4g}") for i in range(1, steps)), 0.0)


@dataclass(frozen=True)
class Look:
    """One value, and the scores [points] of the chips that were put there; none where a milder setting was not borne."""

    value: float
    scores: tuple[float, ...]
    borne: bool


@dataclass(frozen=True)
class Answer:
    """What was found on one scale.

    Args:
        value: The most severe one that is borne; None where not even the mildest is.
        denied: The mildest one that is not said to be borne; None where all are, so that `value` is the end of the scale.
        looks: In their order.
    """

    value: float | None
    denied: float | None
    looks: tuple[Look, ...]
    rule: Rule

    @property
    def at(self) -> Look | None:
        """The look at the answered value."""
        return next((look for look in self.looks if look.value == self.value), None)


def search(scale: Scale, rule: Rule, scores_at: Callable[[float], Sequence[float]], denied: Collection[float] = ()) -> Answer:
    """Bisect a scale.

    Args:
        scores_at: Scores of the same chips at a value [points].
        denied: Values that are not borne, as a milder setting has shown: no chip is scored there.
    """
    looks: list[Look] = []

    def borne(value: float) -> bool:
        scores = () if value in denied else tuple(scores_at(value))
        looks.append(Look(value, scores, bool(scores) and rule.keeps(scores)))
        return looks[-1].borne

    low, high = 0, len(scale.values)  # those before `low` are borne, those from `high` on are not
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if borne(scale.values[middle]) else (low, middle)
    above = scale.values[low] if low < len(scale.values) else None
    if low:
        return Answer(scale.values[low - 1], above, tuple(looks), rule)
    if scale.least is None or not borne(scale.least):
        return Answer(None, above if scale.least is None else scale.least, tuple(looks), rule)
    return Answer(scale.least, above, tuple(looks), rule)


def contour(
    lines: Sequence[float], scale: Scale, rule: Rule, scores_at: Callable[[float, float], Sequence[float]]
) -> Iterator[tuple[float, Answer]]:
    """Bisect the scale at every value of another knob, from harmless to severe: a staircase that only falls.

    What is not borne at one line is not at the next, where the other knob is worse; no chip is scored for it. That can only
    deny what a look would allow, so the confidence of each answer is that of `search`.
    """
    denied: set[float] = set()
    for line in lines:
        answer = search(scale, rule, partial(scores_at, line), denied)
        order = (*(() if scale.least is None else (scale.least,)), *scale.values)
        gone = [look.value for look in answer.looks if not look.borne]
        denied |= {value for value in order[min(map(order.index, gone)) :]} if gone else set()
        yield line, answer
