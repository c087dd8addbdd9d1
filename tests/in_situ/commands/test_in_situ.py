"""In-situ training: analog products, networks, algorithms, and runs that can be interrupted, against independent arithmetic."""

import csv
import dataclasses
import json
import math
import os
import re
import shlex
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from analog_glue.cli.main import main
from analog_glue.in_situ.commands import dry_run as description
from analog_glue.in_situ.commands.train import check_data, train_in_situ
from analog_glue.in_situ.devices.device import padded, symmetry_point, unpacked
from analog_glue.in_situ.devices.power_step import PowerStep
from analog_glue.in_situ.devices.soft_bounds import SoftBounds
from analog_glue.in_situ.devices.symmetric_linear import SymmetricLinear
from analog_glue.in_situ.extraction.regression import Regression, expected_error
from analog_glue.in_situ.extraction.uncertainty import certainty, perturbed, pruned
from analog_glue.in_situ.kernels.matvec import FORWARD, IO, PERFECT, analog_product, transpose
from analog_glue.in_situ.nn import lstm, perceptron
from analog_glue.in_situ.nn.learner import Fixed, Pulses, Stream, find_symmetry_point, zeros
from analog_glue.in_situ.tasks.characters import Characters
from analog_glue.in_situ.tasks.images import Digits
from analog_glue.in_situ.tasks.pictures import Images
from analog_glue.in_situ.training.chopped_ttv2 import ChoppedTTv2
from analog_glue.in_situ.training.loop import fit_in_situ
from analog_glue.in_situ.training.mode import Periphery
from analog_glue.in_situ.training.sgd_digital import SGDDigital
from analog_glue.in_situ.training.sgd_pulsed import SGDPulsed
from analog_glue.in_situ.training.statistics import Moments
from analog_glue.in_situ.training.tiki_taka import TikiTaka
from analog_glue.in_situ.training.ttv2 import TTv2, hadamard
from analog_glue.runs.folder import status_of
from analog_glue.settings import RunSettings

K = np.uint32(5)
PAPER = IO(126.0, 510.0, 12.0, 0.06, True, True)
CLEAN = Periphery(
    dac_bits=0, adc_bits=0, output_bound=math.inf, output_noise=0.0, noise_management=False, bound_management=False
)
MODES = (SGDPulsed, TikiTaka, TTv2, ChoppedTTv2)
NOISY = IO(0.0, 0.0, math.inf, 0.06, True, False)
# Every step of every device is 0.001, far from all bounds.
EQUAL = SymmetricLinear(dw_min=1e-3, dw_min_dtod=0.0, w_max=10.0, w_max_dtod=0.0)


class Recorder(Fixed):
    """Does not learn, but keeps what it should learn from."""

    def update(self, x, d, rate, step):
        vars(self).update(x=x.copy(), d=d.copy())


def check_independent(z):
    """That `z` (rows, columns) are standard normal numbers and neither rows nor columns share any, up to 5 sampling errors."""
    assert (z**2).mean() == pytest.approx(1, abs=5 * math.sqrt(2 / z.size))
    for axis in (0, 1):
        means = z.mean(axis) * math.sqrt(z.shape[axis])  # standard normal again
        assert (means**2).mean() < 1 + 5 * math.sqrt(2 / means.size)


def largest_correlation(samples):
    """Between any two columns of `samples`, in sampling errors."""
    assert np.all(samples.std(0) > 0)
    correlations = np.corrcoef(samples.T) - np.eye(samples.shape[1])
    return np.abs(correlations).max() * math.sqrt(len(samples))


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


# --- products ----------------------------------------------------------------------------------------------


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


# --- networks ----------------------------------------------------------------------------------------------


def plain_network(symbols=20, hidden=32, layers=2, io=PERFECT, seed=0):
    device = SymmetricLinear(dw_min=3e-3, w_max=10.0, dw_min_dtod=0.0, dw_min_std=0.0, w_max_dtod=0.0)
    mode = SGDPulsed(learning_rate=0.05, output_scale=1.0, periphery=CLEAN)
    network = lstm.make(symbols, hidden, layers, lambda w, n: mode.learner(device, w, seed, n), 1.0, seed, io, io)
    return network, mode


def torch_copy(network, symbols, hidden, layers):
    model, decoder = nn.LSTM(symbols, hidden, layers), nn.Linear(hidden, symbols)
    with torch.no_grad():
        for layer in range(layers):
            w = torch.from_numpy(network.learners[layer].weights()[:, : network.learners[layer].inputs].copy())
            getattr(model, f"weight_hh_l{layer}").copy_(w[:, :hidden])
            getattr(model, f"bias_ih_l{layer}").copy_(w[:, hidden])
            getattr(model, f"bias_hh_l{layer}").zero_().requires_grad_(False)
            getattr(model, f"weight_ih_l{layer}").copy_(w[:, hidden + 1 :])
        w = torch.from_numpy(network.learners[-1].weights()[:, : hidden + 1].copy())
        decoder.weight.copy_(w[:, :hidden])
        decoder.bias.copy_(w[:, hidden])
    return model, decoder


