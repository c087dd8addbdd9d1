"""From the weight matrix of a layer to differential pairs of conductances, and back.

A weight matrix [outputs, inputs] is cut into tiles of at most rows × columns, as evenly as possible (768 → 384 + 384). The
row blocks of a layer are stacked: "blocks" are [row blocks, columns, rows] with *all* columns of the layer side by side,
because the column tiles of one row block see the same inputs. Here alone matrices are rearranged and units change.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analog_glue.kernels.operation import operation


def even_split(size: int, limit: int) -> tuple[int, ...]:
    """Sizes of the fewest parts of `size` that are at most `limit` long; they differ by one at most, the longer first."""
    parts = -(-size // limit)
    short, longer = divmod(size, parts)
    return (short + 1,) * longer + (short,) * (parts - longer)


@dataclass(frozen=True)
class TileGrid:
    """How a layer of `inputs` × `outputs` weights lies on tiles."""

    inputs: int
    outputs: int
    row_blocks: tuple[int, ...]  # rows of each row block
    column_blocks: tuple[int, ...]  # columns of each column tile

    @classmethod
    def of(cls, outputs: int, inputs: int, rows: int, columns: int) -> "TileGrid":
        return cls(inputs, outputs, even_split(inputs, rows), even_split(outputs, columns))

    @property
    def tiles(self) -> int:
        return len(self.row_blocks) * len(self.column_blocks)

    @property
    def padded_rows(self) -> int:
        """Rows of every block in the stacked form; a block with one row less ends in a row of zeros."""
        return self.row_blocks[0]

    @property
    def is_even(self) -> bool:
        return len(set(self.row_blocks)) == 1

    def to_blocks(self, weight: Tensor) -> Tensor:
        """[outputs, inputs] → [row blocks, outputs, padded rows], a new contiguous tensor."""
        if self.is_even:
            return weight.reshape(self.outputs, len(self.row_blocks), -1).permute(1, 0, 2).contiguous()
        blocks = weight.new_zeros(len(self.row_blocks), self.outputs, self.padded_rows)
        for block, part in zip(blocks, weight.split(self.row_blocks, dim=1), strict=True):
            block[:, : part.shape[1]] = part
        return blocks

    def from_blocks(self, blocks: Tensor) -> Tensor:
        """[row blocks, outputs, padded rows] → [outputs, inputs]."""
        if self.is_even:
            return blocks.permute(1, 0, 2).reshape(self.outputs, self.inputs)
        return torch.cat([block[:, :rows] for block, rows in zip(blocks, self.row_blocks, strict=True)], dim=1)

    def pad_inputs(self, x: Tensor) -> Tensor:
        """[vectors, inputs] → [vectors, row blocks · padded rows]: every block's inputs where its weights are."""
        if self.is_even:
            return x
        padded = x.new_zeros(len(x), len(self.row_blocks), self.padded_rows)
        for block, part in enumerate(x.split(self.row_blocks, dim=1)):
            padded[:, block, : part.shape[1]] = part
        return padded.view(len(x), -1)

    def unpad_inputs(self, padded: Tensor) -> Tensor:
        """[vectors, row blocks, padded rows] → [vectors, inputs]: inverse of `pad_inputs`."""
        if self.is_even:
            return padded.reshape(len(padded), self.inputs)
        return torch.cat([padded[:, block, :rows] for block, rows in enumerate(self.row_blocks)], dim=1)

    def spread_over_rows(self, per_block: Tensor) -> Tensor:
        """[row blocks] → [inputs]: the value of each input's row block."""
        if self.is_even:
            return per_block.unsqueeze(1).expand(-1, self.padded_rows).reshape(-1)
        sizes = torch.tensor(self.row_blocks, device=per_block.device)
        return per_block.repeat_interleave(sizes, output_size=self.inputs)

    def mean_over_tiles(self, per_column: Tensor) -> Tensor:
        """[row blocks, outputs] → [row blocks, column tiles]."""
        return torch.stack([part.mean(dim=1) for part in per_column.split(self.column_blocks, dim=1)], dim=1)

    def max_over_tiles(self, per_column: Tensor) -> Tensor:
        """[row blocks, outputs] → [row blocks, column tiles]."""
        return torch.stack([part.amax(dim=1) for part in per_column.split(self.column_blocks, dim=1)], dim=1)

    def spread_over_columns(self, per_tile: Tensor) -> Tensor:
        """[row blocks, column tiles] → [row blocks, outputs]."""
        if len(set(self.column_blocks)) == 1:
            return per_tile.unsqueeze(2).expand(-1, -1, self.column_blocks[0]).flatten(1)
        sizes = torch.tensor(self.column_blocks, device=per_tile.device)
        return per_tile.repeat_interleave(sizes, dim=1, output_size=self.outputs)

    def row_counts(self, device: torch.device | None = None) -> Tensor:
        """[row blocks] number of real rows of each block."""
        return torch.tensor(self.row_blocks, dtype=torch.float32, device=device)


