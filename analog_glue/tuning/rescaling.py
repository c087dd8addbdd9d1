"""Input channels against weight rows (NORA; no public code): what is hard for the DAC is moved into the devices.

    s_k = max|x_k|^λ / max|w_k|^(1 − λ),    x̂_k = x_k / s_k before the DAC,    ŵ_k = w_k · s_k on the devices

The product is the same; inputs with outliers in few channels use the DAC better, and weights take their size. In digital
floats the network is unchanged. Layers that read the same tensor (queries, keys, values) share one s, so that it is one
multiply per input. Of the attention output it folds into the rows and the bias of the values and costs nothing, where attention
is in floats. Of a pre-LN encoder it would fold into the norm, but BERT, RoBERTa, MiniLM and MPNet are post-LN: there the norm
also feeds the residual, and s stays one digital multiply per input.

λ is searched on other examples; nothing is rescaled where no λ is better.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from analog_glue.errors import require_argument
from analog_glue.kernels.block_product import Float32Product
from analog_glue.kernels.parallel import run
from analog_glue.nn.calibration import SMALLEST_RANGE, currents_of, overload_of
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tiles.mapping import weight_scale
from analog_glue.tuning.bench import Bench, Periphery, evenly
from analog_glue.tuning.method import Choice, Step, Tuned, Tuning, best_for_network, require_converter, require_objective

LEAST, MOST = 1e-3, 1e3  # of a scale, in units of their geometric mean


@dataclass(frozen=True)
class Rescaling(Tuning):
    """`LayerPeriphery.input_scale` of every layer, and the input range that goes with it."""

    strengths: tuple[float, ...] = (0.25, 0.5, 0.75)  # λ: 0 evens out the weights alone, 1 the inputs alone
    percentile: float = 99.995  # [%] of |x̂| that stays inside the DAC's range
    objective: str = "network"  # one λ for all, by the network's outputs | layer: each group its own, by its products

    name: ClassVar[str] = "rescaling"

    def __post_init__(self) -> None:
        within = len(self.strengths) > 0 and all(0 <= strength <= 1 for strength in self.strengths)
        require_argument(within, "strengths", "hold numbers in [0, 1]", list(self.strengths))
        require_objective(self.objective)
        require_argument(0 < self.percentile <= 100, "percentile", "lie in (0, 100] [%]", self.percentile)

    def check(self, crossbar: Crossbar) -> None:
        require_converter(crossbar.dac_bits is not None, self.name, "what DACs see", "tile.dac_bits")

    def tune(self, bench: Bench, periphery: Periphery, log: Callable[[str], None]) -> Tuned:
        plain = {name: replace(layer, input_scale=None) for name, layer in periphery.items()}
        seen: dict[str, list[Tensor]] = {name: [] for name in periphery}
        scaled = {name: layer.input_scale for name, layer in periphery.items()}

        def see(name: str, x: Tensor) -> None:
            scale = scaled[name]
            seen[name].append(x if scale is None else x * scale)

        bench.observe(periphery, bench.examples(0, bench.calibration), see)
        vectors = {name: torch.cat(parts) for name, parts in seen.items()}
        candidates = {tuple(group): self._candidates(bench, group, plain, vectors[group[0]]) for group in bench.shared}
        if self.objective == "network":
            uniform: dict[str, dict[str, LayerPeriphery]] = {f"λ = {strength:g}": {} for strength in self.strengths}
            for own in candidates.values():
                for label, ranged in own.items():
                    uniform[label].update(ranged)
            return best_for_network(bench, periphery, uniform, self.name)
        inputs = bench.inputs(periphery)
        found: dict[str, tuple[LayerPeriphery, Choice]] = {}

        def tuned(group: tuple[str, ...]) -> None:
            found.update(self._best(bench, list(group), periphery, candidates[group], inputs))

        run(tuned, candidates, next(bench.model.parameters()).device)
        choices = {name: found[name][1] for name in periphery}
        return Tuned({name: found[name][0] for name in periphery}, [Step(self.name, choices)])

    def _candidates(self, bench: Bench, group: list[str], plain: Periphery, x: Tensor) -> dict[str, dict[str, LayerPeriphery]]:
        """Of the layers of a group, which read `x` [vectors, inputs], by what they are called."""
        largest_weight = torch.stack([bench.layers[name].weight.detach().abs().amax(dim=0) for name in group]).amax(dim=0)
        found = {}
        for strength in self.strengths:
            scale = scales(x.abs().amax(dim=0), largest_weight, strength)
            found[f"λ = {strength:g}"] = {
                name: self._ranged(bench, name, replace(plain[name], input_scale=scale), x) for name in group
            }
        return found

    def _best(
        self,
        bench: Bench,
        group: list[str],
        before: Periphery,
        candidates: dict[str, dict[str, LayerPeriphery]],
        inputs: dict[str, Tensor],
    ) -> dict[str, tuple[LayerPeriphery, Choice]]:
        """The candidate with the smallest sum of the errors of the group's products."""
        comparisons = {name: bench.comparison(name, inputs[name]) for name in group}
        at_first = {name: comparisons[name].error(before[name]) for name in group}
        best, least, errors = {name: before[name] for name in group}, sum(at_first.values()), dict(at_first)
        chosen = "as before"
        for label, ranged in candidates.items():
            now = {name: comparisons[name].error(ranged[name]) for name in group}
            if sum(now.values()) < least:
                best, least, errors, chosen = ranged, sum(now.values()), now, label
        return {name: (best[name], Choice(chosen, at_first[name], errors[name])) for name in group}

    def _ranged(self, bench: Bench, name: str, layer: LayerPeriphery, x: Tensor) -> LayerPeriphery:
        """With the ranges that the scaled inputs and weights need: that of the DAC widened where an ADC would saturate.

        Where a weight range was programmed for each column, each column of the new weights is at g_max.
        """
        grid, crossbar = bench.grid(name), bench.placement.hardware.crossbar
        assert layer.input_scale is not None
        scaled = x / layer.input_scale
        if layer.weight_range is not None:
            layer = replace(layer, weight_range=weight_scale(bench.blocks(name, layer), grid, "column"))
        alpha = torch.stack([percentile(part, self.percentile) for part in scaled.split(grid.row_blocks, dim=1)])
        alpha = alpha.clamp(min=SMALLEST_RANGE)
        if crossbar.adc_bits is not None:
            product = Float32Product(bench.normalised(name, layer))
            alpha = alpha * overload_of(currents_of(evenly(scaled), alpha, product, grid), crossbar).clamp(min=1)
        return replace(layer, input_range=alpha)


def scales(largest_input: Tensor, largest_weight: Tensor, strength: float) -> Tensor:
    """s [inputs] in units of its geometric mean; 1 for a channel without inputs or without weights.

    Args:
        largest_input: max|x_k| [inputs].
        largest_weight: max|w_k| [inputs].
        strength: λ.
    """
    used = (largest_input > 0) & (largest_weight > 0)
    raw = torch.where(used, largest_input.pow(strength) / largest_weight.clamp(min=1e-30).pow(1 - strength), 1.0)
    mean = raw[used].log().mean().exp() if bool(used.any()) else raw.new_tensor(1.0)
    return torch.where(used, raw / mean, 1.0).clamp(LEAST, MOST)


def percentile(x: Tensor, k: float) -> Tensor:
    """The k-th percentile [%] of |x|, exactly: of as many values as are to lie above it the smallest."""
    values = x.abs().flatten()
    above = int(len(values) * (1 - k / 100))
    return values.topk(above + 1).values[-1]
