"""Models: four families from local folders, heads drawn from the seed alone, checkpoints, no network."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import (
    AlbertConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertTokenizer,
    DistilBertConfig,
    RobertaConfig,
    RobertaTokenizer,
)

from analog_glue.models import PretrainedModel, TinyModel, load_checkpoint_model, save_model
from analog_glue.tasks.demo import DemoTask
from analog_glue.tasks.glue import GlueTask
from analog_glue.tasks.task import Split, encode, evaluation_batches

REPO = Path(__file__).parents[1]
REAL_STSB = REPO.parent / "shared" / "data" / "glue" / "stsb"
REAL_MINILM = REPO.parent / "shared" / "models" / "all-MiniLM-L6-v2"
WORDS = "the battery is very good but price not bad .".split()
TEXTS = [("the battery is very good .", "the price is not bad ."), ("good", "not bad but very good .")]

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
FAMILIES = {
    "bert": lambda n: BertConfig(vocab_size=n, **SMALL),
    "roberta": lambda n: RobertaConfig(vocab_size=n, max_position_embeddings=130, type_vocab_size=1, **SMALL),
    "distilbert": lambda n: DistilBertConfig(vocab_size=n, dim=16, n_layers=2, n_heads=2, hidden_dim=32),
    "albert": lambda n: AlbertConfig(vocab_size=n, embedding_size=8, **SMALL),
}


def encoder(folder: Path, family: str, dtype: torch.dtype = torch.float32) -> Path:
    """A folder with a small encoder without a head and a tokenizer: the form the hub serves."""
    if family == "roberta":
        tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ", *"abcdefghijklmnopqrstuvwxyz."]
        tokenizer = RobertaTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[])
    else:
        tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
        tokenizer = BertTokenizer(vocab={token: i for i, token in enumerate(tokens)})
    torch.manual_seed(0)
    AutoModel.from_config(FAMILIES[family](len(tokenizer))).to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Folders of all families, made once."""
    return {family: encoder(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


def pretrained(folder: Path | None, **changes) -> PretrainedModel:
    fields = {"name": "nobody/nothing", "revision": "0" * 40, "short": "small"}
    return PretrainedModel(**fields, path=None if folder is None else str(folder), **changes)


def tiny(**changes) -> TinyModel:
    fields = {
        "hidden": 16,
        "layers": 1,
        "heads": 2,
        "intermediate": 32,
        "vocabulary_size": 100,
        "dropout": 0.0,
    }
    return TinyModel(**(fields | changes))


def weights(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("num_labels", [1, 3])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_family_loads_without_a_network_and_learns(family, num_labels, encoders, no_network):
    spec = pretrained(encoders[family])
    spec.check()
    loaded = spec.load(num_labels, seed=0)
    model = loaded.model
    assert loaded.source == str(encoders[family])
    assert not model.training and model.config._attn_implementation == "sdpa"
    assert all(p.dtype == torch.float32 for p in model.parameters())
    encoded = encode(Split(TEXTS, [0, 1] if num_labels > 1 else [0.5, 4.0]), loaded.tokenizer, 32, num_labels)
    # Segment embeddings exist in BERT and ALBERT only; the two of RoBERTa's are one.
    assert (encoded.token_type_ids is not None) == (family in ("bert", "albert"))
    if encoded.token_type_ids is not None:
        assert set(encoded.token_type_ids[0]) == {0, 1}
    out = model(**encoded.batch([0, 1]))
    assert out.logits.shape == (2, num_labels)
    out.loss.backward()
    assert torch.isfinite(out.loss) and any(p.grad.abs().sum() > 0 for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_padding_does_not_change_a_score(family, encoders):
    loaded = pretrained(encoders[family]).load(2, seed=0)
    encoded = encode(Split([*TEXTS, ("bad",)], [0, 1, 0]), loaded.tokenizer, 64, 2)
    with torch.no_grad():
        together = loaded.model(**encoded.batch([0, 2])).logits[1]
        alone = loaded.model(**encoded.batch([2])).logits[0]
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_new_head_depends_on_the_seed_alone_and_leaves_the_global_random_state(family, encoders):
    spec = pretrained(encoders[family])
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = weights(spec.load(2, seed=1).model)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert same(weights(spec.load(2, seed=1).model), first)
    other = weights(spec.load(2, seed=2).model)
    head = {name for name in first if not torch.equal(first[name], other[name])}
    assert head and all("classifier" in name and name.endswith("weight") for name in head)
    on_disk = load_file(encoders[family] / "model.safetensors")
    assert not any(name in on_disk for name in head)
    for name in head:  # N(0, 0.02), as these encoders draw their own: 5 standard errors of a sample's spread
        assert first[name].std() == pytest.approx(0.02, rel=5 / (2 * first[name].numel()) ** 0.5)


def test_master_weights_are_float32_whatever_the_checkpoint_holds(tmp_path):
    model = pretrained(encoder(tmp_path, "bert", torch.bfloat16)).load(2, seed=0).model
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_dropout_sets_every_dropout_of_the_network(family, encoders):
    model = pretrained(encoders[family], dropout=0.25).load(2, seed=0).model
    rates = {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)}
    attention = {m.dropout_prob for m in model.modules() if hasattr(m, "dropout_prob")}
    assert rates == {0.25} and attention <= {0.25}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_checkpoint_reloads_to_the_same_bits_here_and_in_plain_transformers(family, encoders, tmp_path, no_network):
    loaded = pretrained(encoders[family]).load(3, seed=1)
    save_model(loaded.model, loaded.tokenizer, tmp_path / "checkpoint")
    assert not [f.name for f in (tmp_path / "checkpoint").iterdir() if f.suffix in (".bin", ".pt", ".pkl")]
    again = load_checkpoint_model(tmp_path / "checkpoint")
    assert same(weights(again.model), weights(loaded.model))
    assert again.model.config.num_labels == 3 and not again.model.training
    assert again.tokenizer.model_input_names == loaded.tokenizer.model_input_names
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "checkpoint", local_files_only=True)
    assert same(weights(plain), weights(loaded.model))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "checkpoint", local_files_only=True)
    assert tokenizer(*TEXTS[0])["input_ids"] == loaded.tokenizer(*TEXTS[0])["input_ids"]


@pytest.mark.slow
def test_a_save_that_was_killed_leaves_the_old_weights_and_the_next_one_clears_its_remains(tmp_path):
    first, second = (tiny().load(2, seed, TEXTS) for seed in (0, 1))
    save_model(first.model, first.tokenizer, tmp_path)
    code = (
        "import os, signal, sys; from pathlib import Path; from analog_glue import models\n"
        "os.replace = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        "loaded = models.load_checkpoint_model(Path(sys.argv[1]))\n"
        "loaded.model.classifier.weight.data.zero_()\n"
        "models.save_model(loaded.model, loaded.tokenizer, Path(sys.argv[1]))"
    )
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True)
    assert killed.returncode == -9 and list(tmp_path.glob(".saving-*"))
    assert same(weights(load_checkpoint_model(tmp_path).model), weights(first.model))
    save_model(second.model, second.tokenizer, tmp_path)
    assert not list(tmp_path.glob(".saving-*"))


