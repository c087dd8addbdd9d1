"""Passes over the weights of a layer, compiled: noise of training, rounding to integers, what backward needs.

All of them take the columns `first` to `last` of the layer, so that every core can have its share (`share_columns`).
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import float32, float64, int8, int32, uint32
from torch import get_num_threads

from analog_glue.kernels.jit import bits_of, compiled, exact, float_of, inlined
from analog_glue.kernels.parallel import run
from analog_glue.kernels.threefry import SHARE, fill_row


@exact
def largest_per_column(weight, row_counts, largest, first, last):
    """Largest |weight| of each column of each row block.

    Args:
        weight: [columns, inputs] float32.
        row_counts: [row blocks] inputs of each block.
        largest: [row blocks, columns] float32, the result.
    """
    for c in range(first, last):
        start = 0
        for b in range(row_counts.shape[0]):
            row = weight[c, start : start + row_counts[b]]
            bits = int32(0)
            for j in range(row_counts[b]):  # as integers, magnitudes of floats are in the same order and vectorise
                bits = max(bits, bits_of(row[j]) & int32(0x7FFFFFFF))
            largest[b, c] = float_of(bits)
            start += row_counts[b]


@exact
def normalised(weight, scale, row_counts, blocks, first, last):
    """Weights in units of a full-on cell, clipped to [−1, 1].

    Args:
        weight: [columns, inputs] float32.
        scale: [row blocks, columns] float32, the weight that becomes 1.
        row_counts: [row blocks] inputs of each block.
        blocks: [row blocks, columns, rows] float32, the result; padded rows become 0.
    """
    for c in range(first, last):
        start = 0
        for b in range(blocks.shape[0]):
            count = row_counts[b]
            row, out, unit = weight[c, start : start + count], blocks[b, c], scale[b, c]
            for j in range(count):
                out[j] = min(max(row[j] / unit, float32(-1)), float32(1))
            for j in range(count, blocks.shape[2]):
                out[j] = 0
            start += count


@exact
def largest_magnitude(numbers):
    """Largest |number| of a contiguous float32 array of one dimension."""
    bits = int32(0)
    for i in range(numbers.shape[0]):
        bits = max(bits, bits_of(numbers[i]) & int32(0x7FFFFFFF))
    return float_of(bits)


@inlined
def _noisy_row(row, unit, spread, mirrored, normal, out):
    """`row` / `unit` in [−1, 1] plus noise into `out`; `normal`: as many normal numbers, the rest as in `noisy`."""
    c0, c1, c2, c3, c4 = spread[0], spread[1], spread[2], spread[3], spread[4]
    for j in range(row.shape[0]):
        w = min(max(row[j] / unit, float32(-1)), float32(1))
        r = abs(w)
        std = (((c4 * r + c3) * r + c2) * r + c1) * r + c0
        out[j] = w + max(std, float32(0)) * normal[j]
    if mirrored:
        for j in range(row.shape[0]):
            out[j] = math.copysign(out[j], row[j]) if row[j] != 0 else float32(0)


@compiled
def noisy(weight, scale, row_counts, spread, mirrored, k0, k1, blocks, first, last):
    """Normalised weights plus Gaussian noise of a spread that depends on their magnitude.

    Args:
        weight: [columns, inputs] float32, in real units.
        scale: [row blocks, columns] float32, the weight that becomes 1.
        row_counts: [row blocks] inputs of each block.
        spread: (5,) float32, the standard deviation as a polynomial in |w|, lowest power first; below 0 it counts as 0.
        mirrored: Whether weights are reflected at zero instead of changing their sign.
        blocks: [row blocks, columns, rows] float32, the result; padded rows become 0.
    """
    normal = np.empty(blocks.shape[2] + SHARE, np.float32)
    for c in range(first, last):
        start = 0
        for b in range(blocks.shape[0]):
            count = row_counts[b]
            out = blocks[b, c]
            fill_row(normal, count, uint32(c), uint32(b), uint32(2), k0, k1)
            _noisy_row(weight[c, start : start + count], scale[b, c], spread, mirrored, normal, out)
            for j in range(count, blocks.shape[2]):
                out[j] = 0
            start += count


@compiled
def noisy_integers(weight, scale, row_counts, spread, mirrored, k0, k1, per_unit, integers, first, last):
    """The weights of `noisy`, rounded to 8-bit numbers as `to_integers` does.

    Args:
        per_unit: Integers per unit of normalised weight.
        integers: [columns, inputs] int8, the result.
    """
    most = row_counts.max() + SHARE
    normal, out = np.empty(most, np.float32), np.empty(most, np.float32)
    for c in range(first, last):
        start = 0
        for b in range(row_counts.shape[0]):
            count = row_counts[b]
            fill_row(normal, count, uint32(c), uint32(b), uint32(2), k0, k1)
            _noisy_row(weight[c, start : start + count], scale[b, c], spread, mirrored, normal, out)
            rounded = integers[c, start : start + count]
            for j in range(count):
                rounded[j] = int8(np.rint(out[j] * per_unit))
            start += count


@exact
def to_integers(weights, per_unit, halves, magnitudes_per_unit, integers, magnitudes, first, last):
    """Round weights to 8-bit numbers, or to 15 bits in two 8-bit halves.

    Args:
        weights: [row blocks, columns, rows] float32.
        per_unit: Integers per unit of weight.
        integers: int8, the same shape; with `halves` [row blocks, 2 · columns, rows]: upper halves, then lower ones.
        magnitudes: int8, the shape of `weights`: |weights| · magnitudes_per_unit, rounded.
    """
    columns = weights.shape[1]
    for b in range(weights.shape[0]):
        for c in range(first, last):
            row, magnitude = weights[b, c], magnitudes[b, c]
            upper = integers[b, c]
            if halves:
                lower = integers[b, c + columns]
                for j in range(row.shape[0]):
                    number = np.rint(row[j] * per_unit)
                    high = np.rint(number * float32(1 / 128))
                    upper[j] = int8(high)
                    lower[j] = int8(number - high * float32(128))
            else:
                for j in range(row.shape[0]):
                    upper[j] = int8(np.rint(row[j] * per_unit))
            for j in range(row.shape[0]):
                magnitude[j] = int8(np.rint(abs(row[j]) * magnitudes_per_unit))


@exact
def as_used(blocks, row_counts, step, worth, used, first, last):
    """Weights as the product saw them, in units of the layer's output: rounded to multiples of `step` (0: not), times `worth`.

    Args:
        blocks: [row blocks, columns, rows] float32.
        worth: [row blocks, columns] float32.
        used: [columns, inputs] float32, the result.
    """
    per_unit = float32(1) / step if step > 0 else float32(0)
    for c in range(first, last):
        start = 0
        for b in range(blocks.shape[0]):
            row, out = blocks[b, c], used[c, start : start + row_counts[b]]
            unit = worth[b, c]
            if step > 0:
                unit *= step
                for j in range(row_counts[b]):
                    out[j] = np.rint(row[j] * per_unit) * unit
            else:
                for j in range(row_counts[b]):
                    out[j] = row[j] * unit
            start += row_counts[b]


@compiled
def finish_gradient(gradient, used, unit, row_counts, per_code, output_scale, towards_scale, first, last):
    """From the gradient at DAC codes to that at the weight, and the part of the output scale's that the weights carry.

    Args:
        gradient: [columns, inputs] float32, Σ over vectors of ∂L/∂y · code; becomes ∂L/∂weight.
        used: [columns, inputs] float32 or int8, the weights that the product saw, in units of `unit`.
        unit: [row blocks, columns] float32.
        per_code: [inputs] float32, what a DAC code is worth.
        output_scale: [row blocks, columns] float32.
        towards_scale: [row blocks, columns] float32, becomes Σ over rows of ∂L/∂used · used.
    """
    for c in range(first, last):
        start = 0
        for b in range(row_counts.shape[0]):
            end = start + row_counts[b]
            row, other, worth = gradient[c, start:end], used[c, start:end], per_code[start:end]
            factor = output_scale[b, c]
            total = float32(0)
            for j in range(end - start):
                value = row[j] * worth[j]
                total += value * float32(other[j])
                row[j] = value * factor
            towards_scale[b, c] = total * unit[b, c]
            start = end


@compiled
def moments(weight, sums, first, last):
    """Σ w and Σ w² of each column of `weight` [columns, inputs] float32 into `sums` [2, columns] float64."""
    for c in range(first, last):
        row, total, squares = weight[c], 0.0, 0.0
        for j in range(row.shape[0]):
            number = float64(row[j])
            total += number
            squares += number * number
        sums[0, c], sums[1, c] = total, squares


@exact
def clip(weight, bound, first, last):
    """Clip `weight` [columns, inputs] float32 to ±`bound`, in place."""
    for c in range(first, last):
        row = weight[c]
        for j in range(row.shape[0]):
            row[j] = min(max(row[j], -bound), bound)


@compiled
def take_back(places, reaching, row_counts, used, unit, codes, to_inputs, to_codes):
    """Take the part of clipping ADCs out of gradients that were computed as if none clipped.

    Args:
        places: [clipped] int64 index into [row blocks, vectors, columns] flattened.
        reaching: [clipped] float32, ∂L/∂y there.
        used, unit: See `finish_gradient`.
        codes: [vectors, inputs] int8 or float32.
        to_inputs: [vectors, inputs] float32, Σ over columns of ∂L/∂y · used.
        to_codes: [columns, inputs] float32, Σ over vectors of ∂L/∂y · code.
    """
    columns, vectors = used.shape[0], codes.shape[0]
    for i in range(places.shape[0]):
        b, rest = divmod(places[i], vectors * columns)
        v, c = divmod(rest, columns)
        start = 0
        for before in range(b):
            start += row_counts[before]
        end = start + row_counts[b]
        weights, towards = used[c, start:end], to_inputs[v, start:end]
        numbers, towards_codes = codes[v, start:end], to_codes[c, start:end]
        g = reaching[i]
        share = g * unit[b, c]
        for j in range(end - start):
            towards[j] -= share * float32(weights[j])
        for j in range(end - start):
            towards_codes[j] -= g * float32(numbers[j])


def share_columns(kernel: Callable[..., None], columns: int, *arguments: Any) -> None:
    """Run `kernel` on all columns, every core on its share."""
    part = max(64, -(-columns // get_num_threads()))
    run(lambda first: kernel(*arguments, first, min(first + part, columns)), range(0, columns, part))
