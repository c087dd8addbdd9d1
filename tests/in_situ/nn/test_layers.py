"""Torch layers on pulsed devices: shapes and gradients of torch's own, noise of the periphery, learning, exact resume."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from analog_glue.in_situ.devices.device import padded
from analog_glue.in_situ.devices.soft_bounds import SoftBounds
from analog_glue.in_situ.devices.symmetric_linear import SymmetricLinear
from analog_glue.in_situ.kernels.matvec import FORWARD, analog_product
from analog_glue.in_situ.kernels.rows import analog_rows
from analog_glue.in_situ.nn.convert import InSituModel, on_arrays, to_in_situ, to_torch
from analog_glue.in_situ.nn.layers import InSituLinear, InSituLSTM, InSituOptimizer, arrays_of
from analog_glue.in_situ.nn.learner import Fixed, Stream
from analog_glue.in_situ.training.mode import Periphery
from analog_glue.in_situ.training.sgd_pulsed import SGDPulsed
from analog_glue.in_situ.training.tiki_taka import TikiTaka
from analog_glue.in_situ.training.ttv2 import TTv2

CLEAN = Periphery(
    dac_bits=0, adc_bits=0, output_bound=math.inf, output_noise=0.0, noise_management=False, bound_management=False
)
PAPER = Periphery().forward
IDEAL = SGDPulsed(periphery=CLEAN, output_scale=2.0)
WIDE = SymmetricLinear(dw_min=1e-3, w_max=10.0, dw_min_dtod=0.0, dw_min_std=0.0, w_max_dtod=0.0, up_down_dtod=0.0)


def pair(layer, mode=IDEAL, device=WIDE):
    """An in-situ layer and its twin of torch."""
    return to_in_situ(layer, mode, device, 0), layer


def random(*shape):
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


def updates_of(array):
    """Minus the gradient of the network's weights that the recorded products make."""
    return sum(d[:, : array.learner.outputs].T @ x[:, : array.learner.inputs] for _, x, d in array.records)


CONVOLUTIONS = [
    {"kernel_size": 5},
    {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 2), "bias": False},
    {"kernel_size": 3, "dilation": 2, "padding": 3},
    {"kernel_size": 1, "stride": 3},
]


