"""The tiles that the layers of a model take, how they are filled, and what runs through their converters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analog_glue.costs.architectures import Architecture, Linear

if TYPE_CHECKING:
    from analog_glue.nn.placement import Placement
    from analog_glue.tiles.crossbar import Crossbar
    from analog_glue.tiles.mapping import TileGrid


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
    return tile_count(placement.grids, placement.hardware.crossbar)


def tile_count(grids: Mapping[str, TileGrid], crossbar: Crossbar) -> TileCount:
    """`count_tiles` of layers that lie on tiles of a `crossbar`."""
    weights = [grid.outputs * grid.inputs for grid in grids.values()]
    tiles = [grid.tiles for grid in grids.values()]
    capacity = crossbar.rows * crossbar.columns
    shares = [100 * size / (count * capacity) for size, count in zip(weights, tiles, strict=True)]
    filled = sum(share * count for share, count in zip(shares, tiles, strict=True))
    return TileCount(len(grids), sum(weights), sum(tiles), sum(shares) / max(len(shares), 1), filled / max(sum(tiles), 1))


@dataclass(frozen=True)
class LayerTiles:
    """One layer on its tiles, and what it does for one sequence.

    Every tile of a layer has its own DACs and ADCs: an input is converted once for each column tile, an output once for each
    row block.
    """

    layer: str
    inputs: int
    outputs: int
    row_blocks: tuple[int, ...]
    column_blocks: tuple[int, ...]
    utilisation: float  # [%] of the cells of its tiles
    vectors: int  # of one sequence

    @property
    def tiles(self) -> int:
        return len(self.row_blocks) * len(self.column_blocks)

    @property
    def tile_products(self) -> int:
        """Matrix-vector products of single tiles, for one sequence."""
        return self.tiles * self.vectors

    @property
    def dac_conversions(self) -> int:
        return self.inputs * len(self.column_blocks) * self.vectors

    @property
    def adc_conversions(self) -> int:
        return self.outputs * len(self.row_blocks) * self.vectors

    @property
    def read_out(self) -> int:
        """Products of single tiles that a read-out for drift compensation takes: one for each row of each tile."""
        return self.inputs * len(self.column_blocks)


@dataclass(frozen=True)
class TileMap:
    """All layers on tiles."""

    rows: int  # of a tile
    columns: int
    layers: tuple[LayerTiles, ...]
    count: TileCount

    @property
    def tiles(self) -> int:
        return sum(layer.tiles for layer in self.layers)

    @property
    def read_out(self) -> int:
        """Products of single tiles of one read-out for drift compensation, of all tiles."""
        return sum(layer.read_out for layer in self.layers)


def tile_map(architecture: Architecture, grids: Mapping[str, TileGrid], crossbar: Crossbar, sequence: int) -> TileMap:
    """Every layer that lies on tiles of a `crossbar`, in the order of the model."""

    def layer(name: str, grid: TileGrid, linear: Linear) -> LayerTiles:
        filled = 100 * grid.outputs * grid.inputs / (grid.tiles * crossbar.rows * crossbar.columns)
        vectors = linear.vectors(sequence)
        return LayerTiles(name, grid.inputs, grid.outputs, grid.row_blocks, grid.column_blocks, filled, vectors)

    layers = tuple(layer(name, grid, architecture.linears[name]) for name, grid in grids.items())
    return TileMap(crossbar.rows, crossbar.columns, layers, tile_count(grids, crossbar))
