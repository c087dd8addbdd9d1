"""One non-ideality less: what is left draws the same numbers, and each one alone is what can be computed by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from analog_glue.configuration.build import as_annotated, build
from analog_glue.configuration.compose import conf_dir
from analog_glue.devices.ideal import Ideal
from analog_glue.devices.pcm import PCM, drift_exponent_law, programming_error_std
from analog_glue.devices.reram import ReRAM
from analog_glue.kernels.gaussian import NormalStream
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.tiles.crossbar import Crossbar
from tests.nn.helpers import draw, programmed, random_linear

MONTH = 2_592_000.0  # [s]
N_DEVICES = 200_000
SAMPLING = 5 / math.sqrt(2 * N_DEVICES)
OUTPUTS, INPUTS = 24, 40
TILE = Crossbar(rows=64, columns=64, ir_drop=1.0)
ALPHA = 2.0  # input range


def options(group):
    from omegaconf import OmegaConf

    files = sorted((conf_dir() / group).glob("*.yaml"))
    return {file.stem: build(as_annotated(OmegaConf.to_container(OmegaConf.load(file)), group), group) for file in files}


def chip_of(hardware, kernel="reference", chip=0):
    """One layer on a chip, its weights and the inputs."""
    model = nn.Sequential(random_linear(OUTPUTS, INPUTS))
    return programmed(model, hardware, {"0": LayerPeriphery(torch.tensor([ALPHA]))}, chip=chip, kernel=kernel), model[0]


def inputs(vectors=500):
    return torch.randn(vectors, INPUTS, generator=draw(7))


@torch.no_grad()
def outputs_of(hardware, kernel="reference", t=MONTH, compensated=False):
    chip, _ = chip_of(hardware, kernel)
    chip.set_time(t)
    return chip.ready_to_score(compensated)(inputs())


# --- every option --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", options("tile"))
@pytest.mark.parametrize("noise", options("noise"))
def test_without_all_of_them_hardware_is_a_linear_layer(noise, tile):
    full = Hardware(options("noise")[noise], options("tile")[tile])
    bare = full.only("")
    assert bare.is_deterministic and not bare.non_idealities and not bare.device.drifts
    chip, layer = chip_of(bare)
    chip.set_time(MONTH)
    with torch.no_grad():
        assert torch.allclose(chip.ready_to_score(False)(inputs()), layer(inputs()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tile", options("tile"))
@pytest.mark.parametrize("noise", options("noise"))
def test_one_less_is_one_less_and_one_alone_is_one(noise, tile):
    full = Hardware(options("noise")[noise], options("tile")[tile])
    for name in full.non_idealities:
        less = full.without(name).non_idealities
        finest = name == "adc" and full.crossbar.output_noise > 0  # an ADC stays that gives the noise its unit
        assert set(less) == set(full.non_idealities) - ({name} - ({"adc"} if finest else set()))
        assert set(full.only(name).non_idealities) - {"adc"} == {name} - {"adc"}


def test_devices_say_what_they_have():
    assert list(PCM().non_idealities) == ["programming noise", "mean drift", "drift spread", "1/f noise"]
    assert list(PCM(noise_scale=0.0).non_idealities) == ["mean drift", "drift spread"]
    assert list(ReRAM().non_idealities) == ["conductance spread"]
    assert not Ideal().non_idealities and not ReRAM(noise_scale=0.0).non_idealities
    assert "ir drop" not in Crossbar().non_idealities and "ir drop" in TILE.non_idealities


# --- what is left draws the same numbers ----------------------------------------------------------------


@pytest.mark.parametrize("name", Hardware(PCM(), TILE).non_idealities)
def test_one_less_leaves_the_bits_of_all_other_draws(name, kernel):
    full = Hardware(PCM(), TILE)
    chip, _ = chip_of(full, kernel)
    other, _ = chip_of(full.without(name), kernel)
    ours, theirs = chip.layers["0"]._array.active, other.layers["0"]._array.active
    assert torch.equal(theirs.error, torch.zeros_like(ours.error) if name == "programming noise" else ours.error)
    if name == "drift spread":
        assert torch.equal(theirs.nu, drift_exponent_law(ours.g_target / 25)[0].half())
    elif name == "mean drift":
        spread = ours.nu.float() - drift_exponent_law(ours.g_target / 25)[0]
        assert torch.allclose(theirs.nu.float(), spread, atol=1e-4)  # of a float16 up to 0.25
    else:
        assert torch.equal(theirs.nu, ours.nu)
    one, two = (array.device.conductance(array.active, MONTH, NormalStream("1/f", kernel=kernel))
                for array in (chip.layers["0"]._array, other.layers["0"]._array))  # fmt: skip
    if name not in full.device.non_idealities:
        assert torch.equal(one, two)
    elif name != "1/f noise":  # the fluctuation, relative to what has drifted
        drifted = [array.g_prog * ((MONTH + 20) / 20) ** -array.nu.float() for array in (ours, theirs)]
        clear = (drifted[0] > 0.5) & (drifted[1] > 0.5)
        fluctuations = [(g / d)[clear] for g, d in zip((one, two), drifted, strict=True)]
        assert clear.sum() > 200 and torch.allclose(*fluctuations, rtol=1e-4)


def test_the_noise_of_products_is_the_same_number_whatever_surrounds_it(kernel):
    """ξ, recovered from outputs without ADC: of read and output noise together, and of each alone, on any devices."""

    def noise_of(hardware):
        quiet = replace(hardware, crossbar=replace(hardware.crossbar, read_noise=0.0, output_noise=0.0, adc_bits=None))
        return outputs_of(hardware, kernel) - outputs_of(quiet, kernel)

    full = Hardware(PCM(), Crossbar(rows=64, columns=64)).without("adc")
    output_alone = noise_of(full.without("read noise"))
    # Equal but for the rounding of float32 where the 24-bit ADC counts, and for its steps.
    assert torch.allclose(noise_of(full.only("output noise")), output_alone, atol=1e-3 * output_alone.std().item() + 3e-4)
    # With read noise the variance differs from output to output, but every number keeps its sign.
    for other in (
        full,
        full.without("output noise"),
        *(full.without(name) for name in ("dac", "programming noise", "1/f noise")),
    ):
        same_sign = noise_of(other).sign() == output_alone.sign()
        assert same_sign.float().mean() > 0.999


def test_the_output_noise_keeps_its_size_without_its_adc():
    crossbar = Hardware(Ideal(), Crossbar()).without("adc").crossbar
    assert crossbar.output_noise * crossbar.adc.lsb == pytest.approx(0.5 * Crossbar().adc.lsb)
    assert crossbar.adc.lsb < Crossbar().adc.lsb / 300 and crossbar.adc.full_scale * crossbar.adc.lsb >= crossbar.rows


# --- one alone ------------------------------------------------------------------------------------------


def test_the_dac_alone_rounds_the_inputs():
    _, layer = chip_of(Hardware(Ideal(), TILE))
    codes = torch.clamp(torch.round(inputs() * (127 / ALPHA)), -127, 127)
    by_hand = F.linear(codes * (ALPHA / 127), layer.weight, layer.bias)
    only = outputs_of(Hardware(PCM(), TILE).only("dac"))
    assert torch.allclose(only, by_hand, rtol=1e-5, atol=1e-5)
    assert (inputs().abs() > ALPHA).any() and not torch.allclose(only, layer(inputs()), atol=1e-2)


def test_the_adc_alone_rounds_and_clips_the_outputs():
    tile = replace(TILE, adc_bits=6, adc_bound=4.0)
    only = outputs_of(Hardware(PCM(), tile).only("adc"))
    _, layer = chip_of(Hardware(Ideal(), TILE))
    scale = layer.weight.abs().amax(dim=1)  # of a column
    lsb = 2 * 4.0 / 62
    currents = inputs() @ (layer.weight / scale[:, None]).T / ALPHA  # [full-on cells]
    codes = torch.clamp(torch.round(currents / lsb), -31, 31)
    by_hand = codes * lsb * ALPHA * scale + layer.bias
    assert (codes.abs() == 31).any()
    off = (only - by_hand).abs() > 1e-4
    assert off.float().mean() < 1e-3  # currents at the edge of a code, which float32 may put on either side


@pytest.mark.parametrize("ghat", [0.1, 0.5, 1.0])
def test_programming_noise_alone_is_the_law_at_any_age(ghat, kernel):
    device = Hardware(PCM(), TILE).only("programming noise").device
    targets = torch.full((N_DEVICES,), 25 * ghat)
    array = device.program(targets, NormalStream("p", kernel=kernel))
    g = [device.conductance(array, t, NormalStream("r", t, kernel=kernel)) for t in (0.0, MONTH)]
    assert torch.equal(*g)
    law = programming_error_std(targets[:1], 25.0).item()
    assert (g[0] - targets).std().item() == pytest.approx(law, rel=SAMPLING)
    assert (g[0] - targets).mean().item() == pytest.approx(0, abs=5 * law / math.sqrt(N_DEVICES))


@pytest.mark.parametrize("ghat", [0.1, 0.5, 1.0])
def test_each_half_of_the_drift_alone(ghat):
    targets = torch.full((N_DEVICES,), 25 * ghat)
    mean, spread = (value.item() for value in drift_exponent_law(torch.tensor([ghat])))
    decades = math.log((MONTH + 20) / 20)
    noise = NormalStream("p")
    only_mean = Hardware(PCM(), TILE).only("mean drift").device
    g = only_mean.conductance(only_mean.program(targets, noise), MONTH, noise)
    assert torch.allclose(g, targets * math.exp(-mean * decades), rtol=decades * 4e-5)  # ν is a float16
    only_spread = Hardware(PCM(), TILE).only("drift spread").device
    g = only_spread.conductance(only_spread.program(targets, noise), MONTH, noise)
    nu = -(g / targets).log() / decades
    folded = 3e-4 if ghat == 0.1 else 0  # |μ + σξ| at 2.6 standard deviations from zero
    assert nu.std().item() == pytest.approx(spread, rel=0.01 if folded else SAMPLING + 1e-3)
    assert nu.mean().item() == pytest.approx(0, abs=5 * spread / math.sqrt(N_DEVICES) + folded)
    assert (g > targets).any()


def test_factors_of_one_are_the_published_device_to_the_bit(kernel):
    targets = 25 * torch.rand(1000, generator=draw())
    array = PCM().program(targets, NormalStream("p", kernel=kernel))
    stream = NormalStream("p", kernel=kernel)
    stream.like(targets)
    mean, spread = drift_exponent_law(targets / 25)
    assert torch.equal(array.nu, mean.addcmul_(spread, stream.like(targets)).abs_().half())
    half = PCM(noise_scale=0.5).program(targets, NormalStream("p", kernel=kernel))
    assert torch.equal(PCM(programming=0.5).program(targets, NormalStream("p", kernel=kernel)).error, half.error)


@pytest.mark.parametrize("field", ["programming", "drift", "drift_spread", "one_over_f"])
def test_a_factor_below_zero_is_refused(field):
    with pytest.raises(ValueError, match=f"Argument `{field}` must be at least 0, but is -1"):
        PCM(**{field: -1.0})