@pytest.mark.parametrize("keywords", CONVOLUTIONS, ids=str)
def test_a_convolution_with_perfect_periphery_is_that_of_torch_and_so_are_its_gradients(keywords):
    torch.manual_seed(0)
    ours, theirs = pair(nn.Conv2d(3, 7, **keywords))
    x, twin = random(2, 3, 9, 11).requires_grad_(), random(2, 3, 9, 11).requires_grad_()
    y, expected = ours(x), theirs(twin)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    y.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(x.grad, twin.grad, rtol=1e-4, atol=1e-4)
    gradient = theirs.weight.grad.flatten(1)
    if theirs.bias is not None:
        gradient = torch.cat([gradient, theirs.bias.grad[:, None]], 1)
    torch.testing.assert_close(-torch.from_numpy(updates_of(ours.array)), gradient, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(ours(x[0]), theirs(x[0]), rtol=1e-4, atol=1e-5)  # a picture without a batch


@pytest.mark.parametrize("shape", [(6,), (4, 6), (2, 3, 6)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_with_perfect_periphery_is_that_of_torch_and_so_are_its_gradients(shape, bias):
    torch.manual_seed(0)
    ours, theirs = pair(nn.Linear(6, 5, bias))
    x, twin = random(*shape).requires_grad_(), random(*shape).requires_grad_()
    y, expected = ours(x), theirs(twin)
    torch.testing.assert_close(y, expected)
    y.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(x.grad, twin.grad)
    torch.testing.assert_close(-torch.from_numpy(updates_of(ours.array))[:, :6], theirs.weight.grad)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_an_lstm_with_perfect_periphery_is_that_of_torch_and_so_are_its_gradients(batch_first, layers, bias):
    torch.manual_seed(0)
    ours, theirs = pair(nn.LSTM(4, 6, layers, bias, batch_first))
    x, twin = random(5, 3, 4).requires_grad_(), random(5, 3, 4).requires_grad_()
    batch = 5 if batch_first else 3
    state = tuple(random(layers, batch, 6) * factor for factor in (0.5, -0.3))
    (y, last), (expected, expected_last) = ours(x, state), theirs(twin, state)
    for one, other in zip((y, *last), (expected, *expected_last), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    (y.square().sum() + last[1].sum()).backward()
    (expected.square().sum() + expected_last[1].sum()).backward()
    torch.testing.assert_close(x.grad, twin.grad, rtol=1e-4, atol=1e-5)
    for number, array in enumerate(ours.arrays):
        hh, ih = (getattr(theirs, f"weight_{name}_l{number}").grad for name in ("hh", "ih"))
        biases = [getattr(theirs, f"bias_ih_l{number}").grad[:, None]] if bias else []
        gradient = torch.cat([hh, ih, *biases], 1)
        torch.testing.assert_close(-torch.from_numpy(updates_of(array)), gradient, rtol=1e-4, atol=1e-4)
    plain = to_torch(ours)
    torch.testing.assert_close(plain(x, state)[0], expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ours(x[:, 0])[0], theirs(x[:, 0])[0], rtol=1e-4, atol=1e-6)  # a sequence without a batch


def test_outputs_have_the_mean_of_the_product_and_the_noise_of_the_periphery():
    torch.manual_seed(0)
    mode = SGDPulsed(output_scale=2.0, periphery=Periphery(dac_bits=0, adc_bits=0, output_noise=0.06))
    ours, theirs = pair(nn.Linear(20, 40), mode)
    x = random(1, 20).expand(2000, 20)
    error = (ours(x) - theirs(x)).detach().double().numpy()
    sigma = 2.0 * 0.06 * max(float(x.abs().max()), 1.0)  # scale · σ · largest input, the 1 of the bias included
    assert error.std() == pytest.approx(sigma, rel=5 / math.sqrt(2 * error.size))
    assert np.abs(error.mean(0)).max() < 5 * sigma / math.sqrt(len(x))
    assert abs(np.corrcoef(error[0], error[1])[0, 1]) < 5 / math.sqrt(40)


def test_gradients_have_the_noise_of_the_transposed_product():
    torch.manual_seed(0)
    mode = SGDPulsed(output_scale=2.0, periphery=Periphery(dac_bits=0, adc_bits=0, output_noise=0.06))
    ours, theirs = pair(nn.Linear(20, 40), mode)
    x, gradient = random(1, 20).repeat(2000, 1).requires_grad_(), random(1, 40)
    ours(x).backward(gradient.expand(2000, 40))
    error = (x.grad - gradient @ theirs.weight.detach()).double().numpy()
    sigma = 2.0 * 0.06 * float(gradient.abs().max())
    assert error.std() == pytest.approx(sigma, rel=5 / math.sqrt(2 * error.size))
    assert np.abs(error.mean(0)).max() < 5 * sigma / math.sqrt(len(x))


def test_only_forward_products_are_repeated_where_outputs_saturate():
    linear = nn.Linear(64, 64, bias=False)
    nn.init.constant_(linear.weight, 0.6)
    layer, _ = pair(linear, SGDPulsed(output_scale=1.0, periphery=Periphery(dac_bits=0)))
    x = torch.ones(1, 64, requires_grad=True)
    y = layer(x)
    y.backward(torch.ones(1, 64))
    sigma = 4 * math.hypot(0.06, 24 / 510 / math.sqrt(12))  # at inputs that were halved twice
    assert float(y.detach().mean()) == pytest.approx(64 * 0.6, abs=5 * sigma / 8)
    assert torch.all(x.grad == 12)  # the bound


@pytest.mark.parametrize("io", [CLEAN.forward, PAPER, PAPER._replace(noise_management=False, bound_management=False),
                                PAPER._replace(bound=2.0)], ids=str)  # fmt: skip
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(9, 26, 16), (6, 50, 150)])
def test_rows_are_the_products_of_one_at_a_time_with_the_same_noise(io, rows, inputs, outputs):
    generator = np.random.default_rng(0)
    weights = padded(generator.uniform(-0.6, 0.6, (inputs, outputs)).astype(np.float32))
    xs = generator.uniform(-1, 1, (rows, inputs)).astype(np.float32)
    xs[2] = 0
    out, expected = np.empty((rows, outputs), np.float32), np.empty((rows, outputs), np.float32)
    work = np.empty(inputs, np.float32), np.empty(-(-outputs // 128) * 128, np.float32)
    names, k = (np.uint32(3), np.uint32(5), np.uint32(7)), np.arange(inputs)
    analog_rows(out, weights, xs, inputs, io, 2.0, FORWARD, 11, *names)
    for r in range(rows):
        analog_product(expected[r], weights, xs[r], k, inputs, io, 2.0, FORWARD, 11 + r, *names, *work)
    lsb = 2 * 2 * io.bound / io.adc_steps if io.adc_steps else 0
    wrong = np.abs(out - expected) > 1e-4
    assert wrong.mean() < 0.01 and np.all(np.abs(out - expected) < 1e-4 + 1.01 * lsb)  # a code may round the other way
    assert np.all(out[2] == 0)


def test_a_row_does_not_depend_on_the_rows_beside_it():
    x = random(12, 30)
    whole = to_in_situ(nn.Linear(30, 9), SGDPulsed(), SoftBounds(), 0)
    parts = to_in_situ(to_torch(whole), SGDPulsed(), SoftBounds(), 0)
    assert torch.equal(whole(x), torch.cat([parts(x[:7]), parts(x[7:])]))


def test_a_step_is_gradient_descent_on_average_for_arrays_and_exactly_for_the_rest():
    def network():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3))

    model, twin = to_in_situ(network(), IDEAL, WIDE, 0), network()
    optimizer, x, rate, step = InSituOptimizer(model, lr=0.002), random(100, 6), 0.002, 2.0 * 1e-3  # scale · dw_min
    for each in (model, twin):
        each(x).square().sum().backward()
    before = [array.weight() for array in arrays_of(model)]
    paths = [rate * np.abs(d[:, : array.learner.outputs]).T @ np.abs(x[:, : array.learner.inputs])
             for array in arrays_of(model) for _, x, d in array.records]  # fmt: skip
    optimizer.step()
    torch.optim.SGD(twin.parameters(), rate).step()
    torch.testing.assert_close(model[1].weight, twin[1].weight)
    for array, layer, old, path in zip(arrays_of(model), (twin[0], twin[2]), before, paths, strict=True):
        new = torch.cat([layer.weight, layer.bias[:, None]], 1).detach().numpy()
        moved, expected = (array.weight() - old).astype(np.float64), (new - old).astype(np.float64)
        slope = (moved * expected).sum() / (expected**2).sum()
        # Numbers of coincidences spread at most as Poisson's do: a device's walk has the variance step · path.
        spread = math.sqrt((expected**2 * step * path).sum()) / (expected**2).sum()
        assert spread < 0.1 and abs(slope - 1) < 5 * spread
    assert not any(array.records for array in arrays_of(model))


def test_an_array_learns_in_the_order_of_its_products_not_of_the_backward_pass():
    torch.manual_seed(0)
    layer, linear = pair(nn.Linear(6, 6), IDEAL, SoftBounds(dw_min=0.02))
    twin = to_in_situ(linear, IDEAL, SoftBounds(dw_min=0.02), 0).array.learner
    optimizer, values = InSituOptimizer(layer, lr=0.5), [random(1, 6)]
    for _ in range(3):  # its own outputs are its next inputs, so the last product's gradient is known first
        values.append(layer(values[-1]))
        values[-1].retain_grad()
    values[-1].square().sum().backward()
    x = torch.cat([torch.cat(values[:-1]).detach(), torch.ones(3, 1)], 1).numpy()
    twin.update(padded(x), padded(-torch.cat([y.grad for y in values[1:]]).numpy()), 0.5 / 2.0, 0)
    before = layer.array.weight()
    optimizer.step()
    after = twin.weights()[:, :7] * np.float32(2.0)
    assert np.array_equal(layer.array.weight(), after) and not np.array_equal(before, after)


def test_records_without_a_step_are_forgotten_by_zero_grad_and_scores_leave_none():
    model = to_in_situ(nn.Linear(6, 3), IDEAL, WIDE, 0)
    optimizer = InSituOptimizer(model, lr=0.1)
    before = model.array.weight()
    model(random(4, 6)).sum().backward()
    optimizer.zero_grad()
    optimizer.step()
    model.eval()(random(4, 6)).sum().backward()
    optimizer.step()
    assert np.array_equal(model.array.weight(), before)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [
    SGDPulsed(output_scale=1.0), TikiTaka(output_scale=1.0, transfer_every=1, transfer_rate=0.02),
    TTv2(output_scale=1.0, transfer_every=1, transfer_rate=0.1),
], ids=lambda mode: type(mode).__name__)  # fmt: skip
def test_a_small_network_learns_a_known_function(mode):
    torch.manual_seed(0)
    random_numbers = np.random.default_rng(0)
    target = torch.from_numpy(random_numbers.uniform(-0.3, 0.3, (4, 8)).astype(np.float32))
    linear = nn.Linear(8, 4)
    nn.init.zeros_(linear.weight)
    device = SymmetricLinear(dw_min=0.005) if isinstance(mode, SGDPulsed) else SoftBounds(dw_min=0.005)
    model = to_in_situ(linear, mode, device, 0)
    optimizer = InSituOptimizer(model, lr=0.02)
    for _ in range(1000):
        x = torch.from_numpy(random_numbers.standard_normal((10, 8)).astype(np.float32))
        optimizer.zero_grad()
        (0.5 * (model(x) - x @ target.T).square()).sum().backward()
        optimizer.step()
    error = torch.from_numpy(model.array.weight()[:, :8]) - target
    assert float(error.square().mean().sqrt()) < 0.05  # the target's own size is 0.17


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.LayerNorm(64), nn.Linear(64, 3))


