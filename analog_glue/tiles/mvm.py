"""The matrix–vector product of a layer on its tiles: the hot path.

Per row block r and column i, for one input vector x with input range α_r (order of Spoon et al. 2021, Sec. 2.1.3):

    k_j = round(127 x_j / α_r), clipped to ±127                                  DAC
    y   = Σ_j w_ij k_j / 127  + σ_w √(Σ_j |w_ij| (k_j/127)²) ξ                    currents, short-term read noise
          − IR drop + σ_out ξ'                                                    output noise
    c   = round(y / LSB), clipped                                                 ADC
    Y_i = Σ_r digital_scale[r, i] · α_r · LSB · c                                 digital: scale, sum over row blocks

ξ and ξ' are independent, so one normal number of the summed variance stands for both. All row blocks of a layer are one
batched product; vectors are taken in chunks that stay in the cache.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from analog_glue.kernels.gaussian import fill_normal
from analog_glue.kernels.parallel import run
from analog_glue.kernels.products import BlockProduct, make_product
from analog_glue.seeding import key as derive_key
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tiles.ir_drop import loss_factor, position_weight
from analog_glue.tiles.mapping import TileGrid

VECTORS = 256  # taken at a time, so that what is between DAC and ADC stays in the cache; part of what a noise key means
FEW_VECTORS = 32  # not worth splitting


@dataclass(frozen=True)
class ReadyWeights:
    """Weights of a layer as its tiles present them to the inputs, ready for many products."""

    grid: TileGrid
    crossbar: Crossbar
    product: BlockProduct
    ramped: BlockProduct | None = None  # weights × position, for the IR drop
    magnitudes: BlockProduct | None = None

    @classmethod
    def of(cls, blocks: Tensor, grid: TileGrid, crossbar: Crossbar, product: str) -> "ReadyWeights":
        """Args: blocks: normalised weights [row blocks, columns, rows]; product: "int8" or "float32"."""
        # 8-bit products need integer codes of at most 8 bits.
        if crossbar.dac_bits is None or crossbar.dac_bits > 8:
            product = "float32"
        ramped = magnitudes = None
        if crossbar.ir_drop > 0:
            position = position_weight(grid.row_counts(blocks.device), grid.padded_rows)
            ramped = make_product(blocks * position.unsqueeze(1), product)
            magnitudes = make_product(blocks.abs(), product)
        return cls(grid, crossbar, make_product(blocks, product), ramped, magnitudes)


def dac_codes(x: Tensor, weights_on: TileGrid, crossbar: Crossbar, input_range: Tensor) -> Tensor:
    """DAC codes of inputs `x` [vectors, inputs] under `input_range` α [row blocks, in units of x].

    Returns:
        Same shape as x: int8 of a DAC of at most 8 bits, float32 of a finer one.
    """
    bits = crossbar.dac_bits
    codes = torch.empty_like(x, dtype=torch.float32 if bits is None or bits > 8 else torch.int8)
    ranges = weights_on.spread_over_rows(input_range)

    def convert(start: int) -> None:
        taken = slice(start, start + VECTORS)
        codes[taken] = crossbar.dac.codes(x[taken], ranges)

    run(convert, range(0, len(x), VECTORS), x.device)
    return codes


def mvm(
    codes: Tensor,
    weights: ReadyWeights,
    input_range: Tensor,
    digital_scale: Tensor,
    noise_key: int,
    saturated: Tensor | None = None,
) -> Tensor:
    """Analog product of every row of DAC codes with the weights of a layer.

    Args:
        codes: [vectors, inputs], from `dac_codes` with the same `input_range`.
        weights: The layer's weights, in units of a full-on cell.
        input_range: α [row blocks], in units of the layer's input.
        digital_scale: [row blocks, outputs]: what a full-on cell stands for, times learned scale and drift compensation.
        noise_key: Names the noise of this call; the same key gives the same noise.
        saturated: If given, an int8 tensor [row blocks, vectors, outputs] that is set to −1, 0 or +1: which ADCs clip.

    Returns:
        [vectors, outputs] float32, without the layer's bias.
    """
    step = digital_scale * (input_range * weights.crossbar.adc.lsb).unsqueeze(1)
    out = torch.empty(len(codes), weights.grid.outputs, device=codes.device)
    vectors = min(VECTORS, max(FEW_VECTORS, -(-len(codes) // 2)))

    def convert(start: int) -> None:
        taken = slice(start, start + vectors)
        converted = adc_codes(weights.grid.pad_inputs(codes[taken]), weights, derive_key(noise_key, start))
        if saturated is not None:
            saturated[:, taken] = weights.crossbar.adc.clipping(converted)
        summed = torch.mul(converted[0], step[0], out=out[taken])
        for block in range(1, len(converted)):
            summed.addcmul_(converted[block], step[block])

    run(convert, range(0, len(codes), vectors), codes.device)
    return out


def adc_codes(codes: Tensor, weights: ReadyWeights, noise_key: int) -> Tensor:
    """What the ADCs answer to DAC `codes` ([vectors, row blocks · rows]), in LSB: [row blocks, vectors, columns]."""
    crossbar = weights.crossbar
    unit = 1 / (crossbar.dac.full_scale * crossbar.adc.lsb)
    currents = weights.product.product(codes).mul_(unit)
    if crossbar.ir_drop > 0:
        load = weights.magnitudes.product(codes.abs()).div_(crossbar.dac.full_scale)
        lost = loss_factor(load, weights.grid.row_counts(codes.device))
        currents.addcmul_(lost, weights.ramped.product(codes), value=-crossbar.ir_drop * unit)
    if crossbar.is_noisy:
        normal = fill_normal(torch.empty_like(currents), noise_key)
        if crossbar.read_noise > 0:
            std = weights.product.variance(codes).mul_((crossbar.read_noise * unit) ** 2)
            currents.addcmul_(std.add_(crossbar.output_noise**2).sqrt_(), normal)
        else:
            currents.add_(normal, alpha=crossbar.output_noise)
    return crossbar.adc.convert_(currents)


def one_hot_outputs(blocks: Tensor, grid: TileGrid, crossbar: Crossbar, noise_key: int) -> Tensor:
    """What the tiles answer to all one-hot inputs of full scale, in units of a full-on cell.

    A one-hot input selects one cell per column, so the product with the identity matrix is the weights themselves with the
    noise of a product on each: exact, at the cost of element-wise work.

    Args:
        blocks: Normalised weights [row blocks, columns, rows].

    Returns:
        [row blocks, columns, rows]: entry (i, j) is the output of column i for the input that drives row j alone. Padded
        rows answer 0.
    """
    lsb = crossbar.adc.lsb
    currents = blocks / lsb
    if crossbar.ir_drop > 0:
        row_counts = grid.row_counts(blocks.device)
        lost = loss_factor(blocks.abs(), row_counts)
        position = position_weight(row_counts, grid.padded_rows).unsqueeze(1)
        currents.sub_(lost.mul_(blocks).mul_(position), alpha=crossbar.ir_drop / lsb)
    if crossbar.is_noisy:
        normal = fill_normal(torch.empty_like(currents), noise_key)
        if crossbar.read_noise > 0:
            std = blocks.abs().mul_((crossbar.read_noise / lsb) ** 2)
            currents.addcmul_(std.add_(crossbar.output_noise**2).sqrt_(), normal)
        else:
            currents.add_(normal, alpha=crossbar.output_noise)
    crossbar.adc.convert_(currents).mul_(lsb)
    for block, rows in zip(currents, grid.row_blocks, strict=True):
        block[:, rows:] = 0
    return currents
