"""Input (DAC) ranges from data: a percentile of |x| per row block of each layer, over a few training batches.

Three standard deviations, the usual first guess, destroys a digitally trained BERT: the inputs of its layers reach 15 to 90
standard deviations, and what lies out there matters. A percentile just below the maximum keeps it.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from analog_glue.tiles.mapping import TileGrid

SMALLEST_RANGE = 1e-3  # for a row block whose inputs are all (nearly) zero


def calibrate_input_ranges(
    model: nn.Module,
    layers: dict[str, nn.Linear],
    grids: dict[str, TileGrid],
    batches: Iterable[dict[str, Tensor]],
    percentile: float,
) -> dict[str, Tensor]:
    """Run `batches` through the digital `model` and take a percentile of the inputs of each layer.

    Args:
        model: In eval mode; called with the entries of a batch (input_ids, attention_mask, …) as keywords.
        layers: Its linear layers by name.
        grids: How each of them lies on tiles.
        batches: Keyword arguments of the model; padded positions (attention_mask 0) do not count.
        percentile: [%] of |x| that stays inside the range.

    Returns:
        α [row blocks] of every layer, the exact percentile, at least `SMALLEST_RANGE`.

    Raises:
        ValueError: a layer was never called by the model.
    """
    batches = list(batches)
    total = sum(int(batch["attention_mask"].sum()) for batch in batches)
    collectors = {
        name: _LargestValues(grids[name], keep=lambda count: _kept(count, percentile), vectors=total) for name in layers
    }
    mask: list[Tensor] = []
    handles = []
    for name, layer in layers.items():

        def hook(module: nn.Module, inputs: tuple[Tensor, ...], collector: "_LargestValues" = collectors[name]) -> None:
            collector.add(inputs[0].detach(), mask[0])

        handles.append(layer.register_forward_pre_hook(hook))
    try:
        with torch.no_grad():
            for batch in batches:
                mask[:] = [batch["attention_mask"]]
                model(**batch)
    finally:
        for handle in handles:
            handle.remove()
    return {name: collector.percentile(percentile) for name, collector in collectors.items()}


def _kept(count: int, percentile: float) -> int:
    return max(1, math.ceil(count * (1 - percentile / 100)) + 1)


class _LargestValues:
    """The largest |x| of each row block, as many as the percentile of all values needs."""

    def __init__(self, grid: TileGrid, keep, vectors: int) -> None:
        self._sizes = list(grid.row_blocks)
        self._keep = keep
        self._vectors = vectors
        self._largest: list[Tensor] = [torch.empty(0) for _ in self._sizes]
        self._seen = 0

    def add(self, x: Tensor, mask: Tensor) -> None:
        vectors = x[mask.bool()] if x.dim() == 3 and x.shape[:2] == mask.shape else x.reshape(-1, x.shape[-1])
        self._seen += len(vectors)
        for block, part in enumerate(vectors.float().abs().split(self._sizes, dim=1)):
            count = self._keep(max(self._seen, self._vectors) * part.shape[1])
            values = torch.cat([self._largest[block].to(part), part.reshape(-1)])
            self._largest[block] = values.topk(min(count, len(values))).values

    def percentile(self, percentile: float) -> Tensor:
        if self._seen == 0:
            raise ValueError("A layer put on tiles was never called by the model; take it out with `hardware.layers`.")
        ranges = []
        for size, largest in zip(self._sizes, self._largest, strict=True):
            beyond = math.floor(self._seen * size * (1 - percentile / 100))
            ranges.append(largest[min(beyond, len(largest) - 1)])
        return torch.stack(ranges).clamp(min=SMALLEST_RANGE)
