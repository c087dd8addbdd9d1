"""The largest conductance of every column (bit line): Lammie et al. (2024), second method.

From one weight scale per tile. A few token sequences are sent through a tile; the current that a column is predicted to reach
is the mean of |I| plus L standard deviations. The column's largest conductance g is then lowered until that current just
fits its ADC, or raised as far as it fits and the devices go,

    g' = min(g_max, g · I_sat / I_peak),

and the digital scale of the column takes the factor up. The paper gives N = 2 sequences; L, and whether the mean is one of |I|,
are ours. Several N and L are searched on other examples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from analog_glue.errors import require_argument
from analog_glue.kernels.block_product import Float32Product
from analog_glue.nn.calibration import currents_of
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tiles.mapping import normalised, weight_scale
from analog_glue.tuning.bench import Bench, Periphery
from analog_glue.tuning.method import (
    Choice,
    Step,
    Tuned,
    Tuning,
    best,
    best_for_network,
    each_layer,
    require_converter,
    require_objective,
)


@dataclass(frozen=True)
class ConductanceRange(Tuning):
    """`LayerPeriphery.weight_range` of every layer from the currents of its columns."""

    sequences: tuple[int, ...] = (2,)  # N token sequences that currents are predicted from
    deviations: tuple[float, ...] = (3.0,)  # L [standard deviations] above the mean of |I|
    objective: str = "network"  # of several: one for all, by the network's outputs | layer: each its own, by its products

    name: ClassVar[str] = "conductance_range"

    def __post_init__(self) -> None:
        some = len(self.sequences) > 0 and all(n >= 1 for n in self.sequences)
        require_argument(some, "sequences", "hold numbers of at least 1", list(self.sequences))
        positive = len(self.deviations) > 0 and all(number >= 0 for number in self.deviations)
        require_argument(positive, "deviations", "hold numbers of at least 0", list(self.deviations))

        require_objective(self.objective)

    def check(self, crossbar: Crossbar) -> None:
        require_converter(crossbar.adc_bits is not None, self.name, "columns to what their ADCs take in", "tile.adc_bits")

    def tune(self, bench: Bench, periphery: Periphery, log: Callable[[str], None]) -> Tuned:
        seen = {n: self._inputs(bench, periphery, n) for n in self.sequences}
        alone = len(self.sequences) * len(self.deviations) == 1
        candidates = {name: self._candidates(bench, name, layer, seen, not alone) for name, layer in periphery.items()}
        labels = next(iter(candidates.values()))
        uniform = {label: {name: own[label] for name, own in candidates.items()} for label in labels}
        if alone:
            ((label, found),) = uniform.items()
            return Tuned(found, [Step(self.name, {name: Choice(label) for name in found})])
        if self.objective == "layer":
            inputs = bench.inputs(periphery)

            def tuned(name: str) -> tuple[LayerPeriphery, Choice]:
                return best(bench, name, inputs[name], periphery[name], candidates[name])

            return each_layer(bench, list(periphery), tuned, self.name)
        return best_for_network(bench, periphery, uniform, self.name)

    def _candidates(
        self, bench: Bench, name: str, layer: LayerPeriphery, seen: dict[int, dict[str, Tensor]], with_full: bool
    ) -> dict[str, LayerPeriphery]:
        """By what they are called; `with_full`: also all columns at g_max, whatever their currents."""
        found = {}
        if with_full:
            full = weight_scale(bench.blocks(name, layer), bench.grid(name), "column")
            found["all at g_max"] = replace(layer, weight_range=full)
        return found | {
            f"N = {n}, L = {number:g}": replace(layer, weight_range=weight_range)
            for n, vectors in seen.items()
            for number, weight_range in zip(self.deviations, self._ranges(bench, name, layer, vectors[name]), strict=True)
        }

    def _inputs(self, bench: Bench, periphery: Periphery, sequences: int) -> dict[str, Tensor]:
        """What each layer reads of so many token sequences [vectors, inputs]."""
        seen: dict[str, list[Tensor]] = {name: [] for name in periphery}
        bench.observe(periphery, bench.examples(0, sequences), lambda name, x: seen[name].append(x))
        return {name: torch.cat(parts) for name, parts in seen.items()}

    def _ranges(self, bench: Bench, name: str, layer: LayerPeriphery, vectors: Tensor) -> list[Tensor]:
        """[row blocks, outputs] for each L."""
        grid, bound = bench.grid(name), bench.placement.hardware.crossbar.adc_bound
        blocks = bench.blocks(name, layer)
        per_tile = weight_scale(blocks, grid, "tile")
        currents = currents_of(vectors, layer.input_range, Float32Product(normalised(blocks, per_tile)), grid)
        mean, std = currents.mean(dim=1), currents.std(dim=1, correction=0)
        largest = blocks.abs().amax(dim=2)
        least = torch.where(largest > 0, largest, per_tile)  # the weight range of a column whose largest weight is at g_max
        return [torch.maximum(least, per_tile * (mean + number * std) / bound) for number in self.deviations]
