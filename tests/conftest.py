"""One thread for torch in every test: sums are then the same on every machine, and small ones are quicker."""

import pytest
import torch

pytest_plugins = ["tests.fake_hub"]

torch.set_num_threads(1)


@pytest.fixture(params=["reference", "compiled"])
def kernel(request):
    """What computes: a test that takes it claims the same of plain PyTorch and of the compiled kernels."""
    return request.param
