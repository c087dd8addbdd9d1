"""Random numbers without a state: number i of stream k is a function of (k, i), whoever computes it and when.

Threefry-4x32 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a block cipher of additions, rotations
and exclusive ors on four 32-bit words, encrypting a 128-bit counter. No multiplication, so a loop over counters fills the
vector units (0.25 ns a word on one core with AVX-512, where Philox-4x32-10 takes five times as long). 12 rounds pass
BigCrush; one more is the authors' margin. Words become normal numbers in pairs (Box & Muller 1958), which reach 5.9 σ.

Four counter words name a number within a stream; kernels say how they use them. Everything here is for use inside kernels.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import float32, int32, uint32

from analog_glue.kernels.jit import bits_of, compiled, float_of, inlined

ROUNDS = 13
ROW = 4096  # numbers that `fill` makes at a time; part of what a key means
ROTATIONS = ((10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20))
PARITY = 0x1BD11BDA

# Least-squares fits with equalised errors; what float32 arithmetic loses is more than their own 4·10⁻⁸.
LOG = (1.0, -0.4999993145465851, 0.3333303928375244, -0.25008028748645251, 0.20017790794372559, -0.16412784159183502,
       0.1390346735715866, -0.15403233468532562, 0.14434927701950073)  # fmt: skip  # ln(1 + m) / m, |m| ≤ 1/3
SINE = (3.1415927410125732, -5.167710304260254, 2.5500776767730713, -0.5982921719551086, 0.07765940576791763)  # sin(πy) / y
COSINE = (1.0, -4.934802055358887, 4.058709144592285, -1.3352121114730835, 0.23493756353855133, -0.024396715685725212)


@inlined
def _rotated(word, by):
    return uint32((word << uint32(by)) | (word >> uint32(32 - by)))


def _cipher(rounds: int) -> str:
    """The rounds written out one after another: a loop over them would keep the loop over counters from vectorising."""
    lines = ["def threefry(a, b, c, d, k0, k1, k2, k3):"]
    lines += ["    k4 = uint32(k0 ^ k1 ^ k2 ^ k3 ^ uint32(PARITY))"]
    lines += [f"    {word} = uint32({word} + k{i})" for i, word in enumerate("abcd")]
    for done in range(rounds):
        first, second = ROTATIONS[done % 8]
        b, d = ("b", "d") if done % 2 == 0 else ("d", "b")
        lines += [f"    a = uint32(a + {b}); {b} = uint32(rotated({b}, {first}) ^ a)"]
        lines += [f"    c = uint32(c + {d}); {d} = uint32(rotated({d}, {second}) ^ c)"]
        if done % 4 == 3:
            part = done // 4 + 1
            lines += [f"    {word} = uint32({word} + k{(part + i) % 5})" for i, word in enumerate("abcd")]
            lines += [f"    d = uint32(d + uint32({part}))"]
    return "\n".join([*lines, "    return a, b, c, d"])


def make_threefry(rounds: int) -> Callable[..., tuple]:
    """(four counter words, four key words) → four random words, all uint32."""
    namespace: dict[str, Any] = {"uint32": uint32, "rotated": _rotated, "PARITY": PARITY}
    exec(_cipher(rounds), namespace)
    return inlined(namespace["threefry"])


threefry = make_threefry(ROUNDS)


@inlined
def radius(word):
    """√(−2 ln u) of a uniform number u ∈ (0, 1] with 24 bits: the length of a pair of normal numbers."""
    u = float32(int32(word >> uint32(8))) * float32(2.0**-24) + float32(2.0**-25)
    bits = bits_of(u)
    # So that the mantissa lies in [2/3, 4/3); numba would widen a difference to 64 bits.
    exponent = int32(int32(bits - int32(0x3F2AAAAB)) >> int32(23))
    m = float_of(int32(bits - int32(exponent << int32(23)))) - float32(1)
    p = float32(LOG[8])
    p = p * m + float32(LOG[7])
    p = p * m + float32(LOG[6])
    p = p * m + float32(LOG[5])
    p = p * m + float32(LOG[4])
    p = p * m + float32(LOG[3])
    p = p * m + float32(LOG[2])
    p = p * m + float32(LOG[1])
    p = p * m + float32(LOG[0])
    log = p * m + float32(exponent) * float32(0.6931471805599453)
    return math.sqrt(max(float32(-2) * log, float32(0)))


@inlined
def direction(word):
    """(sin φ, cos φ) of a uniform angle φ ∈ [−π, π)."""
    x = float32(int32(word)) * float32(2.0**-31)  # φ / π
    y = float32(0.5) - abs(x)  # cos φ = sin πy and |sin φ| = cos πy
    z = y * y
    s = float32(SINE[4])
    s = s * z + float32(SINE[3])
    s = s * z + float32(SINE[2])
    s = s * z + float32(SINE[1])
    s = (s * z + float32(SINE[0])) * y
    c = float32(COSINE[5])
    c = c * z + float32(COSINE[4])
    c = c * z + float32(COSINE[3])
    c = c * z + float32(COSINE[2])
    c = c * z + float32(COSINE[1])
    c = c * z + float32(COSINE[0])
    return math.copysign(c, x), s


@inlined
def four_normals(c0, c1, c2, c3, k0, k1):
    """Four standard normal numbers of counter (c0, c1, c2, c3) in the stream of key (k0, k1), all uint32."""
    a, b, c, d = threefry(c0, c1, c2, c3, k0, k1, uint32(0), uint32(0))
    first, second = radius(a), radius(c)
    sine, cosine = direction(b)
    sine2, cosine2 = direction(d)
    return first * sine, first * cosine, second * sine2, second * cosine2


@inlined
def fill_row(out, numbers, c1, c2, c3, k0, k1):
    """`numbers` standard normal numbers into out[0 : 4·⌈numbers / 4⌉]; counters (0 …, c1, c2, c3) of key (k0, k1)."""
    quarter = (numbers + 3) // 4
    for i in range(quarter):
        z0, z1, z2, z3 = four_normals(uint32(i), c1, c2, c3, k0, k1)
        out[i] = z0
        out[i + quarter] = z1
        out[i + 2 * quarter] = z2
        out[i + 3 * quarter] = z3


@compiled
def fill(out, row, k0, k1):
    """Standard normal numbers into the contiguous float32 array `out`, in rows of `ROW`, the first of them number `row`.

    A stream does not depend on how a tensor is cut at multiples of `ROW`. The last row may be shorter.
    """
    buffer = np.empty(ROW, np.float32)
    for start in range(0, out.shape[0], ROW):
        fill_row(buffer, ROW, uint32(row), uint32(0), uint32(0), k0, k1)
        taken = out[start : start + ROW]
        taken[:] = buffer[: taken.shape[0]]
        row += 1


@compiled
def words(out, c1, c2, c3, k0, k1, k2, k3):
    """Random words of the counters (0 …, c1, c2, c3) into `out` [counters, 4] uint32: what the tests look at."""
    for i in range(out.shape[0]):
        a, b, c, d = threefry(uint32(i), c1, c2, c3, k0, k1, k2, k3)
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = a, b, c, d
