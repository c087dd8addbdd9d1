"""A crossbar tile on paper (geometry, converters, noise of the periphery) and a programmed one (pairs of devices)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from analog_glue.devices.device import Device, ProgrammedArray
from analog_glue.errors import require_argument
from analog_glue.kernels.gaussian import NormalStream
from analog_glue.tiles.converters import ADC, DAC
from analog_glue.tiles.mapping import TileGrid, conductances_to_weights
from analog_glue.tiles.pairs import aged, written
from analog_glue.tiles.wires import DRIVEN, PAIRS, behind_wires

FINEST_BITS = 24  # of a converter: a float32 holds no finer codes


@dataclass(frozen=True)
class Crossbar:
    """Geometry and periphery of all tiles. Currents are in units of one full-on cell driven by a full-scale input."""

    rows: int = 512
    columns: int = 512
    dac_bits: int | None = 8  # None: ideal, no input range
    adc_bits: int | None = 10  # None: ideal, no bound
    adc_bound: float = 10.0  # [full-on cells]
    output_noise: float = 0.5  # [LSB of the ADC] Gaussian, anew at every output
    read_noise: float = 0.0175  # σ_w of the short-term read noise: std σ_w √(Σ|w|x²), anew at every vector
    ir_drop: float = 0.0  # factor on the toolkit's polynomial for 0.35 Ω and cells of 5 µS (tiles/ir_drop.py); 0: off
    wire_resistance: float = 0.0  # [Ω] between cross-points, by the devices' own conductances (tiles/wires.py); 0: off
    pairs: str = "two_arrays"  # where the devices of a pair lie on such wires: two_arrays | side_by_side (rows twice as long)
    driven: str = "one_end"  # such rows: at one_end | both_ends
    cells_per_weight: int = 1  # n pairs of devices side by side at a cross-point, whose currents add up to one weight
    scale_per: str = "column"  # which weights share the digital scale that maps the largest to g_max: column | tile | none

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "cells_per_weight"):
            require_argument(getattr(self, name) >= 1, name, "be at least 1", getattr(self, name))
        for name in ("dac_bits", "adc_bits"):
            bits = getattr(self, name)
            fits = bits is None or 2 <= bits <= FINEST_BITS
            require_argument(fits, name, f"lie in 2 … {FINEST_BITS}, or be null (ideal)", bits)
        require_argument(self.adc_bound > 0, "adc_bound", "be positive [full-on cells]", self.adc_bound)
        for name in ("output_noise", "read_noise", "ir_drop", "wire_resistance"):
            require_argument(getattr(self, name) >= 0, name, "be at least 0", getattr(self, name))
        require_argument(
            self.output_noise == 0 or self.adc_bits is not None,
            "output_noise",
            "be 0 when `adc_bits` is null, because it is counted in LSB of the ADC",
            self.output_noise,
        )
        one_law = self.ir_drop == 0 or self.wire_resistance == 0
        require_argument(one_law, "wire_resistance", "be 0 where `ir_drop` is not: each is a law of the same wires",
                         self.wire_resistance)  # fmt: skip
        require_argument(
            self.ir_drop == 0 or self.cells_per_weight == 1,
            "cells_per_weight",
            "be 1 where `ir_drop` is on, whose polynomial knows one cell (`wire_resistance` knows them all)",
            self.cells_per_weight,
        )
        require_argument(self.pairs in PAIRS, "pairs", f"be one of {', '.join(PAIRS)}", self.pairs)
        require_argument(self.driven in DRIVEN, "driven", f"be one of {', '.join(DRIVEN)}", self.driven)
        require_argument(self.scale_per in ("column", "tile", "none"), "scale_per", "be column, tile or none", self.scale_per)

    @property
    def dac(self) -> DAC:
        return DAC(self.dac_bits)

    @property
    def adc(self) -> ADC:
        return ADC(self.adc_bits, self.adc_bound)

    @property
    def weight_read_noise(self) -> float:
        """σ_w of a weight: its n cells carry a share of its current each and fluctuate independently, σ_w / √n."""
        return self.read_noise / math.sqrt(self.cells_per_weight)

    @property
    def is_noisy(self) -> bool:
        """Whether an output differs from one product to the next."""
        return self.output_noise > 0 or self.read_noise > 0

    @property
    def non_idealities(self) -> Mapping[str, Mapping[str, Any]]:
        """What makes this periphery less than ideal: name → the fields, with their values, that take it away; as of a device.

        The output noise stands before the ADC in whose LSB it is counted, so that taken away in this order no ADC is left.
        """
        parts: dict[str, tuple[bool, Mapping[str, Any]]] = {
            "dac": (self.dac_bits is not None, {"dac_bits": None}),
            "read noise": (self.read_noise > 0, {"read_noise": 0.0}),
            "output noise": (self.output_noise > 0, {"output_noise": 0.0}),
            "adc": (self.adc_bits is not None, self._without_adc()),
            "ir drop": (self.ir_drop > 0, {"ir_drop": 0.0}),
            "wires": (self.wire_resistance > 0, {"wire_resistance": 0.0}),
        }
        return {name: fields for name, (there, fields) in parts.items() if there}

    def _without_adc(self) -> Mapping[str, Any]:
        """Where there is output noise an ADC stays that has an LSB: the finest one, which no current can saturate."""
        if self.output_noise == 0:
            return {"adc_bits": None}
        finest = ADC(FINEST_BITS, float(self.rows))
        return {
            "adc_bits": finest.bits,
            "adc_bound": finest.bound,
            "output_noise": self.output_noise * self.adc.lsb / finest.lsb,
        }

    def grid(self, outputs: int, inputs: int) -> TileGrid:
        return TileGrid.of(outputs, inputs, self.rows, self.columns)


@dataclass(frozen=True)
class ProgrammedCrossbar:
    """The differential pairs of one layer after programming; both devices of a pair with their own history.

    Weight = (G⁺ − G⁻) / g_max. `idle` is None where idle devices are noise-free: they stay at exactly 0. Of several cells of a
    weight each is programmed to the whole of it, drifts and fluctuates by itself, and the weight is their mean (Boybat et al.,
    Nat. Commun. 9, 2514 (2018), have several devices of a synapse; Hermes has two pairs in a unit cell).
    """

    device: Device
    sign: Tensor  # int8 [row blocks, columns, rows]: which device of the pair is active
    active: ProgrammedArray
    idle: ProgrammedArray | None
    beside: tuple["ProgrammedCrossbar", ...] = ()  # the other cells of the same weights

    @classmethod
    def program(cls, weights: Tensor, device: Device, noise: NormalStream, cells: int = 1) -> "ProgrammedCrossbar":
        """Write normalised weights ([row blocks, columns, rows], in [−1, 1]) into pairs of devices, `cells` for each.

        A cell has the same numbers however many come after it.
        """
        sign, active = written.by(noise.kernel, weights.device)(weights, device, noise)
        idle = device.program(torch.zeros_like(active.g_target), noise) if device.idle_noise else None
        beside = []
        for _ in range(cells - 1):
            other = cls.program(weights, device, noise)
            beside.append(replace(other, sign=sign, active=replace(other.active, g_target=active.g_target)))  # kept once
        return cls(device, sign, active, idle, tuple(beside))

    def weights(self, t: float, noise: NormalStream) -> Tensor:
        """Normalised weights at `t` [s] after programming: one frozen draw of the 1/f noise of every device."""
        own = self._weights(t, noise)
        for other in self.beside:
            own.add_(other._weights(t, noise))
        return own.div_(1 + len(self.beside)) if self.beside else own

    def _weights(self, t: float, noise: NormalStream) -> Tensor:
        """Of the first cell of each weight."""
        if self.idle is None:
            return aged.by(noise.kernel, self.sign.device)(self.device, self.sign, self.active, t, noise)
        g_active = self.device.conductance(self.active, t, noise)
        g_idle = self.device.conductance(self.idle, t, noise)
        return conductances_to_weights(g_active, g_idle, self.sign, self.device.g_max)

    def weights_behind(self, t: float, noise: NormalStream, grid: TileGrid, crossbar: Crossbar, kernel: str) -> Tensor:
        """`weights` as the ends of the tiles' wires see them; without resistance they are `weights`, bit for bit."""
        if crossbar.wire_resistance == 0:
            return self.weights(t, noise)
        how = crossbar.wire_resistance, crossbar.pairs, crossbar.driven, kernel
        positive, negative = behind_wires(self.pair(t, noise), grid, *how)
        return positive.sub_(negative).div_(self.device.g_max * (1 + len(self.beside)))

    def pair(self, t: float, noise: NormalStream) -> tuple[Tensor, Tensor]:
        """(G⁺, G⁻) [µS] at `t` [s], as `weights` combines them: of all cells at a cross-point together."""
        g_active = self.device.conductance(self.active, t, noise)
        zero = torch.zeros_like(g_active)
        g_idle = zero if self.idle is None else self.device.conductance(self.idle, t, noise)
        positive = self.sign >= 0
        both = torch.where(positive, g_active, g_idle), torch.where(positive, g_idle, g_active)
        for other in self.beside:
            for sum_, own in zip(both, other.pair(t, noise), strict=True):
                sum_.add_(own)
        return both
