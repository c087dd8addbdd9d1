"""What can be turned on a hardware: a factor on a noise of today, the bits of a converter, or the cells of a weight.

A knob knows no kind of device: it multiplies the fields that `non_idealities` name, on frozen dataclasses. Draws are keyed by
chip and layer, so a chip at another value has the same normal numbers, scaled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from analog_glue.errors import require
from analog_glue.nn.hardware import Hardware
from analog_glue.specification.search import Scale, factors
from analog_glue.tiles.crossbar import FINEST_BITS

DEVICE_NOISE = "device_noise"
# What one device does by itself. Of n cells to a weight each of these is divided by √n, to first order.
OF_ONE_DEVICE = ("programming", "drift_spread", "one_over_f", "read_noise")
BITS = ("dac_bits", "adc_bits")
CELLS = "cells_per_weight"
UNITS = {"dac_bits": "bits", "adc_bits": "bits", CELLS: "cells"}  # of values that are numbers of something, not factors
FEWEST_BITS, MORE_BITS = 2, 4  # of a crossbar's converters; that are tried beyond those of today
MOST_CELLS = 8  # that are tried, where today's are no more


@dataclass(frozen=True)
class Knob:
    """One thing that is turned.

    Args:
        name: As it is typed.
        fields: "noise.programming", "tile.adc_bits": what it changes.
        today: The value of the hardware as it is: 1 of a factor, a number of bits or cells.
        scale: The values that are looked for.
    """

    name: str
    fields: tuple[str, ...]
    today: float
    scale: Scale

    @property
    def unit(self) -> str:
        """Of its values; empty of a factor."""
        return UNITS.get(self.name, "")

    def at(self, hardware: Hardware, value: float) -> Hardware:
        """The hardware with this knob at `value`.

        Other bits of an ADC leave the output noise its size in full-on cells, though it is counted in LSB.
        """
        crossbar = hardware.crossbar
        if self.unit:
            number: dict[str, Any] = {self.name: int(value)}
            other = replace(crossbar, **number)
            if self.name == "adc_bits":
                other = replace(other, output_noise=crossbar.output_noise * crossbar.adc.lsb / other.adc.lsb)
            return replace(hardware, crossbar=other)
        parts: dict[str, Any] = {"noise": hardware.device, "tile": crossbar}
        for field in self.fields:
            group, _, name = field.partition(".")
            parts[group] = replace(parts[group], **{name: getattr(parts[group], name) * value})
        return replace(hardware, device=parts["noise"], crossbar=parts["tile"])

    def settings(self, hardware: Hardware, value: float) -> str:
        """What is typed for it: "noise.programming=2.1"; of several fields the factor."""
        other = self.at(hardware, value)
        told = [f"{field}={_value(other, field):.4g}" for field in self.fields]
        return told[0] if len(told) == 1 else f"{self.name} × {value:.4g}"

    def label(self, value: float) -> str:
        """In the column `ablation`."""
        return f"{self.name} {value:g}" if self.unit else f"{self.name} × {value:.4g}"

    def margin(self, value: float) -> str:
        """How much more is borne than today: a factor, or bits or cells that are not needed."""
        return f"{self.today - value:+g} {self.unit}".replace("-", "−") if self.unit else f"× {value:.3g}"


def _value(hardware: Hardware, field: str) -> Any:
    group, _, name = field.partition(".")
    return getattr(hardware.device if group == "noise" else hardware.crossbar, name)


def knobs_of(hardware: Hardware, largest: float, looks: int) -> dict[str, Knob]:
    """The knobs that a hardware has, by name: noises that are not 0, bits of converters that are not ideal, cells of weights.

    More cells help against what a device does by itself, so they are a knob where there is such noise; behind wires, of which
    more cells lose more, the score need not fall with fewer, and they are none.

    Args:
        largest: Factors lie between 1 / `largest` and this.
        looks: At most so many before the noise is taken away altogether.
    """
    scale, found = factors(largest, looks), {}
    for name, fields in _fields(hardware).items():
        found[name] = Knob(name, fields, 1.0, scale)
    for name in BITS:
        if (bits := getattr(hardware.crossbar, name)) is not None:
            most = max(bits, min(bits + MORE_BITS, FINEST_BITS))
            found[name] = Knob(name, (f"tile.{name}",), bits, Scale(tuple(map(float, range(most, FEWEST_BITS - 1, -1)))))
    crossbar = hardware.crossbar
    if any(name in found for name in OF_ONE_DEVICE) and crossbar.wire_resistance == crossbar.ir_drop == 0:
        most = max(crossbar.cells_per_weight, MOST_CELLS)
        cells = Scale(tuple(map(float, range(most, 0, -1))))
        found[CELLS] = Knob(CELLS, (f"tile.{CELLS}",), crossbar.cells_per_weight, cells)
    return found


def _fields(hardware: Hardware) -> Mapping[str, tuple[str, ...]]:
    """Name → fields that a factor multiplies."""
    parts = {"noise": hardware.device, "tile": hardware.crossbar}
    single = {name: f"{group}.{name}" for group, part in parts.items() for name in _scalable(part)}
    if (own := getattr(hardware.device, "noise_scale", 0)) and own > 0:
        single["noise_scale"] = "noise.noise_scale"
    several = tuple(single[name] for name in OF_ONE_DEVICE if name in single)
    found = {name: (field,) for name, field in single.items()}
    return found | ({DEVICE_NOISE: several} if len(several) > 1 else {})


def _scalable(part: Any) -> Iterator[str]:
    """Fields of a device or a crossbar that one of its non-idealities is proportional to: it is gone where they are 0."""
    for fields in part.non_idealities.values():
        if list(fields.values()) == [0.0]:
            yield from fields


def chosen(names: list[str], known: Mapping[str, Knob], setting: str) -> list[Knob]:
    """The knobs of these names.

    Raises:
        UserError: a name that this hardware has not, or one twice.
    """
    for name in names:
        advice = {
            "g_max": "The errors of these devices are relative to g_max; on wires it acts as wire_resistance does.",
            CELLS: "It is one where devices are noisy, wires have no resistance and ir_drop is 0.",
        }.get(name, "What is 0 or ideal today has no value that could be multiplied: give it one (tile.read_noise=0.0175).")
        require(name in known, setting, f"name what this hardware has, {', '.join(known)}", name, advice)
    require(len(set(names)) == len(names), setting, "name everything once", names)
    return [known[name] for name in names]
