"""LeNet5 and heads on frozen encoders: trained, resumed, extracted and put back into plain models from the command line."""

import json
import math
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from analog_glue import evaluation
from analog_glue.cli.main import main
from analog_glue.errors import UserError
from analog_glue.in_situ.devices.soft_bounds import SoftBounds
from analog_glue.in_situ.reports.records import find_runs
from analog_glue.in_situ.tasks import heads
from analog_glue.in_situ.tasks.heads import HeadTask
from analog_glue.in_situ.tasks.images import MnistLeNet5
from analog_glue.in_situ.tasks.war_and_peace import WarAndPeace
from analog_glue.in_situ.training.loop import fit_in_situ
from analog_glue.in_situ.training.mode import Periphery
from analog_glue.in_situ.training.sgd_digital import SGDDigital
from analog_glue.in_situ.training.sgd_pulsed import SGDPulsed
from analog_glue.in_situ.training.ttv2 import TTv2
from analog_glue.models import PretrainedModel, TinyModel, save_model
from analog_glue.tasks.demo import DemoTask
from analog_glue.tasks.task import encode

CLEAN = Periphery(
    dac_bits=0, adc_bits=0, output_bound=math.inf, output_noise=0.0, noise_management=False, bound_management=False
)


def write_idx(path, array):
    path.write_bytes(struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Squares in one of ten places, as the four idx files of MNIST."""
    root, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name, number in (("train", 200), ("t10k", 60)):
        classes = random.integers(0, 10, number).astype(np.uint8)
        images = random.integers(0, 60, (number, 28, 28)).astype(np.uint8)
        for image, place in zip(images, classes, strict=True):
            image[5 * (place // 3) : 5 * (place // 3) + 8, 9 * (place % 3) : 9 * (place % 3) + 8] = 250
        write_idx(root / f"{name}-images-idx3-ubyte", images)
        write_idx(root / f"{name}-labels-idx1-ubyte", classes)
    return root


# --- LeNet5 ------------------------------------------------------------------------------------------------


def test_the_arrays_of_lenet5_are_those_of_the_paper_and_reads_count_pictures(pictures):
    trainable, _ = MnistLeNet5().load(str(pictures), TTv2(transfer_every=1), SoftBounds(), 0)
    learners = trainable.network.learners
    assert [(each.outputs, each.inputs) for each in learners] == [(16, 26), (32, 401), (128, 513), (10, 129)]
    assert [each.transfer_every for each in learners] == [576, 64, 1, 1]
    trainable.train(0, 0, 0.01)
    assert [array.counts.tolist() for array in trainable.network.arrays] == [[576] * 2, [64] * 2, [1] * 2, [1] * 2]


@pytest.mark.slow
def test_lenet5_resumes_bit_for_bit(pictures, tmp_path):
    mode = TTv2(epochs=2, learning_rate=0.05, output_scale=1.0, transfer_every=1)
    task, runs = MnistLeNet5(train_images=8, test_images=5), {}
    for name, stops in (("whole", [None]), ("parts", [3, None])):
        (tmp_path / name).mkdir()
        for stop in stops:
            runs[name], _ = task.load(str(pictures), mode, SoftBounds(dw_min=0.01), 0)
            curve = fit_in_situ(runs[name], mode, tmp_path / name, lambda _: None, stop_after=stop)
        runs[name] = (runs[name].state(), [(row.train_loss, row.scores) for row in curve])
    assert runs["whole"][1] == runs["parts"][1]
    assert all(np.array_equal(array, runs["parts"][0][name]) for name, array in runs["whole"][0].items())


def test_lenet5_in_floating_point_is_plain_gradient_descent(pictures):
    trainable, _ = MnistLeNet5().load(str(pictures), SGDDigital(), SoftBounds(), 0)
    weights = [array.weight() for array in trainable.network.arrays]
    twin, data = trainable.deployable(weights), trainable.data
    optimizer = torch.optim.SGD(twin.parameters(), 0.01)
    for unit in range(10):
        trainable.train(0, unit, 0.01)
        i = trainable._order[1][unit]
        optimizer.zero_grad()
        nn.functional.cross_entropy(twin(data.inputs[i : i + 1]), data.targets[i : i + 1]).backward()
        optimizer.step()
    ours = trainable.deployable([array.weight() for array in trainable.network.arrays])
    for one, other in zip(ours.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_lenet5_learns_and_its_extracted_weights_make_a_plain_network_of_the_same_scores(pictures, tmp_path):
    words = ["task=mnist_lenet5", "device=symmetric_linear", "training=sgd_pulsed", "training.output_scale=1",
             "training.epochs=5", f"data.root={pictures}", f"output_root={tmp_path}"]  # fmt: skip
    assert main(["train", *words]) == 0
    (run,) = tmp_path.iterdir()
    assert main(["extract", f"checkpoint={run}", "extract.products=1500"]) == 0
    (folder,) = run.glob("extraction-*")
    scores = json.loads((folder / "extraction.json").read_text())["scores"]
    assert scores["analog arrays"]["accuracy"] > 60  # 10 by chance
    trainable, _ = MnistLeNet5().load(str(pictures), SGDPulsed(), SoftBounds(), 0)
    weights = load_file(folder / "extracted.safetensors")
    plain = trainable.deployable([weights[str(number)].numpy() for number in range(4)])
    images, classes = trainable.data.tests["test"]
    with torch.no_grad():
        loss = nn.functional.cross_entropy(plain(images), classes).item()
    assert not any("analog" in type(module).__module__ for module in plain.modules())
    assert scores["extracted, digital"]["cross_entropy"] == pytest.approx(loss, rel=1e-4)


# --- heads -------------------------------------------------------------------------------------------------

TINY = ["task=demo", "model=tiny", "device=soft_bounds", "task.train_size=120", "task.validation_size=60", "model.hidden=32",
        "model.layers=1", "model.heads=2", "model.intermediate=32"]  # fmt: skip


@pytest.fixture(scope="module")
def head_run(tmp_path_factory):
    root = tmp_path_factory.mktemp("heads")
    words = [*TINY, "training=sgd_pulsed", "training.epochs=2", "training.output_scale=1", f"output_root={root}"]
    assert main(["train", *words]) == 0
    (run,) = root.glob("demo-tiny-soft_bounds-sgd_pulsed-*")
    return run


def head_task(root):
    """The task of `head_run`, from Python."""
    return HeadTask(
        DemoTask(train_size=120, validation_size=60),
        TinyModel(hidden=32, layers=1, heads=2, intermediate=32, vocabulary_size=1000, dropout=0.1), root / "features",
    )  # fmt: skip


@pytest.mark.slow
def test_features_are_computed_once_for_all_seeds_and_settings(head_run, monkeypatch):
    (folder,) = (head_run.parent / "features").iterdir()
    files = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert sorted(files) == ["train.safetensors", "validation.safetensors"]
    monkeypatch.setattr(heads, "_through", None)  # who computes again, fails
    words = [*TINY, "training=ttv2", "training.epochs=1", f"output_root={head_run.parent}"]
    assert main(["train", *words]) == 0
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == files


@pytest.mark.slow
def test_seeds_that_draw_their_own_encoder_are_runs_of_one_group(tmp_path):
    words = [*TINY, "training=sgd_pulsed", "training.epochs=1", "training.output_scale=1", f"output_root={tmp_path}"]
    for seed in (0, 1):
        assert main(["train", *words, f"seed={seed}"]) == 0
    first, second = find_runs(tmp_path)
    assert len(list((tmp_path / "features").iterdir())) == 2  # two encoders
    assert (first.seed, second.seed) == (0, 1) and first.settings == second.settings


def test_a_dry_run_computes_no_features(tmp_path, capsys):
    assert main(["train", *TINY, "training=ttv2", "dry_run=true", f"output_root={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert "120 examples an epoch; tests: 60 examples" in said and "encoder's features of all sentences come first" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_dry_run_counts_the_uses_of_a_convolution(pictures, tmp_path, capsys):
    words = ["task=mnist_lenet5", "training=ttv2", "training.transfer_every=1", f"data.root={pictures}"]
    assert main(["train", *words, f"output_root={tmp_path}", "dry_run=true"]) == 0
    assert "16 × 26       416       832                 576                 1" in capsys.readouterr().out


def test_the_features_and_the_head_together_are_the_whole_model(head_run):
    task = head_task(head_run.parent)
    trainable, _ = task.load(None, SGDPulsed(periphery=CLEAN, output_scale=1.0), SoftBounds(), 0)
    whole = trainable.deployable([array.weight() for array in trainable.network.arrays])
    raw = task.task.load(None)
    tokenizer = task.model.load(5, 0, texts=raw.train.texts).tokenizer
    encoded = encode(raw.validation["validation"], tokenizer, 32, 5)
    trainable.network.model.eval()
    with torch.no_grad():
        expected = trainable.network.model(trainable.data.tests["validation"][0])
        inputs = encoded.batch(range(60))
        del inputs["labels"]
        torch.testing.assert_close(whole(**inputs).logits, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_head_is_extracted_into_the_whole_model(head_run):
    assert main(["extract", f"checkpoint={head_run}", "extract.products=2000"]) == 0
    (folder,) = head_run.glob("extraction-*")
    record = json.loads((folder / "extraction.json").read_text())
    assert [(row["outputs"], row["inputs"]) for row in record["arrays"]] == [(32, 33), (5, 33)]
    task = head_task(head_run.parent)
    trainable, _ = task.load(None, SGDPulsed(), SoftBounds(), 0)
    weights = load_file(folder / "extracted.safetensors")
    whole = trainable.deployable([weights["0"].numpy(), weights["1"].numpy()])
    raw = task.task.load(None)
    tokenizer = task.model.load(5, 0, texts=raw.train.texts).tokenizer
    validation = {name: encode(split, tokenizer, 32, 5) for name, split in raw.validation.items()}
    (score,) = evaluation.score(whole, task.task, validation, 4096)
    assert score.value == pytest.approx(record["scores"]["extracted, digital"]["accuracy"])
    assert whole.classifier.weight.shape == (5, 32) and torch.equal(whole.classifier.weight, weights["1"][:, :32])


def encoder_folder(root, kind):
    config_of, model_of, more = {
        "bert": (BertConfig, BertForSequenceClassification, {}),
        "albert": (AlbertConfig, AlbertForSequenceClassification, {"embedding_size": 16}),
        "roberta": (RobertaConfig, RobertaForSequenceClassification, {}),
        "distilbert": (DistilBertConfig, DistilBertForSequenceClassification, {"hidden_dim": 32}),
    }[kind]
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = model_of(config_of(vocab_size=40, pad_token_id=0, **sizes, **more))
    vocabulary = {token: i for i, token in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "sound", "is"))}
    save_model(model, BertTokenizer(vocab=vocabulary), root)
    return PretrainedModel(name="none", revision="none", short=kind, path=str(root))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "albert", "roberta", "distilbert"])
def test_the_heads_of_these_encoders_are_the_models_own(kind, tmp_path):
    model = encoder_folder(tmp_path / "model", kind)
    task = HeadTask(DemoTask(train_size=10, validation_size=10), model, tmp_path / "features")
    task.check(None)
    trainable, _ = task.load(None, SGDPulsed(periphery=CLEAN, output_scale=1.0), SoftBounds(w_max=2.0), 0)
    own = model.load(5, 0)
    encoded = encode(task.task.load(None).validation["validation"], own.tokenizer, 32, 5)
    inputs = encoded.batch(range(10))
    del inputs["labels"]
    trainable.network.model.eval()
    with torch.no_grad():
        outputs = trainable.network.model(trainable.data.tests["validation"][0])
        torch.testing.assert_close(outputs, own.model(**inputs).logits, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_an_encoder_with_an_unknown_head_is_refused_before_anything_runs(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"model_type": "electra"}')
    for file in ("model.safetensors", "tokenizer.json"):
        (tmp_path / file).write_text("")
    assert main(["train", "task=demo", "model=minilm", f"model.path={tmp_path}", "training=ttv2"]) == 2
    assert "be an encoder whose head is known (bert, albert, roberta, distilbert)" in capsys.readouterr().err


def test_grades_are_learnt_by_their_squared_error():
    outputs, grades = torch.tensor([[1.0]]), torch.tensor([3.0])
    assert heads._squared_error(outputs, grades) == 4.0


@pytest.mark.parametrize("size", [100_000, 200_000, 325_050])
def test_a_text_that_is_no_longer_than_the_test_set_is_refused_before_it_is_read(tmp_path, size):
    (tmp_path / "warpeace_input.txt").write_bytes(b"a" * size)
    with pytest.raises(UserError, match=rf"325,101 bytes.*{size:,} bytes"):
        WarAndPeace().check(str(tmp_path))
    (tmp_path / "warpeace_input.txt").write_bytes(b"a" * 325_101)
    WarAndPeace().check(str(tmp_path))
