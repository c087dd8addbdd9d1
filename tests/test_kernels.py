"""Kernels against plain references: normal numbers, and products of 8-bit codes."""

import math

import pytest
import torch

from analog_glue.kernels.gaussian import PART, fill_normal
from analog_glue.kernels.parallel import run
from analog_glue.kernels.products import LEVELS, Float32Product, Int8Product, fastest_product, make_product

# --- normal numbers ------------------------------------------------------------------------------------

N = 4 * PART + 12_345  # five parts, the last one short


@pytest.fixture(scope="module")
def sample():
    return fill_normal(torch.empty(N), key=7)


def test_moments_are_those_of_a_standard_normal(sample):
    # Standard errors of the first four moments over n draws: √(1/n), √(2/n), √(15/n), √(96/n).
    for power, expected, variance in ((1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)):
        moment = sample.double().pow(power).mean().item()
        assert moment == pytest.approx(expected, abs=5 * math.sqrt(variance / N))


@pytest.mark.parametrize("beyond", [1.0, 2.0, 3.0, 4.0])
def test_both_tails_are_as_heavy_as_they_should_be(sample, beyond):
    expected = N * math.erfc(beyond / math.sqrt(2)) / 2
    for tail in (sample > beyond, sample < -beyond):
        assert tail.sum().item() == pytest.approx(expected, abs=5 * math.sqrt(expected))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_does_not_change_a_number(sample, threads):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert torch.equal(fill_normal(torch.empty(N), key=7), sample)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_pieces_run_once_each_without_gradients_and_an_error_comes_through():
    done = torch.zeros(100)

    def mark(piece):
        assert not torch.is_grad_enabled()
        if piece == 100:
            raise ValueError("piece 100")
        run(lambda inner: done[piece].add_(inner), [1, 2])  # a run inside a run

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        run(mark, range(100))
        assert torch.equal(done, torch.full((100,), 3.0))
        with pytest.raises(ValueError, match="piece 100"):
            run(mark, range(101))
    finally:
        torch.set_num_threads(before)


