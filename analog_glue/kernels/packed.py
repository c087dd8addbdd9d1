"""Integer products whose weights are laid out for the CPU's own 8-bit instruction (kernels/vnni.py)."""

import numpy as np
import torch
from torch import Tensor

from analog_glue.kernels import vnni
from analog_glue.kernels.block_product import BlockProduct
from analog_glue.kernels.products import Int8Product, joined

NO_MAGNITUDES = np.empty((0, 0, 0, 0, 0), np.uint8)


class PackedProduct(BlockProduct):
    """The weights of an `Int8Product` in the order in which vector registers take them; the same sums, sooner."""

    def __init__(self, product: Int8Product, with_variance: bool) -> None:
        """`with_variance` False: without magnitudes, for tiles without read noise."""
        self.blocks, self.columns, self.rows = product.blocks, product.columns, product.rows
        self.has_halves, self.scale, self.magnitude_scale = product.has_halves, product.scale, product.magnitude_scale
        self.dither = product.dither
        self.multiplies_bytes = not self.has_halves
        self.weights = vnni.pack(product.integers.numpy())
        self.magnitudes = vnni.pack(product.magnitudes.numpy()) if with_variance else NO_MAGNITUDES

    @property
    def rounding(self) -> float:
        return self.scale

    def scratch_size(self, reads: bool) -> int:
        """int32 numbers of memory that `vnni.analog_chunk` works in; `reads`: with read noise."""
        return vnni.scratch_size(self.blocks, self.rows, self.columns, self.has_halves, reads)

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
            vnni.multiply(part.contiguous().numpy(), packed[block], sums[block].numpy())
        return sums
