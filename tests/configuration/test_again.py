"""The words of a hardware compose to the same hardware, and say no more than what differs from its options."""

import json
import shlex

import pytest

from analog_glue.configuration.again import changed, words_again
from analog_glue.configuration.compose import Composer
from analog_glue.runs.files import write_json_atomic


def composed(*words):
    with Composer("evaluate") as composer:
        return composer.compose(["checkpoint=x", *words])


@pytest.mark.parametrize(
    "words",
    [
        ["noise=pcm", "tile=spoon2021"],
        ["noise=pcm", "tile=spoon2021", "tile.adc_bits=6"],
        ["noise=pcm", "noise.noise_scale=0.5", "+noise.drift=0.5", "tile=spoon2021", "tile.dac_bits=null"],
        ["noise=reram", "tile=lammie2024", "tile.pairs=side_by_side", "hardware.calibration.adc_headroom=false"],
        ["noise=pcm", "tile=ideal", "hardware.layers=[bert.*,classifier]", "hardware.calibration.deviations=3.0"],
        ["noise=pcm", "tile=ideal", "hardware.layers=['a b',\"it's\"]", "hardware.read_out=expected"],
    ],
)
def test_they_compose_to_the_same_hardware(words, tmp_path):
    first = composed(*words)
    write_json_atomic(tmp_path / "config.json", first.config)  # as it is kept beside a run
    said = shlex.split(" ".join(words_again(json.loads((tmp_path / "config.json").read_text()), first.choices)))
    second = composed(*said)
    assert all(second.config[group] == first.config[group] for group in ("noise", "tile", "hardware"))
    assert len(said) == len(words)


def test_what_a_record_is_too_old_to_say_has_its_recorded_default():
    config = composed().config
    tile = {key: value for key, value in config["tile"].items() if key not in ("pairs", "ir_drop")}
    hardware = {"layers": ["*"], "read_out": "measured"}  # older than `reference`, and no calibration
    choices = {"noise": "pcm", "tile": "lammie2024"}
    said = words_again(config | {"tile": tile, "hardware": hardware}, choices)
    assert said == ["noise=pcm", "tile=lammie2024", "tile.adc_bits=10", "tile.output_noise=0.5", "tile.ir_drop=0.0",
                    "tile.scale_per=column"]  # fmt: skip


def test_an_option_of_the_users_own_is_its_name_alone():
    config = composed("tile.adc_bits=6").config
    assert words_again(config, {"noise": "pcm", "tile": "mine"}) == ["noise=pcm", "tile=mine"]
    assert changed({}, "tile", "spoon2021") == []


def test_no_word_runs_anything_or_reads_a_variable():
    tile = composed().config["tile"] | {"pairs": "${oc.env:HOME}", "driven": "a\n```\nb", "scale_per": "$(x) `y`", "x=1 y": 2}
    assert words_again({"tile": tile}, {"noise": "pcm; ls", "tile": "spoon2021"}) == ["tile=spoon2021"]
