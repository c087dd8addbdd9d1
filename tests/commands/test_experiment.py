"""The commands as functions: what is done is not done again, what is missing is added, and everything is written down."""

import fcntl
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from analog_glue.commands import deploy
from analog_glue.commands.deploy import evaluate
from analog_glue.commands.dry_run import describe
from analog_glue.commands.train import prepare, train
from analog_glue.devices.ideal import Ideal
from analog_glue.devices.pcm import PCM
from analog_glue.devices.reram import ReRAM
from analog_glue.errors import UserError
from analog_glue.models import TinyModel
from analog_glue.runs.folder import checkpoint_config
from analog_glue.runs.rows import ResultsFile, find_rows
from analog_glue.settings import Calibration, Evaluation, HardwareSettings, RunSettings, Runtime
from analog_glue.tasks.demo import DemoTask
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.training.digital import Digital
from analog_glue.training.hardware_aware import HardwareAware

TASK = DemoTask(train_size=48, validation_size=40)
MODEL = TinyModel(hidden=16, layers=1, heads=2, intermediate=24, vocabulary_size=100, dropout=0.1)
TILE = Crossbar(rows=16, columns=16)
DIGITAL = Digital(epochs=1, learning_rate=1e-2)
AWARE = HardwareAware(epochs=2, digital_epochs=1, learning_rate=1e-2)


def settings(root, seed=0, layers=("*",), **fields):
    evaluation = {"chips": 2, "times": [1.0, 3600.0], "compensation": [False, True]}
    options = {name: fields.pop(name) for name in list(fields) if name in Evaluation.__dataclass_fields__}
    return RunSettings(
        seed=seed,
        output_root=str(root),
        evaluation=Evaluation(**(evaluation | options)),
        hardware=HardwareSettings(layers=list(layers), calibration=Calibration(examples=16)),
        **fields,
    )


class Log(list):
    __call__ = list.append

    def says(self, words):
        return any(words in line for line in self)


def trained(root, mode=AWARE, device=None, tile=TILE, log=None, **fields):
    return train(settings(root, **fields), TASK, MODEL, device or PCM(), tile, mode, log=Log() if log is None else log)


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    """A finished run of each mode under one root; tests work on copies of it."""
    root = tmp_path_factory.mktemp("runs")
    return root, trained(root), trained(root, DIGITAL)


@pytest.fixture
def copy(master, tmp_path):
    """(root, sweep folder of the hardware-aware run, its rows)."""
    root, aware, _ = master
    shutil.copytree(root, tmp_path / "runs")
    folder = tmp_path / "runs" / aware.run_dir.relative_to(root)
    return tmp_path / "runs", folder, ResultsFile(folder).rows()


