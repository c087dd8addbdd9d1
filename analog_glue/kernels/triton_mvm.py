"""What happens in a layer's tiles, on a GPU: the DAC in one launch; product, noise, ADC, scale, sum over row blocks in another.

Tensor cores multiply DAC codes of at most 8 bits, which float16 holds exactly, with float16 weights, and sum in float32
(kernels/triton_product.py says what that rounds); currents and the variances of their read noise never leave the registers.
Products that want more (finer DACs, IR drop, float32 weights) are made elsewhere, and `digitise` does what comes after.

A program computes a tile of vectors × columns, row block after row block. Eight columns share a counter of the random
numbers, so a tile holds all eight: a run of neighbouring columns out of every eighth of the layer.

After the product the arithmetic is that of the reference operation for operation, hence without noise the same bits.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from analog_glue.kernels.triton_threefry import SHARE, eight_normals, key_words

PURPOSE = tl.constexpr(1)  # last word of a counter: noise of a product
CODES = 1024  # that a program of `drive` converts


@dataclass(frozen=True)
class Conversion:
    """From currents to the layer's output: arguments that `multiply` and `digitise` share."""

    unit: float  # [LSB] what 1 of the currents is worth
    variance_unit: float  # [LSB²] the same of their variances; 0: no read noise
    output_variance: float  # [LSB²]
    full_scale: float  # largest code of the ADC; 0 for an ideal ADC
    step: Tensor  # [row blocks, columns] float32, what an LSB is worth at the layer's output
    bias: Tensor | None  # [columns] float32
    key: int  # of the noise

    @property
    def is_noisy(self) -> bool:
        return self.variance_unit > 0 or self.output_variance > 0


@triton.jit
def rounded(x):
    """To the nearest integer, half to even, for |x| < 2²³: there the float32 numbers from 2²³ on are the integers."""
    size = (tl.abs(x) + 8388608.0) - 8388608.0
    return tl.where(x < 0, -size, size)


@triton.jit
def clamped(x, bound):
    return tl.minimum(tl.maximum(x, -bound), bound)


