"""Ids stay what they are while options are added and classes move; payloads name what differs."""

import json
import math
from dataclasses import dataclass, fields, is_dataclass, replace

import numpy as np
import pytest

from analog_glue.devices import pcm
from analog_glue.devices.ideal import Ideal
from analog_glue.devices.pcm import PCM
from analog_glue.runs import recorded
from analog_glue.runs.aliases import MOVED, as_of_today, recorded_name
from analog_glue.runs.fingerprint import canonical, fingerprint, fingerprint_of_parts
from analog_glue.runs.identity import NO_RESULT, Identity, determining, differences, resolved
from analog_glue.runs.recorded import recorded_defaults, recorded_sections
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.training.hardware_aware import HardwareAware
from tests.runs.reference_ids import FILE, components, ids_of_options

REFERENCE = json.loads(FILE.read_text())


@pytest.fixture
def another_section(monkeypatch):
    """Adds a release to the recorded defaults."""

    def add(kind, **defaults):
        sections = {**recorded_sections(), "9.9.9": {kind: defaults}}
        monkeypatch.setattr(recorded, "recorded_sections", lambda: sections)
        recorded_defaults.cache_clear()

    yield add
    monkeypatch.undo()
    recorded_defaults.cache_clear()


def kinds_in(value):
    if is_dataclass(value):
        yield type(value)
        for field in fields(value):
            yield from kinds_in(getattr(value, field.name))


def test_every_setting_that_reaches_an_identity_has_its_default_recorded():
    missing = {
        f"{kind.__name__}.{field.name}"
        for component in components().values()
        for kind in kinds_in(component)
        for field in fields(kind)
        if field.name not in recorded_defaults(recorded_name(kind.__name__))
    }
    assert not missing, "add it, with its default, to the newest section of analog_glue/runs/recorded_defaults.json"


def test_one_name_stands_for_one_class():
    kinds = {kind for component in components().values() for kind in kinds_in(component)}
    names = [recorded_name(kind.__name__) for kind in kinds]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("kind", REFERENCE["kinds"])
def test_no_recorded_default_changes(kind):
    known = REFERENCE["kinds"][kind]
    assert Identity(known["payload"]).id == known["id"], "a default, once recorded, stays: every id of older runs needs it"


def test_every_option_means_the_run_that_it_meant():
    assert ids_of_options() == REFERENCE["options"], "`python -m tests.runs.reference_ids` adds new options"


def test_a_new_setting_changes_no_id_until_it_is_used(another_section):
    @dataclass(frozen=True)
    class Wider(PCM):
        stuck: float = 0.0

    Wider.__name__ = "PCM"
    before = Identity(resolved("noise", PCM(g_max=20.0)))
    another_section("PCM", stuck=0.0)
    same, other = (Identity(resolved("noise", Wider(g_max=20.0, stuck=stuck))) for stuck in (0.0, 0.1))
    assert "noise.stuck" in same.payload
    assert same.id == before.id != other.id
    assert differences(before.payload, same.payload) == []
    assert [one.in_words() for one in differences(before.payload, other.payload)] == [
        "`noise.stuck`: this run has 0.0, you ask for 0.1"
    ]


def test_a_class_that_moves_changes_no_id(monkeypatch):
    before = Identity(resolved("noise", PCM(g_max=20.0)))
    monkeypatch.setattr(PCM, "__module__", "analog_glue.devices.phase_change.melt")
    assert Identity(resolved("noise", PCM(g_max=20.0))) == before
    assert "analog_glue" not in canonical(before.payload)


def test_a_class_or_setting_that_is_renamed_is_found_by_its_old_name(monkeypatch):
    stored = {"_target_": "analog_glue.devices.phase.Phase", "spread": 2.0}
    monkeypatch.setitem(MOVED, stored["_target_"], f"{pcm.__name__}.PCM")
    monkeypatch.setattr("analog_glue.runs.aliases.KEYS", {"PCM": {"spread": "noise_scale"}})
    assert as_of_today([stored]) == [{"_target_": f"{pcm.__name__}.PCM", "noise_scale": 2.0}]
    monkeypatch.setattr("analog_glue.runs.aliases.RECORDED", {"PCM": "Phase"})
    assert resolved("noise", PCM())["noise"] == "Phase"


