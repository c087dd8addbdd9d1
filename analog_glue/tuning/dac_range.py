"""The input (DAC) range of every row block: Lammie et al. (2024), first method, and the rules that other simulators have.

percentile   the K-th percentile of |x|; of several K the best on other examples. The paper gives neither K nor how it was
             searched; its group's toolkit takes that of signed values (half the tail of a symmetric DAC), we that of |x|.
max          the largest |x|.
moving_std   3 standard deviations, their mean moving from batch to batch (IBM's toolkit).
l1           the clipping level of smallest Σ|x − Q(x)| (CrossSim): the percentile 100 (1 − 10^η) %, searched over η.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from analog_glue.errors import require_argument
from analog_glue.kernels.block_product import Float32Product
from analog_glue.nn.calibration import SMALLEST_RANGE, LargestValues, currents_of, overload_of
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.tiles.converters import DAC
from analog_glue.tiles.crossbar import Crossbar
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

RULES = ("percentile", "max", "moving_std", "l1")
MOVING = 0.99  # of the old mean that a moving one keeps at a batch
WIDENED = ", headroom"
CACHED = 1000  # vectors of a layer that the l1 rule looks at
MOST_CLIPPED, TRIED = -0.5, 50  # of the rule l1: the largest η, a third of the values, and how many are tried up to there


@dataclass(frozen=True)
class DacRange(Tuning):
    """α [row blocks] of every layer from what it reads in the analog forward pass."""

    rule: str = "percentile"
    percentiles: tuple[float, ...] = (100.0, 99.995, 99.95, 99.5)  # K [%] that are tried
    deviations: float = 3.0  # [standard deviations] of the rule moving_std
    headroom: bool = False  # percentile: also each range widened until the ADCs take in its currents
    objective: str = "network"  # of several K: one for all, by the network's outputs | layer: each its own, by its products

    name: ClassVar[str] = "dac_range"

    def __post_init__(self) -> None:
        require_argument(self.rule in RULES, "rule", f"be one of {', '.join(RULES)}", self.rule)
        within = len(self.percentiles) > 0 and all(0 < k <= 100 for k in self.percentiles)
        require_argument(within, "percentiles", "hold numbers in (0, 100] [%]", list(self.percentiles))
        require_objective(self.objective)
        require_argument(self.deviations > 0, "deviations", "be positive [standard deviations]", self.deviations)

    def check(self, crossbar: Crossbar) -> None:
        require_converter(crossbar.dac_bits is not None, self.name, "the ranges of DACs", "tile.dac_bits")

    def tune(self, bench: Bench, periphery: Periphery, log: Callable[[str], None]) -> Tuned:
        candidates = self._percentiles(bench, periphery) if self.rule == "percentile" else self._by_rule(bench, periphery)
        if all(len(own) == 1 for own in candidates.values()):
            alone = {name: next(iter(own.items())) for name, own in candidates.items()}
            choices = {name: Choice(label) for name, (label, _) in alone.items()}
            return Tuned({name: found for name, (_, found) in alone.items()}, [Step(self.name, choices)])
        if self.objective == "layer":
            inputs = bench.inputs(periphery)

            def tuned(name: str) -> tuple[LayerPeriphery, Choice]:
                return best(bench, name, inputs[name], periphery[name], candidates[name])

            return each_layer(bench, list(periphery), tuned, self.name)
        # Of a layer whose range needs no widening the widened one is the range itself.
        labels = dict.fromkeys(label for own in candidates.values() for label in own)
        uniform = {
            label: {name: own.get(label, own[label.removesuffix(WIDENED)]) for name, own in candidates.items()}
            for label in labels
        }
        return best_for_network(bench, periphery, uniform, self.name)

    def _percentiles(self, bench: Bench, periphery: Periphery) -> dict[str, dict[str, LayerPeriphery]]:
        """Candidates of every layer, by what they are called."""
        batches = bench.examples(0, bench.calibration)
        total = sum(int(batch["attention_mask"].sum()) for batch in batches)
        largest = {name: LargestValues(bench.grid(name), min(self.percentiles), total) for name in periphery}
        vectors: dict[str, list[Tensor]] = {name: [] for name in periphery}

        def see(name: str, x: Tensor) -> None:
            largest[name].add(x)
            if widens and sum(map(len, vectors[name])) < CACHED:
                vectors[name].append(x[:CACHED])

        widens = self.headroom and bench.placement.hardware.crossbar.adc_bits is not None
        bench.observe(periphery, batches, see)
        found: dict[str, dict[str, LayerPeriphery]] = {}
        for name, layer in periphery.items():
            own = found[name] = {}
            x = torch.cat(vectors[name])[:CACHED] if widens else None
            product = Float32Product(bench.normalised(name, layer)) if widens else None
            for percentile in sorted(self.percentiles, reverse=True):
                alpha = largest[name].ranges(percentile)
                label = "max" if percentile == 100 else f"{percentile:g} %"
                own[label] = replace(layer, input_range=alpha)
                if x is not None and product is not None:
                    currents = currents_of(x, alpha, product, bench.grid(name))
                    overload = overload_of(currents, bench.placement.hardware.crossbar)
                    if bool((overload > 1).any()):
                        own[label + WIDENED] = replace(layer, input_range=alpha * overload.clamp(min=1))
        return found

    def _by_rule(self, bench: Bench, periphery: Periphery) -> dict[str, dict[str, LayerPeriphery]]:
        """One range of every layer."""
        dac = bench.placement.hardware.crossbar.dac
        ranges: dict[str, Tensor] = {}
        cached: dict[str, list[Tensor]] = {name: [] for name in periphery}

        def see(name: str, x: Tensor) -> None:
            parts = x.split(bench.grid(name).row_blocks, dim=1)
            if self.rule == "l1":
                if sum(map(len, cached[name])) < CACHED:
                    cached[name].append(x[:CACHED])
            elif self.rule == "max":
                now = torch.stack([part.abs().max() for part in parts])
                ranges[name] = torch.maximum(ranges.get(name, now), now)
            else:
                now = self.deviations * torch.stack([part.std() for part in parts])
                ranges[name] = MOVING * ranges[name] + (1 - MOVING) * now if name in ranges else now

        bench.observe(periphery, bench.examples(0, bench.calibration), see)
        if self.rule == "l1":
            for name, parts in cached.items():
                blocks = torch.cat(parts)[:CACHED].split(bench.grid(name).row_blocks, dim=1)
                ranges[name] = torch.stack([smallest_l1_range(block.flatten(), dac) for block in blocks])
        label = f"{self.deviations:g} std" if self.rule == "moving_std" else self.rule
        return {
            name: {label: replace(layer, input_range=ranges[name].clamp(min=SMALLEST_RANGE))}
            for name, layer in periphery.items()
        }


def smallest_l1_range(x: Tensor, dac: DAC) -> Tensor:
    """The range whose quantised values lie closest to `x` [values] in Σ|x − Q(x)|, among percentiles of |x|."""
    import numpy as np

    sizes = np.sort(x.abs().double().cpu().numpy())

    def level(eta: float) -> float:
        return max(float(np.quantile(sizes, 1 - 10.0**eta)), SMALLEST_RANGE)

    def loss(eta: float) -> float:
        step = level(eta) / dac.full_scale
        return float(np.abs(sizes - step * np.minimum(np.round(sizes / step), dac.full_scale)).sum())

    # CrossSim walks from η = −4 (Nelder–Mead). Of few values that is one or two outliers, and from there its walk goes astray.
    etas = np.linspace(-math.log10(len(sizes)), MOST_CLIPPED, TRIED)
    return x.new_tensor(level(min(etas.tolist(), key=loss)))
