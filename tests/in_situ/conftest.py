"""A dry run measures its speed for a whole second; a moment is enough to test what it says."""

import pytest


@pytest.fixture(autouse=True)
def _a_moment(monkeypatch):
    monkeypatch.setattr("analog_glue.in_situ.commands.dry_run.MEASURED_FOR", 0.02)
