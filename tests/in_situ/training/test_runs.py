"""Runs in situ: they resume to the bit, keep what was learnt, and say how far they are."""

import csv
import os
import re
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from analog_glue.in_situ.commands.train import train_in_situ
from analog_glue.in_situ.devices.soft_bounds import SoftBounds
from analog_glue.in_situ.nn.learner import Pulses
from analog_glue.in_situ.tasks.characters import Characters
from analog_glue.in_situ.tasks.images import Digits
from analog_glue.in_situ.tasks.pictures import Images
from analog_glue.in_situ.training.chopped_ttv2 import ChoppedTTv2
from analog_glue.in_situ.training.loop import fit_in_situ
from analog_glue.in_situ.training.mode import Periphery
from analog_glue.in_situ.training.sgd_digital import SGDDigital
from analog_glue.in_situ.training.sgd_pulsed import SGDPulsed
from analog_glue.in_situ.training.tiki_taka import TikiTaka
from analog_glue.in_situ.training.ttv2 import TTv2
from analog_glue.runs.folder import status_of
from analog_glue.settings import RunSettings
from tests.in_situ.helpers import MODES, characters


@pytest.mark.parametrize("kind", MODES)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(kind, tmp_path):
    mode = kind(epochs=2, learning_rate=0.05, average_products=50, statistics_every=3, average_epochs=2)
    whole, halves = characters(mode), [characters(mode) for _ in range(3)]
    for folder in ("whole", "parts"):
        (tmp_path / folder).mkdir()
    curve = fit_in_situ(whole, mode, tmp_path / "whole", log=lambda _: None)
    for part, stop in zip(halves, (7, 10, None), strict=True):
        resumed = fit_in_situ(part, mode, tmp_path / "parts", log=lambda _: None, stop_after=stop)
    for name, array in whole.state().items():
        assert np.array_equal(array, halves[2].state()[name]), name
    sums, resumed_sums = (load_file(tmp_path / folder / "training_state.safetensors") for folder in ("whole", "parts"))
    averages = [name for name in sums if name.startswith("average.")]
    assert len(averages) == 3 * 5 and int(sums["average.0.products"]) == 50
    moments = [name for name in sums if name.startswith("statistics.")]
    assert len(moments) == 3 * 3 and int(sums["statistics.0.looks"]) == 2 * whole.units // 3
    assert all(torch.equal(sums[name], resumed_sums[name]) for name in averages + moments)
    assert [(e.train_loss, e.scores) for e in resumed] == [(e.train_loss, e.scores) for e in curve]
    assert len(curve) == 2


def test_ctrl_c_keeps_all_that_was_learnt_to_the_last_unit_of_work(tmp_path, monkeypatch):
    mode = TTv2(epochs=1, learning_rate=0.05)
    whole, pressed, resumed = (characters(mode) for _ in range(3))
    for folder in ("whole", "parts"):
        (tmp_path / folder).mkdir()
    fit_in_situ(whole, mode, tmp_path / "whole", log=lambda _: None)
    learn = Characters.train

    def and_press(self, epoch, unit, rate):
        if unit == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return learn(self, epoch, unit, rate)

    monkeypatch.setattr(Characters, "train", and_press)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            fit_in_situ(pressed, mode, tmp_path / "parts", log=lambda _: None)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    monkeypatch.undo()
    said: list[str] = []
    fit_in_situ(resumed, mode, tmp_path / "parts", log=said.append)
    assert said[0] == "Resuming in epoch 1 after 100 chars."
    assert all(np.array_equal(array, resumed.state()[name]) for name, array in whole.state().items())


