"""Extraction of weights by regression: its error law, its streams, its bias."""

import math

import numpy as np
import pytest

from analog_glue.in_situ.devices.device import padded
from analog_glue.in_situ.extraction.regression import (
    Regression,
    expected_error,
    extract,
    extract_one_hot,
    products,
    random_inputs,
    unsaturated_amplitude,
)
from analog_glue.in_situ.kernels.matvec import IO
from analog_glue.in_situ.nn.learner import Stream

STREAM = Stream.of(0, 3)
NOISY = IO(0.0, 0.0, math.inf, 0.06, False, False)
PAPER = IO(126.0, 510.0, 12.0, 0.06, True, True)


def weights_of(outputs, inputs, spread=0.2, seed=0):
    return padded(np.random.default_rng(seed).normal(0, spread, (outputs, inputs)).astype(np.float32))


@pytest.mark.parametrize("number", [80, 100, 400, 3200])
def test_the_error_falls_with_the_products_that_are_left_over(number):
    weights = weights_of(400, 64)
    sums = extract(weights, 64, NOISY, number, STREAM)
    error = sums.weights() - weights[:, :64]
    expected = expected_error(0.06, number, 64)
    # Mean square over 400 outputs that share their inputs: the inverse of X Xᵀ varies by about √(2/n / spare) itself.
    spread = math.sqrt(2 / (64 * (number - 64))) * math.sqrt(number / (number - 64))
    assert np.sqrt(np.mean(error**2)) == pytest.approx(expected, rel=5 * spread + 0.02)
    assert sums.output_noise() == pytest.approx(0.06, rel=5 / math.sqrt(2 * 400 * (number - 64)) + 0.01)
    # The estimate knows the inputs that were drawn; few directions carry the error when few products are left over.
    assert sums.weight_error() == pytest.approx(np.sqrt(np.mean(error**2)), rel=0.05)


def test_converters_and_noise_of_the_paper_give_its_error():
    weights = weights_of(256, 256, spread=0.15)
    sums = extract(weights, 256, PAPER, 6000, STREAM)
    error = np.sqrt(np.mean((sums.weights() - weights[:, :256]) ** 2))
    lsb = 24 / 510
    expected = expected_error(math.hypot(0.06, lsb / math.sqrt(12)), 6000, 256)
    assert error == pytest.approx(expected, rel=0.03)
    once = np.sqrt(np.mean((extract_one_hot(weights, 256, PAPER, 1, STREAM).weights() - weights[:, :256]) ** 2))
    assert once == pytest.approx(math.hypot(0.06, lsb / math.sqrt(12)), rel=0.05)
    assert once > 20 * error


def test_saturated_outputs_make_weights_too_small_and_a_smaller_amplitude_makes_the_estimate_hold():
    weights = weights_of(256, 152, spread=0.75)  # as Model-I after training: outputs reach 20, the ADC ends at 12
    true = weights[:, :152]
    cut, whole = (extract(weights, 152, PAPER, 3000, STREAM, amplitude) for amplitude in (1.0, None))
    assert (cut.weights() * true).sum() / (true * true).sum() < 0.98
    assert np.sqrt(np.mean((cut.weights() - true) ** 2)) > 1.5 * cut.weight_error()
    assert 0.3 < whole.amplitude < 0.8
    noise = math.hypot(0.06, 24 / 510 / math.sqrt(12))
    # 38,912 weights that share their inputs, see above: within 2 %.
    assert np.sqrt(np.mean((whole.weights() - true) ** 2)) == pytest.approx(whole.weight_error(), rel=0.02)
    assert whole.weight_error() == pytest.approx(expected_error(noise, 3000, 152, whole.amplitude), rel=0.02)


def test_bursts_of_products_at_several_moments_measure_how_much_weights_move():
    mean, moments, number = weights_of(24, 16), 60, 200
    random = np.random.default_rng(1)
    spread = padded(random.uniform(0.005, 0.05, (24, 16)).astype(np.float32))
    estimates, errors = [], []
    for moment in range(moments):
        weights = padded((mean + spread * random.standard_normal((24, 16)))[:, :16].astype(np.float32))
        sums = extract(weights, 16, PAPER, number, Stream.of(moment, 0))
        estimates.append(sums.weights())
        errors.append(sums.weight_error() ** 2)
    found = np.var(estimates, axis=0, ddof=1) - np.mean(errors)
    true = spread[:, :16].astype(np.float64) ** 2
    # A variance from 60 draws is known to √(2/59) = 18 %, 384 of them together to 1.5 % with their unequal weights.
    assert found.mean() == pytest.approx(true.mean(), rel=5 * 0.015)
    assert np.mean(errors) > 0.05 * true.mean()  # without the correction the test would fail
    assert np.corrcoef(found.ravel(), true.ravel())[0, 1] > 0.9


def test_inputs_use_the_whole_range_where_no_output_saturates():
    assert unsaturated_amplitude(weights_of(64, 64), 64, PAPER, STREAM) == 1
    assert unsaturated_amplitude(weights_of(64, 64, spread=9.0), 64, NOISY, STREAM) == 1  # no ADC, no bound


def test_sums_do_not_depend_on_how_the_products_are_cut():
    weights = weights_of(16, 32)
    whole = extract(weights, 32, NOISY, 512, STREAM)
    parts = Regression(16, 32)
    for first in (0, 256):
        x = random_inputs(first, 256, 32, 1.0, STREAM)
        parts.add(x, products(weights, 32, x, NOISY, first, STREAM))
    assert np.array_equal(whole.weights(), parts.weights())


def test_inputs_come_from_the_seed_alone():
    assert np.array_equal(random_inputs(0, 512, 8, 1.0, STREAM)[256:], random_inputs(256, 256, 8, 1.0, STREAM))
    x = random_inputs(0, 4096, 64, 0.5, STREAM).astype(np.float64)
    assert np.abs(x).max() <= 0.5 and x.var() == pytest.approx(0.25 / 3, rel=5 * math.sqrt(0.8 / x.size))


def test_too_few_products_are_refused():
    sums = Regression(4, 16)
    sums.add(np.ones((15, 16)), np.ones((15, 4)))
    with pytest.raises(ValueError, match="`products`"):
        sums.weights()
