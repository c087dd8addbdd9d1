"""Products with float16 weights: what the tensor cores of a GPU are fast at.

A DAC code of at most 8 bits is exact in float16, and so is its product with a float16 weight in float32, where all sums are
made. So the one error is the rounding of the weights: at most 2⁻¹¹ of each, 2.4·10⁻⁴ of the largest and 3·10⁻⁵ of one that
is a tenth of it. That is like the 15-bit integers of `products.Int8Product`, far below the noise of programming; bfloat16
would round eight times as coarsely at the same speed.
"""

import torch
from torch import Tensor

from analog_glue.kernels.block_product import BlockProduct


class Float16Product(BlockProduct):
    """Weights for `triton_mvm.multiply`. The products here are the same ones, one operation after another."""

    def __init__(self, weights: Tensor) -> None:
        """Args: weights: [row blocks, columns, rows], up to 65504."""
        self.blocks, self.columns, self.rows = weights.shape
        self.weights = weights.to(torch.float16).contiguous()
        self.magnitudes = self.weights.abs()  # kept: tensor cores read them from memory, they could not be made on the way

    def product(self, codes: Tensor, unit: float = 1.0) -> Tensor:
        return torch.bmm(self._in_blocks(codes), self.weights.float().transpose(1, 2)).mul_(unit)

    def variance(self, codes: Tensor) -> Tensor:
        return torch.bmm(self._in_blocks(codes).square(), self.magnitudes.float().transpose(1, 2))

    def _in_blocks(self, codes: Tensor) -> Tensor:
        return codes.float().view(-1, self.blocks, self.rows).transpose(0, 1)
