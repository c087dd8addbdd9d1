"""The two products of a backward pass by instructions for integers, as accurate as in float32 or with gradients of 16 bits.

    ∂L/∂x    = Σ_c ∂L/∂y_c · w_c      w: 8-bit integers times a number per column
    ∂L/∂w    = Σ_v ∂L/∂y_v · k_v      k: 8-bit DAC codes

One factor is an integer of 8 bits to begin with. The other, ∂L/∂y, becomes an integer relative to the largest that is summed
up with it. Instructions for four 8-bit numbers take it cut into signed 8-bit digits, each of them a product with exact sums:

    3 digits   24 bits, finer than the mantissa of a float32 of that size: 0.7 of the time of a float32 product
    2 digits   16 bits, steps of 2⁻¹⁵ of the largest, two thirds of that: finer than bfloat16 for entries above 1/128 of it

Those for two 16-bit numbers (AVX2, AVX-512 without VNNI) take 16 bits whole, in parts short enough for sums of 32 bits, at up
to twice the rate of float32; 24 bits would be no faster than that.

Vectors without any gradient (padding, and in the last layer all tokens but the first) are left out: they add nothing.
"""

from collections.abc import Callable

import numpy as np
from numba import float32, int8, int16, int32

from analog_glue.kernels.integer_gemm import BYTES, PART, SIGNED, multiply
from analog_glue.kernels.jit import bits_of, compiled, float_of
from analog_glue.kernels.parallel import run

GROUP, WIDTH, OFFSET = SIGNED.group, SIGNED.width, SIGNED.offset
OF_BYTES = GROUP == BYTES  # else of 16-bit numbers
PLANE = np.int8 if OF_BYTES else np.int16
WHOLE = 2**15 - 1  # largest 16-bit number of a gradient
SUMMED = 512  # of them times 8-bit numbers, whose sum 32 bits hold: 127 · 32,767 · 512 < 2³¹
PIECES = 4  # of the work for every core, so that none waits long for the last
LINE = 16  # float32 numbers


@compiled
def interleave(numbers, start, columns, packed, first, last):
    """What `integer_gemm.pack` makes of the transpose of `columns` columns of `numbers` from `start` on.

    Args:
        numbers: [summed, all columns] int8.
        packed: [panels, ⌈summed / GROUP⌉, WIDTH, GROUP], 0 where it fills up; panels `first` to `last` of it are written.
    """
    summed = numbers.shape[0]
    for panel in range(first, last):
        at = start + panel * WIDTH
        width = min(WIDTH, start + columns - at)
        for group in range(packed.shape[1]):
            target = packed[panel, group]
            if OF_BYTES and group * GROUP + GROUP <= summed:
                a, b = numbers[group * GROUP, at:], numbers[group * GROUP + 1, at:]
                c, d = numbers[group * GROUP + 2, at:], numbers[group * GROUP + 3, at:]
                for i in range(width):
                    target[i, 0] = a[i] ^ -OFFSET
                    target[i, 1] = b[i] ^ -OFFSET
                    target[i, 2] = c[i] ^ -OFFSET
                    target[i, 3] = d[i] ^ -OFFSET
            else:
                for i in range(width):
                    for r in range(GROUP):
                        row = group * GROUP + r
                        target[i, r] = numbers[row, at + i] ^ -OFFSET if row < summed else 0
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
    """Cut every row of `values` [rows, summed] float32 into signed 8-bit digits of integers.

    Args:
        planes: [digits, rows, summed] int8, the result, highest digits first: 2 or 3 of them.

    Returns:
        [rows] float32, what 1 in the lowest digit is worth.
    """
    count, summed = planes.shape[0], values.shape[1]
    top = float32(127 << 8 * (count - 1))
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
        for p in range(count - 1, 0, -1):
            _take_digit(numbers, planes[p, v])
        digit = planes[0, v]
        for j in range(summed):
            digit[j] = int8(numbers[j])
    return worth


