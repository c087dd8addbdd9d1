"""`analog-glue diagnose` on a small model: looks once, at a chip and examples of its own, and stays out of all scores."""

import json

import pytest
import torch

from analog_glue.cli.main import main
from analog_glue.commands import diagnose as command
from analog_glue.commands.calibrated import calibration_batches
from analog_glue.reports.diagnosis import read_tiles
from analog_glue.runs.rows import find_rows
from analog_glue.tasks.task import Encoded

SMALL = ["task.train_size=48", "task.validation_size=40", "model.hidden=16", "model.layers=1", "model.heads=2",
         "model.intermediate=24", "model.vocabulary_size=100", "training.max_steps=4"]  # fmt: skip
HARDWARE = ["tile.rows=16", "tile.columns=16", "hardware.calibration.examples=16"]


# --- the examples --------------------------------------------------------------------------------------------------------


def words_of(batches):
    return {tuple(ids[ids > 0].tolist()) for batch in batches for ids in batch["input_ids"]}


@pytest.mark.parametrize(("examples", "overlap"), [(10, 0), (15, 0), (20, 10), (30, 30), (99, 30)])
def test_examples_are_others_than_those_of_calibration_as_far_as_there_are_enough(examples, overlap):
    train = Encoded([[n + 1, n + 2] for n in range(30)], None, torch.zeros(30), pad_id=0)
    calibrated = words_of(calibration_batches(train, examples, torch.device("cpu")))
    looked_at = words_of(calibration_batches(train, examples, torch.device("cpu"), after=examples))
    assert len(looked_at) == min(examples, 30)
    assert len(calibrated & looked_at) == overlap


# --- the command ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    words = ["task=demo", "model=tiny", "training=digital", *SMALL, *HARDWARE, f"output_root={root}"]
    assert main(["train", *words, "evaluation.chips=1", "evaluation.times=[1]", "evaluation.ideal_devices=false"]) == 0
    return root, next(folder for folder in root.iterdir() if folder.name.startswith("demo-"))


def diagnose(trained, *words):
    root, run = trained
    return main(["diagnose", f"checkpoint={run}", f"output_root={root}", *HARDWARE, *words])


@pytest.fixture
def looks(monkeypatch):
    """How often a chip is looked at."""
    noted = []
    whole = command.diagnose

    def look(chip, batches, times, compensated):
        noted.append((chip, times, compensated))
        return whole(chip, batches, times, compensated)

    monkeypatch.setattr(command, "diagnose", look)
    return noted


def folders(run, stem="diagnosis-pcm-spoon2021-*"):
    return sorted(run.glob(stem))


@pytest.mark.slow
def test_a_diagnosis_is_made_once_and_stays_out_of_scores(trained, looks, capsys):
    root, run = trained
    before = [*find_rows(root)]
    assert diagnose(trained, "dry_run=true") == 0
    assert not folders(run) and "chip −1 at 1 s and 1 month with 16 training examples" in capsys.readouterr().out
    assert diagnose(trained) == 0
    (folder,) = folders(run)
    said = capsys.readouterr().out
    assert f"diagnosis: {folder}\n" in said and "next: analog-glue evaluate" in said
    files = {file.name for file in folder.iterdir()} - {".lock"}
    assert {"run.json", "config.json", "tiles.csv", "diagnosis.md", "columns-rms.png", "columns-rms.svg"} <= files
    tiles = read_tiles(folder)
    assert {tile.t for tile in tiles} == {1.0, 2_592_000.0} and len({tile.layer for tile in tiles}) == 8
    record = json.loads((folder / "run.json").read_text())
    assert (record["command"], record["status"], record["chip"]) == ("diagnose", "done", -1)
    assert record["identity"]["diagnosis.chip"] == -1
    assert [(times, compensated) for _, times, compensated in looks] == [([1.0, 2_592_000.0], True)]

    assert diagnose(trained) == 0
    again = capsys.readouterr().out
    assert f"Already done: {folder}" in again and len(looks) == 1
    assert again.partition("Diagnosis of")[2] == said.partition("Diagnosis of")[2]
    assert diagnose(trained, "force=true") == 0
    assert len(looks) == 2 and read_tiles(folder) == tiles

    assert [*find_rows(root)] == before
    assert main(["list", "runs", str(root)]) == 0
    listed = capsys.readouterr().out
    assert f"done        {folder.name}: what its tiles lose" in listed and "no score yet" not in listed
    assert main(["tables", str(root)]) == 0
    assert "diagnosis" not in capsys.readouterr().out


@pytest.mark.slow
def test_it_is_written_into_the_folder_of_the_run_wherever_that_is(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["diagnose", f"checkpoint={trained[1]}", *HARDWARE, "tile.adc_bits=7", "dry_run=true"]) == 0
    assert f"Output     {trained[1] / 'diagnosis-pcm-spoon2021-'}" in capsys.readouterr().out


@pytest.mark.slow
def test_another_hardware_time_or_compensation_is_another_diagnosis(trained, looks):
    for number, word in enumerate(
        ("tile.adc_bits=6", "evaluation.times=[1,60]", "evaluation.compensation=[false]", "evaluation.chip_seed=1"), start=1
    ):
        known = set(folders(trained[1]))
        assert diagnose(trained, word) == 0
        assert len(set(folders(trained[1])) - known) == 1 and len(looks) == number
    assert [compensated for _, _, compensated in looks] == [True, True, False, True]
    assert diagnose(trained, "evaluation.compensation=[false]", "evaluation.chips=3") == 0 and len(looks) == 4


@pytest.mark.slow
def test_devices_that_do_not_drift_are_looked_at_once_and_an_ideal_tile_has_no_pictures(trained, looks, capsys):
    assert diagnose(trained, "noise=ideal", "tile=ideal") == 0
    (folder,) = folders(trained[1], "diagnosis-ideal-ideal-*")
    assert looks[0][1:] == ([1.0], False) and not list(folder.glob("columns-*"))
    assert "no DAC" in capsys.readouterr().out


@pytest.mark.slow
def test_what_was_interrupted_is_looked_at_again(trained, monkeypatch, looks):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(command, "pictures", interrupted)
        assert diagnose(trained, "tile.adc_bits=5") == 130
    assert diagnose(trained, "tile.adc_bits=5") == 0
    assert len(looks) == 2


@pytest.mark.slow
def test_weights_trained_in_situ_and_folders_without_a_run_are_refused(trained, tmp_path, capsys):
    for name in ("learning_curve.csv", "extraction.json"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).touch()
        assert main(["diagnose", f"checkpoint={folder}"]) == 2
        assert "`checkpoint` must be the folder of a run of training=digital" in capsys.readouterr().err
    assert main(["diagnose", f"checkpoint={tmp_path}"]) == 2
    assert "must be the folder of a finished training run" in capsys.readouterr().err
    assert main(["diagnose", f"checkpoint={trained[1]}", "ablate=true"]) == 2
    assert "`ablate` must be left out of `diagnose`" in capsys.readouterr().err
    assert main(["diagnose", f"checkpoint={trained[1]}", "task=mrpc"]) == 2
    assert "`task` must be left out for a run" in capsys.readouterr().err
