"""The comparison with IBM's toolkit, where it is installed; and what is said where it is not."""

import sys

import pytest

from analog_glue import verify
from analog_glue.verify_against_aihwkit import aihwkit_checks


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
    off = [f"{c.name}: {c.measured:g}, aihwkit {c.expected:g}, tolerance {c.tolerance:g}" for c in checks if not c.holds]
    assert off == []
