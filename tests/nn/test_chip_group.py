"""Chips that share a forward pass."""

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from analog_glue.devices.pcm import PCM
from analog_glue.nn.computation import Computation
from analog_glue.nn.convert import ChipGroup, program
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.nn.placement import Placement
from analog_glue.tiles.crossbar import Crossbar


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        num_labels=3,
        initializer_range=0.1,
    )
    return BertForSequenceClassification(config).eval()


def chips(model, kernel):
    hardware = Hardware(PCM(), Crossbar(rows=32, columns=32))
    placement, computation = Placement.of(model, hardware), Computation.resolved(hardware, "cpu", kernel)
    periphery = {name: LayerPeriphery(torch.full((len(grid.row_blocks),), 4.0)) for name, grid in placement.grids.items()}
    programmed = [program(model, placement, computation, periphery, chip) for chip in range(3)]
    for chip in programmed:
        chip.set_time(3600.0)
    return programmed


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("kernel", ["reference", "compiled"])
@pytest.mark.parametrize("compensated", [False, True])
def test_every_chip_of_a_group_answers_as_it_does_alone(model, kernel, compensated):
    together = chips(model, kernel)
    ids = torch.randint(0, 50, (5, 11), generator=torch.Generator().manual_seed(1))
    alone = []
    for chip in together:
        network = chip.ready_to_score(compensated)
        alone.append(torch.stack([network(ids).logits for _ in range(2)]))  # two batches, with noise of their own
    network = ChipGroup(together).ready_to_score(compensated)
    grouped = torch.stack([network(torch.cat([ids] * 3)).logits.view(3, 5, 3) for _ in range(2)], dim=1)
    # Digital products of a larger batch may round differently, which moves an ADC code now and then; chips differ by far more.
    assert torch.allclose(grouped, torch.stack(alone), atol=2e-3)
    assert (grouped[0] - grouped[1]).abs().max() > 0.02


def test_a_chip_scores_alone_after_it_was_in_a_group(model):
    one, two, _ = chips(model, "compiled")
    ids = torch.arange(12).view(2, 6)
    with torch.no_grad():
        before = one.ready_to_score(True)(ids).logits
        ChipGroup([one, two]).ready_to_score(True)(torch.cat([ids, ids]))
        assert torch.equal(one.ready_to_score(True)(ids).logits, before)
