"""Extraction finds the weights that arrays hold, says how sure they are, and what pruning and noise cost."""

import csv
import json
import math
import re
import shlex

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from analog_glue.cli.main import main
from analog_glue.in_situ.commands import dry_run as description
from analog_glue.in_situ.commands.train import check_data
from analog_glue.in_situ.extraction.regression import Regression, expected_error
from analog_glue.in_situ.extraction.uncertainty import certainty, perturbed, pruned
from analog_glue.in_situ.tasks.images import Digits
from analog_glue.in_situ.training.chopped_ttv2 import ChoppedTTv2
from analog_glue.in_situ.training.loop import fit_in_situ
from analog_glue.in_situ.training.sgd_pulsed import SGDPulsed
from analog_glue.in_situ.training.statistics import Moments
from tests.in_situ.helpers import CLEAN, characters


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    words = ["task=digits", "device=soft_bounds", "training=ttv2", "training.output_scale=2", "training.transfer_every=1",
             "training.transfer_rate=0.1", "device.dw_min=0.01", "training.epochs=3", "task.train_images=600",
             "training.average_products=2000", "training.statistics_every=10", f"output_root={root}"]  # fmt: skip
    assert main(["train", *words]) == 0
    (folder,) = root.iterdir()
    return folder


def extracted(run, inputs="uniform"):
    assert main(["extract", f"checkpoint={run}", "extract.products=3000", f"extract.inputs={inputs}"]) == 0
    folder = run / f"extraction-{inputs}-3000-seed0"
    return folder, json.loads((folder / "extraction.json").read_text())


@pytest.mark.slow
def test_the_command_extract_finds_the_weights_that_the_arrays_hold(digits_run, capsys):
    folder, record = extracted(digits_run)
    state = load_file(digits_run / "training_state.safetensors")
    weights = load_file(folder / "extracted.safetensors")
    assert sorted(weights) == ["0", "1"]
    for row in record["arrays"]:
        n, found = row["array"], weights[str(row["array"])]
        assert found.dtype == torch.float32 and list(found.shape) == [row["outputs"], row["inputs"]]
        true = 2 * state[f"{n}.c"][:, : row["inputs"]]  # output_scale
        assert float((found - true).square().mean().sqrt()) == pytest.approx(row["actual_error"], rel=1e-3)
        assert row["estimated_error"] == pytest.approx(row["actual_error"], rel=0.1)
        lsb = 24 / 510
        law = 2 * expected_error(math.hypot(0.06, lsb / math.sqrt(12)), 3000, row["inputs"], row["amplitude"])
        assert row["estimated_error"] == pytest.approx(law, rel=0.03)
    out = capsys.readouterr().out
    assert "extracted, digital" in out and "extracted, fresh arrays" in out and "next: analog-glue extract" in out


@pytest.mark.slow
def test_the_arrays_score_as_at_the_end_of_training_and_digital_is_the_plain_network(digits_run):
    folder, record = extracted(digits_run)
    last = list(csv.DictReader((digits_run / "learning_curve.csv").open()))[-1]
    scores = record["scores"]
    assert scores["analog arrays"] == {name: pytest.approx(float(last[name])) for name in ("accuracy", "cross_entropy")}
    weights = [w.double() for w in load_file(folder / "extracted.safetensors").values()]
    data = Digits()._read(None)
    x = torch.from_numpy(data[2]).double()
    hidden = torch.sigmoid(nn.functional.linear(x, weights[0][:, :-1], weights[0][:, -1]))
    outputs = nn.functional.linear(hidden, weights[1][:, :-1], weights[1][:, -1])
    loss = nn.functional.cross_entropy(outputs, torch.from_numpy(data[3])).item()
    assert scores["extracted, digital"]["cross_entropy"] == pytest.approx(loss, rel=1e-4)
    assert scores["extracted, fresh arrays"]["cross_entropy"] == pytest.approx(loss, rel=0.3)
    assert scores["extracted, fresh arrays"] != scores["analog arrays"]


