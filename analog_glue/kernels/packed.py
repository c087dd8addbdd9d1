"""Integer products whose weights are laid out for the CPU's own instruction (kernels/integer_gemm.py)."""

import numpy as np
import torch
from torch import Tensor

from analog_glue.kernels import integer_gemm
from analog_glue.kernels.block_product import BlockProduct
from analog_glue.kernels.integer_gemm import BYTES, SIGNED, UNSIGNED, pack, takes_whole
from analog_glue.kernels.outliers import choose, groups_taken, shares
from analog_glue.kernels.products import Int8Product, joined, squared

NO_MAGNITUDES = np.empty((0, 0, 0, 0, 0), UNSIGNED.weights)
NO_SHARES = np.empty((0, 0), np.float32), np.empty((0, 0), np.float32)


def gradient_digits(product: Int8Product) -> tuple[int, ...]:
    """Of gradients that are multiplied as integers in the backward pass: where weights are single 8-bit numbers."""
    if product.has_halves:
        return ()
    return (2, 3) if SIGNED.group == BYTES else (2,)


class PackedProduct(BlockProduct):
    """The weights of an `Int8Product` in the order in which vector registers take them; the same sums, sooner."""

    def __init__(self, product: Int8Product, with_variance: bool, of_magnitudes: bool = False) -> None:
        """
        Args:
            with_variance: Whether read noise is drawn, for which magnitudes are kept.
            of_magnitudes: No weight and no code of `sum_up` is negative.
        """
        self.blocks, self.columns, self.rows = product.blocks, product.columns, product.rows
        self.scale, self.magnitude_scale, self.dither = product.scale, product.magnitude_scale, product.dither
        self.has_halves = product.has_halves and not takes_whole(self.rows)
        self.gradient_digits = gradient_digits(product)
        integers = product.integers.numpy()
        if product.has_halves and not self.has_halves:
            integers, lower = np.multiply(integers[:, : self.columns], 128, dtype=np.int16), integers[:, self.columns :]
            integers += lower
        self.weights = pack(integers, UNSIGNED if of_magnitudes and not product.has_halves else SIGNED)
        self.magnitudes = pack(product.magnitudes.numpy(), UNSIGNED) if with_variance else NO_MAGNITUDES
        # Rows that one instruction takes together are all outliers.
        self.estimates_variance = with_variance and product.of_outliers and self.rows > UNSIGNED.group * UNSIGNED.words
        self.shares = shares(product.magnitudes.numpy()) if self.estimates_variance else NO_SHARES

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
        blocks = [squared(part, self.dither) for part in codes.split(self.rows, dim=1)]
        sums = self._sums(torch.cat([squares for squares, _ in blocks], dim=1), self.magnitudes)
        return sums.mul(torch.stack([worth for _, worth in blocks]).unsqueeze(2)).mul_(self.magnitude_scale)

    def drawn_variance(self, codes: Tensor) -> Tensor:
        """`variance`, or what `integer_gemm.analog_chunk` has in its place where few rows are exact (kernels/outliers.py)."""
        if not self.estimates_variance:
            return self.variance(codes)
        found = torch.empty(self.blocks, len(codes), self.columns)
        size = UNSIGNED.group * UNSIGNED.words
        for block, part in enumerate(codes.to(torch.int8).split(self.rows, dim=1)):
            of_columns, of_rows = (share[block] for share in self.shares)
            for first in range(0, len(codes), integer_gemm.PART):
                vectors, here = part[first : first + integer_gemm.PART], slice(first, first + integer_gemm.PART)
                chosen, totals = np.empty(groups_taken(-(-self.rows // size)), np.int32), np.empty(len(vectors), np.float32)
                choose(vectors.contiguous().numpy(), of_rows, size, totals, chosen)
                rows = (chosen[:, None] * size + np.arange(size)).ravel()
                rows = rows[rows < self.rows]
                few = torch.zeros_like(vectors)
                few[:, rows] = vectors[:, rows]
                of_few = torch.from_numpy(of_rows[rows]) * vectors[:, rows].float().square()
                rest = torch.from_numpy(totals) - of_few.sum(dim=1)
                squares, worth = squared(few, self.dither)
                sums = torch.empty(len(vectors), self.columns, dtype=torch.int32)
                integer_gemm.multiply(squares.numpy(), self.magnitudes[block], sums.numpy())
                found[block, here] = sums * worth.unsqueeze(1) + rest.unsqueeze(1) * torch.from_numpy(of_columns)
        return found.mul_(self.magnitude_scale)

    def sum_up(self, block: int, rows: Tensor, out: Tensor) -> None:
        """See `Int8Product.sum_up`."""
        integer_gemm.multiply(rows.numpy(), self.weights[block], out.numpy())

    def sum_up_squares(self, block: int, squares: Tensor, out: Tensor) -> None:
        """See `Int8Product.sum_up_squares`."""
        integer_gemm.multiply(squares.numpy(), self.magnitudes[block], out.numpy())

    def _sums(self, numbers: Tensor, packed: np.ndarray) -> Tensor:
        columns = self.columns * (1 + self.has_halves) if packed is self.weights else self.columns
        sums = torch.empty(self.blocks, len(numbers), columns, dtype=torch.int32)
        for block, part in enumerate(numbers.split(self.rows, dim=1)):
            integer_gemm.multiply(part.contiguous().numpy(), packed[block], sums[block].numpy())
        return sums
