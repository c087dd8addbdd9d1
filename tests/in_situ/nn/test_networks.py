"""Networks on arrays: gradients against autograd, and random numbers that no two products share."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from analog_glue.in_situ.devices.symmetric_linear import SymmetricLinear
from analog_glue.in_situ.kernels.matvec import PERFECT
from analog_glue.in_situ.nn import lstm, perceptron
from analog_glue.in_situ.nn.learner import Fixed, Stream
from analog_glue.in_situ.training.sgd_pulsed import SGDPulsed
from tests.in_situ.helpers import CLEAN, NOISY, largest_correlation


class Recorder(Fixed):
    """Does not learn, but keeps what it should learn from."""

    def update(self, x, d, rate, step):
        vars(self).update(x=x.copy(), d=d.copy())


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


@pytest.mark.slow
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
