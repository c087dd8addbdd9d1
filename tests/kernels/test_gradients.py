"""The backward products by instructions for integers: as accurate as in float32, or as 16-bit gradients allow."""

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from analog_glue.kernels import integer_gemm

if not integer_gemm.available():
    pytest.skip("this CPU has no instructions for integers that the kernels know", allow_module_level=True)

from analog_glue.kernels.gradients import OF_BYTES, SUMMED, WHOLE, digits, gradients, interleave, whole

COUNTS = (2, 3) if OF_BYTES else (2,)  # instructions for 16-bit numbers take such gradients whole
of_bytes_alone = pytest.mark.skipif(not OF_BYTES, reason="this CPU has no dot products of 8-bit numbers")

# vectors, outputs, row blocks, rows
SHAPES = [
    (1, 1, 1, 1),
    (1100, 3, 1, 4),
    (2, 1100, 1, 6),
    (3, 2, 1, 5),
    (37, 5, 2, 33),
    (64, 100, 3, 48),
    (130, 65, 2, 129),
    (33, 768, 2, 384),
]


def case(shape, seed=0):
    vectors, outputs, blocks, rows = shape
    draw = np.random.default_rng(seed)
    # Gradients of a network: examples differ by orders of magnitude, most entries are far below the largest.
    gradient = (draw.standard_normal((vectors, outputs)) * np.exp(2 * draw.standard_normal((vectors, 1)))).astype(np.float32)
    integers = draw.integers(-127, 128, (outputs, blocks * rows)).astype(np.int8)
    worth = (1e-4 + 1e-3 * draw.random((blocks, outputs))).astype(np.float32)
    codes = draw.integers(-127, 128, (vectors, blocks * rows)).astype(np.int8)
    return gradient, integers, worth, codes


