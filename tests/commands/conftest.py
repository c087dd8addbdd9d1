"""What tests of commands that score several hardwares share."""

import pytest

from analog_glue.commands import deploy


@pytest.fixture
def scored(monkeypatch):
    """How many scores are measured, and when to be interrupted."""
    noted = {"scores": 0, "until": None}
    whole = deploy.drift_sweep

    def sweep(*arguments):
        for one in whole(*arguments):
            if noted["scores"] == noted["until"]:
                raise KeyboardInterrupt
            noted["scores"] += 1
            yield one

    monkeypatch.setattr(deploy, "drift_sweep", sweep)
    return noted
