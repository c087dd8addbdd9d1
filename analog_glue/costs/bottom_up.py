"""Energy, time and area put together from published numbers of components, each with its source.

Where two sources disagree the answer is a band, and what no source says stays unknown. Assumptions of this sum:

- the energy of the array follows the cells in use, so that an empty cell takes none, and of a weight of n cells each takes its
  own (`tile.cells_per_weight`), while converters see one current;
- an input is converted once for each column tile, an output once for each row block, and each crosses the chip once;
- effective bits of an ADC are its nominal ones;
- digital work in 45 nm is the upper end of its band, the same scaled to 14 nm the lower one;
- the tokens of a batch go through a layer one after the other, the layers of the encoder take turns, and all digital work hides
  behind the arrays: a floor of the latency.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from analog_glue.costs.converters import adc_floor_area, adc_floor_energy, zigzag_adc_area, zigzag_adc_energy, zigzag_dac_energy
from analog_glue.costs.counting import Counting
from analog_glue.costs.estimate import Costs, Estimate, Line, Workload
from analog_glue.costs.integers import integer_energy
from analog_glue.costs.operations import KINDS
from analog_glue.costs.sourced import Amount, Sourced, band, published, sourced, total, unknown
from analog_glue.errors import require_argument

CELLS = 512 * 512  # of the tile that energies of whole tiles are published for
DAY, DECADE = 86_400.0, 315_360_000.0  # [s] between which the effect of drift on energy is published
FLOOR = "hwcomponents-adc 1.0.21 (arXiv 2404.06553), the best published ADC of its rate and process"
ZIGZAG = "ZigZag-IMC (KU Leuven, commit df34a6f), AimcArrayUnit.py, 28 nm"
# Fields of one value: what a closed form takes.
LAWS = ("adc_rate", "adc_technology", "supply", "to_14_nm", "drift_gain_day", "drift_gain_decade")
HOROWITZ_FIT = "fit to Horowitz, ISSCC (2014), 45 nm: 0.0031 n² + 0.0033 (2n + 6) pJ"


@dataclass(frozen=True)
class BottomUp(Costs):
    """Published numbers of components: each field is a value with its source, or several (`sourced.published`).

    Args:
        tile_energy: Of a product of a whole tile of 512 × 512, periphery included [nJ].
        array_share: The array's own part of it, as measured on chips.
        converter_share: That of ADCs with what stands before and after them.
        dac: Of a conversion of an input [pJ], beside ZigZag's formula.
        adc_rate: Conversions a second of one ADC [1/s], of the floor in closed form.
        adc_technology: Its process [nm].
        supply: Of ZigZag's formulas [V].
        multiplication, addition: Of two 16-bit floats, in 45 nm [pJ].
        fp32_mac, bf16_mac: Multiply-adds of floats, in 45 nm [pJ]; those of integers follow `integers.integer_energy`.
        to_14_nm: Energy in 14 nm over that in 45 nm.
        scale: Of the digital scale of a column [pJ], beside `multiplication`.
        softmax, layer_norm, activation: Of an element, in 45 nm [pJ].
        moving: Of one bit across the chip [pJ].
        product_time: Of a product of a tile [ns].
        tile_area: Of a tile of 512 × 512 with its periphery [mm²].
        digital_area: Of all digital units [mm²].
        drift_gain_day, drift_gain_decade: By how much currents that have drifted for a day, and for ten years, raise the
            products that a tile computes for an energy.
        age: Of the chip [s], which lowers the energy of analog products; None: as programmed.
    """

    counting: Counting
    tile_energy: Any
    array_share: Any
    converter_share: Any
    dac: Any
    adc_rate: Any
    adc_technology: Any
    supply: Any
    multiplication: Any
    addition: Any
    fp32_mac: Any
    bf16_mac: Any
    to_14_nm: Any
    scale: Any
    softmax: Any
    layer_norm: Any
    activation: Any
    moving: Any
    product_time: Any
    tile_area: Any
    digital_area: Any
    drift_gain_day: Any
    drift_gain_decade: Any
    age: float | None = None

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name not in ("counting", "age")):
            read = sourced if name in LAWS else published
            object.__setattr__(self, name, read(name, getattr(self, name)))
        for name in ("adc_rate", "adc_technology"):  # in a logarithm
            require_argument(getattr(self, name).value != 0, f"{name}.value", "be null or positive", 0)
        fits = self.age is None or DAY <= self.age <= DECADE
        told = f"be null or lie in {DAY:g} … {DECADE:g} s (a day to ten years), which is what is published"
        require_argument(fits, "age", told, self.age)

    def estimate(self, load: Workload) -> Estimate:
        """See `Costs`."""
        lines, unpriced = self._lines(load)
        energy = total((line.energy for line in lines), "µJ")
        latency, area = self._latency(load), self._area(load)
        why = "its latency is known as a floor alone"
        remarks = [
            "Digital work is priced in 45 nm (upper end) and scaled to 14 nm (lower end), the array by the cells in use.",
            "The latency is a floor: tokens one after the other, layers of the encoder in turn, digital work hidden behind.",
        ]
        if self.age is not None:
            remarks.append(f"Analog products at an age of {self.age:g} s take {100 * self._drift(self.age):.1f} % less energy.")
        return Estimate(latency, unknown("W", why), energy, area, self.adc_area(load), lines, True, unpriced, remarks)

    def read_out(self, load: Workload) -> tuple[Amount, Amount]:
        """Energy [µJ] and time [ms] of reading all factors of drift compensation out, once.

        Each row of each tile is driven alone: an input through its DAC, and every output of its tile, a cell each, through its
        ADC. Tiles work side by side, their rows one after the other.
        """
        tiles, crossbar = load.tiles, load.crossbar
        outputs = tiles.count.weights  # of all products together: every weight is read by itself
        parts = [
            self.array_energy().times(outputs * crossbar.cells_per_weight * 1e-6, "µJ"),
            self.dac_energy(crossbar.dac_bits).times(tiles.read_out * 1e-6, "µJ"),
            self.adc_energy(crossbar.adc_bits, tiles.rows, tiles.columns).times(outputs * 1e-6, "µJ"),
        ]
        unpriced = next((part for part in parts if not part.known), None)
        energy = total(parts, "µJ") if unpriced is None else unknown("µJ", unpriced.low_source)
        rows = max((rows for layer in tiles.layers for rows in layer.row_blocks), default=0)
        return energy, band(self.product_time, "ns").times(rows * 1e-6, "ms")

    def array_energy(self) -> Amount:
        """Of a multiply-add in the array [pJ]: its share of the energy of a tile, the smallest of both to the largest."""
        return band(_products(self.tile_energy, self.array_share, 1000 / CELLS), "pJ")

    def dac_energy(self, bits: int | None) -> Amount:
        """Of a conversion of an input [pJ]."""
        if bits is None:
            return unknown("pJ", "an ideal DAC (tile.dac_bits=null) has no price")
        return band((*self.dac, self._of_supply(lambda volt: zigzag_dac_energy(bits, volt))), "pJ")

    def adc_energy(self, bits: int | None, rows: int = 512, columns: int = 512) -> Amount:
        """Of a conversion of an output [pJ], by every published model that says something of it.

        The measured share holds for a column of the tile whose energy is published.
        """
        if bits is None:
            return unknown("pJ", "an ideal ADC (tile.adc_bits=null) has no price")
        found = [self._of_supply(lambda volt: zigzag_adc_energy(bits, volt))]
        rate, process = self.adc_rate.value, self.adc_technology.value
        if rate is not None and process is not None:
            found.append(Sourced(adc_floor_energy(bits, rate, process), f"{FLOOR}, {rate / 1e6:g} MS/s, {process:g} nm"))
        if (rows, columns) == (512, 512):
            found += _products(self.tile_energy, self.converter_share, 1000 / columns)
        return band(found, "pJ")

    def adc_area(self, load: Workload) -> Amount:
        """Of all ADCs, one a column of every tile [mm²]."""
        bits, rate, process = load.crossbar.adc_bits, self.adc_rate.value, self.adc_technology.value
        if bits is None:
            return unknown("mm²", "an ideal ADC (tile.adc_bits=null) has no size")
        found = [Sourced(zigzag_adc_area(bits), ZIGZAG)]
        if rate is not None and process is not None:
            found.append(Sourced(adc_floor_area(bits, rate, process), FLOOR))
        return band(found, "µm²").times(1e-6 * load.tiles.tiles * load.tiles.columns, "mm²")

    def mac(self, precision: str, bits: int | None) -> Amount:
        """Of a digital multiply-add [pJ], of floats by the name of their precision, of integers by their bits."""
        if bits is not None:
            return self._digital((Sourced(integer_energy(bits), HOROWITZ_FIT),))
        return self._digital({"fp32": self.fp32_mac, "bf16": self.bf16_mac}[precision])

    def _digital(self, values: tuple[Sourced, ...]) -> Amount:
        """From 14 nm to 45 nm."""
        shrink = self.to_14_nm
        if shrink.value is None:
            return band(values, "pJ")
        scaled = [
            Sourced(one.value * shrink.value, f"{one.source}; × {shrink.value:g}: {shrink.source}")
            for one in values
            if one.value is not None
        ]
        return band((*scaled, *values), "pJ")

    def _of_supply(self, law: Callable[[float], float]) -> Sourced:
        volt = self.supply.value
        return Sourced(None, self.supply.source) if volt is None else Sourced(law(volt), f"{ZIGZAG}, {volt:g} V")

    def _drift(self, age: float) -> float:
        """Share of the energy of analog products that drift saves at an age [s]; logarithmic between the published ends."""
        first, last = self.drift_gain_day.value, self.drift_gain_decade.value
        if first is None or last is None:
            return 0.0
        gain = first + (last - first) * math.log(age / DAY) / math.log(DECADE / DAY)
        return float(1 - 1 / (1 + gain))

    def _lines(self, load: Workload) -> tuple[list[Line], list[str]]:
        """Parts of the energy, and what has no price."""
        units, tiles, attention = load.count(self.counting).units, load.tiles, load.attention
        crossbar = load.crossbar
        analog = 1.0 if self.age is None else 1 - self._drift(self.age)
        dacs = load.batch * sum(layer.dac_conversions for layer in tiles.layers)
        adcs = load.batch * sum(layer.adc_conversions for layer in tiles.layers)
        bits = dacs * (crossbar.dac_bits or 32) + adcs * (crossbar.adc_bits or 32)
        adc = self.adc_energy(crossbar.adc_bits, tiles.rows, tiles.columns)
        array = self.array_energy().times(analog * crossbar.cells_per_weight)
        sums = ("bias", "partial_sum", "residual", "embedding", "mask", "position_bias")
        lines = [
            _line("arrays", units["analog_product"], "multiply-add", array),
            _line("DACs", dacs, "conversion", self.dac_energy(crossbar.dac_bits).times(analog)),
            _line("ADCs", adcs, "conversion", adc.times(analog)),
            _line("digital scale of columns", units["adc_scale"], "output", band((*self.scale, *self.multiplication), "pJ")),
            _line("other multiplications", _sum(units, ("dac_scale", "channel_scale", "score_scale")), "product",
                  self._digital(self.multiplication)),
            _line("additions", _sum(units, sums), "sum", self._digital(self.addition)),
            _line(f"attention in {attention.precision}", units["scores"] + units["values"], "multiply-add",
                  self.mac(attention.dtype, attention.bits)),
            _line("layers beside the tiles, bf16", units["digital_product"], "multiply-add", self.mac("bf16", None)),
            _line("softmax", units["softmax"], "element", self._digital(self.softmax)),
            _line("layer norm", units["layer_norm"], "element", self._digital(self.layer_norm)),
            _line("activation and tanh", units["activation"] + units["tanh"], "element", self._digital(self.activation)),
            _line("moving data", bits, "bit", band(self.moving, "pJ")),
        ]  # fmt: skip
        lines = [line for line in lines if line.units]
        return lines, [f"{line.what}: {line.energy.low_source}" for line in lines if not line.energy.known]

    def _latency(self, load: Workload) -> Amount:
        """Tokens × layers × the time of a product [ms]; the four products of a layer are a pipeline."""
        products = load.architecture.encoder.layers * load.sequence * load.batch
        return band(self.product_time, "ns").times(products * 1e-6, "ms")

    def _area(self, load: Workload) -> Amount:
        """Of all tiles [mm²]; digital units where their area is known."""
        if (load.tiles.rows, load.tiles.columns, load.crossbar.cells_per_weight) != (512, 512, 1):
            return unknown("mm²", "areas of whole tiles are published for 512 × 512 weights of one pair each alone")
        tiles = band(self.tile_area, "mm²").times(load.tiles.tiles)
        digital = band(self.digital_area, "mm²")
        if tiles.low is None or tiles.high is None or digital.low is None or digital.high is None:
            return tiles
        low, high = tiles.low + digital.low, tiles.high + digital.high
        return Amount(low, high, "mm²", "computed", tiles.low_source, tiles.high_source)


def alike_on_all_tiles(costs: Costs) -> Costs:
    """The same prices without the measured share of ADCs, which is published for one size of tile alone."""
    why = "published for tiles of 512 × 512 alone, and left out where others are compared"
    return replace(costs, converter_share=(Sourced(None, why),)) if isinstance(costs, BottomUp) else costs


def _products(values: tuple[Sourced, ...], shares: tuple[Sourced, ...], factor: float) -> list[Sourced]:
    """Every share of every value [nJ], in another unit."""
    return [
        Sourced(value.value * share.value * factor, f"{share.value:g} ({share.source}) of {value.value:g} nJ ({value.source})")
        for value in values
        for share in shares
        if value.value is not None and share.value is not None
    ]


def _sum(units: Mapping[str, int], kinds: tuple[str, ...]) -> int:
    assert set(kinds) <= KINDS.keys()
    return sum(units[kind] for kind in kinds)


def _line(what: str, units: int, unit: str, each: Amount) -> Line:
    return Line(what, units, unit, each, each.times(units * 1e-6, "µJ"))
