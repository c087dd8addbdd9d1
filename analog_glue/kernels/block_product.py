"""The interface of a product over row blocks, and the plain float32 one."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

LARGEST_SQUARE = 126.99  # of squares of codes as 8-bit numbers, before a dither below 1


class BlockProduct(ABC):
    """Weights of all row blocks of a layer, made ready for products with DAC codes.

    `codes` are [vectors, row blocks · rows], float32 or int8; results are float32 [row blocks, vectors, columns].
    """

    blocks: int  # row blocks
    columns: int
    rows: int  # of a row block
    has_halves: bool = False  # whether a weight lies in two 8-bit halves, as [row blocks, 2 · columns, rows]
    gradient_digits: tuple[int, ...] = ()  # 8-bit digits of gradients whose integer products (kernels/gradients.py) pay off

    estimates_variance: bool = False  # whether read noise is drawn with an estimate of `variance`

    @abstractmethod
    def product(self, codes: Tensor, unit: float = 1.0) -> Tensor:
        """Σ_j w_ij x_j of every row block, times `unit`."""

    @abstractmethod
    def variance(self, codes: Tensor) -> Tensor:
        """Σ_j |w_ij| x_j² of every row block."""

    def drawn_variance(self, codes: Tensor) -> Tensor:
        """The variance that read noise is drawn with; not `variance` where `estimates_variance`."""
        return self.variance(codes)

    @property
    def rounding(self) -> float:
        """Weights enter the product as multiples of this; 0: as they are."""
        return 0.0


class Float32Product(BlockProduct):
    """The reference: float32 throughout; takes inputs of any kind."""

    def __init__(self, weights: Tensor) -> None:
        """Args: weights: [row blocks, columns, rows], any real numbers."""
        self.blocks, self.columns, self.rows = weights.shape
        self.weights = weights.transpose(1, 2)
        self._magnitudes: Tensor | None = None

    def product(self, codes: Tensor, unit: float = 1.0) -> Tensor:
        return torch.bmm(self._in_blocks(codes), self.weights).mul_(unit)

    def variance(self, codes: Tensor) -> Tensor:
        if self._magnitudes is None:
            self._magnitudes = self.weights.abs()
        return torch.bmm(self._in_blocks(codes).square(), self._magnitudes)

    def _in_blocks(self, codes: Tensor) -> Tensor:
        return codes.float().view(-1, self.blocks, self.rows).transpose(0, 1)
