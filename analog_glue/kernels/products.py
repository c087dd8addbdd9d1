"""Products of DAC codes with the weights of all row blocks of a layer, behind one interface.

    product(codes)   Σ_j w_ij x_j        [row blocks, vectors, columns]
    variance(codes)  Σ_j |w_ij| x_j²     the variance of the current-dependent read noise, up to its constant

`Float32Product` is the reference. `Int8Product` uses what the hardware gives: a DAC code is an integer of at most 8 bits,
and a conductance rounded to 15 bits (3·10⁻⁵ of the largest, three orders below programming noise) splits into two 8-bit
numbers, so two integer products with exact sums replace a float one at a fraction of its time. The variance needs no
precision: |w| and x² enter it as single 8-bit numbers. Most inputs of a transformer are far below their range, so plain
rounding would turn nearly all x² into 0; a fixed dither over the rows keeps the sum right on average, its square root
within 0.5 % where the noise matters.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

LEVELS = 16_256  # of a weight: 127 · 128, so that both halves are 8-bit numbers
GOLDEN = 0.6180339887498949  # multiples of it modulo 1 fill (0, 1) evenly, from any row on


class BlockProduct(ABC):
    """Weights of all row blocks of a layer, made ready for products with DAC codes.

    `codes` are [vectors, row blocks · rows], float32 or int8; results are float32 [row blocks, vectors, columns].
    """

    @abstractmethod
    def product(self, codes: Tensor) -> Tensor:
        """Σ_j w_ij x_j of every row block."""

    @abstractmethod
    def variance(self, codes: Tensor) -> Tensor:
        """Σ_j |w_ij| x_j² of every row block."""


class Float32Product(BlockProduct):
    """The reference: float32 throughout; takes inputs of any kind."""

    def __init__(self, weights: Tensor) -> None:
        """Args: weights: [row blocks, columns, rows], any real numbers."""
        self.weights = weights.transpose(1, 2)
        self._magnitudes: Tensor | None = None

    def product(self, codes: Tensor) -> Tensor:
        return torch.bmm(self._in_blocks(codes), self.weights)

    def variance(self, codes: Tensor) -> Tensor:
        if self._magnitudes is None:
            self._magnitudes = self.weights.abs()
        return torch.bmm(self._in_blocks(codes).square(), self._magnitudes)

    def _in_blocks(self, codes: Tensor) -> Tensor:
        blocks, rows, _ = self.weights.shape
        return codes.float().view(-1, blocks, rows).transpose(0, 1)


class Int8Product(BlockProduct):
    """Exact integer sums of 8-bit codes and 15-bit weights. `codes` must be integers in [−127, 127]."""

    def __init__(self, weights: Tensor) -> None:
        """Args: weights: [row blocks, columns, rows], any real numbers."""
        self.blocks, self.columns, self.rows = weights.shape
        largest = weights.abs().amax().clamp(min=1e-30)
        self._scale = largest / LEVELS
        integers = (weights / self._scale).round_()
        high = (integers / 128).round_()
        low = integers.sub_(high, alpha=128)
        # Both halves side by side: one integer product of twice the columns per row block.
        self._halves = torch.cat([high, low], dim=1).to(torch.int8)
        self._dither = torch.arange(0.5, self.rows).mul_(GOLDEN).frac_().repeat(self.blocks)
        self._magnitude_scale = largest / 127
        self._magnitudes = (weights.abs() / self._magnitude_scale).round_().to(torch.int8)

    def product(self, codes: Tensor) -> Tensor:
        integers = codes.to(torch.int8)
        out = torch.empty(self.blocks, len(codes), self.columns)
        for block in range(self.blocks):
            halves = torch._int_mm(self._block(integers, block), self._halves[block].t()).float()
            torch.add(halves[:, self.columns :], halves[:, : self.columns], alpha=128, out=out[block])
        return out.mul_(self._scale)

    def variance(self, codes: Tensor) -> Tensor:
        squares = codes.float().square().div_(127).add_(self._dither).to(torch.int8)  # the cast rounds down
        out = torch.empty(self.blocks, len(codes), self.columns)
        for block in range(self.blocks):
            out[block] = torch._int_mm(self._block(squares, block), self._magnitudes[block].t())
        return out.mul_(self._magnitude_scale * 127)

    def _block(self, integers: Tensor, block: int) -> Tensor:
        return integers[:, block * self.rows : (block + 1) * self.rows].contiguous()


def make_product(weights: Tensor, kind: str) -> BlockProduct:
    """`kind`: "int8" or "float32" ([row blocks, columns, rows] weights); see `fastest_product` for a choice."""
    if kind == "int8":
        # torch's integer product (2.13) answers wrongly for a single row.
        return Int8Product(weights) if weights.shape[2] > 1 else Float32Product(weights)
    if kind == "float32":
        return Float32Product(weights)
    raise ValueError(f"Argument `kind` must be int8 or float32, but is {kind!r}.")


def fastest_product(device: torch.device | str) -> str:
    """ "int8" on a CPU whose instruction set has 8-bit dot products (AVX-512 VNNI), else "float32"."""
    on_cpu = torch.device(device).type == "cpu"
    return "int8" if on_cpu and torch.cpu._is_vnni_supported() else "float32"
