"""What a product takes and gives besides its inputs: weights made ready, scales, places that were clipped."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from analog_glue.kernels.block_product import BlockProduct
from analog_glue.kernels.products import Int8Product, make_product
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tiles.ir_drop import position_weight
from analog_glue.tiles.mapping import TileGrid


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
    def of(cls, blocks: Tensor, grid: TileGrid, crossbar: Crossbar, product: str, kernel: str = "reference") -> "ReadyWeights":
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


def code_type(crossbar: Crossbar) -> torch.dtype:
    """int8 holds the codes of a DAC of at most 8 bits."""
    return torch.float32 if crossbar.dac_bits is None or crossbar.dac_bits > 8 else torch.int8
