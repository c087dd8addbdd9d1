"""Knobs: each changes what it says and nothing else, in the order from harmless to severe."""

from dataclasses import asdict, replace

import pytest

from analog_glue.devices.ideal import Ideal
from analog_glue.devices.pcm import PCM
from analog_glue.devices.reram import ReRAM
from analog_glue.errors import UserError
from analog_glue.nn.hardware import Hardware
from analog_glue.specification.knobs import chosen, knobs_of
from analog_glue.tiles.crossbar import Crossbar

FULL = Hardware(PCM(), Crossbar())


def of(hardware):
    return knobs_of(hardware, 8.0, 5)


def flat(hardware):
    parts = {"noise": hardware.device, "tile": hardware.crossbar}
    return {f"{group}.{name}": value for group, part in parts.items() for name, value in asdict(part).items()}


def test_the_knobs_are_what_the_hardware_has():
    noises = {"programming", "drift", "drift_spread", "one_over_f", "noise_scale", "read_noise", "output_noise", "device_noise"}
    assert set(of(FULL)) == noises | {"dac_bits", "adc_bits", "cells_per_weight"}
    assert set(of(Hardware(ReRAM(), Crossbar(read_noise=0.0)))) == {"noise_scale", "output_noise", "dac_bits", "adc_bits"}
    wired = Hardware(Ideal(), Crossbar(dac_bits=None, adc_bits=None, output_noise=0.0, read_noise=0.0, wire_resistance=0.35))
    assert set(of(wired)) == {"wire_resistance"}
    assert of(Hardware(PCM(programming=0.0, drift=0.0), Crossbar(ir_drop=1.0))).keys() >= {"ir_drop", "drift_spread"}
    for wires in ({"ir_drop": 1.0}, {"wire_resistance": 0.35}):  # more cells are less noise and more loss
        assert "cells_per_weight" not in of(Hardware(PCM(), Crossbar(**wires)))
    assert "cells_per_weight" not in of(Hardware(Ideal(), Crossbar(read_noise=0.0)))
    assert not of(Hardware(Ideal(), Crossbar(dac_bits=None, adc_bits=None, output_noise=0.0, read_noise=0.0)))


@pytest.mark.parametrize("name", sorted(of(FULL)))
def test_a_knob_at_todays_value_changes_nothing_and_elsewhere_its_own_fields_alone(name):
    knob = of(FULL)[name]
    assert knob.at(FULL, knob.today) == FULL
    value = 6.0 if knob.unit else 2.0
    before, after = flat(FULL), flat(knob.at(FULL, value))
    changed = {field for field in before if before[field] != after[field]}
    assert changed - {"tile.output_noise"} == set(knob.fields) - {"tile.output_noise"}
    for field in knob.fields:
        assert after[field] == (6 if knob.unit else 2 * before[field])


def test_a_factor_of_zero_takes_away_what_an_ablation_takes_away():
    for name, other in (("programming", "programming noise"), ("one_over_f", "1/f noise"), ("read_noise", "read noise")):
        assert of(FULL)[name].at(FULL, 0.0) == FULL.without(other)
    bare = of(FULL)["device_noise"].at(FULL, 0.0)
    assert set(FULL.non_idealities) - set(bare.non_idealities) == {
        "programming noise", "drift spread", "1/f noise", "read noise"
    }  # fmt: skip


@pytest.mark.parametrize("bits", [4, 8, 14])
def test_other_bits_of_an_adc_leave_the_output_noise_its_size_and_the_bound_its_place(bits):
    tile = of(FULL)["adc_bits"].at(FULL, bits).crossbar
    assert tile.output_noise * tile.adc.lsb == pytest.approx(FULL.crossbar.output_noise * FULL.crossbar.adc.lsb)
    assert tile.adc_bound == FULL.crossbar.adc_bound and tile.dac_bits == FULL.crossbar.dac_bits


def test_bits_fall_from_more_than_today_to_the_fewest_of_a_converter():
    assert of(FULL)["adc_bits"].scale.values == tuple(map(float, range(14, 1, -1)))
    fine = replace(FULL, crossbar=Crossbar(adc_bits=23))
    assert of(fine)["adc_bits"].scale.values[0] == 24.0


def test_cells_fall_to_one_from_eight_or_from_todays():
    assert of(FULL)["cells_per_weight"].scale.values == tuple(map(float, range(8, 0, -1)))
    many = of(replace(FULL, crossbar=Crossbar(cells_per_weight=12)))["cells_per_weight"]
    assert many.scale.values[0] == many.today == 12 and many.margin(3) == "+9 cells"
    assert many.label(3) == "cells_per_weight 3" and many.settings(FULL, 3) == "tile.cells_per_weight=3"


def test_settings_and_margins_are_told_as_they_are_typed():
    knobs = of(Hardware(PCM(), Crossbar(read_noise=0.02)))
    hardware = Hardware(PCM(), Crossbar(read_noise=0.02))
    assert knobs["read_noise"].settings(hardware, 1.5) == "tile.read_noise=0.03"
    assert knobs["adc_bits"].settings(hardware, 6) == "tile.adc_bits=6" and knobs["adc_bits"].margin(6) == "+4 bits"
    assert knobs["device_noise"].settings(hardware, 0.5) == "device_noise × 0.5"


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (["programing"], ["`specify.knobs`", "programming, drift", "'programing'"]),
        (["ir_drop"], ["0 or ideal today"]),
        (["g_max"], ["relative to g_max", "wire_resistance"]),
        (["cells"], ["cells_per_weight"]),
        (["drift", "drift"], ["once"]),
    ],
)
def test_a_knob_that_is_not_there_is_refused(names, parts):
    with pytest.raises(UserError) as refused:
        chosen(names, of(FULL), "specify.knobs")
    for part in parts:
        assert part in str(refused.value)
