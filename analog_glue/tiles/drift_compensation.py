"""Global drift compensation: one digital factor per tile (Spoon et al. 2021, Sec. 2.2.1).

Right after programming the one-hot inputs of a tile are run through its own non-ideal products and S_ref, the mean absolute
output, is kept; at time t the same read-out gives S_t. The digital scale of the tile is multiplied by S_ref / S_t, which
then stays constant over the test set. Both read-outs carry the noise of the periphery, whose floor biases the factor low.
"""

from torch import Tensor

from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tiles.mapping import TileGrid
from analog_glue.tiles.mvm import one_hot_outputs

FLOOR = 1e-4  # [full-on cells] of a read-out, so that an all-zero tile is not divided by zero


def read_out(
    blocks: Tensor, grid: TileGrid, crossbar: Crossbar, noise_key: int, kernel: str = "reference"
) -> Tensor:
    """S of every tile, the mean |output| over its one-hot inputs: [row blocks, column tiles], at least `FLOOR`.

    Args:
        blocks: Normalised weights at the time of the read-out [row blocks, columns, rows].
    """
    outputs = one_hot_outputs(blocks, grid, crossbar, noise_key, kernel)
    per_column = outputs.abs_().sum(dim=2) / grid.row_counts(blocks.device).unsqueeze(1)
    return grid.mean_over_tiles(per_column).clamp_(min=FLOOR)


def compensation_factor(reference: Tensor, now: Tensor) -> Tensor:
    """S_ref / S_t of every tile: [row blocks, column tiles]."""
    return reference / now
