"""What a product takes and gives besides its inputs: weights made ready, scales, places that were clipped."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from analog_glue.kernels.block_product import BlockProduct
from analog_glue.kernels.integer_product import compiled_is_exact, torch_is_faster
from analog_glue.kernels.operation import operation
from analog_glue.kernels.products import Int8Product, make_product
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tiles.ir_drop import loss_factor, position_weight
from analog_glue.tiles.mapping import TileGrid


@dataclass
class ClippedOutputs:
    """Which ADC outputs of a product clip; few do. `places` indexes [row blocks, vectors, outputs] flattened."""

    parts: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)  # first vector, places (int64), signs (float32)

    def note(self, clipping: Tensor, first: int, vectors: int) -> None:
        """Note the marks −1, 0, +1 (int8 [row blocks, part, outputs]) of vectors `first` … among `vectors`."""
        _, part, outputs = clipping.shape
        marks = clipping.flatten()
        here = _nonzero(marks)
        block = here // (part * outputs)
        places = here + (block * (vectors - part) + first) * outputs
        self.parts.append((first, places, marks[here].float()))  # one step: several threads do this

    def gathered(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Places (int64) and signs (float32, −1 or +1) of all that clip."""
        none = (torch.empty(0, dtype=torch.int64, device=device), torch.empty(0, device=device))
        _, places, signs = zip((0, *none), *sorted(self.parts, key=lambda part: part[0]), strict=True)
        return torch.cat(places), torch.cat(signs)


def _nonzero(marks: Tensor) -> Tensor:
    """Indices of the entries of `marks` (int8) that are not 0, in order. Few are, so eight at a time are looked at first."""
    if marks.numel() % 8:
        return marks.nonzero().squeeze(1)
    words = marks.view(torch.int64).nonzero().squeeze(1)
    word, byte = marks.view(-1, 8)[words].nonzero(as_tuple=True)
    return words[word] * 8 + byte


@dataclass(frozen=True)
class WireLoss:
    """The products that the IR drop needs beside that of the weights (tiles/ir_drop.py)."""

    ramped: BlockProduct  # weights × position
    magnitudes: BlockProduct

    @classmethod
    def of(cls, blocks: Tensor, grid: TileGrid, product: str, kernel: str) -> "WireLoss":
        """Args: blocks: Normalised weights [row blocks, columns, rows]."""
        position = position_weight(grid.row_counts(blocks.device), grid.padded_rows)
        arrange = arranged.by(kernel, blocks.device)
        ramped, magnitudes = (make_product(one, product, kernel) for one in (blocks * position.unsqueeze(1), blocks.abs()))
        return cls(arrange(ramped, False), arrange(magnitudes, False, of_magnitudes=True))


@dataclass(frozen=True)
class ReadyWeights:
    """Weights of a layer as its tiles present them to the inputs, ready for many products."""

    grid: TileGrid
    crossbar: Crossbar
    product: BlockProduct
    kernel: str = "reference"
    wires: WireLoss | None = None  # of tiles with IR drop

    @classmethod
    def of(cls, blocks: Tensor, grid: TileGrid, crossbar: Crossbar, product: str, kernel: str = "reference") -> "ReadyWeights":
        """
        Args:
            blocks: Normalised weights [row blocks, columns, rows].
            product: "int8", "int8_single", "float16" or "float32" (kernels/products.py).
            kernel: "reference" or "compiled".
        """
        product = possible_product(product, crossbar)
        weights = arranged.by(kernel, blocks.device)(make_product(blocks, product, kernel), crossbar.weight_read_noise > 0)
        if crossbar.ir_drop > 0:
            weights.gradient_digits = ()  # trainings on such tiles keep the bits of their backward products
            return cls(grid, crossbar, weights, kernel, WireLoss.of(blocks, grid, product, kernel))
        return cls(grid, crossbar, weights, kernel)

    def lose_on_wires_(self, currents: Tensor, codes: Tensor, unit: float = 1.0) -> Tensor:
        """Take what DAC `codes` [vectors, row blocks · rows] lose along the wires out of their `currents`, in place.

        Args:
            currents: [row blocks, vectors, columns], times `unit`.
        """
        if self.wires is None:
            return currents
        load = self.wires.magnitudes.product(codes.abs()).div_(self.crossbar.dac.full_scale)
        lost = loss_factor(load, self.grid.row_counts(codes.device))
        return currents.addcmul_(lost, self.wires.ramped.product(codes), value=-self.crossbar.ir_drop * unit)


@operation
def arranged(product: BlockProduct, with_variance: bool, of_magnitudes: bool = False) -> BlockProduct:
    """`product` in the order in which this machine multiplies its weights soonest; see `packed.PackedProduct`."""
    return product


@arranged.compiled("cpu")
def _packed(product: BlockProduct, with_variance: bool, of_magnitudes: bool = False) -> BlockProduct:
    if isinstance(product, Int8Product) and compiled_is_exact(product.rows):
        from analog_glue.kernels.packed import PackedProduct, gradient_digits

        estimates = with_variance and product.of_outliers  # which torch's product does not
        if not estimates and torch_is_faster(product.rows, product.columns):
            product.gradient_digits = gradient_digits(product)  # in the backward pass
            return product
        return PackedProduct(product, with_variance, of_magnitudes)
    return product


def possible_product(product: str, crossbar: Crossbar) -> str:
    """`product` where the codes and wires of `crossbar` allow it, else "float32"."""
    codes_fit = crossbar.dac_bits is not None and crossbar.dac_bits <= 8  # 8-bit and float16 products need such integers
    return product if codes_fit and not (product == "float16" and crossbar.ir_drop > 0) else "float32"


@dataclass(frozen=True)
class Scaling:
    """The digital numbers on both sides of a layer's tiles."""

    per_input: Tensor  # [inputs] DAC codes per unit of x: full scale / α
    step: Tensor  # [row blocks, outputs] what an LSB of the ADC is worth at the layer's output
    bias: Tensor | None = None  # [outputs]

    @classmethod
    def of(
        cls,
        input_range: Tensor,
        digital_scale: Tensor,
        grid: TileGrid,
        crossbar: Crossbar,
        bias: Tensor | None = None,
        input_scale: Tensor | None = None,
    ) -> "Scaling":
        """
        Args:
            input_range: α [row blocks], in units of the layer's input over `input_scale`.
            digital_scale: [row blocks, outputs]: what a full-on cell stands for, times learned scale and drift compensation.
            input_scale: [inputs] that inputs are divided by before the DAC, since the weights are multiplied by it; None: 1.
        """
        per_input = crossbar.dac.full_scale / grid.spread_over_rows(input_range)
        if input_scale is not None:
            per_input = per_input / input_scale
        return cls(per_input, digital_scale * (input_range * crossbar.adc.lsb).unsqueeze(1), bias)


def code_type(crossbar: Crossbar) -> torch.dtype:
    """int8 holds the codes of a DAC of at most 8 bits."""
    return torch.float32 if crossbar.dac_bits is None or crossbar.dac_bits > 8 else torch.int8
