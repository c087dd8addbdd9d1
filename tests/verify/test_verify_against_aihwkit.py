"""The comparison with IBM's toolkit, where it is installed; and what is said where it is not."""

import dataclasses
import sys

import pytest

from analog_glue.verify import command as verify
from analog_glue.verify import pulses_against_aihwkit as pulses
from analog_glue.verify import their_tile
from analog_glue.verify.against_aihwkit import aihwkit_checks


def off(checks):
    return [f"{c.name}: {c.measured:g}, aihwkit {c.expected:g}, tolerance {c.tolerance:g}" for c in checks if not c.holds]


def test_without_the_package_the_message_names_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "aihwkit", None)
    monkeypatch.setitem(sys.modules, "aihwkit.inference", None)
    with pytest.raises(ValueError, match=r"pip install analog-glue\[peer\]"):
        verify.run(against="aihwkit", quick=True, log=lambda text: None)


@pytest.mark.parametrize("seed", [0, 1])
def test_laws_periphery_tiles_and_pulsed_devices_agree_with_the_toolkit(seed):
    pytest.importorskip("aihwkit.nn", reason="aihwkit is not installed here (extra `peer`)", exc_type=ImportError)
    checks = list(aihwkit_checks(seed))
    assert len(checks) == 6 * 6 + 3 + 4 + 2 * 4 * 2
    assert off(checks) == []


@pytest.fixture
def tile():
    pytest.importorskip("aihwkit.nn", reason="aihwkit is not installed here (extra `peer`)", exc_type=ImportError)
    if (reason := their_tile.why_not()) is not None:
        pytest.skip(f"aihwkit's C++ tile does not work here: {reason}")


def test_pulses_products_and_transfers_agree_with_the_toolkits_tile(tile):
    checks = list(pulses.pulse_checks(0))
    updates = 5 * len(pulses.COMPARED) - 2 * 2  # two have no chance in their trains
    assert len(checks) == (4 + 3) + updates + 2 + 4 * 3 + 4 + (3 + 2) * 2
    assert off(checks) == []


@pytest.mark.parametrize(("field", "wrong", "what"), [
    ("dw_min_std", 0.33, "variance"),
    ("w_max", 0.57, "mean"),
])  # fmt: skip
def test_devices_that_differ_by_a_tenth_or_less_are_noticed(tile, monkeypatch, field, wrong, what):
    right = pulses.DEVICES["soft bounds"]
    same = their_tile.their_device(right)
    monkeypatch.setattr(their_tile, "their_device", lambda device: same)
    kept = their_tile._parameters
    monkeypatch.setattr(their_tile, "_parameters", lambda array: kept(right.draw(64, 64, 0, "pulses against aihwkit")))
    monkeypatch.setitem(pulses.DEVICES, "soft bounds", dataclasses.replace(right, **{field: wrong}))
    failed = [check.name for check in pulses._one_update("soft bounds", "all bits on", 0) if not check.holds]
    assert f"soft bounds, all bits on: {what}" in failed


@pytest.mark.slow
def test_a_tile_that_does_not_work_is_named_and_nothing_else_changes(monkeypatch):
    monkeypatch.setattr("analog_glue.verify.against_aihwkit.aihwkit_checks", lambda seed: iter(()))
    monkeypatch.setattr(their_tile, "why_not", lambda: "RuntimeError: d_input must be a CPU tensor")
    for few in ("TILE_SETUPS", "PERIPHERY_SETUPS"):
        monkeypatch.setattr(verify, few, getattr(verify, few)[:1])
    said = []
    assert verify.run(against="aihwkit", quick=True, log=said.append)
    assert "not compared" in said[-2] and "d_input must be a CPU tensor" in said[-2]
