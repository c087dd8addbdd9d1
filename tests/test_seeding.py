"""A stream is named by what it is for, and by nothing else."""

import os
import subprocess
import sys

import pytest
import torch

from analog_glue.seeding import generator, key

NAMES = [(), ("a",), ("b",), ("a", "b"), ("ab",), ("b", "a"), (0,), (1,), ("1",), (1.5,), ("1.5",), (-1,), ("a", 0), ("a", 1)]


def test_every_name_is_a_stream_of_its_own():
    assert len({key(*name) for name in NAMES}) == len(NAMES)


def test_a_name_means_the_same_in_every_process():
    program = "from analog_glue.seeding import key; print(key('weight noise', 'encoder.layer.0', 17, 0.5))"
    command = [sys.executable, "-c", program]
    answers = {
        subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}).stdout
        for seed in ("1", "2")
    }
    assert answers == {f"{key('weight noise', 'encoder.layer.0', 17, 0.5)}\n"}


@pytest.mark.parametrize("t", [1, 3600, 2_592_000, 10**15])
def test_a_time_means_the_same_as_integer_and_as_float(t):
    assert key("read-out", t) == key("read-out", float(t))


def test_keys_seed_any_generator():
    for number in range(1000):
        assert 0 <= key("some", number) < 2**63


def test_streams_do_not_depend_on_what_was_drawn_before():
    expected = torch.randn(5, generator=generator(1, "reads"))
    torch.randn(100)
    torch.randn(7, generator=generator(1, "programming"))
    assert torch.equal(torch.randn(5, generator=generator(1, "reads")), expected)


def test_making_a_generator_leaves_the_global_one_alone():
    before = torch.get_rng_state()
    torch.randn(5, generator=generator(1, "reads"))
    assert torch.equal(torch.get_rng_state(), before)


def test_streams_of_neighbouring_names_are_uncorrelated():
    n, streams = 20_000, 24
    drawn = torch.stack([torch.randn(n, generator=generator(0, "chip", index)) for index in range(streams)])
    correlation = torch.corrcoef(drawn) - torch.eye(streams)
    assert correlation.abs().max() < 5 / n**0.5  # 276 pairs, each N(0, 1/n)