@compiled
def weighted(planes, packed, worth, sums, out, start):
    """out[v, start + i] = worth[v] · Σ of all digits' products; `sums` int32 [digits, vectors, columns] is overwritten."""
    count, columns = planes.shape[0], sums.shape[2]
    for p in range(count):
        multiply(planes[p], packed[0], sums[p])
    for v in range(planes.shape[1]):
        row, unit = out[v, start : start + columns], worth[v]
        if count == 2:
            high, low = sums[0, v], sums[1, v]
            for i in range(columns):
                row[i] = unit * (float32(high[i]) * float32(256) + float32(low[i]))
        else:
            high, middle, low = sums[0, v], sums[1, v], sums[2, v]
            for i in range(columns):
                row[i] = unit * (float32(high[i]) * float32(65536) + float32(middle[i]) * float32(256) + float32(low[i]))


@compiled
def whole(values, planes):
    """Round every row of `values` [rows, summed] float32 to integers of 16 bits.

    Args:
        planes: [parts, rows, size] int16, the result: `size` entries after another, then 0.

    Returns:
        [rows] float32, what 1 in them is worth.
    """
    parts, size, summed = planes.shape[0], planes.shape[2], values.shape[1]
    worth, top = np.empty(values.shape[0], np.float32), float32(WHOLE)
    for v in range(values.shape[0]):
        row = values[v]
        bits = int32(0)
        for j in range(summed):
            bits = max(bits, bits_of(row[j]) & int32(0x7FFFFFFF))
        largest = float_of(bits)
        scale = top / largest if largest > 0 else float32(0)
        worth[v] = largest / top
        for part in range(parts):
            target, source = planes[part, v], row[part * size :]
            used = min(size, source.shape[0])
            for j in range(used):
                target[j] = int16(np.rint(source[j] * scale))
            for j in range(used, size):
                target[j] = 0
    return worth


@compiled
def weighted_whole(planes, packed, worth, sums, out, start):
    """out[v, start + i] = worth[v] · Σ of all parts' products, each with weights of its own; `sums[0]` is overwritten."""
    columns = sums.shape[2]
    for part in range(planes.shape[0]):
        multiply(planes[part], packed[part], sums[0])
        for v in range(planes.shape[1]):
            row, unit, own = out[v, start : start + columns], worth[v], sums[0, v]
            if part == 0:
                for i in range(columns):
                    row[i] = unit * float32(own[i])
            else:
                for i in range(columns):
                    row[i] += unit * float32(own[i])


CUT, JOIN = (digits, weighted) if OF_BYTES else (whole, weighted_whole)


@compiled
def at_inputs(gradient, worth, packed, row_counts, count, size, out, first, last):
    """∂L/∂x of vectors `first` to `last`.

    Args:
        gradient: ∂L/∂y [vectors, columns] float32.
        worth: [row blocks, columns] float32, what 1 in the integers of a column is worth at the output.
        packed: The integers of all row blocks, the parts of each interleaved from [size, rows].
        count, size: Digits of ∂L/∂y and its columns; or parts of it, and columns of a part.
        out: [vectors, inputs] float32.
    """
    columns = gradient.shape[1]
    values = np.empty((PART, columns), np.float32)
    planes = np.empty((count, PART, size), PLANE)
    sums = np.empty(count * PART * row_counts.max(), np.int32)
    for begin in range(first, last, PART):
        end = min(begin + PART, last)
        part = end - begin
        start = 0
        for b in range(row_counts.shape[0]):
            for v in range(part):
                row, source, unit = values[v], gradient[begin + v], worth[b]
                for c in range(columns):
                    row[c] = source[c] * unit[c]
            some = planes if part == PART else np.empty((count, part, size), PLANE)
            units = CUT(values[:part], some)
            rows = row_counts[b]
            area = sums[: count * part * rows].reshape(count, part, rows)
            JOIN(some, packed[b], units, area, out[begin:end], start)
            start += rows


