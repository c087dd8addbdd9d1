"""What CPUs multiply integers with: an entry of `SETS` for each instruction set, from the fastest on.

An instruction multiplies words of rows, of 32 bits: four 8-bit numbers or two 16-bit ones. A word of codes, the same for all
columns, meets the words of as many columns as a register has 32-bit sums, and every sum gets its word's products.

    vpdpbusd      four unsigned 8-bit weights with four signed codes, exact
    vpdpwssd      two signed 16-bit numbers with two others, exact
    sdot          four signed with four signed, exact
    vpmaddwd      two 16-bit weights with two 16-bit codes, exact; 15-bit weights need no halves
    vpmaddubsw    unsigned with signed 8-bit numbers, pairs of them into 16 bits, where they saturate

Magnitudes and squares, both in 0 … 127, suit vpmaddubsw: less 64, magnitudes are at most 64 in size, so even two pairs sum up
to no more than 4 · 127 · 64 = 32,512 < 2¹⁵, and one vpmaddwd by ones takes both into 32 bits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from llvmlite import ir
from numba.core.registry import cpu_target

Emit = Callable[[ir.IRBuilder, ir.Value, Sequence[ir.Value], Sequence[ir.Value]], ir.Value]


@dataclass(frozen=True)
class Instruction:
    """How sums of products are formed, and the tile of sums that registers hold meanwhile."""

    emit: Emit  # (builder, sums, words of weights, words of codes) → sums, each <lanes × i32>
    weights: type[np.integer]  # numbers that packed weights are; another one for each instruction of a set
    offset: int  # added to weights so that they fit; a sum starts at −offset · Σ codes
    lanes: int  # sums of a register
    height: int  # vectors of a tile
    registers: int  # of sums per vector
    words: int = 1  # of rows that are taken together

    @property
    def group(self) -> int:
        """Rows of a word."""
        return 4 // np.dtype(self.weights).itemsize

    @property
    def width(self) -> int:
        """Columns of a tile."""
        return self.registers * self.lanes


@dataclass(frozen=True)
class InstructionSet:
    name: str
    features: tuple[frozenset[str], ...]  # as LLVM calls them; all of one of these
    signed: Instruction  # for codes and weights
    unsigned: Instruction  # for squares and magnitudes
    part: int  # vectors from inputs to outputs at a time; more or fewer read sums or weights from farther away
    bytes: Emit | None = None  # sums of four products of any unsigned 8-bit numbers with signed ones: attention
    words: Emit | None = None  # of two products of signed 16-bit numbers


def declared(module: ir.Module, name: str, result: ir.Type, arguments: list[ir.Type]) -> ir.Function:
    """An instruction by its name in LLVM."""
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(result, arguments), name)


def vector(bits: int, count: int) -> ir.VectorType:
    return ir.VectorType(ir.IntType(bits), count)


def _dot(name: str, lanes: int, numbers: ir.VectorType) -> Emit:
    """Four products into each sum, by one instruction."""
    sums = vector(32, lanes)

    def emit(builder: ir.IRBuilder, total: ir.Value, weights: Sequence[ir.Value], codes: Sequence[ir.Value]) -> ir.Value:
        dot = declared(builder.module, name, sums, [sums, numbers, numbers])
        return builder.call(dot, [total, *(builder.bitcast(word, numbers) for word in (weights[0], codes[0]))])

    return emit


def _multiply_add(name: str, lanes: int) -> Emit:
    """Two products, then their sum."""
    sums, numbers = vector(32, lanes), vector(16, 2 * lanes)

    def emit(builder: ir.IRBuilder, total: ir.Value, weights: Sequence[ir.Value], codes: Sequence[ir.Value]) -> ir.Value:
        multiply = declared(builder.module, name, sums, [numbers, numbers])
        return builder.add(total, builder.call(multiply, [builder.bitcast(word, numbers) for word in (weights[0], codes[0])]))

    return emit


def _pairs(bytes_name: str, words_name: str, lanes: int) -> Emit:
    """Eight products in pairs of pairs of 16 bits, then the sum of those."""
    sums, pairs, numbers = vector(32, lanes), vector(16, 2 * lanes), vector(8, 4 * lanes)
    ones = ir.Constant(pairs, [1] * (2 * lanes))

    def emit(builder: ir.IRBuilder, total: ir.Value, weights: Sequence[ir.Value], codes: Sequence[ir.Value]) -> ir.Value:
        of_bytes = declared(builder.module, bytes_name, pairs, [numbers, numbers])
        of_pairs = declared(builder.module, words_name, sums, [pairs, pairs])
        two = [
            builder.call(of_bytes, [builder.bitcast(code, numbers), builder.bitcast(weight, numbers)])
            for weight, code in zip(weights, codes, strict=True)
        ]
        return builder.add(total, builder.call(of_pairs, [builder.add(*two), ones]))

    return emit


# LLVM 22 takes bytes here and translates this older form of words, which all versions know.
_BUSD_512 = _dot("llvm.x86.avx512.vpdpbusd.512", 16, vector(32, 16))
_WSSD_512 = _dot("llvm.x86.avx512.vpdpwssd.512", 16, vector(32, 16))
_BUSD_256 = _dot("llvm.x86.avx512.vpdpbusd.256", 8, vector(32, 8))
_WSSD_256 = _dot("llvm.x86.avx512.vpdpwssd.256", 8, vector(32, 8))
_MADD_512 = _multiply_add("llvm.x86.avx512.pmaddw.d.512", 16)
_MADD_256 = _multiply_add("llvm.x86.avx2.pmadd.wd", 8)

_VNNI = Instruction(_BUSD_512, np.uint8, 128, 16, height=6, registers=4)
_VNNI_256 = Instruction(_BUSD_256, np.uint8, 128, 8, height=6, registers=2)
_SDOT = Instruction(_dot("llvm.aarch64.neon.sdot.v4i32.v16i8", 4, vector(8, 16)), np.int8, 0, 4, height=6, registers=4)
_WORDS_512 = Instruction(_MADD_512, np.int16, 0, 16, height=8, registers=3)
_WORDS_256 = Instruction(_MADD_256, np.int16, 0, 8, height=6, registers=2)
_BYTES_512 = Instruction(
    _pairs("llvm.x86.avx512.pmaddubs.w.512", "llvm.x86.avx512.pmaddw.d.512", 16), np.int8, -64, 16, 8, 2, words=2
)
_BYTES_256 = Instruction(_pairs("llvm.x86.avx2.pmadd.ub.sw", "llvm.x86.avx2.pmadd.wd", 8), np.int8, -64, 8, 3, 2, words=2)

AVX512_VNNI = InstructionSet("AVX-512 VNNI", (frozenset({"+avx512f", "+avx512vnni"}),), _VNNI, _VNNI, 32, _BUSD_512, _WSSD_512)
AVX_VNNI = InstructionSet("AVX-VNNI", (frozenset({"+avx2", "+avxvnni"}),), _VNNI_256, _VNNI_256, 48, _BUSD_256, _WSSD_256)
AVX512_BW = InstructionSet("AVX-512BW", (frozenset({"+avx512f", "+avx512bw"}),), _WORDS_512, _BYTES_512, 32, words=_MADD_512)
AVX2 = InstructionSet("AVX2", (frozenset({"+avx2"}),), _WORDS_256, _BYTES_256, 48, words=_MADD_256)
NEON = InstructionSet("NEON with dot products", (frozenset({"+dotprod"}),), _SDOT, _SDOT, 48)

SETS = (AVX512_VNNI, AVX_VNNI, AVX512_BW, AVX2, NEON)


def best(features: str) -> InstructionSet | None:
    """The first of `SETS` whose instructions are among `features`, as LLVM writes them: "+avx2,-avx512f,…"."""
    allowed = set(features.split(","))
    return next((one for one in SETS if any(needed <= allowed for needed in one.features)), None)


@cache
def chosen() -> InstructionSet | None:
    """The best instruction set that numba may use here; LLVM ends the process over an instruction that it may not."""
    return best(cpu_target.target_context.codegen().magic_tuple()[2])
