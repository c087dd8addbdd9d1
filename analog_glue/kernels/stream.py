"""Rows of a stream of normal numbers, for kernels that draw while they compute."""

from numba import uint32

from analog_glue.kernels.jit import compiled
from analog_glue.kernels.threefry import ROW, fill_row


@compiled
def stream_row(out, row, k0, k1):
    """The `ROW` numbers with which `threefry.fill` fills row number `row` of stream (k0, k1), into `out`."""
    fill_row(out, ROW, uint32(row), uint32(0), uint32(0), k0, k1)
