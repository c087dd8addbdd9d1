"""What several of these tests build and compare with."""

import torch
from hypothesis import settings
from hypothesis import strategies as st

from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tiles.mapping import (
    normalised,
    weight_scale,
)
from analog_glue.tiles.mvm import mvm
from analog_glue.tiles.operands import ReadyWeights, Scaling

IDEAL = Crossbar(dac_bits=None, adc_bits=None, output_noise=0.0, read_noise=0.0)


QUIET = Crossbar(output_noise=0.0, read_noise=0.0)  # converters, no noise


few = settings(max_examples=40, deadline=None, derandomize=True)


sizes = st.integers(1, 70)


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def random_layer(outputs, inputs, vectors=6, seed=0):
    weight = torch.randn(outputs, inputs, generator=draw(seed))
    return weight, torch.randn(vectors, inputs, generator=draw(seed + 1))


def on_tiles(weight, x, crossbar, product="float32", input_range=None, noise_key=1, kernel="reference"):
    """The layer's product on ideal devices; input ranges just wide enough unless given."""
    grid = crossbar.grid(*weight.shape)
    blocks = grid.to_blocks(weight)
    scale = weight_scale(blocks, grid, crossbar.scale_per)
    if input_range is None:
        input_range = torch.stack([part.abs().max() for part in x.split(grid.row_blocks, dim=1)]).clamp(min=1e-6)
    ready = ReadyWeights.of(normalised(blocks, scale), grid, crossbar, product, kernel)
    y, _ = mvm(x, ready, Scaling.of(input_range, scale, grid, crossbar), noise_key)
    return y
