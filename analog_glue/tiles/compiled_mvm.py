"""The product of `tiles.mvm` by compiled kernels: integer products of a whole chunk, everything else in two passes around."""

import threading
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from analog_glue.kernels import fused
from analog_glue.kernels.gaussian import key_words
from analog_glue.kernels.parallel import run
from analog_glue.kernels.products import Int8Product
from analog_glue.tiles.ir_drop import loss_factor
from analog_glue.tiles.mvm import ClippedOutputs, ReadyWeights, Scaling, code_type

CACHE = 2**22  # [bytes] of sums at a time: more wastes the cache, less reads the weights more often
NOTHING = np.empty((0, 0, 0), np.int8)
NO_VARIANCE = {torch.int32: np.empty((0, 0, 0), np.int32), torch.float32: np.empty((0, 0, 0), np.float32)}


def compiled_mvm(
    x: Tensor, weights: ReadyWeights, scaling: Scaling, noise_key: int, clipped: ClippedOutputs | None
) -> tuple[Tensor, Tensor]:
    """See `tiles.mvm.mvm`."""
    crossbar, grid, product = weights.crossbar, weights.grid, weights.product
    outputs, blocks = grid.outputs, len(grid.row_blocks)
    out, x = torch.empty(len(x), outputs), x.contiguous()
    codes = torch.empty_like(x, dtype=code_type(crossbar))
    steps = scaling.step.numpy()
    biases = np.zeros(outputs, np.float32) if scaling.bias is None else scaling.bias.numpy()
    full_scale = np.float32(0 if crossbar.adc_bits is None else crossbar.adc.full_scale)
    wanted = clipped is not None and full_scale > 0
    words = key_words(noise_key)
    integers = isinstance(product, Int8Product) and crossbar.ir_drop == 0
    vectors = _evenly(len(x), CACHE // (4 * outputs * blocks))

    def convert(start: int) -> None:
        taken = slice(start, start + vectors)
        chunk = codes[taken]
        sums = (_integer_sums if integers else _float_sums)(x[taken], weights, scaling, chunk)
        marks = _scratch("marks", (blocks, len(chunk), outputs), torch.int8).numpy() if wanted else NOTHING
        count = fused.digitise(
            sums.currents.numpy(),
            sums.halves,
            NO_VARIANCE[sums.currents.dtype] if sums.variances is None else sums.variances.numpy(),
            np.float32(sums.unit),
            np.float32(sums.variance_unit),
            np.float32(crossbar.output_noise**2),
            crossbar.is_noisy,
            full_scale,
            steps,
            biases,
            start,
            *words,
            out[taken].numpy(),
            marks,
        )
        if wanted and count:
            clipped.note(torch.from_numpy(marks), start, len(x))

    run(convert, range(0, len(x), vectors))
    return out, codes


@dataclass(frozen=True)
class _Sums:
    """Currents of a chunk and the variances of their read noise."""

    currents: Tensor  # [row blocks, vectors, columns], float32 or int32
    halves: bool  # currents are [row blocks, vectors, 2 · columns], upper and lower halves of the weights
    variances: Tensor | None
    unit: float  # [LSB] of 1 in `currents`
    variance_unit: float  # [LSB²] of 1 in `variances`


def _integer_sums(x: Tensor, weights: ReadyWeights, scaling: Scaling, codes: Tensor) -> _Sums:
    """Fills `codes` as well."""
    crossbar, product = weights.crossbar, weights.product
    reads = crossbar.read_noise > 0
    blocks, vectors, columns = product.blocks, len(x), product.columns
    rows = _scratch("rows", (blocks, vectors, product.rows), torch.int8)
    squares = _scratch("squares", (blocks, vectors, product.rows), torch.int8) if reads else None
    fused.drive(
        x.numpy(),
        scaling.per_input.numpy(),
        np.float32(crossbar.dac.full_scale),
        np.array(weights.grid.row_blocks),
        product.dither.numpy(),
        codes.numpy(),
        rows.numpy(),
        NOTHING if squares is None else squares.numpy(),
    )
    currents = _scratch("currents", (blocks, vectors, columns * (1 + product.has_halves)), torch.int32)
    variances = _scratch("variances", (blocks, vectors, columns), torch.int32) if reads else None
    for block in range(blocks):
        torch._int_mm(rows[block], product.integers[block].t(), out=currents[block])
        if reads:
            torch._int_mm(squares[block], product.magnitudes[block].t(), out=variances[block])
    in_lsb = 1 / (crossbar.dac.full_scale * crossbar.adc.lsb)
    # Σ|w|x² is what the product of magnitudes and squares / 127 sums to, times magnitude_scale · 127.
    variance_unit = product.magnitude_scale * 127 * (crossbar.read_noise * in_lsb) ** 2
    return _Sums(currents, product.has_halves, variances, product.scale * in_lsb, variance_unit)


def _float_sums(x: Tensor, weights: ReadyWeights, scaling: Scaling, codes: Tensor) -> _Sums:
    """Fills `codes` as well."""
    crossbar, product = weights.crossbar, weights.product
    codes.copy_(crossbar.dac.codes(x, scaling.per_input))
    padded = weights.grid.pad_inputs(codes)
    currents = product.product(padded)
    if crossbar.ir_drop > 0:
        load = weights.magnitudes.product(padded.abs()).div_(crossbar.dac.full_scale)
        lost = loss_factor(load, weights.grid.row_counts())
        currents.addcmul_(lost, weights.ramped.product(padded), value=-crossbar.ir_drop)
    variances = product.variance(padded).contiguous() if crossbar.read_noise > 0 else None
    in_lsb = 1 / (crossbar.dac.full_scale * crossbar.adc.lsb)
    return _Sums(currents.contiguous(), False, variances, in_lsb, (crossbar.read_noise * in_lsb) ** 2)


def _evenly(size: int, at_most: int) -> int:
    """Length of parts of at most `at_most`, as many of them as keeps all cores busy to the end."""
    threads = torch.get_num_threads()
    parts = -(-size // max(at_most, 1))
    return max(1, -(-size // (-(-parts // threads) * threads)))


_thread = threading.local()


def _scratch(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Memory of this thread that is used again and again: fresh pages would cost more than what is written to them."""
    size = prod(shape)
    held: dict[str, Tensor] = _thread.__dict__
    if name not in held or held[name].numel() < size or held[name].is_inference():
        held[name] = torch.empty(size, dtype=dtype)
    return held[name][:size].view(shape)
