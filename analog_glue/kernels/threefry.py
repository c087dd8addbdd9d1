"""Random numbers without a state: number i of stream k is a function of (k, i), whoever computes it and when.

Threefry-4x32 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a block cipher of additions, rotations
and exclusive ors on four 32-bit words, encrypting a 128-bit counter. No multiplication, so a loop over counters fills the
vector units (0.23 ns a word on one Zen 4 core, where Philox-4x32-10 takes several times as long). 12 rounds pass
BigCrush; one more is the authors' margin.

A word w becomes two normal numbers (Box & Muller 1958), up to 5.9 σ: u = w / 2³² gives their length, the fraction of
0.618… w their angle. The 2³² points (u, φ) of all words lie on a lattice whose multiplier is that of the golden ratio, the
most even one, so lengths and angles pass for independent uniform numbers in any sample, for half of the random bits.

Four counter words name a number within a stream; kernels say how they use them. Everything here is for use inside kernels.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import float32, int32, uint32

from analog_glue.kernels.jit import added, bits_of, compiled, either, float_of, inlined, rotated

ROUNDS = 13
ROW = 4096  # numbers that `fill` makes at a time; part of what a key means
ROTATIONS = ((10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20))
PARITY = 0x1BD11BDA
SHARE = 8  # numbers of a counter
GOLDEN = 0x9E3779B1  # 2³² (√5 − 1) / 2

# Minimax fits, as many terms as errors below 10⁻⁵ take: noise is not seen to more.
LOG = (
    -2.000014309776667,
    1.0000402901126402,
    -0.6643868238408402,
    0.49699849059456136,
    -0.4529110175517046,
    0.38696454247597714,
)
SINE = (3.141589715366064, -5.167367027270252, 2.543595554277717, -0.5583712778259585)  # sin(πy) / y, to 9·10⁻⁷
COSINE = (0.9999933101494427, -4.933937646230249, 4.041279162836425, -1.2221143101046072)  # cos πy, to 7·10⁻⁶


def _cipher(rounds: int) -> str:
    """The rounds written out one after another: a loop over them would keep the loop over counters from vectorising."""
    lines = ["def threefry(a, b, c, d, k0, k1, k2, k3):"]
    lines += ["    k4 = uint32(k0 ^ k1 ^ k2 ^ k3 ^ uint32(PARITY))"]
    lines += [f"    {word} = added({word}, k{i})" for i, word in enumerate("abcd")]
    for done in range(rounds):
        first, second = ROTATIONS[done % 8]
        b, d = ("b", "d") if done % 2 == 0 else ("d", "b")
        lines += [f"    a = added(a, {b}); {b} = either(rotated({b}, uint32({first})), a)"]
        lines += [f"    c = added(c, {d}); {d} = either(rotated({d}, uint32({second})), c)"]
        if done % 4 == 3:
            part = done // 4 + 1
            lines += [f"    {word} = added({word}, k{(part + i) % 5})" for i, word in enumerate("abcd")]
            lines += [f"    d = added(d, uint32({part}))"]
    return "\n".join([*lines, "    return a, b, c, d"])


def make_threefry(rounds: int) -> Callable[..., tuple]:
    """(four counter words, four key words) → four random words, all uint32."""
    namespace: dict[str, Any] = {"uint32": uint32, "added": added, "either": either, "rotated": rotated, "PARITY": PARITY}
    exec(_cipher(rounds), namespace)
    return inlined(namespace["threefry"])


threefry = make_threefry(ROUNDS)


@inlined
def squared_length(word):
    """−2 ln u of a uniform number u ∈ (0, 1], the upper 24 bits of `word`: the squared length of a pair of normal numbers."""
    u = float32(int32(word >> uint32(8))) * float32(2.0**-24) + float32(2.0**-25)
    bits = bits_of(u)
    # So that the mantissa lies in [2/3, 4/3); numba would widen a difference to 64 bits.
    exponent = int32(int32(bits - int32(0x3F2AAAAB)) >> int32(23))
    m = float_of(int32(bits - int32(exponent << int32(23)))) - float32(1)
    p = float32(LOG[5])
    p = p * m + float32(LOG[4])
    p = p * m + float32(LOG[3])
    p = p * m + float32(LOG[2])
    p = p * m + float32(LOG[1])
    p = p * m + float32(LOG[0])
    return max(p * m + float32(exponent) * float32(-1.3862943611198906), float32(0))


@inlined
def direction(word):
    """(sin φ, cos φ) of the angle φ ∈ [−π, π) that goes with `word`: its golden multiple, a fraction of the full circle."""
    x = float32(int32(uint32(word * uint32(GOLDEN)))) * float32(2.0**-31)  # φ / π
    y = float32(0.5) - abs(x)  # cos φ = sin πy and |sin φ| = cos πy
    z = y * y
    s = float32(SINE[3])
    s = s * z + float32(SINE[2])
    s = s * z + float32(SINE[1])
    s = (s * z + float32(SINE[0])) * y
    c = float32(COSINE[3])
    c = c * z + float32(COSINE[2])
    c = c * z + float32(COSINE[1])
    c = c * z + float32(COSINE[0])
    return math.copysign(c, x), s


@inlined
def fill_row(out, numbers, c1, c2, c3, k0, k1):
    """`numbers` standard normal numbers into out[0 : 8·⌈numbers / 8⌉]; counters (0 …, c1, c2, c3) of key (k0, k1)."""
    part = (numbers + SHARE - 1) // SHARE
    for i in range(part):
        a, b, c, d = threefry(uint32(i), c1, c2, c3, k0, k1, uint32(0), uint32(0))
        length, (sine, cosine) = math.sqrt(squared_length(a)), direction(a)
        out[i], out[i + part] = length * sine, length * cosine
        length, (sine, cosine) = math.sqrt(squared_length(b)), direction(b)
        out[i + 2 * part], out[i + 3 * part] = length * sine, length * cosine
        length, (sine, cosine) = math.sqrt(squared_length(c)), direction(c)
        out[i + 4 * part], out[i + 5 * part] = length * sine, length * cosine
        length, (sine, cosine) = math.sqrt(squared_length(d)), direction(d)
        out[i + 6 * part], out[i + 7 * part] = length * sine, length * cosine


@inlined
def scale_row(row, numbers, c1, c2, c3, k0, k1):
    """The numbers of `fill_row` times √row, in place: normal numbers of these variances. One root does for both."""
    part = (numbers + SHARE - 1) // SHARE
    for i in range(part):
        a, b, c, d = threefry(uint32(i), c1, c2, c3, k0, k1, uint32(0), uint32(0))
        square, (sine, cosine) = squared_length(a), direction(a)
        row[i] = math.sqrt(square * row[i]) * sine
        row[i + part] = math.sqrt(square * row[i + part]) * cosine
        square, (sine, cosine) = squared_length(b), direction(b)
        row[i + 2 * part] = math.sqrt(square * row[i + 2 * part]) * sine
        row[i + 3 * part] = math.sqrt(square * row[i + 3 * part]) * cosine
        square, (sine, cosine) = squared_length(c), direction(c)
        row[i + 4 * part] = math.sqrt(square * row[i + 4 * part]) * sine
        row[i + 5 * part] = math.sqrt(square * row[i + 5 * part]) * cosine
        square, (sine, cosine) = squared_length(d), direction(d)
        row[i + 6 * part] = math.sqrt(square * row[i + 6 * part]) * sine
        row[i + 7 * part] = math.sqrt(square * row[i + 7 * part]) * cosine


@compiled
def stream_row(out, row, k0, k1):
    """The `ROW` numbers of row number `row` of stream (k0, k1), into `out`, for kernels that draw as they go."""
    fill_row(out, ROW, uint32(row), uint32(0), uint32(0), k0, k1)


@compiled
def fill(out, row, k0, k1):
    """Standard normal numbers into the contiguous float32 array `out`, in rows of `ROW`, the first of them number `row`.

    A stream does not depend on how a tensor is cut at multiples of `ROW`. The last row may be shorter.
    """
    buffer = np.empty(ROW, np.float32)
    for start in range(0, out.shape[0], ROW):
        stream_row(buffer, row, k0, k1)
        taken = out[start : start + ROW]
        for i in range(taken.shape[0]):  # numba takes 2 s to compile an assignment of slices
            taken[i] = buffer[i]
        row += 1


@compiled
def words(out, c1, c2, c3, k0, k1, k2, k3):
    """Random words of the counters (0 …, c1, c2, c3) into `out` [counters, 4] uint32: what the tests look at."""
    for i in range(out.shape[0]):
        a, b, c, d = threefry(uint32(i), c1, c2, c3, k0, k1, k2, k3)
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = a, b, c, d
