"""The variance of the read noise at an eighth of its price: exact for the inputs that carry most of it, by a mean elsewhere.

    Σ_j |w_ij| x_j²  ≈  Σ_{j ∈ O} |w_ij| x_j²  +  a_i Σ_{j ∉ O} b_j x_j²

with a_i b_j a product of one number per column and one per row (means of |w| along each, over the mean of all). Squares of
a transformer's activations are so uneven that a few rows make much of the sum; what is left is a mean over many weights,
whose spread averages out. O are the groups of rows, of the size that one instruction sums up, whose error would be
largest, chosen for every `PART` vectors of a product, so they depend on no thread. docs/performance.md has the error of σ.
"""

import numpy as np
from numba import float32

from analog_glue.kernels.fused import take_squares
from analog_glue.kernels.jit import compiled, exact

PART_TAKEN = 8  # one group of rows of so many is an outlier


@exact
def groups_taken(groups):
    """How many of the groups of rows of a row block are taken exactly."""
    return -(-groups // PART_TAKEN)


def shares(magnitudes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(a_i [row blocks, columns], b_j [row blocks, rows]) of `magnitudes` [row blocks, columns, rows], float32."""
    of_rows = magnitudes.mean(axis=1, dtype=np.float64)
    of_columns = magnitudes.mean(axis=2, dtype=np.float64)
    return (of_columns / np.maximum(of_rows.mean(axis=1, keepdims=True), 1e-30)).astype(np.float32), of_rows.astype(np.float32)


@compiled
def choose(codes, of_rows, size, totals, chosen):
    """The groups of rows whose mean weights would be most wrong for these vectors: largest Σ (b_j x_j² / Σ b x²)².

    Args:
        codes: int8 [vectors, rows].
        of_rows: b_j [rows] float32.
        size: Rows of a group.
        totals: float32 [vectors], the result: Σ b_j code² over all rows.
        chosen: int32 [groups to choose], the result.
    """
    rows = codes.shape[1]
    energy, weight = np.empty(rows, np.float32), np.zeros(-(-rows // size) * size, np.float32)
    for v in range(codes.shape[0]):
        code, total = codes[v], float32(0)
        for j in range(rows):
            number = float32(code[j])
            energy[j] = of_rows[j] * (number * number)
        for j in range(rows):
            total += energy[j]
        totals[v] = total
        inverse = float32(1) / total if total > 0 else float32(0)
        for j in range(rows):
            part = energy[j] * inverse
            weight[j] += part * part
    of_groups = np.empty(weight.shape[0] // size, np.float32)
    for g in range(of_groups.shape[0]):
        of_groups[g] = 0
        for j in range(g * size, g * size + size):
            of_groups[g] += weight[j]
    for k in range(chosen.shape[0]):
        best = 0
        for g in range(of_groups.shape[0]):
            if of_groups[g] > of_groups[best]:
                best = g
        chosen[k] = best
        of_groups[best] = float32(-1)


@exact
def gather(codes, dither, of_rows, packed, size, chosen, squares, worth, rest, weights):
    """The chosen groups of rows next to each other: squares of their codes, and their weights.

    Args:
        codes: int8 [vectors, rows].
        dither: [rows] float32, see `fused.drive`.
        packed: [panels, words, width, rows of a word], the |w| of a row block as products read them.
        size: Rows of a group, those of one word or of several.
        chosen: int32 [chosen groups].
        squares: int8 [vectors, chosen groups · size], the result; `worth`: [vectors] float32, what 1 in them is worth.
        rest: float32 [vectors]; what the chosen rows add to Σ b_j code² is taken away.
        weights: As `packed`, the words of the chosen groups: the result.
    """
    rows = codes.shape[1]
    few = np.zeros(chosen.shape[0] * size, np.int8)
    for v in range(codes.shape[0]):
        code, taken = codes[v], float32(0)
        for k in range(chosen.shape[0]):
            first = chosen[k] * size
            for j in range(min(size, rows - first)):
                number = float32(code[first + j])
                few[k * size + j] = code[first + j]
                taken += of_rows[first + j] * (number * number)
        worth[v] = take_squares(few, dither, squares[v])
        rest[v] = max(rest[v] - taken, float32(0))
    length = packed.shape[2] * size  # numbers of a group
    for panel in range(packed.shape[0]):
        source = packed[panel].reshape(packed.shape[1] * packed.shape[3] // size, length)
        target = weights[panel].reshape(chosen.shape[0], length)
        for k in range(chosen.shape[0]):
            some, there = source[chosen[k]], target[k]
            for i in range(length):
                there[i] = some[i]
