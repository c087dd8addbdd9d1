"""Nothing that a run goes on with is missing, and nothing that is extracted from it is of another state."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from analog_glue.cli.main import main
from analog_glue.in_situ.devices.soft_bounds import SoftBounds
from analog_glue.in_situ.extraction.regression import Regression, quantised, random_inputs
from analog_glue.in_situ.kernels.matvec import READ, all_rows, analog_product, transpose
from analog_glue.in_situ.nn.convert import to_in_situ
from analog_glue.in_situ.nn.learner import Fixed, Stream, zeros
from analog_glue.in_situ.tasks.samples import Data, Samples
from analog_glue.in_situ.training.averaging import Averaging
from analog_glue.in_situ.training.loop import check_names, fit_in_situ
from analog_glue.in_situ.training.mode import Periphery
from analog_glue.in_situ.training.sgd_pulsed import SGDPulsed
from analog_glue.in_situ.training.ttv2 import TTv2
from analog_glue.runs.tensors import load_tensors, save_tensors


def normalising(mode):
    """A network with batch normalisation, whose running mean and count of batches no gradient changes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
        x, y = torch.randn(12, 1, 4, 4) + 1, torch.randint(3, (12,))
    model = to_in_situ(model, mode, SoftBounds(dw_min=0.01), 0)
    return Samples(
        model, 12, lambda: Data(x, y, {"test": (x, y)}), (12, 12), nn.functional.cross_entropy,
        lambda split, outputs, targets: {"outputs": float(np.abs(outputs).sum())}, mode, 0, "picture", lambda plain: plain,
    )  # fmt: skip


def test_a_network_with_buffers_resumes_bit_for_bit(tmp_path):
    mode, runs = SGDPulsed(epochs=2, learning_rate=0.05, output_scale=1.0), {}
    for name, stops in (("whole", [None]), ("parts", [7, None])):
        (tmp_path / name).mkdir()
        for stop in stops:
            runs[name] = normalising(mode)
            curve = fit_in_situ(runs[name], mode, tmp_path / name, lambda _: None, stop_after=stop)
        runs[name] = (runs[name].state(), [(row.train_loss, row.scores) for row in curve])
    state = runs["whole"][0]
    assert int(state["model.1.num_batches_tracked"]) == 24 and np.all(state["model.1.running_mean"] != 0)
    assert runs["whole"][1] == runs["parts"][1]
    assert all(np.array_equal(array, runs["parts"][0][name]) for name, array in state.items())


def test_an_epoch_that_was_saved_but_not_reported_is_reported_by_the_next_call(tmp_path):
    mode = SGDPulsed(epochs=2, learning_rate=0.05, output_scale=1.0)

    class Killed(Exception):
        pass

    def dies(curve):
        if len(curve) == mode.epochs:
            raise Killed

    with pytest.raises(Killed):
        fit_in_situ(normalising(mode), mode, tmp_path, lambda _: None, dies)
    reported = []
    curve = fit_in_situ(normalising(mode), mode, tmp_path, lambda _: None, reported.append)
    assert [row.epoch for row in curve] == [1, 2] and curve[-1].whole and reported == [curve]


@pytest.mark.slow
def test_a_state_that_changed_is_extracted_again_though_no_setting_did(tmp_path, capsys):
    words = ["task=digits", "training=sgd_pulsed", "training.epochs=1", "task.train_images=50", f"output_root={tmp_path}"]
    assert main(["train", *words]) == 0
    (run,) = tmp_path.iterdir()
    weights = []
    for change in (0.0, 0.0, 0.1):
        tensors, notes = load_tensors(run / "training_state.safetensors")
        save_tensors(run / "training_state.safetensors", {**tensors, "0.c": tensors["0.c"] + change}, notes)
        capsys.readouterr()
        assert main(["extract", f"checkpoint={run}", "extract.products=200"]) == 0
        said = capsys.readouterr().out
        assert ("Extracted already" in said) == (len(weights) == 1)
        (folder,) = run.glob("extraction-*")
        weights.append(load_tensors(folder / "extracted.safetensors")[0]["0"])
        assert len(json.loads((folder / "extraction.json").read_text())["state"]) == 16
    assert torch.equal(weights[0], weights[1]) and float((weights[2] - weights[1]).mean()) > 0.05