def torch_loss(model, decoder, text, state=None):
    one_hot = nn.functional.one_hot(torch.from_numpy(text[:-1]), decoder.out_features).float()[:, None]
    hidden, state = model(one_hot, state)
    loss = nn.functional.cross_entropy(decoder(hidden[:, 0]), torch.from_numpy(text[1:]), reduction="sum")
    return loss, tuple(s.detach() for s in state)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_gradients_of_the_lstm_are_those_of_autograd(layers):
    network, _ = plain_network(layers=layers)
    text = np.random.default_rng(0).integers(0, 20, 41)
    loss, gradients = network.gradients(text, network.state)
    model, decoder = torch_copy(network, 20, 32, layers)
    expected, _ = torch_loss(model, decoder, text)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for layer in range(layers):
        hh, ih, b = (getattr(model, f"{name}_l{layer}").grad for name in ("weight_hh", "weight_ih", "bias_ih"))
        expected = torch.cat([hh, b[:, None], ih], 1)
        torch.testing.assert_close(-torch.from_numpy(gradients[layer]), expected, rtol=1e-4, atol=1e-5)
    last = torch.cat([decoder.weight.grad, decoder.bias.grad[:, None]], 1)
    torch.testing.assert_close(-torch.from_numpy(gradients[-1]), last, rtol=1e-4, atol=1e-5)


def test_ideal_devices_learn_like_plain_gradient_descent():
    network, mode = plain_network()
    model, decoder = torch_copy(network, 20, 32, 2)
    parameters = [p for p in [*model.parameters(), *decoder.parameters()] if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.05)
    text = np.cumsum(np.random.default_rng(0).choice([1, 3], 20_001)) % 20  # ln 2 nats a symbol can be reached
    ours, theirs, state = [], [], None
    for first in range(0, 20_000, 50):
        piece = text[first : first + 51]
        ours.append(network.train(piece, mode.rate(0), first) / 50)
        loss, state = torch_loss(model, decoder, piece, state)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        theirs.append(loss.item() / 50)
    assert np.mean(theirs[-50:]) < 1.2 < 2.5 < np.mean(theirs[:50])
    assert np.mean(ours[-50:]) == pytest.approx(np.mean(theirs[-50:]), abs=0.03)
    assert np.mean(ours[:50]) == pytest.approx(np.mean(theirs[:50]), abs=0.03)


def test_gradients_of_the_perceptron_are_those_of_autograd():
    device = SymmetricLinear(w_max=10.0, w_max_dtod=0.0)
    mode = SGDPulsed(output_scale=1.0, periphery=CLEAN)
    network = perceptron.make([20, 12, 7, 5], lambda w, n: mode.learner(device, w, 0, n), 1.0, 0, PERFECT, PERFECT)
    weights = [torch.from_numpy(n.weights()[:, : n.inputs].copy()).requires_grad_() for n in network.learners]
    x = np.random.default_rng(0).uniform(0, 1, 20).astype(np.float32)
    loss = network.train(x, 3, 1e-12, 0)  # a rate at which no device moves
    h = torch.from_numpy(x)
    for i, w in enumerate(weights):
        h = torch.cat([h, torch.ones(1)]) @ w.T
        h = torch.sigmoid(h) if i < 2 else h
    expected = nn.functional.cross_entropy(h[None], torch.tensor([3]))
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for w, x_, d in zip(weights, network._xs, network._ds, strict=True):
        change = np.outer(d[0, : len(w)], x_[0, : w.shape[1]])
        torch.testing.assert_close(-torch.from_numpy(change), w.grad, rtol=1e-4, atol=1e-6)


def test_no_two_products_of_the_perceptron_share_noise():
    # Without weights every output is noise: of hidden layers the sums are logit(h), of their gradients d / (h (1 − h)).
    arrays = [Recorder.of(np.zeros(shape)) for shape in ((32, 9), (32, 33), (32, 33))]
    network, seen = perceptron.InSituPerceptron(arrays, NOISY, NOISY, 1.0, Stream.of(0, 0)), []
    for step in range(2000):
        network.train(np.zeros(8, np.float32), 3, 0.0, step)
        h = [array.x[0, :32] for array in arrays[1:]]
        back = [array.d[0, :32] / (h_ * (1 - h_)) for array, h_ in zip(arrays, h, strict=False)]
        largest = [np.abs(array.d).max() for array in arrays[1:]]  # noise is that of the largest input
        logits = np.log(np.abs(arrays[2].d[0, 4:]))
        seen += [*(np.log(h_ / (1 - h_)) for h_ in h), *np.divide(back, np.c_[largest]), logits - logits.mean()]
    noise = np.concatenate(seen).reshape(2000, -1).astype(np.float64)
    np.testing.assert_allclose(noise[:, :128].std(0), 0.06, rtol=5 / math.sqrt(2 * 2000))
    # 12,000 pairs; what remains of logits without their mean correlates by −1/27.
    assert largest_correlation(noise) < 5 + math.sqrt(2000) / 27


@pytest.mark.parametrize("symbol", [0, 2])
def test_no_two_products_of_the_lstm_share_noise(symbol):
    # Only biases: the cell forgets at once (f = −10) and h = o tanh(i g) tells the noise of i, g and o. The network is certain
    # of symbol 0: if it comes first, the gradients of the first steps are just what the last one sends back.
    hidden, symbols, samples = 16, 32, 2000
    values = [np.zeros(shape) for shape in lstm.shapes(symbols, hidden, 2)]
    for layer in (0, 1):
        values[layer][hidden : 3 * hidden, hidden] = np.repeat([-10.0, 1.0], hidden)
    values[2][0, hidden] = 16.0
    arrays, seen = [Recorder.of(v) for v in values], []
    network = lstm.InSituCharacterLSTM(symbols, hidden, arrays, NOISY, NOISY, 1.0, Stream.of(0, 0))
    for number in range(samples):
        network.state[...] = 0
        network.train(np.array([5, symbol, symbol, 1]), 0.0, 3 * number)
        xs, ds = [array.x for array in arrays], [array.d for array in arrays]
        for t in range(3):
            for layer, h in enumerate((xs[1][t, hidden + 1 : 2 * hidden + 1], xs[2][t, :hidden])):
                back = ds[layer][t, 3 * hidden :] / h  # ∂L/∂h (1 − o)
                seen += [h, back / np.abs(back).max()]
            logits = np.log(-ds[2][t, 3:symbols])
            seen.append(logits - logits.mean())
    noise = np.concatenate(seen).reshape(samples, -1).astype(np.float64)
    # 39,000 pairs; what remains of logits without their mean correlates by −1/28.
    assert largest_correlation(noise) < 5 + math.sqrt(samples) / 28
    backward = noise.reshape(samples, 3, -1)[:, :, np.r_[hidden : 2 * hidden, 3 * hidden : 4 * hidden]]
    assert np.all(np.abs(backward.mean(0)) < 5 * backward.std(0) / math.sqrt(samples))


