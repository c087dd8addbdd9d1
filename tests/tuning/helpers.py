"""What several of these tests build and compare with."""

from dataclasses import replace

import torch
from transformers import BertConfig, BertForSequenceClassification

from analog_glue.devices.ideal import Ideal
from analog_glue.devices.pcm import PCM
from analog_glue.nn.computation import Computation
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.nn.placement import Placement
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tuning.bench import Bench

TOKENS, LENGTH, VOCABULARY = 32, 12, 40
TILE = Crossbar(rows=16, columns=16, adc_bits=8, scale_per="tile")
NOTHING = Crossbar(rows=16, columns=16, dac_bits=None, adc_bits=None, output_noise=0.0, read_noise=0.0, scale_per="tile")
QUIET = replace(TILE, output_noise=0.0, read_noise=0.0)
OUTLIER = 3  # a channel of the embeddings that is far larger than the others, as encoders have them


def network(seed=0):
    """A small BERT, one of whose input channels has outliers."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}
    model = BertForSequenceClassification(BertConfig(vocab_size=VOCABULARY, max_position_embeddings=LENGTH, **sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.15)
        model.bert.embeddings.LayerNorm.weight[OUTLIER] = 12.0
    return model.eval()


def examples(first, count):
    """Batches of one sequence each, of a fixed order, the last tokens padded."""
    ids = torch.randint(1, VOCABULARY, (TOKENS, LENGTH), generator=torch.Generator().manual_seed(1))
    found = []
    for number in range(first, first + count):
        mask = torch.ones(1, LENGTH, dtype=torch.int64)
        mask[0, LENGTH - number % 4 :] = 0
        found.append({"input_ids": ids[number : number + 1], "attention_mask": mask})
    return found


def bench(tile=TILE, device=None, model=None, **fields):
    model = model or network()
    hardware = Hardware(device or Ideal(), tile)
    settings = {"calibration": 8, "compared": 6, "judged": 8, "chips": 2, "judges": 3, "time": 3600.0, "chip_seed": 0}
    computation = Computation.resolved(hardware, "cpu", "reference", "float32")
    return Bench(model, Placement.of(model, hardware), computation, examples, **(settings | fields))


def pcm_bench(tile=TILE, **fields):
    return bench(tile, PCM(), **fields)


def at_first(own, alpha=1.0):
    """A periphery to begin with: one input range everywhere."""
    return {name: LayerPeriphery(torch.full((len(grid.row_blocks),), alpha)) for name, grid in own.placement.grids.items()}


def outputs(own, periphery, number=0):
    """Of the network on a chip, for the examples that steps are judged on."""
    model = own.chip(periphery, number).ready_to_score(own.placement.hardware.device.drifts)
    with torch.no_grad():
        return torch.cat([model(**batch).logits for batch in examples(14, 8)])
