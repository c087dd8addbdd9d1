"""Integer products whose weights are laid out for the CPU's own instruction (kernels/integer_gemm.py)."""

import numpy as np
import torch
from torch import Tensor

from analog_glue.kernels import integer_gemm
from analog_glue.kernels.block_product import BlockProduct
from analog_glue.kernels.integer_gemm import BYTES, SIGNED, UNSIGNED, pack, takes_whole
from analog_glue.kernels.products import Int8Product, joined

NO_MAGNITUDES = np.empty((0, 0, 0, 0, 0), UNSIGNED.weights)


def multiplies_bytes(product: Int8Product) -> bool:
    """Whether its weights are single 8-bit numbers, and the CPU has an instruction for four such."""
    return SIGNED.group == BYTES and not product.has_halves


class PackedProduct(BlockProduct):
    """The weights of an `Int8Product` in the order in which vector registers take them; the same sums, sooner."""

    def __init__(self, product: Int8Product, with_variance: bool) -> None:
        """`with_variance` False: without magnitudes, for tiles without read noise."""
        self.blocks, self.columns, self.rows = product.blocks, product.columns, product.rows
        self.scale, self.magnitude_scale, self.dither = product.scale, product.magnitude_scale, product.dither
        self.has_halves = product.has_halves and not takes_whole(self.rows)
        self.multiplies_bytes = multiplies_bytes(product)
        integers = product.integers.numpy()
        if product.has_halves and not self.has_halves:
            integers, lower = np.multiply(integers[:, : self.columns], 128, dtype=np.int16), integers[:, self.columns :]
            integers += lower
        self.weights = pack(integers)
        self.magnitudes = pack(product.magnitudes.numpy(), UNSIGNED) if with_variance else NO_MAGNITUDES

    @property
    def rounding(self) -> float:
        return self.scale

    def scratch_size(self, reads: bool) -> int:
        """int32 numbers of memory that `integer_gemm.analog_chunk` works in; `reads`: with read noise."""
        return integer_gemm.scratch_size(self.blocks, self.rows, self.columns, self.has_halves, reads)

    def product(self, codes: Tensor, unit: float = 1.0) -> Tensor:
        sums = self._sums(codes.to(torch.int8), self.weights)
        if self.has_halves:
            sums = joined(sums, self.columns)
        return sums.float().mul_(self.scale * unit)

    def variance(self, codes: Tensor) -> Tensor:
        dither = self.dither.repeat(self.blocks)
        squares = codes.float().square().div_(127).add_(dither).to(torch.int8)  # rounds down
        return self._sums(squares, self.magnitudes).float().mul_(self.magnitude_scale * 127)

    def _sums(self, numbers: Tensor, packed: np.ndarray) -> Tensor:
        columns = self.columns * (1 + self.has_halves) if packed is self.weights else self.columns
        sums = torch.empty(self.blocks, len(numbers), columns, dtype=torch.int32)
        for block, part in enumerate(numbers.split(self.rows, dim=1)):
            integer_gemm.multiply(part.contiguous().numpy(), packed[block], sums[block].numpy())
        return sums