def test_networks_begin_with_uniform_weights_of_the_size_of_torchs():
    scale, device = 1 / 0.3, SymmetricLinear(w_max=10.0, w_max_dtod=0.0)
    mode = SGDPulsed(output_scale=scale)

    def learner(values, number):
        return mode.learner(device, values, 0, number)

    recurrent = lstm.make(87, 64, 2, learner, scale, 0, PERFECT, PERFECT)
    plain = perceptron.make([400, 100, 25, 10], learner, scale, 0, PERFECT, PERFECT)
    fan_in = [64, 64, 64, 400, 100, 25]
    for array, n in zip(recurrent.learners + plain.learners, fan_in, strict=True):
        weights = scale * array.c.values.astype(np.float64)  # between ±1/√n: rms 1/√(3 n), ± √(1/5) of that over √number
        rms = math.sqrt((weights**2).mean())
        assert rms * math.sqrt(3 * n) == pytest.approx(1, abs=5 * math.sqrt(0.2 / weights.size))
        assert np.abs(weights).max() <= n**-0.5 * (1 + 1e-6)


# --- algorithms --------------------------------------------------------------------------------------------


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


# --- runs --------------------------------------------------------------------------------------------------


def characters(mode, seed=0, sequences=12):
    text = np.random.default_rng(1).integers(0, 11, 20 * sequences + 1)
    return Characters(text, text[:101], 11, 16, 2, 20, 50, mode, SoftBounds(dw_min=0.02), seed)


@pytest.mark.parametrize("kind", MODES)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(kind, tmp_path):
    mode = kind(epochs=2, learning_rate=0.05, average_products=50, statistics_every=3, average_epochs=2)
    whole, halves = characters(mode), [characters(mode) for _ in range(3)]
    for folder in ("whole", "parts"):
        (tmp_path / folder).mkdir()
    curve = fit_in_situ(whole, mode, tmp_path / "whole", log=lambda _: None)
    for part, stop in zip(halves, (7, 10, None), strict=True):
        resumed = fit_in_situ(part, mode, tmp_path / "parts", log=lambda _: None, stop_after=stop)
    for name, array in whole.state().items():
        assert np.array_equal(array, halves[2].state()[name]), name
    sums, resumed_sums = (load_file(tmp_path / folder / "training_state.safetensors") for folder in ("whole", "parts"))
    averages = [name for name in sums if name.startswith("average.")]
    assert len(averages) == 3 * 5 and int(sums["average.0.products"]) == 50
    moments = [name for name in sums if name.startswith("statistics.")]
    assert len(moments) == 3 * 3 and int(sums["statistics.0.looks"]) == 2 * whole.units // 3
    assert all(torch.equal(sums[name], resumed_sums[name]) for name in averages + moments)
    assert [(e.train_loss, e.scores) for e in resumed] == [(e.train_loss, e.scores) for e in curve]
    assert len(curve) == 2


def test_ctrl_c_keeps_all_that_was_learnt_to_the_last_unit_of_work(tmp_path, monkeypatch):
    mode = TTv2(epochs=1, learning_rate=0.05)
    whole, pressed, resumed = (characters(mode) for _ in range(3))
    for folder in ("whole", "parts"):
        (tmp_path / folder).mkdir()
    fit_in_situ(whole, mode, tmp_path / "whole", log=lambda _: None)
    learn = Characters.train

    def and_press(self, epoch, unit, rate):
        if unit == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return learn(self, epoch, unit, rate)

    monkeypatch.setattr(Characters, "train", and_press)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            fit_in_situ(pressed, mode, tmp_path / "parts", log=lambda _: None)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    monkeypatch.undo()
    said: list[str] = []
    fit_in_situ(resumed, mode, tmp_path / "parts", log=said.append)
    assert said[0] == "Resuming in epoch 1 after 100 chars."
    assert all(np.array_equal(array, resumed.state()[name]) for name, array in whole.state().items())


