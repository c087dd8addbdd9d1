"""What the drift compensation reads, compiled: codes of one-hot inputs, added up column by column as they arise."""

import math

import numpy as np
from numba import float32

from analog_glue.kernels.jit import compiled
from analog_glue.kernels.threefry import ROW, stream_row


@compiled
def sum_of_codes(weights, row_counts, per_weight, output_variance, variance_per_weight, full_scale, k0, k1, sums, first, last):
    """Σ over the rows of a column of |code|, of all one-hot inputs, each with noise of its own.

    Args:
        weights: [columns of all row blocks, rows] float32, normalised.
        row_counts: [row blocks] rows of each block that are more than padding.
        per_weight: LSB per unit of weight.
        output_variance: [LSB²]; `variance_per_weight` [LSB²] that of the read noise, per unit of |weight|.
        full_scale: Largest code of the ADC.
        k0, k1: Key of the noise, the numbers that `fill_normal` gives an array of the shape of `weights`.
        sums: float32 [columns of all row blocks], the result; whole numbers, so exact below 2²⁴.
        first, last: Which columns.
    """
    rows = weights.shape[1]
    columns = weights.shape[0] // row_counts.shape[0]
    xi = np.empty(ROW, np.float32)
    at, row = ROW, first * rows // ROW
    skipped = first * rows - row * ROW  # numbers of columns before, in the row of numbers where these begin
    for c in range(first, last):
        count = row_counts[c // columns]
        total = float32(0)
        done = 0
        while done < rows:
            if at == ROW:
                stream_row(xi, row, k0, k1)
                at, row, skipped = skipped, row + 1, 0
            taken = min(rows - done, ROW - at)
            w, normal = weights[c, done : done + taken], xi[at : at + taken]
            for i in range(min(taken, count - done)):
                std = math.sqrt(variance_per_weight * abs(w[i]) + output_variance)
                code = np.rint(w[i] * per_weight + std * normal[i])
                total += min(abs(code), full_scale)
            done += taken
            at += taken
        sums[c] = total
