"""One thread for torch in every test: sums are then the same on every machine, and small ones are quicker."""

import gc
import sys

import pytest
import torch

pytest_plugins = ["tests.fake_hub"]

torch.set_num_threads(1)


def pytest_collection_finish():
    _keep_what_is_imported()


def pytest_runtest_teardown():
    if len(sys.modules) > KEPT["modules"] + 50:
        _keep_what_is_imported()


KEPT = {"modules": 0}


def _keep_what_is_imported():
    """What is imported by now stays: accelerate collects garbage after every training, and would walk through all of it."""
    gc.collect()
    gc.freeze()
    KEPT["modules"] = len(sys.modules)


@pytest.fixture(autouse=True)
def one_thread():
    """One thread again after a test that says there are more: the pool of `kernels.parallel` sets them for good."""
    yield
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(params=["reference", "compiled"])
def kernel(request):
    """What computes: a test that takes it claims the same of plain PyTorch and of the compiled kernels."""
    return request.param


@pytest.fixture
def a_moment(monkeypatch):
    """A dry run in situ measures its speed for a whole second; a moment is enough to test what it says."""
    monkeypatch.setattr("analog_glue.in_situ.commands.dry_run.MEASURED_FOR", 0.02)