def test_more_epochs_go_on_as_one_run_of_so_many_would_have_gone_though_rates_decay(tmp_path):
    whole, parts = (tmp_path / name for name in ("whole", "parts"))
    schedule = {"learning_rate": 0.05, "decay_every": 1, "transfer_rate": 0.1, "transfer_decay_every": 2}
    for folder, epochs in ((whole, 3), (parts, 1), (parts, 3)):
        folder.mkdir(exist_ok=True)
        curve = fit_in_situ(characters(TTv2(**schedule)), TTv2(epochs=epochs, **schedule), folder, log=lambda _: None)
    assert len(curve) == 3
    one, other = (load_file(folder / "training_state.safetensors") for folder in (whole, parts))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_time_of_a_run_begins_when_its_kernels_are_compiled_and_nothing_of_that_is_learnt(tmp_path, monkeypatch):
    mode, now = SGDPulsed(epochs=1, learning_rate=0.05), [0.0]
    monkeypatch.setattr("analog_glue.in_situ.training.loop.time.monotonic", lambda: now[0])
    network, plain = characters(mode), characters(mode)
    learn, calls = network.train, []

    def slow_at_first(*what):
        now[0] += 1 if calls else 1000
        calls.append(what)
        return learn(*what)

    network.train = slow_at_first
    (row,) = fit_in_situ(network, mode, tmp_path, log=lambda _: None)
    assert row.seconds == network.units == len(calls) - 1
    for unit in range(plain.units):
        plain.train(0, unit, mode.rate(0))
    assert all(np.array_equal(array, plain.state()[name]) for name, array in network.state().items())


def test_a_log_file_sees_progress_within_an_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr("analog_glue.progress.LINE_EVERY", 0.0)
    lines: list[str] = []
    fit_in_situ(characters(SGDPulsed()), SGDPulsed(epochs=2), tmp_path, log=lines.append)
    assert re.fullmatch(r"  epoch 1/2: 4 %, [\d,]+ chars/s, [\d.]+ s left", lines[0])
    assert re.fullmatch(r"  epoch 2/2: 100 %, [\d,]+ chars/s, 0 s left", lines[-2])


def test_threads_do_not_change_a_run():
    results = []
    before = torch.get_num_threads()
    for threads in (1, 2):
        try:
            torch.set_num_threads(threads)
            network = characters(TTv2(learning_rate=0.05))
            for unit in range(5):
                network.train(0, unit, 0.05)
            results.append(network.state())
        finally:
            torch.set_num_threads(before)
    assert all(np.array_equal(results[0][name], results[1][name]) for name in results[0])


def test_digits_are_learnt_on_soft_bounds_by_ttv2_and_written_down(tmp_path):
    settings = RunSettings(output_root=str(tmp_path))
    mode = TTv2(epochs=4, learning_rate=0.1, output_scale=1.0, transfer_every=1, transfer_rate=0.1)
    done = train_in_situ(settings, Digits(hidden=(16,)), SoftBounds(dw_min=0.01), mode, log=lambda _: None)
    folder, table = done.run_dir, done.table
    rows = list(csv.DictReader((folder / "learning_curve.csv").open()))
    assert len(rows) == 4 and float(rows[-1]["accuracy"]) > 55, table
    record, said = (folder / "run.json").read_bytes(), []
    again = train_in_situ(settings, Digits(hidden=(16,)), SoftBounds(dw_min=0.01), mode, log=said.append).run_dir
    assert again == folder and list(csv.DictReader((folder / "learning_curve.csv").open())) == rows
    assert said == [f"Already done: {folder}"] and (folder / "run.json").read_bytes() == record


def test_a_run_that_is_trained_cannot_be_trained_twice_at_once_and_one_that_was_killed_says_so(tmp_path):
    settings, seen = RunSettings(output_root=str(tmp_path)), []

    def log(line):
        (folder,) = tmp_path.iterdir()
        if (folder / "run.json").is_file():
            seen.append(status_of(folder))
        if len(seen) == 1:
            with pytest.raises(ValueError, match="another process is working in it"):
                train_in_situ(settings, Digits(hidden=(16,)), SoftBounds(), SGDPulsed(epochs=2), log=lambda _: None)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_in_situ(settings, Digits(hidden=(16,)), SoftBounds(), SGDPulsed(epochs=2), log=log)
    (folder,) = tmp_path.iterdir()
    assert seen == ["running", "running"] and status_of(folder) == "interrupted"
    train_in_situ(settings, Digits(hidden=(16,)), SoftBounds(), SGDPulsed(epochs=2), log=lambda _: None)
    assert status_of(folder) == "done"


def test_digital_training_takes_the_step_of_the_gradient():
    network = characters(SGDDigital())
    learners, text = network.network.learners, network.text[:21]
    before = [learner.values.copy() for learner in learners]
    _, gradients = network.network.gradients(text, np.zeros_like(network.network.state))
    network.network.train(text, 0.01, 0)
    for learner, old, gradient in zip(learners, before, gradients, strict=True):
        moved = (learner.values - old)[:, : learner.inputs]
        assert np.allclose(moved, 0.01 * gradient, atol=1e-6) and np.abs(moved).max() > 1e-4


@pytest.mark.parametrize("mode", [TTv2, ChoppedTTv2, TikiTaka])
def test_the_transfer_rate_is_halved_at_the_start_of_every_second_epoch(mode, tmp_path):
    network = characters(mode(epochs=3, transfer_rate=0.08, transfer_decay_every=2))
    seen = []
    network.test = lambda epoch, whole: seen.append([learner.transfer_rate for learner in network.network.learners]) or {}
    fit_in_situ(network, mode(epochs=3), tmp_path, log=lambda _: None)
    assert seen[1:] == [[0.08] * 3, [0.08] * 3, [0.04] * 3]  # the first score is a rehearsal, of which nothing is kept


def test_the_learning_rate_is_halved_at_the_start_of_every_second_epoch(tmp_path):
    mode, seen = SGDPulsed(epochs=5, learning_rate=0.08, decay_every=2, output_scale=4.0), []
    network = characters(mode)
    network.train = lambda epoch, unit, rate: seen.append((epoch, rate)) or 0.0
    fit_in_situ(network, mode, tmp_path, log=lambda _: None)
    assert set(seen) == {(0, 0.02), (1, 0.02), (2, 0.01), (3, 0.01), (4, 0.005)}  # of the devices: a quarter of the network's