@pytest.mark.parametrize(("uses", "most"), [((), 71_582), ((576, 64, 1, 1), 124)])
def test_as_many_epochs_as_there_are_names_for_noise_are_the_most(uses, most):
    trainable = SimpleNamespace(units=60_000, unit_size=1, uses=uses)
    check_names(trainable, SGDPulsed(epochs=most))
    with pytest.raises(ValueError, match=rf"`training\.epochs` must be at most {most}, .* but is {most + 1}"):
        check_names(trainable, SGDPulsed(epochs=most + 1))


def test_the_amplitude_of_one_hot_inputs_is_not_to_be_chosen(capsys):
    assert main(["extract", "+experiment=gokmen_figure6", "extract.inputs=one_hot", "extract.amplitude=0.5"]) != 0
    assert "`extract.amplitude` must be null with extract.inputs=one_hot, but is 0.5" in capsys.readouterr().err


def test_a_product_sent_while_training_is_the_product_of_the_array():
    random, io = np.random.default_rng(0), Periphery().forward._replace(bound_management=False, noise_management=False)
    learner = Fixed.of(random.uniform(-0.5, 0.5, (40, 33)))
    mode = SGDPulsed(average_products=3, epochs=1)
    averaging = Averaging(SimpleNamespace(learners=[learner], stream=Stream.of(0, 0)), mode, 3)
    for unit in range(3):
        averaging.after(unit)
    sums, turned, stream = Regression(40, 33), zeros(33, 48), Stream.of(0, 0)
    transpose(turned, learner.values[:, :33])
    x = random_inputs(0, 256, 33, averaging.sums[0].amplitude, stream)[:3]
    y, work = np.empty((3, 40), np.float32), (np.empty(33, np.float32), np.empty(128, np.float32))
    for i in range(3):
        names = READ + 1, i, stream.array, stream.k0, stream.k1
        analog_product(y[i], turned, x[i], all_rows(33), 33, io, 1.0, *names, *work)
    sums.add(quantised(x, io), y)
    assert averaging.sums[0].products == 3
    np.testing.assert_allclose(averaging.sums[0].yx, sums.yx, atol=3 * 24 / 510)  # a code may round the other way
    assert np.mean(np.abs(averaging.sums[0].yx - sums.yx) < 1e-5) > 0.95


@pytest.mark.slow
def test_a_hadamard_read_beyond_the_bound_is_clipped_and_a_dry_run_says_from_where_on(tmp_path, capsys):
    quiet = Periphery(output_noise=0.0, adc_bits=0, output_bound=5.0)
    mode = TTv2(vectors="hadamard", transfer_every=1, transfer_rate=0.1, threshold=1e9, periphery=quiet)
    learner = mode.learner(SoftBounds(dw_min_dtod=0.0, w_max_dtod=0.0, up_down_dtod=0.0), np.zeros((16, 64)), 0, 0)
    learner.a.write(np.full((16, 64), 0.1))  # the first vector, all 1, sums up to 6.4, all others to 0
    learner.update(zeros(64, 64), zeros(64, 16), 0.01, 0)
    np.testing.assert_allclose(learner.h[:, 0], 0.1 * 5.0 / 64, rtol=1e-5)
    np.testing.assert_allclose(learner.h[:, 1:], 0, atol=1e-6)
    words = ["train", "task=digits", "training=ttv2", f"output_root={tmp_path}", "dry_run=true"]
    assert main(words) == 0 and "Hadamard" not in capsys.readouterr().out
    assert main([*words, "training.vectors=hadamard"]) == 0
    assert f"rms weight of A of {12 / (3 * math.sqrt(65)):.2g}" in capsys.readouterr().out
