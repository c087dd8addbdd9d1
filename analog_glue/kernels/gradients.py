"""The two products of a backward pass by 8-bit instructions, as accurate as in float32.

    ∂L/∂x    = Σ_c ∂L/∂y_c · w_c      w: 8-bit integers times a number per column
    ∂L/∂w    = Σ_v ∂L/∂y_v · k_v      k: 8-bit DAC codes

One factor is an integer of 8 bits to begin with. The other, ∂L/∂y, becomes an integer of 24 bits relative to the largest
that is summed up with it (finer than the mantissa of a float32 of that size), cut into three 8-bit digits: three integer
products with exact sums cost 0.7 of a float32 one.
"""

from collections.abc import Callable

import numpy as np
from numba import float32, int8, int32

from analog_glue.kernels.integer_gemm import PART, SIGNED, multiply
from analog_glue.kernels.jit import bits_of, compiled, float_of
from analog_glue.kernels.parallel import run

DIGITS = 3  # of 8 bits
GROUP, WIDTH, OFFSET = SIGNED.group, SIGNED.width, SIGNED.offset  # of an instruction that takes four 8-bit numbers
LINE = 16  # float32 numbers


@compiled
def interleave(numbers, packed, first, last):
    """What `integer_gemm.pack` makes of the transpose: `numbers` [summed, columns] int8, panels `first` to `last` of `packed`.

    `packed`: [panels, ⌈summed / 4⌉, WIDTH, 4] of 8-bit numbers, 0 where it fills up.
    """
    summed, columns = numbers.shape
    for panel in range(first, last):
        start = panel * WIDTH
        width = min(WIDTH, columns - start)
        for group in range(packed.shape[1]):
            target = packed[panel, group]
            if group * GROUP + GROUP <= summed:
                a, b = numbers[group * GROUP, start:], numbers[group * GROUP + 1, start:]
                c, d = numbers[group * GROUP + 2, start:], numbers[group * GROUP + 3, start:]
                for i in range(width):
                    target[i, 0] = a[i] ^ -OFFSET
                    target[i, 1] = b[i] ^ -OFFSET
                    target[i, 2] = c[i] ^ -OFFSET
                    target[i, 3] = d[i] ^ -OFFSET
            else:
                for i in range(width):
                    for r in range(GROUP):
                        row = group * GROUP + r
                        target[i, r] = numbers[row, start + i] ^ -OFFSET if row < summed else 0
            for i in range(width, WIDTH):
                for r in range(GROUP):
                    target[i, r] = 0


@compiled
def _take_digit(numbers, digit):
    """Move the lowest digit, −128 … 127, of every int32 in `numbers` to `digit` (int8). A loop of its own, which vectorises."""
    for j in range(numbers.shape[0]):
        number = numbers[j]
        digit[j] = int8(number)  # the cast keeps the lowest 8 bits
        numbers[j] = int32(int32(number + int32(128)) >> int32(8))  # numba would widen the sum to 64 bits


@compiled
def digits(values, planes):
    """Cut every row of `values` [rows, summed] float32 (overwritten) into signed 8-bit digits of integers.

    Args:
        planes: [DIGITS, rows, summed] int8, the result, highest digits first.

    Returns:
        [rows] float32, what 1 in the lowest digit is worth.
    """
    summed, top = values.shape[1], float32(127 * 65536)
    worth, numbers = np.empty(values.shape[0], np.float32), np.empty(summed, np.int32)
    for v in range(values.shape[0]):
        row = values[v]
        bits = int32(0)
        for j in range(summed):  # as integers, magnitudes of floats are in the same order and vectorise
            bits = max(bits, bits_of(row[j]) & int32(0x7FFFFFFF))
        largest = float_of(bits)
        scale = top / largest if largest > 0 else float32(0)
        worth[v] = largest / top
        for j in range(summed):
            numbers[j] = int32(np.rint(row[j] * scale))
        for p in range(DIGITS - 1, 0, -1):
            _take_digit(numbers, planes[p, v])
        digit = planes[0, v]
        for j in range(summed):
            digit[j] = int8(numbers[j])
    return worth


@compiled
def weighted(planes, packed, worth, sums, out, start):
    """out[v, start + i] = worth[v] · Σ of all digits' products; `sums` int32 [DIGITS, vectors, columns] is overwritten."""
    columns = sums.shape[2]
    for p in range(DIGITS):
        multiply(planes[p], packed, sums[p])
    for v in range(planes.shape[1]):
        row, unit = out[v, start : start + columns], worth[v]
        high, middle, low = sums[0, v], sums[1, v], sums[2, v]
        for i in range(columns):
            row[i] = unit * (float32(high[i]) * float32(65536) + float32(middle[i]) * float32(256) + float32(low[i]))


