"""Attention in integers by the CPU's own instructions (kernels/instruction_sets.py), for some of the heads at a time.

    scores_of     from Q, K and mask to scores
    outputs_of    from softmax(scores) and V to outputs; softmax is torch's own, since the least bit of it may change a code

Both multiply rows with columns. A word of a row (codes of one query: Q, then P) meets the same word of 32 columns (keys, then
entries of V): four unsigned with four signed codes of 8 bits, where there is an instruction for it, or two with two signed
ones of 16 bits. For the former codes of Q are made unsigned by adding 128, so a sum comes out too large by 128 Σ k: it starts
at −128 Σ k.

Tensors [examples, heads, tokens, d] come as their flat memory with the steps from one example, head and token to the next, so
that none is copied: a transformer hands over views in which heads and tokens are swapped.
"""

import numpy as np
import torch
from llvmlite import ir
from numba import float32, int32, int64, types
from numba.extending import intrinsic
from torch import Tensor

from analog_glue.kernels.instruction_sets import AVX2, Emit, chosen, declared, vector
from analog_glue.kernels.jit import exact
from analog_glue.kernels.parallel import run
from analog_glue.kernels.register_tile import BYTE, LONG, WORD, WORD_SIZE, spread

_FOUND = chosen()
SET = AVX2 if _FOUND is None or _FOUND.words is None else _FOUND  # where there is none, nothing here is called
LANES = SET.signed.lanes  # 32-bit sums of a register
HEIGHT = 8 if LANES == 16 else 6  # rows of a tile: of 32 registers, or of 16
REGISTERS = 2  # of sums per row: 12 and more sums hide how long an instruction takes, and columns divide 32, 64 and 128
WIDTH = REGISTERS * LANES  # columns of a tile
LINE = 16  # numbers of a cache line
OFFSET = 128  # makes codes of 8 bits unsigned
BYTE_MASK, HALF_MASK = np.int32(0xFF), np.int32(0xFFFF)
LARGEST_SUM = 2**31 - 1
SUMS = vector(32, LANES)
CACHE = 2**19  # [bytes] of scores at a time: softmax and the second product find them in the second-level cache


