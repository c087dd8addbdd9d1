"""Reads of A by transfers: their noise and ADC are those of all products unless they are set, and nothing else has them."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from analog_glue.cli.main import main
from analog_glue.in_situ.commands.train import prepare
from analog_glue.in_situ.devices.soft_bounds import SoftBounds
from analog_glue.in_situ.devices.symmetric_linear import SymmetricLinear
from analog_glue.in_situ.nn.convert import to_in_situ
from analog_glue.in_situ.nn.learner import zeros
from analog_glue.in_situ.tasks.images import Digits
from analog_glue.in_situ.training.chopped_ttv2 import ChoppedTTv2
from analog_glue.in_situ.training.mode import Periphery
from analog_glue.in_situ.training.sgd_digital import SGDDigital
from analog_glue.in_situ.training.sgd_pulsed import SGDPulsed
from analog_glue.in_situ.training.tiki_taka import TikiTaka
from analog_glue.in_situ.training.ttv2 import TTv2
from analog_glue.settings import RunSettings

OUTPUTS, INPUTS = 64, 128
LSB_9, LSB_8 = 24 / 510, 24 / 254  # of the ADC on ±12


@pytest.mark.parametrize("mode", [TTv2, ChoppedTTv2])
@pytest.mark.parametrize(
    ("changes", "variance"),
    [
        ({}, 0.06**2 + LSB_9**2 / 12),
        ({"read_noise": 0.1}, 0.1**2 + LSB_9**2 / 12),
        ({"read_adc_bits": 0}, 0.06**2),
        ({"read_noise": 0.1, "read_adc_bits": 8}, 0.1**2 + LSB_8**2 / 12),
    ],
)
def test_reads_of_a_constant_a_fill_h_with_their_own_noise(mode, changes, variance):
    # Noise of more than half a step of the ADC makes the rounding error independent of A, with a variance of lsb² / 12.
    number, rate = 20, 0.1
    more = {"chop_probability": 0.0} if mode is ChoppedTTv2 else {}
    chosen = mode(periphery=Periphery(**changes), transfer_every=1, transfer_rate=rate, threshold=1e9, **more)
    learner = chosen.learner(SoftBounds(), np.zeros((OUTPUTS, INPUTS)), 0, 0)
    learner.a.write(np.random.default_rng(0).uniform(-0.3, 0.3, (OUTPUTS, INPUTS)))
    learner.update(zeros(number * INPUTS, INPUTS), zeros(number * INPUTS, OUTPUTS), 0.01, 0)
    error = learner.h - number * rate * learner.a.values
    expected = number * rate**2 * variance
    assert np.mean(error**2) == pytest.approx(expected, rel=5 * math.sqrt(2 / error.size))


@pytest.mark.parametrize("noise", [None, 0.02])
def test_reads_of_an_empty_a_shake_c_of_tiki_taka_by_their_own_noise(noise):
    # A read v sends Binomial(31, p |v|) pulses, λ = 31 p dw_min: E[ΔC²] = λ² σ² (1 − 1/31) + λ dw_min σ √(2/π).
    rate, step, number, sigma = 0.05, 1e-3, 20, 0.1 if noise is None else noise
    device = SymmetricLinear(dw_min=step, dw_min_std=0.0, dw_min_dtod=0.0, w_max=10.0, w_max_dtod=0.0, up_down_dtod=0.0)
    periphery = Periphery(output_noise=0.1, adc_bits=0, read_noise=noise)
    mode = TikiTaka(periphery=periphery, transfer_every=1, transfer_rate=rate)
    learner = mode.learner(device, np.zeros((OUTPUTS, INPUTS)), 0, 0)
    learner.update(zeros(number * INPUTS, INPUTS), zeros(number * INPUTS, OUTPUTS), 0.01, 0)
    expected = number * ((rate * sigma) ** 2 * 30 / 31 + rate * step * sigma * math.sqrt(2 / math.pi))
    assert np.mean(learner.c.values**2) == pytest.approx(expected, rel=5 * math.sqrt(2 / learner.c.values.size))


@pytest.mark.parametrize("mode", [TikiTaka, TTv2, ChoppedTTv2])
def test_products_forward_and_backward_do_not_have_the_noise_of_reads(mode):
    results = []
    for periphery in (Periphery(), Periphery(read_noise=0.0, read_adc_bits=0)):
        torch.manual_seed(0)
        model = to_in_situ(nn.Linear(20, 12), mode(periphery=periphery), SoftBounds(), 0)
        x = torch.randn(5, 20, requires_grad=True)
        y = model(x)
        y.sum().backward()
        results.append((y.detach(), x.grad))
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


@pytest.mark.parametrize("mode", [TikiTaka, TTv2, ChoppedTTv2])
def test_settings_that_say_what_all_products_have_change_no_bit(mode):
    states = []
    for periphery in (Periphery(), Periphery(read_noise=0.06, read_adc_bits=9)):
        learner = mode(periphery=periphery, transfer_rate=0.1).learner(SoftBounds(), np.zeros((32, 32)), 0, 0)
        random = np.random.default_rng(0)
        learner.update(*(random.standard_normal((100, 32)).astype(np.float32) for _ in range(2)), 0.05, 0)
        states.append(learner.state())
    for name, array in states[0].items():
        assert np.array_equal(array, states[1][name]), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"read_noise": -0.1}, r"`read_noise` must be null or at least 0, but is -0\.1"),
        ({"read_adc_bits": 1}, r"`read_adc_bits` must be null, 0 or lie in 2 … 16, but is 1"),
    ],
)
def test_reads_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Periphery(**changes)


@pytest.mark.parametrize("mode", [SGDPulsed, SGDDigital])
@pytest.mark.parametrize("changes", [{"read_noise": 0.006}, {"read_adc_bits": 0}])
def test_a_mode_without_an_a_refuses_settings_of_its_reads(mode, changes):
    (name,) = changes
    with pytest.raises(ValueError, match=rf"`periphery\.{name}` must be null where no array A is read"):
        mode(periphery=Periphery(**changes))


@pytest.mark.slow
def test_the_command_line_knows_the_settings_where_there_is_an_a_alone(tmp_path, capsys):
    words = ["train", "task=digits", f"output_root={tmp_path}", "dry_run=true", "training.periphery.read_noise=0.006"]
    assert main([*words, "training=tiki_taka"]) == 0
    assert main([*words, "training=sgd_pulsed"]) != 0
    assert "read_noise" in capsys.readouterr().err


def test_a_run_that_does_not_set_them_has_the_name_that_it_had_before_there_were_any(tmp_path):
    settings = RunSettings(output_root=str(tmp_path))
    task, device = Digits(train_images=50), SoftBounds()

    def folder(mode, *without):
        config = {**task.config(), "device": dataclasses.asdict(device), "training": dataclasses.asdict(mode)}
        for name in without:
            del config["training"]["periphery"][name]
        return prepare(settings, task, device, mode, config).folder

    plain = folder(TTv2())
    assert plain == folder(TTv2(), "read_noise", "read_adc_bits")
    assert plain != folder(TTv2(periphery=Periphery(read_noise=0.06)))
