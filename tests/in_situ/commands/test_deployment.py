"""Weights trained in situ, extracted, put on phase-change memory: an LSTM and a perceptron, from the command line."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from analog_glue.cli.main import main
from analog_glue.in_situ.commands.workloads import Answers, Continuation, picture_scores
from analog_glue.in_situ.kernels.matvec import PERFECT
from analog_glue.in_situ.nn.learner import Fixed, Stream
from analog_glue.in_situ.nn.lstm import InSituCharacterLSTM
from analog_glue.in_situ.nn.plain import CharacterLSTM, on_linear_layers, perceptron
from analog_glue.runs.rows import find_rows

LENGTH = 4000  # characters of the test text
TEXT = np.cumsum(np.random.default_rng(0).choice([1, 3], 30_000 + LENGTH)) % 20  # ln 2 nats a symbol can be reached


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An LSTM that learnt in situ, and its extraction."""
    root = tmp_path_factory.mktemp("run")
    (root / "data").mkdir()
    (root / "data" / "warpeace_input.txt").write_bytes((65 + TEXT).astype(np.uint8).tobytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("analog_glue.in_situ.tasks.war_and_peace.TEST_CHARACTERS", LENGTH)
        words = [
            "task=war_and_peace",
            "task.hidden=32",
            "task.layers=2",
            "training=sgd_pulsed",
            "training.learning_rate=0.1",
            "device=symmetric_linear",
            "training.epochs=1",
            f"data.root={root / 'data'}",
            f"output_root={root}",
        ]
        assert main(["train", *words]) == 0
        (folder,) = root.glob("war_and_peace-*")
        assert main(["extract", f"checkpoint={folder}", "extract.products=2000"]) == 0
        yield SimpleNamespace(root=root, folder=folder, extraction=folder / "extraction-uniform-2000-seed0")


def record_of(run):
    return json.loads((run.extraction / "extraction.json").read_text())


def arrays_of(run):
    tensors = load_file(run.extraction / "extracted.safetensors")
    return [tensors[str(number)].numpy() for number in range(len(tensors))]


def torch_loss(run):
    """Mean cross-entropy of torch's own LSTM with the extracted weights [nats]."""
    weights = [torch.from_numpy(array) for array in arrays_of(run)]
    model, decoder = nn.LSTM(20, 32, 2), nn.Linear(32, 20)
    with torch.no_grad():
        for layer, array in enumerate(weights[:-1]):
            getattr(model, f"weight_hh_l{layer}").copy_(array[:, :32])
            getattr(model, f"bias_ih_l{layer}").copy_(array[:, 32])
            getattr(model, f"bias_hh_l{layer}").zero_()
            getattr(model, f"weight_ih_l{layer}").copy_(array[:, 33:])
        decoder.weight.copy_(weights[-1][:, :32])
        decoder.bias.copy_(weights[-1][:, 32])
        text = torch.from_numpy(TEXT[-LENGTH:])
        hidden, _ = model(nn.functional.one_hot(text[:-1], 20).float())
        return nn.functional.cross_entropy(decoder(hidden), text[1:]).item()


@pytest.mark.slow
def test_extract_of_an_lstm_run_finds_its_weights_and_scores_them(run):
    record = record_of(run)
    last = list(csv.DictReader((run.folder / "learning_curve.csv").open()))[-1]
    assert record["scores"]["analog arrays"]["cross_entropy"] == pytest.approx(float(last["cross_entropy"]))
    for row in record["arrays"]:  # (20 … 128) × (33 … 65) weights; few that share their inputs
        assert row["estimated_error"] == pytest.approx(row["actual_error"], rel=0.1)
    digital = record["scores"]["extracted, digital"]["cross_entropy"]
    assert digital == pytest.approx(torch_loss(run), rel=1e-5) and digital < 1.5


@pytest.mark.slow
def test_streams_beside_each_other_score_as_one_text(run):
    model = CharacterLSTM(arrays_of(run))
    trainable = SimpleNamespace(text=TEXT[:-LENGTH], test_text=TEXT[-LENGTH:], unit_size=100)
    scores = {}
    for streams, warm_up in ((1, 0), (1, 50), (40, 100), (7, 100), (40, 0)):
        ((score,),) = Continuation(trainable, streams=streams, warm_up=warm_up).score(model)
        assert score.examples == LENGTH - 1
        scores[streams, warm_up] = score.value
    assert scores[1, 0] == pytest.approx(torch_loss(run), rel=1e-5)
    for which in ((1, 50), (40, 100), (7, 100)):
        assert scores[which] == pytest.approx(scores[1, 0], abs=1e-4)
    assert abs(scores[40, 0] - scores[1, 0]) > 1e-3  # without a warm-up, 40 beginnings are guessed
    arrays = [Fixed.of(weights) for weights in arrays_of(run)]
    digital = InSituCharacterLSTM(20, 32, arrays, PERFECT, PERFECT, 1.0, Stream.of(0, 0))
    for streams, warm_up in ((40, 0), (40, 100), (1, 50)):  # or they are those of the digital network
        ((score,),) = Continuation(trainable, streams=streams, warm_up=warm_up, digital=digital).score(model)
        assert score.value == pytest.approx(scores[1, 0], rel=1e-5)


def test_chips_in_one_pass_are_scored_as_alone(run):
    weights = arrays_of(run)
    trainable = SimpleNamespace(text=TEXT[:-LENGTH], test_text=TEXT[-LENGTH:], unit_size=100)
    workload = Continuation(trainable)
    models = [CharacterLSTM(weights), CharacterLSTM([0.9 * array for array in weights])]

    class Both(nn.Module):
        def empty(self, streams, device):
            return models[0].empty(streams, device)

        def forward(self, text, state):
            halves = [
                model(part, [(h.chunk(2)[i], c.chunk(2)[i]) for h, c in state])
                for i, (model, part) in enumerate(zip(models, text.chunk(2), strict=True))
            ]
            states = zip(*(state for _, state in halves), strict=True)
            return torch.cat([logits for logits, _ in halves]), [
                (torch.cat([h for h, _ in layer]), torch.cat([c for _, c in layer])) for layer in states
            ]

    together = [scores[0].value for scores in workload.score(Both(), 2)]
    assert together == pytest.approx([workload.score(model)[0][0].value for model in models], rel=1e-6)


def test_the_commonest_answer_of_a_text_is_the_shares_of_its_symbols(run):
    trainable = SimpleNamespace(text=TEXT[:-LENGTH], test_text=TEXT[-LENGTH:], unit_size=100)
    (score,) = Continuation(trainable).majority()
    assert score.value == pytest.approx(np.log(20), abs=0.01)


def evaluated(run, *words):
    out = run.root / "out"
    assert main(["evaluate", f"checkpoint={run.extraction}", f"output_root={out}", *words]) == 0
    return find_rows(out)


def values(rows, **wanted):
    return [row.value for row in rows if all(getattr(row, name) == value for name, value in wanted.items())]


@pytest.mark.slow
def test_on_pcm_the_lstm_forgets_with_time_and_compensation_brings_most_of_it_back(run):
    month = 2_592_000.0
    rows = evaluated(run, "noise=pcm", "evaluation.chips=3", f"evaluation.times=[1,{month}]",
                     "evaluation.compensation=[true,false]")  # fmt: skip
    rows = [row for row in rows if row.noise == "pcm"]
    assert {(row.task, row.model, row.training) for row in rows} == {
        ("war_and_peace", "symmetric_linear", "sgd_pulsed_extracted")
    }
    (digital,) = values(rows, stage="digital")
    assert digital == pytest.approx(record_of(run)["scores"]["extracted, digital"]["cross_entropy"], abs=1e-4)
    mean = {
        (t, compensated): np.mean(values(rows, stage="chip", t_seconds=t, compensated=compensated))
        for t in (1.0, month) for compensated in (True, False)
    }  # fmt: skip
    spread = max(np.std(values(rows, stage="chip", t_seconds=month, compensated=c), ddof=1) for c in (True, False))
    lost = {compensated: mean[month, compensated] - mean[1.0, compensated] for compensated in (True, False)}
    assert lost[False] > 5 * spread and lost[True] < 0.3 * lost[False]
    assert abs(mean[1.0, True] - digital) < 0.1
    assert values(rows, stage="majority")[0] > mean[month, True]


@pytest.mark.slow
def test_ideal_devices_behind_ideal_converters_give_the_digital_score(run):
    rows = [row for row in evaluated(run, "noise=ideal", "tile=ideal", "evaluation.chips=1") if row.noise == "ideal"]
    (digital,) = values(rows, stage="digital")
    for stage in ("ideal_devices", "chip"):
        assert values(rows, stage=stage)[0] == pytest.approx(digital, abs=1e-4)


@pytest.mark.slow
def test_what_an_extraction_does_not_hold_is_refused(run, capsys):
    assert main(["evaluate", f"checkpoint={run.extraction}", "evaluation.weights=averaged"]) == 2
    assert "training.average_products" in capsys.readouterr().err
    for word in ("ablate=true", "attention=int8"):
        capsys.readouterr()
        assert main(["evaluate", f"checkpoint={run.extraction}", word]) == 2
        said = capsys.readouterr().err
        assert f"`{word.partition('=')[0]}` must be" in said and "weights that were trained in situ" in said
    assert main(["evaluate", f"checkpoint={run.folder}"]) == 2
    assert f"analog-glue extract checkpoint={run.folder}" in capsys.readouterr().err
    assert main(["evaluate", f"checkpoint={run.extraction}", "dry_run=true"]) == 0
    assert "3 layers" in capsys.readouterr().out


@pytest.mark.slow
def test_a_perceptron_goes_the_same_way(tmp_path):
    words = ["task=digits", "device=soft_bounds", "training=ttv2", "training.output_scale=2", "training.transfer_every=1",
             "training.transfer_rate=0.1", "device.dw_min=0.01", "training.epochs=3", "training.average_products=500",
             f"output_root={tmp_path}"]  # fmt: skip
    assert main(["train", *words]) == 0
    (folder,) = tmp_path.iterdir()
    assert main(["extract", f"checkpoint={folder}", "extract.products=2000"]) == 0
    extraction = folder / "extraction-uniform-2000-seed0"
    for weights in ("extracted", "averaged"):
        assert main(["evaluate", f"checkpoint={extraction}", f"evaluation.weights={weights}", "evaluation.chips=2",
                     "evaluation.times=[1]", f"output_root={tmp_path}"]) == 0  # fmt: skip
    rows, scores = find_rows(tmp_path), json.loads((extraction / "extraction.json").read_text())["scores"]
    for weights in ("extracted", "averaged"):
        for metric, value in scores[f"{weights}, digital"].items():
            (digital,) = values(rows, training=f"ttv2_{weights}", stage="digital", metric=metric)
            assert digital == pytest.approx(value, rel=1e-4)
        on_chips = values(rows, training=f"ttv2_{weights}", stage="chip", metric="accuracy")
        assert len(on_chips) == 2 and min(on_chips) > 50


def test_pictures_of_several_chips_are_scored_as_alone():
    random = np.random.default_rng(0)
    images, classes = random.random((70, 12)).astype(np.float32), random.integers(0, 3, 70)
    images, classes = torch.from_numpy(images), torch.from_numpy(classes)
    models = [perceptron([random.normal(size=shape) for shape in ((5, 13), (3, 6))]) for _ in range(2)]

    class Both(nn.Module):
        def forward(self, x):
            return torch.cat([model(part) for model, part in zip(models, x.chunk(2), strict=True)])

    workload = Answers(images, classes, {"test": (images, classes)}, picture_scores)
    together = [[score.value for score in scores] for scores in workload.score(Both(), 2)]
    assert together == [[score.value for score in workload.score(model)[0]] for model in models]
    assert workload.headline == "accuracy"
    assert workload.majority()[0].value == pytest.approx(100 * np.bincount(classes).max() / 70)


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": (1, 2), "bias": False}, {"dilation": (2, 1)}])
def test_a_convolution_is_a_linear_layer_on_patches(options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, (3, 2), **options), nn.Tanh(), nn.Flatten())
    x, plain = torch.randn(4, 3, 9, 11), on_linear_layers(model)
    torch.testing.assert_close(plain(x), model(x))
    assert [type(module) for module in plain.modules() if isinstance(module, nn.Linear | nn.Conv2d)] == [nn.Linear]


