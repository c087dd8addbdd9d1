"""Weights on tiles and on pairs of devices: published tile counts, and the way back."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, BertConfig, RobertaConfig

from analog_glue.costs.tiles import count_tiles
from analog_glue.devices.ideal import Ideal
from analog_glue.devices.pcm import PCM
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.placement import Placement
from analog_glue.tiles.crossbar import Crossbar, ProgrammedCrossbar
from analog_glue.tiles.mapping import (
    TileGrid,
    conductances_to_weights,
    even_split,
    normalised,
    weight_scale,
    weights_to_targets,
)
from tests.tiles.helpers import draw, few, random_layer, sizes


@pytest.mark.parametrize(
    ("size", "limit", "parts"),
    [
        (768, 512, (384, 384)),
        (3072, 512, (512,) * 6),
        (1024, 512, (512, 512)),
        (384, 512, (384,)),
        (513, 512, (257, 256)),
        (1537, 512, (385, 384, 384, 384)),
        (2, 512, (2,)),
        (5, 1, (1,) * 5),
    ],
)
def test_a_layer_is_cut_into_the_fewest_parts_of_nearly_equal_size(size, limit, parts):
    assert even_split(size, limit) == parts


@few
@given(st.integers(1, 5000), st.integers(1, 600))
def test_any_split_covers_the_size_with_the_fewest_parts_that_fit(size, limit):
    parts = even_split(size, limit)
    assert sum(parts) == size
    assert len(parts) == math.ceil(size / limit)
    assert max(parts) <= limit
    assert max(parts) - min(parts) <= 1
    assert list(parts) == sorted(parts, reverse=True)


def encoder(config):
    with torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(config)


BERT_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}


MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}


@pytest.mark.parametrize(
    ("config", "layers", "tiles"),
    [
        (BertConfig(), 74, 486),
        (RobertaConfig(), 74, 486),
        (BertConfig(**BERT_LARGE), 146, 1158),
        (BertConfig(**MINILM), 38, 62),
    ],
    ids=["bert_base", "roberta_base", "bert_large", "minilm"],
)
def test_published_encoders_take_as_many_tiles_as_published(config, layers, tiles):
    count = count_tiles(Placement.of(encoder(config), Hardware(PCM(), Crossbar())))
    assert (count.layers, count.tiles) == (layers, tiles)


def test_roberta_fills_its_tiles_as_published():
    count = count_tiles(Placement.of(encoder(RobertaConfig()), Hardware(PCM(), Crossbar())))
    assert count.over_layers == pytest.approx(61.57, abs=0.005)  # the mean over its 74 modules
    assert count.over_tiles == pytest.approx(67.13, abs=0.005)


def test_bert_without_pooler_and_classifier_takes_480_tiles():
    hardware = Hardware(PCM(), Crossbar(), layers=("*", "!*pooler*", "!classifier"))
    assert count_tiles(Placement.of(encoder(BertConfig()), hardware)).tiles == 480


@few
@given(sizes, sizes, st.integers(1, 20), st.integers(1, 20))
def test_weights_come_back_from_their_blocks(outputs, inputs, rows, columns):
    weight, x = random_layer(outputs, inputs)
    grid = TileGrid.of(outputs, inputs, rows, columns)
    blocks = grid.to_blocks(weight)
    assert blocks.shape == (len(grid.row_blocks), outputs, grid.padded_rows)
    assert blocks.is_contiguous()
    assert torch.equal(grid.from_blocks(blocks), weight)
    assert blocks.abs().sum().item() == pytest.approx(weight.abs().sum().item(), rel=1e-4)  # padding is zero
    padded = grid.pad_inputs(x).view(len(x), len(grid.row_blocks), grid.padded_rows)
    assert torch.equal(grid.unpad_inputs(padded), x)
    per_block = torch.arange(float(len(grid.row_blocks)))
    spread = torch.cat([torch.full((rows,), float(block)) for block, rows in enumerate(grid.row_blocks)])
    assert torch.equal(grid.spread_over_rows(per_block), spread)
    assert grid.tiles == len(even_split(inputs, rows)) * len(even_split(outputs, columns))


def test_a_row_block_and_a_column_tile_hold_what_a_slice_of_the_matrix_holds():
    weight, _ = random_layer(5, 7)
    grid = TileGrid.of(5, 7, rows=3, columns=2)  # rows 3 + 2 + 2, columns 2 + 2 + 1
    assert (grid.row_blocks, grid.column_blocks) == ((3, 2, 2), (2, 2, 1))
    assert torch.equal(grid.to_blocks(weight)[1, :, :2], weight[:, 3:5])
    assert not grid.to_blocks(weight)[1, :, 2].any()


@pytest.mark.parametrize("per", ["column", "tile", "none"])
def test_a_full_on_cell_is_the_largest_weight_that_shares_its_scale(per):
    weight, _ = random_layer(5, 7)
    weight[4, 2] = -9.0
    weight[0] = 0
    grid = TileGrid.of(5, 7, rows=3, columns=2)
    scale = weight_scale(grid.to_blocks(weight), grid, per)
    starts = (0, 3, 5, 7)
    columns = {0: (0, 2), 1: (0, 2), 2: (2, 4), 3: (2, 4), 4: (4, 5)}  # output → its column tile
    for block in range(3):
        for output in range(5):
            first, last = (output, output + 1) if per == "column" else columns[output]
            shared = weight[first:last, starts[block] : starts[block + 1]]
            expected = 1.0 if per == "none" or not shared.any() else shared.abs().max().item()
            assert scale[block, output].item() == pytest.approx(expected)
    assert normalised(grid.to_blocks(weight), scale).abs().max() == 1


def test_a_weight_is_written_into_one_device_of_its_pair(noise):
    weights = torch.tensor([[[0.5, -0.25, 0.0, 1.0, -1.0]]])
    array = ProgrammedCrossbar.program(weights, Ideal(g_max=20.0), noise())
    positive, negative = array.pair(1.0, noise())
    assert positive.flatten().tolist() == [10, 0, 0, 20, 0]
    assert negative.flatten().tolist() == [0, 5, 0, 0, 20]
    assert torch.equal(array.weights(1.0, noise()), weights)


@few
@given(st.integers(0, 1000), st.sampled_from([1.0, 25.0, 40.0]))
def test_conductances_turn_back_into_weights(seed, g_max):
    weights = (2 * torch.rand(2, 5, 3, generator=draw(seed)) - 1) * (torch.rand(2, 5, 3, generator=draw(seed + 1)) > 0.2)
    targets = weights_to_targets(weights, g_max)
    assert (targets.g_active >= 0).all()
    assert (targets.g_active <= g_max).all()
    for idle in (None, torch.zeros_like(weights)):
        back = conductances_to_weights(targets.g_active.clone(), idle, targets.sign, g_max)
        assert torch.allclose(back, weights, atol=1e-6)


@pytest.mark.parametrize("idle_noise", [False, True])
def test_weights_are_the_difference_of_the_pair(idle_noise, noise):
    weights = (2 * torch.rand(2, 5, 300, generator=draw()) - 1) * (torch.rand(2, 5, 300, generator=draw(1)) > 0.2)
    array = ProgrammedCrossbar.program(weights, PCM(idle_noise=idle_noise), noise())
    positive, negative = array.pair(3600.0, noise(1))
    assert torch.allclose(array.weights(3600.0, noise(1)), (positive - negative) / 25, atol=1e-6)
    assert not torch.equal(array.weights(3600.0, noise(1)), weights)


def test_both_devices_of_a_pair_have_a_history_of_their_own(noise):
    weights = torch.full((1, 100, 300), 0.5)
    array = ProgrammedCrossbar.program(weights, PCM(idle_noise=True), noise())
    assert (array.active.g_prog - 12.5).std() > 0.5
    assert array.idle.g_prog.max() > 0
    nus = torch.stack([array.active.nu.flatten(), array.idle.nu.flatten()]).float()
    assert nus[0].mean().item() == pytest.approx(0.049, abs=5e-4)
    assert nus[1].mean().item() == pytest.approx(0.1, abs=3e-3)  # the upper limit of the law, at zero; |ν| adds 0.4 %
    assert abs(torch.corrcoef(nus)[0, 1]) < 5 / math.sqrt(nus.shape[1])
    # Each ages by its own exponent: what the pair shows is not the drift of the difference.
    quiet = ProgrammedCrossbar(
        PCM(noise_scale=0.0), array.sign, array.active, replace(array.idle, error=torch.full_like(weights, 5.0))
    )
    expected = array.active.g_prog * 2 ** -array.active.nu.float() - 5 * 2 ** -array.idle.nu.float()
    assert torch.allclose(quiet.weights(20.0, noise()), expected / 25, atol=1e-6)


def test_idle_devices_without_noise_leave_zero_weights_at_zero(noise):
    weights = torch.zeros(1, 4, 5)
    assert not ProgrammedCrossbar.program(weights, PCM(), noise()).weights(3600.0, noise()).any()
    assert ProgrammedCrossbar.program(weights, PCM(idle_noise=True), noise()).weights(3600.0, noise()).any()