@compiled
def at_inputs(gradient, worth, packed, row_counts, out, first, last):
    """∂L/∂x of vectors `first` to `last`.

    Args:
        gradient: ∂L/∂y [vectors, columns] float32.
        worth: [row blocks, columns] float32, what 1 in the integers of a column is worth at the output.
        packed: The integers of all row blocks, each interleaved from [columns, rows].
        out: [vectors, inputs] float32.
    """
    columns = gradient.shape[1]
    values = np.empty((PART, columns), np.float32)
    planes = np.empty((DIGITS, PART, columns), np.int8)
    sums = np.empty(DIGITS * PART * row_counts.max(), np.int32)
    for begin in range(first, last, PART):
        end = min(begin + PART, last)
        part = end - begin
        start = 0
        for b in range(row_counts.shape[0]):
            for v in range(part):
                row, source, unit = values[v], gradient[begin + v], worth[b]
                for c in range(columns):
                    row[c] = source[c] * unit[c]
            some = planes if part == PART else np.empty((DIGITS, part, columns), np.int8)
            units = digits(values[:part], some)
            size = row_counts[b]
            area = sums[: DIGITS * part * size].reshape(DIGITS, part, size)
            weighted(some, packed[b], units, area, out[begin:end], start)
            start += size


@compiled
def at_codes(gradient, packed, out, first, last):
    """Σ over vectors of ∂L/∂y · code, of columns `first` to `last`.

    Args:
        gradient: ∂L/∂y [vectors, columns] float32.
        packed: The DAC codes, interleaved from [vectors, inputs].
        out: [columns, inputs] float32.
    """
    vectors, inputs = gradient.shape[0], out.shape[1]
    for begin in range(first, last, PART):
        end = min(begin + PART, last)
        part = end - begin
        values = np.empty((part, vectors), np.float32)
        for near in range(0, vectors, LINE):  # as many as share a cache line of the transpose
            for c in range(part):
                column = values[c]
                for v in range(near, min(near + LINE, vectors)):
                    column[v] = gradient[v, begin + c]
        planes = np.empty((DIGITS, part, vectors), np.int8)
        units = digits(values, planes)
        sums = np.empty((DIGITS, part, inputs), np.int32)
        weighted(planes, packed, units, sums, out[begin:end], 0)


def gradients(
    gradient: np.ndarray, integers: np.ndarray, worth: np.ndarray, codes: np.ndarray, row_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(∂L/∂x [vectors, inputs], Σ over vectors of ∂L/∂y · code [outputs, inputs]) of a layer.

    Args:
        gradient: ∂L/∂y [vectors, outputs] float32.
        integers: The weights of the forward pass as 8-bit integers, [row blocks, outputs, rows].
        worth: [row blocks, outputs] float32, what 1 of them is worth at the output.
        codes: DAC codes [vectors, inputs] int8.
        row_counts: [row blocks] inputs of each block.
    """
    vectors, outputs = gradient.shape
    weights = np.empty((len(integers), *_packed_shape(outputs, integers.shape[2])), SIGNED.weights)
    driven = np.empty(_packed_shape(*codes.shape), SIGNED.weights)
    run(lambda block: interleave(integers[block], weights[block], 0, weights.shape[1]), range(len(integers)))
    _share(lambda first, last: interleave(codes, driven, first, last), len(driven), 1)
    to_x, to_codes = np.empty(codes.shape, np.float32), np.empty((outputs, codes.shape[1]), np.float32)
    _share(lambda first, last: at_inputs(gradient, worth, weights, row_counts, to_x, first, last), vectors, PART)
    _share(lambda first, last: at_codes(gradient, driven, to_codes, first, last), outputs, PART)
    return to_x, to_codes


def _packed_shape(summed: int, columns: int) -> tuple[int, int, int, int]:
    return -(-columns // WIDTH), -(-summed // GROUP), WIDTH, GROUP


def _share(work: Callable[[int, int], None], size: int, unit: int) -> None:
    """Run `work(first, last)` over [0, size), every core on its parts, whose lengths are multiples of `unit`."""
    from torch import get_num_threads

    part = -(-size // (get_num_threads() * unit)) * unit
    run(lambda first: work(first, min(first + part, size)), range(0, size, part))