@pytest.mark.parametrize("kind", [SGDPulsed, TikiTaka, TTv2])
def test_a_state_dict_resumes_bit_for_bit(kind):
    mode = kind(output_scale=1.0)

    def run(model, steps):
        optimizer = InSituOptimizer(model, lr=0.1)
        for step in steps:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(random(8, 1, 6, 6)[step : step + 1]), torch.tensor([step % 3])).backward()
            optimizer.step()
        return model

    whole = run(to_in_situ(small_network(), mode, SoftBounds(dw_min=0.02), 0), range(8))
    half = run(to_in_situ(small_network(), mode, SoftBounds(dw_min=0.02), 0), range(4))
    saved = {name: tensor.clone() for name, tensor in half.state_dict().items()}
    other = to_in_situ(small_network(), mode, SoftBounds(dw_min=0.02), 0)
    other.load_state_dict(saved)
    run(other, range(4, 8))
    expected = whole.state_dict()
    assert set(expected) == set(saved) and all(torch.equal(expected[name], t) for name, t in other.state_dict().items())
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({name: tensor for name, tensor in saved.items() if "counts" not in name})


def test_names_choose_the_layers_and_mistakes_are_named():
    model = to_in_situ(small_network(), IDEAL, WIDE, 0, modules=("*", "!0"))
    assert type(model[0]) is nn.Conv2d and type(model[4]) is InSituLinear
    with pytest.raises(ValueError, match=r"'decoder' matches none. The model's linear, convolutional or LSTM layers are 0, 4"):
        to_in_situ(small_network(), IDEAL, WIDE, 0, modules=("decoder",))
    with pytest.raises(ValueError, match="leaves none"):
        to_in_situ(small_network(), IDEAL, WIDE, 0, modules=("*", "!*"))
    with pytest.raises(ValueError, match="one direction"):
        to_in_situ(nn.LSTM(3, 4, bidirectional=True), IDEAL, WIDE, 0)
    with pytest.raises(ValueError, match="one group"):
        to_in_situ(nn.Conv2d(4, 4, 3, groups=2), IDEAL, WIDE, 0)


