"""Input (DAC) ranges from data: a percentile of |x| per row block of each layer, over a few training batches; or so many σ.

Three standard deviations, the usual first guess, destroys a digitally trained BERT: the inputs of its layers reach 15 to 90
standard deviations, and what lies out there matters. A percentile just below the maximum keeps it.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from analog_glue.errors import UserError
from analog_glue.kernels.block_product import Float32Product
from analog_glue.nn.placement import Placement
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tiles.mapping import TileGrid, normalised, weight_scale

SMALLEST_RANGE = 1e-3  # for a row block whose inputs are all (nearly) zero
SATURATED = 0.01  # share of the outputs of a column that may saturate its ADC


def calibrate_input_ranges(
    model: Callable[..., object],
    layers: dict[str, nn.Linear],
    placement: Placement,
    batches: Iterable[dict[str, Tensor]],
    percentile: float,
    adc_headroom: bool = True,
    deviations: float | None = None,
) -> dict[str, Tensor]:
    """Run `batches` through the digital `model` and fit the input ranges of its `layers` to what they see.

    α of a row block is the `percentile` of |x| over its inputs, or with `deviations` so many standard deviations of x. With
    `adc_headroom` it is widened where the currents of the row block would not fit its ADCs, until at most `SATURATED` of the
    outputs of any column saturate in any batch: a wider range costs steps of the DAC, a saturated column its whole signal (a
    classifier behind a tanh adds up hundreds of full-scale inputs; its ADC ends at ten).

    Args:
        model: In eval mode; called with the entries of a batch (input_ids, attention_mask, …) as keywords.
        layers: Its linear layers by name, those of `placement`.
        batches: Keyword arguments of the model; padded positions (attention_mask 0) do not count.
        percentile: [%] of |x| that stays inside the range; without meaning where `deviations` are given.
        deviations: [standard deviations of x], the rule by which IBM's toolkit sets its first ranges (3 there).

    Returns:
        α [row blocks] of every layer: the exact percentile or deviations, at least `SMALLEST_RANGE`, times the headroom.

    Raises:
        UserError: a layer was never called by the model.
    """
    batches = list(batches)
    total = sum(int(batch["attention_mask"].sum()) for batch in batches)
    crossbar, grids = placement.hardware.crossbar, placement.grids
    uses: Counter[str] = Counter()  # of a layer in one forward pass
    observe(model, layers, batches[:1], lambda name, vectors: uses.update([name]))
    seen: dict[str, LargestValues | _Spread] = {
        name: LargestValues(grid, percentile, total * uses[name]) if deviations is None else _Spread(grid, deviations)
        for name, grid in grids.items()
    }
    observe(model, layers, batches, lambda name, vectors: seen[name].add(vectors))
    ranges = {name: values.ranges() for name, values in seen.items()}
    if not adc_headroom or crossbar.adc_bits is None or crossbar.dac_bits is None:
        return ranges

    products = {name: Float32Product(_normalised(layer, grids[name], crossbar)) for name, layer in layers.items()}
    overload = {name: torch.ones_like(alpha) for name, alpha in ranges.items()}

    def observe_currents(name: str, vectors: Tensor) -> None:
        currents = currents_of(vectors, ranges[name], products[name], grids[name])
        overload[name] = torch.maximum(overload[name], overload_of(currents, crossbar))

    observe(model, layers, batches, observe_currents)
    return {name: alpha * overload[name] for name, alpha in ranges.items()}


def currents_of(vectors: Tensor, input_range: Tensor, product: Float32Product, grid: TileGrid) -> Tensor:
    """|current| of every column [row blocks, vectors, outputs], in full-on cells, without any noise.

    Args:
        vectors: Inputs of the layer [vectors, inputs].
        input_range: α [row blocks].
        product: Of the layer's normalised weights.
    """
    scaled = (vectors / grid.spread_over_rows(input_range)).clamp_(-1, 1)
    return product.product(grid.pad_inputs(scaled)).abs_()


def overload_of(currents: Tensor, crossbar: Crossbar) -> Tensor:
    """By how much currents exceed what ADCs take in [row blocks]: of the worst column, `SATURATED` of its outputs left out."""
    beyond = max(1, math.ceil(SATURATED * currents.shape[1]))
    return currents.topk(beyond, dim=1).values[:, -1].amax(dim=1) / crossbar.adc_bound


@torch.no_grad()
def observe(
    model: Callable[..., object],
    layers: Mapping[str, nn.Module],
    batches: Iterable[dict[str, Tensor]],
    see: Callable[[str, Tensor], None],
) -> None:
    """Call `see(name, inputs [vectors, inputs])` for every call of every layer, padded positions left out."""
    mask: list[Tensor] = []

    def hook_of(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            x = arguments[0]
            inside = x.dim() == 3 and x.shape[:2] == mask[0].shape
            see(name, (x[mask[0].bool()] if inside else x.reshape(-1, x.shape[-1])).float())

        return hook

    handles = [layer.register_forward_pre_hook(hook_of(name)) for name, layer in layers.items()]
    try:
        for batch in batches:
            mask[:] = [batch["attention_mask"]]
            model(**batch)
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _normalised(layer: nn.Linear, grid: TileGrid, crossbar: Crossbar) -> Tensor:
    blocks = grid.to_blocks(layer.weight)
    return normalised(blocks, weight_scale(blocks, grid, crossbar.scale_per))


class LargestValues:
    """The largest |x| of each row block, as many as the percentile of all values needs."""

    def __init__(self, grid: TileGrid, percentile: float, vectors: int) -> None:
        """
        Args:
            percentile: [%] The lowest that will be asked for.
            vectors: How many come in all. Of more, too few may be kept for the exact percentile.
        """
        self._sizes = list(grid.row_blocks)
        self._above = 1 - percentile / 100
        self._expected = vectors
        self._largest: list[Tensor] = [torch.empty(0) for _ in self._sizes]
        self._seen = 0

    def add(self, vectors: Tensor) -> None:
        self._seen += len(vectors)
        for block, part in enumerate(vectors.abs().split(self._sizes, dim=1)):
            count = math.ceil(max(self._seen, self._expected) * part.shape[1] * self._above) + 1
            values = torch.cat([self._largest[block].to(part), part.reshape(-1)])
            self._largest[block] = values.topk(min(count, len(values))).values

    def ranges(self, percentile: float | None = None) -> Tensor:
        """The percentile [%] of |x| of each row block, at least `SMALLEST_RANGE`; None: the lowest that can be asked for."""
        if self._seen == 0:
            raise _never_called()
        share_above = self._above if percentile is None else 1 - percentile / 100
        ranges = []
        for size, largest in zip(self._sizes, self._largest, strict=True):
            above = math.floor(self._seen * size * share_above)
            ranges.append(largest[min(above, len(largest) - 1)])
        return torch.stack(ranges).clamp(min=SMALLEST_RANGE)


class _Spread:
    """Moments of x of each row block."""

    def __init__(self, grid: TileGrid, deviations: float) -> None:
        self._sizes = list(grid.row_blocks)
        self._deviations = deviations
        self._seen = 0  # vectors
        self._moments = torch.zeros(2, len(self._sizes), dtype=torch.float64)  # Σ x, Σ x²

    def add(self, vectors: Tensor) -> None:
        self._seen += len(vectors)
        parts = [part.double() for part in vectors.split(self._sizes, dim=1)]
        sums = [torch.stack([part.sum(), part.square().sum()]) for part in parts]
        self._moments = self._moments.to(vectors.device) + torch.stack(sums, dim=1)

    def ranges(self) -> Tensor:
        if self._seen == 0:
            raise _never_called()
        mean, square = self._moments / (self._moments.new_tensor(self._sizes) * self._seen)
        spread = (square - mean.square()).clamp(min=0).sqrt()
        return (self._deviations * spread).float().clamp(min=SMALLEST_RANGE)


def _never_called() -> UserError:
    return UserError("A layer put on tiles was never called by the model; take it out with `hardware.layers`.")
