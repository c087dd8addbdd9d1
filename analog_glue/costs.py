"""What a model costs on an accelerator: here the tiles that its layers take, and what finds no place on any."""

from collections import Counter
from dataclasses import dataclass

from torch import nn

from analog_glue.nn.placement import Placement


@dataclass(frozen=True)
class TileCount:
    """How the layers of a model fill the tiles."""

    layers: int
    weights: int
    tiles: int
    over_layers: float  # mean utilisation, every layer counting the same [%]
    over_tiles: float  # mean utilisation, every tile counting the same [%]


def count_tiles(placement: Placement) -> TileCount:
    """Tiles and their utilisation; a module that the model uses several times counts once."""
    crossbar, grids = placement.hardware.crossbar, placement.grids.values()
    weights = [grid.outputs * grid.inputs for grid in grids]
    tiles = [grid.tiles for grid in grids]
    capacity = crossbar.rows * crossbar.columns
    shares = [100 * size / (count * capacity) for size, count in zip(weights, tiles, strict=True)]
    return TileCount(
        len(grids),
        sum(weights),
        sum(tiles),
        sum(shares) / len(shares),
        sum(share * count for share, count in zip(shares, tiles, strict=True)) / sum(tiles),
    )


def beside_tiles(model: nn.Module) -> str:
    """The matrix products that no tile can take, since they are no `nn.Linear`: "8 Conv1D (99.6 % of …)"; "" without any.

    They are the parameters with two or more dimensions of other modules, by the class of their module (a convolution, a
    matrix of XLNet). Embeddings are looked up, not multiplied, and what is named a bias is added.
    """
    kinds: Counter[str] = Counter()
    weights = {True: 0, False: 0}  # by whether a tile can take them
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            continue
        own = module.named_parameters(recurse=False)
        matrices = [p for name, p in own if p.dim() >= 2 and "bias" not in name and "embed" not in name]
        linear = isinstance(module, nn.Linear)
        weights[linear] += sum(parameter.numel() for parameter in matrices)
        kinds[type(module).__name__] += 0 if linear else len(matrices)
    share = 100 * weights[False] / max(sum(weights.values()), 1)
    named = ", ".join(f"{number} {kind}" for kind, number in kinds.items() if number)
    return f"{named} ({share:.1f} % of the weights of matrix products)" if named else ""
