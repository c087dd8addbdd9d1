"""A network that was fine-tuned elsewhere is put on chips, tuned and diagnosed by naming its folder and its task."""

import json
import shutil

import pytest
from safetensors.torch import load_file

from analog_glue.runs.rows import find_rows

TINY = ["training=digital", "training.max_steps=40", "evaluation.chips=0", "evaluation.ideal_devices=false"]
ON_CHIPS = ["noise=pcm", "evaluation.chips=2", "evaluation.times=[1]", "hardware.calibration.examples=16"]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """(a plain Hugging Face folder, its digital score)."""
    from analog_glue.cli.main import main

    root = tmp_path_factory.mktemp("made")
    assert main(["train", "task=demo", "model=tiny", *TINY, f"output_root={root}"]) == 0
    (run,) = root.glob("demo-*")
    folder = tmp_path_factory.mktemp("theirs") / "my model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(run / name, folder / name)
    (score,) = {row.value for row in find_rows(root) if row.stage == "digital" and row.headline}
    return folder, score


@pytest.mark.slow
def test_it_is_swept_as_it_is_and_found_again(run, theirs, tmp_path):
    folder, score = theirs
    answer = run("evaluate", f"checkpoint='{folder}'", "task=demo", *ON_CHIPS, f"output_root={tmp_path}")
    assert answer.code == 0
    rows = find_rows(tmp_path)
    assert {row.value for row in rows if row.stage == "digital"} == {score}
    assert {row.chip for row in rows if row.stage == "chip"} == {0, 1}
    assert {(row.model, row.training) for row in rows} == {("my_model", "digital")}
    (made,) = tmp_path.glob("demo-my_model-digital-*")
    ours, weights = load_file(made / "model.safetensors"), load_file(folder / "model.safetensors")
    assert all((ours[name] == value).all() for name, value in weights.items())
    assert json.loads((made / "run.json").read_text())["history"]["steps"] == 0
    again = run("evaluate", f"checkpoint='{folder}'", "task=demo", *ON_CHIPS, f"output_root={tmp_path}")
    assert again.code == 0 and "Already done" in again.out and find_rows(tmp_path) == rows
    assert not (folder / "run.json").exists()
    ablated = run("diagnose", f"checkpoint='{folder}'", "task=demo", *ON_CHIPS[:1], f"output_root={tmp_path}")
    assert ablated.code == 0 and list(made.glob("diagnosis-*/tiles.csv"))


@pytest.mark.slow
def test_a_sweep_over_hardware_takes_it_in_once(run, theirs, tmp_path):
    words = [f"checkpoint='{theirs[0]}'", "task=demo", "noise=pcm,ideal", *ON_CHIPS[1:], f"output_root={tmp_path}"]
    answer = run("evaluate", "-m", *words)
    assert answer.code == 0 and "2 done" in answer.out
    assert len(list(tmp_path.glob("demo-my_model-*"))) == 1
    assert {row.noise for row in find_rows(tmp_path) if row.stage == "chip"} == {"pcm", "ideal"}


@pytest.mark.parametrize("command", ["evaluate", "tune", "diagnose", "specify", "place"])
def test_its_task_must_be_named(run, theirs, tmp_path, command):
    answer = run(command, f"checkpoint='{theirs[0]}'", f"output_root={tmp_path}")
    assert answer.code == 2 and "Setting `task` must name the task" in answer.err and not list(tmp_path.iterdir())


def test_a_dry_run_writes_nothing(run, theirs, tmp_path):
    answer = run("evaluate", f"checkpoint='{theirs[0]}'", "task=demo", *ON_CHIPS, "dry_run=true", f"output_root={tmp_path}")
    assert answer.code == 0 and "Dry run" in answer.out and not list(tmp_path.iterdir())
    assert "2 chips × 1 times" in answer.out and "devices, all together, after 1 s" in answer.out
    sweep = run("evaluate", "-m", f"checkpoint='{theirs[0]}'", "task=demo", "evaluation.chips=3,4", "dry_run=true")
    assert sweep.code == 0 and "3 chips × 5 times" in sweep.out and "4 chips × 5 times" in sweep.out


def test_a_run_of_ours_knows_its_task(run, theirs, tmp_path):
    (tmp_path / "run").mkdir()
    for name, said in {"run.json": {"status": "done", "name": "run"}, "run_config.json": {"task": {}}}.items():
        (tmp_path / "run" / name).write_text(json.dumps(said))
    answer = run("evaluate", f"checkpoint={tmp_path / 'run'}", "task=demo", f"output_root={tmp_path}")
    assert answer.code == 2 and "Setting `task` must be left out" in answer.err