@pytest.fixture
def no_work(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("trained or measured something")

    monkeypatch.setattr("analog_glue.commands.train.fit", refuse)
    monkeypatch.setattr("analog_glue.commands.deploy.drift_sweep", refuse)


def files(root):
    return {path.relative_to(root): (path.stat().st_mtime_ns, path.read_bytes()) for path in root.rglob("*") if path.is_file()}


def without_time(rows):
    return [vars(row) | {"wall_seconds": 0} for row in rows]


def stop_after_five_scores(monkeypatch):
    append, appended = ResultsFile.append, []

    def stop(self, measured):
        if len(appended) == 5:
            raise KeyboardInterrupt
        appended.append(measured)
        return append(self, measured)

    monkeypatch.setattr(ResultsFile, "append", stop)


# --- one run -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("which", [1, 2], ids=["hardware_aware", "digital"])
def test_a_run_leaves_what_it_takes_to_read_it(master, which):
    summary = master[which]
    run = summary.run_dir.parent
    facts = json.loads((run / "run.json").read_text())
    assert facts["status"] == "done"
    assert facts["name"] == run.name
    assert facts["seed"] == 0
    assert facts["history"]["steps"] == (6 if which == 1 else 3)
    assert (facts["versions"]["torch"], facts["versions"]["cuda"]) == (torch.__version__, torch.version.cuda)
    for folder in (run, summary.run_dir):
        assert str(Path.home()) not in (folder / "run.json").read_text()
    sweep = json.loads((summary.run_dir / "run.json").read_text())
    assert (sweep["status"], sweep["train_id"]) == ("done", facts["train_id"])
    assert sweep["input_ranges"].startswith("learned" if which == 1 else "99.995 %")
    ranges = json.loads((summary.run_dir / "input_ranges.json").read_text())["input_ranges"]
    assert len(ranges) == 8
    assert all(value > 0 for layer in ranges.values() for value in layer)
    assert (run / "analog.safetensors").exists() == (which == 1)
    assert not list(run.rglob(".*.partial")) + list(run.glob("state*")) + list(run.glob("best*"))
    assert not list(run.rglob("*.bin")) + list(run.rglob("*.pt")) + list(run.rglob("*.pkl"))  # never a pickle


@pytest.mark.parametrize("which", [1, 2], ids=["hardware_aware", "digital"])
def test_any_reader_of_checkpoints_reads_the_weights(master, which):
    run = master[which].run_dir.parent
    model, report = AutoModelForSequenceClassification.from_pretrained(run, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert type(model).__name__ == "BertForSequenceClassification"


def test_every_point_of_the_sweep_is_a_row(master):
    rows = ResultsFile(master[1].run_dir).rows()
    assert [(row.stage, row.chip, row.t_seconds, row.compensated) for row in rows] == [
        ("digital", None, None, None),
        ("majority", None, None, None),
        ("ideal_devices", None, None, None),
        *(("chip", chip, t, c) for chip in (0, 1) for t in (1.0, 3600.0) for c in (False, True)),
    ]
    assert {row.metric for row in rows} == {"accuracy"}
    assert all(row.headline and row.examples == 40 and row.training == "hardware_aware" for row in rows)


def test_the_table_shows_every_time_and_says_what_comes_next(master):
    summary = master[1]
    for words in ("1 s", "1 h", "digital", "majority", "±"):
        assert words in summary.table
    assert any("analog-glue tables" in step for step in summary.next_steps)


def test_the_kept_weights_score_what_training_measured(master):
    """The digital row of a digital run is the score of its selected epoch."""
    summary = master[2]
    history = json.loads((summary.run_dir.parent / "run.json").read_text())["history"]
    (row,) = [row for row in ResultsFile(summary.run_dir).rows() if row.stage == "digital"]
    assert row.value == pytest.approx(history["epochs"][history["best_epoch"]]["accuracy"])


# --- again ---------------------------------------------------------------------------------------------


def test_the_same_command_again_does_nothing(copy, no_work):
    root, folder, _ = copy
    before, log = files(root), Log()
    again = trained(root, log=log)
    assert again.run_dir == folder
    assert again.table
    assert log.says("Training was done already")
    assert log.says("Already done")
    assert files(root) == before


def test_settings_that_change_no_number_are_the_same_command(copy, no_work):
    root, folder, _ = copy
    other = AWARE.__class__(**(vars(AWARE) | {"save_every": 7}))
    assert trained(root, other).run_dir == folder
    assert trained(root, runtime=Runtime(threads=1)).run_dir == folder
    assert trained(root, times=[3600, 1], compensation=[True]).run_dir == folder  # fewer points, or in another order


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"layers": ("*", "!classifier")}, {"tile": Crossbar(rows=8, columns=16)}, {"device": PCM(noise_scale=0.5)}],
    ids=lambda change: next(iter(change)),
)
def test_what_determines_the_weights_determines_the_run(copy, change):
    root, folder, _ = copy
    log = Log()
    other = trained(root, log=log, chips=0, **change)
    assert log.says("Training demo-tiny-hardware_aware")
    assert other.run_dir.parent != folder.parent


@pytest.mark.slow
def test_hardware_does_not_determine_a_digital_run(copy):
    root, _, _ = copy
    log = Log()
    other = trained(root, DIGITAL, device=PCM(noise_scale=0.5), log=log, chips=1)
    assert log.says("Training was done already")
    assert not log.says("Already done")  # but it has a sweep of its own
    assert len(list(root.glob("*digital*"))) == 1
    assert len({row.hardware_id for row in find_rows(other.run_dir.parent)}) == 2


@pytest.mark.slow
def test_more_chips_and_times_add_rows_and_change_none(copy):
    root, folder, rows = copy
    log = Log()
    trained(root, chips=3, times=[1.0, 60.0, 3600.0], log=log)
    more = ResultsFile(folder).rows()
    assert more[: len(rows)] == rows
    assert len(more) == 3 + 3 * 3 * 2
    assert log.says("Resuming the sweep: 11 of 21 scores are measured.")
    fresh = trained(root / "elsewhere", chips=3, times=[60.0, 3600.0, 1.0])
    in_order = sorted(without_time(more), key=str)
    assert in_order == sorted(without_time(ResultsFile(fresh.run_dir).rows()), key=str)


