"""How kernels are compiled: numba, on the first call, kept on disk between runs.

Only the modules that hold compiled kernels import this one, so the project works (slower) where numba does not.
"""

from collections.abc import Callable

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

# What a vectorised loop may assume: sums in any order, no NaN.
FAST = {"contract", "arcp", "nsz", "nnan", "reassoc"}


def compiled(function: Callable) -> Callable:
    """A kernel: runs without Python's lock, so that every core can run one; compiled once per machine."""
    return njit(nogil=True, fastmath=FAST, error_model="numpy", cache=True)(function)


def exact(function: Callable) -> Callable:
    """A kernel whose floating-point operations are the ones written down: same bits as any other program that does them."""
    return njit(nogil=True, error_model="numpy", cache=True)(function)


def inlined(function: Callable) -> Callable:
    """A part of kernels, expanded where it is called so that the loop around it vectorises."""
    return njit(inline="always", fastmath=FAST, error_model="numpy")(function)


@intrinsic
def bits_of(typing_context, number):
    """The 32 bits of a float32, as an int32."""

    def emit(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), emit


@intrinsic
def float_of(typing_context, bits):
    """The float32 whose 32 bits are an int32."""

    def emit(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), emit
