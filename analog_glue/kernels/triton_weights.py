"""The noise of training on a GPU: `kernels.weights.noisy` in one pass, with the same numbers for a key."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from analog_glue.kernels.triton_threefry import SHARE, eight_normals, key_words, polynomial

PURPOSE = tl.constexpr(2)  # last word of a counter: noise of weights
DEGREE = tl.constexpr(4)  # of the spread


@triton.jit(do_not_specialize=["k0", "k1"])
def _noisy(
    weight, scale, spread: tl.constexpr, blocks, short, longer, columns, rows, k0, k1,
    MIRRORED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    column, block = tl.program_id(0), tl.program_id(1)
    count = short + (block < longer).to(tl.int32)
    start = column.to(tl.int64) * (short * tl.num_programs(1) + longer) + block * short + tl.minimum(block, longer)
    unit = tl.load(scale + block * columns + column)
    part = (count + SHARE - 1) // SHARE
    i = tl.arange(0, BLOCK)
    c1, c2, c3 = column.to(tl.uint32), block.to(tl.uint32), tl.full((), PURPOSE, tl.uint32)
    normals = eight_normals(i.to(tl.uint32), c1, c2, c3, k0, k1)
    for n in tl.static_range(SHARE):
        row = i + n * part
        taken = (i < part) & (row < count)
        w = tl.div_rn(tl.load(weight + start + row, taken, 0.0), unit)
        w = tl.minimum(tl.maximum(w, -1.0), 1.0)
        std = tl.maximum(polynomial(tl.abs(w), spread, DEGREE), 0.0)
        noisy = tl.fma(std, normals[n], w)
        if MIRRORED:
            size = tl.abs(noisy)
            noisy = tl.where(w > 0, size, tl.where(w < 0, -size, 0.0))
        tl.store(blocks + (block.to(tl.int64) * columns + column) * rows + row, noisy, taken)


def noisy(
    weight: Tensor, scale: Tensor, row_counts: tuple[int, ...], spread: tuple[float, ...], mirrored: bool, key: int
) -> Tensor:
    """Normalised weights plus Gaussian noise of a spread that depends on their magnitude.

    Args:
        weight: [columns, inputs] float32, in real units.
        scale: [row blocks, columns] float32, the weight that becomes 1.
        row_counts: Inputs of each block; they differ by one at most, the larger first.
        spread: Five numbers, the standard deviation as a polynomial in |w|, lowest power first; below 0 it counts as 0.
        mirrored: Whether weights are reflected at zero instead of changing their sign.

    Returns:
        [row blocks, columns, rows] float32; padded rows are 0.
    """
    (columns, inputs), blocks, rows = weight.shape, len(row_counts), row_counts[0]
    short, longer = divmod(inputs, blocks)
    out = (torch.zeros if longer else torch.empty)(blocks, columns, rows, device=weight.device)
    counters = triton.next_power_of_2(triton.cdiv(rows, SHARE.value))
    _noisy[(columns, blocks)](
        weight.contiguous(), scale.contiguous(), spread, out, short, longer, columns, rows, *key_words(key),
        MIRRORED=mirrored, BLOCK=counters, num_warps=min(max(counters // 128, 1), 8), enable_fp_fusion=False,
    )  # fmt: skip
    return out