@pytest.mark.slow
def test_an_interrupted_sweep_continues_where_it_stopped(copy, monkeypatch):
    root, folder, rows = copy
    shutil.rmtree(folder)
    stop_after_five_scores(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        trained(root)
    assert json.loads((folder / "run.json").read_text())["status"] == "running"
    assert without_time(ResultsFile(folder).rows()) == without_time(rows[:5])
    monkeypatch.undo()
    log = Log()
    trained(root, log=log)
    assert log.says("Resuming the sweep: 5 of 11 scores are measured.")
    assert without_time(ResultsFile(folder).rows()) == without_time(rows)
    assert json.loads((folder / "run.json").read_text())["status"] == "done"


@pytest.mark.slow
def test_force_trains_and_measures_anew_and_finds_the_same(copy):
    root, folder, rows = copy
    weights = load_file(folder.parent / "model.safetensors")
    log = Log()
    trained(root, force=True, log=log)
    assert log.says("Training demo-tiny-hardware_aware")
    assert not log.says("Already done")
    assert not log.says("Resuming")
    again = ResultsFile(folder).rows()
    assert without_time(again) == without_time(rows)
    assert again != rows  # other wall times: it was measured
    for name, value in load_file(folder.parent / "model.safetensors").items():
        assert torch.equal(value, weights[name]), name


@pytest.mark.slow
def test_force_that_is_interrupted_is_continued_and_not_begun_again(copy, monkeypatch):
    root, folder, rows = copy
    stop_after_five_scores(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        trained(root, force=True)
    monkeypatch.undo()
    log = Log()
    trained(root, force=True, log=log)
    assert log.says("Training was done already") and log.says("Resuming the sweep: 5 of 11 scores are measured.")
    assert without_time(ResultsFile(folder).rows()) == without_time(rows)
    assert not list(root.rglob(".forced"))
    log = Log()
    trained(root, force=True, log=log)  # the call before came to its end
    assert log.says("Training demo-tiny-hardware_aware") and not log.says("Resuming")


@pytest.mark.slow
def test_a_sweep_that_was_killed_before_its_last_note_is_done(copy, no_work):
    root, folder, rows = copy
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(facts | {"status": "running"}))
    trained(root)
    assert json.loads((folder / "run.json").read_text())["status"] == "done" and ResultsFile(folder).rows() == rows


@pytest.mark.slow
@pytest.mark.parametrize("force", [False, True])
def test_a_second_process_that_would_train_in_a_folder_is_refused_and_spoils_nothing(copy, force):
    root, folder, _ = copy
    run = folder.parent
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"status": "running"}))
    before = files(root)
    with (run / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        with pytest.raises(UserError, match="another process is working in it"):
            trained(root, force=force)
    assert {name: content for name, (_, content) in files(root).items()} == {
        name: content for name, (_, content) in before.items()
    }


@pytest.mark.slow
def test_what_a_killed_process_left_half_written_is_removed(copy):
    root, folder, _ = copy
    run = folder.parent
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"status": "running"}))
    (run / ".state.safetensors.partial").write_bytes(b"half")
    (run / "state.safetensors").unlink(missing_ok=True)
    trained(root)
    assert not list(run.glob(".*.partial")) and not (run / "state.safetensors").exists()
    (run / "state.safetensors").write_bytes(b"of a run that was killed when it was done")
    trained(root)
    assert not (run / "state.safetensors").exists()


# --- a starting point ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_can_start_from_another(copy):
    root, _, _ = copy
    (start,) = root.glob("*digital*")
    barely = {"epochs": 1, "digital_epochs": 0, "learning_rate": 1e-12, "weight_clip": None}
    mode = HardwareAware(**barely, start_from=str(start), weight_decay=0.0)
    run = trained(root, mode, chips=0).run_dir.parent
    began = load_file(start / "model.safetensors")
    ended = load_file(run / "model.safetensors")
    assert began.keys() == ended.keys()
    for name, value in ended.items():
        # Weights cannot move; a learned scale of 1 ± 6 · 10⁻³ (three steps of up to 2 · 10⁻³) may be folded into them.
        assert torch.allclose(value, began[name], rtol=0.01, atol=1e-6), name
    from_scratch = trained(root, HardwareAware(**barely, weight_decay=0.0), chips=0).run_dir.parent
    assert from_scratch != run
    assert not torch.allclose(load_file(from_scratch / "model.safetensors")["classifier.weight"], began["classifier.weight"])