@pytest.mark.slow
def test_a_head_that_learnt_in_situ_goes_on_chips_with_its_encoder(tmp_path):
    words = ["task=demo", "model=tiny", "device=symmetric_linear", "training=sgd_pulsed", "training.epochs=1",
             "task.train_size=200", "task.validation_size=100", f"output_root={tmp_path}"]  # fmt: skip
    assert main(["train", *words]) == 0
    (folder,) = tmp_path.glob("demo-*")
    assert main(["extract", f"checkpoint={folder}", "extract.products=1000"]) == 0
    extraction = folder / "extraction-uniform-1000-seed0"
    assert main(["evaluate", f"checkpoint={extraction}", "evaluation.chips=1", "evaluation.times=[1]",
                 f"output_root={tmp_path}"]) == 0  # fmt: skip
    scores = json.loads((extraction / "extraction.json").read_text())["scores"]["extracted, digital"]
    rows = find_rows(tmp_path)
    for metric, value in scores.items():
        assert values(rows, stage="digital", metric=metric) == [pytest.approx(value, abs=1e-6)]
    assert len(values(rows, stage="chip", headline=True)) == 1
    assert rows[0].model == "tiny-symmetric_linear"
    # The seed draws the encoder: what is scored is the text, the same for every seed.
    assert {row.data for row in rows} == {json.loads((folder / "run.json").read_text())["data"]["without_seed"]}
