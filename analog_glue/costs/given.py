"""Latency, power and area of one accelerator as its maker gives them, for one model at one length and batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from analog_glue.costs.architectures import PUBLISHED, Architecture
from analog_glue.costs.counting import Counting
from analog_glue.costs.estimate import Costs, Estimate, Workload
from analog_glue.costs.sourced import Amount, Sourced, sourced, unknown
from analog_glue.errors import require_argument


@dataclass(frozen=True)
class Given(Costs):
    """Three given numbers, and what they were given for.

    `scale` carries them over to another model, length or batch by one assumption: every operation takes the energy, every cell
    of a tile the area and every token of a layer the time that it takes on average in the given system. Nobody measured that,
    and it is off by default.
    """

    counting: Counting
    model: str  # option of `model`
    sequence_length: int
    batch: int
    latency: Any  # Sourced [ms] of the batch
    power: Any  # Sourced [W]
    area: Any  # Sourced [mm²]
    scale: bool = False

    def __post_init__(self) -> None:
        require_argument(self.model in PUBLISHED, "model", f"be one of {', '.join(PUBLISHED)}", self.model)
        for name in ("sequence_length", "batch"):
            require_argument(1 <= getattr(self, name) <= 4096, name, "lie in 1 … 4096", getattr(self, name))
        for name in ("latency", "power", "area"):
            object.__setattr__(self, name, sourced(name, getattr(self, name)))

    @property
    def architecture(self) -> Architecture:
        return Architecture(PUBLISHED[self.model])

    def estimate(self, load: Workload) -> Estimate:
        """See `Costs`."""
        ours, theirs = load.architecture, self.architecture
        digital = [name for name in load.digital_layers if ours.linears[name].part != "head"]
        differs = [
            text
            for text, other in (
                (f"the model is {self.model}", (ours.kind, ours.encoder) != (theirs.kind, theirs.encoder)),
                (f"sequences have {self.sequence_length} tokens", load.sequence != self.sequence_length),
                (f"{self.batch} sequences are computed together", load.batch != self.batch),
                ("tiles are of 512 × 512", (load.crossbar.rows, load.crossbar.columns) != (512, 512)),
                ("a weight has one pair of devices", load.crossbar.cells_per_weight != 1),
                ("all layers of the encoder lie on tiles", bool(digital)),
            )
            if other
        ]
        if not differs:
            return self._as_given("given", 1.0, 1.0, 1.0, ())
        if not self.scale:
            why = f"given for another system: there {' and '.join(differs)}; costs.scale=true carries it over"
            return Estimate(unknown("ms", why), unknown("W", why), unknown("µJ", why), unknown("mm²", why))
        reference = self._reference(load)
        operations = load.count(self.counting).total / reference.count(self.counting).total
        tokens = ours.encoder.layers * load.batch * load.sequence
        time = tokens / (theirs.encoder.layers * self.batch * self.sequence_length)
        cells = load.tiles.tiles * load.crossbar.rows * load.crossbar.columns * load.crossbar.cells_per_weight
        area = cells / (reference.tiles.tiles * 512 * 512)
        remark = (
            f"Scaled from the given system, where {' and '.join(differs)}, by one assumption that nobody measured: an "
            f"operation takes the same energy (× {operations:.4g}), a token of a layer the same time (× {time:.4g}), a cell of "
            f"a tile the same area (× {area:.4g})."
        )
        return self._as_given("scaled", time, operations, area, (remark,))

    def _reference(self, load: Workload) -> Workload:
        """The given system."""
        from analog_glue.tiles.crossbar import Crossbar

        crossbar, theirs = Crossbar(rows=512, columns=512), self.architecture
        head = any(load.architecture.linears[name].part == "head" for name in load.grids)
        on_tiles = {name: one for name, one in theirs.linears.items() if head or one.part != "head"}
        grids = {name: crossbar.grid(one.outputs, one.inputs) for name, one in on_tiles.items()}
        return Workload(theirs, crossbar, grids, load.attention, self.sequence_length, self.batch)

    def _as_given(self, origin: str, time: float, energy: float, area: float, remarks: tuple[str, ...]) -> Estimate:
        def amount(one: Sourced, factor: float, unit: str) -> Amount:
            if one.value is None:
                return unknown(unit, one.source)
            return Amount(one.value * factor, one.value * factor, unit, origin, one.source, one.source)

        latency, power = amount(self.latency, time, "ms"), amount(self.power, energy / time, "W")
        joules = unknown("µJ", "latency or power is unknown")
        if latency.low is not None and power.low is not None:
            product = 1000 * latency.low * power.low  # ms · W = mJ
            source = "power × latency"
            joules = Amount(product, product, "µJ", "computed" if origin == "given" else origin, source, source)
        return Estimate(latency, power, joules, amount(self.area, area, "mm²"), remarks=remarks)
