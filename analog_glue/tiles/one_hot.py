"""What the compensation reads: currents of one-hot inputs, element by element."""

import numpy as np
import torch
from torch import Tensor

from analog_glue.kernels.gaussian import fill_normal, key_words
from analog_glue.kernels.operation import operation
from analog_glue.kernels.parallel import run
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tiles.ir_drop import loss_factor, position_weight
from analog_glue.tiles.mapping import TileGrid

PART = 512  # columns read out at a time by one core


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
        if crossbar.weight_read_noise > 0:
            std = blocks.abs().mul_((crossbar.weight_read_noise / lsb) ** 2)
            currents.addcmul_(std.add_(crossbar.output_noise**2).sqrt_(), normal)
        else:
            currents.add_(normal, alpha=crossbar.output_noise)
    crossbar.adc.convert_(currents).mul_(lsb)
    for block, rows in zip(currents, grid.row_blocks, strict=True):
        block[:, rows:] = 0
    return currents


@operation
def one_hot_sums(blocks: Tensor, grid: TileGrid, crossbar: Crossbar, noise_key: int, kernel: str) -> Tensor:
    """Σ over rows of |`one_hot_outputs`|: [row blocks, columns]."""
    return one_hot_outputs(blocks, grid, crossbar, noise_key, kernel).abs_().sum(dim=2)


@one_hot_sums.compiled("cpu")
def _one_hot_sums(blocks: Tensor, grid: TileGrid, crossbar: Crossbar, noise_key: int, kernel: str) -> Tensor:
    if crossbar.ir_drop > 0 or not crossbar.is_noisy or crossbar.adc_bits is None:
        return one_hot_sums(blocks, grid, crossbar, noise_key, kernel)
    from analog_glue.kernels.one_hot import sum_of_codes

    lsb, columns = crossbar.adc.lsb, blocks.shape[0] * blocks.shape[1]
    sums = torch.empty(blocks.shape[:2])
    variances = crossbar.output_noise**2, (crossbar.weight_read_noise / lsb) ** 2
    scalars = (np.float32(number) for number in (1 / lsb, *variances, crossbar.adc.full_scale))
    weights = blocks.contiguous().view(columns, -1).numpy()
    of_all = weights, np.array(grid.row_blocks), *scalars, *key_words(noise_key), sums.view(-1).numpy()
    run(lambda first: sum_of_codes(*of_all, first, min(first + PART, columns)), range(0, columns, PART))
    return sums.mul_(lsb)
