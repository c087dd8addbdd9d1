"""The matrix–vector product of a layer on its tiles: the hot path.

Per row block r and column i, for one input vector x with input range α_r (order of Spoon et al. 2021, Sec. 2.1.3):

    k_j = round(127 x_j / α_r), clipped to ±127                                  DAC
    y   = Σ_j w_ij k_j / 127  + σ_w √(Σ_j |w_ij| (k_j/127)²) ξ                    currents, short-term read noise
          − IR drop + σ_out ξ'                                                    output noise
    c   = round(y / LSB), clipped                                                 ADC
    Y_i = Σ_r digital_scale[r, i] · α_r · LSB · c                                 digital: scale, sum over row blocks

ξ and ξ' are independent, so one normal number of the summed variance stands for both. All row blocks of a layer are one
batched product; vectors are taken in chunks that stay in the cache. What surrounds the products is done either in plain
PyTorch, here (the reference), or by compiled kernels (tiles/compiled_mvm.py on the CPU, tiles/triton_mvm.py on a GPU): the
same law from other random numbers, and the same bits where there is no noise.
"""

import torch
from torch import Tensor

from analog_glue.kernels.gaussian import fill_normal
from analog_glue.kernels.operation import operation
from analog_glue.kernels.parallel import run
from analog_glue.seeding import key as derive_key
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tiles.operands import ClippedOutputs, ReadyWeights, Scaling, code_type

VECTORS = 256  # taken at a time, so that what is between DAC and ADC stays in the cache; part of what a noise key means


FEW_VECTORS = 32  # not worth splitting


def dac_codes(x: Tensor, per_input: Tensor, crossbar: Crossbar) -> Tensor:
    """DAC codes of inputs `x` [vectors, inputs] under the factors `per_input` [inputs] of a `Scaling`.

    Returns:
        Same shape as x: int8 of a DAC of at most 8 bits, float32 of a finer one.
    """
    codes = torch.empty_like(x, dtype=code_type(crossbar))

    def convert(start: int) -> None:
        taken = slice(start, start + VECTORS)
        codes[taken] = crossbar.dac.codes(x[taken], per_input)

    run(convert, range(0, len(x), VECTORS), x.device)
    return codes


def mvm(
    x: Tensor,
    weights: ReadyWeights,
    scaling: Scaling,
    noise_key: int,
    clipped: ClippedOutputs | None = None,
) -> tuple[Tensor, Tensor]:
    """Analog product of every row of `x` [vectors, inputs] with the weights of a layer.

    Args:
        weights: The layer's weights, in units of a full-on cell.
        noise_key: Names the noise of this call; the same key gives the same noise (of one kernel).
        clipped: If given, collects which ADC outputs clip.

    Returns:
        The layer's output [vectors, outputs] float32, and the DAC codes of its inputs.
    """
    return _mvm.by(weights.kernel, x.device)(x, weights, scaling, noise_key, clipped)


@operation
def _mvm(
    x: Tensor, weights: ReadyWeights, scaling: Scaling, noise_key: int, clipped: ClippedOutputs | None
) -> tuple[Tensor, Tensor]:
    codes = dac_codes(x, scaling.per_input, weights.crossbar)
    out = torch.empty(len(x), weights.grid.outputs, device=x.device)
    vectors = min(VECTORS, max(FEW_VECTORS, -(-len(x) // 2)))
    step = scaling.step

    def convert(start: int) -> None:
        taken = slice(start, start + vectors)
        converted = adc_codes(weights.grid.pad_inputs(codes[taken]), weights, derive_key(noise_key, start))
        if clipped is not None and weights.crossbar.adc_bits is not None:
            clipped.note(weights.crossbar.adc.clipping(converted), start, len(x))
        summed = torch.mul(converted[0], step[0], out=out[taken])
        for block in range(1, len(converted)):
            summed.add_(converted[block].mul_(step[block]))  # two roundings, as in the compiled kernel
        if scaling.bias is not None:
            summed.add_(scaling.bias)

    run(convert, range(0, len(x), vectors), x.device)
    return out, codes


@_mvm.compiled("cpu")
def _mvm_by_numba(
    x: Tensor, weights: ReadyWeights, scaling: Scaling, noise_key: int, clipped: ClippedOutputs | None
) -> tuple[Tensor, Tensor]:
    from analog_glue.tiles.compiled_mvm import compiled_mvm

    return compiled_mvm(x, weights, scaling, noise_key, clipped)


@_mvm.compiled("cuda")
def _mvm_by_triton(
    x: Tensor, weights: ReadyWeights, scaling: Scaling, noise_key: int, clipped: ClippedOutputs | None
) -> tuple[Tensor, Tensor]:
    from analog_glue.tiles.triton_mvm import triton_mvm

    return triton_mvm(x, weights, scaling, noise_key, clipped)


def adc_codes(codes: Tensor, weights: ReadyWeights, noise_key: int) -> Tensor:
    """What the ADCs answer to DAC `codes` ([vectors, row blocks · rows]), in LSB: [row blocks, vectors, columns]."""
    crossbar = weights.crossbar
    unit = 1 / (crossbar.dac.full_scale * crossbar.adc.lsb)
    currents = weights.lose_on_wires_(weights.product.product(codes, unit), codes, unit)
    if crossbar.is_noisy:
        normal = fill_normal(torch.empty_like(currents), noise_key)
        if crossbar.weight_read_noise > 0:
            std = weights.product.variance(codes).mul_((crossbar.weight_read_noise * unit) ** 2)
            currents.addcmul_(std.add_(crossbar.output_noise**2).sqrt_(), normal)
        else:
            currents.add_(normal, alpha=crossbar.output_noise)
    return crossbar.adc.convert_(currents)