def test_the_scores_of_other_arrays_leave_the_model_as_it_is():
    model = to_in_situ(small_network(), SGDPulsed(output_scale=2.0), SoftBounds(), 0).eval()
    network = InSituModel(model)
    weights = [np.zeros_like(array.weight()) for array in network.arrays]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    blank = on_arrays(model, [Fixed.of(w) for w in weights], CLEAN.forward, Stream.of(1, 0))
    assert torch.all(blank(random(2, 1, 6, 6)) == 0)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert blank[3].weight is model[3].weight  # what is no array is shared
    plain = to_torch(model, [array.weight() for array in network.arrays])
    assert isinstance(plain[0], nn.Conv2d)
    assert torch.equal(plain[4].weight, torch.from_numpy(network.arrays[1].weight()[:, :64]))


@pytest.mark.slow
def test_an_lstm_of_torch_learns_in_situ_to_count():
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("lstm", nn.LSTM(5, 16))
    model.add_module("decoder", nn.Linear(16, 5))
    to_in_situ(model, SGDPulsed(output_scale=1.0), SymmetricLinear(dw_min=0.002), 0)
    assert isinstance(model.lstm, InSituLSTM)
    optimizer = InSituOptimizer(model, lr=0.05)
    text, losses, state = torch.arange(20 * 90 + 1) % 5, [], None
    for first in range(0, 20 * 90, 20):
        optimizer.zero_grad()
        one_hot = nn.functional.one_hot(text[first : first + 20], 5).float()[:, None]
        outputs, state = model.lstm(one_hot, state)
        state = tuple(part.detach() for part in state)
        loss = nn.functional.cross_entropy(model.decoder(outputs[:, 0]), text[first + 1 : first + 21], reduction="sum")
        loss.backward()
        optimizer.step()
        losses.append(loss.item() / 20)
    assert np.mean(losses[:5]) > 1.0 and np.mean(losses[-5:]) < 0.4  # ln 5 = 1.6 at first