def in_real_units(integers, worth):
    return integers * worth.astype(np.float64).T.repeat(integers.shape[1] // len(worth), axis=1)


def exactly(gradient, integers, worth, codes):
    return gradient.astype(np.float64) @ in_real_units(integers, worth), gradient.astype(np.float64).T @ codes


def steps_of(count):
    """Of the largest entry."""
    return 127 * 256 ** (count - 1) if OF_BYTES else WHOLE


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_gradient_is_off_by_at_most_half_a_step_of_its_largest_entry(shape, count):
    gradient, integers, worth, codes = case(shape)
    rows, steps = np.full(shape[2], shape[3]), steps_of(count)
    to_x, to_codes = gradients(gradient, integers, worth, codes, rows, count)
    exact_x, exact_codes = exactly(gradient, integers, worth, codes)
    # Every term is off by half a step of the largest; float32 rounds the digits' sums and the result.
    scaled = np.abs(gradient[:, None, :] * worth[None]).max(axis=(1, 2))
    bound = scaled * np.abs(integers.astype(int)).sum(axis=0).max() / steps / 2 + 4e-7 * np.abs(exact_x).max(axis=1) + 1e-30
    assert (np.abs(to_x - exact_x).max(axis=1) <= bound).all()
    largest = np.abs(gradient).max(axis=0)
    bound = largest * np.abs(codes.astype(int)).sum(axis=0).max() / steps / 2 + 4e-7 * np.abs(exact_codes).max(axis=1) + 1e-30
    assert (np.abs(to_codes - exact_codes).max(axis=1) <= bound).all()


def errors(gradient, integers, worth, codes, products):
    """Relative error of both products, root mean square, against float64."""
    exact = exactly(gradient, integers, worth, codes)
    return [np.linalg.norm(result - true) / np.linalg.norm(true) for result, true in zip(products, exact, strict=True)]


@of_bytes_alone
def test_three_digits_are_as_good_as_float32():
    gradient, integers, worth, codes = case((256, 768, 2, 384))
    used = in_real_units(integers, worth).astype(np.float32)
    plain = gradient @ used, gradient.T @ codes.astype(np.float32)
    ours = gradients(gradient, integers, worth, codes, np.full(2, 384))
    assert max(errors(gradient, integers, worth, codes, plain)) < 1e-6
    assert max(errors(gradient, integers, worth, codes, ours)) < 2e-6  # entries spread over e^±2; a step is one of the largest


def test_two_digits_err_by_what_their_rounding_says_and_less_than_bfloat16():
    """A digit's step s rounds every entry by s/√12 rms, independently, so products err by that over the entries' own rms."""
    gradient, integers, worth, codes = case((256, 768, 2, 384))
    to_x, to_codes = errors(
        gradient, integers, worth, codes, gradients(gradient, integers, worth, codes, np.full(2, 384), count=2)
    )
    steps = steps_of(2) * 12**0.5

    def expected(terms, axis):
        """`terms`: what is summed up over `axis`, before it is multiplied by independent numbers of mean 0."""
        step = np.abs(terms).max(axis=axis) / steps
        return (np.mean(step**2) / np.mean(terms**2)) ** 0.5

    scaled = gradient[:, None, :].astype(np.float64) * worth[None]
    # 0.5 M and 0.6 M rounded entries; the sums' own spread over 256 × 768 and 768 × 768 results is below 1 %.
    assert to_x == pytest.approx(expected(scaled, 2), rel=0.05)
    assert to_codes == pytest.approx(expected(gradient.astype(np.float64), 0), rel=0.05)

    half, used = torch.from_numpy(gradient).bfloat16(), torch.from_numpy(in_real_units(integers, worth)).bfloat16()
    rounded = (half @ used).double().numpy(), (half.T @ torch.from_numpy(codes).bfloat16()).double().numpy()
    in_bfloat16 = errors(gradient, integers, worth, codes, rounded)
    assert to_x < in_bfloat16[0] / 5
    assert to_codes < in_bfloat16[1] / 5


def test_entries_below_half_a_step_of_sixteen_bits_are_lost():
    steps = steps_of(2)
    gradient = np.array([[1.0, 0.4 / steps, 0.6 / steps]], np.float32)
    one = np.ones((3, 1), np.float32).T
    _, to_codes = gradients(gradient, np.ones((3, 4), np.int8), one, np.ones((1, 4), np.int8), np.array([4]), count=2)
    assert np.allclose(to_codes[:, 0], gradient[0])  # each is the largest of its own sum
    to_x, _ = gradients(gradient, np.array([[0], [1], [0]], np.int8), one, np.ones((1, 1), np.int8), np.array([1]), count=2)
    assert to_x.item() == 0
    to_x, _ = gradients(gradient, np.array([[0], [0], [1]], np.int8), one, np.ones((1, 1), np.int8), np.array([1]), count=2)
    assert to_x.item() == pytest.approx(1 / steps)


@pytest.mark.parametrize("count", COUNTS)
def test_vectors_without_a_gradient_give_none_and_change_nothing(count):
    gradient, integers, worth, codes = case((70, 16, 2, 10))
    empty = np.random.default_rng(3).random(70) < 0.6
    gradient[empty] = 0
    gradient[:, 3] = 0
    rows = np.full(2, 10)
    to_x, to_codes = gradients(gradient, integers, worth, codes, rows, count)
    assert not to_x[empty].any()
    assert not to_codes[3].any()
    others_x, others_codes = gradients(gradient[~empty], integers, worth, codes[~empty], rows, count)
    assert np.array_equal(to_x[~empty], others_x)
    assert np.array_equal(to_codes, others_codes)
    assert not any(array.any() for array in gradients(np.zeros_like(gradient), integers, worth, codes, rows, count))


@pytest.mark.parametrize("count", [2, 3])
def test_digits_put_together_are_the_rounded_number(count):
    values = np.random.default_rng(1).standard_normal((5, 77)).astype(np.float32)
    planes = np.empty((count, 5, 77), np.int8)
    worth = digits(values.copy(), planes)
    together = sum(planes[p].astype(np.int64) * 256 ** (count - 1 - p) for p in range(count))
    # Half a step, and the rounding of the float32 products that scale there and back.
    largest = 127 * 256 ** (count - 1)
    steps = 0.5 + 2 * 2.0**-24 * largest
    assert np.abs(together * worth[:, None].astype(np.float64) - values).max() <= steps * worth.max()
    assert np.abs(together).max() == largest


def test_numbers_of_16_bits_come_in_parts_whose_sums_32_bits_hold():
    values = np.random.default_rng(1).standard_normal((3, 77)).astype(np.float32)
    planes = np.full((2, 3, 40), 99, np.int16)
    worth = whole(values.copy(), planes)
    together = np.concatenate([planes[0], planes[1, :, :37]], axis=1)
    assert not planes[1, :, 37:].any() and np.abs(together).max() == WHOLE
    off = np.abs(together * worth[:, None].astype(np.float64) - values).max(axis=1)
    assert (off <= (0.5 + 2 * 2.0**-24 * WHOLE) * worth).all()
    assert 127 * WHOLE * SUMMED < 2**31 <= 127 * WHOLE * (SUMMED + 5)


def test_the_largest_sums_are_exact():
    """Every product is the largest there is: 32 bits hold what is added up."""
    vectors, outputs, inputs = 1030, 1030, 3
    largest = np.ones((vectors, outputs), np.float32), np.full((outputs, inputs), 127, np.int8)
    to_x, to_codes = gradients(*largest, np.ones((1, outputs), np.float32), largest[1][:vectors], np.array([inputs]), 2)
    assert np.allclose(to_x, 127 * outputs, rtol=1e-6) and np.allclose(to_codes, 127 * vectors, rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (5, 47), (8, 48), (13, 100)], ids=str)
@pytest.mark.parametrize("start", [0, 3])
def test_interleaving_is_packing_the_transpose(shape, start):
    numbers = np.random.default_rng(2).integers(-128, 128, (shape[0], shape[1] + start)).astype(np.int8)
    expected = integer_gemm.pack(np.ascontiguousarray(numbers[:, start:].T)[None])[0]
    packed = np.full_like(expected, 99)
    interleave(numbers, start, shape[1], packed, 0, len(packed))
    assert np.array_equal(packed, expected)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_what_is_no_number_stays_none(number):
    gradient, integers, worth, codes = case((37, 5, 2, 33))
    gradient[3:], gradient[7, 2], codes[7] = 0, number, 1
    to_x, to_codes = gradients(gradient, integers, worth, codes, np.full(2, 33), COUNTS[-1])
    assert not np.isfinite(to_x[7]).any() and not np.isfinite(to_codes[2]).any()
    assert np.isfinite(np.delete(to_x, 7, axis=0)).all() and np.isfinite(np.delete(to_codes, 2, axis=0)).all()
