"""`${oc.env:NAME}`: its value is used and determines the run; stored is how it was written; a run brings none of its own."""

import json
import shutil
from pathlib import Path

import pytest

from analog_glue.runs.as_written import FromEnvironment
from analog_glue.runs.files import read_json
from analog_glue.runs.fingerprint import canonical

SECRET = "a_secret_that_no_file_holds"
SMALL = [
    "task=demo", "task.train_size=32", "task.validation_size=16", "model=tiny", "model.hidden=16", "model.heads=2",
    "model.intermediate=16", "training=digital", "training.max_steps=1", "evaluation.chips=0", "evaluation.ideal_devices=false",
]  # fmt: skip


def told(root: Path, text: str) -> list[str]:
    """Names of the files below `root` that hold a text."""
    return [str(file.relative_to(root)) for file in root.rglob("*") if file.is_file() and text.encode() in file.read_bytes()]


def test_a_copy_of_such_a_text_is_one_and_its_hash_is_that_of_its_value():
    from copy import deepcopy

    text = deepcopy({"root": FromEnvironment("here/glue", "${oc.env:DATA}/glue")})["root"]
    assert text == "here/glue" and text.written == "${oc.env:DATA}/glue"
    assert canonical({"root": text}) == canonical({"root": "here/glue"})


@pytest.mark.slow
def test_the_value_is_used_and_stands_in_no_file(run, tmp_path, monkeypatch):
    own = tmp_path / "own"
    (own / "experiment").mkdir(parents=True)
    (own / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nhardware:\n  layers: ['${oc.env:LAYERS}']\ndata:\n  root: ${oc.env:PATTERN}/${seed}\n"
    )
    monkeypatch.setenv("PATTERN", SECRET)
    monkeypatch.setenv("LAYERS", "*")
    monkeypatch.chdir(tmp_path)
    words = ["--config-dir", str(own), "+experiment=mine", *SMALL, "+task.name=${oc.env:PATTERN}"]
    answer = run("train", "-m", *words, "seed=0,1", f"output_root={tmp_path / 'runs'}", "runtime.kernel=reference")
    assert answer.code == 0, answer.err
    assert told(tmp_path / "runs", SECRET) == []
    (first, _) = sorted((tmp_path / "runs").glob("demo-*"))
    config = read_json(first / "run_config.json")
    assert config["data"]["root"] == "${oc.env:PATTERN}/${seed}" and config["hardware"]["layers"] == ["${oc.env:LAYERS}"]
    assert config["task"]["name"] == "${oc.env:PATTERN}" == read_json(first / "run.json")["identity"]["task.name"]
    again = run("train", "-m", *words, "seed=0,1", f"output_root={tmp_path / 'runs'}", "runtime.kernel=reference")
    assert again.out.count("Training was done already") == 2
    monkeypatch.setenv("PATTERN", "another")
    other = run("train", *words, "seed=0", f"output_root={tmp_path / 'runs'}", "runtime.kernel=reference")
    assert other.code == 0 and "done already" not in other.out  # the value is what determines the run
    assert len(list((tmp_path / "runs").glob("demo-*"))) == 3


@pytest.mark.slow
def test_where_data_and_models_lie_is_stored_as_it_was_written(run, tmp_path, monkeypatch):
    import pandas

    folder = tmp_path / SECRET / "glue" / "sst2"
    folder.mkdir(parents=True)
    for split in ("train", "validation"):
        table = pandas.DataFrame({"sentence": ["good film", "bad film"] * 8, "label": [1, 0] * 8, "idx": range(16)})
        table.to_parquet(folder / f"{split}.parquet")
    monkeypatch.setenv("DATA", SECRET)
    monkeypatch.chdir(tmp_path)
    words = ["task=sst2", *SMALL[3:], "data.root=${oc.env:DATA}", "output_root=${oc.env:DATA}/runs"]
    assert run("train", "-m", *words, "seed=0,1").code == 0
    assert told(tmp_path / SECRET / "runs", SECRET) == []
    (made, _) = sorted((tmp_path / SECRET / "runs").glob("sst2-*"))
    assert read_json(made / "run.json")["data"]["source"] == "${oc.env:DATA}/glue/sst2"
    shutil.copytree(made, tmp_path / "run")
    refused = run("evaluate", f"checkpoint={tmp_path / 'run'}", "evaluation.chips=0", f"output_root={tmp_path / 'o'}")
    assert refused.code == 2 and "data.root='${oc.env:DATA}'" in refused.err and SECRET not in refused.err
    words = [
        "evaluation.chips=0",
        "evaluation.ideal_devices=false",
        "data.root=${oc.env:DATA}",
        f"output_root={tmp_path / 'o'}",
    ]
    assert run("evaluate", f"checkpoint={tmp_path / 'run'}", *words).code == 0
    assert told(tmp_path / "o", SECRET) == []


def test_a_received_run_brings_no_variable(run, tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", SECRET)
    said = {"task": {"_target_": "analog_glue.tasks.demo.DemoTask", "name": "${oc.env:TOKEN}"}, "data": {"root": None}}
    (tmp_path / "run.json").write_text(json.dumps({"status": "done", "command": "train", "name": "run"}))
    (tmp_path / "run_config.json").write_text(json.dumps(said))
    for command in ("evaluate", "tune", "diagnose", "place"):
        answer = run(command, f"checkpoint={tmp_path}", f"output_root={tmp_path / 'o'}")
        assert answer.code == 2 and "Setting `task.name` of the run" in answer.err and SECRET not in answer.err
    assert not (tmp_path / "o").exists()


def test_what_a_failed_job_says_is_recorded_without_the_value(run, tmp_path, monkeypatch):
    monkeypatch.setenv("WHERE", SECRET)
    monkeypatch.setattr(
        "analog_glue.cli.sweeps.run_job", lambda composed, *_: open(f"{composed.config['data']['root']}/nothing")
    )
    words = [*SMALL, "data.root=${oc.env:WHERE}", "seed=0,1", f"output_root={tmp_path}"]
    assert run("train", "-m", *words).code == 1
    assert told(tmp_path, SECRET) == [] and len(told(tmp_path, "${oc.env:WHERE}/nothing")) == 2
