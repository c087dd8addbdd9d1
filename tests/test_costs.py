"""Multiply-adds by hand, by the published shares, and against what PyTorch counts while the networks run."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForSequenceClassification

from analog_glue.costs import ENCODERS, Encoder, count_operations, integer_energy, integer_energy_gain
from analog_glue.devices.ideal import Ideal
from analog_glue.errors import UserError
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.placement import Placement
from analog_glue.tiles.crossbar import Crossbar

SMALL = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 12, "num_hidden_layers": 4, "vocab_size": 20}
CONFIGS = {
    "bert": SMALL,
    "roberta": SMALL,
    "mpnet": SMALL,
    "albert": {**SMALL, "embedding_size": 6, "num_hidden_groups": 2, "inner_group_num": 1},
    "albert, inner groups": {**SMALL, "embedding_size": 6, "num_hidden_groups": 1, "inner_group_num": 2},
    "distilbert": {"dim": 8, "n_heads": 2, "hidden_dim": 12, "n_layers": 4, "vocab_size": 20},
}


@pytest.mark.parametrize(("tokens", "percent"), [(32, 0.69), (128, 2.7), (512, 10.0)])
def test_the_share_of_attention_in_bert_base(tokens, percent):
    # 2·S·768 over 2·S·768 + 4·768² + 2·768·3072 for every token and layer.
    assert ENCODERS["bert_base"].attention_share(tokens) == pytest.approx(percent, rel=0.005)


def test_multiply_adds_of_bert_base_by_hand():
    bert = ENCODERS["bert_base"]
    assert bert.linear(1) == 84_934_656  # the FactSheet's 21.74 billion operations: × 2 × 32 tokens × 4 sequences
    assert round(2 * 4 * bert.linear(32) / 1e9, 2) == 21.74
    assert bert.scores(32) + bert.values(32) == 12 * 2 * 32 * 32 * 768 == 18_874_368


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("tokens", [5, 9])
def test_every_multiply_add_is_one_that_pytorch_counts(kind, tokens):
    config = AutoConfig.for_model(kind.split(",")[0], **CONFIGS[kind], num_labels=3, attn_implementation="eager")
    model = AutoModelForSequenceClassification.from_config(config).eval()
    placement = Placement.of(model, Hardware(Ideal(), Crossbar(), ("*", "!*classifier*")))
    linears = {
        name: (layer.out_features, layer.in_features)
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear)
    }
    counted = count_operations(config.to_dict(), linears, placement.grids, tokens)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.ones(1, tokens, dtype=torch.long) * 3)
    assert sum(one.multiply_adds for one in counted) == counter.get_total_flops() / 2
    by_layer = {name.partition(".")[2]: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    for one in counted:
        if one.kind == "linear":
            assert one.multiply_adds == by_layer[one.layer] / 2, one.layer
            assert one.on_tiles == ("classifier" not in one.layer)
    encoder = Encoder.of(config.to_dict())
    of_encoder = [one for one in counted if one.kind == "linear" and one.vectors >= tokens and "embedding" not in one.layer]
    assert sum(one.multiply_adds for one in of_encoder) == encoder.linear(tokens)


def test_an_unknown_architecture_is_refused():
    with pytest.raises(UserError, match=r"bert, roberta, mpnet, albert, distilbert.*gpt2"):
        Encoder.of({"model_type": "gpt2"})


def test_energy_of_integers_follows_the_published_6_bits():
    assert integer_energy(8) == pytest.approx(0.2 + 0.072, rel=0.01)  # Horowitz's INT8 product, and 22 bits of an adder
    assert integer_energy_gain(6) == 11.3
    assert integer_energy_gain(8) == pytest.approx(7.1, abs=0.05)
    assert integer_energy_gain(10) == pytest.approx(4.9, abs=0.05)
    assert 2.0 / integer_energy(6) == pytest.approx(11.3, rel=0.04)  # the law itself, without the published number