@pytest.mark.slow
def test_weights_at_the_bounds_of_their_devices_do_not_fit_on_others_and_only_bounds_are_to_blame(tmp_path):
    words = ["task=digits", "device=soft_bounds", "device.dw_min=0.05", "device.w_max=0.2", "device.w_max_dtod=0.6",
             "training=ttv2", "training.output_scale=6", "training.transfer_every=1", "training.transfer_rate=0.1",
             "training.epochs=3", f"output_root={tmp_path}"]  # fmt: skip
    assert main(["train", *words]) == 0
    (run,) = tmp_path.iterdir()
    _, record = extracted(run)
    loss = {name: values["cross_entropy"] for name, values in record["scores"].items()}
    assert loss["extracted, arrays without bounds"] == pytest.approx(loss["analog arrays"], rel=0.1)
    assert loss["extracted, fresh arrays"] > 1.2 * loss["extracted, arrays without bounds"]


@pytest.mark.slow
def test_a_dry_run_says_what_the_arrays_are_and_do_and_changes_nothing(tmp_path, capsys):
    words = ["task=digits", "task.train_images=100", "task.test_images=40", "training=ttv2", "training.transfer_every=4",
             "training.transfer_rate=0.1", "training.learning_rate=0.2", "training.output_scale=2", "device.dw_min=0.01",
             f"output_root={tmp_path}"]  # fmt: skip
    assert main(["train", *words, "training.epochs=1"]) == 0
    (folder,) = tmp_path.iterdir()
    files = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir()}
    capsys.readouterr()
    assert main(["train", *words, "training.epochs=3", "dry_run=true"]) == 0
    said = capsys.readouterr().out
    for words in (
        "100 images an epoch; tests: 40 images after an epoch, 360 after the last",
        "3 epochs, 1 of them done",
        "learning rate 0.2: 10 steps of a device for x · d = 1",  # 0.2 / 2 / 0.01
        "λ 0.1, T 1 steps: a read of a device at w_max = 0.6 is worth 6 pulses of C",  # 0.1 · 0.6 / 0.01
        "0           32 × 65     2,080     4,160                   1              0.25",
        "2,410 weights on 4,820 devices",  # A and C
        "120 states", "Time       about ", str(folder), "Nothing was run",
    ):  # fmt: skip
        assert words in said
    assert files == {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir()}


def test_learning_for_a_moment_to_see_how_fast_it_goes_is_forgotten():
    mode = ChoppedTTv2(learning_rate=0.05)
    seen, plain = characters(mode), characters(mode)
    assert all(speed > 0 for speed in description._speeds(seen, mode))
    for name, array in plain.state().items():
        assert np.array_equal(array, seen.state()[name]), name


@pytest.mark.slow
def test_every_command_that_is_printed_runs_as_it_is_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = "\"output_root='a (b), c'\""
    waiting = [f"analog-glue train task=digits training=sgd_pulsed training.epochs=1 task.train_images=50 {root}"]
    done: list[str] = []
    chips = ["evaluation.chips=1", "evaluation.times=[1]", "evaluation.ideal_devices=false"]
    while waiting:
        line = waiting.pop(0)
        command = shlex.split(line, comments=True)[1:]
        kind = " ".join([command[0], *(word for word in command if word.startswith(("noise=", "seed=", "extract.")))])
        if kind in done:
            continue
        done.append(kind)
        assert main(command + (chips if command[0] == "evaluate" else [])) == 0, line
        if len(done) < 6:
            waiting += [said.removeprefix("next: ") for said in capsys.readouterr().out.splitlines() if "next: an" in said]
    assert {"train", "extract", "evaluate noise=pcm", "extract seed=1", "extract extract.products=40000", "tables",
            "evaluate noise=pcm_reduced"} <= set(done)  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["a (b), c"]  # nothing was written elsewhere


@pytest.mark.slow
def test_force_removes_what_was_extracted_from_the_old_run_and_leaves_files_of_others(tmp_path):
    words = ["task=digits", "training=sgd_pulsed", "training.epochs=1", "task.train_images=50", f"output_root={tmp_path}"]
    assert main(["train", *words]) == 0
    (run,) = tmp_path.iterdir()
    for seed in (0, 1):
        assert main(["extract", f"checkpoint={run}", "extract.products=100", f"seed={seed}", "extract.prune=[0.5]"]) == 0
    first, second = sorted(run.glob("extraction-*"))
    (first / "notes.txt").write_text("mine")
    chips = ["evaluation.chips=1", "evaluation.times=[1]", "hardware.calibration.examples=8"]
    assert main(["evaluate", f"checkpoint={second}", "noise=pcm", *chips, f"output_root={tmp_path}"]) == 0
    assert list(second.rglob("results.csv"))
    assert main(["train", *words, "force=true"]) == 0
    assert sorted(path.name for path in run.rglob("*") if path.is_file()) == [
        ".lock", "learning_curve.csv", "notes.txt", "run.json", "run_config.json", "training_state.safetensors"
    ]  # fmt: skip


