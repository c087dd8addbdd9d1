"""One layer on tiles: it is a linear layer where nothing disturbs it, and its gradients are those of what it computed."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from analog_glue.devices.ideal import Ideal
from analog_glue.devices.pcm import PCM
from analog_glue.devices.reram import ReRAM
from analog_glue.kernels.products import make_product
from analog_glue.nn.computation import Computation
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.linear import AnalogLinear
from analog_glue.nn.noise_clock import NoiseClock
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.nn.weight_noise import WeightNoise
from analog_glue.tiles.crossbar import Crossbar
from tests.nn.helpers import IDEAL, NO_NOISE, NOISY, assert_unchanged, draw, programmed, random_linear, state_of

QUIET = Crossbar(rows=10, columns=8, output_noise=0.0, read_noise=0.0)


def analog(
    linear, crossbar, weight_noise=NO_NOISE, device=None, input_range=None, kernel="reference", product="float32", **options
):
    hardware = Hardware(device or Ideal(), crossbar)
    computation = Computation.resolved(hardware, "cpu", kernel, product)
    grid = crossbar.grid(*linear.weight.shape)
    layer = AnalogLinear(linear, "layer", grid, hardware, computation, weight_noise, NoiseClock(0), **options)
    if input_range is not None:
        layer.input_range = input_range
    layer.on_tiles = True
    return layer


@pytest.mark.parametrize("scale_per", ["column", "tile"])
@pytest.mark.parametrize("shape", [(5, 7), (8, 10), (23, 31)])
def test_an_analog_layer_on_ideal_tiles_is_a_linear_layer_forward_and_backward(shape, scale_per, kernel):
    linear = random_linear(*shape)
    x = torch.randn(2, 3, shape[1], generator=draw(1), requires_grad=True)
    weights_of_loss = torch.randn(2, 3, shape[0], generator=draw(2))

    def results(layer):
        for tensor in (x, layer.weight, layer.bias):
            tensor.grad = None
        y = layer(x)
        (y * weights_of_loss).sum().backward()
        return y.detach(), x.grad.clone(), layer.weight.grad.clone(), layer.bias.grad.clone()

    plain = results(linear)
    layer = analog(linear, Crossbar(**{**vars(IDEAL), "scale_per": scale_per}), kernel=kernel)
    assert layer.weight is linear.weight  # the very parameters
    assert layer.bias is linear.bias
    for got, expected in zip(results(layer), plain, strict=True):
        assert torch.allclose(got, expected, atol=1e-5, rtol=1e-5)


def test_a_new_layer_is_digital():
    linear, x = random_linear(5, 7), torch.randn(4, 7, generator=draw(1))
    layer = analog(linear, NOISY, WeightNoise(), PCM())
    layer.on_tiles = False
    assert torch.equal(layer(x), linear(x))


def test_a_layer_without_bias_learns_one_as_the_offset_of_its_columns(kernel):
    linear = nn.Linear(7, 5, bias=False)
    layer = analog(linear, IDEAL, kernel=kernel)
    x = torch.randn(4, 7, generator=draw(1))
    assert torch.allclose(layer(x), linear(x), atol=1e-6)
    layer(x).sum().backward()
    assert layer.bias.grad.tolist() == [4.0] * 5


def reference(x, weight, bias, log_range, output_scale, crossbar, noise=0.0):
    """The layer written plainly, for autograd: converters round straight through, clipping has its own derivative.

    `noise`: what weight noise added to the normalised weights [row blocks, outputs, rows], a constant.
    """
    grid = crossbar.grid(*weight.shape)
    lsb, full = 2 * crossbar.adc_bound / (2**crossbar.adc_bits - 2), 2 ** (crossbar.adc_bits - 1) - 1
    y = bias
    start = 0
    for block, rows in enumerate(grid.row_blocks):
        w = weight[:, start : start + rows]
        scale = w.detach().abs().amax(dim=1)
        noisy = w + scale.unsqueeze(1) * (noise[block, :, :rows] if torch.is_tensor(noise) else 0)
        used = noisy * output_scale[block].unsqueeze(1)
        bound = log_range[block].exp()
        clipped = torch.minimum(torch.maximum(x[:, start : start + rows], -bound), bound)
        read = clipped + ((clipped / bound * 127).round() / 127 * bound - clipped).detach()
        current = read @ used.t()
        step = bound * scale * output_scale[block] * lsb
        code = (current / step).round().detach()
        at_bound = step * full * code.sign()
        inside = current + (code * step - current).detach()
        y = y + torch.where(code.abs() >= full, at_bound, inside)
        start += rows
    return y


@pytest.mark.parametrize("adc_bound", [10.0, 1.0, 0.2])
@pytest.mark.parametrize("input_range", [10.0, 1.0, 0.3])
@pytest.mark.parametrize("weight_noise", [NO_NOISE, WeightNoise(scale=3.0)], ids=["exact weights", "noisy weights"])
def test_the_hand_written_gradients_are_those_of_autograd(adc_bound, input_range, weight_noise, kernel):
    crossbar = Crossbar(**{**vars(QUIET), "adc_bound": adc_bound})
    linear = random_linear(9, 25)
    ranges = input_range * torch.tensor([1.0, 1.3, 0.8])
    layer = analog(linear, crossbar, weight_noise, PCM(), ranges, kernel).train()
    with torch.no_grad():
        layer.output_scale.copy_(0.5 + torch.rand(layer.output_scale.shape, generator=draw(4)))
    x = torch.randn(12, 25, generator=draw(1), requires_grad=True)
    weights_of_loss = torch.randn(12, 9, generator=draw(2))
    parameters = [x, layer.weight, layer.bias, layer.log_input_range, layer.output_scale]

    noise = 0.0
    if weight_noise.is_on:
        blocks = layer.grid.to_blocks(linear.weight.detach())
        scale = blocks.abs().amax(dim=2)
        noise_key = layer.clock.key("layer", "weight noise")
        noise = weight_noise.noisy(linear.weight.detach(), scale, layer.grid, PCM(), noise_key, kernel)
        noise = noise - blocks / scale.unsqueeze(2)
    expected = reference(*parameters, crossbar, noise)
    expected_gradients = torch.autograd.grad((expected * weights_of_loss).sum(), parameters)
    y = layer(x)
    gradients = torch.autograd.grad((y * weights_of_loss).sum(), parameters)

    assert torch.allclose(y, expected, atol=1e-4)
    for got, wanted in zip(gradients, expected_gradients, strict=True):
        assert torch.allclose(got, wanted, atol=1e-4 * wanted.abs().max().item() + 1e-5)
    # Without clipping a range has no gradient; here the widest range clips no DAC, and its currents only the tightest ADC.
    assert gradients[3].any() == (input_range < 10 or adc_bound < 1)


CASES = [
    pytest.param({"adc_bound": bound}, input_range, rule, id=f"ADC to {bound}, DAC to {input_range}, {rule}")
    for bound, input_range, rule in ((10.0, 10.0, "clip"), (10.0, 0.5, "clip"), (0.3, 10.0, "clip"), (0.3, 0.5, "toolkit"))
] + [
    pytest.param({"dac_bits": 12}, 0.5, "clip", id="float codes"),
    pytest.param({"dac_bits": None, "adc_bits": None}, 1.0, "clip", id="no converters"),
    pytest.param({"scale_per": "tile"}, 1.0, "clip", id="scale per tile"),
    pytest.param({"ir_drop": 1.0}, 1.0, "clip", id="wires"),
]


@pytest.mark.parametrize("product", ["float32", "int8", "int8_single"])
@pytest.mark.parametrize(("fields", "input_range", "rule"), CASES)
def test_both_kernels_have_the_same_gradients(fields, input_range, rule, product):
    crossbar = Crossbar(**{**vars(QUIET), **fields})
    linear = random_linear(23, 47)
    x = torch.randn(40, 47, generator=draw(1), requires_grad=True)
    weights_of_loss = torch.randn(40, 23, generator=draw(2))
    results = []
    for kernel in ("reference", "compiled"):
        ranges = input_range * torch.tensor([1.0, 1.3, 0.8, 1.1, 0.9])
        options = {"range_rule": rule, "range_decay": 0.01 if rule == "toolkit" else 0.0}
        layer = analog(linear, crossbar, input_range=ranges, kernel=kernel, product=product, **options)
        with torch.no_grad():
            layer.output_scale.copy_(0.5 + torch.rand(layer.output_scale.shape, generator=draw(4)))
        y = layer(x)
        wanted = [x, layer.weight, layer.bias, layer.log_input_range, layer.output_scale]
        results.append([y.detach(), *torch.autograd.grad((y * weights_of_loss).sum(), wanted)])
    for one, other in zip(*results, strict=True):
        assert (one - other).abs().max() <= 1e-6 * one.abs().max()


@pytest.mark.parametrize("product", ["float32", "int8", "int8_single"])
@pytest.mark.parametrize(
    "weight_noise",
    [NO_NOISE, WeightNoise(), WeightNoise(mirrored=True), WeightNoise(law="relative", scale=0.1)],
    ids=["none", "programming", "mirrored", "relative"],
)
@pytest.mark.parametrize("device", [PCM(), ReRAM()], ids=["pcm", "reram"])
def test_a_gradient_comes_back_through_the_very_weights_that_were_used(device, weight_noise, product, kernel):
    """Read by one-hot inputs of full scale, without ADC and noise of the periphery; backward has to draw them again."""
    crossbar = Crossbar(**{**vars(QUIET), "adc_bits": None})
    linear = random_linear(9, 25)
    ranges = torch.tensor([2.0, 3.0, 1.5])
    layer = analog(linear, crossbar, weight_noise, device, ranges, kernel, product).train()
    with torch.no_grad():
        layer.output_scale.copy_(0.5 + torch.rand(layer.output_scale.shape, generator=draw(4)))
    full_scale = layer.grid.spread_over_rows(ranges)
    used = ((layer(torch.diag(full_scale)) - layer.bias).t() / full_scale).detach()
    if weight_noise.is_on:
        assert (used - layer.effective_weight()).abs().mean() > 1e-3

    x = torch.rand(12, 25, generator=draw(1)).requires_grad_()  # inside the ranges
    g = torch.randn(12, 9, generator=draw(2))
    y = layer(x)
    to_x, to_scale = torch.autograd.grad(y, [x, layer.output_scale], g)
    assert torch.allclose(to_x, g @ used, atol=1e-5)
    seen = (x.detach() / full_scale * 127).round() / 127 * full_scale
    assert torch.allclose(y, seen @ used.t() + layer.bias, atol=2e-5)
    by_weight = layer.grid.to_blocks((g.t() @ seen) * used).sum(dim=2) / layer.output_scale
    assert torch.allclose(to_scale, by_weight, atol=1e-4)


@pytest.mark.parametrize("product", ["float32", "int8", "int8_single"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_step_leaves_the_master_weights_as_they_are(mirrored, product, kernel):
    layer = analog(random_linear(9, 25), NOISY, WeightNoise(mirrored=mirrored), PCM(), torch.full((3,), 1.0), kernel, product)
    before = state_of(layer)
    x = torch.randn(12, 25, generator=draw(1))
    for _ in range(2):
        y = layer.train()(x)
        assert_unchanged(layer, before)
        y.square().sum().backward()
        assert_unchanged(layer, before)
    assert layer.weight.grad.any()


def test_the_gradient_does_not_depend_on_the_noise_of_the_outputs_where_nothing_clips(kernel):
    linear = random_linear(9, 25)
    x = torch.randn(12, 25, generator=draw(1), requires_grad=True)
    gradients = []
    for crossbar in (QUIET, Crossbar(**{**vars(QUIET), "output_noise": 5.0})):
        layer = analog(linear, crossbar, input_range=torch.full((3,), 5.0), kernel=kernel)
        gradients.append(torch.autograd.grad(layer(x).sum(), [x, layer.weight, layer.output_scale]))
    for quiet, noisy in zip(*gradients, strict=True):
        assert torch.equal(quiet, noisy)


def test_the_toolkits_rule_only_ever_widens_a_range_and_the_decay_narrows_it(kernel):
    linear = random_linear(9, 20)
    x = torch.randn(300, 20, generator=draw(1))
    for target in (2.0, 0.0):  # the loss wants larger or smaller outputs
        for rule, decay in (("toolkit", 0.0), ("toolkit", 1e6), ("clip", 0.0)):
            ranges = torch.full((2,), 2.5)
            layer = analog(linear, QUIET, input_range=ranges, kernel=kernel, range_rule=rule, range_decay=decay)
            ((layer(x) - target * linear(x).detach()) ** 2).mean().backward()
            gradient = layer.log_input_range.grad
            if rule == "clip":
                assert (gradient > 0).all() == (target == 0.0)
            elif decay == 0:
                assert (gradient <= 0).all()
            else:
                assert (gradient > 0).all()  # 1.2 % of the inputs are clipped: more than 95 % lie inside


@pytest.mark.parametrize("inside", [None, 0.95, 0.2])
def test_the_toolkits_rule_widens_a_range_where_too_few_outputs_lie_within_the_bound(kernel, inside):
    """Of two row blocks the first has the larger currents; no input is clipped, so nothing else moves its range."""
    linear = random_linear(8, 20)  # columns of one tile
    crossbar = replace(QUIET, adc_bits=8, adc_bound=0.25, scale_per="tile")
    x = torch.randn(300, 20, generator=draw(1))
    ranges = torch.tensor([5.0, 12.0])
    layer = analog(linear, crossbar, input_range=ranges, kernel=kernel, range_rule="toolkit", range_outputs_inside=inside)
    layer(x).sum().backward()
    scale = layer.digital_scale()
    currents = torch.stack([x[:, part] @ (linear.weight[:, part] / scale[b].unsqueeze(1)).T / ranges[b]
                            for b, part in enumerate((slice(0, 10), slice(10, 20)))])  # fmt: skip
    outside = (currents.detach().abs() > 0.25 * 126.5 / 127).float().mean(dim=(1, 2))  # codes of the ADC's bound
    assert (x.abs() < 5).all() and 0.05 < outside[0] < 0.8
    expected = torch.zeros(2) if inside is None else -outside * ranges.square() * (outside > 1 - inside)
    assert torch.allclose(layer.log_input_range.grad, expected, rtol=0.05, atol=1e-6)


def test_evaluation_keeps_nothing_for_a_backward_pass(kernel):
    layer = analog(random_linear(9, 25), NOISY, input_range=torch.full((3,), 3.0), kernel=kernel)
    x = torch.randn(12, 25, generator=draw(1))
    with torch.no_grad():
        y = layer(x)
    assert not y.requires_grad
    assert torch.equal(y, layer(x).detach())  # and the same numbers


def test_weight_noise_acts_in_training_and_not_in_evaluation(kernel):
    linear, x = random_linear(9, 25), torch.randn(12, 25, generator=draw(1))
    noisy = analog(linear, QUIET, WeightNoise(), PCM(), torch.full((3,), 5.0), kernel)
    exact = analog(linear, QUIET, input_range=torch.full((3,), 5.0), kernel=kernel)
    assert not torch.equal(noisy.train()(x), exact(x))
    assert torch.equal(noisy.eval()(x), exact(x))


@pytest.fixture
def products(monkeypatch):
    """Kinds of products that layers were made ready for, as on a CPU with fast products of 8-bit integers."""
    kinds = []

    def note(weights, kind, *kernel):
        kinds.append(kind)
        return make_product(weights, kind, *kernel)

    monkeypatch.setattr("analog_glue.kernels.integer_product.is_fast", lambda *tile: True)
    monkeypatch.setattr("analog_glue.tiles.operands.make_product", note)
    return kinds


@pytest.mark.parametrize(
    ("device", "weight_noise", "in_training"),
    [
        (PCM(), WeightNoise(), "int8_single"),
        (PCM(), WeightNoise(scale=0.5), "int8"),
        (PCM(noise_scale=0.5), WeightNoise(), "int8"),
        (Ideal(), WeightNoise(), "int8"),
        (Ideal(), WeightNoise(law="relative", scale=0.05), "int8_single"),
        (PCM(), NO_NOISE, "int8"),
    ],
)
def test_weights_in_training_are_of_8_bits_only_beside_noise_of_their_own(products, device, weight_noise, in_training, kernel):
    ranges = torch.full((3,), 5.0)
    layer = analog(random_linear(9, 25), NOISY, weight_noise, device, ranges, kernel, product="auto")
    x = torch.randn(12, 25, generator=draw(1))
    layer.train()(x)
    layer.eval()(x)
    assert products == [in_training, "int8"]


@pytest.mark.parametrize(
    ("device", "kind"),
    [(PCM(), "int8_single"), (ReRAM(), "int8_single"), (PCM(noise_scale=0.5), "int8"), (Ideal(), "int8")],
)
def test_weights_of_a_chip_are_of_8_bits_only_beside_noise_of_their_own(products, device, kind, kernel):
    hardware = Hardware(device, NOISY)
    model = nn.Sequential(random_linear(9, 25))
    chip = programmed(model, hardware, {"0": LayerPeriphery(torch.full((3,), 5.0))}, chip=0, product="auto", kernel=kernel)
    chip.set_time(1.0)
    chip.ready_to_score(False)(torch.randn(12, 25, generator=draw(1)))
    assert products == [kind]


@pytest.mark.parametrize("crossbar", [IDEAL, Crossbar(**{**vars(QUIET), "dac_bits": 12})], ids=["ideal DAC", "12-bit DAC"])
def test_inputs_that_are_no_8_bit_integers_are_multiplied_as_floats(products, crossbar, kernel):
    layer = analog(random_linear(9, 25), crossbar, WeightNoise(), PCM(), torch.full((3,), 5.0), kernel, product="auto")
    layer.train()(torch.randn(12, 25, generator=draw(1)))
    assert products == ["float32"]
