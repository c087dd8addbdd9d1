"""`verify --against badcrossbar`."""

import logging
import sys

import pytest

from analog_glue.errors import UserError
from analog_glue.verify import against_badcrossbar
from analog_glue.verify import command as verify
from analog_glue.verify.against_badcrossbar import badcrossbar_checks


def test_without_badcrossbar_the_message_says_how_to_install_it(monkeypatch):
    for name in ("badcrossbar", "badcrossbar.compute"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"pip install --no-deps badcrossbar==1\.1\.0"):
        list(badcrossbar_checks("reference"))


def test_an_unknown_peer_is_refused():
    with pytest.raises(UserError, match="be one of aihwkit, badcrossbar, but is 'crosssim'"):
        verify.run(against="crosssim")


def test_their_equations_are_ours(monkeypatch):
    pytest.importorskip("badcrossbar.compute", reason="badcrossbar is not installed here", exc_type=ImportError)
    before = list(logging.root.handlers), logging.root.level
    checks = list(badcrossbar_checks("reference"))
    assert len(checks) == 2 * len(against_badcrossbar.SHAPES)
    assert all(check.holds for check in checks), [check.name for check in checks if not check.holds]
    assert (list(logging.root.handlers), logging.root.level) == before  # an import that turns on logging for all
    currents = against_badcrossbar.currents
    monkeypatch.setattr(against_badcrossbar, "currents", lambda *given: 1.00001 * currents(*given))
    assert not all(check.holds for check in badcrossbar_checks("reference"))