@pytest.mark.slow
def test_a_starting_point_counts_by_what_it_is_not_by_where_it_lies(copy):
    root, _, _ = copy
    (start,) = root.glob("*digital*")
    first = trained(root, Digital(epochs=1, start_from=str(start)), chips=0).run_dir
    moved = root / "moved"
    shutil.move(start, moved)
    log = Log()
    assert trained(root, Digital(epochs=1, start_from=str(moved)), chips=0, log=log).run_dir == first
    assert log.says("Training was done already")


@pytest.mark.parametrize("command", ["start_from", "checkpoint"])
def test_a_folder_without_a_finished_run_is_refused(tmp_path, command):
    (tmp_path / "run.json").write_text(json.dumps({"status": "running"}))
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=f"`(training.)?{command}` must be the folder of a finished training run"):
            if command == "start_from":
                trained(tmp_path / "root", Digital(epochs=1, start_from=str(folder)))
            else:
                evaluate(settings(tmp_path / "root", checkpoint=str(folder)), TASK, PCM(), TILE, log=Log())
    assert not (tmp_path / "root").exists()


# --- evaluate ------------------------------------------------------------------------------------------


def test_trained_weights_are_put_on_the_hardware_of_the_command(copy):
    root, folder, rows = copy
    run, log = folder.parent, Log()
    weights = (run / "model.safetensors").read_bytes()
    before = files(folder)
    summary = evaluate(settings(root, checkpoint=str(run)), TASK, ReRAM(), TILE, log=log)
    assert summary.run_dir.parent == run
    other = ResultsFile(summary.run_dir).rows()
    assert {row.noise for row in other} == {"reram"}
    assert {row.train_ids for row in other} == {row.train_ids for row in rows}
    assert {row.compensated for row in other if row.stage == "chip"} == {False}
    assert {row.t_seconds: row.extrapolated for row in other if row.stage == "chip"} == {1.0: False, 3600.0: False}
    by_stage = [{row.stage: row.value for row in some} for some in (rows, other)]
    assert by_stage[0]["digital"] == by_stage[1]["digital"]
    assert by_stage[0]["ideal_devices"] == by_stage[1]["ideal_devices"]
    assert files(folder) == before
    assert (run / "model.safetensors").read_bytes() == weights
    assert not log.says("Calibrating")  # its ranges were learned
    again = Log()
    evaluate(settings(root, checkpoint=str(run)), TASK, ReRAM(), TILE, log=again)
    assert again.says("Already done")


def test_tiles_of_another_shape_need_ranges_of_their_own(copy):
    root, folder, _ = copy
    log = Log()
    asked = settings(root, chips=0, checkpoint=str(folder.parent))
    other = evaluate(asked, TASK, Ideal(), Crossbar(rows=8, columns=16), log=log)
    assert log.says("Calibrating the input ranges of 8 layers")  # 16 inputs no longer lie in one row block
    ranges = json.loads((other.run_dir / "input_ranges.json").read_text())
    assert ranges["source"].startswith("99.995 %")
    assert all(len(layer) in (2, 3) for layer in ranges["input_ranges"].values())


@pytest.mark.slow
@pytest.mark.parametrize("layers", [("*",), ("*", "!bert*")], ids=["tiles of another shape", "layers left out"])
def test_scales_learned_for_other_tiles_stay_part_of_the_network(tmp_path, layers):
    """With one scale per tile they cannot be folded into the weights that are saved."""
    mode = HardwareAware(epochs=2, digital_epochs=0, learning_rate=1e-2, output_scale_learning_rate=0.3)
    run = trained(tmp_path, mode, Ideal(), Crossbar(rows=16, columns=16, scale_per="tile"), chips=0).run_dir
    scales = [value for name, value in load_file(run.parent / "analog.safetensors").items() if name.endswith("output_scale")]
    assert max((scale - 1).abs().max().item() for scale in scales) > 0.5
    asked = settings(tmp_path, chips=0, layers=layers, checkpoint=str(run.parent))
    tile = Crossbar(rows=8, columns=16) if layers == ("*",) else Crossbar(rows=16, columns=16)
    other = evaluate(asked, TASK, Ideal(), tile, log=Log()).run_dir
    digital = [next(row.value for row in ResultsFile(folder).rows() if row.stage == "digital") for folder in (run, other)]
    assert digital[0] == digital[1]


