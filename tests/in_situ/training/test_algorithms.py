"""Algorithms on pulsed devices against the papers' lines, closed forms and fixed points."""

import dataclasses
import math

import numpy as np
import pytest

from analog_glue.in_situ.devices.device import padded, symmetry_point, unpacked
from analog_glue.in_situ.devices.power_step import PowerStep
from analog_glue.in_situ.devices.soft_bounds import SoftBounds
from analog_glue.in_situ.devices.symmetric_linear import SymmetricLinear
from analog_glue.in_situ.nn.learner import Stream, find_symmetry_point, zeros
from analog_glue.in_situ.training.chopped_ttv2 import ChoppedTTv2
from analog_glue.in_situ.training.mode import Periphery
from analog_glue.in_situ.training.sgd_pulsed import SGDPulsed
from analog_glue.in_situ.training.tiki_taka import TikiTaka
from analog_glue.in_situ.training.ttv2 import TTv2, hadamard
from tests.in_situ.helpers import CLEAN, MODES, largest_correlation

# Every step of every device is 0.001, far from all bounds.
EQUAL = SymmetricLinear(dw_min=1e-3, dw_min_dtod=0.0, w_max=10.0, w_max_dtod=0.0)


def check_independent(z):
    """That `z` (rows, columns) are standard normal numbers and neither rows nor columns share any, up to 5 sampling errors."""
    assert (z**2).mean() == pytest.approx(1, abs=5 * math.sqrt(2 / z.size))
    for axis in (0, 1):
        means = z.mean(axis) * math.sqrt(z.shape[axis])  # standard normal again
        assert (means**2).mean() < 1 + 5 * math.sqrt(2 / means.size)


@pytest.mark.parametrize("kind", [SoftBounds, PowerStep])
@pytest.mark.parametrize("pulses", [0, 4000])
def test_the_reference_of_a_is_its_symmetry_point(kind, pulses):
    array = kind(dw_min=0.02, up_down=0.05, dw_min_std=0.1).draw(32, 48, 0, "A")
    find_symmetry_point(array, pulses, Stream.of(0, 0))
    assert np.all(array.values == 0)
    error = (array.reference - symmetry_point(array))[:, :48]
    assert np.abs(error).max() < (1e-6 if pulses == 0 else 0.2) and np.abs(error.mean()) < 0.1 * array.step


def ttv2(device, outputs=32, inputs=24, **changes):
    mode = TTv2(periphery=CLEAN, output_scale=1.0, **changes)
    return mode.learner(device, np.zeros((outputs, inputs)), 0, 0), mode


@pytest.mark.parametrize("momentum", [0.0, 0.3])
@pytest.mark.parametrize("ns", [1, 3])
def test_ttv2_is_the_papers_algorithm_line_by_line(ns, momentum):
    device = SoftBounds(dw_min=0.01, dw_min_std=0.0)
    learner, _ = ttv2(device, transfer_every=ns, transfer_rate=0.5, threshold=2.0, momentum=momentum)
    twin = SGDPulsed(periphery=CLEAN, output_scale=1.0).learner(device, np.zeros((32, 24)), 0, 0)
    twin = dataclasses.replace(twin, c=device.draw(32, 24, 0, "A0"))  # the same devices as A, updated by the same trains
    find_symmetry_point(twin.c, 0, Stream.of(0, 0))
    random = np.random.default_rng(0)
    h, pulses, i = np.zeros((32, 24), np.float32), np.zeros((32, 24), int), 0
    for t in range(1, 200):
        x, d = (padded(random.standard_normal((1, n)).astype(np.float32)) for n in (24, 32))
        learner.update(x, d, 0.05, t - 1)
        twin.update(x, d, 0.05, t - 1)
        if t % ns == 0:
            h[:, i] += np.float32(0.5) * (twin.c.weights - twin.c.reference)[:, i]
            p = np.sign(h[:, i]) * (np.abs(h[:, i]) >= np.float32(0.02))
            h[:, i] = np.where(p != 0, np.float32(momentum) * h[:, i], h[:, i])
            pulses[:, i] += p.astype(int)
            i = (i + 1) % 24
    assert np.array_equal(learner.a.weights, twin.c.weights)
    np.testing.assert_allclose(learner.h, h, atol=1e-6)
    assert np.abs(pulses).sum() > 100
    moved = learner.c.values
    assert np.all(np.sign(moved)[np.abs(pulses) > 3] == np.sign(pulses)[np.abs(pulses) > 3])


