"""Which implementation of an operation computes."""

import pytest
import torch

from analog_glue.kernels.gaussian import COUNTED, fill_normal, stream_name
from analog_glue.kernels.operation import operation


@operation
def double(numbers):
    return "reference", 2 * numbers


@double.compiled("cuda")
def _double(numbers):
    return "compiled for a GPU", 2 * numbers


@pytest.mark.parametrize(
    ("kernel", "device", "who"),
    [
        ("compiled", "cuda", "compiled for a GPU"),
        ("compiled", torch.device("cuda", 1), "compiled for a GPU"),
        ("compiled", "cpu", "reference"),  # nothing is compiled for it
        ("reference", "cuda", "reference"),
    ],
)
def test_what_is_compiled_for_a_device_computes_there_if_it_is_asked_to(kernel, device, who):
    assert double.by(kernel, device)(3) == (who, 6)


def test_an_operation_by_itself_is_its_reference():
    assert double(4) == ("reference", 8)


def test_the_name_of_the_counted_stream_tells_its_cipher_and_rounds():
    threefry = pytest.importorskip("analog_glue.kernels.threefry")
    assert COUNTED == f"threefry-4x32-{threefry.ROUNDS}-golden"


def test_streams_of_two_names_are_two_streams():
    assert len({stream_name(*how) for how in (("compiled", "cpu"), ("reference", "cpu"), ("reference", "cuda"))}) == 3
    assert stream_name("compiled", "cpu") == stream_name("compiled", "cuda")
    numbers = [fill_normal(torch.empty(1000), 1, kernel) for kernel in ("reference", "compiled")]
    # Independent draws: the correlation of 1000 pairs has a standard deviation of 1/√1000.
    assert abs(torch.corrcoef(torch.stack(numbers))[0, 1]) < 5 / 1000**0.5
