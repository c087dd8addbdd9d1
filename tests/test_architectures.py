"""Architectures beside the pinned ones: each loads with its own attention, trains, sweeps, and sees no padding."""

import json
import shlex
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import CONFIG_MAPPING, AutoModel, BertTokenizer, RobertaConfig, RobertaModel

from analog_glue.commands.dry_run import describe
from analog_glue.commands.train import prepare, run
from analog_glue.devices.pcm import PCM
from analog_glue.errors import UserError
from analog_glue.models import HEADS_OF_ONE_LAW, PretrainedModel, load_checkpoint_model, positions_of
from analog_glue.nn.placement import beside_tiles
from analog_glue.runs.model_files import model_entries
from analog_glue.runs.rows import ResultsFile
from analog_glue.settings import Calibration, Evaluation, HardwareSettings, RunSettings
from analog_glue.tasks.demo import DemoTask
from analog_glue.tasks.task import Split, encode
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.training.digital import Digital

TASK = DemoTask(train_size=24, validation_size=12)
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({w for (t,) in TASK.load(None).train.texts for w in t.split()})]
SMALL = {
    "vocab_size": len(TOKENS), "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
    "pad_token_id": 0, "max_position_embeddings": 130,
}  # fmt: skip
MARKS = {"bos_token_id": 2, "eos_token_id": 3}
RELATIVE = {"relative_attention": True, "type_vocab_size": 0}
ENCODERS = {
    "bert": SMALL,
    "roberta": SMALL,
    "electra": SMALL | {"embedding_size": 32},
    "albert": SMALL | {"embedding_size": 32},
    "distilbert": {"vocab_size": len(TOKENS), "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "pad_token_id": 0},
    "mobilebert": SMALL | {"embedding_size": 32, "true_hidden_size": 32, "intra_bottleneck_size": 32},
    "mpnet": SMALL,
    "modernbert": SMALL | MARKS | {"cls_token_id": 2, "sep_token_id": 3},
    "deberta": SMALL | RELATIVE | {"pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": SMALL | RELATIVE | {
        "pos_att_type": ["p2c", "c2p"], "position_buckets": 16, "share_att_key": True, "norm_rel_ebd": "layer_norm",
    },
    "convbert": SMALL | {"embedding_size": 64, "head_ratio": 2},
    "roformer": SMALL | {"embedding_size": 64},
    "squeezebert": SMALL | {"embedding_size": 64},
    "xlnet": MARKS | {"vocab_size": len(TOKENS), "d_model": 64, "n_layer": 2, "n_head": 4, "d_inner": 128, "pad_token_id": 0},
    "gpt2": MARKS | {
        "vocab_size": len(TOKENS), "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256, "pad_token_id": 0,
    },
}  # fmt: skip
WRITTEN_OUT = {"mpnet", "deberta", "deberta-v2", "convbert", "roformer", "squeezebert", "xlnet"}
# ConvBERT's convolution and MobileBERT's trigrams of tokens reach over the end of the text into the padding, by design.
READS_ITS_NEIGHBOURS = {"convbert", "mobilebert"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Makes the folder of an architecture, once each: a random encoder without a head, and a tokenizer."""
    made = {}

    def make(kind):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("encoders") / kind
            torch.manual_seed(0)
            AutoModel.from_config(CONFIG_MAPPING[kind](**ENCODERS[kind])).save_pretrained(made[kind])
            BertTokenizer(vocab={token: i for i, token in enumerate(TOKENS)}).save_pretrained(made[kind])
        return made[kind]

    return make


def pretrained(path, **changes):
    return PretrainedModel(name="nobody/nothing", revision="0" * 40, short="small", path=str(path), **changes)


def job(root, model, log=lambda line: None, task=TASK):
    settings = RunSettings(
        output_root=str(root),
        evaluation=Evaluation(chips=1, times=[1.0], ideal_devices=False),
        hardware=HardwareSettings(calibration=Calibration(examples=8)),
    )
    return prepare(settings, task, model, PCM(), Crossbar(rows=64, columns=64), Digital(epochs=1, max_steps=1), log=log)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENCODERS)
def test_every_architecture_is_described_trains_and_sweeps(kind, folder, tmp_path):
    said = []
    prepared = job(tmp_path, pretrained(folder(kind)), said.append)
    before = {name: tensor.clone() for name, tensor in prepared.loaded.model.named_parameters()}
    beside = beside_tiles(prepared.loaded.model)
    assert (f"not on tiles: {beside}" in describe(prepared)) == bool(beside)
    summary = run(prepared, said.append)
    assert (f"Not on tiles: {beside}" in said) == bool(beside)
    trained = load_checkpoint_model(summary.run_dir.parent).model
    assert trained.config._attn_implementation == ("eager" if kind in WRITTEN_OUT else "sdpa")
    moved = {name for name, tensor in trained.named_parameters() if not torch.equal(tensor, before[name])}
    assert len(moved) > len(before) / 2
    assert {row.stage for row in ResultsFile(summary.run_dir).rows()} == {"digital", "majority", "chip"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENCODERS)
def test_no_padding_and_nothing_in_it_moves_a_score(kind, folder):
    loaded = pretrained(folder(kind)).load(5, seed=0)
    split = TASK.load(None).train
    by_length = sorted(range(len(split)), key=lambda i: len(split.texts[i][0].split()))
    chosen = [by_length[0], by_length[-1]]
    encoded = encode(replace(split, texts=[split.texts[i] for i in chosen], labels=[0, 1]), loaded.tokenizer, 64, 5)
    assert encoded.lengths[0] < encoded.lengths[1]
    together = encoded.batch([0, 1])
    padding = together["attention_mask"] == 0
    with torch.no_grad():
        scores = loaded.model(**together).logits
        alone = torch.cat([loaded.model(**encoded.batch([i])).logits for i in (0, 1)])
        other = dict(together)
        other["input_ids"] = together["input_ids"].masked_fill(padding, 7)
        filled = loaded.model(**other).logits
    # Measured: 1.2e-5 for ConvBERT with these random weights, whose convolutions are weak; at most 2.7e-7 for all others.
    limit = 1e-4 if kind == "convbert" else 1e-5
    assert (scores - alone).norm() < limit * alone.norm()
    assert (alone[0] - alone[1]).norm() > 10 * (scores - alone).norm()  # what the texts differ by is seen
    # GPT-2 knows the last word of a text by the padding behind it.
    assert torch.equal(filled, scores) == (kind not in {*READS_ITS_NEIGHBOURS, "gpt2"})


def test_what_lies_on_no_tile_is_counted_by_class(folder):
    def weights(kind, *names):
        parameters = dict(pretrained(folder(kind)).load(2, 0).model.named_parameters())
        return sum(tensor.numel() for name, tensor in parameters.items() if name.endswith(names))

    assert beside_tiles(pretrained(folder("bert")).load(2, 0).model) == ""
    # GPT-2: 64 × 192, 64 × 64, 64 × 256, 256 × 64 in each of 2 layers, beside a head of 64 × 2.
    assert 2 * (64 * 192 + 64 * 64 + 2 * 64 * 256) == weights("gpt2", "c_attn.weight", "c_proj.weight", "c_fc.weight")
    assert beside_tiles(pretrained(folder("gpt2")).load(2, 0).model) == "8 Conv1D (99.9 % of the weights of matrix products)"
    assert beside_tiles(pretrained(folder("squeezebert")).load(2, 0).model).startswith("12 Conv1d (")
    # XLNet: q, k, v, o and r of 64 × 64 in each of 2 layers; the vectors added to the queries are no products.
    assert "10 XLNetRelativeAttention" in beside_tiles(pretrained(folder("xlnet")).load(2, 0).model)


def test_a_new_head_of_modernbert_can_learn(folder):
    model = pretrained(folder("modernbert")).load(2, seed=3).model
    assert torch.equal(model.head.norm.weight, torch.ones(64))
    assert model.classifier.weight.std().item() == pytest.approx(64**-0.5, rel=0.3)  # 128 draws, cut at 2 or 3 deviations
    again, other = (pretrained(folder("modernbert")).load(2, seed=seed).model for seed in (3, 4))
    assert torch.equal(again.head.dense.weight, model.head.dense.weight)
    assert not torch.equal(other.head.dense.weight, model.head.dense.weight)
    assert torch.equal(other.model.layers[0].attn.Wqkv.weight, model.model.layers[0].attn.Wqkv.weight)


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(HEADS_OF_ONE_LAW & ENCODERS.keys()))
def test_heads_that_are_drawn_by_one_law_are_so_in_their_own_architecture(kind, folder, monkeypatch):
    monkeypatch.setattr("analog_glue.models.HEADS_OF_ONE_LAW", frozenset())
    wide = pretrained(folder(kind)).load(3, seed=0).model  # as the library initialises it
    on_disk = load_file(folder(kind) / "model.safetensors")
    prefix = wide.base_model_prefix + "."
    new = {name: tensor for name, tensor in wide.named_parameters() if name.removeprefix(prefix) not in on_disk}
    assert any(tensor.dim() == 2 for tensor in new.values())
    for name, tensor in new.items():
        if tensor.dim() == 1:
            assert not tensor.any(), name
        else:  # 5 standard errors of a sample's spread
            assert tensor.std().item() == pytest.approx(0.02, rel=5 / (2 * tensor.numel()) ** 0.5), name


@pytest.mark.parametrize("kind", ["modernbert", "deberta-v2", "xlnet", "gpt2", "convbert"])
def test_dropout_reaches_every_dropout(kind, folder):
    model = pretrained(folder(kind), dropout=0.3).load(2, seed=0).model
    assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.3}


def test_dropout_that_cannot_be_set_is_refused(folder, monkeypatch):
    monkeypatch.setattr("analog_glue.runs.model_files.DROPOUT_FIELDS", ("attention_dropout",))
    with pytest.raises(UserError, match=r"`model\.dropout` must reach every dropout.*modernbert stays at 0"):
        pretrained(folder("modernbert"), dropout=0.3).load(2, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "positions"), [("bert", 130), ("roberta", 129), ("mpnet", 128), ("gpt2", 256)])
def test_a_text_as_long_as_the_positions_passes_and_a_longer_one_is_refused(kind, positions, folder, tmp_path):
    loaded = pretrained(folder(kind)).load(2, seed=0)
    assert positions_of(loaded.model) == positions
    encoded = encode(Split([("good " * 400,)], [0]), loaded.tokenizer, positions, 2)
    assert encoded.lengths[0] == positions
    with torch.no_grad():
        assert loaded.model(**encoded.batch([0])).logits.isfinite().all()
    with pytest.raises(UserError, match=rf"`task\.max_length` must be at most {positions}, .* but is {positions + 1}"):
        job(tmp_path, pretrained(folder(kind)), task=replace(TASK, max_length=positions + 1))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["modernbert", "xlnet"])
def test_relative_positions_set_no_bound(kind, folder):
    assert positions_of(pretrained(folder(kind)).load(2, 0).model) is None


def test_weights_in_several_files_are_those_of_one(folder, tmp_path):
    whole = folder("bert")
    AutoModel.from_pretrained(whole).save_pretrained(tmp_path, max_shard_size="100KB")
    for file in whole.glob("*token*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    parts = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(parts) > 1 and not (tmp_path / "model.safetensors").exists()
    pretrained(tmp_path).check()
    one, several = (pretrained(path).load(2, seed=0).model.state_dict() for path in (whole, tmp_path))
    assert all(torch.equal(one[name], several[name]) for name in one)
    before = model_entries(tmp_path)["model.weights"]
    AutoModel.from_config(CONFIG_MAPPING["bert"](**SMALL)).save_pretrained(tmp_path, max_shard_size="100KB")
    assert model_entries(tmp_path)["model.weights"] != before
    parts[1].unlink()
    with pytest.raises(UserError, match=rf"`model\.path`.*lacks {parts[1].name}"):
        pretrained(tmp_path).check()


@pytest.mark.slow
def test_a_pickle_is_refused_with_the_line_that_converts_it(folder, tmp_path):
    for file in folder("bert").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match="is a pickle") as refused:
        pretrained(tmp_path).check()
    line = shlex.split(str(refused.value).partition("without running its code: ")[2])
    subprocess.run([sys.executable, *line[1:]], cwd=tmp_path, check=True)
    pretrained(tmp_path).check()
    loaded = pretrained(tmp_path).load(2, 0).model.bert.state_dict()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_a_tokenizer_without_a_compiled_part_is_called_itself(tmp_path):
    fields = SMALL | {"vocab_size": 200, "tokenizer_class": "BertweetTokenizer"}
    RobertaModel(RobertaConfig(**fields)).save_pretrained(tmp_path)
    letters = "abcdefghijklmnopqrstuvwxyz"
    (tmp_path / "vocab.txt").write_text("".join(f"{c}@@ 9\n" for c in letters) + "".join(f"{c} 9\n" for c in letters))
    (tmp_path / "bpe.codes").write_text("t h 5\nth e</w> 4\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertweetTokenizer"}))
    loaded = pretrained(tmp_path).load(2, 0)
    assert not loaded.tokenizer.is_fast
    texts = [("good", "not bad"), ("a bad story " * 20,)]
    encoded = encode(Split(texts, [0, 1]), loaded.tokenizer, 16, 2)
    assert encoded.input_ids[0] == loaded.tokenizer(*texts[0])["input_ids"]
    assert encoded.lengths[1] == 16
    before = model_entries(tmp_path)["model.tokenizer"]
    (tmp_path / "bpe.codes").write_text("t h 5\nh e</w> 4\n")
    assert model_entries(tmp_path)["model.tokenizer"] != before
