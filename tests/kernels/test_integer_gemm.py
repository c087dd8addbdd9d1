"""Integer products by the CPU's own instructions: equal to integer arithmetic for every shape and value, on every kind of CPU.

Numbers of another CPU's instructions are tested in a process of its own, in which numba may use fewer than this CPU has.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("numba", reason="numba does not import here", exc_type=ImportError)

from llvmlite import binding as llvm
from llvmlite import ir

from analog_glue.kernels import fused
from analog_glue.kernels.instruction_sets import AVX2, AVX512_BW, AVX512_VNNI, AVX_VNNI, NEON, SETS, best, chosen
from analog_glue.kernels.integer_gemm import (
    ALIGNMENT,
    PART,
    SIGNED,
    UNSIGNED,
    analog_chunk,
    available,
    multiply,
    pack,
    scratch_size,
    takes_whole,
)
from analog_glue.kernels.packed import NO_SHARES, PackedProduct
from analog_glue.kernels.products import LEVELS, Int8Product
from analog_glue.kernels.register_tile import tile_function

needs_instruction = pytest.mark.skipif(not available(), reason="this CPU has no instruction for integers that numba may use")

# Of each kind of product: the instruction, and the smallest code, the smallest and the largest weight that it must take.
SIGNED_RANGE = (-128, -128, 127) if SIGNED.group == 4 else (-127, -LEVELS, LEVELS)
KINDS = {"signed": (SIGNED, *SIGNED_RANGE), "unsigned": (UNSIGNED, 0, 0, 127)}


def exact_sums(rows, weights):
    return rows.astype(np.int64) @ weights.astype(np.int64).T


def as_given(weights, instruction):
    return weights.astype(np.int16 if instruction.group == 2 else np.int8)


def sums(rows, weights, instruction):
    """`multiply` into the middle of memory that it must leave alone on both sides."""
    vectors, columns, width = len(rows), len(weights), instruction.width
    memory = np.full(vectors * columns + 2 * width, -7, np.int32)
    packed = pack(as_given(weights, instruction)[None], instruction)[0]
    multiply(rows, packed, memory[width:-width].reshape(vectors, columns))
    assert (memory[:width] == -7).all() and (memory[-width:] == -7).all()
    return memory[width:-width].reshape(vectors, columns)


@needs_instruction
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 383, 384, 512])
@pytest.mark.parametrize("columns", [1, 2, 5, 16, 47, 48, 49, 63, 64, 65, 100, 384])
def test_sums_are_those_of_integer_arithmetic_in_every_shape(kind, rows, columns):
    instruction, least_code, *range_of_weights = KINDS[kind]
    generator = np.random.default_rng(rows * 1000 + columns)
    weights = generator.integers(range_of_weights[0], range_of_weights[1] + 1, (columns, rows))
    for vectors in (1, 2, 3, 4, 5, 6, 7, 8, 17):  # a loop of its own for every height up to 8
        codes = generator.integers(least_code, 128, (vectors, rows), np.int8)
        np.testing.assert_array_equal(sums(codes, weights, instruction), exact_sums(codes, weights))


@needs_instruction
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 2, 3, 383, 512, 1040, 1536])
def test_the_largest_sums_neither_saturate_nor_overflow(kind, rows):
    instruction, least_code, *range_of_weights = KINDS[kind]
    if kind == "signed" and not takes_whole(rows):
        range_of_weights = [-128, 127]  # 15 bits go in halves
    alternating = np.where(np.arange(rows) % 2 == 0, range_of_weights[0], range_of_weights[1])
    for code in (least_code, -least_code - 1, 127):
        codes = np.full((9, rows), np.clip(code, least_code, 127), np.int8)
        codes[1::2, 1::2] = least_code
        for weight in (range_of_weights[0], range_of_weights[1], 0, alternating, alternating[::-1]):
            weights = np.broadcast_to(weight, (50, rows))
            np.testing.assert_array_equal(sums(codes, weights, instruction), exact_sums(codes, weights))


@needs_instruction
@pytest.mark.parametrize("vectors, rows, panels", [(3, 8, 2), (2, 9, 2), (2, 0, 2), (2, 8, 3), (2, 8, 1)])
def test_shapes_that_do_not_fit_are_refused(vectors, rows, panels):
    width = SIGNED.width
    packed = pack(np.zeros((1, 2 * width, 8), np.int8))[0]
    with pytest.raises(ValueError, match="shapes that fit"):
        multiply(np.zeros((vectors, rows), np.int8), packed, np.zeros((2, panels * width), np.int32))


@needs_instruction
def test_row_blocks_are_packed_independently():
    generator = np.random.default_rng(0)
    weights = generator.integers(-128, 128, (3, 50, 10), np.int8)
    codes = generator.integers(-127, 128, (3, 11, 10), np.int8)
    packed = pack(weights)
    assert packed.ctypes.data % ALIGNMENT == 0
    for block in range(3):
        out = np.empty((11, 50), np.int32)
        multiply(codes[block], packed[block], out)
        np.testing.assert_array_equal(out, exact_sums(codes[block], weights[block]))


def test_weights_of_any_memory_order_are_packed_alike():
    weights = np.random.default_rng(0).integers(-128, 128, (2, 5, 7), np.int8)
    np.testing.assert_array_equal(pack(np.asfortranarray(weights)), pack(weights))


@needs_instruction
@pytest.mark.parametrize("vectors", [1, PART, 2 * PART + 5])
@pytest.mark.parametrize("bits", [8, 15])
@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("wanted", [False, True])
def test_a_chunk_has_the_bits_of_its_stages_one_after_another(vectors, bits, reads, wanted):
    row_counts, columns = np.array([31, 31, 20]), 70
    blocks, rows, inputs = 3, 31, row_counts.sum()
    generator = torch.Generator().manual_seed(vectors)
    product = Int8Product(torch.randn(blocks, columns, rows, generator=generator), bits)
    integers, magnitudes, dither = (part.numpy() for part in (product.integers, product.magnitudes, product.dither))
    x = torch.randn(vectors, inputs, generator=generator).numpy()
    per_input = np.full(inputs, 127 / 2, np.float32)
    step = torch.rand(blocks, columns, generator=generator).numpy()
    bias = torch.randn(columns, generator=generator).numpy()
    full_scale, first, key = np.float32(127), 1000, (np.uint32(3), np.uint32(4))
    halves = bits == 15
    # In LSB: currents of 60 standard deviation, so that about 3 % clip, and noise of about 1.
    unit = np.float32(60 / (0.5 * rows) ** 0.5 / 64 * product.scale)
    scales = (unit, np.float32(1e-3 / 127), np.float32(0.5), True, full_scale, step, bias, first, *key)

    def marks():
        return np.full((blocks, vectors, columns), 9, np.int8) if wanted else np.empty((0, 0, 0), np.int8)

    driven = np.empty((blocks, vectors, rows), np.int8)
    squares = np.empty((blocks if reads else 0, vectors, rows), np.int8)
    codes, out, clipped = np.empty(x.shape, np.int8), np.empty((vectors, columns), np.float32), marks()
    worth = np.empty(squares.shape[:2], np.float32)
    fused.drive(x, per_input, full_scale, row_counts, dither, codes, driven, squares, worth)
    currents = np.stack([exact_sums(*pair) for pair in zip(driven, integers, strict=True)]).astype(np.int32)
    variances = np.empty((0, 0, 0), np.int32)
    if reads:
        variances = np.stack([exact_sums(*pair) for pair in zip(squares, magnitudes, strict=True)]).astype(np.int32)
    count = fused.digitise(currents, halves, variances, worth, *NO_SHARES, *scales, out, clipped)
    assert 0 < count < 0.2 * blocks * vectors * columns  # a test of clipping too

    packed = PackedProduct(product, reads)
    scratch = np.empty(scratch_size(blocks, rows, columns, packed.has_halves, reads), np.int32)
    codes_of_chunk, out_of_chunk, clipped_of_chunk = np.empty_like(codes), np.empty_like(out), marks()
    count_of_chunk = analog_chunk(
        x,
        per_input,
        full_scale,
        row_counts,
        dither,
        codes_of_chunk,
        packed.weights,
        packed.has_halves,
        packed.magnitudes,
        *packed.shares,
        *scales,
        out_of_chunk,
        clipped_of_chunk,
        scratch,
    )
    assert count_of_chunk == count
    np.testing.assert_array_equal(codes_of_chunk, codes)
    np.testing.assert_array_equal(clipped_of_chunk, clipped)
    np.testing.assert_array_equal(out_of_chunk.view(np.int32), out.view(np.int32))


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ("+neon,+dotprod", "NEON with dot products"),
        ("+sse2,+avx", None),
        ("+avx2,-avx512f,-avxvnni", "AVX2"),
        ("+avx2,+avxvnni", "AVX-VNNI"),
        ("+avx2,+avx512f,+avx512bw", "AVX-512BW"),
        ("+avx2,+avx512f,+avx512bw,+avx512vnni,+avxvnni", "AVX-512 VNNI"),
        ("", None),
    ],
)
def test_the_instruction_set_is_the_best_that_numba_may_use(features, expected):
    found = best(features)
    assert (found and found.name) == expected


LIMITED = {
    "AVX2": ("haswell", "+avx2,+fma,+f16c,+bmi,+bmi2"),
    "AVX-512BW": ("skylake-avx512", "+avx2,+fma,+f16c,+bmi,+bmi2,+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512cd"),
}


@pytest.mark.slow
@pytest.mark.skipif("KIND_OF_CPU" in os.environ, reason="this is such a process")
@pytest.mark.parametrize("name", LIMITED)
def test_all_of_this_holds_where_numba_may_use_less(name):
    if chosen() not in SETS[: [one.name for one in SETS].index(name) + 1]:
        pytest.skip("this CPU does not have it")
    cpu, features = LIMITED[name]
    limits = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features, "ONEDNN_MAX_CPU_ISA": "AVX2", "KIND_OF_CPU": name}
    beside = [str(Path(__file__).with_name(f"test_{name}.py")) for name in ("gradients", "attention", "outliers")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", __file__, *beside]
    done = subprocess.run(command, env=os.environ | limits, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


AS_AVX_VNNI = """
from analog_glue.kernels import instruction_sets

