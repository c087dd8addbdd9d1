"""What several of these tests build and compare with."""

import torch
from torch import nn

from analog_glue.nn.computation import Computation
from analog_glue.nn.convert import program
from analog_glue.nn.placement import Placement
from analog_glue.nn.weight_noise import WeightNoise
from analog_glue.tiles.crossbar import Crossbar

IDEAL = Crossbar(rows=10, columns=8, dac_bits=None, adc_bits=None, output_noise=0.0, read_noise=0.0)


NOISY = Crossbar(rows=10, columns=8)


NO_NOISE = WeightNoise(law="none")


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def random_linear(outputs, inputs, seed=0):
    linear = nn.Linear(inputs, outputs)
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.normal_(generator=draw(seed))
    return linear


def programmed(model, hardware, periphery, chip=0, chip_seed=0, kernel="reference", product="float32", **compensation):
    """`model` on a chip of `hardware`; `compensation` as in `hardware.…`."""
    computation = Computation.resolved(hardware, "cpu", kernel, product, **compensation)
    return program(model, Placement.of(model, hardware), computation, periphery, chip, chip_seed)


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_unchanged(model, before):
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