def test_results_may_go_elsewhere_than_the_checkpoint(copy, tmp_path):
    root, folder, _ = copy
    before = files(root)
    summary = evaluate(settings(tmp_path / "new", chips=1, checkpoint=str(folder.parent)), TASK, PCM(), TILE, log=Log())
    assert summary.run_dir.is_relative_to(tmp_path / "new")
    assert files(root) == before


def test_a_checkpoint_knows_its_configuration(master):
    config = checkpoint_config(master[1].run_dir.parent)
    assert config["task"]["_target_"] == "analog_glue.tasks.demo.DemoTask"
    assert config["training"]["weight_noise"]["scale"] == 1.0
    assert config["seed"] == 0


# --- dry run and bad input -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [DIGITAL, AWARE], ids=lambda mode: mode.name)
def test_a_dry_run_prints_sizes_and_noise_and_writes_nothing(tmp_path, no_work, mode):
    text = describe(prepare(settings(tmp_path / "runs"), TASK, MODEL, PCM(), TILE, mode, log=Log()))
    assert not (tmp_path / "runs").exists()
    # Four of attention and the pooler 16 × 16 (one tile), 16 → 24 and 24 → 16 (two), the classifier 16 → 5.
    assert "8 layers on 10 tiles of 16 × 16" in text
    assert f"{mode.name}: {mode.epochs * 3} steps of 16 examples, 3 per epoch" in text
    assert "2 chips × 2 times × 2 (drift compensation off and on) = 8 scores" in text
    converters = "DAC quantisation", "short-term read noise", "output noise", "ADC quantisation"
    for noise in (*converters, "programming noise", "after 1 h"):
        (line,) = [line for line in text.splitlines() if line.startswith(noise) or noise in line]
        lsb, cells, percent = (float(word) for word in line.replace("%", "").split()[-3:])
        assert cells == pytest.approx(lsb * 20 / 1022, rel=0.02)  # three digits are printed
        assert percent > 0
    (line,) = [line for line in text.splitlines() if line.startswith("output noise")]
    assert float(line.split()[-4]) == 0.5
    assert str(tmp_path / "runs") in text and "before any compensation" in text


def test_a_dry_run_on_a_finished_run_says_so_and_leaves_it(copy, no_work):
    root, folder, _ = copy
    before = files(root)
    assert "done already" in describe(prepare(settings(root), TASK, MODEL, PCM(), TILE, AWARE, log=Log()))
    evaluation = deploy.prepare(settings(root, checkpoint=str(folder.parent)), TASK, ReRAM(), TILE)
    assert "off: no drift" in describe(evaluation)
    assert files(root) == before


def test_results_survive_bad_input(copy):
    root, _, _ = copy
    before = files(root)
    with pytest.raises(ValueError, match=r"`hardware.layers` must name linear layers, but 'decoder' matches none"):
        trained(root, DIGITAL, layers=["decoder"], force=True)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"Setting `runtime.device` must be cpu or auto"):
            trained(root, force=True, runtime=Runtime(device="cuda"))
    with pytest.raises(ValueError, match=r"`training\.max_steps` must reach beyond"):
        trained(root, HardwareAware(epochs=2, digital_epochs=1, max_steps=1), force=True)
    kept = files(root)
    assert {path: kept[path] for path in before} == before


@pytest.mark.slow
def test_a_broken_training_does_not_count_as_done(tmp_path, monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("analog_glue.commands.train.fit", broken)
    with pytest.raises(RuntimeError):
        trained(tmp_path, DIGITAL)
    (run,) = tmp_path.glob("*digital*")
    assert json.loads((run / "run.json").read_text())["status"] == "running"
    with pytest.raises(ValueError, match="finished training run"):
        checkpoint_config(run)
    monkeypatch.undo()
    assert trained(tmp_path, DIGITAL, chips=0).run_dir.parent == run