def test_the_shape_does_not_change_a_number(sample):
    assert torch.equal(fill_normal(torch.empty(5, N // 5), key=7).view(-1)[:1000], sample[:1000])


def test_keys_and_parts_are_independent(sample):
    other = fill_normal(torch.empty(N), key=8)
    bound = 5 / math.sqrt(PART)
    assert abs(torch.corrcoef(torch.stack([sample, other]))[0, 1]) < bound
    parts = sample[: 4 * PART].view(4, PART)
    assert (torch.corrcoef(parts) - torch.eye(4)).abs().max() < bound
    assert abs(torch.corrcoef(torch.stack([sample[1:], sample[:-1]]))[0, 1]) < bound


def test_drawing_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    fill_normal(torch.empty(10), key=1)
    assert torch.equal(torch.get_rng_state(), before)


# --- products ------------------------------------------------------------------------------------------

SHAPES = [(1, 1, 1), (1, 5, 3), (2, 7, 13), (3, 33, 17), (2, 384, 384), (1, 3, 512)]  # row blocks, columns, rows


def weights_and_codes(shape, vectors=9, seed=0):
    draw = torch.Generator().manual_seed(seed)
    blocks, columns, rows = shape
    weights = torch.randn(blocks, columns, rows, generator=draw)
    codes = torch.randint(-127, 128, (vectors, blocks * rows), generator=draw).float()
    return weights, codes


def exactly(weights, codes):
    """Σ_j w_ij x_j in double precision, by the definition: [row blocks, vectors, columns]."""
    blocks, _, rows = weights.shape
    return torch.einsum("bcr,vbr->bvc", weights.double(), codes.double().view(len(codes), blocks, rows))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_float_product_is_the_sum_over_the_rows_of_every_block(shape):
    weights, codes = weights_and_codes(shape)
    bound = 1.2e-7 * shape[2] * 127 * weights.abs().max()  # one rounding of 2⁻²³ per term
    assert (Float32Product(weights).product(codes) - exactly(weights, codes)).abs().max() <= bound


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_int8_product_is_off_by_the_rounding_of_the_weights_alone(shape):
    weights, codes = weights_and_codes(shape)
    error = make_product(weights, "int8").product(codes) - exactly(weights, codes)
    # A weight is off by at most half of largest / 16256; the float scale costs a relative 2⁻²³ or two.
    half_step = weights.abs().max() / LEVELS / 2
    bound = half_step * codes.abs().sum(dim=1).max() + 3e-7 * exactly(weights, codes).abs().max()
    assert error.abs().max() <= bound
    # The roundings are independent and uniform, so the typical error is far smaller: √(Σ x² / 12) steps.
    if weights.numel() > 10_000:
        typical = 2 * half_step * codes.square().sum(dim=1).div(12 * shape[0]).mean().sqrt()
        assert error.square().mean().sqrt().item() == pytest.approx(typical.item(), rel=0.1)


def test_integer_weights_are_multiplied_exactly():
    draw = torch.Generator().manual_seed(1)
    integers = torch.randint(-LEVELS, LEVELS + 1, (2, 40, 512), generator=draw)
    integers[0, 0, 0] = LEVELS  # so that one step is exactly 1
    codes = torch.randint(-127, 128, (50, 1024), generator=draw)
    expected = exactly(integers, codes)
    assert expected.abs().max() < 2**24 * 40
    got = Int8Product(integers.float()).product(codes.float())
    assert torch.equal(got, expected.float())  # the one rounding is that of the result to float32


def test_the_largest_sum_of_a_tile_does_not_overflow():
    weights = torch.full((1, 2, 512), -1.0)
    codes = torch.full((1, 512), 127.0)
    assert torch.equal(Int8Product(weights).product(codes), torch.full((1, 1, 2), -512.0 * 127))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_float_variance_is_the_sum_of_magnitudes_times_squares(shape):
    weights, codes = weights_and_codes(shape)
    expected = exactly(weights.abs(), codes.square())
    assert torch.allclose(Float32Product(weights).variance(codes).double(), expected, rtol=1e-5)


# Inputs of a layer reach 15 to 90 standard deviations, so that most of its codes are small.
@pytest.mark.parametrize(("std_of_codes", "tolerance"), [(1.5, 0.03), (3.0, 0.02), (8.0, 0.005), (40.0, 0.001)])
def test_the_int8_noise_has_the_right_strength_for_small_and_large_inputs(std_of_codes, tolerance):
    draw = torch.Generator().manual_seed(2)
    weights = (0.25 * torch.randn(1, 384, 384, generator=draw)).clamp(-1, 1)
    codes = (std_of_codes * torch.randn(256, 384, generator=draw)).round().clamp(-127, 127)
    exact, got = exactly(weights.abs(), codes.square()), Int8Product(weights).variance(codes).double()
    # 384 rows of dither decide about std²/127 per row: the fewer of them answer at all, the coarser the sum.
    assert (got.mean() / exact.mean()).sqrt().item() == pytest.approx(1, abs=tolerance)
    # Beside the output noise of a 10-bit ADC (half an LSB of 20/1022) even the coarsest does not matter.
    unit, output = (0.0175 / 127) ** 2, (10 / 1022) ** 2
    whole = ((got * unit + output) / (exact * unit + output)).sqrt()
    assert whole.mean().item() == pytest.approx(1, abs=0.003)


@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_weights_of_zero_give_zero(kind):
    product = make_product(torch.zeros(2, 4, 8), kind)
    codes = torch.full((3, 16), 127.0)
    assert not product.product(codes).any()
    assert not product.variance(codes).any()


@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_products_leave_weights_and_codes_as_they_are(kind):
    weights, codes = weights_and_codes((2, 7, 13))
    before = weights.clone(), codes.clone()
    product = make_product(weights, kind)
    product.product(codes), product.variance(codes), product.variance(codes)
    assert torch.equal(weights, before[0])
    assert torch.equal(codes, before[1])


def test_the_choice_of_product_is_one_of_the_known_ones():
    assert fastest_product("cpu") in ("int8", "float32")
    assert fastest_product("cuda") == "float32"
    with pytest.raises(ValueError, match=r"`kind` must be int8 or float32, but is 'int4'"):
        make_product(torch.zeros(1, 1, 1), "int4")