def test_no_two_units_of_work_name_the_same_random_numbers():
    steps: list[int] = []
    text, pictures = characters(SGDPulsed()), np.zeros((7, 4), np.float32)
    text.network.train = lambda piece, rate, step: steps.extend(range(step, step + len(piece) - 1)) or 0.0
    images = Images(pictures, np.arange(7), pictures, np.arange(7), (3,), 7, SGDPulsed(), SoftBounds(), 0)
    images.network.train = lambda image, label, rate, step: steps.append(step) or 0.0
    for trainable in (text, images):
        for epoch in (0, 1, 2):
            for unit in range(trainable.units):
                trainable.train(epoch, unit, 0.01)
        assert sorted(steps) == list(range(3 * trainable.units * trainable.unit_size))
        steps.clear()


def test_every_epoch_reads_the_text_from_an_empty_state_and_carries_it_through():
    fresh, used, forgetful = (characters(SGDPulsed()) for _ in range(3))
    used.network.state[...] = 0.5
    for network in (fresh, used, forgetful):
        network.train(1, 0, 0.01)
        if network is forgetful:
            network.network.state[...] = 0
        network.train(1, 1, 0.01)
    assert all(np.array_equal(array, used.state()[name]) for name, array in fresh.state().items())
    assert not np.array_equal(fresh.network.state, forgetful.network.state)


def test_a_mode_that_cannot_be_is_refused():
    for change, key in (({"epochs": 0}, "epochs"), ({"learning_rate": 0.0}, "learning_rate"),
                        ({"pulses": Pulses(longest=32)}, "pulses.longest"), ({"threshold": 0.0}, "threshold"),
                        ({"momentum": 1.0}, "momentum"), ({"vectors": "sine"}, "vectors")):  # fmt: skip
        with pytest.raises(ValueError, match=rf"`{key}`"):
            TTv2(**change)
    with pytest.raises(ValueError, match="`adc_bits`"):
        Periphery(adc_bits=1)


# --- extraction --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    words = ["task=digits", "device=soft_bounds", "training=ttv2", "training.output_scale=2", "training.transfer_every=1",
             "training.transfer_rate=0.1", "device.dw_min=0.01", "training.epochs=3", "task.train_images=600",
             "training.average_products=2000", "training.statistics_every=10", f"output_root={root}"]  # fmt: skip
    assert main(["train", *words]) == 0
    (folder,) = root.iterdir()
    return folder


def extracted(run, inputs="uniform"):
    assert main(["extract", f"checkpoint={run}", "extract.products=3000", f"extract.inputs={inputs}"]) == 0
    folder = run / f"extraction-{inputs}-3000-seed0"
    return folder, json.loads((folder / "extraction.json").read_text())


def test_the_command_extract_finds_the_weights_that_the_arrays_hold(digits_run, capsys):
    folder, record = extracted(digits_run)
    state = load_file(digits_run / "training_state.safetensors")
    weights = load_file(folder / "extracted.safetensors")
    assert sorted(weights) == ["0", "1"]
    for row in record["arrays"]:
        n, found = row["array"], weights[str(row["array"])]
        assert found.dtype == torch.float32 and list(found.shape) == [row["outputs"], row["inputs"]]
        true = 2 * state[f"{n}.c"][:, : row["inputs"]]  # output_scale
        assert float((found - true).square().mean().sqrt()) == pytest.approx(row["actual_error"], rel=1e-3)
        assert row["estimated_error"] == pytest.approx(row["actual_error"], rel=0.1)
        lsb = 24 / 510
        law = 2 * expected_error(math.hypot(0.06, lsb / math.sqrt(12)), 3000, row["inputs"], row["amplitude"])
        assert row["estimated_error"] == pytest.approx(law, rel=0.03)
    out = capsys.readouterr().out
    assert "extracted, digital" in out and "extracted, fresh arrays" in out and "next: analog-glue extract" in out


def test_the_arrays_score_as_at_the_end_of_training_and_digital_is_the_plain_network(digits_run):
    folder, record = extracted(digits_run)
    last = list(csv.DictReader((digits_run / "learning_curve.csv").open()))[-1]
    scores = record["scores"]
    assert scores["analog arrays"] == {name: pytest.approx(float(last[name])) for name in ("accuracy", "cross_entropy")}
    weights = [w.double() for w in load_file(folder / "extracted.safetensors").values()]
    data = Digits()._read(None)
    x = torch.from_numpy(data[2]).double()
    hidden = torch.sigmoid(nn.functional.linear(x, weights[0][:, :-1], weights[0][:, -1]))
    outputs = nn.functional.linear(hidden, weights[1][:, :-1], weights[1][:, -1])
    loss = nn.functional.cross_entropy(outputs, torch.from_numpy(data[3])).item()
    assert scores["extracted, digital"]["cross_entropy"] == pytest.approx(loss, rel=1e-4)
    assert scores["extracted, fresh arrays"]["cross_entropy"] == pytest.approx(loss, rel=0.3)
    assert scores["extracted, fresh arrays"] != scores["analog arrays"]


