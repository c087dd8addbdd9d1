"""Sums of products of 8-bit integers by the CPU instruction vpdpbusd (AVX-512 VNNI), for use inside compiled kernels.

vpdpbusd multiplies 64 unsigned with 64 signed bytes and adds each four neighbours to one of 16 32-bit sums. DAC codes k are
the signed side; weights w the unsigned one, as w + 128, so a sum comes out too large by 128 Σ k: it starts at −128 Σ k.

Weights are packed once into panels of `WIDTH` columns, each as long as a row block, so that a panel stays in the first-level
cache while all vectors pass. A tile of `HEIGHT` vectors by one panel keeps its 24 sums in registers.
"""

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import int32, int64, types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from analog_glue.kernels.fused import digitise, drive
from analog_glue.kernels.jit import exact
from analog_glue.kernels.parallel import run

LANES = 16  # 32-bit sums of a register
GROUP = 4  # neighbouring rows that one instruction adds up
REGISTERS = 3  # of sums per vector
WIDTH = REGISTERS * LANES  # columns of a panel
HEIGHT = 8  # vectors of a tile; HEIGHT · REGISTERS sums, the panel's REGISTERS and a code fill 28 of the 32 registers
PART = 32  # vectors from inputs to outputs at a time; 16 to 64 are as fast, fewer read the weights too often
OFFSET = 128  # makes weights unsigned
ALIGNMENT = 64  # [bytes] so that no load reaches across two cache lines


