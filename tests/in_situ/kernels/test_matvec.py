"""Products of arrays with their converters, noise and management, against the plain equations."""

import math

import numpy as np
import pytest

from analog_glue.in_situ.kernels.matvec import FORWARD, IO, PERFECT, analog_product, transpose
from analog_glue.in_situ.nn.learner import zeros
from tests.in_situ.helpers import NOISY, largest_correlation

K = np.uint32(5)


PAPER = IO(126.0, 510.0, 12.0, 0.06, True, True)


def product(weights, x, io, scale=1.0, step=0, outputs=None):
    """W x through the kernel: forward with a transposed copy."""
    outputs = outputs or len(weights)
    turned = zeros(weights.shape[1], -(-outputs // 16) * 16)
    transpose(turned, weights)
    out, rows = np.empty(outputs, np.float32), np.arange(weights.shape[1])
    work = np.empty(len(rows), np.float32), np.empty(-(-outputs // 128) * 128, np.float32)
    clipped = analog_product(out, turned, x, rows, len(rows), io, scale, FORWARD, step, 0, K, K, *work)
    return out, clipped


def reference_product(weights, x, io, scale=1.0):
    """The module's equations without noise, in double precision."""
    alpha = np.abs(x).max() if io.noise_management else 1.0
    for _ in range(11):
        q = x.astype(np.float64) / alpha
        if io.dac_steps:
            q = np.floor(np.clip(q, -1, 1) * io.dac_steps / 2 + 0.5) / (io.dac_steps / 2)
        y = weights.astype(np.float64) @ q
        if not (io.bound_management and np.any(np.abs(y) >= io.bound)):
            break
        alpha *= 2
    lsb = 2 * io.bound / io.adc_steps if io.adc_steps else 0
    y = np.clip(y, -io.bound, io.bound)
    return scale * alpha * (np.floor(y / lsb + 0.5) * lsb if lsb else y)


@pytest.mark.parametrize("io", [PERFECT, PAPER._replace(noise=0.0), PAPER._replace(noise=0.0, bound=3.0),
                                PAPER._replace(noise=0.0, bound=1.0, bound_management=False)])  # fmt: skip
def test_a_product_without_noise_is_the_equations(io):
    random = np.random.default_rng(0)
    weights = random.uniform(-0.6, 0.6, (40, 30)).astype(np.float32)
    for step in range(50):
        x = (random.standard_normal(30) * 3).astype(np.float32)
        out, _ = product(weights, x, io, 2.0, step)
        expected = reference_product(weights, x, io, 2.0)
        lsb = 0 if io.adc_steps == 0 else 2 * io.bound / io.adc_steps * 2 * np.abs(x).max()
        wrong = np.abs(out - expected) > 1e-4
        assert wrong.mean() < 0.02 and np.abs(out - expected).max() < 1e-4 + 4.01 * lsb  # a code may round the other way


def test_a_vector_of_zeros_gives_exactly_zero():
    out, _ = product(np.ones((16, 16), np.float32), np.zeros(16, np.float32), PAPER)
    assert np.all(out == 0)


def test_output_noise_is_that_of_the_largest_input():
    weights, x = np.zeros((128, 16), np.float32), np.full(16, 0.5, np.float32)
    io = PAPER._replace(dac_steps=0.0, adc_steps=0.0)
    outs = np.stack([product(weights, x, io, step=step)[0] for step in range(400)]).astype(np.float64)
    assert outs.std() == pytest.approx(0.06 * 0.5, rel=5 / math.sqrt(2 * outs.size))
    assert abs(np.corrcoef(outs[0], outs[1])[0, 1]) < 5 / math.sqrt(128)


def test_bound_management_finds_products_beyond_the_bound():
    weights, x = np.full((16, 64), 0.6, np.float32), np.ones(64, np.float32)
    out, clipped = product(weights, x, PAPER)
    assert clipped == 0 and out == pytest.approx(np.full(16, 38.4), abs=4 * (24 / 510 + 5 * 0.06))
    out, clipped = product(weights, x, PAPER._replace(bound_management=False))
    assert clipped == 16 and np.all(out == 12)


def test_every_attempt_of_bound_management_has_noise_of_its_own():
    weights, noise = np.zeros((128, 16), np.float32), []
    for wanted in (10, 15, 30, 60, 120):  # on the first output: bound 12, so 0, 1, 2, 3, 4 repetitions with halved inputs
        weights[0, 0] = wanted
        out, _ = product(weights, np.ones(16, np.float32), NOISY._replace(bound=12.0, bound_management=True))
        noise.append(out[1:])
    np.testing.assert_allclose([z.std() for z in noise], 0.06 * 2.0 ** np.arange(5), rtol=5 / math.sqrt(2 * 127))
    assert largest_correlation(np.stack(noise, 1)) < 5
