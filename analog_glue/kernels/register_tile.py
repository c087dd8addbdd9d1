"""A tile of sums of integer products in registers, as LLVM code for any `Instruction`.

A tile of `height` vectors by one panel of packed weights (`integer_gemm.pack`) keeps all its sums in registers while the rows
pass: of each word of rows it loads the weights of the panel's columns once, and spreads the codes of one vector after another.
"""

from llvmlite import ir

from analog_glue.kernels.instruction_sets import Instruction, declared, vector

BYTE, WORD, LONG = ir.IntType(8), ir.IntType(32), ir.IntType(64)
WORD_SIZE = 4  # [bytes]


def tile_function(module: ir.Module, instruction: Instruction, name: str) -> ir.Function:
    """The function (height, words, codes*, panel*, starts*, out*, out stride, columns) of a module: one loop per height.

    Args of that function:
        height: Vectors, 1 … `instruction.height`.
        words: 32-bit words of rows, a multiple of `instruction.words`.
        codes, panel: Bytes, [height, words] words and [words, width] words.
        starts: int32 [height], where sums start.
        out, out stride: int32 [height, columns] and numbers from one of its rows to the next.
        columns: Of the panel, 1 … width.
    """
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
    for height in range(1, instruction.height + 1):
        block = tile.append_basic_block(f"height{height}")
        switch.add_case(_long(height), block)
        builder.position_at_end(block)
        _emit_tile(builder, instruction, height, *tile.args[1:])
        builder.branch(end)
    builder.position_at_end(end)
    builder.ret_void()
    return tile


def spread(builder: ir.IRBuilder, word: ir.Value, lanes: int) -> ir.Value:
    """One 32-bit number in all lanes."""
    kind = vector(32, lanes)
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), word, ir.Constant(WORD, 0))
    return builder.shuffle_vector(single, ir.Constant(kind, ir.Undefined), ir.Constant(kind, [0] * lanes))


def _long(number: int) -> ir.Constant:
    return ir.Constant(LONG, number)


def _emit_tile(builder: ir.IRBuilder, instruction: Instruction, height: int, words, codes, panel, starts, out, stride, columns):
    lanes, registers, width = instruction.lanes, range(instruction.registers), instruction.width
    kind = vector(32, lanes)
    length = builder.mul(words, _long(WORD_SIZE))
    row_of = [builder.gep(codes, [builder.mul(length, _long(v))]) for v in range(height)]
    first = [spread(builder, builder.load(builder.gep(starts, [_long(v)])), lanes) for v in range(height)]
    before = builder.block
    loop, after = builder.append_basic_block("loop"), builder.append_basic_block("after")
    builder.branch(loop)
    builder.position_at_end(loop)
    word = builder.phi(LONG)
    word.add_incoming(_long(0), before)
    sums = [[builder.phi(kind) for _ in registers] for _ in range(height)]
    columns_at = builder.gep(panel, [builder.mul(word, _long(WORD_SIZE * width))])
    row_start = builder.mul(word, _long(WORD_SIZE))

    def load(start: ir.Value, position: int, of: ir.Type) -> ir.Value:
        place = builder.bitcast(builder.gep(start, [_long(WORD_SIZE * position)]), of.as_pointer())
        return builder.load(place, align=1 if of is WORD else WORD_SIZE)

    together = range(instruction.words)
    weights = [[load(columns_at, w * width + r * lanes, kind) for w in together] for r in registers]
    added = []
    for v in range(height):
        row_at = builder.gep(row_of[v], [row_start])
        spread_codes = [spread(builder, load(row_at, w, WORD), lanes) for w in together]
        added.append([instruction.emit(builder, sums[v][r], weights[r], spread_codes) for r in registers])
    for v in range(height):
        for r in registers:
            sums[v][r].add_incoming(first[v], before)
            sums[v][r].add_incoming(added[v][r], loop)
    following = builder.add(word, _long(instruction.words))
    word.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, words), loop, after)
    builder.position_at_end(after)
    whole = builder.icmp_signed(">=", columns, _long(width))
    with builder.if_else(whole) as (all_columns, some_columns):
        with all_columns:
            _emit_stores(builder, added, out, stride, None)
        with some_columns:
            _emit_stores(builder, added, out, stride, columns)


def _emit_stores(builder: ir.IRBuilder, sums: list[list[ir.Value]], out, stride, columns: ir.Value | None) -> None:
    """Sums into memory, as far as the columns go; None: all of them."""
    kind = sums[0][0].type
    lanes = kind.count
    for r in range(len(sums[0])):
        if columns is not None:
            limit = spread(builder, builder.trunc(columns, WORD), lanes)
            mask = builder.icmp_signed("<", ir.Constant(kind, list(range(r * lanes, (r + 1) * lanes))), limit)
        for v, of_vector in enumerate(sums):
            place = builder.gep(out, [builder.add(builder.mul(stride, _long(v)), _long(r * lanes))])
            place = builder.bitcast(place, kind.as_pointer())
            if columns is None:
                builder.store(of_vector[r], place, align=WORD_SIZE)
            else:
                arguments = [kind, kind.as_pointer(), WORD, mask.type]
                store = declared(builder.module, f"llvm.masked.store.v{lanes}i32.p0", ir.VoidType(), arguments)
                builder.call(store, [of_vector[r], place, ir.Constant(WORD, WORD_SIZE), mask])
