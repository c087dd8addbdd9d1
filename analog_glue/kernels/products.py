"""Products of DAC codes with the weights of all row blocks of a layer, behind one interface.

    product(codes)   Σ_j w_ij x_j        [row blocks, vectors, columns]
    variance(codes)  Σ_j |w_ij| x_j²     the variance of the current-dependent read noise, up to its constant

`Float32Product` is the reference. `Int8Product` uses what the hardware gives: a DAC code is an integer of at most 8 bits,
and a weight rounded to 15 bits (3·10⁻⁵ of the largest, three orders below programming noise) splits into two 8-bit
numbers, so two integer products with exact sums replace a float one at half its time. Rounded to 8 bits a single product
is enough; its rounding error, 0.23 % of the largest weight, is one more error of the weights, so it is for devices whose
programming noise is several times that. The variance needs no precision: |w| and x² enter it as single 8-bit numbers.
Most inputs of a transformer are far below their range, so x² counts in units of the largest of its vector, and a fixed
dither over the rows keeps the sum right on average: σ is right within 0.4 % rms on MiniLM's activations.
"""

import logging
from functools import cache

import numpy as np
import torch
from torch import Tensor

from analog_glue.kernels import integer_product
from analog_glue.kernels.block_product import LARGEST_SQUARE, BlockProduct, Float32Product
from analog_glue.kernels.operation import operation

log = logging.getLogger(__name__)

LEVELS = 16_256  # of a weight: 127 · 128, so that both halves are 8-bit numbers
# [bits] of a weight in each product
WEIGHT_DIGITS = {"int8": 15, "int8_single": 8, "int8_outliers": 8, "float16": 11, "float32": 24}
ESTIMATING = "int8_outliers"  # the product whose read noise is that of kernels/outliers.py
ROUNDING = 1 / 127 / 12**0.5  # standard deviation of rounding to 8 bits, in units of the largest weight
MARGIN = 3.5  # of the weights' own noise over rounding: that adds 4 % where the noise is smallest
GOLDEN = 0.6180339887498949  # multiples of it modulo 1 fill (0, 1) evenly, from any row on


class Int8Product(BlockProduct):
    """Exact integer sums of 8-bit codes and weights of 15 or 8 bits. `codes` must be integers in [−127, 127]."""

    def __init__(self, weights: Tensor, bits: int = 15, kernel: str = "reference", of_outliers: bool = False) -> None:
        """
        Args:
            weights: [row blocks, columns, rows], any real numbers.
            bits: 15 (two 8-bit halves) or 8.
            of_outliers: Whether compiled kernels may take the variance of most rows by a mean (kernels/outliers.py).
        """
        self.of_outliers = of_outliers
        self.blocks, self.columns, self.rows = weights.shape
        self.has_halves = bits == 15
        largest = max(largest_magnitude.by(kernel, weights.device)(weights), 1e-30)
        self.scale = largest / (LEVELS if self.has_halves else 127)  # of a weight
        self.magnitude_scale = largest / 127
        self.dither = torch.arange(0.5, self.rows).mul_(GOLDEN).frac_()
        rounded = to_integers.by(kernel, weights.device)
        self.integers, self.magnitudes = rounded(weights, 1 / self.scale, self.has_halves, 1 / self.magnitude_scale)

    @property
    def rounding(self) -> float:
        return self.scale

    def product(self, codes: Tensor, unit: float = 1.0) -> Tensor:
        integers = codes.to(torch.int8)
        out = torch.empty(self.blocks, len(codes), self.columns)
        sums = torch.empty(len(codes), self.integers.shape[1], dtype=torch.int32)
        for block in range(self.blocks):
            integer_product.multiply(self._block(integers, block), self.integers[block], sums)
            out[block] = joined(sums, self.columns) if self.has_halves else sums
        return out.mul_(self.scale * unit)  # one rounding, as in the compiled kernel

    def variance(self, codes: Tensor) -> Tensor:
        out = torch.empty(self.blocks, len(codes), self.columns)
        sums = torch.empty(len(codes), self.columns, dtype=torch.int32)
        for block in range(self.blocks):
            squares, worth = squared(self._block(codes, block), self.dither)
            out[block] = integer_product.multiply(squares, self.magnitudes[block], sums) * worth.unsqueeze(1)
        return out.mul_(self.magnitude_scale)

    def sum_up(self, block: int, rows: Tensor, out: Tensor) -> None:
        """Σ of `rows` int8 [vectors, rows] with the weights of a row block, or their halves, into `out`, int32."""
        integer_product.multiply(rows, self.integers[block], out)

    def sum_up_squares(self, block: int, squares: Tensor, out: Tensor) -> None:
        """Σ of `squares` int8 [vectors, rows] with the magnitudes of a row block into `out`, int32 [vectors, columns]."""
        integer_product.multiply(squares, self.magnitudes[block], out)

    def _block(self, integers: Tensor, block: int) -> Tensor:
        return integers[:, block * self.rows : (block + 1) * self.rows].contiguous()