def test_saving_again_replaces_the_weights_and_leaves_nothing_else_behind(tmp_path):
    first, second = (tiny().load(2, seed, TEXTS) for seed in (0, 1))
    save_model(first.model, first.tokenizer, tmp_path)
    names = sorted(f.name for f in tmp_path.iterdir())
    assert names == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    save_model(second.model, second.tokenizer, tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == names
    assert same(weights(load_checkpoint_model(tmp_path).model), weights(second.model))


def test_a_fine_tuned_head_of_the_right_size_is_kept_and_another_size_gets_a_new_one(encoders, tmp_path):
    loaded = pretrained(encoders["bert"]).load(3, seed=1)
    save_model(loaded.model, loaded.tokenizer, tmp_path)
    assert same(weights(pretrained(tmp_path).load(3, seed=9).model), weights(loaded.model))
    resized = weights(pretrained(tmp_path).load(2, seed=9).model)
    fresh = weights(pretrained(encoders["bert"]).load(2, seed=9).model)
    assert torch.equal(resized["classifier.weight"], fresh["classifier.weight"])


def test_an_incomplete_encoder_is_refused_rather_than_filled_with_noise(tmp_path):
    encoder(tmp_path, "bert")
    tensors = load_file(tmp_path / "model.safetensors")
    lost = "encoder.layer.1.output.dense.weight"
    tensors.pop(lost)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"complete bert encoder.*lacks 1 of its tensors, bert\.{lost}"):
        pretrained(tmp_path).load(2, seed=0)


def test_a_checkpoint_without_its_head_is_refused(encoders):
    with pytest.raises(ValueError, match=r"`checkpoint` must lead to a complete model.*classifier"):
        load_checkpoint_model(encoders["bert"])