def test_the_id_hashes_what_differs_from_recorded_defaults_alone():
    tile = resolved("tile", Crossbar(adc_bits=8))
    assert len(tile) == 1 + len(fields(Crossbar))
    assert determining(tile) == {"tile": "Crossbar", "tile.adc_bits": 8}
    mode = HardwareAware(weight_noise=replace(HardwareAware().weight_noise, scale=1.5))
    assert determining(resolved("training", mode)) == {"training": "HardwareAware", "training.weight_noise.scale": 1.5}


def test_whole_numbers_are_the_fractions_they_stand_for():
    assert Identity(resolved("noise", PCM(g_max=20))) == Identity(resolved("noise", PCM(g_max=20.0)))


def test_what_changes_no_result_is_in_no_payload():
    assert resolved("training", HardwareAware(save_every=7)) == resolved("training", HardwareAware())
    assert "training.save_every" not in resolved("training", HardwareAware())
    assert set(NO_RESULT) == {"training", "model"}


def test_seeds_of_one_experiment_share_their_recipe():
    one, two = (Identity({**resolved("noise", PCM()), "seed": seed}) for seed in (0, 1))
    assert one.id != two.id and one.recipe() == two.recipe()
    assert one.recipe() != Identity({**resolved("noise", PCM(g_max=20.0)), "seed": 0}).recipe()
    starts = [Identity({"training.start_from": run, "seed": 0}) for run in ("a", "b")]
    assert len({start.recipe(**{"training.start_from": "r"}) for start in starts}) == 1


def test_a_difference_names_the_field_and_both_values():
    first, second = (resolved("tile", Crossbar(adc_bits=bits)) for bits in (8, 10))
    assert [one.in_words() for one in differences(first, second)] == ["`tile.adc_bits`: this run has 8, you ask for 10"]


def test_components_of_two_kinds_differ_in_their_kind_and_not_field_by_field():
    found = differences(resolved("noise", PCM(g_max=20.0)), resolved("noise", Ideal()))
    assert [(one.key, one.first, one.second) for one in found] == [("noise", "PCM", "Ideal")]


def test_what_one_side_does_not_say_is_told_as_such():
    (one,) = differences({"seed": 0}, {"seed": 0, "model.weights": "ab"})
    assert one.in_words() == "`model.weights`: this run has nothing recorded, you ask for ab"


@pytest.mark.parametrize("value", [object(), {1}, np.float32(1), {"a": [b"x"]}, {1: "a"}, PCM()])
def test_what_cannot_be_written_down_exactly_has_no_fingerprint(value):
    with pytest.raises(TypeError):
        fingerprint(value)


@pytest.mark.parametrize("part", [1, None, ["a"], PCM()])
def test_only_text_bytes_and_arrays_are_parts_of_a_fingerprint(part):
    with pytest.raises(TypeError):
        fingerprint_of_parts([part])


def test_nan_has_no_fingerprint_and_a_setting_may_be_infinite():
    with pytest.raises(ValueError):
        fingerprint({"a": math.nan})
    assert resolved("tile", Crossbar(adc_bound=math.inf))["tile.adc_bound"] == "inf"


def test_a_fingerprint_depends_on_no_order_and_on_every_digit():
    assert fingerprint({"a": 1, "b": (1.0, None)}) == fingerprint({"b": [1.0, None], "a": 1})
    values = [0.1, 0.1 + 2**-56, 1, 1.0, "1", True, None, [1], {"1": 1}]
    assert len({fingerprint(value) for value in values}) == len(values)


def test_parts_are_hashed_one_after_another():
    assert fingerprint_of_parts(["ab", np.frombuffer(b"cd", np.uint8), b"e"]) == fingerprint_of_parts([b"abcde"])
