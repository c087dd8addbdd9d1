"""Commands that only read: what `list` shows, and what completes a word."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from analog_glue.configuration.compose import Composer
from analog_glue.runs.folder import working_in


def test_list_describes_every_option_and_marks_the_defaults(run):
    answer = run("list")
    assert answer.code == 0
    assert "noise=…" in answer.out
    assert re.search(r"^ \* pcm  +\w", answer.out, re.MULTILINE)
    assert re.search(r"^   reram  +\w", answer.out, re.MULTILINE)
    for line in answer.out.splitlines():
        if line.startswith(("   ", " * ")):
            assert len(line.split(maxsplit=2)) == 3 or len(line.split()) > 4, f"no description: {line}"
    with Composer("train") as composer:
        for option in composer.options("task"):
            assert f" {option} " in answer.out


def test_list_runs_shows_each_run_with_its_hardware(run, tmp_path):
    trained = tmp_path / "mrpc-tiny-digital-seed0-abc"
    (trained / "pcm-spoon2021-def").mkdir(parents=True)
    (trained / "run.json").write_text(json.dumps({"command": "train", "status": "done"}))
    (trained / "pcm-spoon2021-def" / "run.json").write_text(json.dumps({"command": "sweep", "status": "running"}))
    answer = run("list", "runs", str(tmp_path))
    assert answer.code == 0
    assert f"done        {trained}" in answer.out
    assert "interrupted pcm-spoon2021-def: no score yet" in answer.out
    with working_in(trained / "pcm-spoon2021-def"):
        assert "running     pcm-spoon2021-def: no score yet" in run("list", "runs", str(tmp_path)).out
    assert f"next: analog-glue tables {tmp_path}" in answer.out


def test_list_sweeps_says_how_jobs_stand_and_what_runs_the_open_ends_again(run, tmp_path):
    jobs = [["task=mrpc", "noise=pcm", f"seed={seed}"] for seed in range(4)]
    folder = tmp_path / "sweeps" / "2026-01-01"
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text(json.dumps({"command": "train", "jobs": 4, "overrides": jobs}))
    outcomes = [("done", ""), ("failed", "no space left"), ("running", "")]
    for number, (status, error) in enumerate(outcomes):
        said = {"overrides": jobs[number], "status": status, "run": "", "error": error}
        (folder / f"job_{number}.json").write_text(json.dumps(said))
    spoiled = tmp_path / "sweeps" / "spoiled"
    spoiled.mkdir()
    (spoiled / "sweep.json").write_text("{")
    answer = run("list", "sweeps", str(tmp_path))
    assert answer.code == 0
    assert f"{folder}: 1 done, 1 failed, 1 running, 1 not run\n  train -m task=mrpc noise=pcm …\n" in answer.out
    assert "  [2] failed: no space left\n      again: analog-glue train task=mrpc noise=pcm seed=1\n" in answer.out
    assert "[4] not run" in answer.out and "[3]" not in answer.out
    assert f"{spoiled}: its sweep.json cannot be read" in answer.out


def test_list_sweeps_of_a_folder_without_any_says_so(run, tmp_path):
    answer = run("list", "sweeps", str(tmp_path))
    assert answer.code == 2 and f"Folder `{tmp_path}` has no sweeps" in answer.err
    assert "options, runs or sweeps" in run("list", "sweep").err


def test_list_runs_tells_ages_as_the_tables_do(run):
    answer = run("list", "runs", str(Path(__file__).parents[2] / "outputs" / "records" / "demo"))
    assert "5 chips up to 1 month" in answer.out


def test_list_runs_shows_no_records_unless_they_are_asked_for(run, tmp_path):
    for folder in (tmp_path / "own", tmp_path / "records" / "demo" / "theirs"):
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"command": "train", "status": "done"}))
    own, theirs = run("list", "runs", str(tmp_path)), run("list", "runs", str(tmp_path / "records" / "demo"))
    assert "own" in own.out and "theirs" not in own.out
    assert "theirs" in theirs.out


def test_list_runs_shows_the_last_score_of_an_in_situ_run_and_its_extractions(run, tmp_path):
    trained, begun = tmp_path / "digits-a", tmp_path / "digits-b"
    for folder in (trained, begun):
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({"command": "train", "status": "running"}))
        config = {"task": {}, "device": {"dw_min": 0.1}, "training": {"epochs": 5, "periphery": {}}}
        (folder / "run_config.json").write_text(json.dumps(config))
    (trained / "learning_curve.csv").write_text(
        "epoch,train_loss,accuracy,whole_test_set,seconds\n1,2.0,50.0,False,1.0\n2,1.0,75.5,False,2.0\n"
    )
    (trained / "extraction-uniform-10-seed0").mkdir()
    scores = {"analog arrays": {"accuracy": 75.0}, "extracted, digital": {"accuracy": 76.25}}
    (trained / "extraction-uniform-10-seed0" / "extraction.json").write_text(json.dumps({"epoch": 2, "scores": scores}))
    answer = run("list", "runs", str(tmp_path))
    assert f"interrupted {trained}\n  epoch 2 of 5: accuracy 75.5\n" in answer.out
    assert "  extraction-uniform-10-seed0: extracted, digital after epoch 2: accuracy 76.25\n" in answer.out
    assert f"interrupted {begun}\n  epoch 0 of 5\n" in answer.out


def test_list_runs_says_in_which_settings_runs_of_one_name_differ_but_for_the_seed(run, tmp_path):
    settings = {
        "digits-ttv2-seed0-a": {"transfer_every": 2, "transfer_rate": 0.1},
        "digits-ttv2-seed0-b": {"transfer_every": 1, "transfer_rate": 0.1},
        "digits-ttv2-seed1-c": {"transfer_every": 2, "transfer_rate": 0.1},
        "digits-ttv2-seed1-d": {"transfer_every": 2, "transfer_rate": 0.1, "epochs": 9},
        "digits-ttv2-seed0-e": {"transfer_every": 1, "transfer_rate": 0.2, "decay_every": 3},
        "digits-tiki_taka-seed0-f": {"transfer_every": 7, "transfer_rate": 0.1},
    }
    for name, own in settings.items():
        (tmp_path / name).mkdir()
        choices = dict(zip(("task", "training"), name.split("-"), strict=False))
        (tmp_path / name / "run.json").write_text(json.dumps({"command": "train", "status": "done", "choices": choices}))
        config = {"task": {}, "device": {"dw_min": 0.1}, "training": {"periphery": {}, **own}, "seed": int(name[-3])}
        (tmp_path / name / "run_config.json").write_text(json.dumps(config))
    lines = run("list", "runs", str(tmp_path)).out.splitlines()
    found = {line.rpartition("-")[2]: lines[number + 2] for number, line in enumerate(lines[:-2]) if "seed" in line}
    assert found["a"] == found["c"] == found["d"] == "  differs: decay_every null, transfer_every 2, transfer_rate 0.1"
    assert found["b"] == "  differs: decay_every null, transfer_every 1, transfer_rate 0.1"
    assert found["e"] == "  differs: decay_every 3, transfer_every 1, transfer_rate 0.2"
    assert "differs" not in found["f"]


def test_an_extraction_is_told_from_the_run_that_is_to_be_extracted_from(run, tmp_path):
    folder = tmp_path / "digits-a" / "extraction-uniform-10-seed0"
    folder.mkdir(parents=True)
    (folder / "extraction.json").write_text("{}")
    answer = run("extract", f"checkpoint={folder}")
    assert (answer.code, answer.out, len(answer.err.splitlines())) == (2, "", 1)
    assert f"`{folder}` is an extraction" in answer.err
    assert f"`analog-glue extract checkpoint={folder.parent}`" in answer.err


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("analog-glue ev", {"evaluate"}),
        (
            "analog-glue ",
            {
                "train",
                "evaluate",
                "tune",
                "diagnose",
                "specify",
                "place",
                "factsheet",
                "publish",
                "extract",
                "tables",
                "report",
                "list",
                "verify",
            },
        ),
        ("analog-glue train noise=p", {"noise=pcm", "noise=pcm_reduced"}),
        ("analog-glue train evaluation.chip", {"evaluation.chips=", "evaluation.chip_seed=", "evaluation.chips_per_pass="}),
        ("analog-glue evaluate tile=f", {"tile=factsheet"}),
        ("analog-glue tables ou", set()),
    ],
)
def test_bash_completion(run, monkeypatch, line, expected):
    monkeypatch.setenv("COMP_LINE", line)
    answer = run("-sc", "query=bash")
    assert answer.code == 0
    assert set(answer.out.split()) == expected


@pytest.mark.slow
def test_the_module_form_is_the_same_command():
    answer = subprocess.run([sys.executable, "-m", "analog_glue", "--version"], check=False, capture_output=True, text=True)
    assert answer.stdout.startswith("analog-glue ")


@pytest.mark.slow
def test_the_output_of_a_command_may_be_cut_off():
    command = f"{sys.executable} -m analog_glue list | head -1"
    answer = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True, cwd=Path.home())
    assert answer.stdout == "task=…\n"
    assert answer.stderr == ""