def test_weights_at_the_bounds_of_their_devices_do_not_fit_on_others_and_only_bounds_are_to_blame(tmp_path):
    words = ["task=digits", "device=soft_bounds", "device.dw_min=0.05", "device.w_max=0.2", "device.w_max_dtod=0.6",
             "training=ttv2", "training.output_scale=6", "training.transfer_every=1", "training.transfer_rate=0.1",
             "training.epochs=3", f"output_root={tmp_path}"]  # fmt: skip
    assert main(["train", *words]) == 0
    (run,) = tmp_path.iterdir()
    _, record = extracted(run)
    loss = {name: values["cross_entropy"] for name, values in record["scores"].items()}
    assert loss["extracted, arrays without bounds"] == pytest.approx(loss["analog arrays"], rel=0.1)
    assert loss["extracted, fresh arrays"] > 1.2 * loss["extracted, arrays without bounds"]


def test_a_dry_run_says_what_the_arrays_are_and_do_and_changes_nothing(tmp_path, capsys):
    words = ["task=digits", "task.train_images=100", "task.test_images=40", "training=ttv2", "training.transfer_every=4",
             "training.transfer_rate=0.1", "training.learning_rate=0.2", "training.output_scale=2", "device.dw_min=0.01",
             f"output_root={tmp_path}"]  # fmt: skip
    assert main(["train", *words, "training.epochs=1"]) == 0
    (folder,) = tmp_path.iterdir()
    files = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir()}
    capsys.readouterr()
    assert main(["train", *words, "training.epochs=3", "dry_run=true"]) == 0
    said = capsys.readouterr().out
    for words in (
        "100 images an epoch; tests: 40 images after an epoch, 360 after the last",
        "3 epochs, 1 of them done",
        "learning rate 0.2: 10 steps of a device for x · d = 1",  # 0.2 / 2 / 0.01
        "λ 0.1, T 1 steps: a read of a device at w_max = 0.6 is worth 6 pulses of C",  # 0.1 · 0.6 / 0.01
        "0           32 × 65     2,080     4,160                   1              0.25",
        "2,410 weights on 4,820 devices",  # A and C
        "120 states", "Time       about ", str(folder), "Nothing was run",
    ):  # fmt: skip
        assert words in said
    assert files == {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir()}


def test_learning_for_a_moment_to_see_how_fast_it_goes_is_forgotten():
    mode = ChoppedTTv2(learning_rate=0.05)
    seen, plain = characters(mode), characters(mode)
    assert all(speed > 0 for speed in description._speeds(seen, mode))
    for name, array in plain.state().items():
        assert np.array_equal(array, seen.state()[name]), name


def test_every_command_that_is_printed_runs_as_it_is_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = "\"output_root='a (b), c'\""
    waiting = [f"analog-glue train task=digits training=sgd_pulsed training.epochs=1 task.train_images=50 {root}"]
    done: list[str] = []
    chips = ["evaluation.chips=1", "evaluation.times=[1]", "evaluation.ideal_devices=false"]
    while waiting:
        line = waiting.pop(0)
        command = shlex.split(line, comments=True)[1:]
        kind = " ".join([command[0], *(word for word in command if word.startswith(("noise=", "seed=", "extract.")))])
        if kind in done:
            continue
        done.append(kind)
        assert main(command + (chips if command[0] == "evaluate" else [])) == 0, line
        if len(done) < 6:
            waiting += [said.removeprefix("next: ") for said in capsys.readouterr().out.splitlines() if "next: an" in said]
    assert {"train", "extract", "evaluate noise=pcm", "extract seed=1", "extract extract.products=40000", "tables",
            "evaluate noise=pcm_reduced"} <= set(done)  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["a (b), c"]  # nothing was written elsewhere


def test_force_removes_what_was_extracted_from_the_old_run_and_leaves_files_of_others(tmp_path):
    words = ["task=digits", "training=sgd_pulsed", "training.epochs=1", "task.train_images=50", f"output_root={tmp_path}"]
    assert main(["train", *words]) == 0
    (run,) = tmp_path.iterdir()
    for seed in (0, 1):
        assert main(["extract", f"checkpoint={run}", "extract.products=100", f"seed={seed}", "extract.prune=[0.5]"]) == 0
    first, second = sorted(run.glob("extraction-*"))
    (first / "notes.txt").write_text("mine")
    chips = ["evaluation.chips=1", "evaluation.times=[1]", "hardware.calibration.examples=8"]
    assert main(["evaluate", f"checkpoint={second}", "noise=pcm", *chips, f"output_root={tmp_path}"]) == 0
    assert list(second.rglob("results.csv"))
    assert main(["train", *words, "force=true"]) == 0
    assert sorted(path.name for path in run.rglob("*") if path.is_file()) == [
        ".lock", "learning_curve.csv", "notes.txt", "run.json", "run_config.json", "training_state.safetensors"
    ]  # fmt: skip


def test_more_products_than_there_are_names_for_their_noise_are_refused(capsys):
    assert main(["extract", "checkpoint=x", "extract.products=1000000000000"]) == 2
    assert "`extract.products` must lie in 1 … 4,294,967,295" in capsys.readouterr().err