def squared(codes: Tensor, dither: Tensor) -> tuple[Tensor, Tensor]:
    """Squares of `codes` [vectors, rows] as 8-bit numbers, rounded down after `dither`, and what 1 is worth to each vector."""
    squares = codes.float().square()
    largest = squares.amax(dim=1)
    per_unit = torch.where(largest > 0, LARGEST_SQUARE / largest, 0.0)
    return squares.mul_(per_unit.unsqueeze(1)).add_(dither).to(torch.int8), largest / LARGEST_SQUARE


def joined(sums: Tensor, columns: int) -> Tensor:
    """Sums of whole weights from those of their halves […, 2 · columns], in 64 bits: above 1,040 rows 32 are too few."""
    return sums[..., columns:].long().add_(sums[..., :columns], alpha=128)


@operation
def largest_magnitude(weights: Tensor) -> float:
    """Largest |weight|."""
    return weights.abs().max().item()


@largest_magnitude.compiled("cpu")
def _largest_magnitude(weights: Tensor) -> float:
    from analog_glue.kernels.weights import largest_magnitude

    return float(largest_magnitude(weights.contiguous().view(-1).numpy()))


@operation
def to_integers(weights: Tensor, per_unit: float, halves: bool, magnitudes_per_unit: float) -> tuple[Tensor, Tensor]:
    """Weights and their magnitudes as 8-bit numbers.

    Args:
        weights: [row blocks, columns, rows].
        per_unit: Integers per unit of weight; `magnitudes_per_unit`: of magnitude.
        halves: Whether to round to 15 bits, in two 8-bit halves.

    Returns:
        int8 of the shape of `weights`, with `halves` [row blocks, 2 · columns, rows]: both halves side by side, so that one
        integer product of twice the columns takes them; and the magnitudes, int8 of the shape of `weights`.
    """
    integers = (weights * per_unit).round_()
    if not halves:
        single = integers.to(torch.int8)
        return single, single.abs()
    high = (integers / 128).round_()
    low = integers.sub_(high, alpha=128)
    magnitudes = (weights.abs() * magnitudes_per_unit).round_().to(torch.int8)
    return torch.cat([high, low], dim=1).to(torch.int8), magnitudes


@to_integers.compiled("cpu")
def _to_integers(weights: Tensor, per_unit: float, halves: bool, magnitudes_per_unit: float) -> tuple[Tensor, Tensor]:
    from analog_glue.kernels.weights import share_columns, to_integers

    blocks, columns, rows = weights.shape
    integers = torch.empty(blocks, columns * (1 + halves), rows, dtype=torch.int8)
    magnitudes = torch.empty(blocks, columns, rows, dtype=torch.int8)
    arrays = weights.contiguous().numpy(), np.float32(per_unit), halves, np.float32(magnitudes_per_unit)
    share_columns(to_integers, columns, *arrays, integers.numpy(), magnitudes.numpy())
    return integers, magnitudes


def make_product(weights: Tensor, kind: str, kernel: str = "reference") -> BlockProduct:
    """`weights`: [row blocks, columns, rows]; `kind`: one of `WEIGHT_DIGITS`; see `choose_product`."""
    if kind.startswith("int8"):
        # torch's integer product (2.13) answers wrongly for a single row.
        bits = 15 if kind == "int8" else 8
        return Int8Product(weights, bits, kernel, kind == ESTIMATING) if weights.shape[2] > 1 else Float32Product(weights)
    if kind == "float16":
        from analog_glue.kernels.triton_product import Float16Product

        return Float16Product(weights)
    if kind == "float32":
        return Float32Product(weights)
    raise ValueError(f"Argument `kind` must be one of {', '.join(WEIGHT_DIGITS)}, but is {kind!r}.")


def choose_product(
    wanted: str, device: torch.device | str, noise_floor: float, kernel: str = "compiled", rows: int = integer_product.MOST_ROWS
) -> str:
    """The product for the setting `runtime.product`; auto takes the fastest exact one that the weights' own noise allows.

    Args:
        noise_floor: The smallest standard deviation of a weight's error, in units of the largest weight: what rounding has
            to stay below by a factor of `MARGIN`.
        kernel: On a GPU the reference kernel goes with the reference product.
        rows: Of a tile, for which a product of integers is tried.
    """
    if wanted != "auto":
        return wanted
    if torch.device(device).type == "cuda":
        return "float16" if kernel == "compiled" else "float32"
    if torch.device(device).type != "cpu":
        return "float32"
    if not integer_product.is_fast(kernel, rows):
        _say_once(integer_product.obstacle(kernel, rows) or "no product of 8-bit integers is known to be fast on this CPU")
        return "float32"
    return "int8_single" if hides_rounding(noise_floor) else "int8"


@cache
def _say_once(why: str) -> None:
    log.warning("Products are computed in float32: %s", why)


def hides_rounding(noise_floor: float) -> bool:
    """Whether an error of weights with at least this standard deviation hides one more of rounding to 8 bits."""
    return noise_floor >= MARGIN * ROUNDING