def test_more_epochs_go_on_as_one_run_of_so_many_would_have_gone_though_rates_decay(tmp_path):
    whole, parts = (tmp_path / name for name in ("whole", "parts"))
    schedule = {"learning_rate": 0.05, "decay_every": 1, "transfer_rate": 0.1, "transfer_decay_every": 2}
    for folder, epochs in ((whole, 3), (parts, 1), (parts, 3)):
        folder.mkdir(exist_ok=True)
        curve = fit_in_situ(characters(TTv2(**schedule)), TTv2(epochs=epochs, **schedule), folder, log=lambda _: None)
    assert len(curve) == 3
    one, other = (load_file(folder / "training_state.safetensors") for folder in (whole, parts))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_time_of_a_run_begins_when_its_kernels_are_compiled_and_nothing_of_that_is_learnt(tmp_path, monkeypatch):
    mode, now = SGDPulsed(epochs=1, learning_rate=0.05), [0.0]
    monkeypatch.setattr("analog_glue.in_situ.training.loop.time.monotonic", lambda: now[0])
    network, plain = characters(mode), characters(mode)
    learn, calls = network.train, []

    def slow_at_first(*what):
        now[0] += 1 if calls else 1000
        calls.append(what)
        return learn(*what)

    network.train = slow_at_first
    (row,) = fit_in_situ(network, mode, tmp_path, log=lambda _: None)
    assert row.seconds == network.units == len(calls) - 1
    for unit in range(plain.units):
        plain.train(0, unit, mode.rate(0))
    assert all(np.array_equal(array, plain.state()[name]) for name, array in network.state().items())


def test_a_log_file_sees_progress_within_an_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr("analog_glue.progress.LINE_EVERY", 0.0)
    lines: list[str] = []
    fit_in_situ(characters(SGDPulsed()), SGDPulsed(epochs=2), tmp_path, log=lines.append)
    assert re.fullmatch(r"  epoch 1/2: 4 %, [\d,]+ chars/s, [\d.]+ s left", lines[0])
    assert re.fullmatch(r"  epoch 2/2: 100 %, [\d,]+ chars/s, 0 s left", lines[-2])


def test_threads_do_not_change_a_run():
    results = []
    before = torch.get_num_threads()
    for threads in (1, 2):
        try:
            torch.set_num_threads(threads)
            network = characters(TTv2(learning_rate=0.05))
            for unit in range(5):
                network.train(0, unit, 0.05)
            results.append(network.state())
        finally:
            torch.set_num_threads(before)
    assert all(np.array_equal(results[0][name], results[1][name]) for name in results[0])


@pytest.mark.slow
def test_digits_are_learnt_on_soft_bounds_by_ttv2_and_written_down(tmp_path):
    settings = RunSettings(output_root=str(tmp_path))
    mode = TTv2(epochs=4, learning_rate=0.1, output_scale=1.0, transfer_every=1, transfer_rate=0.1)
    done = train_in_situ(settings, Digits(hidden=(16,)), SoftBounds(dw_min=0.01), mode, log=lambda _: None)
    folder, table = done.run_dir, done.table
    rows = list(csv.DictReader((folder / "learning_curve.csv").open()))
    assert len(rows) == 4 and float(rows[-1]["accuracy"]) > 55, table
    record, said = (folder / "run.json").read_bytes(), []
    again = train_in_situ(settings, Digits(hidden=(16,)), SoftBounds(dw_min=0.01), mode, log=said.append).run_dir
    assert again == folder and list(csv.DictReader((folder / "learning_curve.csv").open())) == rows
    assert said == [f"Already done: {folder}"] and (folder / "run.json").read_bytes() == record


def test_a_run_that_is_trained_cannot_be_trained_twice_at_once_and_one_that_was_killed_says_so(tmp_path):
    settings, seen = RunSettings(output_root=str(tmp_path)), []

    def log(line):
        (folder,) = tmp_path.iterdir()
        if (folder / "run.json").is_file():
            seen.append(status_of(folder))
        if len(seen) == 1:
            with pytest.raises(ValueError, match="another process is working in it"):
                train_in_situ(settings, Digits(hidden=(16,)), SoftBounds(), SGDPulsed(epochs=2), log=lambda _: None)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_in_situ(settings, Digits(hidden=(16,)), SoftBounds(), SGDPulsed(epochs=2), log=log)
    (folder,) = tmp_path.iterdir()
    assert seen == ["running", "running"] and status_of(folder) == "interrupted"
    train_in_situ(settings, Digits(hidden=(16,)), SoftBounds(), SGDPulsed(epochs=2), log=lambda _: None)
    assert status_of(folder) == "done"


