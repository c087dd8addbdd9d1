"""Tests in situ describe many runs."""

import pytest


@pytest.fixture(autouse=True)
def _described_in_a_moment(a_moment):
    """See `a_moment`."""
