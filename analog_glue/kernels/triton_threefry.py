"""The random numbers of kernels/threefry.py on a GPU: the same words bit for bit, the same normal numbers to a few 10⁻⁶.

So a key names one stream on every machine. Where there is no GPU, Triton's interpreter (TRITON_INTERPRET=1) computes the
same on tensors of the CPU; it needs hours for a model and is there for the tests.

Kernels here are compiled without contraction, so a product and a sum are two roundings, as in the reference; where one
rounding is as good and twice as fast they say `fma`.
"""

import triton
import triton.language as tl
from torch import Tensor

from analog_glue.kernels import threefry as cpu

ROUNDS = tl.constexpr(cpu.ROUNDS)
ROTATIONS = tl.constexpr(cpu.ROTATIONS)
PARITY = tl.constexpr(cpu.PARITY)
ROW, SHARE, GOLDEN = tl.constexpr(cpu.ROW), tl.constexpr(cpu.SHARE), tl.constexpr(cpu.GOLDEN)
LOG, SINE, COSINE = tl.constexpr(cpu.LOG), tl.constexpr(cpu.SINE), tl.constexpr(cpu.COSINE)


@triton.jit
def rotated(word, by: tl.constexpr):
    return (word << by) | (word >> (32 - by))


@triton.jit
def keyed(a, b, c, d, keys, part: tl.constexpr):
    return a + keys[part % 5], b + keys[(part + 1) % 5], c + keys[(part + 2) % 5], d + keys[(part + 3) % 5] + part


@triton.jit
def threefry(a, b, c, d, k0, k1):
    """(four counter words, two key words; the other two are 0) → four random words, all uint32."""
    keys = (k0, k1, k0 * 0, k0 * 0, k0 ^ k1 ^ PARITY)
    a, b, c, d = keyed(a, b, c, d, keys, 0)
    for done in tl.static_range(ROUNDS):
        if done % 2 == 0:
            a, c = a + b, c + d
            b, d = rotated(b, ROTATIONS[done % 8][0]) ^ a, rotated(d, ROTATIONS[done % 8][1]) ^ c
        else:
            a, c = a + d, c + b
            d, b = rotated(d, ROTATIONS[done % 8][0]) ^ a, rotated(b, ROTATIONS[done % 8][1]) ^ c
        if done % 4 == 3:
            a, b, c, d = keyed(a, b, c, d, keys, done // 4 + 1)
    return a, b, c, d


@triton.jit
def polynomial(x, coefficients: tl.constexpr, degree: tl.constexpr):
    """Σ coefficients[n] · xⁿ."""
    p = tl.fma(coefficients[degree], x, coefficients[degree - 1])
    for n in tl.static_range(2, degree + 1):
        p = tl.fma(p, x, coefficients[degree - n])
    return p


@triton.jit
def squared_length(word):
    """−2 ln u of a uniform number u ∈ (0, 1] with 24 bits."""
    u = (word >> 8).to(tl.int32).to(tl.float32) * 2.0**-24 + 2.0**-25
    bits = u.to(tl.int32, bitcast=True)
    exponent = (bits - 0x3F2AAAAB) >> 23  # so that the mantissa lies in [2/3, 4/3)
    m = (bits - (exponent << 23)).to(tl.float32, bitcast=True) - 1.0
    return tl.maximum(tl.fma(polynomial(m, LOG, 5), m, exponent.to(tl.float32) * -1.3862943611198906), 0.0)


@triton.jit
def pair(word):
    """Two standard normal numbers of a random word."""
    length = tl.sqrt(squared_length(word))
    x = (word * GOLDEN).to(tl.int32, bitcast=True).to(tl.float32) * 2.0**-31  # φ / π
    y = 0.5 - tl.abs(x)  # cos φ = sin πy and |sin φ| = cos πy
    size = polynomial(y * y, COSINE, 3)
    return length * tl.where(x < 0, -size, size), length * (polynomial(y * y, SINE, 3) * y)


@triton.jit
def eight_normals(c0, c1, c2, c3, k0, k1):
    """Eight standard normal numbers of counter (c0, c1, c2, c3), uint32, in the stream of key (k0, k1), int32 bits."""
    a, b, c, d = threefry(c0, c1, c2, c3, k0.to(tl.uint32), k1.to(tl.uint32))
    z0, z1 = pair(a)
    z2, z3 = pair(b)
    z4, z5 = pair(c)
    z6, z7 = pair(d)
    return z0, z1, z2, z3, z4, z5, z6, z7


@triton.jit(do_not_specialize=["k0", "k1"])
def _fill(out, numbers, k0, k1):
    row = tl.program_id(0)
    i = tl.arange(0, ROW // SHARE)
    zero = (i * 0).to(tl.uint32)
    shares = eight_normals(i.to(tl.uint32), row.to(tl.uint32), zero, zero, k0, k1)
    start = row.to(tl.int64) * ROW
    for n in tl.static_range(SHARE):
        place = start + n * (ROW // SHARE) + i
        tl.store(out + place, shares[n], mask=place < numbers)


def fill(out: Tensor, key: int) -> Tensor:
    """Fill the contiguous float32 tensor `out` with the stream `key` of `kernels.threefry.fill`; returns `out`."""
    _fill[(triton.cdiv(out.numel(), cpu.ROW),)](out, out.numel(), *key_words(key), enable_fp_fusion=False)
    return out


def key_words(key: int) -> tuple[int, int]:
    """A key as the two 32-bit words that these kernels take, both as signed numbers, so that their type is always the same."""

    def signed(word: int) -> int:
        return (word & 0xFFFFFFFF ^ 0x80000000) - 0x80000000

    return signed(key), signed(key >> 32)
