"""Fixtures of several of these tests."""

import pytest

from analog_glue.cli import main as cli
from tests.cli.helpers import Answer


@pytest.fixture
def run(capfd):
    """Run a command line in this process."""

    def run(*words: str) -> Answer:
        code = cli.main(words)
        out, err = capfd.readouterr()
        return Answer(code, out, err)

    return run