def test_digital_training_takes_the_step_of_the_gradient():
    network = characters(SGDDigital())
    learners, text = network.network.learners, network.text[:21]
    before = [learner.values.copy() for learner in learners]
    _, gradients = network.network.gradients(text, np.zeros_like(network.network.state))
    network.network.train(text, 0.01, 0)
    for learner, old, gradient in zip(learners, before, gradients, strict=True):
        moved = (learner.values - old)[:, : learner.inputs]
        assert np.allclose(moved, 0.01 * gradient, atol=1e-6) and np.abs(moved).max() > 1e-4


@pytest.mark.parametrize("mode", [TTv2, ChoppedTTv2, TikiTaka])
def test_the_transfer_rate_is_halved_at_the_start_of_every_second_epoch(mode, tmp_path):
    network = characters(mode(epochs=3, transfer_rate=0.08, transfer_decay_every=2))
    seen = []
    network.test = lambda epoch, whole: seen.append([learner.transfer_rate for learner in network.network.learners]) or {}
    fit_in_situ(network, mode(epochs=3), tmp_path, log=lambda _: None)
    assert seen[1:] == [[0.08] * 3, [0.08] * 3, [0.04] * 3]  # the first score is a rehearsal, of which nothing is kept


def test_the_learning_rate_is_halved_at_the_start_of_every_second_epoch(tmp_path):
    mode, seen = SGDPulsed(epochs=5, learning_rate=0.08, decay_every=2, output_scale=4.0), []
    network = characters(mode)
    network.train = lambda epoch, unit, rate: seen.append((epoch, rate)) or 0.0
    fit_in_situ(network, mode, tmp_path, log=lambda _: None)
    assert set(seen) == {(0, 0.02), (1, 0.02), (2, 0.01), (3, 0.01), (4, 0.005)}  # of the devices: a quarter of the network's


def test_no_two_units_of_work_name_the_same_random_numbers():
    steps: list[int] = []
    text, pictures = characters(SGDPulsed()), np.zeros((7, 4), np.float32)
    text.network.train = lambda piece, rate, step: steps.extend(range(step, step + len(piece) - 1)) or 0.0
    images = Images(pictures, np.arange(7), pictures, np.arange(7), (3,), 7, SGDPulsed(), SoftBounds(), 0)
    images.network.train = lambda image, label, rate, step: steps.append(step) or 0.0
    for trainable in (text, images):
        for epoch in (0, 1, 2):
            for unit in range(trainable.units):
                trainable.train(epoch, unit, 0.01)
        assert sorted(steps) == list(range(3 * trainable.units * trainable.unit_size))
        steps.clear()


def test_every_epoch_reads_the_text_from_an_empty_state_and_carries_it_through():
    fresh, used, forgetful = (characters(SGDPulsed()) for _ in range(3))
    used.network.state[...] = 0.5
    for network in (fresh, used, forgetful):
        network.train(1, 0, 0.01)
        if network is forgetful:
            network.network.state[...] = 0
        network.train(1, 1, 0.01)
    assert all(np.array_equal(array, used.state()[name]) for name, array in fresh.state().items())
    assert not np.array_equal(fresh.network.state, forgetful.network.state)


def test_a_mode_that_cannot_be_is_refused():
    for change, key in (({"epochs": 0}, "epochs"), ({"learning_rate": 0.0}, "learning_rate"),
                        ({"pulses": Pulses(longest=32)}, "pulses.longest"), ({"threshold": 0.0}, "threshold"),
                        ({"momentum": 1.0}, "momentum"), ({"vectors": "sine"}, "vectors")):  # fmt: skip
        with pytest.raises(ValueError, match=rf"`{key}`"):
            TTv2(**change)
    with pytest.raises(ValueError, match="`adc_bits`"):
        Periphery(adc_bits=1)
