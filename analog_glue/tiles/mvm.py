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

from dataclasses import dataclass, field

import torch
from torch import Tensor

from analog_glue.kernels.gaussian import fill_normal
from analog_glue.kernels.parallel import run
from analog_glue.kernels.products import BlockProduct, Int8Product, make_product
from analog_glue.seeding import key as derive_key
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tiles.ir_drop import loss_factor, position_weight
from analog_glue.tiles.mapping import TileGrid

VECTORS = 256  # taken at a time, so that what is between DAC and ADC stays in the cache; part of what a noise key means
FEW_VECTORS = 32  # not worth splitting


@dataclass
class ClippedOutputs:
    """Which ADC outputs of a product clip; few do. `places` indexes [row blocks, vectors, outputs] flattened."""

    parts: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)  # first vector, places (int64), signs (float32)

    def note(self, clipping: Tensor, first: int, vectors: int) -> None:
        """Note the marks −1, 0, +1 (int8 [row blocks, part, outputs]) of vectors `first` … among `vectors`."""
        outputs = clipping.shape[2]
        block, vector, output = clipping.nonzero(as_tuple=True)
        places = (block * vectors + vector + first) * outputs + output
        self.parts.append((first, places, clipping[block, vector, output].float()))  # one step: several threads do this

    def gathered(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Places (int64) and signs (float32, −1 or +1) of all that clip."""
        none = (torch.empty(0, dtype=torch.int64, device=device), torch.empty(0, device=device))
        _, places, signs = zip((0, *none), *sorted(self.parts, key=lambda part: part[0]), strict=True)
        return torch.cat(places), torch.cat(signs)


@dataclass(frozen=True)
class ReadyWeights:
    """Weights of a layer as its tiles present them to the inputs, ready for many products."""

    grid: TileGrid
    crossbar: Crossbar
    product: BlockProduct
    kernel: str = "reference"
    ramped: BlockProduct | None = None  # weights × position, for the IR drop
    magnitudes: BlockProduct | None = None
    multiplies_bytes: bool = False  # weights are single 8-bit numbers in a product by the CPU's own 8-bit instruction

    @classmethod
    def of(
        cls, blocks: Tensor, grid: TileGrid, crossbar: Crossbar, product: str, kernel: str = "reference"
    ) -> "ReadyWeights":
        """
        Args:
            blocks: Normalised weights [row blocks, columns, rows].
            product: "int8", "int8_single", "float16" or "float32" (kernels/products.py).
            kernel: "reference" or "compiled".
        """
        from_cpu = blocks.device.type == "cpu"
        # 8-bit and float16 products need integer codes of at most 8 bits.
        if crossbar.dac_bits is None or crossbar.dac_bits > 8 or (product == "float16" and crossbar.ir_drop > 0):
            product = "float32"
        ramped = magnitudes = None
        if crossbar.ir_drop > 0:
            position = position_weight(grid.row_counts(blocks.device), grid.padded_rows)
            ramped = make_product(blocks * position.unsqueeze(1), product, kernel)
            magnitudes = make_product(blocks.abs(), product, kernel)
        weights = make_product(blocks, product, kernel)
        if kernel == "compiled" and from_cpu and isinstance(weights, Int8Product) and crossbar.ir_drop == 0:
            from analog_glue.kernels import packed, vnni

            if vnni.available():
                weights = packed.PackedProduct(weights, with_variance=crossbar.read_noise > 0)
                return cls(grid, crossbar, weights, kernel, multiplies_bytes=not weights.has_halves)
        return cls(grid, crossbar, weights, kernel, ramped, magnitudes)


@dataclass(frozen=True)
class Scaling:
    """The digital numbers on both sides of a layer's tiles."""

    per_input: Tensor  # [inputs] DAC codes per unit of x: full scale / α
    step: Tensor  # [row blocks, outputs] what an LSB of the ADC is worth at the layer's output
    bias: Tensor | None = None  # [outputs]

    @classmethod
    def of(
        cls, input_range: Tensor, digital_scale: Tensor, grid: TileGrid, crossbar: Crossbar, bias: Tensor | None = None
    ) -> "Scaling":
        """
        Args:
            input_range: α [row blocks], in units of the layer's input.
            digital_scale: [row blocks, outputs]: what a full-on cell stands for, times learned scale and drift compensation.
        """
        per_input = crossbar.dac.full_scale / grid.spread_over_rows(input_range)
        return cls(per_input, digital_scale * (input_range * crossbar.adc.lsb).unsqueeze(1), bias)


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


def code_type(crossbar: Crossbar) -> torch.dtype:
    """int8 holds the codes of a DAC of at most 8 bits."""
    return torch.float32 if crossbar.dac_bits is None or crossbar.dac_bits > 8 else torch.int8


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
    if weights.kernel == "compiled" and x.device.type == "cpu":
        from analog_glue.tiles.compiled_mvm import compiled_mvm

        return compiled_mvm(x, weights, scaling, noise_key, clipped)
    if weights.kernel == "compiled" and x.device.type == "cuda":
        from analog_glue.tiles.triton_mvm import triton_mvm

        return triton_mvm(x, weights, scaling, noise_key, clipped)
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


def adc_codes(codes: Tensor, weights: ReadyWeights, noise_key: int) -> Tensor:
    """What the ADCs answer to DAC `codes` ([vectors, row blocks · rows]), in LSB: [row blocks, vectors, columns]."""
    crossbar = weights.crossbar
    unit = 1 / (crossbar.dac.full_scale * crossbar.adc.lsb)
    currents = weights.product.product(codes, unit)
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


def one_hot_currents(blocks: Tensor, grid: TileGrid, crossbar: Crossbar) -> Tensor:
    """What reaches the ADCs for all one-hot inputs of full scale, without noise, in LSB: [row blocks, columns, rows].

    A one-hot input selects one cell per column, so the product with the identity matrix is the weights themselves.
    """
    lsb = crossbar.adc.lsb
    currents = blocks / lsb
    if crossbar.ir_drop > 0:
        row_counts = grid.row_counts(blocks.device)
        lost = loss_factor(blocks.abs(), row_counts)
        position = position_weight(row_counts, grid.padded_rows).unsqueeze(1)
        currents.sub_(lost.mul_(blocks).mul_(position), alpha=crossbar.ir_drop / lsb)
    return currents


def one_hot_outputs(
    blocks: Tensor, grid: TileGrid, crossbar: Crossbar, noise_key: int, kernel: str = "reference"
) -> Tensor:
    """What the tiles answer to all one-hot inputs of full scale, in units of a full-on cell.

    Exact, with the noise of a product on each cell, at the cost of element-wise work.

    Args:
        blocks: Normalised weights [row blocks, columns, rows].

    Returns:
        [row blocks, columns, rows]: entry (i, j) is the output of column i for the input that drives row j alone. Padded
        rows answer 0.
    """
    lsb = crossbar.adc.lsb
    currents = one_hot_currents(blocks, grid, crossbar)
    if crossbar.is_noisy:
        normal = fill_normal(torch.empty_like(currents), noise_key, kernel)
        if crossbar.read_noise > 0:
            std = blocks.abs().mul_((crossbar.read_noise / lsb) ** 2)
            currents.addcmul_(std.add_(crossbar.output_noise**2).sqrt_(), normal)
        else:
            currents.add_(normal, alpha=crossbar.output_noise)
    crossbar.adc.convert_(currents).mul_(lsb)
    for block, rows in zip(currents, grid.row_blocks, strict=True):
        block[:, rows:] = 0
    return currents
