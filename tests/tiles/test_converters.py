"""Converters: steps, ranges and bounds as published."""

from dataclasses import replace

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from analog_glue.configuration.build import as_annotated, build
from analog_glue.configuration.compose import conf_dir
from analog_glue.tiles.converters import ADC, DAC
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tiles.mvm import mvm
from analog_glue.tiles.operands import ReadyWeights, Scaling
from tests.tiles.helpers import QUIET, draw, few, on_tiles


@pytest.mark.parametrize("bits", [2, 6, 8, 10])
def test_a_dac_has_two_to_the_bits_minus_two_steps_across_its_range(bits):
    per_input = torch.tensor(DAC(bits).full_scale / 2.0)
    codes = DAC(bits).codes(torch.linspace(-3, 3, 100_001).unsqueeze(0), per_input)
    assert codes.unique().numel() == 2**bits - 2 + 1  # 254 steps for 8 bits have 255 ends
    assert (codes.min(), codes.max()) == (-(2 ** (bits - 1) - 1), 2 ** (bits - 1) - 1)
    assert DAC(bits).codes(torch.zeros(1, 1), per_input) == 0


@few
@given(st.floats(0.01, 100), st.integers(2, 16))
def test_converting_twice_is_converting_once(input_range, bits):
    dac, adc = DAC(bits), ADC(bits, 10.0)
    x = 3 * input_range * torch.randn(4, 50, generator=draw())
    per_input = torch.tensor(dac.full_scale / input_range)
    codes = dac.codes(x, per_input)
    assert torch.equal(dac.codes(codes / per_input, per_input), codes)
    converted = adc.convert_(x / adc.lsb)
    assert torch.equal(adc.convert_(converted.clone()), converted)
    assert converted.abs().max() <= adc.full_scale


@pytest.mark.parametrize("bits", [8, 10])
def test_every_row_block_has_its_own_input_range(kernel, bits):
    crossbar = replace(QUIET, rows=2, dac_bits=bits)
    grid = crossbar.grid(1, 4)
    ready = ReadyWeights.of(torch.ones(2, 1, 2), grid, crossbar, "int8", kernel)
    scaling = Scaling.of(torch.tensor([1.0, 4.0]), torch.ones(2, 1), grid, crossbar)
    y, codes = mvm(torch.tensor([[1.0, -1.0, 1.0, 1.0], [9.0, 9.0, -9.0, 0.0]]), ready, scaling, 1)
    full, quarter = 2 ** (bits - 1) - 1, round((2 ** (bits - 1) - 1) / 4)
    assert codes.tolist() == [[full, -full, quarter, quarter], [full, full, -full, 0]]
    assert codes.dtype == (torch.int8 if bits == 8 else torch.float32)
    lsb = crossbar.adc.lsb
    assert y.flatten().tolist() == pytest.approx([2 * quarter / full * 4, 2 - 4], abs=(1 + 4) * lsb / 2)


@pytest.mark.parametrize(("bits", "lsb"), [(10, 0.01957), (8, 0.0787)])
def test_a_step_of_the_adc_is_as_large_as_published(bits, lsb):
    assert ADC(bits, 10.0).lsb == pytest.approx(lsb, rel=1e-3)


def test_the_output_noise_of_the_presets_is_as_large_as_published():
    def full_on_cells(option):
        file = conf_dir() / "tile" / f"{option}.yaml"
        crossbar = build(as_annotated(yaml.safe_load(file.read_text(encoding="utf-8")), "tile"), "tile")
        return crossbar.output_noise * crossbar.adc.lsb

    assert full_on_cells("spoon2021") == pytest.approx(0.00978, abs=1e-5)
    assert full_on_cells("factsheet") == pytest.approx(0.04, abs=1e-4)


@pytest.mark.parametrize("bits", [8, 10])
def test_an_adc_rounds_to_its_steps_and_clips_at_its_bound(bits):
    adc = ADC(bits, 10.0)
    currents = torch.linspace(-15, 15, 30_001)
    read = adc.convert_(currents / adc.lsb) * adc.lsb
    assert read.abs().max().item() == pytest.approx(10.0, rel=1e-6)
    inside = currents.abs() < 10
    assert (read - currents)[inside].abs().max().item() == pytest.approx(adc.lsb / 2, rel=1e-3)
    assert (read[~inside].abs() == read.abs().max()).all()
    clipping = adc.clipping(adc.convert_(currents / adc.lsb))
    assert torch.equal(clipping[currents.abs() < 10 - adc.lsb], torch.zeros_like(clipping[currents.abs() < 10 - adc.lsb]))
    assert torch.equal(clipping[currents.abs() >= 10].float(), currents[currents.abs() >= 10].sign())


def test_ideal_converters_pass_what_they_get():
    x = 100 * torch.randn(3, 4, generator=draw())
    assert torch.equal(ADC(None, 10.0).convert_(x.clone()), x)
    assert torch.equal(DAC(None).codes(x, torch.tensor(1.0)), x)
    assert DAC(None).full_scale == ADC(None, 10.0).lsb == 1


def test_a_layer_clips_at_the_bound_of_every_tile_not_of_their_sum(kernel):
    weight, x = torch.ones(1, 60), torch.ones(1, 60)
    crossbar = replace(QUIET, rows=20, columns=20)  # three tiles; each would answer 20 full-on cells
    assert on_tiles(weight, x, crossbar, kernel=kernel).item() == pytest.approx(30, rel=1e-6)
    assert on_tiles(weight, x, replace(crossbar, rows=60), kernel=kernel).item() == pytest.approx(10, rel=1e-6)


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"rows": 0}, "rows"),
        ({"adc_bits": 1}, "adc_bits"),
        ({"dac_bits": 25}, "dac_bits"),
        ({"adc_bound": 0.0}, "adc_bound"),
        ({"read_noise": -0.1}, "read_noise"),
        ({"adc_bits": None}, "output_noise"),
        ({"scale_per": "row"}, "scale_per"),
    ],
)
def test_tiles_that_cannot_be_are_refused(fields, key):
    with pytest.raises(ValueError, match=f"Argument `{key}` must"):
        Crossbar(**fields)