def test_more_products_than_there_are_names_for_their_noise_are_refused(capsys):
    assert main(["extract", "checkpoint=x", "extract.products=1000000000000"]) == 2
    assert "`extract.products` must lie in 1 … 4,294,967,295" in capsys.readouterr().err


def test_extraction_says_how_far_it_is(digits_run, monkeypatch, capsys):
    monkeypatch.setattr("analog_glue.progress.LINE_EVERY", 0.0)
    assert main(["extract", f"checkpoint={digits_run}", "extract.products=600", "force=true"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"  extraction: 50 %, [\d,]+ products/s, [\d.]+ s left\n", said) and "  scores: 100 %" in said


@pytest.mark.slow
def test_one_hot_reads_are_worse_than_the_regression_and_say_so(digits_run):
    _, uniform = extracted(digits_run)
    _, one_hot = extracted(digits_run, "one_hot")
    for row, better in zip(one_hot["arrays"], uniform["arrays"], strict=True):
        assert row["products"] <= 3000
        assert row["estimated_error"] == pytest.approx(row["actual_error"], rel=0.15)
        assert row["estimated_error"] > math.sqrt(row["inputs"] / 3) * better["estimated_error"] * 0.8


def test_what_is_no_in_situ_run_is_refused_by_extract(digits_run, tmp_path, capsys):
    (tmp_path / "run_config.json").write_text((digits_run / "run_config.json").read_text())
    assert main(["extract", f"checkpoint={tmp_path}"]) == 2
    assert "Setting `checkpoint` must be the folder of an in-situ run" in capsys.readouterr().err


@pytest.mark.slow
def test_averaging_finds_the_mean_of_the_weights_over_the_last_epochs_and_changes_nothing_that_is_learnt(tmp_path):
    settings = {"epochs": 3, "learning_rate": 0.3, "periphery": CLEAN}
    mode = SGDPulsed(average_products=6000, average_epochs=2, **settings)
    network, plain, means = characters(mode), characters(mode), []
    (tmp_path / "plain").mkdir()
    fit_in_situ(network, mode, tmp_path, log=lambda _: None)
    train = plain.train

    def watched(epoch, unit, rate):
        loss = train(epoch, unit, rate)
        if epoch >= 1:
            means.append(plain.network.learners[2].weights().copy())
        return loss

    plain.train = watched
    fit_in_situ(plain, SGDPulsed(**settings), tmp_path / "plain", log=lambda _: None)
    assert all(np.array_equal(array, plain.state()[name]) for name, array in network.state().items())
    inputs = network.network.learners[2].inputs
    saved = load_file(tmp_path / "training_state.safetensors")
    sums = Regression(11, inputs)
    sums.load({name: saved[f"average.2.{name}"].numpy() for name in sums.state()})
    error = sums.weights() - np.mean(means, 0)[:, :inputs]
    moved = np.std(means, 0)[:, :inputs]
    assert sums.products == 6000 and moved.max() > 0.05
    # The only noise is that of weights that differ from product to product.
    assert np.sqrt(np.mean(error**2)) == pytest.approx(sums.weight_error(), rel=0.3)
    assert np.sqrt(np.mean(error**2)) < 0.2 * np.sqrt(np.mean((means[-1] - np.mean(means, 0)) ** 2))


def test_extract_scores_the_average_beside_the_last_weights(digits_run):
    folder, record = extracted(digits_run)
    averaged, last = (load_file(folder / f"{name}.safetensors") for name in ("averaged", "extracted"))
    assert [(row["products"], row["looks"]) for row in record["averaged"]] == [(2000, 60), (2000, 60)]
    assert {"averaged, digital", "averaged, fresh arrays"} <= set(record["scores"])
    for name, weights in averaged.items():  # another set of weights, but of the same network
        assert 0 < float((weights - last[name]).square().mean()) < 0.2 * float(last[name].square().mean())


def test_statistics_are_mean_and_spread_of_the_iterates_and_change_nothing_that_is_learnt(tmp_path):
    settings = {"epochs": 3, "learning_rate": 0.3, "periphery": CLEAN}
    network = characters(SGDPulsed(**settings))
    plain, iterates = characters(SGDPulsed(**settings)), []
    train = plain.train

    def watched(epoch, unit, rate):
        loss = train(epoch, unit, rate)
        if epoch >= 1 and (epoch * plain.units + unit + 1) % 2 == 0:
            iterates.append(plain.network.learners[2].weights().astype(np.float64))
        return loss

    plain.train = watched
    (tmp_path / "plain").mkdir()
    fit_in_situ(plain, SGDPulsed(**settings), tmp_path / "plain", log=lambda _: None)
    fit_in_situ(network, SGDPulsed(statistics_every=2, average_epochs=2, **settings), tmp_path, log=lambda _: None)
    assert all(np.array_equal(array, plain.state()[name]) for name, array in network.state().items())
    saved = load_file(tmp_path / "training_state.safetensors")
    moments = Moments(11, 17)
    moments.load({name: saved[f"statistics.2.{name}"].numpy() for name in moments.state()})
    assert moments.looks == len(iterates) == plain.units
    np.testing.assert_allclose(moments.mean, np.mean(iterates, 0)[:, :17], atol=1e-12)
    np.testing.assert_allclose(moments.spread(), np.std(iterates, 0, ddof=1)[:, :17], atol=1e-12)
    assert moments.spread().max() > 0.05


def test_a_finished_run_goes_on_with_statistics(tmp_path):
    fit_in_situ(characters(SGDPulsed(epochs=1)), SGDPulsed(epochs=1), tmp_path, log=lambda _: None)
    longer = SGDPulsed(epochs=2, statistics_every=1, average_epochs=1)
    trainable = characters(longer)
    assert len(fit_in_situ(trainable, longer, tmp_path, log=lambda _: None)) == 2
    assert int(load_file(tmp_path / "training_state.safetensors")["statistics.0.looks"]) == trainable.units


def test_pruning_takes_the_least_important_weights_of_all_arrays_together():
    weights = [np.array([[0.1, -4.0], [0.5, 2.0]]), np.array([[0.3, -0.2, 0.0]])]
    first = pruned(weights, [np.abs(w) for w in weights], 3 / 7)
    assert [w.tolist() for w in first] == [[[0.0, -4.0], [0.5, 2.0]], [[0.3, 0.0, 0.0]]]
    spread = [np.array([[0.01, 4.0], [0.5, 2.0]]), np.array([[0.0, 1.0, 0.0]])]  # |w| / s = 10, 1, 1, 1, ∞, 0.2, worthless
    assert [w.tolist() for w in pruned(weights, certainty(weights, spread), 2 / 7)][1] == [[0.3, 0.0, 0.0]]
    assert all(np.all(w == 0) for w in pruned(weights, weights, 1.0))


def test_both_noises_are_of_one_size_and_one_knows_the_spread():
    random = np.random.default_rng(0)
    weights = [np.zeros((300, 200)), np.zeros((100, 100))]
    spread = [np.where(random.random(w.shape) < 0.5, 0.01, 0.1) for w in weights]
    known, uniform = (perturbed(weights, spread, noise, 2.0, 5) for noise in ("spread", "uniform"))
    flat = [np.concatenate([values.ravel() for values in noise]) for noise in (known, uniform)]
    s = np.concatenate([values.ravel() for values in spread])
    assert np.sqrt(np.mean(flat[0] ** 2)) == pytest.approx(np.sqrt(np.mean(flat[1] ** 2)), rel=0.03)  # 5 σ of 70,000
    for size in (0.01, 0.1):
        assert flat[0][s == size].std() == pytest.approx(2 * size, rel=0.03)
        assert flat[1][s == size].std() == pytest.approx(2 * math.sqrt((0.01**2 + 0.1**2) / 2), rel=0.03)


@pytest.mark.slow
def test_extract_writes_spread_and_both_tables_and_goes_on_with_them(digits_run, capsys):
    words = ["extract.products=3000", "extract.prune=[0,0.5,1]", "extract.perturb=[1]", "extract.draws=2"]
    assert main(["extract", f"checkpoint={digits_run}", *words]) == 0
    folder = digits_run / "extraction-uniform-3000-seed0"
    scores = json.loads((folder / "extraction.json").read_text())["scores"]
    pruning, noisy = (list(csv.DictReader((folder / f"{name}.csv").open())) for name in ("pruning", "perturbation"))
    assert list(pruning[0]) == ["weights", "criterion", "fraction", "metric", "value"]
    assert list(noisy[0]) == ["weights", "noise", "scale", "draw", "metric", "value"]
    assert len(pruning) == 3 * 2 * 2 and len(noisy) == 2 * 2 * 2

    def value(rows, **wanted):
        return [float(row["value"]) for row in rows if all(row[name] == str(v) for name, v in wanted.items())]

    whole = value(pruning, fraction=0.0, metric="cross_entropy")
    assert whole == [pytest.approx(scores["averaged, digital"]["cross_entropy"], rel=1e-5)] * 2
    assert value(pruning, fraction=1.0, metric="cross_entropy") == [pytest.approx(math.log(10), rel=1e-5)] * 2
    assert all(0 < number < 2.3 for number in value(noisy, metric="cross_entropy"))
    spread, state = load_file(folder / "spread.safetensors"), load_file(digits_run / "training_state.safetensors")
    assert torch.equal(spread["1"], (2 * (state["statistics.1.squares"] / 59).sqrt()).float())
    before = (folder / "pruning.csv").read_text()
    assert main(["extract", f"checkpoint={digits_run}", *words[:1], "extract.prune=[0.25]"]) == 0
    assert (folder / "pruning.csv").read_text().startswith(before)
    assert len((folder / "pruning.csv").read_text().splitlines()) == 1 + 12 + 4
    assert "Extracted already" in capsys.readouterr().out


@pytest.mark.slow
def test_arrays_are_read_as_late_as_asked_and_drift_is_no_part_of_training(tmp_path):
    words = ["task=digits", "training=sgd_pulsed", "device=symmetric_linear", "training.epochs=1", "training.output_scale=2",
             "device.drift.nu=0.1", f"output_root={tmp_path}"]  # fmt: skip
    assert main(["train", *words]) == 0
    assert main(["train", *words, "device.drift.nu=0.05"]) == 0
    (run,) = tmp_path.iterdir()
    found = {}
    for time in (0, 10_000):
        assert main(["extract", f"checkpoint={run}", f"extract.time={time}"]) == 0
        folder = run / f"extraction-uniform-10000-seed0{f'-{time}s' if time else ''}"
        record = json.loads((folder / "extraction.json").read_text())
        found[time] = (load_file(folder / "extracted.safetensors"), record["arrays"], record["scores"])
    share = 10_000**-0.05
    for row in found[0][1]:
        n = str(row["array"])
        error = found[10_000][0][n] - share * found[0][0][n]
        assert float(error.square().mean().sqrt()) < 1.5 * row["estimated_error"] < 0.03 * row["weight_rms"]
    digital = [scores["extracted, digital"]["cross_entropy"] for _, _, scores in found.values()]
    assert digital[1] > digital[0] + 0.05
    fresh = [scores["extracted, fresh arrays"]["cross_entropy"] for _, _, scores in found.values()]
    assert fresh[1] > digital[1] + 0.05  # aged once more


@pytest.mark.slow
def test_a_perturbation_without_statistics_is_refused(tmp_path, capsys):
    words = ["task=digits", "device=soft_bounds", "training=sgd_pulsed", "training.epochs=1", "task.train_images=20"]
    assert main(["train", *words, f"output_root={tmp_path}"]) == 0
    (folder,) = tmp_path.iterdir()
    assert main(["extract", f"checkpoint={folder}", "extract.perturb=[1]"]) == 2
    assert "training.statistics_every" in capsys.readouterr().err


def test_other_data_than_the_run_learnt_are_refused(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"data": {"fingerprint": "a1"}}))
    check_data(tmp_path, {"fingerprint": "a1"})
    with pytest.raises(ValueError, match=r"`data\.root` must hold what the run learnt \(fingerprint a1\)"):
        check_data(tmp_path, {"fingerprint": "b2"})
