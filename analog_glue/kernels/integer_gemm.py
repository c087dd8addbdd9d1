"""Sums of products of integers by the CPU's own instructions (kernels/instruction_sets.py), for use inside compiled kernels.

Weights are packed once into panels of as many columns as a tile of sums has, each as long as a row block, so that a panel stays
in the first-level cache while all vectors pass. The type of packed weights names the instruction that multiplies them.
"""

from functools import cache

import numpy as np
from numba import int32, int64, types
from numba.extending import intrinsic, overload

from analog_glue.kernels.fused import digitise, drive
from analog_glue.kernels.instruction_sets import AVX2, Instruction, chosen
from analog_glue.kernels.jit import exact
from analog_glue.kernels.outliers import choose, gather, groups_taken
from analog_glue.kernels.parallel import run
from analog_glue.kernels.register_tile import BYTE, tile_function

SET = chosen() or AVX2  # where there is none, nothing here is called but `available`
SIGNED, UNSIGNED, PART = SET.signed, SET.unsigned, SET.part
BYTES = 4  # numbers of 8 bits in a word
WHOLE_ROWS = (2**31 - 1) // (127 * 127 * 128)  # whose products of codes and 15-bit weights sum up within 32 bits
ALIGNMENT = 64  # [bytes] so that no load reaches across two cache lines


