"""Post-training optimisation of Lammie et al. (2024): input ranges, then conductance ranges, which need them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tuning.bench import Bench, Periphery
from analog_glue.tuning.conductance_range import ConductanceRange
from analog_glue.tuning.dac_range import DacRange
from analog_glue.tuning.method import Tuned, Tuning


@dataclass(frozen=True)
class Lammie2024(Tuning):
    dac_range: DacRange = field(default_factory=DacRange)
    conductance_range: ConductanceRange = field(default_factory=ConductanceRange)

    name: ClassVar[str] = "lammie2024"

    def check(self, crossbar: Crossbar) -> None:
        self.dac_range.check(crossbar)
        self.conductance_range.check(crossbar)

    def tune(self, bench: Bench, periphery: Periphery, log: Callable[[str], None]) -> Tuned:
        first = self.dac_range.tune(bench, periphery, log)
        second = self.conductance_range.tune(bench, first.periphery, log)
        return Tuned(second.periphery, [*first.steps, *second.steps])