@pytest.mark.parametrize("action", ["check", "load"])
def test_unusable_folders_name_the_setting_and_the_files(action, tmp_path, no_network):
    def act(spec):
        return spec.check() if action == "check" else spec.load(2, 0)

    with pytest.raises(ValueError, match=r"Setting `model\.path` .* does not exist"):
        act(pretrained(tmp_path / "nowhere"))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_text("pickles are not read")
    with pytest.raises(ValueError, match=r"`model\.path`.*lacks model\.safetensors and tokenizer\.json"):
        act(pretrained(tmp_path))


def test_a_missing_checkpoint_names_the_setting(tmp_path):
    with pytest.raises(ValueError, match=r"Setting `checkpoint` .* does not exist"):
        load_checkpoint_model(tmp_path / "nowhere")


@pytest.mark.parametrize("action", ["check", "load"])
def test_without_network_and_path_a_model_fails_at_once_and_names_the_setting(action, offline):
    spec = pretrained(None)
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"nobody/nothing is not in .* cannot be reached.*Set `model\.path=FOLDER`"):
        spec.check() if action == "check" else spec.load(2, 0)
    assert time.monotonic() - start < 2.0  # [s]


@pytest.mark.slow
def test_without_network_a_fresh_process_fails_within_two_seconds_without_importing_torch(tmp_path):
    code = (
        "import sys; from analog_glue.models import PretrainedModel\n"
        "try: PretrainedModel(name='nobody/nothing', revision='main', short='x').check()\n"
        "except ValueError as error: print(error, 'torch' in sys.modules)"
    )
    environment = os.environ | {
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": str(tmp_path),
        "PYTHONPATH": str(REPO),
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # [s] of the processor: a wall clock would count what else the machine does.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2.0
    assert "model.path=FOLDER" in out.stdout and out.stdout.rstrip().endswith("False")


def test_hub_files_are_downloaded_once_at_their_revision_and_then_read_without_a_network(
    encoders, hub_server, use_hub, tmp_path
):
    folder = encoder(tmp_path / "hub", "bert")
    (folder / "pytorch_model.bin").write_text("never fetched")
    spec = PretrainedModel(name="somebody/small", revision="a" * 40, short="small")
    asked = hub_server(folder, "models", spec.name, spec.revision)
    loaded = spec.load(2, seed=0)
    assert loaded.source == f"somebody/small@{'a' * 40}"
    assert same(weights(loaded.model), weights(pretrained(folder).load(2, seed=0).model))
    assert any(path.endswith("model.safetensors") for path in asked) and not any(".bin" in path for path in asked)
    use_hub()
    spec.check()
    assert same(weights(spec.load(2, seed=0).model), weights(loaded.model))


def test_tiny_knows_every_training_word_and_depends_on_the_seed_alone():
    raw = DemoTask(train_size=200, validation_size=20).load(None)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = tiny().load(5, seed=1, texts=raw.train.texts)
    assert torch.equal(torch.get_rng_state(), before)
    encoded = encode(raw.train, first.tokenizer, 64, 5)
    assert not any(first.tokenizer.unk_token_id in ids for ids in encoded.input_ids)
    text = raw.train.texts[0][0]
    assert first.tokenizer.convert_ids_to_tokens(encoded.input_ids[0]) == ["[CLS]", *text.split(), "[SEP]"]
    torch.rand(3)
    again, other = (tiny().load(5, seed=seed, texts=raw.train.texts) for seed in (1, 2))
    assert same(weights(again.model), weights(first.model)) and again.tokenizer.get_vocab() == first.tokenizer.get_vocab()
    assert not same(weights(other.model), weights(first.model))
    assert first.model.config._attn_implementation == "sdpa" and not first.model.training


def test_tiny_keeps_the_most_frequent_words_when_the_vocabulary_is_small():
    loaded = tiny(vocabulary_size=7).load(2, 0, [("b b b a a c",), ("c", "C")])
    assert set(loaded.tokenizer.get_vocab()) == {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "b", "c"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": 15}, r"`hidden` must be a multiple of `heads` = 2, but is 15"),
        ({"layers": 0}, r"`layers` must be at least 1"),
        ({"vocabulary_size": 5}, r"`vocabulary_size`"),
        ({"dropout": 1.0}, r"`dropout` must lie in \[0, 1\)"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


def test_every_model_option_pins_a_commit_and_says_how_it_is_used():
    options = {file.stem: file for file in (REPO / "conf" / "model").glob("*.yaml")}
    assert set(options) == {
        "bert_base",
        "bert_large",
        "roberta_base",
        "distilbert",
        "albert_base",
        "mpnet_base",
        "minilm",
        "tiny",
    }
    for name, file in options.items():
        text = file.read_text()
        assert text.startswith("# ") and "analog-glue train" in text
        fields = yaml.safe_load(text)
        target = fields.pop("_target_")
        assert fields["short"] == name
        if target == "analog_glue.models.PretrainedModel":
            assert len(PretrainedModel(**fields).revision) == 40
        else:
            assert TinyModel(**fields).dropout == 0.0


@pytest.mark.slow
@pytest.mark.skipif(not REAL_MINILM.is_dir(), reason="needs the encoder of ../shared/models/all-MiniLM-L6-v2")
def test_the_real_minilm_loads_whole_with_a_reproducible_head(no_network):
    fields = yaml.safe_load((REPO / "conf" / "model" / "minilm.yaml").read_text())
    fields.pop("_target_")
    spec = PretrainedModel(**(fields | {"path": str(REAL_MINILM)}))
    loaded = spec.load(2, seed=0)
    on_disk = load_file(REAL_MINILM / "model.safetensors")
    held = {name.removeprefix("bert."): tensor for name, tensor in loaded.model.state_dict().items()}
    kept = {name for name, tensor in on_disk.items() if name in held and torch.equal(held[name], tensor)}
    # Older checkpoints also carry a buffer of position numbers.
    assert set(on_disk) - kept <= {"embeddings.position_ids"}
    assert set(held) - kept == {"classifier.weight", "classifier.bias"}
    assert loaded.model.config.num_hidden_layers == 6 and loaded.model.config.hidden_size == 384
    # A pair of sentences as BERT writes it: [CLS] a [SEP] b [SEP], with segments 0 and 1.
    encoded = encode(Split([("Hello world", "Bye")], [1]), loaded.tokenizer, 128, 2)
    assert encoded.input_ids == [[101, 7592, 2088, 102, 9061, 102]]
    assert encoded.token_type_ids == [[0, 0, 0, 0, 1, 1]]
    assert torch.equal(spec.load(2, seed=0).model.classifier.weight, loaded.model.classifier.weight)
    assert json.loads((REAL_MINILM / "config.json").read_text())["hidden_dropout_prob"] == 0.1
    assert {m.p for m in loaded.model.modules() if isinstance(m, torch.nn.Dropout)} == {0.1}


@pytest.mark.slow
@pytest.mark.skipif(not REAL_MINILM.is_dir(), reason="needs the encoder of ../shared/models/all-MiniLM-L6-v2")
@pytest.mark.skipif(not REAL_STSB.is_dir(), reason="needs the sentences of ../shared/data/glue/stsb")
def test_the_real_minilm_grades_real_pairs_without_training():
    """Weights, tokenizer, padding and labels together: the encoder is made for cosines of mean outputs."""
    fields = yaml.safe_load((REPO / "conf" / "task" / "stsb.yaml").read_text())
    fields.pop("_target_")
    task = GlueTask(**fields)
    validation = task.load(str(REAL_STSB.parent)).validation["validation"]
    loaded = pretrained(REAL_MINILM).load(1, seed=0)
    chosen = range(0, 1500, 10)
    sentences = [(validation.texts[i][side],) for side in (0, 1) for i in chosen]
    encoded = encode(Split(sentences, [0.0] * len(sentences)), loaded.tokenizer, task.max_length, 1)
    means = torch.empty(len(sentences), loaded.model.config.hidden_size)
    with torch.no_grad():
        for indices in evaluation_batches(encoded, token_budget=2048):
            inputs = encoded.batch(indices)
            inputs.pop("labels")
            mask = inputs["attention_mask"].unsqueeze(-1)
            outputs = loaded.model.bert(**inputs).last_hidden_state
            means[indices] = (outputs * mask).sum(1) / mask.sum(1)
    cosine = torch.nn.functional.cosine_similarity(*means.chunk(2))
    score = task.score("validation", cosine[:, None].numpy(), np.array([validation.labels[i] for i in chosen]))
    # 88.4 over 300 pairs; 150 pairs scatter by (1 − ρ²)/√150 = 1.8. Labels out of step with sentences give 0.
    assert score["spearman"] > 88.4 - 5 * 1.8