def pack(weights: np.ndarray, instruction: Instruction = SIGNED) -> np.ndarray:
    """Weights in the order in which `multiply` reads them.

    Args:
        weights: int8 [row blocks, columns, rows]; int16 where the instruction multiplies such.
        instruction: `UNSIGNED` for magnitudes, whose codes are squares.

    Returns:
        [row blocks, panels, words, width, rows of a word], of `instruction.weights`. What fills up rows meets codes of 0.
    """
    blocks, columns, rows = weights.shape
    panels, words = -(-columns // instruction.width), words_of(rows, instruction)
    packed = _aligned(blocks * panels * words * instruction.width).reshape(blocks, panels, words, instruction.width)

    def pack_block(block: int) -> None:
        shifted = np.zeros((panels * instruction.width, words * instruction.group), instruction.weights)
        used = shifted[:columns, :rows]
        np.copyto(used, weights[block], casting="unsafe")
        if instruction.offset:
            used += used.dtype.type(instruction.offset)  # wraps around, as it should
        # The rows of a word travel as one 32-bit number.
        packed[block] = shifted.view(np.uint32).reshape(panels, instruction.width, words).transpose(0, 2, 1)

    run(pack_block, range(blocks))
    return packed.view(instruction.weights).reshape(*packed.shape, instruction.group)


def takes_whole(rows: int) -> bool:
    """Whether weights of 15 bits are multiplied as they are, not in two halves of 8 bits."""
    return SIGNED.group < BYTES and rows <= WHOLE_ROWS


def words_of(rows: int, instruction: Instruction = SIGNED) -> int:
    """32-bit words that hold `rows` rows, as many as are taken together or a multiple."""
    together = instruction.group * instruction.words
    return -(-rows // together) * instruction.words


def _aligned(size: int) -> np.ndarray:
    spare = ALIGNMENT // 4
    memory = np.empty(size + spare, np.uint32)
    start = -memory.ctypes.data // 4 % spare
    return memory[start : start + size]


def _instruction_of(packed: types.Array) -> Instruction:
    return SIGNED if str(packed.dtype) == SIGNED.weights.__name__ else UNSIGNED


def _numbers_of(packed):
    """Compiled: (height, words, offset) of the instruction that multiplies `packed`."""


@overload(_numbers_of)
def _(packed):
    instruction = _instruction_of(packed)
    numbers = instruction.height, instruction.words, instruction.offset
    return lambda packed: numbers


@exact
def _padded(rows, packed, length):
    """Rows as numbers of the type of `packed`, filled up with zeros. By element: slices would take 3 s to compile."""
    padded = np.zeros((rows.shape[0], length), packed.dtype)
    for v in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            padded[v, j] = rows[v, j]
    return padded


@exact
def multiply(rows, packed, out):
    """out[v, i] = Σ_j rows[v, j] · weights[i, j], exactly, of one row block.

    Args:
        rows: int8 [vectors, rows]; squares, 0 … 127, for magnitudes.
        packed: [panels, words, width, rows of a word], a row block of `pack`.
        out: int32 [vectors, columns].

    Raises:
        ValueError: The shapes do not fit; what follows would read and write elsewhere.
    """
    vectors, columns = out.shape
    panels, words, width, group = packed.shape
    height, together, offset = _numbers_of(packed)
    length, unused = words * group, words * group - rows.shape[1]
    if rows.shape[0] != vectors or not 0 <= unused < together * group or -(-columns // width) != panels:
        raise ValueError("Arguments `rows`, `packed` and `out` must have shapes that fit each other, but do not.")
    if unused == 0 and rows.itemsize == packed.itemsize:
        codes = rows.view(packed.dtype)
    else:
        codes = _padded(rows, packed, length)
    starts = np.zeros(vectors, np.int32)
    if offset != 0:
        for v in range(vectors):
            row, total = rows[v], int32(0)
            for j in range(rows.shape[1]):
                total += int32(row[j])
            starts[v] = int32(total * int32(-offset))
    for panel in range(panels):
        first = panel * width
        panel_at, wide = first * length, min(columns - first, width)
        for v in range(0, vectors, height):
            high = min(vectors - v, height)
            _tile(high, words, codes, v * length, packed, panel_at, starts, v, out, v * columns + first, columns, wide)


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
    share,
    of_rows,
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
        share, of_rows: `outliers.shares` of them where outliers alone are exact, or [0, 0].
        halves … clipped: See `fused.digitise`.
        scratch: int32 [at least `scratch_size`], overwritten; one of its own for every thread.

    Returns:
        How many ADC outputs clip.
    """
    blocks, rows, columns = packed.shape[0], dither.shape[0], out.shape[1]
    wide = 2 * columns if halves else columns
    read = magnitudes.shape[0]  # row blocks with read noise: all or none
    few = share.shape[0]  # of them with a variance from outliers: all or none
    _, panels, words, width, group = magnitudes.shape
    together = _numbers_of(magnitudes)[1]
    groups, size = groups_taken(words // together) if few else 0, group * together
    squared = groups * size if few else rows  # rows whose squares are multiplied
    chosen, some = np.empty(groups, np.int32), np.empty((panels, groups * together, width, group), magnitudes.dtype)
    worth, rest = np.empty((read, PART), np.float32), np.empty((few, PART), np.float32)
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
        squares = numbers[codes_end : codes_end + read * vectors * squared].reshape(read, vectors, squared)
        driven_squares = squares[: 0 if few else read]
        drive(x[start:end], per_input, dac_full_scale, row_counts, dither, codes[start:end], driven, driven_squares, worth)
        for b in range(blocks):
            multiply(driven[b], packed[b], sums[b])
        for b in range(few):
            choose(driven[b], of_rows[b], size, rest[b, :vectors], chosen)
            gather(driven[b], dither, of_rows[b], magnitudes[b], size, chosen, squares[b], worth[b], rest[b], some)
            multiply(squares[b], some, variances[b])
        for b in range(0 if few else read):
            multiply(squares[b], magnitudes[b], variances[b])
        saturated += digitise(
            sums,
            halves,
            variances,
            worth,
            rest,
            share,
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
    codes = blocks * (rows + reads * words_of(rows, UNSIGNED) * UNSIGNED.group)
    return PART * sums + -(-PART * codes // 4)


@intrinsic
def _tile(
    typing_context, height, words, codes, codes_at, packed, packed_at, starts, start_at, out, out_at, out_stride, columns
):
    """`height` vectors times one panel; `…_at` are positions in the arrays seen as flat memory."""
    arrays = (codes, packed, starts, out)
    assert all(isinstance(array, types.Array) and array.layout == "C" for array in arrays)
    signature = types.void(int64, int64, codes, int64, packed, int64, starts, int64, out, int64, int64, int64)

    def emit(context, builder, signature, arguments):
        def pointer(index: int):
            array = context.make_array(signature.args[index])(context, builder, arguments[index])
            return builder.gep(array.data, [arguments[index + 1]])

        tile = tile_function(builder.module, _instruction_of(packed), f"analog_glue_tile_{packed.dtype}")
        height, words = arguments[:2]
        bytes_at = [builder.bitcast(pointer(index), BYTE.as_pointer()) for index in (2, 4)]
        builder.call(tile, [height, words, *bytes_at, pointer(6), pointer(8), *arguments[10:]])
        return context.get_dummy_value()

    return signature, emit


def product(rows: np.ndarray, weights: np.ndarray, instruction: Instruction = SIGNED) -> np.ndarray:
    """Σ_j rows[v, j] · weights[i, j] as int32 [vectors, columns], for weights that are used once."""
    out = np.empty((len(rows), len(weights)), np.int32)
    multiply(rows, pack(weights[None], instruction)[0], out)
    return out


@cache
def available() -> bool:
    """Whether numba may use one of the instruction sets, and what it compiles works."""
    try:
        return chosen() is not None and product(np.full((1, 3), -127, np.int8), np.full((1, 3), 127, np.int8)).item() == -48_387
    except Exception:  # whatever a foreign compiler raises, there is another product
        return False
