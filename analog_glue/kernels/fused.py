"""What happens around a product of integers, compiled: DAC before it; noise, ADC, scale and sum over row blocks after it.

Each kernel is one pass over its rows, from cache to cache. Where no noise is drawn the arithmetic is that of the reference
operation for operation, hence the same bits: every float is the result of one rounding, nothing is contracted.

Noise of a product: number i of the row (vector v, row block b) is a function of (key, i, v, b), so it depends neither on
how vectors are cut into chunks nor on the number of threads.
"""

import numpy as np
from numba import float32, int8, int32, uint32

from analog_glue.kernels.block_product import LARGEST_SQUARE
from analog_glue.kernels.jit import compiled, exact, multiplied_added
from analog_glue.kernels.threefry import SHARE, scale_row


@compiled
def noise_row(row, numbers, vector, block, k0, k1):
    """Normal numbers of the variances in `row`, one row of outputs filled up to a multiple of `SHARE`, in their place."""
    scale_row(row, numbers, uint32(vector), uint32(block), uint32(1), k0, k1)


@exact
def drive(x, per_input, full_scale, row_counts, dither, codes, rows, squares, worth):
    """DAC: codes = round(x · per_input), clipped to ±full_scale; then each row block's own inputs, ready for its product.

    Args:
        x: [vectors, inputs] float32.
        per_input: [inputs] float32, codes per unit of x.
        full_scale: Largest code, at most 127.
        row_counts: [row blocks] inputs of each block.
        dither: [rows] float32 in [0, 1); what is added before squares are rounded down (kernels/products.py).
        codes: [vectors, inputs] int8.
        rows: [row blocks, vectors, rows] int8; padded rows become 0.
        squares: The same shape, or [0, 0, 0] without read noise: code², see `take_squares`.
        worth: [row blocks, vectors] float32, what 1 in them is worth in code²; or [0, 0].
    """
    wanted = squares.shape[0] > 0
    for v in range(x.shape[0]):
        row, code = x[v], codes[v]
        for j in range(x.shape[1]):
            rounded = np.rint(row[j] * per_input[j])
            code[j] = int8(min(max(rounded, -full_scale), full_scale))
        start = 0
        for b in range(rows.shape[0]):
            count = row_counts[b]
            source, target = code[start : start + count], rows[b, v]
            for j in range(count):
                target[j] = source[j]
            for j in range(count, rows.shape[2]):
                target[j] = 0
            if wanted:
                worth[b, v] = take_squares(target, dither, squares[b, v])
            start += count


@exact
def take_squares(codes, dither, squares):
    """The squares of `codes` (int8) as 8-bit numbers, rounded down after `dither`; returns what 1 is worth."""
    largest = int32(0)
    for j in range(codes.shape[0]):
        largest = max(largest, abs(int32(codes[j])))
    energy = float32(largest * largest)
    per_unit = float32(LARGEST_SQUARE) / energy if largest > 0 else float32(0)
    for j in range(codes.shape[0]):
        number = float32(codes[j])
        squares[j] = int8(number * number * per_unit + dither[j])
    return energy / float32(LARGEST_SQUARE)


@exact
def find_beyond(x, ranges, places):
    """Where |x| exceeds its range: how many such inputs there are; with room for them in `places`, also which.

    Args:
        x: [vectors, inputs] float32.
        ranges: [inputs] float32.
        places: int64 indices into x flattened, as many as there are; or empty.
    """
    found = 0
    for v in range(x.shape[0]):
        row = x[v]
        count = 0
        for j in range(x.shape[1]):
            count += abs(row[j]) > ranges[j]
        if count > 0 and places.shape[0] > 0:
            place = found
            for j in range(x.shape[1]):
                if abs(row[j]) > ranges[j]:
                    places[place] = v * x.shape[1] + j
                    place += 1
        found += count
    return found


@exact
def lose_on_wires(sums, ramped, loads, halves, units, full_scale, per_load, factor, currents):
    """Currents less what is lost along the wires of their columns (tiles/ir_drop.py), as the reference rounds it.

    Args:
        sums, ramped, loads: int32 [row blocks, vectors, columns] of weights, weights × position and magnitudes; with `halves`
            [row blocks, vectors, 2 · columns].
        units: (float32, float32, float32) that these are multiplied by.
        full_scale: Largest code of the DAC; loads are in units of it.
        per_load: [row blocks] float32, a of a load of 1.
        factor: −ir_drop, in units of the currents.
        currents: [row blocks, vectors, columns] float32, the result.
    """
    columns = currents.shape[2]
    own, lost, load = np.empty(columns, np.float32), np.empty(columns, np.float32), np.empty(columns, np.float32)
    for b in range(currents.shape[0]):
        for v in range(currents.shape[1]):
            in_real_units(sums[b, v], halves, units[0], own)
            in_real_units(ramped[b, v], halves, units[1], lost)
            in_real_units(loads[b, v], halves, units[2], load)
            row = currents[b, v]
            for i in range(columns):
                a = load[i] / full_scale * per_load[b]
                s = ((a * float32(0.05) - float32(0.2)) * a + float32(0.5)) * a
                row[i] = multiplied_added(factor * s, lost[i], own[i])