def test_chopped_ttv2_is_ttv2_of_chopped_inputs_and_reads():
    device, probability = SoftBounds(dw_min=0.01, dw_min_std=0.0), 0.3
    mode = ChoppedTTv2(
        periphery=CLEAN, output_scale=1.0, transfer_every=2, transfer_rate=0.5, threshold=1e9, chop_probability=probability
    )
    learner = mode.learner(device, np.zeros((32, 24)), 0, 0)
    twin = SGDPulsed(periphery=CLEAN, output_scale=1.0).learner(device, np.zeros((32, 24)), 0, 0)
    twin = dataclasses.replace(twin, c=device.draw(32, 24, 0, "A0"))
    find_symmetry_point(twin.c, 0, Stream.of(0, 0))
    random, h, flips, reads = np.random.default_rng(0), np.zeros((32, 24), np.float32), 0, 1000
    for t in range(1, 2 * reads + 1):
        x, d = (padded(random.standard_normal((1, n)).astype(np.float32)) for n in (24, 32))
        s = learner.chopper.copy()
        learner.update(x, d, 0.05, t - 1)
        x[:, :24] *= s
        twin.update(x, d, 0.05, t - 1)
        flipped = np.flatnonzero(learner.chopper != s)
        if t % 2 == 0:
            i = (t // 2 - 1) % 24
            h[:, i] += np.float32(0.5) * s[i] * twin.c.values[:, i]
            assert set(flipped) <= {i}
            flips += len(flipped)
        else:
            assert len(flipped) == 0
    assert np.array_equal(learner.a.weights, twin.c.weights)
    np.testing.assert_allclose(learner.h, h, atol=1e-4)
    assert flips / reads == pytest.approx(probability, abs=5 * math.sqrt(probability * (1 - probability) / reads))


def test_many_samples_at_once_are_the_same_as_one_by_one():
    random = np.random.default_rng(0)
    x, d = (padded(random.standard_normal((30, n)).astype(np.float32)) for n in (24, 32))
    for mode in MODES:
        device = SoftBounds(dw_min=0.02, dw_min_std=0.0)
        many, single = (mode(periphery=CLEAN, output_scale=1.0).learner(device, np.zeros((32, 24)), 0, 0) for _ in range(2))
        many.update(x, d, 0.05, 0)
        for t in range(30):
            single.update(x[t : t + 1], d[t : t + 1], 0.05, t)
        for name, array in many.state().items():
            np.testing.assert_allclose(array, single.state()[name], atol=1e-6, err_msg=f"{mode.__name__} {name}")


@pytest.mark.parametrize("vectors", ["one_hot", "hadamard"])
def test_a_constant_a_sends_c_a_pulse_whenever_its_reads_add_up_to_the_threshold(vectors):
    device = SoftBounds(dw_min=1e-4, dw_min_std=0.0, dw_min_dtod=0.0, up_down_dtod=0.0, w_max=1.0, w_max_dtod=0.0)
    rate, threshold, rounds = 0.01, 50 * 1e-4, 500
    learner, _ = ttv2(device, 16, 32, transfer_every=1, transfer_rate=rate, threshold=50.0, momentum=0.0, vectors=vectors)
    learner.a.write(np.random.default_rng(0).uniform(-0.1, 0.1, (16, 32)).astype(np.float32))
    e = np.eye(32) if vectors == "one_hot" else hadamard(32)
    v = learner.a.values.astype(np.float64) @ e.T / (1 if vectors == "one_hot" else 32)  # (outputs, vectors)
    pulses = rounds // np.ceil(threshold / (rate * np.abs(v))) * np.sign(v)
    learner.update(zeros(32 * rounds, 32), zeros(32 * rounds, 16), 0.01, 0)
    # Far from the bounds every pulse is one step, up to |w| / b = 1 %; a sum of reads may round across the threshold.
    np.testing.assert_allclose(learner.c.values, pulses @ e * 1e-4, rtol=0.012, atol=4e-4)
    assert np.mean(np.abs(learner.c.values - pulses @ e * 1e-4) < 3e-5 + 0.012 * np.abs(learner.c.values)) > 0.9


# Modes that read A, and how many pulses a device of C gets while all of A's 32 columns (or vectors) are read once.
TRANSFERS = [(TTv2(), 1), (TTv2(vectors="hadamard"), 32), (ChoppedTTv2(chop_probability=0.0), 1), (TikiTaka(), 31)]


NAMES_OF_TRANSFERS = ["TTv2", "TTv2 by Hadamard vectors", "ChoppedTTv2", "TikiTaka"]


def transferring(mode, device, outputs, inputs, rate, **changes):
    """A learner of `mode` that reads A after every update; TTv2 sends C a pulse after every read that is not 0."""
    if isinstance(mode, TTv2):
        changes = {"threshold": 1e-6, "momentum": 0.0} | changes
    changes = {"periphery": CLEAN, "output_scale": 1.0, "transfer_every": 1, "transfer_rate": rate} | changes
    return dataclasses.replace(mode, **changes).learner(device, np.zeros((outputs, inputs)), 0, 0)


def read(learner, rounds):
    """Read all of A so many times, without any update."""
    steps, inputs = rounds * learner.inputs, learner.a.weights.shape[1]
    learner.update(zeros(steps, inputs), zeros(steps, learner.outputs), 0.01, 0)


@pytest.mark.parametrize("mode", [mode for mode, _ in TRANSFERS], ids=NAMES_OF_TRANSFERS)
def test_an_a_at_its_symmetry_point_sends_nothing_to_c_wherever_that_is(mode):
    learner = transferring(mode, SoftBounds(up_down=0.2), 32, 32, rate=1.0)
    assert np.abs(learner.a.reference).mean() > 0.1
    read(learner, 3)
    assert not learner.c.values.any()


@pytest.mark.parametrize(("mode", "pulses"), TRANSFERS, ids=NAMES_OF_TRANSFERS)
def test_every_pulse_of_a_transfer_has_noise_of_its_own(mode, pulses):
    learner = transferring(mode, EQUAL, 64, 32, rate=100.0)
    signs, rounds = np.ones((64, 32)), math.ceil(90 / pulses)
    if pulses == 32:
        signs[:, 1:] = 0  # every vector reads 1 of the first column, and sends as many pulses up as down to the others
    learner.a.write(signs)
    read(learner, rounds)
    check_independent((learner.c.values / 1e-3 - rounds * pulses * signs) / (0.3 * math.sqrt(rounds * pulses)))


@pytest.mark.parametrize("vectors", ["one_hot", "hadamard"])
def test_every_read_of_a_adds_noise_of_its_own_to_h(vectors):
    rate, rounds, columns = 0.5, 50, 64
    learner = transferring(TTv2(vectors=vectors), EQUAL, 128, columns, rate, threshold=1e9, periphery=Periphery())
    learner.a.write(np.random.default_rng(0).uniform(-0.1, 0.1, (128, columns)))
    read(learner, rounds)
    e, share = (np.eye(columns), 1) if vectors == "one_hot" else (hadamard(columns), 1 / columns)
    reads = learner.a.values.astype(np.float64) @ e.T
    noise = math.hypot(0.06, 24 / 510 / math.sqrt(12))  # of the output and, as its steps are smaller, of the ADC
    check_independent((learner.h / (rate * share) - rounds * reads) / (math.sqrt(rounds) * noise))


def test_the_noise_of_every_read_of_tiki_taka_goes_into_c():
    rate, rounds, step, longest = 0.05, 50, 1e-3, 31
    periphery = dataclasses.replace(CLEAN, output_noise=0.06)
    learner = transferring(TikiTaka(), dataclasses.replace(EQUAL, dw_min_std=0.0), 128, 64, rate, periphery=periphery)
    read(learner, rounds)
    # A read v of nothing but noise makes n ~ binomial(31, λ |v| / (31 dw_min)) pulses: E n² = λ E|v| / dw_min + …
    pulses, squared = rate * 0.06 * math.sqrt(2 / math.pi) / step, (rate * 0.06 / step) ** 2 * (1 - 1 / longest)
    check_independent(learner.c.values / (step * math.sqrt(rounds * (pulses + squared))))


@pytest.mark.parametrize("kind", [TikiTaka, TTv2, ChoppedTTv2])
def test_all_arrays_of_a_network_are_devices_of_their_own(kind):
    arrays = [array for number in (0, 1) for array in kind().learner(SoftBounds(), np.zeros((64, 48)), 0, number).arrays()]
    assert len(arrays) == 4  # A and C of two matrices
    for plane in range(4):
        assert largest_correlation(np.stack([unpacked(a.devices, plane)[:, :48].ravel() for a in arrays], 1)) < 5


@pytest.mark.parametrize("share_up", [0.5, 0.7, 0.9])
def test_sgd_on_soft_bounds_ends_where_the_asymmetry_balances_the_gradient(share_up):
    # The gradient is up with that probability: r (b − w) share_up = r (w + b) (1 − share_up), so w = b (2 share_up − 1),
    # although the gradient is not 0 there. Every row has gradients of its own, so that their scatter is the sampling error.
    device = SoftBounds(dw_min=0.01, w_max=0.6, dw_min_dtod=0.0, w_max_dtod=0.0, up_down_dtod=0.0)
    learner = SGDPulsed(periphery=CLEAN, output_scale=1.0).learner(device, np.zeros((256, 16)), 0, 0)
    random = np.random.default_rng(0)
    x, mean = np.full((500, 16), 0.5, np.float32), np.zeros(256)
    for step in range(0, 4000, 500):
        d = np.where(random.random((500, 256)) < share_up, 1, -1).astype(np.float32)
        learner.update(x, d, 0.05, step)
        if step >= 1000:  # 2.5 pulses an update: w forgets in 24 updates
            mean += learner.weights().mean(1) / 6
    assert mean.mean() == pytest.approx(0.6 * (2 * share_up - 1), abs=5 * mean.std() / 16)
    assert mean.std() / 16 < 0.01


@pytest.mark.parametrize("up", [True, False])
def test_under_a_constant_gradient_c_moves_one_step_whenever_saturated_reads_fill_the_threshold(up):
    # A ends at its bound b; every read of a column adds λ b to H, so C gets one pulse in ⌈T / (λ b)⌉ reads.
    device = SoftBounds(dw_min=0.01, dw_min_std=0.0, dw_min_dtod=0.0, w_max=0.5, w_max_dtod=0.0, up_down_dtod=0.0)
    learner, _ = ttv2(device, 16, 16, transfer_every=2, transfer_rate=0.1, threshold=14.0, momentum=0.0)
    x, d = np.ones((32, 16), np.float32), np.full((32, 16), 1 if up else -1, np.float32)
    c = []
    for read in range(90):  # of every column once; 0.05 · 1 · 1 / 0.01 = 5 pulses in every update, without chance
        learner.update(x, d, 0.05, 32 * read)
        c.append(learner.c.values.copy())
    q, target = 1 - 0.01 / 0.5, 0.5 if up else -0.5
    np.testing.assert_allclose(learner.a.values, target, atol=1e-4)
    pulses = (90 - 60) // 3  # ⌈0.14 / (0.1 · 0.5)⌉ = 3 reads a pulse
    np.testing.assert_allclose(target - c[89], (target - c[59]) * q**pulses, rtol=1e-3)


def test_tiki_taka_transfers_lambda_times_a_on_average():
    device = SoftBounds(dw_min=1e-3, dw_min_std=0.0, dw_min_dtod=0.0, up_down_dtod=0.0, w_max=1.0, w_max_dtod=0.0)
    mode = TikiTaka(periphery=CLEAN, output_scale=1.0, transfer_every=1, transfer_rate=1e-3)
    learner = mode.learner(device, np.zeros((16, 32)), 0, 0)
    learner.a.write(np.linspace(-0.5, 0.5, 16 * 32).reshape(16, 32))
    rounds = 200
    learner.update(zeros(32 * rounds, 32), zeros(32 * rounds, 16), 0.01, 0)
    a, c = learner.a.values, learner.c.values
    expected = rounds * 1e-3 * a
    spread = np.sqrt(np.abs(expected) * 1e-3)  # Poisson number of steps
    assert np.mean(((c - expected) / np.maximum(spread, 1e-4)) ** 2) == pytest.approx(1, abs=0.35)
    assert (c * a).sum() / (a * a).sum() == pytest.approx(rounds * 1e-3, rel=0.08)  # soft bounds take 5 % at ±0.1


def test_the_network_of_tiki_taka_sees_gamma_a_plus_c():
    mode = TikiTaka(periphery=CLEAN, gamma=0.5)
    learner = mode.learner(SoftBounds(), np.full((16, 16), 0.1), 0, 0)
    learner.a.write(np.full((16, 16), 0.2))
    expected = 0.5 * learner.a.values + learner.c.values
    np.testing.assert_allclose(learner.weights()[:, :16], expected, atol=1e-6)


def test_choppers_cancel_an_offset_that_ttv2_integrates():
    device = SoftBounds(dw_min=1e-3, dw_min_std=0.0)
    drift = {}
    for mode in (TTv2, ChoppedTTv2):
        more = {"chop_probability": 0.5} if mode is ChoppedTTv2 else {}
        chosen = mode(periphery=CLEAN, output_scale=1.0, transfer_every=1, transfer_rate=0.05, threshold=1e9, **more)
        learner = chosen.learner(device, np.zeros((32, 24)), 0, 0)
        learner.a.reference[:, :24] -= 0.05  # the reference devices are off
        learner.update(zeros(24 * 400, 32), zeros(24 * 400, 32), 0.01, 0)
        drift[mode] = learner.h.mean(0)
    np.testing.assert_allclose(drift[TTv2], 400 * 0.05 * 0.05, rtol=1e-3)
    assert np.sqrt(np.mean(drift[ChoppedTTv2] ** 2)) == pytest.approx(math.sqrt(400) * 0.05 * 0.05, rel=0.6)


def test_hadamard_vectors_are_orthogonal():
    for n in (5, 16, 65):
        v = hadamard(n)
        assert np.array_equal(v.T @ v, len(v) * np.eye(n)) and len(v) < 2 * n


@pytest.mark.slow
@pytest.mark.parametrize("optimum", [0.3])
def test_ttv2_carries_c_to_the_optimum_of_a_linear_regression(optimum):
    random = np.random.default_rng(0)
    target = random.uniform(-optimum, optimum, (16, 16)).astype(np.float32)
    device = SoftBounds(dw_min=0.005)
    errors = {}
    transfers = {"transfer_every": 2, "transfer_rate": 0.05}
    changes = {SGDPulsed: {}, TTv2: transfers, ChoppedTTv2: {"chop_probability": 0.5} | transfers}
    for mode, more in changes.items():
        chosen = mode(output_scale=1.0, **more)
        learner = chosen.learner(device, np.zeros((16, 16)), 0, 0)
        for step in range(0, 30_000, 10):
            x = random.standard_normal((10, 16)).astype(np.float32)
            y = x @ (target - learner.weights()[:, :16]).T + 0.5 * random.standard_normal((10, 16)).astype(np.float32)
            learner.update(x, y.astype(np.float32), 0.02, step)
        errors[mode] = np.sqrt(np.mean((learner.weights()[:, :16] - target) ** 2))
    assert max(errors[TTv2], errors[ChoppedTTv2]) < 0.05 < errors[SGDPulsed]  # the target's own size is 0.17
