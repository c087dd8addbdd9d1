"""Gradients of a noisy product, by hand: the weight noise is drawn again, and what converters clipped is taken back."""

import numpy as np
import torch
from torch import Tensor

from analog_glue.kernels.operation import operation
from analog_glue.nn.computation import Computation
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tiles.mapping import TileGrid
from analog_glue.tiles.operands import ReadyWeights

NO_PLACES = np.empty(0, np.int64)


def gradient_digits(crossbar: Crossbar, computation: Computation) -> tuple[int, ...]:
    """8-bit digits of gradients that are multiplied as integers where weights lie on such tiles; asks one product."""
    if computation.where != "cpu":
        return ()
    blocks, grid = torch.eye(4).unsqueeze(0), TileGrid.of(4, 4, 4, 4)
    ready = ReadyWeights.of(blocks, grid, crossbar, computation.product, computation.kernel)
    return ready.product.gradient_digits


def effective_weight(weight: Tensor, output_scale: Tensor, grid: TileGrid) -> Tensor:
    """Weight [outputs, inputs] with the learned `output_scale` [row blocks, outputs] multiplied in."""
    return grid.from_blocks(grid.to_blocks(weight).mul_(output_scale.unsqueeze(2)))


@operation
def inputs_beyond(x: Tensor, ranges: Tensor) -> Tensor:
    """Where |x| [vectors, inputs] exceeds its range [inputs]: int64 indices into x flattened."""
    return (x.abs() > ranges).flatten().nonzero().squeeze(1)


@inputs_beyond.compiled("cpu")
def _inputs_beyond(x: Tensor, ranges: Tensor) -> Tensor:
    from analog_glue.kernels.fused import find_beyond

    arrays = x.contiguous().numpy(), ranges.numpy()
    places = torch.empty(find_beyond(*arrays, NO_PLACES), dtype=torch.int64)
    if len(places):
        find_beyond(*arrays, places.numpy())
    return places


@operation
def as_used(blocks: Tensor, grid: TileGrid, rounding: float, worth: Tensor) -> Tensor:
    """The weights [outputs, inputs] that a product saw, rounded to multiples of `rounding` (0: not), in real units.

    Args:
        blocks: Normalised weights [row blocks, outputs, rows]; overwritten.
        worth: [row blocks, outputs], what 1 of them is worth.
    """
    if rounding > 0:
        blocks.mul_(1 / rounding).round_().mul_(rounding)
    return grid.from_blocks(blocks.mul_(worth.unsqueeze(2)))


@as_used.compiled("cpu")
def _as_used(blocks: Tensor, grid: TileGrid, rounding: float, worth: Tensor) -> Tensor:
    from analog_glue.kernels.weights import as_used, share_columns

    used = torch.empty(grid.outputs, grid.inputs)
    arrays = blocks.numpy(), np.array(grid.row_blocks), np.float32(rounding), worth.numpy(), used.numpy()
    share_columns(as_used, grid.outputs, *arrays)
    return used


def integer_gradients(
    grad_y: Tensor, integers: Tensor, unit: Tensor, codes: Tensor, grid: TileGrid, digits: int
) -> tuple[Tensor, Tensor]:
    """∂L/∂x and Σ over vectors of ∂L/∂y · code, by products of integers (kernels/gradients.py).

    Args:
        integers: The weights of the forward pass, int8 [outputs, inputs].
        unit: [row blocks, outputs], what 1 of them is worth.
        digits: Of 8 bits, that ∂L/∂y is cut into.
    """
    from analog_glue.kernels.gradients import gradients

    arrays = integers.numpy(), unit.numpy(), codes.numpy(), np.array(grid.row_blocks)
    grad_x, grad_used = gradients(grad_y.contiguous().numpy(), *arrays, digits)
    return torch.from_numpy(grad_x), torch.from_numpy(grad_used)


@operation
def take_back(
    places: Tensor, reaching: Tensor, grid: TileGrid, used: Tensor, unit: Tensor, codes: Tensor, to_x: Tensor, to_used: Tensor
) -> None:
    """Take what came through clipping ADCs out of the gradients at inputs and codes, in place.

    Args:
        places: Which clip, in [row blocks, vectors, outputs] flattened; `reaching`: ∂L/∂y there.
        used: The weights that the product saw [outputs, inputs], in units of `unit` [row blocks, outputs].
    """
    vectors, outputs = len(codes), grid.outputs
    parts = zip(*(array.split(grid.row_blocks, dim=1) for array in (used, codes, to_x, to_used)), strict=True)
    for block, (of_used, of_codes, x, used_part) in enumerate(parts):
        for here in (places // (vectors * outputs) == block).nonzero().squeeze(1).split(4096):
            vector, output = places[here] // outputs % vectors, places[here] % outputs
            share = reaching[here].unsqueeze(1)
            x.index_add_(0, vector, share * unit[block, output].unsqueeze(1) * of_used[output], alpha=-1)
            used_part.index_add_(0, output, share * of_codes[vector], alpha=-1)


@take_back.compiled("cpu")
def _take_back(
    places: Tensor, reaching: Tensor, grid: TileGrid, used: Tensor, unit: Tensor, codes: Tensor, to_x: Tensor, to_used: Tensor
) -> None:
    from analog_glue.kernels.weights import take_back

    arrays = (array.numpy() for array in (used, unit, codes, to_x, to_used))
    take_back(places.numpy(), reaching.numpy(), np.array(grid.row_blocks), *arrays)


@operation
def finish_gradients(
    gradient: Tensor, used: Tensor, unit: Tensor, per_code: Tensor, output_scale: Tensor, grid: TileGrid
) -> tuple[Tensor, Tensor]:
    """∂L/∂weight, and Σ over the rows of ∂L/∂used · used [row blocks, outputs], from Σ ∂L/∂y · code [outputs, inputs].

    Args:
        used, unit: As in `take_back`.
    """
    gradient.mul_(per_code)
    towards_scale = grid.to_blocks(gradient * used).sum(dim=2).mul_(unit)
    return effective_weight(gradient, output_scale, grid), towards_scale


@finish_gradients.compiled("cpu")
def _finish_gradients(
    gradient: Tensor, used: Tensor, unit: Tensor, per_code: Tensor, output_scale: Tensor, grid: TileGrid
) -> tuple[Tensor, Tensor]:
    from analog_glue.kernels.weights import finish_gradient, share_columns

    towards_scale = torch.empty_like(output_scale)
    arrays = (gradient, used, unit, per_code, output_scale, towards_scale)
    g, u, n, p, o, t = (array.detach().numpy() for array in arrays)
    share_columns(finish_gradient, grid.outputs, g, u, n, np.array(grid.row_blocks), p, o, t)
    return gradient, towards_scale
