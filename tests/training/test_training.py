"""Training: every mode and option, the same bits after any number of kills, the same budget for both modes."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from analog_glue.commands.calibrated import calibrated_ranges
from analog_glue.devices.pcm import PCM
from analog_glue.evaluation import score
from analog_glue.interruption import Interrupted, ended_by_signals, exit_code
from analog_glue.models import TinyModel
from analog_glue.nn.backward import gradient_digits
from analog_glue.nn.computation import Computation
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.linear import AnalogLinear
from analog_glue.nn.noise_clock import NoiseClock
from analog_glue.nn.placement import Placement
from analog_glue.nn.weight_noise import WeightNoise
from analog_glue.runs.folder import STATE
from analog_glue.runs.tensors import load_tensors, save_tensors
from analog_glue.settings import Calibration
from analog_glue.tasks.demo import DemoTask
from analog_glue.tasks.task import encode, training_batches
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.training.digital import Digital
from analog_glue.training.hardware_aware import HardwareAware, InputRange
from analog_glue.training.loop import TrainingData, _micro_batches, fit
from analog_glue.training.mode import Preparation

TASK = DemoTask(train_size=72, validation_size=40)
MODEL = TinyModel(hidden=16, layers=1, heads=2, intermediate=24, vocabulary_size=100, dropout=0.1)
HARDWARE = Hardware(PCM(), Crossbar(rows=16, columns=16))
SHORT = {"epochs": 2, "batch_size": 16, "learning_rate": 3e-3}  # 72 examples: five steps an epoch, the last of 8
HWA = HardwareAware(**SHORT, digital_epochs=0)
DIGITAL = Digital(**SHORT)

RAW = TASK.load(None)


class Stopped(Exception):
    """Stands for a kill, where a real one would take a process each."""


def run(mode, folder, stop_before=None, seed=0, scores=None, model=MODEL, signal_before=None):
    """Train as the command does; `stop_before`: the number of the batch before which the run ends, by an exception or a signal.

    Returns the trained model, its history, and the example indices of every batch that was drawn.
    """
    loaded = model.load(5, seed, RAW.train.texts)
    train = encode(RAW.train, loaded.tokenizer, 32, 5)
    validation = {name: encode(split, loaded.tokenizer, 32, 5) for name, split in RAW.validation.items()}
    drawn = []

    def batch(indices):
        if len(drawn) == stop_before:
            raise Stopped
        if len(drawn) == signal_before:
            os.kill(os.getpid(), signal.SIGTERM)
        drawn.append(list(indices))
        return train.batch(indices)

    answers = iter(scores) if scores else None

    def evaluated(network):
        value = score(network, TASK, validation, 4096)[0].value
        return {"accuracy": value if answers is None else next(answers)}

    placement = Placement.of(loaded.model, HARDWARE)
    preparation = Preparation(
        placement,
        Computation(),
        NoiseClock(),
        lambda network: calibrated_ranges(network, placement, train, Calibration(examples=32)),
    )
    prepared = mode.prepare(loaded.model, preparation)
    data = TrainingData(lambda epoch: training_batches(len(train), mode.batch_size, seed, epoch), batch)
    folder.mkdir(parents=True, exist_ok=True)
    quiet = [].append
    trained, history = fit(prepared, mode, data, evaluated, "accuracy", preparation, seed, folder, "cpu", quiet)
    return trained, history, drawn


def weights(trained):
    return {name: value.clone() for name, value in trained.state_dict().items()}


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def what_happened(history):
    return history.epochs, history.best_epoch, history.steps


# --- resume --------------------------------------------------------------------------------------------


def test_a_signal_saves_the_step_that_training_is_at(tmp_path):
    mode = replace(HWA, save_every=1000)
    whole, _, _ = run(mode, tmp_path / "whole")
    with ended_by_signals(), pytest.raises(Interrupted) as ended:
        run(mode, tmp_path / "parts", signal_before=3)
    assert exit_code(ended.value) == 143
    _, notes = load_tensors(tmp_path / "parts" / "state.safetensors")
    assert notes["step"] in (2, 3)  # a loader fetches one batch ahead
    resumed, _, _ = run(mode, tmp_path / "parts")
    assert_same_bits(weights(whole), weights(resumed))


MODES = {
    "digital": DIGITAL,
    "hardware_aware": HWA,
    "digital epoch first": replace(HWA, digital_epochs=1),
    "two parts a step": replace(HWA, accumulate=2),
    "every knob": replace(
        HWA,
        gradient_checkpointing=True,
        select_by="last",
        weight_noise=WeightNoise(law="relative", scale=0.05, mirrored=True),
        input_range=InputRange(rule="toolkit", decay=0.01),
        max_steps=8,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODES)
def test_a_run_stopped_anywhere_ends_in_the_same_bits(name, tmp_path):
    mode = replace(MODES[name], save_every=1)
    trained, history, drawn = run(mode, tmp_path / "whole")
    parts = mode.accumulate
    for stop in (2, 4, 3):  # steps before each stop: inside both epochs (batches are drawn one ahead of their step)
        with pytest.raises(Stopped):
            run(mode, tmp_path / "stopped", stop_before=stop * parts)
    again, same_history, _ = run(mode, tmp_path / "stopped")
    assert_same_bits(weights(again), weights(trained))
    assert what_happened(same_history) == what_happened(history)
    assert len(drawn) >= history.steps * parts


@pytest.mark.slow
def test_how_often_a_run_is_saved_changes_no_bit(tmp_path):
    ends = []
    for save_every in (1, 3, 100):
        folder = tmp_path / str(save_every)
        mode = replace(HWA, save_every=save_every)
        with pytest.raises(Stopped):
            run(mode, folder, stop_before=8)
        trained, _, drawn = run(mode, folder)
        ends.append(weights(trained))
        assert len(drawn) == {1: 3, 3: 4, 100: 5}[save_every]  # after seven of ten steps; an epoch's end is always saved
    assert_same_bits(ends[0], ends[1])
    assert_same_bits(ends[0], ends[2])


KILLED = '''
import json, os, random, signal, sys, time
from contextlib import suppress
from pathlib import Path

import torch

torch.set_num_threads(1)
sys.path.insert(0, sys.argv[2])
from tests.training import test_training as tests
from analog_glue.commands.train import train
from analog_glue.settings import Calibration, Evaluation, HardwareSettings, RunSettings

root = Path(sys.argv[1])
mode = tests.replace(tests.HWA, save_every=1, digital_epochs=1, epochs=8, select_by="last")
train(  # what the first use of the libraries imports is imported here, not in every child
    RunSettings(output_root=str(root / "warm"), evaluation=Evaluation(chips=0)),
    tests.TASK, tests.MODEL, tests.PCM(), tests.HARDWARE.crossbar, tests.replace(mode, max_steps=6),
)


def start(name):
    """The whole command in a process of its own, forked where all is imported."""
    child = os.fork()
    if child:
        return child
    try:
        train(
            RunSettings(output_root=str(root / name), evaluation=Evaluation(chips=2, times=[1.0, 60.0])),
            tests.TASK, tests.MODEL, tests.PCM(), tests.HARDWARE.crossbar, mode,
        )
        os._exit(0)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


def finished_steps():
    """Of the run that is killed, as its state on disk says; None before and after training."""
    for file in (root / "killed").glob("*/state.safetensors"):
        with suppress(FileNotFoundError):
            return tests.load_tensors(file)[1]["step"]


began = time.monotonic()
assert os.waitpid(start("whole"), 0)[1] == 0
whole = time.monotonic() - began
draw = random.Random(os.urandom(8))
report = []
for least in (2, 7, 13, 22, 31, None, None):  # kill somewhere after so many of 40 steps, or at any moment
    child, began = start("killed"), time.monotonic()
    if least is None:
        time.sleep(draw.uniform(0.1, 0.8) * whole)
    else:
        while (finished_steps() or 0) < least and time.monotonic() - began < whole + 10:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    report.append((round(time.monotonic() - began, 3), finished_steps()))
assert os.waitpid(start("killed"), 0)[1] == 0
print(json.dumps({"whole": whole, "killed [s], after steps": report}))
'''


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_in_the_same_bits(tmp_path):
    """SIGKILL to the whole command, up to seven times: while it loads, trains, saves, or scores chips."""
    (tmp_path / "killed.py").write_text(KILLED)
    here = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, str(tmp_path / "killed.py"), str(tmp_path), str(here)],
        cwd=here,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = done.stdout.splitlines()[-1]
    reached = [steps for _, steps in json.loads(report)["killed [s], after steps"] if steps is not None]
    assert reached == sorted(reached), report  # no kill threw a run back
    assert sum(0 < steps < 40 for steps in reached) >= 3, report  # and most came while it was training
    (whole,), (killed,) = (list((tmp_path / name).glob("demo-tiny-*")) for name in ("whole", "killed"))
    assert whole.name == killed.name
    for name in ("model.safetensors", "analog.safetensors"):
        assert_same_bits(load_file(killed / name), load_file(whole / name))
    histories = [json.loads((folder / "run.json").read_text())["history"] for folder in (whole, killed)]
    for history in histories:
        assert history.pop("seconds") > 0
    assert histories[0] == histories[1], report
    tables = []
    for folder in (whole, killed):
        (file,) = folder.glob("*/results.csv")
        with file.open(encoding="utf-8", newline="") as lines:
            tables.append([{**row, "wall_seconds": ""} for row in csv.DictReader(lines)])
    assert tables[0] == tables[1], report
    assert len(tables[0]) == 3 + 2 * 2
    assert not list(killed.glob(".*.partial")), report
    assert not (killed / STATE).exists()


# --- what training does --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("mode", [DIGITAL, HWA], ids=lambda mode: mode.name)
def test_training_learns(mode, tmp_path):
    trained, history, _ = run(replace(mode, epochs=20, learning_rate=1e-2), tmp_path)
    losses = [epoch["loss"] for epoch in history.epochs]
    assert losses[0] == pytest.approx(math.log(5), abs=0.1)  # five ratings
    assert losses[-1] < losses[0] - 0.05  # with noise on its 16 columns it learns slowly
    assert [epoch["step"] for epoch in history.epochs] == [5 * n for n in range(1, 21)]
    assert not trained.training


@pytest.mark.slow
def test_both_modes_see_the_same_data_in_the_same_order(tmp_path):
    *_, digital = run(DIGITAL, tmp_path / "digital")
    *_, aware = run(HWA, tmp_path / "aware")
    *_, other = run(HWA, tmp_path / "other", seed=1)
    assert digital == aware
    assert aware != other
    assert sorted(index for batch in digital[:5] for index in batch) == list(range(72))  # every example once an epoch
    assert digital[:5] != digital[5:]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_and_another_one_others(tmp_path):
    same = [weights(run(HWA, tmp_path / str(attempt))[0]) for attempt in range(2)]
    assert_same_bits(*same)
    other = weights(run(HWA, tmp_path / "other", seed=1)[0])
    assert any(not torch.equal(value, other[name]) for name, value in same[0].items())


@pytest.mark.slow
def test_training_leaves_nothing_in_the_global_generator_that_matters(tmp_path):
    first = weights(run(HWA, tmp_path / "first")[0])
    torch.manual_seed(123)
    torch.rand(17)
    assert_same_bits(weights(run(HWA, tmp_path / "second")[0]), first)


@pytest.mark.slow
def test_digital_epochs_are_those_of_digital_training(tmp_path):
    """Before its network goes on tiles, hardware-aware training is digital training."""
    one_digital = replace(HWA, epochs=3, digital_epochs=1)
    _, digital, _ = run(replace(DIGITAL, epochs=3), tmp_path / "digital")
    trained, history, _ = run(one_digital, tmp_path / "aware")
    assert history.epochs[0] == digital.epochs[0]
    assert history.epochs[1]["loss"] != digital.epochs[1]["loss"]
    assert history.best_epoch >= 1  # the weights that are kept have seen the tiles
    assert all(layer.on_tiles for layer in trained.modules() if isinstance(layer, AnalogLinear))


def test_a_budget_that_never_reaches_the_tiles_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`training.max_steps` must reach beyond `training.digital_epochs`, but 4 steps"):
        run(replace(HWA, digital_epochs=1, max_steps=4), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [DIGITAL, HWA], ids=lambda mode: mode.name)
def test_half_precision_trains_the_same_network_less_exactly(mode, tmp_path):
    _, reference, _ = run(mode, tmp_path / "exact")
    trained, history, _ = run(replace(mode, precision="bf16"), tmp_path / "half")  # in the same process
    assert all(value.dtype == torch.float32 for value in trained.state_dict().values() if value.is_floating_point())
    losses = [[epoch["loss"] for epoch in one.epochs] for one in (history, reference)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] != losses[1]


COMPILED = {"kernel": "compiled", "product": "int8_single"}  # of runtime


def possible(**fields):
    return gradient_digits(HARDWARE.crossbar, Computation.resolved(HARDWARE, "cpu", **(COMPILED | fields)))


@pytest.mark.skipif(not possible(), reason="needs instructions for integers")
def test_gradients_of_sixteen_bits_train_the_same_network_less_exactly():
    """Gradients of one layer: of 8-bit products, of the same with two digits, and those that autograd has in float32."""

    def gradients(precision):
        mode = replace(HWA, precision=precision)
        model = torch.nn.Sequential(torch.nn.Linear(24, 40))
        with torch.no_grad():
            model[0].weight.copy_(torch.randn(40, 24, generator=torch.Generator().manual_seed(0)))
        placement = Placement.of(model, HARDWARE)
        computation = Computation.resolved(HARDWARE, "cpu", **COMPILED)
        ranges = {"0": torch.full((2,), 4.0)}
        preparation = Preparation(placement, computation, NoiseClock(), lambda model: ranges)
        model = mode.prepare(model, preparation)
        mode.begin_epoch(model, 0, False, preparation)
        preparation.clock.start(0, "training", 0)
        x = torch.randn(50, 24, generator=torch.Generator().manual_seed(1)).requires_grad_()
        towards = torch.randn(50, 40, generator=torch.Generator().manual_seed(2))
        (model(x) * towards).sum().backward()
        return x.grad, model[0].weight.grad

    for full, fewer in zip(gradients("fp32"), gradients("int16"), strict=True):
        difference = (full - fewer).norm() / full.norm()
        # Entries are rounded by at most half of 2⁻¹⁵ of the largest, which is at most 5 times their root mean square.
        assert 1e-6 < difference < 5 * 2**-15


@pytest.mark.parametrize(
    ("mode", "fields"),
    [
        (HWA, {"kernel": "reference"}),
        (HWA, {"product": "float32"}),
        (HWA, {"product": "int8"}),
        (replace(HWA, weight_noise=WeightNoise("none")), {"product": "auto"}),
    ],
    ids=["reference", "float32", "15 bits", "noise-free"],
)
def test_gradients_of_sixteen_bits_need_products_of_8_bit_weights(mode, fields):
    computation = Computation.resolved(HARDWARE, "cpu", **(COMPILED | fields))
    mode.check(HARDWARE, computation)
    with pytest.raises(ValueError, match=r"Setting `training.precision` must be fp32 or bf16 where .*, but is 'int16'"):
        replace(mode, precision="int16").check(HARDWARE, computation)


def test_digital_training_has_no_gradients_of_sixteen_bits():
    with pytest.raises(ValueError, match=r"Argument `precision` must be fp32 or bf16, but is 'int16'"):
        replace(DIGITAL, precision="int16")


@pytest.mark.slow
def test_a_step_in_parts_is_the_step_of_the_whole_batch(tmp_path):
    """Gradient accumulation is exact where a step has no randomness and its parts are of one size."""
    model = replace(MODEL, dropout=0.0)
    mode = replace(DIGITAL, epochs=1, max_steps=4)
    whole = weights(run(mode, tmp_path / "whole", model=model)[0])
    in_parts, _, drawn = run(replace(mode, accumulate=4), tmp_path / "parts", model=model)
    assert [len(part) for part in drawn[:16]] == [4] * 16
    for name, value in weights(in_parts).items():
        assert torch.allclose(value, whole[name], atol=2e-4), name  # AdamW turns tiny gradients' signs into steps of 3e-3
        assert (value - whole[name]).abs().mean() < 1e-5, name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("select_by", "scores", "kept"),
    [("headline", [10, 30, 20], 1), ("headline", [30, 30, 20], 0), ("last", [30, 20, 10], 2), ("headline", [math.nan, 5, 1], 1),
     ("headline", [5, math.nan, 1], 0), ("headline", [math.nan] * 3, 0)],
)  # fmt: skip
def test_the_weights_of_the_selected_epoch_are_kept(select_by, scores, kept, tmp_path):
    mode = replace(DIGITAL, epochs=3, select_by=select_by)
    trained, history, _ = run(mode, tmp_path / "all", scores=scores)
    assert history.best_epoch == kept
    # What the run looked like after that epoch: the same schedule, stopped there.
    with pytest.raises((Stopped, StopIteration)):
        run(mode, tmp_path / "until", scores=scores[: kept + 1], stop_before=5 * (kept + 1) if kept < 2 else None)
        raise Stopped
    tensors, _ = load_tensors(tmp_path / "until" / ("best.safetensors"))
    if kept < 2:
        state, _ = load_tensors(tmp_path / "until" / STATE)
        tensors = {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}
    assert_same_bits(weights(trained), tensors)


@pytest.mark.slow
def test_weights_stay_within_their_clip(tmp_path):
    for clip, least, most in ((1.0, 0.99, 1.35), (None, 2.2, 10.0)):
        trained, *_ = run(replace(HWA, weight_clip=clip), tmp_path / str(clip))
        layers = [layer for layer in trained.modules() if isinstance(layer, AnalogLinear) and layer.weight.numel() > 100]
        reach = max((layer.weight.abs().max() / layer.weight.std()).item() for layer in layers)
        assert least < reach < most  # clipping at 1 σ leaves a narrower σ: uniform weights reach 1.7, all-equal ones 1


@pytest.mark.slow
def test_ranges_and_scales_are_learned_unless_they_are_fixed(tmp_path):
    learned = [layer for layer in run(HWA, tmp_path / "learned")[0].modules() if isinstance(layer, AnalogLinear)]
    assert all((layer.output_scale != 1).any() for layer in learned)
    fixed = replace(HWA, output_scale_learning_rate=0.0, input_range=InputRange(learning_rate=0.0))
    fixed_layers = [layer for layer in run(fixed, tmp_path / "fixed")[0].modules() if isinstance(layer, AnalogLinear)]
    assert all((layer.output_scale == 1).all() for layer in fixed_layers)
    loaded = MODEL.load(5, 0, RAW.train.texts)
    train = encode(RAW.train, loaded.tokenizer, 32, 5)
    placement = Placement.of(loaded.model, HARDWARE)
    preparation = Preparation(placement, Computation(), NoiseClock(), lambda network: {})
    HWA.after_step(prepared := HWA.prepare(loaded.model, preparation))
    calibrated = calibrated_ranges(prepared, placement, train, Calibration(examples=32))
    for layer in fixed_layers:
        assert torch.allclose(layer.input_range, calibrated[layer.name], rtol=1e-5), layer.name
    assert any(not torch.equal(one.input_range, other.input_range) for one, other in zip(fixed_layers, learned, strict=True))


@pytest.mark.slow
def test_gradient_checkpointing_changes_no_bit_of_a_run(tmp_path):
    plain = weights(run(HWA, tmp_path / "plain")[0])
    assert_same_bits(weights(run(replace(HWA, gradient_checkpointing=True), tmp_path / "checkpointed")[0]), plain)


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"accumulate": 3}, "accumulate"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"warmup": 1.0}, "warmup"),
        ({"precision": "int8"}, "precision"),
        ({"select_by": "best"}, "select_by"),
        ({"max_steps": 0}, "max_steps"),
        ({"digital_epochs": 2}, "digital_epochs"),
        ({"weight_clip": 0.0}, "weight_clip"),
        ({"output_scale_learning_rate": -1.0}, "output_scale_learning_rate"),
    ],
)
def test_values_that_mean_nothing_are_refused(fields, key):
    with pytest.raises(ValueError, match=f"Argument `{key}` must"):
        replace(HWA, **fields)
    with pytest.raises(ValueError, match=r"Argument `rule` must be one of clip, toolkit, but is 'x'"):
        InputRange(rule="x")


# --- state ---------------------------------------------------------------------------------------------


def test_a_state_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "state.safetensors"
    save_tensors(file, {"x": torch.ones(3)}, {"step": 1})

    def killed(*arguments):
        raise Stopped

    monkeypatch.setattr("analog_glue.runs.files.os.replace", killed)
    with pytest.raises(Stopped):
        save_tensors(file, {"x": torch.zeros(3)}, {"step": 2})
    tensors, notes = load_tensors(file)
    assert tensors["x"].tolist() == [1, 1, 1]
    assert notes == {"step": 1}


def test_numbers_come_back_from_a_state_as_they_were(tmp_path):
    notes = {"loss_sum": 0.1 + 0.2, "best": -math.pi, "history": [{"accuracy": 1 / 3}]}
    views = torch.arange(12.0).view(3, 4)
    save_tensors(tmp_path / "state", {"part": views[:, 1:3], "same": views, "also": views}, notes)
    tensors, back = load_tensors(tmp_path / "state")
    assert back == notes
    assert torch.equal(tensors["part"], views[:, 1:3])


@pytest.mark.parametrize("parts", [1, 3, 48, 128])
def test_a_batch_of_fewer_examples_than_parts_is_learnt_too(parts):
    batches = [list(range(48)), list(range(48, 64))]  # the last one of an epoch is short
    cut = _micro_batches(batches, parts)
    assert len(cut) == 2 * parts and all(cut)
    for number, batch in enumerate(batches):
        own = cut[number * parts : (number + 1) * parts]
        assert {example for part in own for example in part} == set(batch)
        counts = [sum(part.count(example) / len(part) for part in own) for example in batch]  # as their mean weighs them
        assert max(counts) - min(counts) <= 1