def pack(weights: np.ndarray) -> np.ndarray:
    """Weights in the order in which `multiply` reads them.

    Args:
        weights: int8 [row blocks, columns, rows].

    Returns:
        uint8 [row blocks, panels, ⌈rows / 4⌉, WIDTH, 4]. What fills up rows and columns is 0, so adds nothing.
    """
    blocks, columns, rows = weights.shape
    panels, groups = -(-columns // WIDTH), -(-rows // GROUP)
    packed = _aligned(blocks * panels * groups * WIDTH).reshape(blocks, panels, groups, WIDTH)

    def pack_block(block: int) -> None:
        shifted = np.zeros((panels * WIDTH, groups * GROUP), np.uint8)
        np.bitwise_xor(weights[block].view(np.uint8), np.uint8(OFFSET), out=shifted[:columns, :rows])
        # Four rows travel as one 32-bit number.
        packed[block] = shifted.view(np.uint32).reshape(panels, WIDTH, groups).transpose(0, 2, 1)

    run(pack_block, range(blocks))
    return packed.view(np.uint8).reshape(blocks, panels, groups, WIDTH, GROUP)


def _aligned(size: int) -> np.ndarray:
    spare = ALIGNMENT // 4
    memory = np.empty(size + spare, np.uint32)
    start = -memory.ctypes.data // 4 % spare
    return memory[start : start + size]


@exact
def _padded(rows, length):
    """Rows filled up with zeros. Element by element: numba takes three seconds to compile an assignment of slices."""
    padded = np.zeros((rows.shape[0], length), np.int8)
    for v in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            padded[v, j] = rows[v, j]
    return padded


@exact
def multiply(rows, packed, out):
    """out[v, i] = Σ_j rows[v, j] · weights[i, j], exactly, of one row block.

    Args:
        rows: int8 [vectors, rows].
        packed: uint8 [panels, ⌈rows / 4⌉, WIDTH, 4], a row block of `pack`.
        out: int32 [vectors, columns].

    Raises:
        ValueError: The shapes do not fit; what follows would read and write elsewhere.
    """
    vectors, columns = out.shape
    groups = packed.shape[1]
    length = groups * GROUP
    if rows.shape[0] != vectors or -(-rows.shape[1] // GROUP) != groups or -(-columns // WIDTH) != packed.shape[0]:
        raise ValueError("Arguments `rows`, `packed` and `out` must have shapes that fit each other, but do not.")
    if rows.shape[1] != length:
        rows = _padded(rows, length)
    starts = np.empty(vectors, np.int32)
    for v in range(vectors):
        row, total = rows[v], int32(0)
        for j in range(length):
            total += int32(row[j])
        starts[v] = int32(total * int32(-OFFSET))
    for panel in range(packed.shape[0]):
        first = panel * WIDTH
        panel_at, width = first * length, min(columns - first, WIDTH)
        for v in range(0, vectors, HEIGHT):
            height = min(vectors - v, HEIGHT)
            _tile(height, groups, rows, v * length, packed, panel_at, starts, v, out, v * columns + first, columns, width)


@exact
def analog_chunk(
    x,
    per_input,
    dac_full_scale,
    row_counts,
    dither,
    codes,
    packed,
    halves,
    magnitudes,
    unit,
    variance_unit,
    output_variance,
    noisy,
    adc_full_scale,
    step,
    bias,
    first,
    k0,
    k1,
    out,
    clipped,
    scratch,
):
    """From inputs to the layer's output: `fused.drive`, the products of all row blocks, `fused.digitise`.

    Vectors are taken `PART` at a time: what one stage writes is still in the cache when the next reads it.

    Args:
        x, per_input, dac_full_scale, row_counts, dither, codes: See `fused.drive`.
        packed: Weights of `pack`; with `halves` of [row blocks, 2 · columns, rows].
        magnitudes: |w| of `pack`, or no row blocks where there is no read noise.
        halves … clipped: See `fused.digitise`.
        scratch: int32 [at least `scratch_size`], overwritten; one of its own for every thread.

    Returns:
        How many ADC outputs clip.
    """
    blocks, rows, columns = packed.shape[0], dither.shape[0], out.shape[1]
    wide = 2 * columns if halves else columns
    read = magnitudes.shape[0]  # row blocks with read noise: all or none
    saturated = 0
    for start in range(0, x.shape[0], PART):
        end = min(start + PART, x.shape[0])
        vectors = end - start
        sums_end = blocks * vectors * wide
        variances_end = sums_end + read * vectors * columns
        sums = scratch[:sums_end].reshape(blocks, vectors, wide)
        variances = scratch[sums_end:variances_end].reshape(read, vectors, columns)
        numbers = scratch[variances_end:].view(np.int8)
        codes_end = blocks * vectors * rows
        driven = numbers[:codes_end].reshape(blocks, vectors, rows)
        squares = numbers[codes_end : codes_end + read * vectors * rows].reshape(read, vectors, rows)
        drive(x[start:end], per_input, dac_full_scale, row_counts, dither, codes[start:end], driven, squares)
        for b in range(blocks):
            multiply(driven[b], packed[b], sums[b])
        for b in range(read):
            multiply(squares[b], magnitudes[b], variances[b])
        saturated += digitise(
            sums,
            halves,
            variances,
            unit,
            variance_unit,
            output_variance,
            noisy,
            adc_full_scale,
            step,
            bias,
            first + start,
            k0,
            k1,
            out[start:end],
            clipped[:, start:end],
        )
    return saturated


def scratch_size(blocks: int, rows: int, columns: int, halves: bool, reads: bool) -> int:
    """How many 32-bit numbers `analog_chunk` needs for a layer of [row blocks, columns, rows] weights."""
    sums = blocks * columns * (1 + halves + reads)
    codes = blocks * rows * (1 + reads)
    return PART * sums + -(-PART * codes // 4)


@intrinsic
def _tile(typing_context, height, groups, rows, row_at, packed, packed_at, starts, start_at, out, out_at, out_stride, columns):
    """`height` vectors times one panel; `…_at` are positions in the arrays seen as flat memory."""
    arrays = (rows, packed, starts, out)
    assert all(isinstance(array, types.Array) and array.layout == "C" for array in arrays)
    signature = types.void(int64, int64, rows, int64, packed, int64, starts, int64, out, int64, int64, int64)

    def emit(context, builder, signature, arguments):
        def pointer(index: int):
            array = context.make_array(signature.args[index])(context, builder, arguments[index])
            return builder.gep(array.data, [arguments[index + 1]])

        tile = _tile_function(builder.module)
        height, groups = arguments[:2]
        builder.call(tile, [height, groups, *(pointer(index) for index in (2, 4, 6, 8)), *arguments[10:]])
        return context.get_dummy_value()

    return signature, emit


BYTE, WORD, LONG = ir.IntType(8), ir.IntType(32), ir.IntType(64)
SUMS, MASK = ir.VectorType(WORD, LANES), ir.VectorType(ir.IntType(1), LANES)


def _tile_function(module: ir.Module) -> ir.Function:
    """The function (height, groups, codes*, panel*, starts*, out*, out stride, columns) of a module: one loop per height."""
    name = "analog_glue_vnni_tile"
    if name in module.globals:
        return module.globals[name]
    pointers = [kind.as_pointer() for kind in (BYTE, BYTE, WORD, WORD)]
    tile = ir.Function(module, ir.FunctionType(ir.VoidType(), [LONG, LONG, *pointers, LONG, LONG]), name)
    tile.linkage = "internal"
    tile.attributes.add("noinline")
    tile.attributes.add("nounwind")
    builder = ir.IRBuilder(tile.append_basic_block("entry"))
    end = tile.append_basic_block("end")
    switch = builder.switch(tile.args[0], end)
    for height in range(1, HEIGHT + 1):
        block = tile.append_basic_block(f"height{height}")
        switch.add_case(ir.Constant(LONG, height), block)
        builder.position_at_end(block)
        _emit_tile(builder, height, *tile.args[1:])
        builder.branch(end)
    builder.position_at_end(end)
    builder.ret_void()
    return tile


def _emit_tile(builder: ir.IRBuilder, height: int, groups, codes, panel, starts, out, stride, columns) -> None:
    # LLVM 22 takes <64 x i8> here and translates this older form, which all versions know.
    dot = declared(builder.module, "llvm.x86.avx512.vpdpbusd.512", SUMS, [SUMS, SUMS, SUMS])
    sums_at = SUMS.as_pointer()

    def constant(number: int) -> ir.Constant:
        return ir.Constant(LONG, number)

    length = builder.mul(groups, constant(GROUP))
    row_of = [builder.gep(codes, [builder.mul(length, constant(v))]) for v in range(height)]
    first = [spread(builder, builder.load(builder.gep(starts, [constant(v)]))) for v in range(height)]
    before = builder.block
    loop, after = builder.append_basic_block("loop"), builder.append_basic_block("after")
    builder.branch(loop)
    builder.position_at_end(loop)
    group = builder.phi(LONG)
    group.add_incoming(constant(0), before)
    sums = [[builder.phi(SUMS) for _ in range(REGISTERS)] for _ in range(height)]
    column_at = builder.gep(panel, [builder.mul(group, constant(GROUP * WIDTH))])
    weights = []
    for r in range(REGISTERS):
        register_at = builder.gep(column_at, [constant(r * GROUP * LANES)])
        weights.append(builder.load(builder.bitcast(register_at, sums_at), align=GROUP))
    row_start = builder.mul(group, constant(GROUP))
    following = builder.add(group, constant(1))
    added = []
    for v in range(height):
        four = builder.load(builder.bitcast(builder.gep(row_of[v], [row_start]), WORD.as_pointer()), align=1)
        code = spread(builder, four)
        added.append([builder.call(dot, [sums[v][r], weights[r], code]) for r in range(REGISTERS)])
    for v in range(height):
        for r in range(REGISTERS):
            sums[v][r].add_incoming(first[v], before)
            sums[v][r].add_incoming(added[v][r], loop)
    group.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, groups), loop, after)
    builder.position_at_end(after)
    _emit_stores(builder, added, out, stride, columns)


def _emit_stores(builder: ir.IRBuilder, sums: list[list[ir.Value]], out, stride, columns) -> None:
    """Sums into memory, as far as the columns go."""
    sums_at = SUMS.as_pointer()
    store = declared(builder.module, "llvm.masked.store.v16i32.p0", ir.VoidType(), [SUMS, sums_at, WORD, MASK])
    lanes = ir.Constant(ir.VectorType(LONG, LANES), list(range(LANES)))
    undefined = ir.Constant(lanes.type, ir.Undefined)
    single = builder.insert_element(undefined, columns, ir.Constant(WORD, 0))
    limit = builder.shuffle_vector(single, undefined, ir.Constant(SUMS, [0] * LANES))
    for r in range(REGISTERS):
        number = builder.add(lanes, ir.Constant(lanes.type, [r * LANES] * LANES))
        mask = builder.icmp_signed("<", number, limit)
        for v, of_vector in enumerate(sums):
            place = builder.gep(out, [builder.add(builder.mul(stride, ir.Constant(LONG, v)), ir.Constant(LONG, r * LANES))])
            builder.call(store, [of_vector[r], builder.bitcast(place, sums_at), ir.Constant(WORD, 4), mask])


def spread(builder: ir.IRBuilder, word) -> ir.Value:
    """One 32-bit number in all lanes."""
    single = builder.insert_element(ir.Constant(SUMS, ir.Undefined), word, ir.Constant(WORD, 0))
    return builder.shuffle_vector(single, ir.Constant(SUMS, ir.Undefined), ir.Constant(SUMS, [0] * LANES))


def declared(module: ir.Module, name: str, result: ir.Type, arguments: list[ir.Type]) -> ir.Function:
    """An instruction by its name in LLVM."""
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(result, arguments), name)


def product(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Σ_j rows[v, j] · weights[i, j] as int32 [vectors, columns], for weights that are used once."""
    out = np.empty((len(rows), len(weights)), np.int32)
    multiply(rows, pack(weights[None])[0], out)
    return out


@cache
def available() -> bool:
    """Whether this CPU has the instruction, numba compiles for it, and it computes what it should."""
    rows, weights = np.array([[127, -127, 1, -128]], np.int8), np.array([[[-128, 127, 3, 2]]], np.int8)
    out = np.zeros((1, 1), np.int32)
    try:
        # Asked first, because LLVM ends the process over an instruction that it may not use.
        if not {"+avx512f", "+avx512vnni"} <= set(_target().magic_tuple()[2].split(",")):
            return False
        multiply(rows, pack(weights)[0], out)
    except Exception:  # whatever a foreign compiler raises, there is another product
        return False
    return out.item() == -127 * 128 - 127 * 127 + 3 - 2 * 128


def _target() -> Any:
    """What numba compiles for."""
    return cpu_target.target_context.codegen()
