"""Phase-change memory, compiled: one pass writes normalised weights into devices, one gives the weights of a later time.

The laws and their coefficients are those of devices/pcm.py, which stays the text to read. Both passes take the numbers `first`
to `last` of flat arrays, `first` a multiple of `ROW`, and the normal numbers that `fill_normal` gives the same arrays. What is
remembered as float16 is read and written as int16, because numba has no numbers of 16 bits.
"""

import numpy as np
from numba import float32, int8, int16, int32

from analog_glue.kernels.jit import bits_of, compiled, exact, float_of, inlined
from analog_glue.kernels.threefry import ROW, stream_row

# log₂(1 + m) / m for |m| ≤ 1/3 and 2^f for |f| ≤ 1/2: least-squares fits with equalised errors of 2·10⁻⁷ and 9·10⁻⁸.
LOG2 = (1.4426947832107544, -0.7213457226753235, 0.4809655249118805, -0.36084744334220886, 0.28558164834976196,
        -0.23574474453926086, 0.24686434864997864, -0.22757907211780548)  # fmt: skip
EXP2 = (1.0, 0.6931470036506653, 0.24022242426872253, 0.05550733581185341, 0.009671512991189957, 0.001326472731307149)


@inlined
def log2(x):
    """log₂ x of a positive float32."""
    bits = bits_of(x)
    # So that the mantissa lies in [2/3, 4/3); numba would widen a difference to 64 bits.
    exponent = int32(int32(bits - int32(0x3F2AAAAB)) >> int32(23))
    m = float_of(int32(bits - int32(exponent << int32(23)))) - float32(1)
    p = float32(LOG2[7])
    p = p * m + float32(LOG2[6])
    p = p * m + float32(LOG2[5])
    p = p * m + float32(LOG2[4])
    p = p * m + float32(LOG2[3])
    p = p * m + float32(LOG2[2])
    p = p * m + float32(LOG2[1])
    p = p * m + float32(LOG2[0])
    return p * m + float32(exponent)


@inlined
def exp2(x):
    """2^x of a float32, exactly 1 at 0; beyond what a float32 holds it stays at 2^−126 and 2^127."""
    x = min(max(x, float32(-126)), float32(127))
    whole = np.rint(x)
    f = x - whole
    p = float32(EXP2[5])
    p = p * f + float32(EXP2[4])
    p = p * f + float32(EXP2[3])
    p = p * f + float32(EXP2[2])
    p = p * f + float32(EXP2[1])
    p = p * f + float32(EXP2[0])
    return p * float_of(int32(int32(int32(whole) + int32(127)) << int32(23)))


@inlined
def half_of(x):
    """The 16 bits of the float16 nearest to a float32, ties to even; in integers, for CPUs without the instruction too."""
    bits = bits_of(x)
    size = int32(bits & int32(0x7FFFFFFF))
    odd = int32(int32(size >> int32(13)) & int32(1))
    normal = int32(int32(int32(size + int32(0xFFF)) + odd) >> int32(13)) - int32(112 << 10)
    # Below 2⁻¹⁴ steps of a float16 are those of a float32 at ½.
    small = int32(bits_of(float_of(size) + float32(0.5)) - int32(0x3F000000))
    rounded = small if size < int32(0x38800000) else min(int32(normal), int32(0x7C00))
    return int16(int32(int32(bits >> int32(16)) & int32(0x8000)) | int32(rounded))


@inlined
def of_half(bits):
    """The float32 of a finite float16's 16 bits."""
    size = float_of(int32(int32(int32(bits) & int32(0x7FFF)) << int32(13))) * float32(2.0**112)
    return float_of(int32(bits_of(size) | int32(int32(int32(bits) & int32(0x8000)) << int32(16))))


@exact
def program(
    weights, g_max, ghat_floor, error_fit, error_scale, mean_fit, spread_fit, drift_spread, without_mean, keys,
    g_target, sign, error, nu, first, last,
):  # fmt: skip
    """Write weights into the active devices of pairs whose idle ones stay at 0.

    Args:
        weights: float32 in [−1, 1].
        g_max: [µS]
        error_fit: (c0, c1, c2) of σ_prog / g_max in ĝ, lowest power first; `error_scale` [µS] multiplies it.
        mean_fit, spread_fit: (slope in ln ĝ, offset, lower, upper limit) of the drift exponent's mean and spread.
        drift_spread: Factor on the spread; `without_mean`: the share of the mean that is taken out.
        keys: Two keys of two words each: of the programming errors and of the drift exponents.
        g_target: float32 [µS], sign: int8, error: float16 [µS], nu: float16: what is remembered, the shape of `weights`.

    Returns:
        Largest |weight|; NaN if one is.
    """
    xi = np.empty(ROW, np.float32)
    c0, c1, c2 = error_fit
    slope, offset, low, high = mean_fit
    slope_of_spread, offset_of_spread, low_spread, high_spread = spread_fit
    ln2 = float32(0.6931471805599453)
    largest = int32(0)
    for start in range(first, last, ROW):
        end = min(start + ROW, last)
        w, target, signs = weights[start:end], g_target[start:end], sign[start:end]
        for i in range(end - start):
            largest = max(largest, bits_of(w[i]) & int32(0x7FFFFFFF))
        for i in range(end - start):
            target[i] = abs(w[i]) * g_max
            signs[i] = int8(w[i] > 0) - int8(w[i] < 0)
        stream_row(xi, start // ROW, keys[0], keys[1])
        errors = error[start:end]
        for i in range(end - start):
            ghat = target[i] / g_max
            std = max((ghat * c2 + c1) * ghat + c0, float32(0))
            reached = xi[i] * std * error_scale
            errors[i] = half_of(reached if target[i] != 0 else float32(0))
        stream_row(xi, start // ROW, keys[2], keys[3])
        exponents = nu[start:end]
        for i in range(end - start):
            log = log2(max(target[i] / g_max, ghat_floor)) * ln2
            mean = min(max(log * slope + offset, low), high)
            spread = min(max(log * slope_of_spread + offset_of_spread, low_spread), high_spread)
            exponents[i] = half_of(abs(mean + spread * xi[i] * drift_spread) - without_mean * mean)
    return float_of(largest)


@compiled
def age(
    g_target, sign, error, nu, g_max, ghat_floor, decades, read_noise_fit, growth, k0, k1, weights, first, last
):  # fmt: skip
    """The weights of devices that `program` wrote, at one time.

    Args:
        decades: ln((t + t_c) / t_c), over which conductances fall by e^−ν.
        read_noise_fit: (scale, exponent, limit) of Q_s in ĝ; `growth` multiplies it.
        k0, k1: Key of the 1/f noise.
        weights: float32, normalised, the result.
    """
    xi = np.empty(ROW, np.float32)
    scale, exponent, limit = read_noise_fit
    halvings = decades * float32(-1.4426950408889634)
    for start in range(first, last, ROW):
        end = min(start + ROW, last)
        target, signs, errors, exponents, w = (
            g_target[start:end], sign[start:end], error[start:end], nu[start:end], weights[start:end],
        )  # fmt: skip
        stream_row(xi, start // ROW, k0, k1)
        for i in range(end - start):
            ghat = max(target[i] / g_max, ghat_floor)
            xi[i] = float32(1) + growth * min(scale * exp2(-exponent * log2(ghat)), limit) * xi[i]
        for i in range(end - start):
            drifted = exp2(of_half(exponents[i]) * halvings) * max(of_half(errors[i]) + target[i], float32(0))
            w[i] = max(drifted * xi[i], float32(0)) * float32(signs[i]) / g_max
