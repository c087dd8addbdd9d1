"""Fixtures of several of these tests."""

import pytest

from analog_glue.kernels.gaussian import NormalStream


@pytest.fixture
def noise(kernel):
    """The streams of numbers that devices are drawn from, by number."""
    return lambda seed=0: NormalStream("test", seed, kernel=kernel)
