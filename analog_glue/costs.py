"""What a model costs on an accelerator: here the tiles that its layers take."""

from dataclasses import dataclass

from torch import nn

from analog_glue.nn.convert import analog_layers
from analog_glue.nn.hardware import Hardware


@dataclass(frozen=True)
class TileCount:
    """How the layers of a model fill the tiles."""

    layers: int
    weights: int
    tiles: int
    over_layers: float  # mean utilisation, every layer counting the same [%]
    over_tiles: float  # mean utilisation, every tile counting the same [%]


def count_tiles(model: nn.Module, hardware: Hardware) -> TileCount:
    """Tiles and their utilisation; a module that the model uses several times counts once."""
    crossbar = hardware.crossbar
    shapes = [layer.weight.shape for layer in analog_layers(model, hardware.layers).values()]
    tiles = [crossbar.grid(*shape).tiles for shape in shapes]
    capacity = crossbar.rows * crossbar.columns
    shares = [100 * shape.numel() / (count * capacity) for shape, count in zip(shapes, tiles, strict=True)]
    return TileCount(
        len(shapes),
        sum(shape.numel() for shape in shapes),
        sum(tiles),
        sum(shares) / len(shares),
        sum(share * count for share, count in zip(shares, tiles, strict=True)) / sum(tiles),
    )
