"""Work by hand, by the published sheet, and against what PyTorch counts while the networks run."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForSequenceClassification

from analog_glue.costs.architectures import ENCODERS, PUBLISHED, Architecture, Encoder
from analog_glue.costs.operations import PRODUCTS, work_of
from analog_glue.devices.ideal import Ideal
from analog_glue.errors import UserError
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.placement import Placement
from analog_glue.tiles.crossbar import Crossbar

RECORDS = Path(__file__).resolve().parents[2] / "outputs" / "records"
SMALL = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 12, "num_hidden_layers": 4, "vocab_size": 20}
CONFIGS = {
    "bert": SMALL,
    "roberta": SMALL,
    "mpnet": SMALL,
    "albert": {**SMALL, "embedding_size": 6, "num_hidden_groups": 2, "inner_group_num": 1},
    "albert, inner groups": {**SMALL, "embedding_size": 6, "num_hidden_groups": 1, "inner_group_num": 2},
    "distilbert": {"dim": 8, "n_heads": 2, "hidden_dim": 12, "n_layers": 4, "vocab_size": 20},
}


def built(kind: str, classes: int = 3, attention: str = "eager"):
    """(what config.json says, the module of transformers)."""
    config = AutoConfig.for_model(kind.split(",")[0], **CONFIGS[kind], num_labels=classes, attn_implementation=attention)
    return config.to_dict(), AutoModelForSequenceClassification.from_config(config).eval()


def linears_of(model) -> dict[str, tuple[int, int]]:
    modules = model.named_modules()
    return {name: (one.out_features, one.in_features) for name, one in modules if isinstance(one, torch.nn.Linear)}


class Elements(TorchDispatchMode):
    """Elements that come out of the operations of PyTorch that are no products, by their names."""

    NAMES = ("_softmax", "native_layer_norm", "gelu", "tanh", "relu")

    def __init__(self) -> None:
        super().__init__()
        self.counted: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in self.NAMES:
            self.counted[name] += (out[0] if isinstance(out, tuple) else out).numel()
        return out


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
@pytest.mark.parametrize("classes", [1, 3])
def test_layers_and_parameters_are_those_of_the_real_module(kind, classes):
    config, model = built(kind, classes)
    ours = Architecture(config, classes)
    assert {name: (one.outputs, one.inputs) for name, one in ours.linears.items()} == linears_of(model)
    assert list(ours.linears) == list(linears_of(model))
    assert ours.parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("tokens", [1, 5, 9])
def test_every_multiply_add_is_one_that_pytorch_counts(kind, tokens):
    config, model = built(kind)
    placement = Placement.of(model, Hardware(Ideal(), Crossbar(), ("*", "!*classifier*")))
    work = work_of(Architecture(config, 3), placement.grids, tokens)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.ones(1, tokens, dtype=torch.long) * 3)
    assert sum(one.amount for one in work if one.kind in PRODUCTS) == counter.get_total_flops() / 2
    by_layer = {name.partition(".")[2]: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    linears = [one for one in work if one.kind in ("analog_product", "digital_product")]
    assert {one.layer for one in linears} == linears_of(model).keys()
    for one in linears:
        assert one.amount == by_layer[one.layer] / 2, one.layer
        assert (one.kind == "analog_product") == ("classifier" not in one.layer)
    encoder = Encoder.of(config)
    assert sum(one.amount for one in linears if one.part == "encoder") == encoder.linear(tokens)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("tokens", [1, 6])
def test_small_terms_are_the_elements_that_pytorch_computes(kind, tokens):
    config, model = built(kind)
    units: Counter[str] = Counter()
    for one in work_of(Architecture(config, 3), {}, tokens):
        units[one.kind] += one.amount
    with Elements() as seen, torch.no_grad():
        model(torch.ones(2, tokens, dtype=torch.long) * 3)
    counted = Counter({name: number // 2 for name, number in seen.counted.items()})  # of one of two sequences
    assert units["softmax"] == counted["_softmax"]
    assert units["layer_norm"] == counted["native_layer_norm"]
    if kind.startswith("albert"):  # its GELU is written out by a tanh
        assert units["tanh"] + units["activation"] == counted["tanh"]
    else:
        assert (units["activation"], units["tanh"]) == (counted["gelu"] + counted["relu"], counted["tanh"])


def test_small_terms_of_bert_base_by_hand():
    work = work_of(Architecture(PUBLISHED["bert_base"]), {}, 32)
    units = {kind: sum(one.amount for one in work if one.kind == kind) for kind in {one.kind for one in work}}
    assert units["bias"] == 32 * 12 * (4 * 768 + 3072 + 768) + 768 + 2
    assert units["residual"] == 32 * 12 * 2 * 768
    assert units["mask"] == units["score_scale"] == 12 * 12 * 32 * 32
    assert units["embedding"] == 32 * 2 * 768
    assert not {"dac_scale", "adc_scale", "partial_sum", "channel_scale", "position_bias"} & units.keys()  # nothing on tiles


def test_what_surrounds_a_tile_is_counted_by_its_blocks():
    crossbar, bert = Crossbar(rows=512, columns=512), Architecture(PUBLISHED["bert_base"])
    name = "bert.encoder.layer.0.output.dense"  # 3072 inputs in six row blocks
    work = work_of(bert, {name: crossbar.grid(768, 3072)}, 10, {name: 3072})
    units = {one.kind: one.amount for one in work if one.layer == name}
    assert units == {
        "analog_product": 10 * 768 * 3072, "channel_scale": 10 * 3072, "dac_scale": 10 * 3072, "adc_scale": 10 * 768 * 6,
        "partial_sum": 10 * 768 * 5, "bias": 10 * 768,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("option", "millions", "longest"),
    [("bert_base", 109.48, 512), ("bert_large", 335.14, 512), ("roberta_base", 124.65, 512), ("distilbert", 66.96, 512),
     ("albert_base", 11.69, 512), ("minilm", 22.71, 512), ("mpnet_base", 109.49, 512)],
)  # fmt: skip
def test_options_have_the_sizes_that_their_makers_print(option, millions, longest):
    architecture = Architecture(PUBLISHED[option])
    assert architecture.parameters == pytest.approx(1e6 * millions, rel=0.002)
    assert architecture.longest == longest


@pytest.mark.parametrize(
    ("option", "classes", "record"),
    [("minilm", 2, "spoon2021_figure5_minilm/mrpc-minilm-digital-seed0-104b76fe"),
     ("mpnet_base", 1, "mpnet_base/stsb-mpnet_base-digital-seed0-6fb24642")],
)  # fmt: skip
def test_real_networks_of_records_have_so_many_parameters(option, classes, record):
    run = json.loads((RECORDS / record / "run.json").read_text())
    assert Architecture(PUBLISHED[option], classes).parameters == run["model"]["parameters"]


def test_an_unknown_architecture_is_refused():
    with pytest.raises(UserError, match=r"bert, roberta, mpnet, albert, distilbert.*gpt2"):
        Encoder.of({"model_type": "gpt2"})


def test_a_size_that_is_missing_is_named():
    with pytest.raises(UserError, match=r"must say `hidden_size`"):
        _ = Architecture({"model_type": "bert"}).encoder
