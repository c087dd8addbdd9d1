"""Training may see another periphery than that of the chips: no rounding, or output noise of its own."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from analog_glue.devices.ideal import Ideal
from analog_glue.nn.computation import Computation
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.noise_clock import NoiseClock
from analog_glue.nn.placement import Placement
from analog_glue.nn.weight_noise import WeightNoise
from analog_glue.tiles.crossbar import FINEST_BITS, Crossbar
from analog_glue.training.hardware_aware import HardwareAware, InputRange
from analog_glue.training.mode import Preparation
from tests.nn.helpers import draw, random_linear

CHIPS = Crossbar(rows=64, columns=32, dac_bits=4, adc_bits=5, adc_bound=2.0, output_noise=0.0, read_noise=0.0)
QUIET = WeightNoise(law="none")


def layer_in_training(mode: HardwareAware, kernel="reference", product="float32", chips=CHIPS, alpha=2.0):
    """A layer of 32 × 64 weights, prepared by `mode`, its input range calibrated to `alpha`; and the layer it replaces."""
    model = nn.Sequential(random_linear(32, 64))
    plain = random_linear(32, 64)
    hardware = Hardware(Ideal(), chips)
    computation = Computation.resolved(hardware, "cpu", kernel, product)
    preparation = Preparation(
        Placement.of(model, hardware), computation, NoiseClock(0), lambda network: {"0": torch.tensor([alpha])}
    )
    mode.prepare(model, preparation)
    mode.begin_epoch(model, 0, False, preparation)
    return model[0], plain


def hwa(**fields) -> HardwareAware:
    return HardwareAware(epochs=1, digital_epochs=0, weight_noise=QUIET, weight_clip=None, **fields)


def inputs(vectors=16):
    return torch.rand(vectors, 64, generator=draw(3)) - 0.5  # inside the range


@pytest.mark.parametrize("after_clipping", [False, True])
def test_ranges_are_calibrated_before_weights_are_clipped_or_after(after_clipping):
    """Weights are clipped once in either case, and what is calibrated on sees those that it is to see."""
    seen = []
    model = nn.Sequential(random_linear(32, 64))
    whole, hardware = model[0].weight.detach().clone(), Hardware(Ideal(), CHIPS)

    def calibrate(network):
        seen.append(network[0].weight.detach().clone())
        return {"0": torch.tensor([2.0])}

    preparation = Preparation(Placement.of(model, hardware), Computation.resolved(hardware, "cpu"), NoiseClock(0), calibrate)
    mode = replace(hwa(input_range=InputRange(after_clipping=after_clipping)), weight_clip=1.0)
    mode.prepare(model, preparation)
    mode.begin_epoch(model, 0, False, preparation)
    (then,) = seen
    bound = whole.std(correction=0)
    assert torch.allclose(model[0].weight, whole.clamp(-bound, bound), rtol=1e-3)
    assert torch.equal(then, model[0].weight if after_clipping else whole)


def test_shares_of_outputs_are_of_the_toolkits_rule():
    assert InputRange(rule="toolkit", outputs_inside=0.95).outputs_inside == 0.95
    with pytest.raises(ValueError, match="`outputs_inside` must be null where `rule` is clip"):
        InputRange(outputs_inside=0.95)
    with pytest.raises(ValueError, match=r"`outputs_inside` must lie in \[0, 1\]"):
        InputRange(rule="toolkit", outputs_inside=95)


@pytest.mark.parametrize("product", ["float32", "int8", "int8_single"])
def test_without_quantisation_the_forward_pass_rounds_nothing(kernel, product):
    layer, plain = layer_in_training(hwa(quantisation=False), kernel, product)
    exact = plain(inputs())
    assert torch.allclose(layer(inputs()), exact, atol=2e-5)
    rounded, _ = layer_in_training(hwa(), kernel, product)
    assert (rounded(inputs()) - exact).abs().mean() > 0.02  # 4 bits of inputs, 5 of outputs


def test_without_quantisation_ranges_and_bounds_clip_and_learn_all_the_same(kernel):
    roomy = replace(CHIPS, adc_bound=30.0)
    layer, plain = layer_in_training(hwa(quantisation=False), kernel, chips=roomy, alpha=0.2)
    clipped = nn.functional.linear(inputs().clamp(-0.2, 0.2), plain.weight, plain.bias)
    y = layer(inputs())
    assert torch.allclose(y, clipped, atol=2e-5)
    y.sum().backward()
    assert layer.log_input_range.grad.abs().item() > 0.1
    narrow, _ = layer_in_training(hwa(quantisation=False), kernel, chips=replace(CHIPS, adc_bound=0.01))
    full = (narrow.digital_scale() * 2.0 * 0.01).squeeze(0)  # what the bound of the ADC is worth at the output
    assert torch.all((narrow(inputs()) - plain.bias).abs() <= full * 1.0001)


@pytest.mark.parametrize("chips", [CHIPS, replace(CHIPS, adc_bits=None), replace(CHIPS, adc_bits=8, output_noise=3.0)])
@pytest.mark.parametrize("quantisation", [True, False])
def test_output_noise_of_training_has_its_spread_whatever_the_chips_have(chips, quantisation, kernel):
    mode = hwa(quantisation=quantisation, output_noise=0.3)
    quiet = hwa(quantisation=quantisation, output_noise=0.0)
    layer, _ = layer_in_training(mode, kernel, chips=chips)
    without, _ = layer_in_training(quiet, kernel, chips=chips)
    x = inputs(600)
    cells = (layer(x) - without(x)) / (2.0 * layer.digital_scale())  # [full-on cells]
    rounding = 2 * layer.hardware.crossbar.adc.lsb**2 / 12 if quantisation else 0.0  # of both outputs
    assert cells.std().item() == pytest.approx((0.3**2 + rounding) ** 0.5, rel=0.04)  # 19,200 draws: 0.5 %; rest: clipping
    assert cells.mean().abs() < 0.02


def test_by_default_training_sees_the_chips_to_the_bit():
    odd = Crossbar(adc_bits=7, adc_bound=3.3, output_noise=0.37)
    assert HardwareAware().tile_in_training(odd) is odd
    assert hwa(quantisation=False).tile_in_training(odd).dac_bits == FINEST_BITS
    ideal = Crossbar(dac_bits=None, adc_bits=None, output_noise=0.0)
    assert hwa(quantisation=False).tile_in_training(ideal) == ideal  # nothing there that rounds


def test_the_noise_of_the_chips_stays_where_only_rounding_goes():
    tile = hwa(quantisation=False).tile_in_training(Crossbar(adc_bits=8, output_noise=0.508))
    assert tile.output_noise * tile.adc.lsb == pytest.approx(0.04, rel=1e-3)  # [full-on cells], conf/tile/lammie2024.yaml


@pytest.mark.parametrize(("inside", "shrinks"), [(0.95, True), (0.995, False)])
def test_a_range_decays_where_more_than_a_share_of_its_inputs_lies_inside(inside, shrinks):
    ranges = InputRange(rule="toolkit", decay=0.01, inside=inside)
    layer, _ = layer_in_training(hwa(input_range=ranges), alpha=0.49)  # of inputs in ±0.5, 98 % lie inside
    (layer(inputs(200)) * 0).sum().backward()  # nothing but the decay
    assert (layer.log_input_range.grad.item() > 0) == shrinks


@pytest.mark.parametrize(
    ("fields", "key"), [({"output_noise": -0.1}, "output_noise"), ({"input_range": {"inside": 1.5}}, "inside")]
)
def test_values_that_mean_nothing_are_refused(fields, key):
    with pytest.raises(ValueError, match=f"`{key}`"):
        HardwareAware(**{n: InputRange(**v) if isinstance(v, dict) else v for n, v in fields.items()})
