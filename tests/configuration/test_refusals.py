"""What a component built from yaml refuses is told by its full key, at every depth."""

import copy
import re

import pytest

from analog_glue.configuration.build import build
from analog_glue.configuration.compose import Composer, conf_dir
from analog_glue.configuration.wording import COMPONENTS
from analog_glue.errors import UserError

COMMAND_OF = {"tuning": "tune", "costs": "factsheet"}  # where a group is not one of `train`
OPTIONS = [(group, file.stem) for group in COMPONENTS for file in sorted((conf_dir() / group).glob("*.yaml"))]
BAD = {int: (-1, -(10**9), 10**9), float: (-1.0, -1e9, 1e12), str: ("no such word",)}


def places(node, key):
    """Full keys of all values that are no nodes themselves, with the node that holds each and its name there."""
    for name, value in node.items():
        if isinstance(value, dict):
            yield from places(value, f"{key}.{name}")
        elif name != "_target_":
            yield f"{key}.{name}", node, name


def refusals(group, node):
    """Messages about bad values, by the key whose value was bad."""
    found = {}
    for key, holder, name in places(node, group):
        kept = holder[name]
        for bad in ([], [type(one)() for one in kept]) if isinstance(kept, list) else BAD.get(type(kept), ()):
            holder[name] = bad
            try:
                build(copy.deepcopy(node), group)
            except UserError as error:
                found[key] = str(error)
        holder[name] = kept
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda name: name)
def test_every_refusal_of_an_option_names_a_full_key_of_its_group(group, option):
    with Composer(COMMAND_OF.get(group, "train")) as composer:
        node = composer.compose([f"{group}={option}"]).config[group]
    known = {key for key, *_ in places(node, group)}
    found = refusals(group, node)
    if group != "model" or node["_target_"].endswith("TinyModel"):  # a pretrained model has names alone
        assert found, "refuses nothing"
    for key, message in found.items():
        told = re.match(r"Setting `([\w.]+)` must ", message)
        assert told and told[1] in known, f"{key}: {message}"


@pytest.mark.parametrize(
    ("group", "option", "key"),
    [
        ("noise", "pcm", "noise.g_max"),
        ("noise", "reram", "noise.noise_scale"),
        ("tile", "spoon2021", "tile.adc_bits"),
        ("device", "ecram", "device.slope_up"),
        ("device", "soft_bounds", "device.drift.t0"),
        ("training", "hardware_aware", "training.weight_noise.scale"),
        ("training", "hardware_aware", "training.input_range.rule"),
        ("training", "ttv2", "training.periphery.output_noise"),
        ("training", "ttv2", "training.pulses.longest"),
        ("training", "chopped_ttv2", "training.chop_probability"),
        ("task", "mrpc", "task.headline"),
        ("task", "war_and_peace", "task.hidden"),
        ("model", "tiny", "model.vocabulary_size"),
        ("tuning", "auto", "tuning.dac_range.deviations"),
        ("costs", "factsheet2022", "costs.power.value"),
        ("costs", "factsheet2022", "costs.counting.attention"),
        ("costs", "bottom_up", "costs.tile_energy.burr2023.value"),
    ],
)
def test_a_value_is_refused_by_the_key_that_it_stands_at(group, option, key):
    with Composer(COMMAND_OF.get(group, "train")) as composer:
        node = composer.compose([f"{group}={option}"]).config[group]
    assert refusals(group, node)[key].startswith(f"Setting `{key}` must ")