instruction_sets.chosen = lambda: instruction_sets.AVX_VNNI
from analog_glue.kernels.integer_product import compiled_is_exact

print([compiled_is_exact(rows) for rows in (1, 2, 3, 383, 512, 1536)])
"""


@pytest.mark.slow
@pytest.mark.skipif(chosen() is not AVX512_VNNI, reason="this CPU does not have the same instruction in AVX-512's form")
def test_vnni_of_256_bits_is_exact(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", AS_AVX_VNNI], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == str([True] * 6), done.stderr


@pytest.mark.skipif("KIND_OF_CPU" not in os.environ, reason="numba may use all that this CPU has")
def test_the_limit_holds_here():
    assert chosen().name == os.environ["KIND_OF_CPU"] and available()


def assembly(module, features):
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(module.triple).create_target_machine(features=features, opt=3)
    return machine.emit_assembly(llvm.parse_assembly(str(module)))


@pytest.mark.parametrize(
    ("instruction_set", "triple", "instructions"),
    [
        (NEON, "aarch64-linux-gnu", ["sdot\tv"]),
        (AVX_VNNI, "x86_64-linux-gnu", ["{vex}\tvpdpbusd"]),
        (AVX2, "x86_64-linux-gnu", ["vpmaddwd", "vpmaddubsw"]),
        (AVX512_BW, "x86_64-linux-gnu", ["vpmaddwd", "vpmaddubsw"]),
        (AVX512_VNNI, "x86_64-linux-gnu", ["vpdpbusd"]),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_tiles_compile_to_the_instructions_of_every_set(instruction_set, triple, instructions):
    module = ir.Module()
    module.triple = triple
    for instruction in {instruction_set.signed, instruction_set.unsigned}:
        tile_function(module, instruction, f"tile_{instruction.weights.__name__}").linkage = "external"
    text = assembly(module, ",".join(instruction_set.features[0]))
    for instruction in instructions:
        assert instruction in text
