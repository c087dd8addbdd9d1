"""One analog matrix-vector product at a time, compiled: converters, noise and their management, forward and transposed.

    α = max |x|                                   noise management: the largest input drives the full range
    q = DAC(x / (α s))                            steps of 2 / dac_steps on [−1, 1];  s = 1 at first
    y = ADC(W q + σ ξ)                            steps of 2 bound / adc_steps on [−bound, bound]
    s ← 2 s and again while any |y| ≥ bound       bound management, forward only
    result = y · α s

after Gokmen & Vlasov (2016) and Gokmen et al. (2017, 2018). A product weighs rows of a matrix, `out = Σ_k values_k matrix[k]`,
so a transposed copy of the weights goes forward and the weights themselves go backward; rows that are not named are not
touched. `transposed` says that `matrix` is [outputs, inputs] and goes forward without a copy.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import float32, uint32

from analog_glue.in_situ.kernels.lanes import LANES
from analog_glue.in_situ.kernels.pulsed import draw_256_normals, draw_normals
from analog_glue.kernels.jit import compiled, inlined

FORWARD, BACKWARD, READ = 8, 32, 56  # purposes of random words; FORWARD + r is the r-th attempt of bound management
MOST_HALVINGS = 10


class IO(NamedTuple):
    """Converters and noise of one array, in units where an input of 1 and a weight of 1 make an output of 1."""

    dac_steps: float  # of the full range [−1, 1]; 0: none
    adc_steps: float  # of the full range [−bound, bound]; 0: none
    bound: float  # largest output
    noise: float  # σ of every output
    noise_management: bool
    bound_management: bool


PERFECT = IO(0.0, 0.0, math.inf, 0.0, False, False)


@inlined
def adc_code(y, bound, inverse):
    """The number of ADC steps that an output becomes; `inverse` is 1 / step."""
    return float32(math.floor(min(max(y, -bound), bound) * inverse + float32(0.5)))


@compiled
def weighted_rows(out, matrix, values, rows, count):
    """out = Σ_k values_k · matrix[rows_k], k < `count`."""
    width = out.shape[0]
    for o in range(width):
        out[o] = float32(0)
    k = 0
    while k + 4 <= count:
        a, b, c, d = matrix[rows[k]], matrix[rows[k + 1]], matrix[rows[k + 2]], matrix[rows[k + 3]]
        p, q, r, s = values[k], values[k + 1], values[k + 2], values[k + 3]
        for o in range(width):
            out[o] += (p * a[o] + q * b[o]) + (r * c[o] + s * d[o])
        k += 4
    while k < count:
        a, p = matrix[rows[k]], values[k]
        for o in range(width):
            out[o] += p * a[o]
        k += 1


@compiled
def dots(out, matrix, values):
    """out_o = Σ_i matrix[o, i] · values_i: for a matrix that changes with every sample, so that no transposed copy pays."""
    width = values.shape[0]
    for o in range(out.shape[0]):
        row = matrix[o]
        total = float32(0)
        for i in range(width):
            total += row[i] * values[i]
        out[o] = total


@compiled
def normals_into(normals, count, c1, c2, c3, k0, k1):
    """At least `count` standard normal numbers into `normals`, whose size is a multiple of 128."""
    z = 0
    while z + 128 < count:
        draw_256_normals(normals[z : z + 256], uint32(z // 8), c1, c2, c3, k0, k1)
        z += 256
    if z < count:
        draw_normals(normals[z : z + 128], uint32(z // 8), c1, c2, c3, k0, k1)


@compiled
def analog_product(out, matrix, x, rows, count, io, scale, purpose, step, array, k0, k1, codes, normals, transposed=False):
    """out = scale · Σ_k x[rows_k] matrix[rows_k] through converters and noise.

    Args:
        out: float32 (width,), width ≤ columns of `matrix`.
        matrix: float32 [any, columns].
        x: float32 [any]; only the entries `rows[: count]` are looked at.
        io: `IO`.
        scale: Digital factor of the result.
        purpose, step, array: Name the noise.
        transposed: Whether rows of `matrix` are outputs; `rows` must then count 0 … `count` − 1.
        codes, normals: Work space: as many as `rows`; as many as `out`, rounded up to a multiple of 128.

    Returns:
        Number of outputs that were clipped in the last attempt.
    """
    width = out.shape[0]
    largest = float32(0)
    for k in range(count):
        largest = max(largest, abs(x[rows[k]]))
    if largest == float32(0):
        out[:] = float32(0)
        return 0
    alpha = largest if io.noise_management else float32(1)
    bound = float32(io.bound)
    attempt, clipped = 0, 0
    while True:
        inverse = float32(1) / alpha
        if io.dac_steps > 0:
            half = float32(io.dac_steps * 0.5)
            for k in range(count):
                code = math.floor(min(max(x[rows[k]] * inverse, float32(-1)), float32(1)) * half + float32(0.5))
                codes[k] = float32(code) / half
        else:
            for k in range(count):
                codes[k] = x[rows[k]] * inverse
        if transposed:
            dots(out, matrix, codes[:count])
        else:
            weighted_rows(out, matrix, codes, rows, count)
        if io.noise > 0:
            normals_into(normals, width, uint32(step), uint32(purpose + attempt), uint32(array), k0, k1)
            sigma = float32(io.noise)
            for o in range(width):
                out[o] += sigma * normals[o]
        clipped = 0
        if bound < float32(1e30):
            for o in range(width):
                clipped += 1 if abs(out[o]) >= bound else 0
        if clipped > 0 and io.bound_management and attempt < MOST_HALVINGS:
            alpha = float32(alpha * float32(2))
            attempt += 1
            continue
        break
    factor = float32(alpha * float32(scale))
    if io.adc_steps > 0:
        lsb = float32(2 * io.bound / io.adc_steps)
        inverse = float32(1) / lsb
        for o in range(width):
            out[o] = adc_code(out[o], bound, inverse) * (lsb * factor)
    elif bound < float32(1e30):
        for o in range(width):
            out[o] = min(max(out[o], -bound), bound) * factor
    else:
        for o in range(width):
            out[o] *= factor
    return clipped


@compiled
def converted(y, io):
    """One output behind the ADC."""
    if not io.bound < 1e30:
        return float32(y)
    y = min(max(float32(y), float32(-io.bound)), float32(io.bound))
    if io.adc_steps > 0:
        lsb = float32(2 * io.bound / io.adc_steps)
        y = float32(math.floor(y / lsb + float32(0.5))) * lsb
    return y


@compiled
def transpose(out, matrix):
    """out[i, o] = matrix[o, i], in tiles that stay in the cache; `out` may have columns of padding beyond `o`."""
    outputs, inputs = matrix.shape
    for first in range(0, outputs, LANES):
        last = min(first + LANES, outputs)
        for i in range(inputs):
            for o in range(first, last):
                out[i, o] = matrix[o, i]


def all_rows(count: int) -> np.ndarray:
    """Row numbers 0 … count − 1 for `analog_product`."""
    return np.arange(count, dtype=np.int64)
