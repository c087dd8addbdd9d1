"""Products of integers on the numbers that are worst for them, where some libraries are wrong without a word."""

from collections.abc import Iterator

import torch
from torch import Tensor

from analog_glue.kernels.integer_product import COLUMNS, obstacle, trial
from analog_glue.kernels.products import GOLDEN, LEVELS, squared
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tiles.mapping import TileGrid
from analog_glue.tiles.operands import ReadyWeights
from analog_glue.verify.check import Check

ROWS = (2, 383, 384, 512, 1536)  # of a row block; sums of 1,536 rows of 15-bit weights take more than 32 bits
LARGEST = {"int8": LEVELS, "int8_single": 127}  # weight as an integer


def exactness_checks(kernel: str) -> Iterator[Check]:
    """Sums that differ from those of 64-bit integers, of each product of integers that runs may take here."""
    for kind in LARGEST:
        for rows in ROWS:
            if obstacle(kernel, rows) is None:
                yield Check(f"{kind} product, {rows} rows", wrong_sums(kind, kernel, rows), 0, 0, "sums")


def wrong_sums(kind: str, kernel: str, rows: int) -> int:
    """Of currents and variances, which are float32: rounded once, they must be the sums of integers."""
    codes, weights = (torch.from_numpy(numbers) for numbers in (trial(rows), trial(rows, LARGEST[kind], COLUMNS)))
    grid = TileGrid.of(len(weights), rows, rows, len(weights))
    product = ReadyWeights.of(weights.float().unsqueeze(0), grid, Crossbar(), kind, kernel).product
    given = codes.float()
    squares, worth = squared(given, torch.frac(torch.arange(0.5, rows) * GOLDEN))
    magnitudes = (weights.abs() / (LARGEST[kind] / 127)).round().long()
    variances = (squares.long() @ magnitudes.t()).float() * worth.unsqueeze(1) * (LARGEST[kind] / 127)

    def differ(got: Tensor, expected: Tensor) -> int:
        return int((got[0] != expected).sum())

    return differ(product.product(given), (codes @ weights.t()).float()) + differ(product.variance(given), variances)
