"""A training-free autopilot: rescaling, input ranges, conductance ranges, each kept only where it helps.

A step is judged by the squared error of the network's outputs against its digital self, on examples that nothing was taken
from, over chips that nothing was searched on and that no result is reported of. Chips are paired, and a step is kept where the
mean of the differences exceeds `margin` of its standard errors; one that is worse on the first two is judged no further.
Each method is tried with its own objective and then layer by layer: a network whose outputs are noise from end to end
answers no single setting of all layers, while the error of every layer's products can still be told. A second pass, for
what hid behind another error, kept nothing in any of six networks and tiles on record, and took up to two fifths of the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor

from analog_glue.errors import require_argument
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tuning.bench import Bench, Periphery
from analog_glue.tuning.conductance_range import ConductanceRange
from analog_glue.tuning.dac_range import DacRange
from analog_glue.tuning.method import Step, Tuned, Tuning
from analog_glue.tuning.rescaling import Rescaling

BY_LAYER = (Rescaling, DacRange, ConductanceRange)  # methods that have an objective
SEARCHED_SEQUENCES, SEARCHED_DEVIATIONS = (2, 16), (1.0, 2.0, 3.0, 4.0)


def _searched() -> ConductanceRange:
    return ConductanceRange(SEARCHED_SEQUENCES, SEARCHED_DEVIATIONS)


@dataclass(frozen=True)
class Auto(Tuning):
    rescaling: Rescaling = field(default_factory=Rescaling)
    dac_range: DacRange = field(default_factory=DacRange)
    conductance_range: ConductanceRange = field(default_factory=_searched)
    margin: float = 2.0  # [standard errors] that the error must fall by
    passes: int = 1  # over all methods, at most: it ends where each has been tried on what there is
    by_layer: bool = True  # whether the three are tried with the objective `layer`, too

    name: ClassVar[str] = "auto"

    def __post_init__(self) -> None:
        require_argument(self.passes >= 1, "passes", "be at least 1", self.passes)
        require_argument(self.margin >= 0, "margin", "be at least 0 [standard errors]", self.margin)

    def check(self, crossbar: Crossbar) -> None:
        for method in self._methods:
            method.check(crossbar)

    @property
    def _methods(self) -> tuple[Tuning, ...]:
        three = self.rescaling, self.dac_range, self.conductance_range
        of_network = (one for one in three if isinstance(one, BY_LAYER) and one.objective == "network")
        return *three, *(replace(one, objective="layer") for one in of_network if self.by_layer)

    def tune(self, bench: Bench, periphery: Periphery, log: Callable[[str], None]) -> Tuned:
        now, error = dict(periphery), bench.judged_errors(periphery)
        steps: list[Step] = []
        since = 0  # steps that were not kept since the last that was: what has been tried on these ranges
        for method in self._methods * self.passes:
            if since == len(self._methods) - any(step.kept for step in steps):
                break  # all have been tried, but the one whose own result this is
            started = time.monotonic()
            tried = method.tune(bench, now, log)
            (step,) = tried.steps
            after = error if step.words() == "as before" else bench.judged_errors(tried.periphery, than=error)
            kept = len(after) == len(error) and is_better(error, after, self.margin)
            judged = (error[: len(after)].tolist(), after.tolist())
            steps.append(replace(step, kept=kept, logit_errors=judged, seconds=time.monotonic() - started))
            log(told(steps[-1], self.margin))
            since = 0 if kept else since + 1
            if kept:
                now, error = tried.periphery, after
        return Tuned(now, steps)


def is_better(before: Tensor, after: Tensor, margin: float) -> bool:
    """Whether paired errors [chips] fell by more than `margin` standard errors of the mean of their differences."""
    gain = before - after
    return bool(gain.mean() > margin * gain.std() / len(gain) ** 0.5)


def told(step: Step, margin: float) -> str:
    """One line: what a judged step chose, what it did to the error of the outputs, whether it is kept and if not, why."""
    assert step.logit_errors is not None
    before, after = (sum(errors) / len(errors) for errors in step.logit_errors)
    why = f" (gain below {margin:g} standard errors)" if after < before else ""
    said = "kept" if step.kept else f"not kept{why}"
    return f"{step.method}: {step.words()}; squared error of the outputs {before:.3g} → {after:.3g}, {said}"
