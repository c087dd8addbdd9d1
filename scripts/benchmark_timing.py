"""How cases are timed against each other, and one line of the table that comes of it.

Every round runs the cases one after another, in turn, so that a machine that slows down slows all of them; a ratio is the
median over rounds of case / FP32 within one round.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from analog_glue.kernels.matmul import PERMISSION, unchanged

# Largest value that still meets the goal of this release on 2 CPU cores with AVX-512.
TARGETS = {
    "mvm_4096": 0.7,
    "mvm_128": 0.75,
    "bert_inference": 0.8,
    "hwa_step": 1.0,
    "hwa_step_bf16": 0.5,
    "program": 2.0,
    "age": 0.8,
    "mrpc_score": 0.4,
}


@dataclass(frozen=True)
class Measure:
    """One line of the table.

    `kind` names the unit of `value`: ratio (to FP32), seconds, mib, rate [10⁹ / s], per_second or microseconds.
    """

    name: str
    kind: str
    value: float
    low: float  # smallest and largest over rounds
    high: float
    absolute: str  # median time, in words
    what: str
    routed: float | None = None  # ratio to FP32 through oneDNN
    target: float | None = None
    seconds: float | None = None  # median time of all that `work` counts
    work: dict[str, float] | None = None  # how much of what benchmark_limits.py measures the rates of, by their names

    def share(self, rates: dict[str, float], threads: int) -> float | None:
        """Part of the time that `work` takes at the least, at the `rates` [10⁹ / s] of one core on so many."""
        if self.work is None or self.seconds is None or not self.work.keys() <= rates.keys():
            return None
        return sum(amount / rates[name] / 1e9 for name, amount in self.work.items()) / threads / self.seconds

    @property
    def verdict(self) -> str:
        target = TARGETS.get(self.name, self.target)
        if target is None:
            return ""
        if self.kind == "per_second":
            return f"≥ {target:,} " + ("met" if self.value >= target else "MISSED")
        return f"≤ {target:,.4g} " + ("met" if self.value <= target else "MISSED")


def interleaved(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every case in every round; a round runs each case once, starting with another one each time."""
    for case in cases.values():
        case()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    names = list(cases)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            started = time.perf_counter()
            cases[name]()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def ratios(seconds: dict[str, list[float]], name: str, baseline: str = "fp32") -> list[float]:
    return [case / fp32 for case, fp32 in zip(seconds[name], seconds[baseline], strict=True)]


def beside_routed(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, Callable[[], object]]:
    """`cases` and FP32 through oneDNN; without it where a single round should be quick."""
    return cases | {"routed": routed(cases["fp32"])} if rounds > 1 else cases


def routed(case: Callable[[], object]) -> Callable[[], object]:
    """The same with float32 products through oneDNN, as runtime.matmul=onednn does where it is accurate."""

    def through_onednn() -> None:
        with unchanged():
            torch.backends.mkldnn.matmul.fp32_precision = PERMISSION
            case()

    return through_onednn


def as_ratio(name: str, seconds: dict[str, list[float]], case: str, what: str, work: dict[str, float] | None = None) -> Measure:
    values = ratios(seconds, case)
    ours, fp32 = (1e3 * statistics.median(seconds[key]) for key in (case, "fp32"))
    absolute = f"{ours:,.0f} ms, FP32 {fp32:,.0f} ms"
    beside = statistics.median(ratios(seconds, case, "routed")) if "routed" in seconds else None
    middle = statistics.median(values)
    return Measure(name, "ratio", middle, min(values), max(values), absolute, what, beside, seconds=ours / 1e3, work=work)


def as_seconds(name: str, values: list[float], what: str) -> Measure:
    return Measure(name, "seconds", statistics.median(values), min(values), max(values), "", what)
