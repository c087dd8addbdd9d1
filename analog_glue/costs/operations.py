"""What a network computes for one sequence, by layer and kind, in whole numbers: multiply-adds, and elements of the rest.

How many operations a multiply-add or an element is, is a convention (`counting.py`); what is counted here is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analog_glue.costs.architectures import Architecture, Linear

if TYPE_CHECKING:
    from analog_glue.tiles.mapping import TileGrid

# Kind → what one of it is. Multiply-adds first, then elements, in the order of the signal.
KINDS = {
    "analog_product": "multiply-add of a linear layer on tiles",
    "digital_product": "multiply-add of a linear layer beside the tiles",
    "scores": "multiply-add of QKᵀ",
    "values": "multiply-add of PV",
    "embedding": "addition of two looked-up vectors, an element",
    "channel_scale": "input channel rescaled (`tune`)",
    "dac_scale": "input divided by the range of its DAC",
    "adc_scale": "column of a tile multiplied by its digital scale",
    "partial_sum": "addition of two row blocks, a column",
    "bias": "addition of a bias",
    "score_scale": "score multiplied by 1/√(width of a head)",
    "position_bias": "addition of a relative position to a score (MPNet)",
    "mask": "addition of the padding mask to a score",
    "softmax": "element of a softmax",
    "residual": "addition of the residual stream, an element",
    "layer_norm": "element of a layer norm",
    "activation": "element of the activation of a feed-forward layer or of the head (GELU, ReLU)",
    "tanh": "element of the tanh of the head",
}
PRODUCTS = ("analog_product", "digital_product", "scores", "values")


@dataclass(frozen=True)
class Work:
    """What one layer does of one kind for one sequence.

    Args:
        layer: Name of the linear layer, or "layer 3" of what stands between them, or "embeddings", "head".
        kind: One of `KINDS`.
        part: embedding | encoder | head.
        amount: Multiply-adds or elements, of all uses together.
    """

    layer: str
    kind: str
    part: str
    amount: int


def work_of(
    architecture: Architecture, grids: Mapping[str, TileGrid], sequence: int, rescaled: Mapping[str, int] | None = None
) -> list[Work]:
    """Everything that is computed for one sequence, exactly; a shared module counts as often as it is used.

    What compensates drift is not among it: its factor is part of the digital scale, and its read-out comes once an age of the
    chip, not once a sequence (`tiles.TileMap.read_out`).

    Args:
        grids: Of the layers on tiles, by name; the others are computed digitally.
        sequence: Tokens, padding included, for which a machine computes all of them.
        rescaled: Name of a layer → input channels that are multiplied at every token (`tune`, tuning.json).

    Raises:
        UserError: More tokens than the model has positions for.
    """
    return [one for one in _work(architecture, grids, sequence, rescaled or {}) if one.amount]


def _work(
    architecture: Architecture, grids: Mapping[str, TileGrid], sequence: int, rescaled: Mapping[str, int]
) -> Iterator[Work]:
    encoder, heads = architecture.encoder, architecture.heads
    looked_up = sequence * architecture.embedding
    yield Work("embeddings", "embedding", "embedding", (architecture.summed_embeddings - 1) * looked_up)
    yield Work("embeddings", "layer_norm", "embedding", looked_up)
    for name, linear in architecture.linears.items():
        yield from _of_linear(name, linear, grids.get(name), sequence, rescaled.get(name, 0))
    for number in range(encoder.layers):
        layer, scores, stream = f"layer {number}", heads * sequence**2, sequence * encoder.hidden
        yield Work(layer, "scores", "encoder", encoder.scores(sequence) // encoder.layers)
        yield Work(layer, "score_scale", "encoder", scores)
        yield Work(layer, "position_bias", "encoder", scores if architecture.kind == "mpnet" else 0)
        yield Work(layer, "mask", "encoder", scores)
        yield Work(layer, "softmax", "encoder", scores)
        yield Work(layer, "values", "encoder", encoder.values(sequence) // encoder.layers)
        yield Work(layer, "residual", "encoder", 2 * stream)
        yield Work(layer, "layer_norm", "encoder", 2 * stream)
        yield Work(layer, "activation", "encoder", sequence * encoder.intermediate)
    yield Work("head", "activation" if architecture.kind == "distilbert" else "tanh", "head", encoder.hidden)


def _of_linear(name: str, linear: Linear, grid: TileGrid | None, sequence: int, rescaled: int) -> Iterator[Work]:
    vectors = linear.vectors(sequence)
    products = vectors * linear.outputs * linear.inputs
    yield Work(name, "digital_product" if grid is None else "analog_product", linear.part, products)
    yield Work(name, "channel_scale", linear.part, rescaled * vectors)
    if grid is not None:
        blocks = len(grid.row_blocks)
        yield Work(name, "dac_scale", linear.part, vectors * linear.inputs)
        yield Work(name, "adc_scale", linear.part, vectors * linear.outputs * blocks)
        yield Work(name, "partial_sum", linear.part, vectors * linear.outputs * (blocks - 1))
    yield Work(name, "bias", linear.part, vectors * linear.outputs)