@exact
def in_real_units(sums, halves, unit, out):
    """`sums` of one vector, with `halves` those of upper and lower halves of the weights, times `unit`."""
    columns = out.shape[0]
    if halves:
        lower = sums[columns:]
        for i in range(columns):
            out[i] = float32(sums[i] * 128 + lower[i]) * unit
    else:
        for i in range(columns):
            out[i] = float32(sums[i]) * unit


@exact
def variances_of(sums, worth, unit, out):
    """`sums` int32 [row blocks, vectors, columns] times the vector's `worth` [row blocks, vectors], times `unit`."""
    for b in range(sums.shape[0]):
        for v in range(sums.shape[1]):
            own, row, of_one = sums[b, v], out[b, v], worth[b, v]
            for i in range(row.shape[0]):
                row[i] = float32(own[i]) * of_one * unit


@exact
def digitise(
    sums,
    halves,
    variances,
    worth,
    rest,
    share,
    unit,
    variance_unit,
    output_variance,
    noisy,
    full_scale,
    step,
    bias,
    first,
    k0,
    k1,
    out,
    clipped,
):
    """From currents to the layer's output: read and output noise in one draw, ADC, digital scale, sum over row blocks.

    Args:
        sums: [row blocks, vectors, columns] float32 or int32 currents; with `halves` int32 [row blocks, vectors, 2 · columns],
            the upper and the lower halves of the weights side by side.
        variances: [row blocks, vectors, columns] Σ|w|x², or [0, 0, 0] without read noise.
        worth: [row blocks, vectors] float32 that each vector's are multiplied by; or [0, 0].
        rest, share: [row blocks, vectors] and [row blocks, columns] float32 whose products are added to them; or [0, 0].
        unit, variance_unit: What 1 in `sums` and, times its vector's `worth`, in `variances` is worth, in LSB and LSB².
        output_variance: [LSB²]
        full_scale: Largest code of the ADC; 0 for an ideal ADC.
        step: [row blocks, columns] float32, what an LSB is worth at the layer's output.
        bias: [columns] float32.
        first: Index of the first vector within the whole call.
        out: [vectors, columns] float32.
        clipped: int8 [row blocks, vectors, columns], set to −1, 0 or +1 where the ADC clips; or [0, 0, 0].

    Returns:
        How many ADC outputs clip.
    """
    columns = out.shape[1]
    row = np.empty(columns, np.float32)
    noise = np.empty(columns + SHARE, np.float32)
    has_variance, has_rest = variances.shape[0] > 0, rest.shape[0] > 0
    wants_clipped = clipped.shape[0] > 0
    saturated = 0
    for v in range(out.shape[0]):
        summed = out[v]
        for b in range(step.shape[0]):
            current = sums[b, v]
            if halves:
                lower = current[columns:]
                for i in range(columns):
                    row[i] = float32(current[i] * 128 + lower[i]) * unit
            else:
                for i in range(columns):
                    row[i] = float32(current[i]) * unit
            if noisy:
                if has_variance:
                    variance, of_one = variances[b, v], worth[b, v] * variance_unit
                    if has_rest:
                        of_column, of_rest = share[b], rest[b, v] * variance_unit
                        for i in range(columns):
                            noise[i] = float32(variance[i]) * of_one + (of_column[i] * of_rest + output_variance)
                    else:
                        for i in range(columns):
                            noise[i] = float32(variance[i]) * of_one + output_variance
                else:
                    for i in range(columns):
                        noise[i] = output_variance
                for i in range(columns, columns + SHARE):
                    noise[i] = 0
                noise_row(noise, columns, first + v, b, k0, k1)
                for i in range(columns):
                    row[i] += noise[i]
            if full_scale > 0:
                count = 0
                for i in range(columns):
                    code = np.rint(row[i])
                    code = min(max(code, -full_scale), full_scale)
                    count += abs(code) == full_scale
                    row[i] = code
                saturated += count
                if wants_clipped:
                    mark = clipped[b, v]
                    if count == 0:
                        mark[:] = 0
                    else:
                        for i in range(columns):
                            mark[i] = int8(row[i] / full_scale)
            scale = step[b]
            if b == 0:
                for i in range(columns):
                    summed[i] = row[i] * scale[i]
            else:
                for i in range(columns):
                    summed[i] += row[i] * scale[i]
        for i in range(columns):
            summed[i] += bias[i]
    return saturated
