"""Products of DAC codes with the weights of all row blocks of a layer, behind one interface.

    product(codes)   Σ_j w_ij x_j        [row blocks, vectors, columns]
    variance(codes)  Σ_j |w_ij| x_j²     the variance of the current-dependent read noise, up to its constant

`Float32Product` is the reference. `Int8Product` uses what the hardware gives: a DAC code is an integer of at most 8 bits,
and a weight rounded to 15 bits (3·10⁻⁵ of the largest, three orders below programming noise) splits into two 8-bit
numbers, so two integer products with exact sums replace a float one at half its time. Rounded to 8 bits a single product
is enough; its rounding error, 0.23 % of the largest weight, is one more error of the weights, so it is for devices whose
programming noise is several times that. The variance needs no precision: |w| and x² enter it as single 8-bit
numbers. Most inputs of a transformer are far below their range, so plain rounding would turn nearly all x² into 0; a
fixed dither over the rows keeps the sum right on average, its square root within 0.5 % where the noise matters.
"""

import torch
from torch import Tensor

from analog_glue.kernels.block_product import BlockProduct, Float32Product

LEVELS = 16_256  # of a weight: 127 · 128, so that both halves are 8-bit numbers


ROUNDING = 1 / 127 / 12**0.5  # standard deviation of rounding to 8 bits, in units of the largest weight


MARGIN = 3.5  # of the weights' own noise over rounding: that adds 4 % where the noise is smallest


GOLDEN = 0.6180339887498949  # multiples of it modulo 1 fill (0, 1) evenly, from any row on


class Int8Product(BlockProduct):
    """Exact integer sums of 8-bit codes and weights of 15 or 8 bits. `codes` must be integers in [−127, 127]."""

    def __init__(self, weights: Tensor, bits: int = 15, kernel: str = "reference") -> None:
        """Args: weights: [row blocks, columns, rows], any real numbers; bits: 15 (two 8-bit halves) or 8."""
        self.blocks, self.columns, self.rows = weights.shape
        self.has_halves = bits == 15
        largest = max(_largest(weights, kernel), 1e-30)
        self.scale = largest / (LEVELS if self.has_halves else 127)  # of a weight
        self.magnitude_scale = largest / 127
        self.dither = torch.arange(0.5, self.rows).mul_(GOLDEN).frac_()
        if kernel == "compiled":
            self.integers, self.magnitudes = self._rounded(weights)
            return
        integers = (weights * (1 / self.scale)).round_()
        if self.has_halves:
            high = (integers / 128).round_()
            low = integers.sub_(high, alpha=128)
            # Both halves side by side: one integer product of twice the columns per row block.
            self.integers = torch.cat([high, low], dim=1).to(torch.int8)
            self.magnitudes = (weights.abs() * (1 / self.magnitude_scale)).round_().to(torch.int8)
        else:
            self.integers = integers.to(torch.int8)
            self.magnitudes = self.integers.abs()

    @property
    def rounding(self) -> float:
        return self.scale

    def _rounded(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        import numpy as np

        from analog_glue.kernels.weights import share_columns, to_integers

        integers = torch.empty(self.blocks, self.columns * (1 + self.has_halves), self.rows, dtype=torch.int8)
        magnitudes = torch.empty(self.blocks, self.columns, self.rows, dtype=torch.int8)
        units = np.float32(1 / self.scale), np.float32(1 / self.magnitude_scale)
        weights = weights.contiguous().numpy()
        results = integers.numpy(), magnitudes.numpy()
        share_columns(to_integers, self.columns, weights, units[0], self.has_halves, units[1], *results)
        return integers, magnitudes

    def product(self, codes: Tensor, unit: float = 1.0) -> Tensor:
        integers = codes.to(torch.int8)
        out = torch.empty(self.blocks, len(codes), self.columns)
        for block in range(self.blocks):
            sums = torch._int_mm(self._block(integers, block), self.integers[block].t())
            out[block] = sums[:, self.columns :].add(sums[:, : self.columns], alpha=128) if self.has_halves else sums
        return out.mul_(self.scale * unit)  # one rounding, as in the compiled kernel

    def variance(self, codes: Tensor) -> Tensor:
        squares = codes.float().square().div_(127).add_(self.dither.repeat(self.blocks)).to(torch.int8)  # rounds down
        out = torch.empty(self.blocks, len(codes), self.columns)
        for block in range(self.blocks):
            out[block] = torch._int_mm(self._block(squares, block), self.magnitudes[block].t())
        return out.mul_(self.magnitude_scale * 127)

    def _block(self, integers: Tensor, block: int) -> Tensor:
        return integers[:, block * self.rows : (block + 1) * self.rows].contiguous()


def _largest(weights: Tensor, kernel: str) -> float:
    if kernel == "compiled" and weights.device.type == "cpu":
        from analog_glue.kernels.weights import largest_magnitude

        return float(largest_magnitude(weights.contiguous().view(-1).numpy()))
    return weights.abs().max().item()


def make_product(weights: Tensor, kind: str, kernel: str = "reference") -> BlockProduct:
    """`kind`: "int8", "int8_single", "float16" or "float32" ([row blocks, columns, rows] weights); see `choose_product`."""
    if kind in ("int8", "int8_single"):
        # torch's integer product (2.13) answers wrongly for a single row.
        bits = 15 if kind == "int8" else 8
        return Int8Product(weights, bits, kernel) if weights.shape[2] > 1 else Float32Product(weights)
    if kind == "float16":
        from analog_glue.kernels.triton_product import Float16Product

        return Float16Product(weights)
    if kind == "float32":
        return Float32Product(weights)
    raise ValueError(f"Argument `kind` must be int8, int8_single, float16 or float32, but is {kind!r}.")


def choose_product(wanted: str, device: torch.device | str, noise_floor: float, kernel: str = "compiled") -> str:
    """The product for the setting `runtime.product`; auto takes the fastest that the weights' own noise allows.

    Args:
        noise_floor: The smallest standard deviation of a weight's error, in units of the largest weight: what rounding has
            to stay below by a factor of `MARGIN`.
        kernel: On a GPU the reference kernel goes with the reference product.
    """
    if wanted != "auto":
        return wanted
    if torch.device(device).type == "cuda":
        return "float16" if kernel == "compiled" else "float32"
    if torch.device(device).type != "cpu" or not torch.cpu._is_vnni_supported():
        return "float32"
    return "int8_single" if noise_floor >= MARGIN * ROUNDING else "int8"
