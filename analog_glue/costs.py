"""What a model costs on an accelerator: here the tiles that its layers take."""

from dataclasses import dataclass

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
