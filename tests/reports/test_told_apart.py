"""Hardwares of the same options are told apart by the settings in which they differ."""

from types import SimpleNamespace

from analog_glue.reports.told_apart import tell_apart

PCM = {"_target_": "analog_glue.devices.pcm.PCM", "g_max": 25.0, "noise_scale": 1.0}
TILE = {"_target_": "analog_glue.tiles.crossbar.Crossbar", "rows": 512, "columns": 512, "adc_bits": 10}
HARDWARE = {"layers": ["*"], "calibration": {"percentile": 99.995}, "read_out": "measured"}  # older than other settings


def sections(*ids):
    bundles = [SimpleNamespace(names=("minilm", "pcm", "spoon2021"), hardware_id=one) for one in ids]
    return [SimpleNamespace(bundle=bundle, hardware=bundle.hardware_id, hardware_words=None) for bundle in bundles]


def words(**configs):
    told = sections(*configs)
    known = {
        name: {"noise": PCM, "tile": TILE, "hardware": HARDWARE} | config
        for name, config in configs.items()
        if config is not None
    }
    tell_apart(told, known)
    return {one.bundle.hardware_id: one.hardware_words for one in told}


def test_what_differs_is_said_and_defaults_are_not():
    found = words(
        base={},
        wires={"tile": TILE | {"wire_resistance": 0.35, "pairs": "two_arrays"}},
        column={"hardware": HARDWARE | {"reference": "programmed", "factor_per": "column"}},
        quiet={"noise": PCM | {"noise_scale": 0.5}, "tile": TILE | {"wire_resistance": 0.35}},
    )
    assert found.pop("quiet") == "noise_scale 0.5, wire_resistance 0.35"
    assert found == {"base": "", "wires": "wire_resistance 0.35", "column": "factor_per column"}


def test_where_words_do_not_tell_or_nothing_is_known_the_id_stays():
    found = words(one={}, same={}, wires={"tile": TILE | {"wire_resistance": 1.0}}, unknown=None)
    assert found == {"one": None, "same": None, "wires": "wire_resistance 1.0", "unknown": None}