def weight_scale(blocks: Tensor, grid: TileGrid, per: str) -> Tensor:
    """The weight that becomes a full-on cell, in real units: [row blocks, outputs], positive.

    Args:
        blocks: [row blocks, outputs, rows] weights.
        per: "column": largest |w| of each column of each tile. "tile": largest |w| of each tile. "none": 1, i.e. weights
            are already normalised and are clipped to [−1, 1] by `normalised`.
    """
    return shared_scale(blocks.abs().amax(dim=2), grid, per)


@operation
def largest_per_column(weight: Tensor, grid: TileGrid) -> Tensor:
    """Largest |w| of `weight` [outputs, inputs] in each column of each row block: [row blocks, outputs]."""
    return grid.to_blocks(weight).abs().amax(dim=2)


@largest_per_column.compiled("cpu")
def _largest_per_column(weight: Tensor, grid: TileGrid) -> Tensor:
    from analog_glue.kernels.weights import largest_per_column, share_columns

    largest = torch.empty(len(grid.row_blocks), grid.outputs)
    share_columns(largest_per_column, grid.outputs, weight.numpy(), np.array(grid.row_blocks), largest.numpy())
    return largest


def shared_scale(largest: Tensor, grid: TileGrid, per: str) -> Tensor:
    """`weight_scale` from the `largest` |w| of each column of each row block [row blocks, outputs]."""
    if per == "none":
        return torch.ones_like(largest)
    if per == "tile":
        largest = grid.spread_over_columns(grid.max_over_tiles(largest))
    return torch.where(largest > 0, largest, 1.0)


def normalised(blocks: Tensor, scale: Tensor) -> Tensor:
    """Weights in units of a full-on cell, in [−1, 1]."""
    return (blocks / scale.unsqueeze(2)).clamp_(-1, 1)


@operation
def in_normalised_blocks(weight: Tensor, scale: Tensor, grid: TileGrid) -> Tensor:
    """`normalised` blocks of `weight` [outputs, inputs]: [row blocks, outputs, rows], a new contiguous tensor."""
    return normalised(grid.to_blocks(weight), scale)


@in_normalised_blocks.compiled("cpu")
def _in_normalised_blocks(weight: Tensor, scale: Tensor, grid: TileGrid) -> Tensor:
    from analog_glue.kernels.weights import normalised, share_columns

    blocks = torch.empty(len(grid.row_blocks), grid.outputs, grid.padded_rows)
    arrays = weight.numpy(), scale.contiguous().numpy(), np.array(grid.row_blocks), blocks.numpy()
    share_columns(normalised, grid.outputs, *arrays)
    return blocks


@dataclass(frozen=True)
class PairTargets:
    """Target conductances of differential pairs: per weight one *active* device and one *idle* one at zero.

    G⁺ is the active device where `sign` is +1 and the idle one where it is −1. A weight of 0 leaves both idle (sign 0).
    """

    g_active: Tensor  # [µS] in [0, g_max]
    sign: Tensor  # int8: −1, 0, +1


def weights_to_targets(weights: Tensor, g_max: float) -> PairTargets:
    """Normalised weights in [−1, 1] → targets [µS]: |w| · g_max on one device of the pair."""
    return PairTargets(g_active=weights.abs().mul_(g_max), sign=weights.sign().to(torch.int8))


def conductances_to_weights(g_active: Tensor, g_idle: Tensor | None, sign: Tensor, g_max: float) -> Tensor:
    """w = (G⁺ − G⁻) / g_max. `g_idle` None: idle devices are exactly 0. Overwrites `g_active`.

    Where the target was 0 both devices are idle alike, and the "active" one counts as G⁺.
    """
    if g_idle is not None:
        g_active.sub_(g_idle)
        sign = torch.where(sign == 0, torch.ones_like(sign), sign)
    return g_active.mul_(sign).div_(g_max)