def attend_heads(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    scaling: float,
    scales: tuple[float, float, float, float],
    largest: tuple[int, int],
    wants_p: bool,
) -> tuple[Tensor, Tensor | None] | None:
    """See `attention.attend`; output and P have the memory order of a transformer's [examples, tokens, heads, d].

    Args:
        scales: Of Q, K, V and P.
        largest: Largest code of Q, K and V, and that of P.
        wants_p: Whether P is handed back; memory for it costs more than a product.

    Returns:
        None where a sum could exceed 32 bits, where a number is not one, or where shapes differ.
    """
    examples, heads, tokens, d = q.shape
    own, p_largest = largest
    alike = q.shape == k.shape == v.shape and q.numel() > 0
    in_bytes = SET.bytes is not None and own < 128 and p_largest < 256
    kind, group, offset = (np.uint8, 4, OFFSET) if in_bytes else (np.int16, 2, 0)
    if not alike or own * max((own + offset) * d, p_largest * tokens) > LARGEST_SUM:
        return None
    out = torch.empty(examples, tokens, heads, d)
    count = examples * heads
    p = torch.empty(count, tokens, tokens) if wants_p else None
    q_memory, k_memory, v_memory = (_memory(x) for x in (q, k, v))
    nothing = np.empty(0, np.float32), (0, 0, 0)
    mask_memory = nothing if mask is None else _memory(mask.expand(examples, heads, tokens, tokens))
    out_memory = _memory(out.transpose(1, 2))
    q_step, k_step, v_step, p_step = (np.float32(scale) for scale in scales)
    before = np.float32(scales[0] * scales[1] * scaling)
    after = np.float32(scales[3] * scales[2])
    limits = np.float32(own), np.float32(p_largest)
    sound = True

    def compute(first: int) -> None:
        nonlocal sound
        size = min(part, count - first)
        some = torch.empty(size, tokens, tokens) if p is None else p[first : first + size]
        of_q, of_p = (np.empty((HEIGHT, -(-length // group) * group), kind) for length in (d, tokens))
        tiles = some.numpy()
        scored = scores_of(
            *q_memory, *k_memory, d, *mask_memory, (q_step, k_step), limits[0], before, heads, first, of_q, tiles
        )
        torch.softmax(some, -1, out=some)
        summed = outputs_of(
            tiles, *v_memory, d, (p_step, v_step), limits[::-1], after, heads, first, of_p, *out_memory, wants_p
        )
        if not (scored and summed):
            sound = False

    part = max(1, min(CACHE // (4 * tokens * tokens), -(-count // torch.get_num_threads())))
    run(compute, range(0, count, part))
    if not sound:
        return None
    return out.transpose(1, 2), None if p is None else p.view(examples, heads, tokens, tokens)


def _memory(x: Tensor) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Flat memory of [examples, heads, tokens, …] with the steps along these, in which the last dimension lies densely."""
    x = x.detach() if x.stride(-1) == 1 else x.detach().contiguous()
    steps = x.stride()
    size = 1 + sum((length - 1) * step for length, step in zip(x.shape, steps, strict=True))
    return x.as_strided((size,), (1,)).numpy(), (steps[0], steps[1], steps[2])


@intrinsic
def _fetch(typing_context, memory, at):
    """Bring the cache line of memory[at] near; nothing happens where there is no such number."""

    def emit(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), BYTE.as_pointer())
        fetch = declared(builder.module, "llvm.prefetch.p0", ir.VoidType(), [BYTE.as_pointer(), WORD, WORD, WORD])
        to_read, second_level, of_data = (ir.Constant(WORD, number) for number in (0, 2, 1))
        builder.call(fetch, [place, to_read, second_level, of_data])
        return context.get_dummy_value()

    return types.void(memory, int64), emit


@exact
def _next_head(memory, at, step, d):
    """A row of the next head, beside the one that is read now, so that no head waits for its rows, which lie far apart."""
    for j in range(at + step, at + step + d, LINE):
        _fetch(memory, j)


@exact
def _to_codes(numbers, step, lowest, largest, offset, codes):
    """`attention.to_codes` of a row, plus `offset`. Returns whether all numbers are numbers."""
    strange = int32(0)
    for j in range(numbers.shape[0]):
        number = numbers[j]
        code = min(max(np.rint(number / step), lowest), largest)
        codes[j] = int32(code + offset)
        strange |= int32(number != number)
    return strange == 0


@exact
def scores_of(q, q_steps, k, k_steps, d, mask, mask_steps, scales, largest, factor, heads, first, rows, out):
    """Scores of some heads, from number `first` of all heads of all examples on.

    Args:
        q, k, mask: float32 memory; an empty `mask` hides nothing.
        q_steps, k_steps, mask_steps: From one example, head and token (of `mask`: query) to the next.
        scales: Of Q and of K, float32.
        largest: Largest code, float32.
        factor: What 1 in a sum of products is worth, float32.
        heads: Of an example.
        rows: [HEIGHT, d filled up to whole words], overwritten; uint8 for codes of 8 bits, int16 for wider ones, or for all.
        out: float32 [some heads, tokens, tokens].

    Returns:
        Whether every number in Q and K is one; `out` has no meaning otherwise.
    """
    tokens, group = out.shape[1], WORD_SIZE // rows.itemsize
    words = rows.shape[1] // group
    columns = -(-tokens // WIDTH) * WIDTH
    packed = np.empty((words, columns), np.int32)
    key = np.zeros((1, rows.shape[1]), rows.dtype)
    key_words = key.view(np.int32)
    offset = float32(OFFSET) if rows.itemsize == 1 else float32(0)
    starts, sums = np.zeros(columns, np.int32), np.empty((HEIGHT, columns), np.int32)
    sound = True
    for n in range(out.shape[0]):
        example, head = divmod(first + n, heads)
        q_at = example * q_steps[0] + head * q_steps[1]
        k_at = example * k_steps[0] + head * k_steps[1]
        mask_at = example * mask_steps[0] + head * mask_steps[1]
        for t in range(tokens):
            at = k_at + t * k_steps[2]
            _next_head(k, at, k_steps[1], d)
            # Of 8 bits, codes are signed here, and `key` keeps their lowest 8 bits.
            sound &= _to_codes(k[at : at + d], scales[1], -largest, largest, float32(0), key[0])
            for w in range(words):
                packed[w, t] = key_words[0, w]
            if offset > 0:
                total = int32(0)
                for j in range(d):
                    total += int32(np.int8(key[0, j]))
                starts[t] = int32(total * int32(-OFFSET))
        for t in range(0, tokens, HEIGHT):
            height = min(HEIGHT, tokens - t)
            for v in range(height):
                at = q_at + (t + v) * q_steps[2]
                _next_head(q, at, q_steps[1], d)
                sound &= _to_codes(q[at : at + d], scales[0], -largest, largest, offset, rows[v])
            for i in range(0, columns, WIDTH):
                _tile(words, rows, packed, starts, sums, i, columns)
            for v in range(height):
                row, of_row = out[n, t + v], sums[v]
                if mask.shape[0] > 0:
                    at = mask_at + (t + v) * mask_steps[2]
                    added = mask[at : at + tokens]
                    for i in range(tokens):
                        row[i] = float32(of_row[i]) * factor + added[i]
                else:
                    for i in range(tokens):
                        row[i] = float32(of_row[i]) * factor
    return sound


@exact
def outputs_of(p, v, v_steps, d, scales, largest, factor, heads, first, rows, out, out_steps, wants_p):
    """Outputs of some heads; where they are wanted, `p` becomes multiples of its scale.

    Args:
        p: float32 [some heads, tokens, tokens], probabilities.
        v, out: float32 memory; v_steps, out_steps: from one example, head and token to the next.
        scales: Of P and of V, float32.
        largest: Largest codes of P and of V, float32.
        factor: What 1 in a sum of products is worth, float32.
        heads, first: See `scores_of`.
        rows: [HEIGHT, tokens filled up to whole words], overwritten; see `scores_of`.

    Returns:
        Whether every number in P and V is one; `out` has no meaning otherwise.
    """
    tokens, group = p.shape[1], WORD_SIZE // rows.itemsize
    words = rows.shape[1] // group
    columns = -(-d // WIDTH) * WIDTH
    packed = np.empty((words, columns), np.int32)
    codes = np.zeros((group, columns), np.int32)
    starts, sums = np.zeros(columns, np.int32), np.empty((HEIGHT, columns), np.int32)
    sound = True
    for n in range(p.shape[0]):
        example, head = divmod(first + n, heads)
        v_at = example * v_steps[0] + head * v_steps[1]
        out_at = example * out_steps[0] + head * out_steps[1]
        for w in range(words):
            for r in range(group):
                t = w * group + r
                if t < tokens:
                    at = v_at + t * v_steps[2]
                    _next_head(v, at, v_steps[1], d)
                    sound &= _to_codes(v[at : at + d], scales[1], -largest[1], largest[1], float32(0), codes[r])
                else:
                    codes[r] = 0
            target = packed[w]
            if group == 4:
                low, second, third, high = codes[0], codes[1], codes[2], codes[3]
                for i in range(columns):
                    lower = int32(low[i] & BYTE_MASK) | int32(int32(second[i] & BYTE_MASK) << int32(8))
                    target[i] = lower | int32(int32(third[i] & BYTE_MASK) << int32(16)) | int32(high[i] << int32(24))
            else:
                low, high = codes[0], codes[1]
                for i in range(columns):
                    target[i] = int32(low[i] & HALF_MASK) | int32(high[i] << int32(16))
        for t in range(0, tokens, HEIGHT):
            height = min(HEIGHT, tokens - t)
            for i in range(height):
                row, code = p[n, t + i], rows[i]
                sound &= _to_codes(row, scales[0], float32(0), largest[0], float32(0), code)
                if wants_p:
                    for j in range(tokens):
                        row[j] = float32(code[j]) * scales[0]
            for i in range(0, columns, WIDTH):
                _tile(words, rows, packed, starts, sums, i, columns)
            for i in range(height):
                at = out_at + (t + i) * out_steps[2]
                row, of_row = out[at : at + d], sums[i]
                for j in range(d):
                    row[j] = float32(of_row[j]) * factor
    return sound


@intrinsic
def _tile(typing_context, words, rows, packed, starts, sums, first, columns):
    """Sums of `HEIGHT` rows with the `WIDTH` columns from `first` on."""
    assert all(isinstance(array, types.Array) and array.layout == "C" for array in (rows, packed, starts, sums))
    signature = types.void(int64, rows, packed, starts, sums, int64, int64)

    def emit(context, builder, signature, arguments):
        def memory(index: int) -> ir.Value:
            return context.make_array(signature.args[index])(context, builder, arguments[index]).data

        tile = _tile_function(builder.module, 8 * context.get_abi_sizeof(context.get_data_type(rows.dtype)))
        codes = builder.bitcast(memory(1), WORD.as_pointer())
        from_first = [builder.gep(memory(index), [arguments[5]]) for index in (2, 3, 4)]
        builder.call(tile, [arguments[0], codes, *from_first, arguments[6]])
        return context.get_dummy_value()

    return signature, emit


def _tile_function(module: ir.Module, bits: int) -> ir.Function:
    """The function (words, rows*, packed*, starts*, sums*, columns) of a module, for codes of 8 or 16 bits."""
    name = f"analog_glue_attention_tile_{bits}"
    if name in module.globals:
        return module.globals[name]
    at = WORD.as_pointer()
    tile = ir.Function(module, ir.FunctionType(ir.VoidType(), [LONG, at, at, at, at, LONG]), name)
    tile.linkage = "internal"
    tile.attributes.add("noinline")
    tile.attributes.add("nounwind")
    multiply = SET.bytes if bits == 8 else SET.words
    assert multiply is not None
    _emit_tile(tile, multiply)
    return tile


def _emit_tile(tile: ir.Function, multiply: Emit) -> None:
    words, rows, packed, starts, sums_at, step = tile.args
    builder = ir.IRBuilder(tile.append_basic_block("entry"))

    def constant(number: int) -> ir.Constant:
        return ir.Constant(LONG, number)

    def registers(memory: ir.Value, position: ir.Value) -> list[ir.Value]:
        return [
            builder.bitcast(builder.gep(memory, [builder.add(position, constant(r * LANES))]), SUMS.as_pointer())
            for r in range(REGISTERS)
        ]

    first = [builder.load(register, align=WORD_SIZE) for register in registers(starts, constant(0))]
    row_of = [builder.gep(rows, [builder.mul(words, constant(v))]) for v in range(HEIGHT)]
    before = builder.block
    loop, after = tile.append_basic_block("loop"), tile.append_basic_block("after")
    builder.branch(loop)
    builder.position_at_end(loop)
    word = builder.phi(LONG)
    word.add_incoming(constant(0), before)
    sums = [[builder.phi(SUMS) for _ in range(REGISTERS)] for _ in range(HEIGHT)]
    columns = [builder.load(register, align=WORD_SIZE) for register in registers(packed, builder.mul(word, step))]
    for v in range(HEIGHT):
        codes = spread(builder, builder.load(builder.gep(row_of[v], [word]), align=1), LANES)
        for r in range(REGISTERS):
            added = multiply(builder, sums[v][r], [codes], [columns[r]])
            sums[v][r].add_incoming(first[r], before)
            sums[v][r].add_incoming(added, loop)
            sums[v][r] = added
    following = builder.add(word, constant(1))
    word.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, words), loop, after)
    builder.position_at_end(after)
    for v in range(HEIGHT):
        for r, register in enumerate(registers(sums_at, builder.mul(step, constant(v)))):
            builder.store(sums[v][r], register, align=WORD_SIZE)
    builder.ret_void()
