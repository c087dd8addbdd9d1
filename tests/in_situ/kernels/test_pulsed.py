"""Pulsed devices and their rank-1 update: the kernel against pulse-by-pulse arithmetic and closed forms."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from analog_glue.in_situ.devices.device import FLATTEST, STEEPEST, Steps, linear_planes, padded, unpacked
from analog_glue.in_situ.devices.drift import Drift
from analog_glue.in_situ.devices.linear_step import LinearStep
from analog_glue.in_situ.devices.power_step import PowerStep
from analog_glue.in_situ.devices.soft_bounds import SoftBounds
from analog_glue.in_situ.devices.symmetric_linear import SymmetricLinear
from analog_glue.in_situ.kernels.pulsed import SIGN, draw_normals, one_pulse, trains, update, update_power
from analog_glue.in_situ.kernels.pulsed_reference import draw_words, train_probabilities, update_sequential

DEVICES = (SoftBounds, SymmetricLinear, LinearStep, PowerStep)
K = np.uint32(3)
UNIFORM = {"dw_min_dtod": 0.0, "w_max_dtod": 0.0, "up_down_dtod": 0.0}


def moved(array, words_x, words_d, noise, gentle=False, step=0):
    weights = array.weights.copy()
    kernel = update_power if array.power else update
    names = step, np.uint32(1), K, K
    kernel(weights, array.devices, words_x, words_d, noise, array.multiplicative, gentle, *names, 0, len(weights))
    return weights


def words_for(x, d, random, bits=7, probability=0.6):
    return [draw_words(v, np.full(v.shape, probability), bits, random) for v in (x, d)]


def example(device, outputs=40, inputs=70, samples=3, seed=0):
    random = np.random.default_rng(seed)
    array = device.draw(outputs, inputs, seed, "test")
    array.write(random.uniform(-0.4, 0.4, (outputs, inputs)) * device.w_max)
    x = padded(random.uniform(-1, 1, (samples, inputs)).astype(np.float32))
    d = padded(random.standard_normal((samples, outputs)).astype(np.float32))
    return array, x, d, random


# --- pulse trains ------------------------------------------------------------------------------------------


def drawn_trains(x, d, rate, dw_min, longest, managed, updates, array=1):
    words = [np.zeros(v.shape, np.uint32) for v in (x, d)]
    everything = []
    for step in range(updates):
        sent = trains(*words, x, d, rate, dw_min, longest, managed, step, np.uint32(array), K, K)
        everything.append([w.copy() for w in words])
    return [np.stack(side) for side in zip(*everything, strict=True)], sent


SENDINGS = [(0.01, 31, True), (0.01, 31, False), (0.1, 10, True), (1e-4, 31, True)]


@pytest.mark.parametrize(("rate", "longest", "managed"), SENDINGS)
def test_a_line_pulses_as_often_as_its_value_says(rate, longest, managed):
    random = np.random.default_rng(0)
    x = padded(random.uniform(-1, 1, (1, 40)).astype(np.float32))
    d = padded((0.1 * random.standard_normal((1, 50))).astype(np.float32))
    updates = 4000
    drawn, sent = drawn_trains(x, d, rate, 0.001, longest, managed, updates)
    expected = train_probabilities(x[0], d[0], rate, 0.001, longest, managed)
    assert sent == expected[2]
    for words, values, probabilities in zip(drawn, (x, d), expected[:2], strict=True):
        ones = np.bitwise_count(words[:, 0] & ~np.uint32(SIGN)).sum(0)
        error = np.sqrt(updates * sent * probabilities * (1 - probabilities))
        # Rounding to 1/128 makes bits of one train alike: at most (bits − 1)/4 of a digit² is added to the variance.
        error = np.sqrt(error**2 + updates * sent * (sent - 1) / 4 / 128**2)
        assert np.all(np.abs(ones - updates * sent * probabilities) <= 5 * error + 1e-9)
        assert np.array_equal(words[0, 0] >> 31 == 1, np.signbit(values[0]))


def test_bits_of_different_lines_updates_and_places_are_independent():
    x, d = np.full((1, 16), 1, np.float32), np.full((1, 16), 1, np.float32)
    drawn, _ = drawn_trains(x, d, 0.31 * 0.25, 0.01, 31, False, 4000)
    bits = (np.stack([side[:, 0] for side in drawn])[..., None] >> np.arange(31, dtype=np.uint32)) & 1
    bits = bits - 0.5  # probability 1/2: (side, update, line, place)
    bound = 5 * 0.25 / math.sqrt(4000)
    for pair in ((bits[0, :, 0], bits[1, :, 0]), (bits[0, :, 0], bits[0, :, 1]), (bits[0, :, 0], np.roll(bits[0, :, 0], 1, 0)),
                 (bits[0, :, 0], np.roll(bits[0, :, 0], 1, 1))):  # fmt: skip
        assert np.abs((pair[0] * pair[1]).mean(0)).max() < bound


@pytest.mark.slow
def test_mean_coincidences_are_the_product_of_rate_gradient_and_input():
    random = np.random.default_rng(0)
    x = padded(random.uniform(-1, 1, (1, 16)).astype(np.float32))
    d = padded(random.uniform(-0.1, 0.1, (1, 16)).astype(np.float32))
    (words_x, words_d), _ = drawn_trains(x, d, 0.02, 0.001, 31, True, 20_000)
    counts = np.bitwise_count(words_x[:, 0, None, :] & words_d[:, 0, :, None] & ~np.uint32(SIGN))
    expected = np.abs(d[0])[:, None] * np.abs(x[0])[None, :] * 0.02 / 0.001
    assert np.all(np.abs(counts.mean(0) - expected) <= 5 * counts.std(0) / math.sqrt(20_000) + 1e-9)


# --- devices -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DEVICES)
@pytest.mark.parametrize("dw_min", [0.001, 0.1])
def test_without_noise_the_kernel_makes_every_single_pulse(kind, dw_min):
    array, x, d, random = example(kind(dw_min=dw_min, w_max=0.8))
    words = words_for(x, d, random)
    expected = array.weights.astype(np.float64)
    update_sequential(expected, array.devices, *words, 0.0, array.multiplicative, array.power, random)
    assert np.abs(expected - array.weights).max() > 3 * dw_min
    assert np.abs(moved(array, *words, 0.0) - expected).max() < 3e-3 * dw_min + 1e-6
    if array.gentle_to >= 7:
        assert np.abs(moved(array, *words, 0.0, gentle=True) - expected).max() < 3e-3 * dw_min + 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("kind", DEVICES)
@pytest.mark.parametrize("multiplicative", [False, True])
def test_with_noise_the_kernel_has_the_law_of_single_pulses(kind, multiplicative):
    device = kind(dw_min=0.02, w_max=1.0, w_max_dtod=0.1, multiplicative_noise=multiplicative)
    array, x, d, random = example(device, samples=2)
    words = words_for(x, d, random)
    ours = np.stack([moved(array, *words, 0.3, step=step) for step in range(400)])
    theirs = []
    for _ in range(100):
        weights = array.weights.astype(np.float64)
        update_sequential(weights, array.devices, *words, 0.3, multiplicative, array.power, random)
        theirs.append(weights)
    theirs = np.stack(theirs)
    pulsed = theirs.std(0) > 0
    assert np.array_equal(ours.std(0) > 1e-6, pulsed)
    z = (ours.mean(0) - theirs.mean(0))[pulsed] / (theirs.std(0, ddof=1)[pulsed] * math.sqrt(1 / 100 + 1 / 400))
    assert abs(z.mean()) < 5 / math.sqrt(pulsed.sum()) and z.std() == pytest.approx(1, abs=0.07)
    ratio = ours.var(0, ddof=1)[pulsed].sum() / theirs.var(0, ddof=1)[pulsed].sum()
    assert ratio == pytest.approx(1, abs=0.03 if multiplicative else 0.02)  # sampling: √(2/100/2000) ≈ 0.3 %, spread of sizes


@pytest.mark.parametrize("kind", DEVICES)
@pytest.mark.parametrize("multiplicative", [False, True])
def test_a_pulse_of_a_transfer_is_that_of_an_update(kind, multiplicative):
    array, _, _, random = example(kind(dw_min=0.02, multiplicative_noise=multiplicative), outputs=16, inputs=16)
    normals = random.standard_normal((16, 16)).astype(np.float32)
    given = SimpleNamespace(standard_normal=lambda shape: normals)
    one, up = np.ones(16, np.uint32), random.random(16) < 0.5
    expected = array.weights.astype(np.float64)
    words_d = np.where(up, one, one | SIGN).astype(np.uint32)
    update_sequential(expected, array.devices, one[None], words_d[None], 0.3, multiplicative, array.power, given)
    ours = [[one_pulse(array.weights[o, i], array.devices, o, i, up[o], 0.3, multiplicative, array.power, normals[o, i])
             for i in range(16)] for o in range(16)]  # fmt: skip
    np.testing.assert_allclose(np.array(ours) - array.weights, expected - array.weights, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("gentle", [False, True])
@pytest.mark.parametrize("pulses", [1, 5, 31])
def test_soft_bounds_follow_the_exponential_and_its_noise(pulses, gentle):
    device = SoftBounds(dw_min=0.013, w_max=0.6, **UNIFORM)
    array = device.draw(16, 12_000, 0, "test")
    array.write(np.full((16, 12_000), 0.2))
    word = np.uint32((1 << pulses) - 1)
    after = moved(array, np.full((1, 12_000), word), np.full((1, 16), word), 0.3, gentle).astype(np.float64)
    q = 1 - 0.013 / 0.6  # 31 pulses are just gentle
    assert after.mean() == pytest.approx(0.6 - 0.4 * q**pulses, abs=float(5 * after.std() / math.sqrt(after.size)))
    variance = (0.3 * 0.013) ** 2 * (1 - q ** (2 * pulses)) / (1 - q**2)
    assert after.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / after.size))
    kurtosis = ((after - after.mean()) ** 4).mean() / after.var() ** 2
    assert kurtosis == pytest.approx(3, abs=5 * math.sqrt(24 / after.size))


def test_the_fixed_point_of_balanced_pulses_is_the_symmetry_point():
    device = SoftBounds(dw_min=0.01, up_down=0.1, dw_min_std=0.0, up_down_dtod=0.0)
    array = device.draw(16, 64, 0, "test")
    up, down = np.full((1, 64), np.uint32(1)), np.full((1, 64), np.uint32(1 | SIGN))
    one = np.full((1, 16), np.uint32(1))
    for _ in range(4000):
        array.weights[...] = moved(array, up, one, 0.0)
        array.weights[...] = moved(array, down, one, 0.0)
    # w* = (a⁺ − a⁻) / (a⁺ / b⁺ + a⁻ / |b⁻|), up to the last step
    planes = array.devices.transpose(2, 0, 1, 3).reshape(4, 16, 64).astype(np.float64)
    a_up, a_down = planes[0] * (1 - 2 ** -planes[1]), -planes[2] * (1 - 2 ** -planes[3])
    expected = (a_up - a_down) / (a_up / planes[0] + a_down / -planes[2])
    assert np.abs(array.weights - expected).max() < 1.1 * max(a_up.max(), a_down.max())
    assert abs(expected.mean()) > 0.03


def test_rows_do_not_depend_on_how_they_are_shared_among_cores():
    array, x, d, random = example(SoftBounds(), outputs=48, samples=20)
    words = words_for(x, d, random)
    whole = moved(array, *words, 0.3)
    parts = array.weights.copy()
    for first, last in ((16, 48), (0, 16)):
        update(parts, array.devices, *words, 0.3, False, False, 0, np.uint32(1), K, K, first, last)
    assert np.array_equal(parts, whole)


def test_soft_bounds_stay_where_they_were_drawn_however_large_or_small_a_step():
    highest, lowest = np.full((1, 3), 0.03), np.full((1, 3), -0.6)
    step = np.array([[0.1, 0.01, 1e-9]])  # 3.3 times the range upwards, a third of it, and nearly nothing
    up, rate, down, _ = linear_planes(Steps(step, step, highest, lowest), 1.0, 1.0)
    assert np.array_equal(up, highest) and np.array_equal(down, lowest)
    np.testing.assert_allclose(1 - 2.0**-rate, [[STEEPEST, 1 / 3, FLATTEST]], rtol=1e-6)


@pytest.mark.parametrize("kind", DEVICES)
def test_a_learning_rate_of_one_step_moves_by_one_step_at_zero(kind):
    device = kind(dw_min_std=0.0, **UNIFORM)
    if kind is PowerStep:
        device = PowerStep(dw_min_std=0.0, gamma_up=2.0, gamma_down=2.0, gamma_dtod=0.0, **UNIFORM)
        assert device.step == device.dw_min / 4 and device.with_states(100).states == pytest.approx(100)
    array = device.draw(16, 16, 0, "test")
    x, d = np.ones((1, 16), np.float32), np.ones((1, 16), np.float32)
    words = np.empty((1, 16), np.uint32), np.empty((1, 16), np.uint32)
    assert trains(*words, x, d, device.step, array.step, 31, True, 0, np.uint32(0), K, K) == 1
    np.testing.assert_allclose(moved(array, *words, 0.0), device.step, rtol=2e-5)


def test_bounds_hold_under_any_noise():
    for kind in DEVICES:
        array, x, d, random = example(kind(dw_min=0.1))
        weights = moved(array, *words_for(x, d, random), 10.0)[:, :70]
        array.write(np.full((40, 70), 1e9))
        highest = array.weights[:, :70].copy()
        array.write(np.full((40, 70), -1e9))
        assert np.all(weights <= highest) and np.all(weights >= array.weights[:, :70]), kind


def test_the_padding_of_an_array_never_moves():
    for kind in DEVICES:
        array, x, d, random = example(kind())
        words_x, words_d = words_for(x, d, random)
        assert np.all(moved(array, words_x, words_d, 0.3)[:, 70:] == 0), kind


def test_devices_spread_as_told_and_come_from_their_seed():
    device = SoftBounds()
    array = device.draw(256, 160, 5, "a")
    planes = array.devices.transpose(2, 0, 1, 3).reshape(4, -1).astype(np.float64)
    step = planes[0] * (1 - 2 ** -planes[1])
    n = step.size
    assert step.mean() == pytest.approx(0.001, abs=5 * 0.0003 / math.sqrt(n))
    assert step.std() == pytest.approx(0.0003, rel=0.02)
    assert planes[0].std() == pytest.approx(0.18, rel=0.02) and planes[2].mean() == pytest.approx(-0.6, rel=0.01)
    assert np.array_equal(device.draw(256, 160, 5, "a").devices, array.devices)
    assert not np.array_equal(device.draw(256, 160, 5, "b").devices, array.devices)


def check_spread(values, mean, std):
    """Mean and standard deviation of normal numbers, up to 5 sampling errors."""
    n = values.size
    assert values.mean() == pytest.approx(mean, abs=5 * std / math.sqrt(n))
    assert values.std() == pytest.approx(std, rel=5 / math.sqrt(2 * n))


def check_independent(one, other):
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 5 / math.sqrt(one.size)


def drawn(device):
    """Planes of the parameters of 256 × 160 devices."""
    devices = device.draw(256, 160, 5, "a").devices
    return [unpacked(devices, plane).astype(np.float64) for plane in range(devices.shape[2])]


def test_steps_up_and_down_differ_and_bounds_are_drawn_each_on_its_own():
    b_up, rate_up, b_down, rate_down = drawn(SoftBounds(up_down=0.05, up_down_dtod=0.04, dw_min_dtod=0.2, w_max_dtod=0.1))
    up, down = (np.abs(b) * (1 - 2**-rate) / 0.001 for b, rate in ((b_up, rate_up), (b_down, rate_down)))
    check_spread((up - down) / 2, 0.05, 0.04)
    check_spread((up + down) / 2, 1, 0.2)
    check_spread(b_up, 0.6, 0.06)
    check_spread(b_down, -0.6, 0.06)
    for one, other in ((up - down, up + down), (b_up, b_down), (b_up, up), (b_down, up), (b_up, up - down)):
        check_independent(one, other)


def test_slopes_and_exponents_spread_as_told_upwards_and_downwards_each_on_its_own():
    up, _, down, _, highest, lowest = drawn(LinearStep(slope_up=0.5, slope_down=0.25, slope_dtod=0.1, **UNIFORM))
    slopes = highest / up, lowest / down  # steps d (1 − γ w / b) would end at b / γ
    _, gamma_up, _, gamma_down, _, _ = drawn(PowerStep(gamma_up=0.5, gamma_down=0.25, gamma_dtod=0.1, **UNIFORM))
    for one, other in (slopes, (gamma_up, gamma_down)):
        check_spread(one, 0.5, 0.05)
        check_spread(other, 0.25, 0.025)
        check_independent(one, other)


@pytest.mark.slow
def test_normal_numbers_from_half_words_have_normal_moments():
    numbers = np.empty(128, np.float32)
    drawn = []
    for i in range(4000):
        draw_normals_into(numbers, i)
        drawn.append(numbers.copy())
    z = np.concatenate(drawn).astype(np.float64)
    n = len(z)
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)):
        assert (z**power).mean() == pytest.approx(expected, abs=5 * math.sqrt(variance / n))
    pairs = np.stack(drawn)
    assert abs(np.corrcoef(pairs.T) - np.eye(128)).max() < 5.5 / math.sqrt(4000)


def draw_normals_into(numbers, i):
    from numba import njit

    global _draw
    if "_draw" not in globals():
        _draw = njit(lambda out, c, k: draw_normals(out, c, k, k, k, k, k))
    _draw(numbers, np.uint32(16 * i), K)


def test_after_training_arrays_decay_to_their_reference_by_a_power_law():
    device = SoftBounds(drift=Drift(nu=0.05, nu_dtod=0.3, t0=10.0), w_max_dtod=0.0)
    array = device.draw(300, 200, 0, "C")
    array.reference[:, :200] = 0.1
    array.write(np.full((300, 200), 0.4))
    array.age(10.0)
    np.testing.assert_allclose(array.values, 0.4, rtol=1e-6)
    array.age(1e4)
    exponents = -np.log(array.values / 0.4) / np.log(1e3)
    assert np.all(array.reference[:, :200] == np.float32(0.1)) and not array.weights[:, 200:].any()
    n = exponents.size  # 5 σ of the mean and of the spread of normal numbers
    assert exponents.mean() == pytest.approx(0.05, abs=5 * 0.015 / math.sqrt(n))
    assert exponents.std() == pytest.approx(0.015, rel=5 / math.sqrt(2 * n) + 0.01)  # exponents end at 0, at −3.3 σ
    again = device.draw(300, 200, 0, "C")
    again.reference[:, :200] = 0.1
    again.write(np.full((300, 200), 0.4))
    again.age(1e4)
    assert np.array_equal(again.weights, array.weights)
    still = SoftBounds(w_max_dtod=0.0).draw(300, 200, 0, "C")
    assert np.array_equal(still.devices, array.devices)  # drift is no part of the other draws
    still.write(np.full((300, 200), 0.4))
    still.age(1e9)
    assert np.all(still.values == np.float32(0.4))


def test_a_device_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="`nu`"):
        Drift(nu=-0.1)
    with pytest.raises(ValueError, match="`dw_min`"):
        SoftBounds(dw_min=1.0)
    with pytest.raises(ValueError, match="`w_max_dtod`"):
        PowerStep(w_max_dtod=-1.0)
    with pytest.raises(ValueError, match="`slope_up`"):
        LinearStep(slope_up=2.0)
