"""Integer products by vpdpbusd: equal to integer arithmetic for every shape and value; a chunk equals its three stages."""

import numpy as np
import pytest
import torch

pytest.importorskip("numba", reason="numba does not import here", exc_type=ImportError)

from analog_glue.kernels import fused, vnni
from analog_glue.kernels.packed import NO_SHARES
from analog_glue.kernels.products import Int8Product

needs_vnni = pytest.mark.skipif(not vnni.available(), reason="this CPU has no AVX-512 VNNI that numba compiles for")


def exact_sums(rows, weights):
    return rows.astype(np.int64) @ weights.astype(np.int64).T


def sums(rows, weights):
    """`multiply` into the middle of memory that it must leave alone on both sides."""
    vectors, columns = len(rows), len(weights)
    memory = np.full(vectors * columns + 2 * vnni.WIDTH, -7, np.int32)
    vnni.multiply(rows, vnni.pack(weights[None])[0], memory[vnni.WIDTH : -vnni.WIDTH].reshape(vectors, columns))
    assert (memory[: vnni.WIDTH] == -7).all() and (memory[-vnni.WIDTH :] == -7).all()
    return memory[vnni.WIDTH : -vnni.WIDTH].reshape(vectors, columns)


@needs_vnni
@pytest.mark.parametrize("rows", [1, 3, 4, 383, 384, 512])
@pytest.mark.parametrize("columns", [1, 5, 16, 47, 48, 49, 63, 64, 65, 100])
def test_sums_are_those_of_integer_arithmetic_in_every_shape(rows, columns):
    generator = np.random.default_rng(rows * 1000 + columns)
    weights = generator.integers(-128, 128, (columns, rows), np.int8)
    for vectors in (1, 2, 3, 4, 5, 6, 7, 8, 17):  # a loop of its own for every height up to 8
        codes = generator.integers(-128, 128, (vectors, rows), np.int8)
        np.testing.assert_array_equal(sums(codes, weights), exact_sums(codes, weights))


@needs_vnni
@pytest.mark.parametrize("code", [-128, -127, 0, 127])
@pytest.mark.parametrize("weight", [-128, -127, 0, 127])
def test_the_largest_sums_neither_saturate_nor_overflow(code, weight):
    rows = 4096
    found = sums(np.full((9, rows), code, np.int8), np.full((50, rows), weight, np.int8))
    np.testing.assert_array_equal(found, code * weight * rows)


@needs_vnni
@pytest.mark.parametrize("vectors, rows, columns", [(3, 8, 96), (2, 9, 96), (2, 4, 96), (2, 8, 97), (2, 8, 48)])
def test_shapes_that_do_not_fit_are_refused(vectors, rows, columns):
    packed = vnni.pack(np.zeros((1, 96, 8), np.int8))[0]
    with pytest.raises(ValueError, match="shapes that fit"):
        vnni.multiply(np.zeros((vectors, rows), np.int8), packed, np.zeros((2, columns), np.int32))


@needs_vnni
def test_row_blocks_are_packed_independently():
    generator = np.random.default_rng(0)
    weights = generator.integers(-128, 128, (3, 50, 10), np.int8)
    codes = generator.integers(-127, 128, (3, 11, 10), np.int8)
    packed = vnni.pack(weights)
    assert packed.ctypes.data % vnni.ALIGNMENT == 0
    for block in range(3):
        out = np.empty((11, 50), np.int32)
        vnni.multiply(codes[block], packed[block], out)
        np.testing.assert_array_equal(out, exact_sums(codes[block], weights[block]))


def test_weights_of_any_memory_order_are_packed_alike():
    weights = np.random.default_rng(0).integers(-128, 128, (2, 5, 7), np.int8)
    np.testing.assert_array_equal(vnni.pack(np.asfortranarray(weights)), vnni.pack(weights))


@needs_vnni
@pytest.mark.parametrize("vectors", [1, vnni.PART, 2 * vnni.PART + 5])
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

    scratch = np.empty(vnni.scratch_size(blocks, rows, columns, halves, reads), np.int32)
    codes_of_chunk, out_of_chunk, clipped_of_chunk = np.empty_like(codes), np.empty_like(out), marks()
    count_of_chunk = vnni.analog_chunk(
        x,
        per_input,
        full_scale,
        row_counts,
        dither,
        codes_of_chunk,
        vnni.pack(integers),
        halves,
        vnni.pack(magnitudes if reads else magnitudes[:0]),
        *NO_SHARES,
        *scales,
        out_of_chunk,
        clipped_of_chunk,
        scratch,
    )
    assert count_of_chunk == count
    np.testing.assert_array_equal(codes_of_chunk, codes)
    np.testing.assert_array_equal(clipped_of_chunk, clipped)
    np.testing.assert_array_equal(out_of_chunk.view(np.int32), out.view(np.int32))


def test_a_cpu_without_the_instruction_is_recognised(monkeypatch):
    class Codegen:
        def magic_tuple(self):
            return "aarch64", "apple-m1", "+neon,+dotprod"

    monkeypatch.setattr(vnni, "_target", Codegen)
    vnni.available.cache_clear()
    try:
        assert not vnni.available()
    finally:
        vnni.available.cache_clear()