@triton.jit
def _drive(x, per_input, codes, size, inputs, full_scale, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    taken = place < size
    number = tl.load(x + place, taken, 0.0) * tl.load(per_input + place % inputs, taken, 0.0)
    tl.store(codes + place, rounded(clamped(number, full_scale)).to(tl.int8), taken)


@triton.jit
def tile_columns(tile, eighth, BLOCK: tl.constexpr):
    """The columns of a tile, and their counters: columns i, i + eighth, i + 2 eighth … have counter i."""
    n = tl.arange(0, BLOCK)
    counter = tile * (BLOCK // SHARE) + n % (BLOCK // SHARE)
    return counter + n // (BLOCK // SHARE) * eighth, counter


@triton.jit
def tile_normals(vectors, tile, block, k0, k1, BLOCK_V: tl.constexpr, BLOCK_C: tl.constexpr):
    """Standard normal numbers of a tile [vectors, columns]."""
    counters = tile * (BLOCK_C // SHARE) + tl.arange(0, BLOCK_C // SHARE)
    c0, c1 = counters.to(tl.uint32)[None, :], vectors.to(tl.uint32)[:, None]
    c2, c3 = tl.full((), block, tl.uint32), tl.full((), PURPOSE, tl.uint32)
    z0, z1, z2, z3, z4, z5, z6, z7 = eight_normals(c0, c1, c2, c3, k0, k1)
    lower, upper = tl.join(tl.join(z0, z1), tl.join(z2, z3)), tl.join(tl.join(z4, z5), tl.join(z6, z7))
    together = tl.join(lower, upper)  # [vectors, counters, low, middle, high bit of the eighth]
    return tl.reshape(tl.permute(together, (0, 4, 3, 2, 1)), (BLOCK_V, BLOCK_C))


@triton.jit
def tile_sums(codes, weights, magnitudes, vector, column, taken, inside, columns, rows, blocks, block,
              BLOCK_V: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_R: tl.constexpr):  # fmt: skip
    """Currents Σ_j w_ij k_j of a tile in one row block, and variances Σ_j |w_ij| k_j² where `magnitudes` are given."""
    currents = tl.full((BLOCK_V, BLOCK_C), 0.0, tl.float32)
    variances = tl.full((BLOCK_V, BLOCK_C), 0.0, tl.float32)
    codes_at = codes + (vector.to(tl.int64) * blocks + block)[:, None] * rows
    weights_at = (block * columns + column)[None, :] * rows
    for first in range(0, rows, BLOCK_R):
        row = first + tl.arange(0, BLOCK_R)
        real = row < rows
        code = tl.load(codes_at + row[None, :], taken[:, None] & real[None, :], 0).to(tl.float16)
        place, present = weights_at + row[:, None], inside[None, :] & real[:, None]
        currents = tl.dot(code, tl.load(weights + place, present, 0.0), currents)
        if magnitudes is not None:
            variances = tl.dot(code * code, tl.load(magnitudes + place, present, 0.0), variances)
    return currents, variances


# The fastest is found by measuring, at the first call of a size. All add up the rows in the same steps, in the same order.
SHAPES = ((64, 64, 4), (64, 32, 4), (128, 64, 8), (64, 128, 8), (128, 128, 8))  # vectors, columns, warps
CONFIGURATIONS = [
    triton.Config({"BLOCK_V": vectors, "BLOCK_C": columns, "BLOCK_R": 64}, num_warps=warps, num_stages=3)
    for vectors, columns, warps in SHAPES
]


@triton.autotune(CONFIGURATIONS[:1] if triton.knobs.runtime.interpret else CONFIGURATIONS, key=["columns", "rows", "crowd"])
@triton.jit(do_not_specialize=["crowd", "k0", "k1"])
def _layer(
    codes, weights, magnitudes,  # the operands of a product, or None
    currents, variances,  # what else came out of one, or None
    step, bias, out, clipped,
    vectors, columns, eighth, rows, blocks, crowd,
    unit, variance_unit, output_variance, full_scale, k0, k1,
    NOISY: tl.constexpr, CONVERTS: tl.constexpr,
    BLOCK_V: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(1)
    vector = tl.program_id(0) * BLOCK_V + tl.arange(0, BLOCK_V)
    column, counter = tile_columns(tile, eighth, BLOCK_C)
    taken, inside = vector < vectors, (column < columns) & (counter < eighth)
    present = taken[:, None] & inside[None, :]
    place = vector.to(tl.int64)[:, None] * columns + column[None, :]
    area = tl.full((), 1, tl.int64) * vectors * columns
    summed = tl.full((BLOCK_V, BLOCK_C), 0.0, tl.float32)
    for block in range(blocks):
        if codes is not None:
            y, variance = tile_sums(
                codes, weights, magnitudes, vector, column, taken, inside, columns, rows, blocks, block,
                BLOCK_V, BLOCK_C, BLOCK_R,
            )  # fmt: skip
        else:
            y = tl.load(currents + block * area + place, present, 0.0)
            variance = y
            if variances is not None:
                variance = tl.load(variances + block * area + place, present, 0.0)
        y *= unit
        if NOISY:
            std = tl.sqrt(variance * variance_unit + output_variance)
            y += std * tile_normals(vector, tile, block, k0, k1, BLOCK_V, BLOCK_C)
        if CONVERTS:
            y = rounded(clamped(y, full_scale))
            if clipped is not None:
                mark = (y >= full_scale).to(tl.int8) - (y <= -full_scale).to(tl.int8)
                tl.store(clipped + block * area + place, mark, present)
        summed += y * tl.load(step + block * columns + column, inside, 0.0)[None, :]
    if bias is not None:
        summed += tl.load(bias + column, inside, 0.0)[None, :]
    tl.store(out + place, summed, present)


def drive(x: Tensor, per_input: Tensor, full_scale: float) -> Tensor:
    """DAC codes round(x · per_input), clipped to ±full_scale ≤ 127: int8 [vectors, inputs].

    Args:
        x: [vectors, inputs] float32, contiguous.
        per_input: [inputs] float32, codes per unit of x.
    """
    codes = torch.empty_like(x, dtype=torch.int8)
    grid = (triton.cdiv(x.numel(), CODES),)
    _drive[grid](x, per_input, codes, x.numel(), x.shape[1], full_scale, CODES, enable_fp_fusion=False)
    return codes


def multiply(
    codes: Tensor, weights: Tensor, magnitudes: Tensor | None, conversion: Conversion, clipped: Tensor | None = None
) -> Tensor:
    """The layer's output [vectors, columns] float32 for DAC codes.

    Args:
        codes: int8 [vectors, row blocks · rows].
        weights: float16 [row blocks, columns, rows], contiguous.
        magnitudes: Their magnitudes, the same shape; needed where there is read noise.
        clipped: int8 [row blocks, vectors, columns], becomes −1, 0 or +1 where the ADC clips.
    """
    if conversion.variance_unit == 0:
        magnitudes = None
    return _launch(codes, weights, magnitudes, None, None, len(codes), weights.shape[2], conversion, clipped)


def digitise(currents: Tensor, variances: Tensor | None, conversion: Conversion, clipped: Tensor | None = None) -> Tensor:
    """The layer's output [vectors, columns] float32 for currents float32 [row blocks, vectors, columns], contiguous.

    Args:
        variances: Of the same shape; None without read noise.
        clipped: int8 of the same shape, becomes −1, 0 or +1 where the ADC clips.
    """
    return _launch(None, None, None, currents, variances, currents.shape[1], 0, conversion, clipped)


def _launch(
    codes: Tensor | None,
    weights: Tensor | None,
    magnitudes: Tensor | None,
    currents: Tensor | None,
    variances: Tensor | None,
    vectors: int,
    rows: int,
    conversion: Conversion,
    clipped: Tensor | None,
) -> Tensor:
    step = conversion.step.contiguous()
    blocks, columns = step.shape
    eighth = triton.cdiv(columns, SHARE.value)
    out = torch.empty(vectors, columns, device=step.device)
    crowd = (vectors > 64) + (vectors > 1024)  # tuned for few, some and many vectors

    def grid(shape: dict[str, int]) -> tuple[int, int]:
        return triton.cdiv(vectors, shape["BLOCK_V"]), triton.cdiv(eighth, shape["BLOCK_C"] // SHARE.value)

    _layer[grid](
        codes, weights, magnitudes, currents, variances, step, conversion.bias, out, clipped,
        vectors, columns, eighth, rows, blocks, crowd,
        conversion.unit, conversion.variance_unit, conversion.output_variance, conversion.full_scale,
        *key_words(conversion.key),
        NOISY=conversion.is_noisy, CONVERTS=conversion.full_scale > 0,
        enable_fp_fusion=False,
    )  # fmt: skip
    return out
