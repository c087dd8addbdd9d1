"""How kernels are compiled: numba, on the first call, kept on disk between runs.

Only the modules that hold compiled kernels import this one, so the project works (slower) where numba does not.
"""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import config, njit, types
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic

from analog_glue.kernels import kept

SETTINGS: Any = config  # numba fills this module in as it starts

# What a vectorised loop may assume: sums in any order, no NaN.
FAST = {"contract", "arcp", "nsz", "nnan", "reassoc"}


def compiled(function: Callable) -> Callable:
    """A kernel: runs without Python's lock, so that every core can run one; compiled once per machine.

    Kernels that it calls become part of it. Otherwise the process that compiles both runs the callee itself, and one
    that loads the caller from the disk a copy of it beside the caller: optimised differently, so other last bits.
    """
    return _cached(function, fastmath=FAST, forceinline=True)


def exact(function: Callable) -> Callable:
    """A kernel whose floating-point operations are the ones written down: same bits as any other program that does them."""
    return _cached(function)


def _cached(function: Callable, **options: Any) -> Callable:
    before = SETTINGS.CACHE_DIR
    SETTINGS.CACHE_DIR = before or str(kept.folder())
    try:
        kernel = njit(nogil=True, error_model="numpy", cache=True, **options)(function)
    finally:
        SETTINGS.CACHE_DIR = before
    compile_or_load = kernel.compile

    def in_one_process(signature: Any) -> Any:
        # numba's own lock first: threads of this process then ask for files one after another, callers before what they call.
        with global_compiler_lock, _alone(Path(kernel._cache.cache_path) / f"{function.__name__}.lock"):
            return compile_or_load(signature)

    kernel.compile = in_one_process
    return kernel


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Processes that start together wait for the one that compiles, and load what it has kept instead of compiling it too."""
    with ExitStack() as stack:
        with suppress(OSError):  # a folder that cannot be written to, a file system without locks: all compile
            file.parent.mkdir(parents=True, exist_ok=True)
            fcntl.flock(stack.enter_context(file.open("w")), fcntl.LOCK_EX)
        yield


def inlined(function: Callable) -> Callable:
    """A part of kernels, expanded where it is called so that the loop around it vectorises."""
    return njit(forceinline=True, fastmath=FAST, error_model="numpy")(function)


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
