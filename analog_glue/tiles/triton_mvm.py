"""The product of `tiles.mvm` by Triton kernels: two launches a layer where the product's operands are 8-bit and float16."""

import torch
from torch import Tensor

from analog_glue.kernels.triton_mvm import Conversion, digitise, drive, multiply
from analog_glue.kernels.triton_product import Float16Product
from analog_glue.tiles.operands import ClippedOutputs, ReadyWeights, Scaling, code_type


@torch.no_grad()
def triton_mvm(
    x: Tensor, weights: ReadyWeights, scaling: Scaling, noise_key: int, clipped: ClippedOutputs | None
) -> tuple[Tensor, Tensor]:
    """See `tiles.mvm.mvm`. The noise of a key is that of the compiled kernels on the CPU."""
    crossbar, grid, product = weights.crossbar, weights.grid, weights.product
    in_lsb = 1 / (crossbar.dac.full_scale * crossbar.adc.lsb)
    conversion = Conversion(
        unit=in_lsb,
        variance_unit=(crossbar.weight_read_noise * in_lsb) ** 2,
        output_variance=crossbar.output_noise**2,
        full_scale=crossbar.adc.full_scale,
        step=scaling.step,
        bias=scaling.bias,
        key=noise_key,
    )
    marks = None
    if clipped is not None and crossbar.adc_bits is not None:
        marks = torch.empty(len(grid.row_blocks), len(x), grid.outputs, dtype=torch.int8, device=x.device)
    with torch.cuda.device_of(x):
        if isinstance(product, Float16Product) and code_type(crossbar) == torch.int8 and crossbar.ir_drop == 0:
            codes = drive(x.contiguous(), scaling.per_input, crossbar.dac.full_scale)
            out = multiply(grid.pad_inputs(codes), product.weights, product.magnitudes, conversion, marks)
        else:
            codes = crossbar.dac.codes(x, scaling.per_input).to(code_type(crossbar))
            out = digitise(*_sums(codes, weights), conversion, marks)
    if clipped is not None and marks is not None:
        clipped.note(marks, 0, len(x))
    return out, codes


def _sums(codes: Tensor, weights: ReadyWeights) -> tuple[Tensor, Tensor | None]:
    """Currents of DAC codes and the variances of their read noise, [row blocks, vectors, columns]."""
    crossbar, product = weights.crossbar, weights.product
    padded = weights.grid.pad_inputs(codes)
    currents = weights.lose_on_wires_(product.product(padded), padded)
    return currents, product.variance(padded) if crossbar.weight_read_noise > 0 else None
