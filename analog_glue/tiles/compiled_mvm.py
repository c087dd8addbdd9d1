"""The product of `tiles.mvm` by compiled kernels: integer products of a whole chunk, everything else in two passes around."""

import threading
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from analog_glue.kernels import fused, integer_gemm
from analog_glue.kernels.gaussian import key_words
from analog_glue.kernels.packed import NO_SHARES, PackedProduct
from analog_glue.kernels.parallel import run
from analog_glue.kernels.products import Int8Product, squared
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tiles.ir_drop import CONDUCTANCE_RATIO
from analog_glue.tiles.operands import ClippedOutputs, ReadyWeights, Scaling, WireLoss, code_type

CACHE = 2**22  # [bytes] of sums at a time: more wastes the cache, less reads the weights more often
IntegerProduct = Int8Product | PackedProduct
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
    wanted = clipped is not None and crossbar.adc_bits is not None
    digital = (
        np.float32(crossbar.output_noise**2),
        crossbar.is_noisy,
        np.float32(crossbar.adc.full_scale),
        scaling.step.numpy(),
        np.zeros(outputs, np.float32) if scaling.bias is None else scaling.bias.numpy(),
    )
    words = key_words(noise_key)
    packed = product if isinstance(product, PackedProduct) and weights.wires is None else None
    scratch = 0 if packed is None else packed.scratch_size(reads=crossbar.weight_read_noise > 0)
    most, multiple = (CACHE // (4 * outputs * blocks), 1) if packed is None else (512, integer_gemm.PART)
    vectors = _evenly(len(x), most, multiple)

    def convert(start: int) -> None:
        taken = slice(start, start + vectors)
        chunk = codes[taken]
        marks = _scratch("marks", (blocks, len(chunk), outputs), torch.int8).numpy() if wanted else NOTHING
        if packed is not None:
            count = integer_gemm.analog_chunk(
                x[taken].numpy(),
                *_drive(scaling, weights, packed),
                chunk.numpy(),
                packed.weights,
                packed.has_halves,
                packed.magnitudes,
                *packed.shares,
                *_units(packed, crossbar),
                *digital,
                start,
                *words,
                out[taken].numpy(),
                marks,
                _scratch("chunk", (scratch,), torch.int32).numpy(),
            )
        else:
            sums = _sums(x[taken], weights, scaling, chunk)
            count = fused.digitise(
                sums.currents.numpy(),
                sums.halves,
                NO_VARIANCE[sums.currents.dtype] if sums.variances is None else sums.variances.numpy(),
                sums.worth.numpy(),
                *NO_SHARES,
                *sums.units,
                *digital,
                start,
                *words,
                out[taken].numpy(),
                marks,
            )
        if clipped is not None and count:
            clipped.note(torch.from_numpy(marks), start, len(x))

    run(convert, range(0, len(x), vectors))
    return out, codes


def _drive(
    scaling: Scaling, weights: ReadyWeights, product: IntegerProduct
) -> tuple[np.ndarray, np.float32, np.ndarray, np.ndarray]:
    """What the DACs need: codes per unit of input, largest code, inputs of each row block, dither of the squares."""
    full_scale = np.float32(weights.crossbar.dac.full_scale)
    return scaling.per_input.numpy(), full_scale, np.array(weights.grid.row_blocks), product.dither.numpy()


def _units(product: IntegerProduct, crossbar: Crossbar) -> tuple[np.float32, np.float32]:
    """What 1 in the sums of an integer product is worth in LSB, and 1 in those of its variance in LSB²."""
    in_lsb = 1 / (crossbar.dac.full_scale * crossbar.adc.lsb)
    variance_unit = product.magnitude_scale * (crossbar.weight_read_noise * in_lsb) ** 2
    return np.float32(product.scale * in_lsb), np.float32(variance_unit)


@dataclass(frozen=True)
class _Sums:
    """Currents of a chunk and the variances of their read noise."""

    currents: Tensor  # [row blocks, vectors, columns], float32 or int32
    halves: bool  # currents are [row blocks, vectors, 2 · columns], upper and lower halves of the weights
    variances: Tensor | None
    worth: Tensor  # [row blocks, vectors], factors of `variances`
    units: tuple[np.float32, np.float32]  # [LSB] of 1 in `currents`, [LSB²] of 1 in `variances`


def _sums(x: Tensor, weights: ReadyWeights, scaling: Scaling, codes: Tensor) -> _Sums:
    """What is summed up for inputs `x` [vectors, inputs] outside of `analog_chunk`; fills their `codes` as well."""
    product, wires = weights.product, weights.wires
    if not isinstance(product, IntegerProduct):
        return _float_sums(x, weights, scaling, codes)
    sums = _integer_sums(x, weights, product, scaling, codes)
    return sums if wires is None else _less_lost(sums, weights, product, wires)


def _integer_sums(x: Tensor, weights: ReadyWeights, product: IntegerProduct, scaling: Scaling, codes: Tensor) -> _Sums:
    crossbar = weights.crossbar
    reads = crossbar.weight_read_noise > 0
    blocks, vectors, columns = product.blocks, len(x), product.columns
    rows = _scratch("rows", (blocks, vectors, product.rows), torch.int8)  # which `_less_lost` reads once more
    squares = _scratch("squares", (blocks if reads else 0, vectors, product.rows), torch.int8)
    worth = _scratch("worth", (blocks, vectors), torch.float32)
    # As tiles with wires have been computed: 127 / largest there in two roundings, so by `squared` and not by `drive`.
    by_drive = squares if weights.wires is None else squares[:0]
    arrays = (codes, rows, by_drive, worth)
    fused.drive(x.numpy(), *_drive(scaling, weights, product), *(array.numpy() for array in arrays))
    currents = _scratch("currents", (blocks, vectors, columns * (1 + product.has_halves)), torch.int32)
    variances = _scratch("variances", (blocks, vectors, columns), torch.int32) if reads else None
    for block in range(blocks):
        product.sum_up(block, rows[block], currents[block])
        if variances is not None:
            if weights.wires is not None:
                squares[block], worth[block] = squared(rows[block], product.dither)
            product.sum_up_squares(block, squares[block], variances[block])
    return _Sums(currents, product.has_halves, variances, worth, _units(product, crossbar))


def _less_lost(sums: _Sums, weights: ReadyWeights, product: IntegerProduct, wires: WireLoss) -> _Sums:
    """The same less what is lost along wires, in floats, with the roundings of `ReadyWeights.lose_on_wires_`."""
    crossbar, grid, on_ramp, magnitudes = weights.crossbar, weights.grid, wires.ramped, wires.magnitudes
    assert isinstance(on_ramp, IntegerProduct) and isinstance(magnitudes, IntegerProduct)  # all three are of one kind
    blocks, vectors, _ = sums.currents.shape
    rows, columns = _scratch("rows", (blocks, vectors, product.rows), torch.int8), product.columns
    shape = sums.currents.shape
    ramped, loads = _scratch("ramped", shape, torch.int32), _scratch("loads", shape, torch.int32)
    for block in range(blocks):
        on_ramp.sum_up(block, rows[block], ramped[block])
        magnitudes.sum_up(block, rows[block].abs(), loads[block])
    in_lsb = 1 / (crossbar.dac.full_scale * crossbar.adc.lsb)
    units = np.float32(product.scale * in_lsb), np.float32(on_ramp.scale), np.float32(magnitudes.scale)
    full_scale, factor = np.float32(crossbar.dac.full_scale), np.float32(-crossbar.ir_drop * in_lsb)
    per_load = (grid.row_counts(rows.device) / CONDUCTANCE_RATIO).numpy()
    currents = _scratch("float currents", (blocks, vectors, columns), torch.float32)
    integers = (sums.currents.numpy(), ramped.numpy(), loads.numpy(), product.has_halves)
    fused.lose_on_wires(*integers, units, full_scale, per_load, factor, currents.numpy())
    variances = None
    if sums.variances is not None:
        variances = _scratch("float variances", (blocks, vectors, columns), torch.float32)
        arrays = sums.variances.numpy(), sums.worth.numpy(), np.float32(product.magnitude_scale), variances.numpy()
        fused.variances_of(*arrays)
    units_of_noise = np.float32(1), np.float32((crossbar.weight_read_noise * in_lsb) ** 2)
    return _Sums(currents, False, variances, torch.ones(blocks, vectors), units_of_noise)


def _float_sums(x: Tensor, weights: ReadyWeights, scaling: Scaling, codes: Tensor) -> _Sums:
    crossbar, product = weights.crossbar, weights.product
    codes.copy_(crossbar.dac.codes(x, scaling.per_input))
    padded = weights.grid.pad_inputs(codes)
    in_lsb = 1 / (crossbar.dac.full_scale * crossbar.adc.lsb)
    currents = weights.lose_on_wires_(product.product(padded, in_lsb), padded, in_lsb)
    variances = product.variance(padded).contiguous() if crossbar.weight_read_noise > 0 else None
    units = np.float32(1), np.float32((crossbar.weight_read_noise * in_lsb) ** 2)
    return _Sums(currents.contiguous(), False, variances, torch.ones(product.blocks, len(x)), units)


def _evenly(size: int, at_most: int, multiple_of: int = 1) -> int:
    """Length of parts of about `at_most`, as many of them as keeps all cores busy to the end."""
    threads = torch.get_num_threads()
    parts = max(-(-size // max(at_most, 1)), 1)
    length = -(-size // (-(-parts // threads) * threads))
    return max(-(-length // multiple_of) * multiple_of, 1)


_thread = threading.local()


def _scratch(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Memory of this thread that is used again and again: fresh pages would cost more than what is written to them."""
    size = prod(shape)
    held: dict[str, Tensor] = _thread.__dict__
    if name not in held or held[name].numel() < size or held[name].is_inference():
        held[name] = torch.empty(size, dtype=dtype)
    return held[name][:size].view(shape)
