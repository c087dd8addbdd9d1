"""What the compensation reads: currents of one-hot inputs, element by element."""

import torch
from torch import Tensor

from analog_glue.kernels.gaussian import fill_normal
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tiles.ir_drop import loss_factor, position_weight
from analog_glue.tiles.mapping import TileGrid


def one_hot_currents(blocks: Tensor, grid: TileGrid, crossbar: Crossbar) -> Tensor:
    """What reaches the ADCs for all one-hot inputs of full scale, without noise, in LSB: [row blocks, columns, rows].

    A one-hot input selects one cell per column, so the product with the identity matrix is the weights themselves.
    """
    lsb = crossbar.adc.lsb
    currents = blocks / lsb
    if crossbar.ir_drop > 0:
        row_counts = grid.row_counts(blocks.device)
        lost = loss_factor(blocks.abs(), row_counts)
        position = position_weight(row_counts, grid.padded_rows).unsqueeze(1)
        currents.sub_(lost.mul_(blocks).mul_(position), alpha=crossbar.ir_drop / lsb)
    return currents


def one_hot_outputs(blocks: Tensor, grid: TileGrid, crossbar: Crossbar, noise_key: int, kernel: str = "reference") -> Tensor:
    """What the tiles answer to all one-hot inputs of full scale, in units of a full-on cell.

    Exact, with the noise of a product on each cell, at the cost of element-wise work.

    Args:
        blocks: Normalised weights [row blocks, columns, rows].

    Returns:
        [row blocks, columns, rows]: entry (i, j) is the output of column i for the input that drives row j alone. Padded
        rows answer 0.
    """
    lsb = crossbar.adc.lsb
    currents = one_hot_currents(blocks, grid, crossbar)
    if crossbar.is_noisy:
        normal = fill_normal(torch.empty_like(currents), noise_key, kernel)
        if crossbar.read_noise > 0:
            std = blocks.abs().mul_((crossbar.read_noise / lsb) ** 2)
            currents.addcmul_(std.add_(crossbar.output_noise**2).sqrt_(), normal)
        else:
            currents.add_(normal, alpha=crossbar.output_noise)
    crossbar.adc.convert_(currents).mul_(lsb)
    for block, rows in zip(currents, grid.row_blocks, strict=True):
        block[:, rows:] = 0
    return currents