@compiled
def at_codes(gradient, packed, count, size, out, first, last):
    """Σ over vectors of ∂L/∂y · code, of columns `first` to `last`.

    Args:
        gradient: ∂L/∂y [vectors, columns] float32.
        packed: The DAC codes, their parts interleaved from [size, inputs].
        count, size: Digits of ∂L/∂y and its vectors; or parts of it, and vectors of a part.
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
        planes = np.empty((count, part, size), PLANE)
        units = CUT(values, planes)
        sums = np.empty((count, part, inputs), np.int32)
        JOIN(planes, packed, units, sums, out[begin:end], 0)


@compiled
def find_nonzero(gradient, found):
    """Which vectors of `gradient` [vectors, columns] have any entry but 0: their indices into `found`, and how many.

    Bits are compared: compiled as free of NaN, a comparison of floats takes one for 0.
    """
    count = 0
    for v in range(gradient.shape[0]):
        row = gradient[v]
        for c in range(row.shape[0]):
            if bits_of(row[c]) & int32(0x7FFFFFFF) != 0:
                found[count] = v
                count += 1
                break
    return count


def gradients(
    gradient: np.ndarray,
    integers: np.ndarray,
    worth: np.ndarray,
    codes: np.ndarray,
    row_counts: np.ndarray,
    count: int = 3,
) -> tuple[np.ndarray, np.ndarray]:
    """(∂L/∂x [vectors, inputs], Σ over vectors of ∂L/∂y · code [outputs, inputs]) of a layer.

    Args:
        gradient: ∂L/∂y [vectors, outputs] float32.
        integers: The weights of the forward pass as 8-bit integers, [outputs, inputs].
        worth: [row blocks, outputs] float32, what 1 of them is worth at the output.
        codes: DAC codes [vectors, inputs] int8.
        row_counts: [row blocks] inputs of each block.
        count: Digits of 8 bits that ∂L/∂y has: 3, or 2 for `training.precision=int16`; 2 alone by instructions for 16 bits.
    """
    (vectors, outputs), inputs = gradient.shape, codes.shape[1]
    found = np.empty(vectors, np.int64)
    found = found[: find_nonzero(gradient, found)]
    if len(found) == 0:
        return np.zeros((vectors, inputs), np.float32), np.zeros((outputs, inputs), np.float32)
    if len(found) < vectors:
        gradient, codes = gradient[found], codes[found]
    to_x, to_codes = np.empty((len(found), inputs), np.float32), np.empty((outputs, inputs), np.float32)

    of_outputs, of_vectors = _parts(outputs), _parts(len(found))
    weights = np.empty((len(row_counts), *_packed_shape(*of_outputs, row_counts.max())), SIGNED.weights)
    driven = np.empty(_packed_shape(*of_vectors, inputs), SIGNED.weights)
    starts = np.cumsum(row_counts) - row_counts

    def pack_weights(b: int) -> None:
        for part, own in enumerate(_part_of(integers, *of_outputs)):
            interleave(own, starts[b], row_counts[b], weights[b, part], 0, weights.shape[2])

    def pack_codes(first: int, last: int) -> None:
        for part, own in enumerate(_part_of(codes, *of_vectors)):
            interleave(own, 0, inputs, driven[part], first, last)

    run(pack_weights, range(len(row_counts)))
    _share(pack_codes, driven.shape[1], 1)
    at_x, at_k = (((count if OF_BYTES else parts), size) for parts, size in (of_outputs, of_vectors))
    _share(lambda first, last: at_inputs(gradient, worth, weights, row_counts, *at_x, to_x, first, last), len(found), PART)
    _share(lambda first, last: at_codes(gradient, driven, *at_k, to_codes, first, last), outputs, PART)
    if len(found) < vectors:
        compact, to_x = to_x, np.zeros((vectors, inputs), np.float32)
        to_x[found] = compact
    return to_x, to_codes


def _parts(summed: int) -> tuple[int, int]:
    """In how many parts a sum is formed, and what a part sums up: all of it, or as much as 32 bits hold of 16-bit numbers."""
    if OF_BYTES:
        return 1, summed
    parts = -(-summed // SUMMED)
    return parts, -(-summed // (parts * GROUP)) * GROUP


def _part_of(numbers: np.ndarray, parts: int, size: int) -> list[np.ndarray]:
    """The rows of every part; the last may have fewer."""
    return [numbers[part * size : (part + 1) * size] for part in range(parts)]


def _packed_shape(parts: int, summed: int, columns: int) -> tuple[int, int, int, int, int]:
    return parts, -(-columns // WIDTH), -(-summed // GROUP), WIDTH, GROUP


def _share(work: Callable[[int, int], None], size: int, unit: int) -> None:
    """Run `work(first, last)` over [0, size), cut at multiples of `unit` into some pieces for every core."""
    from torch import get_num_threads

    part = max(1, -(-size // (get_num_threads() * PIECES * unit))) * unit
    run(lambda first: work(first, min(first + part, size)), range(0, size, part))
