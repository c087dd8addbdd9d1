"""What resistive wires leave of the conductances of a tile: a closed law for the whole network of wires and devices.

A crossbar whose devices are conductors is a linear network: whatever voltages drive its rows, the current of column c is
Σ_r v_r G'_rc. So wires need no place in the hot path: they turn conductances G into others, G', once per chip and time. Inputs
that are pulse widths change nothing of it, since at every moment each row is on or at 0 V and the charges add up.

Exactly, G' takes a solution of Kirchhoff's equations for every tile (verify/nodal.py). Here a row is a ladder that loses its
voltage to the devices on the way, taken as if its columns were at 0 V, and a column is the same ladder seen from its ADC (the
network is reciprocal):

    G'_rc = G_rc · a_rc · b_rc        a: share of the driver's voltage that row r has at column c, b: likewise from the ADC of c

What is left out is what rows couple into each other by way of the columns. Against the exact solution (0.35 Ω, 25 µS) the error
of an output is 1, 4 and 9 % of the loss itself at 128, 256 and 512 rows and columns of devices uniform in 0 … g_max, and 0.2 %
for weights as a layer has them. It has no parameter that was fitted.

Rows are driven at their first column, or at both ends; columns are read at their first row. The devices of a pair lie on two
arrays, or side by side on the same rows, which then are twice as long.
"""

import torch
from torch import Tensor

from analog_glue.kernels.operation import operation
from analog_glue.tiles.mapping import TileGrid

PAIRS = ("two_arrays", "side_by_side")
DRIVEN = ("one_end", "both_ends")
SIEMENS = 1e-6  # of a µS


@operation
def left_of_a_ladder(conductances: Tensor, resistance: float, both_ends: bool) -> Tensor:
    """Voltage along wires that are driven with 1 V, at the place of every device: [wires, length] float64.

    Args:
        conductances: [wires, length] to 0 V, float64 [S].
        resistance: Of every segment, also of that between the driver and the first device [Ω].
        both_ends: Whether there is a driver behind the last device, too.
    """
    segment = 1 / resistance
    length = conductances.shape[1]
    # Seen from the left, a ladder from device k on is one conductance and, with a driver behind it, one source of current.
    load = torch.empty_like(conductances)
    source = torch.zeros_like(conductances)
    load[:, -1] = conductances[:, -1]
    if both_ends:
        load[:, -1] += segment
        source[:, -1] = segment
    for k in range(length - 2, -1, -1):
        passes = segment / (segment + load[:, k + 1])
        load[:, k] = conductances[:, k] + load[:, k + 1] * passes
        source[:, k] = source[:, k + 1] * passes
    voltage = torch.empty_like(conductances)
    before = torch.ones(len(conductances), dtype=conductances.dtype, device=conductances.device)
    for k in range(length):
        before = (segment * before + source[:, k]) / (segment + load[:, k])
        voltage[:, k] = before
    return voltage


@left_of_a_ladder.compiled("cpu")
def _left_of_a_ladder(conductances: Tensor, resistance: float, both_ends: bool) -> Tensor:
    from analog_glue.kernels.weights import share_columns
    from analog_glue.kernels.wires import ladder

    voltage = torch.empty(conductances.shape, dtype=torch.float64)
    arrays = conductances.contiguous().numpy(), 1 / resistance, both_ends, voltage.numpy()
    share_columns(ladder, len(conductances), *arrays)
    return voltage


def behind_wires(
    pair: tuple[Tensor, Tensor],
    grid: TileGrid,
    resistance: float,
    pairs: str = "two_arrays",
    driven: str = "one_end",
    kernel: str = "reference",
) -> tuple[Tensor, Tensor]:
    """(G⁺, G⁻) as the ends of the wires see them, in the units of `pair`.

    Args:
        pair: Conductances of both devices [µS], each [row blocks, columns, rows]; padded rows hold 0.
        grid: Which columns lie on which tile.
        resistance: Of a segment of wire between neighbouring devices [Ω].
        pairs: One of `PAIRS`.
        driven: One of `DRIVEN`.
        kernel: "reference" or "compiled".
    """
    both = torch.stack([part.double() for part in pair])  # [2, row blocks, columns, rows]
    kept = torch.empty_like(both)
    blocks, rows = both.shape[1], both.shape[3]
    along = left_of_a_ladder.by(kernel, both.device)
    for tile in _column_tiles(grid):
        devices = both[:, :, tile] * SIEMENS
        columns = devices.shape[2]
        b = along(devices.reshape(-1, rows), resistance, False).view_as(devices)
        if pairs == "side_by_side":  # +, −, +, −, … along a row
            wires = devices.permute(1, 3, 2, 0).reshape(blocks * rows, 2 * columns)
            a = along(wires, resistance, driven == "both_ends").view(blocks, rows, columns, 2).permute(3, 0, 2, 1)
        else:
            wires = devices.permute(0, 1, 3, 2).reshape(2 * blocks * rows, columns)
            a = along(wires, resistance, driven == "both_ends").view(2, blocks, rows, columns).transpose(2, 3)
        kept[:, :, tile] = a * b
    positive, negative = (both * kept).to(pair[0].dtype)
    return positive, negative


def _column_tiles(grid: TileGrid) -> list[slice]:
    """The columns of each tile."""
    ends = torch.tensor(grid.column_blocks).cumsum(0).tolist()
    return [slice(end - size, end) for end, size in zip(ends, grid.column_blocks, strict=True)]
