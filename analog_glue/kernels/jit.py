"""How kernels are compiled: numba, on the first call, kept on disk between runs.

Only the modules that hold compiled kernels import this one, so the project works (slower) where numba does not.
"""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from llvmlite import binding, ir
from numba import config, njit, types
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic

from analog_glue.kernels import kept

SETTINGS: Any = config  # numba fills this module in as it starts

# What a vectorised loop may assume: sums in any order, no NaN.
FAST = {"contract", "arcp", "nsz", "nnan", "reassoc"}


def _with_wide_registers() -> None:
    """Have numba use registers of 512 bits where there are some; left alone, LLVM takes halves of them on Intel's CPUs.

    It does so for programs with a little such arithmetic in between, which lowers the clock. Kernels are nothing but that:
    compiled for icelake-server, a normal number takes 15 % less even where halves are as fast as wholes (Zen 4).
    """
    if SETTINGS.CPU_NAME is None and SETTINGS.CPU_FEATURES is None:  # else somebody has said what to compile for
        features = binding.get_host_cpu_features()
        if features.get("avx512f"):
            SETTINGS.CPU_FEATURES = f"{features.flatten()},-prefer-256-bit"


_with_wide_registers()


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
    SETTINGS.CACHE_DIR = str(kept.folder())
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


@intrinsic
def multiplied_added(typing_context, a, b, c):
    """a · b + c of float32 numbers, rounded once."""

    def emit(context, builder, signature, arguments):
        name, number = "llvm.fma.f32", ir.FloatType()
        of = builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(number, [number] * 3), name)
        return builder.call(of, arguments)

    return types.float32(types.float32, types.float32, types.float32), emit


# numba widens what comes of two 32-bit words to 64 bits, and LLVM then fills a register with half as many. These do not.
def _of_words(emit_words: Callable) -> Callable:
    """An operation that makes one 32-bit word (uint32) of two."""

    def operation(typing_context, first, second):
        def emit(context, builder, signature, arguments):
            return emit_words(builder, *arguments)

        return types.uint32(types.uint32, types.uint32), emit

    return intrinsic(operation)


added = _of_words(lambda builder, a, b: builder.add(a, b))
either = _of_words(lambda builder, a, b: builder.xor(a, b))
rotated = _of_words(lambda builder, word, by: builder.call(_funnel_shift(builder.module), [word, word, by]))


def _funnel_shift(module: ir.Module) -> ir.Function:
    """Rotates a word to the left when it is given twice."""
    name, word = "llvm.fshl.i32", ir.IntType(32)
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(word, [word] * 3), name)