def test_extraction_says_how_far_it_is(digits_run, monkeypatch, capsys):
    monkeypatch.setattr("analog_glue.progress.LINE_EVERY", 0.0)
    assert main(["extract", f"checkpoint={digits_run}", "extract.products=600", "force=true"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"  extraction: 50 %, [\d,]+ products/s, [\d.]+ s left\n", said) and "  scores: 100 %" in said


def test_one_hot_reads_are_worse_than_the_regression_and_say_so(digits_run):
    _, uniform = extracted(digits_run)
    _, one_hot = extracted(digits_run, "one_hot")
    for row, better in zip(one_hot["arrays"], uniform["arrays"], strict=True):
        assert row["products"] <= 3000
        assert row["estimated_error"] == pytest.approx(row["actual_error"], rel=0.15)
        assert row["estimated_error"] > math.sqrt(row["inputs"] / 3) * better["estimated_error"] * 0.8


def test_what_is_no_in_situ_run_is_refused_by_extract(digits_run, tmp_path, capsys):
    (tmp_path / "run_config.json").write_text((digits_run / "run_config.json").read_text())
    assert main(["extract", f"checkpoint={tmp_path}"]) == 2
    assert "Setting `checkpoint` must be the folder of an in-situ run" in capsys.readouterr().err


def test_averaging_finds_the_mean_of_the_weights_over_the_last_epochs_and_changes_nothing_that_is_learnt(tmp_path):
    settings = {"epochs": 3, "learning_rate": 0.3, "periphery": CLEAN}
    mode = SGDPulsed(average_products=6000, average_epochs=2, **settings)
    network, plain, means = characters(mode), characters(mode), []
    (tmp_path / "plain").mkdir()
    fit_in_situ(network, mode, tmp_path, log=lambda _: None)
    train = plain.train

    def watched(epoch, unit, rate):
        loss = train(epoch, unit, rate)
        if epoch >= 1:
            means.append(plain.network.learners[2].weights().copy())
        return loss

    plain.train = watched
    fit_in_situ(plain, SGDPulsed(**settings), tmp_path / "plain", log=lambda _: None)
    assert all(np.array_equal(array, plain.state()[name]) for name, array in network.state().items())
    inputs = network.network.learners[2].inputs
    saved = load_file(tmp_path / "training_state.safetensors")
    sums = Regression(11, inputs)
    sums.load({name: saved[f"average.2.{name}"].numpy() for name in sums.state()})
    error = sums.weights() - np.mean(means, 0)[:, :inputs]
    moved = np.std(means, 0)[:, :inputs]
    assert sums.products == 6000 and moved.max() > 0.05
    # The only noise is that of weights that differ from product to product.
    assert np.sqrt(np.mean(error**2)) == pytest.approx(sums.weight_error(), rel=0.3)
    assert np.sqrt(np.mean(error**2)) < 0.2 * np.sqrt(np.mean((means[-1] - np.mean(means, 0)) ** 2))


def test_extract_scores_the_average_beside_the_last_weights(digits_run):
    folder, record = extracted(digits_run)
    averaged, last = (load_file(folder / f"{name}.safetensors") for name in ("averaged", "extracted"))
    assert [(row["products"], row["looks"]) for row in record["averaged"]] == [(2000, 60), (2000, 60)]
    assert {"averaged, digital", "averaged, fresh arrays"} <= set(record["scores"])
    for name, weights in averaged.items():  # another set of weights, but of the same network
        assert 0 < float((weights - last[name]).square().mean()) < 0.2 * float(last[name].square().mean())


def test_statistics_are_mean_and_spread_of_the_iterates_and_change_nothing_that_is_learnt(tmp_path):
    settings = {"epochs": 3, "learning_rate": 0.3, "periphery": CLEAN}
    network = characters(SGDPulsed(**settings))
    plain, iterates = characters(SGDPulsed(**settings)), []
    train = plain.train

    def watched(epoch, unit, rate):
        loss = train(epoch, unit, rate)
        if epoch >= 1 and (epoch * plain.units + unit + 1) % 2 == 0:
            iterates.append(plain.network.learners[2].weights().astype(np.float64))
        return loss

    plain.train = watched
    (tmp_path / "plain").mkdir()
    fit_in_situ(plain, SGDPulsed(**settings), tmp_path / "plain", log=lambda _: None)
    fit_in_situ(network, SGDPulsed(statistics_every=2, average_epochs=2, **settings), tmp_path, log=lambda _: None)
    assert all(np.array_equal(array, plain.state()[name]) for name, array in network.state().items())
    saved = load_file(tmp_path / "training_state.safetensors")
    moments = Moments(11, 17)
    moments.load({name: saved[f"statistics.2.{name}"].numpy() for name in moments.state()})
    assert moments.looks == len(iterates) == plain.units
    np.testing.assert_allclose(moments.mean, np.mean(iterates, 0)[:, :17], atol=1e-12)
    np.testing.assert_allclose(moments.spread(), np.std(iterates, 0, ddof=1)[:, :17], atol=1e-12)
    assert moments.spread().max() > 0.05


def test_a_finished_run_goes_on_with_statistics(tmp_path):
    fit_in_situ(characters(SGDPulsed(epochs=1)), SGDPulsed(epochs=1), tmp_path, log=lambda _: None)
    longer = SGDPulsed(epochs=2, statistics_every=1, average_epochs=1)
    trainable = characters(longer)
    assert len(fit_in_situ(trainable, longer, tmp_path, log=lambda _: None)) == 2
    assert int(load_file(tmp_path / "training_state.safetensors")["statistics.0.looks"]) == trainable.units


# --- pruning and perturbation ------------------------------------------------------------------------------


def test_pruning_takes_the_least_important_weights_of_all_arrays_together():
    weights = [np.array([[0.1, -4.0], [0.5, 2.0]]), np.array([[0.3, -0.2, 0.0]])]
    first = pruned(weights, [np.abs(w) for w in weights], 3 / 7)
    assert [w.tolist() for w in first] == [[[0.0, -4.0], [0.5, 2.0]], [[0.3, 0.0, 0.0]]]
    spread = [np.array([[0.01, 4.0], [0.5, 2.0]]), np.array([[0.0, 1.0, 0.0]])]  # |w| / s = 10, 1, 1, 1, ∞, 0.2, worthless
    assert [w.tolist() for w in pruned(weights, certainty(weights, spread), 2 / 7)][1] == [[0.3, 0.0, 0.0]]
    assert all(np.all(w == 0) for w in pruned(weights, weights, 1.0))


def test_both_noises_are_of_one_size_and_one_knows_the_spread():
    random = np.random.default_rng(0)
    weights = [np.zeros((300, 200)), np.zeros((100, 100))]
    spread = [np.where(random.random(w.shape) < 0.5, 0.01, 0.1) for w in weights]
    known, uniform = (perturbed(weights, spread, noise, 2.0, 5) for noise in ("spread", "uniform"))
    flat = [np.concatenate([values.ravel() for values in noise]) for noise in (known, uniform)]
    s = np.concatenate([values.ravel() for values in spread])
    assert np.sqrt(np.mean(flat[0] ** 2)) == pytest.approx(np.sqrt(np.mean(flat[1] ** 2)), rel=0.03)  # 5 σ of 70,000
    for size in (0.01, 0.1):
        assert flat[0][s == size].std() == pytest.approx(2 * size, rel=0.03)
        assert flat[1][s == size].std() == pytest.approx(2 * math.sqrt((0.01**2 + 0.1**2) / 2), rel=0.03)


def test_extract_writes_spread_and_both_tables_and_goes_on_with_them(digits_run, capsys):
    words = ["extract.products=3000", "extract.prune=[0,0.5,1]", "extract.perturb=[1]", "extract.draws=2"]
    assert main(["extract", f"checkpoint={digits_run}", *words]) == 0
    folder = digits_run / "extraction-uniform-3000-seed0"
    scores = json.loads((folder / "extraction.json").read_text())["scores"]
    pruning, noisy = (list(csv.DictReader((folder / f"{name}.csv").open())) for name in ("pruning", "perturbation"))
    assert list(pruning[0]) == ["weights", "criterion", "fraction", "metric", "value"]
    assert list(noisy[0]) == ["weights", "noise", "scale", "draw", "metric", "value"]
    assert len(pruning) == 3 * 2 * 2 and len(noisy) == 2 * 2 * 2

    def value(rows, **wanted):
        return [float(row["value"]) for row in rows if all(row[name] == str(v) for name, v in wanted.items())]

    whole = value(pruning, fraction=0.0, metric="cross_entropy")
    assert whole == [pytest.approx(scores["averaged, digital"]["cross_entropy"], rel=1e-5)] * 2
    assert value(pruning, fraction=1.0, metric="cross_entropy") == [pytest.approx(math.log(10), rel=1e-5)] * 2
    assert all(0 < number < 2.3 for number in value(noisy, metric="cross_entropy"))
    spread, state = load_file(folder / "spread.safetensors"), load_file(digits_run / "training_state.safetensors")
    assert torch.equal(spread["1"], (2 * (state["statistics.1.squares"] / 59).sqrt()).float())
    before = (folder / "pruning.csv").read_text()
    assert main(["extract", f"checkpoint={digits_run}", *words[:1], "extract.prune=[0.25]"]) == 0
    assert (folder / "pruning.csv").read_text().startswith(before)
    assert len((folder / "pruning.csv").read_text().splitlines()) == 1 + 12 + 4
    assert "Extracted already" in capsys.readouterr().out


def test_arrays_are_read_as_late_as_asked_and_drift_is_no_part_of_training(tmp_path):
    words = ["task=digits", "training=sgd_pulsed", "device=symmetric_linear", "training.epochs=1", "training.output_scale=2",
             "device.drift.nu=0.1", f"output_root={tmp_path}"]  # fmt: skip
    assert main(["train", *words]) == 0
    assert main(["train", *words, "device.drift.nu=0.05"]) == 0
    (run,) = tmp_path.iterdir()
    found = {}
    for time in (0, 10_000):
        assert main(["extract", f"checkpoint={run}", f"extract.time={time}"]) == 0
        folder = run / f"extraction-uniform-10000-seed0{f'-{time}s' if time else ''}"
        record = json.loads((folder / "extraction.json").read_text())
        found[time] = (load_file(folder / "extracted.safetensors"), record["arrays"], record["scores"])
    share = 10_000**-0.05
    for row in found[0][1]:
        n = str(row["array"])
        error = found[10_000][0][n] - share * found[0][0][n]
        assert float(error.square().mean().sqrt()) < 1.5 * row["estimated_error"] < 0.03 * row["weight_rms"]
    digital = [scores["extracted, digital"]["cross_entropy"] for _, _, scores in found.values()]
    assert digital[1] > digital[0] + 0.05
    fresh = [scores["extracted, fresh arrays"]["cross_entropy"] for _, _, scores in found.values()]
    assert fresh[1] > digital[1] + 0.05  # aged once more


def test_a_perturbation_without_statistics_is_refused(tmp_path, capsys):
    words = ["task=digits", "device=soft_bounds", "training=sgd_pulsed", "training.epochs=1", "task.train_images=20"]
    assert main(["train", *words, f"output_root={tmp_path}"]) == 0
    (folder,) = tmp_path.iterdir()
    assert main(["extract", f"checkpoint={folder}", "extract.perturb=[1]"]) == 2
    assert "training.statistics_every" in capsys.readouterr().err


def test_other_data_than_the_run_learnt_are_refused(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"data": {"fingerprint": "a1"}}))
    check_data(tmp_path, {"fingerprint": "a1"})
    with pytest.raises(ValueError, match=r"`data\.root` must hold what the run learnt \(fingerprint a1\)"):
        check_data(tmp_path, {"fingerprint": "b2"})
