"""Many products of one analog array in one call.

A row is one product as in `kernels.matvec`; rows differ in the number of the step that names their noise, so the result of a
row does not depend on what it was computed together with.
"""

import math

import numpy as np
from llvmlite import ir
from numba import float32, types, uint32
from numba.core import cgutils
from numba.extending import intrinsic

from analog_glue.in_situ.kernels.lanes import FLOAT, FLOATS, INT, LANES, Lanes, Vector
from analog_glue.in_situ.kernels.matvec import adc_code, analog_product, normals_into
from analog_glue.kernels.jit import compiled

TOGETHER = 4  # rows that share a pass over the weights


@intrinsic
def _multiply(typing_context, out, o, width, matrix, m, columns, codes, stride, count):
    """out[o + r·width + lane] = Σ_k codes[k + r·stride] · matrix[m + k·columns + lane] for `TOGETHER` rows r and all lanes."""

    def emit(context, builder, signature, arguments):
        vector = Vector(context, builder)
        _, o, width, _, m, columns, _, stride, count = arguments
        zero = context.get_constant(types.intp, 0)
        (weights,) = vector.pointer(signature.args[3], arguments[3], m)
        (values,) = vector.pointer(signature.args[6], arguments[6], zero)
        sums = [cgutils.alloca_once(builder, FLOATS) for _ in range(TOGETHER)]
        for total in sums:
            builder.store(vector.constant(0.0, True).value, total)
        with cgutils.for_range(builder, count) as loop:
            row = vector.floats((builder.gep(weights, [builder.mul(loop.index, columns)], source_etype=INT),))
            for r, total in enumerate(sums):
                at = builder.add(loop.index, builder.mul(stride, ir.IntType(64)(r)))
                code = builder.load(builder.bitcast(builder.gep(values, [at], source_etype=INT), FLOAT.as_pointer()))
                added = Lanes(vector, builder.load(total)) + row * vector.all(code)
                builder.store(added.value, total)
        for r, total in enumerate(sums):
            at = builder.add(o, builder.mul(width, ir.IntType(64)(r)))
            vector.store(Lanes(vector, builder.load(total)), vector.pointer(signature.args[0], arguments[0], at))
        return context.get_dummy_value()

    index = types.intp
    return types.void(out, index, index, matrix, index, index, codes, index, index), emit


@compiled
def analog_rows(out, matrix, xs, count, io, scale, purpose, step, array, k0, k1):
    """out[r] = scale · Σ_k xs[r, k] matrix[k] through converters and noise, k < `count`; row r is named by `step` + r.

    Args:
        out: float32 [rows, width].
        matrix: float32 [at least `count`, `width` rounded up to `LANES`, or more].
        xs: float32 [rows, at least `count`].
        io, scale, purpose, step, array: As in `matvec.analog_product`, which does again what saturates.
    """
    width, columns = out.shape[1], matrix.shape[1]
    padded = (width + LANES - 1) // LANES * LANES
    rows, again = np.arange(count), np.empty(count, np.float32)
    normals = np.empty((width + 127) // 128 * 128, np.float32)
    codes, alphas = np.zeros((TOGETHER, count), np.float32), np.zeros(TOGETHER, np.float32)
    sums = np.empty((TOGETHER, padded), np.float32)
    flat_codes, flat_sums, flat_matrix = codes.reshape(-1), sums.reshape(-1), matrix.reshape(-1)
    half, bound, sigma = float32(io.dac_steps * 0.5), float32(io.bound), float32(io.noise)
    lsb = float32(2 * io.bound / io.adc_steps) if io.adc_steps > 0 else float32(0)
    for first in range(0, xs.shape[0], TOGETHER):
        number = min(TOGETHER, xs.shape[0] - first)
        for r in range(number):
            x, code, largest = xs[first + r], codes[r], float32(0)
            for k in range(count):
                largest = max(largest, abs(x[k]))
            alphas[r] = largest
            if io.noise_management:
                inverse = float32(1) / largest if largest > float32(0) else float32(0)
            else:
                inverse = float32(1)
            if io.dac_steps > 0:
                for k in range(count):
                    code[k] = math.floor(min(max(x[k] * inverse, float32(-1)), float32(1)) * half + float32(0.5)) * (
                        float32(1) / half
                    )
            else:
                for k in range(count):
                    code[k] = x[k] * inverse
        for o in range(0, padded, LANES):
            _multiply(flat_sums, o, padded, flat_matrix, o, columns, flat_codes, count, count)
        for r in range(number):
            y, to = sums[r, :width], out[first + r]
            if alphas[r] == float32(0):
                to[:] = float32(0)
                continue
            if io.noise > 0:
                normals_into(normals, width, uint32(step + first + r), uint32(purpose), uint32(array), k0, k1)
                for o in range(width):
                    y[o] += sigma * normals[o]
            clipped = 0
            if bound < float32(1e30):
                for o in range(width):
                    clipped += 1 if abs(y[o]) >= bound else 0
            if clipped > 0 and io.bound_management:
                analog_product(to, matrix, xs[first + r], rows, count, io, scale, purpose, step + first + r, array, k0, k1,
                               again, normals)  # fmt: skip
                continue
            factor = float32((alphas[r] if io.noise_management else float32(1)) * float32(scale))
            if io.adc_steps > 0:
                inverse, unit = float32(1) / lsb, float32(lsb * factor)
                for o in range(width):
                    to[o] = adc_code(y[o], bound, inverse) * unit
            elif bound < float32(1e30):
                for o in range(width):
                    to[o] = min(max(y[o], -bound), bound) * factor
            else:
                for o in range(width):
                    to[o] = y[o] * factor


@compiled
def analog_row(out, matrix, x, count, io, scale, purpose, step, array, k0, k1):
    """`analog_rows` of one row with weights [outputs, at least `count`] that are not turned; out [1, outputs], x [1, …]."""
    codes, normals = np.empty(count, np.float32), np.empty((out.shape[1] + 127) // 128 * 128, np.float32)
    analog_product(out[0], matrix, x[0], np.arange(count), count, io, scale, purpose, step, array, k0, k1, codes, normals, True)
