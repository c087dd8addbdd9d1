"""What a command says to do next is on the hardware that it was on, but for what the step is about."""

import re
import shlex

import pytest

from analog_glue.configuration.compose import Composer
from tests.cli.test_also import DEMO

HARDWARE = ["tile=lammie2024", "tile.adc_bits=6", "hardware.factor_per=column", "evaluation.chips=1", "evaluation.times=[1]"]


def next_evaluation(said: str) -> dict:
    """The configuration of the `evaluate` that a command names as a next step."""
    shown = re.search(r"^next: analog-glue evaluate (.*?)   #", said, re.MULTILINE)[1]
    with Composer("evaluate") as composer:
        return composer.compose(shlex.split(shown)).config


@pytest.mark.slow
def test_the_next_evaluation_is_on_the_same_tiles(run, tmp_path):
    answer = run("train", *DEMO, *HARDWARE, "attention=int8", f"output_root={tmp_path}")
    assert answer.code == 0, answer.err
    after = next_evaluation(answer.out)
    assert after["tile"]["adc_bits"] == 6 and after["tile"]["ir_drop"] == 1  # 8 bits and 0 by default
    assert after["hardware"]["factor_per"] == "column" and after["attention"]["bits"] == 8
    assert after["noise"]["noise_scale"] == 0.5 and after["output_root"] == str(tmp_path)
    few = ["tune.examples=4", "tune.compared=2", "tune.judged=2", "tune.judges=2", "noise.g_max=20", "tuning=rescaling"]
    tuned = run("tune", f"checkpoint={after['checkpoint']}", *HARDWARE, *few, f"output_root={tmp_path}")
    assert tuned.code == 0, tuned.err
    left = next_evaluation(tuned.out)
    assert left["tile"]["adc_bits"] == 6 and left["hardware"]["factor_per"] == "column" and left["ablate"]
    assert left["noise"]["g_max"] == 20  # 25 by default
