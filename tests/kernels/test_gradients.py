"""The backward products by 8-bit instructions: as accurate as in float32."""

import numpy as np
import pytest

pytest.importorskip("numba")

from analog_glue.kernels import integer_gemm

if not integer_gemm.available() or integer_gemm.SIGNED.group != integer_gemm.BYTES:
    pytest.skip("this CPU has no 8-bit dot products (AVX-512 VNNI)", allow_module_level=True)

from analog_glue.kernels.gradients import DIGITS, digits, gradients, interleave

# vectors, outputs, row blocks, rows
SHAPES = [(1, 1, 1, 1), (3, 2, 1, 5), (37, 5, 2, 33), (64, 100, 3, 48), (130, 65, 2, 129), (33, 768, 2, 384)]


def case(shape, seed=0):
    vectors, outputs, blocks, rows = shape
    draw = np.random.default_rng(seed)
    # Gradients of a network: examples differ by orders of magnitude, most entries are far below the largest.
    gradient = (draw.standard_normal((vectors, outputs)) * np.exp(2 * draw.standard_normal((vectors, 1)))).astype(np.float32)
    integers = draw.integers(-127, 128, (blocks, outputs, rows)).astype(np.int8)
    worth = (1e-4 + 1e-3 * draw.random((blocks, outputs))).astype(np.float32)
    codes = draw.integers(-127, 128, (vectors, blocks * rows)).astype(np.int8)
    return gradient, integers, worth, codes


def exactly(gradient, integers, worth, codes):
    used = (integers * worth.astype(np.float64)[:, :, None]).transpose(1, 0, 2).reshape(gradient.shape[1], -1)
    return gradient.astype(np.float64) @ used, gradient.astype(np.float64).T @ codes


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_gradient_is_off_by_at_most_half_a_step_of_its_largest_entry(shape):
    gradient, integers, worth, codes = case(shape)
    rows, steps = np.full(shape[2], shape[3]), 127 * 256 ** (DIGITS - 1)
    to_x, to_codes = gradients(gradient, integers, worth, codes, rows)
    exact_x, exact_codes = exactly(gradient, integers, worth, codes)
    # Every term is off by half a step of the largest; float32 rounds the digits' sums and the result.
    scaled = np.abs(gradient[:, None, :] * worth[None]).max(axis=(1, 2))
    bound = scaled * np.abs(integers.astype(int)).sum(axis=1).max() / steps / 2 + 4e-7 * np.abs(exact_x).max(axis=1) + 1e-30
    assert (np.abs(to_x - exact_x).max(axis=1) <= bound).all()
    largest = np.abs(gradient).max(axis=0)
    bound = largest * np.abs(codes.astype(int)).sum(axis=0).max() / steps / 2 + 4e-7 * np.abs(exact_codes).max(axis=1) + 1e-30
    assert (np.abs(to_codes - exact_codes).max(axis=1) <= bound).all()


def test_three_digits_are_as_good_as_float32():
    gradient, integers, worth, codes = case((256, 768, 2, 384))
    exact = exactly(gradient, integers, worth, codes)
    got = gradients(gradient, integers, worth, codes, np.full(2, 384))
    used = (integers * worth[:, :, None]).transpose(1, 0, 2).reshape(768, -1)
    plain = gradient @ used, gradient.T @ codes.astype(np.float32)
    for ours, float32, true in zip(got, plain, exact, strict=True):
        error, usual = (np.linalg.norm(result - true) / np.linalg.norm(true) for result in (ours, float32))
        assert usual < 1e-6
        assert error < 2e-6  # gradients here spread over e^±2, and a step is one of the largest


def test_vectors_without_a_gradient_give_none():
    gradient, integers, worth, codes = case((40, 16, 1, 20))
    gradient[7] = 0
    gradient[:, 3] = 0
    to_x, to_codes = gradients(gradient, integers, worth, codes, np.array([20]))
    assert not to_x[7].any()
    assert not to_codes[3].any()
    assert np.isfinite(to_x).all()


def test_digits_put_together_are_the_rounded_number():
    values = np.random.default_rng(1).standard_normal((5, 77)).astype(np.float32)
    planes = np.empty((DIGITS, 5, 77), np.int8)
    worth = digits(values.copy(), planes)
    together = sum(planes[p].astype(np.int64) * 256 ** (DIGITS - 1 - p) for p in range(DIGITS))
    # Half a step, and the rounding of the float32 products that scale there and back.
    largest = 127 * 256 ** (DIGITS - 1)
    steps = 0.5 + 2 * 2.0**-24 * largest
    assert np.abs(together * worth[:, None].astype(np.float64) - values).max() <= steps * worth.max()
    assert np.abs(together).max() == largest


@pytest.mark.parametrize("shape", [(1, 1), (5, 47), (8, 48), (13, 100)], ids=str)
def test_interleaving_is_packing_the_transpose(shape):
    numbers = np.random.default_rng(2).integers(-128, 128, shape).astype(np.int8)
    expected = integer_gemm.pack(np.ascontiguousarray(numbers.T)[None])[0]
    packed = np.full_like(expected, 99)
    interleave(numbers, packed, 0, len(packed))
    assert np.array_equal(packed, expected)
