"""A run's folder that holds other weights, ranges or a tokenizer than the run wrote is refused before anything is scored."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from analog_glue.commands.deploy import evaluate
from analog_glue.commands.train import prepare
from analog_glue.devices.pcm import PCM
from analog_glue.errors import UserError
from analog_glue.runs.files import read_json, write_json_atomic
from analog_glue.runs.own_files import hashes
from tests.commands.test_experiment import AWARE, DIGITAL, MODEL, TASK, TILE, Log, settings, trained


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of the networks of two seeds."""
    root = tmp_path_factory.mktemp("own")
    return [trained(root, AWARE, seed=seed, chips=0, ideal_devices=False).run_dir.parent for seed in (0, 1)]


@pytest.fixture
def run(runs, tmp_path):
    return Path(shutil.copytree(runs[0], tmp_path / runs[0].name))


def scored(run: Path):
    asked = replace(settings(run.parent, chips=1, times=[1.0], ideal_devices=False), checkpoint=str(run))
    return evaluate(asked, TASK, PCM(), TILE, log=Log())


def from_another_seed(run, other, name):
    shutil.copyfile(other / name, run / name)
    return f"{name} is another"


def lost(run, other, name):
    (run / name).unlink()
    return f"{name} is gone"


def changed(run, other, name):
    said = read_json(run / name) | {"layer_norm_eps": 1e-3, "num_attention_heads": 1}
    (run / name).write_text(json.dumps(said))
    return f"{name} is another"


def added(run, other, name):
    (run / name).write_text("{}")
    return f"{name} is new"


SPOILT = {
    "weights of another seed": (from_another_seed, "model.safetensors"),
    "ranges of another seed": (from_another_seed, "analog.safetensors"),
    "ranges lost": (lost, "analog.safetensors"),
    "configuration changed": (changed, "config.json"),
    "resolved settings changed": (changed, "run_config.json"),
    "a word list more": (added, "added_tokens.json"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("spoil", "name"), SPOILT.values(), ids=SPOILT)
def test_files_that_the_run_did_not_write_are_refused_by_name(run, runs, spoil, name):
    said = spoil(run, runs[1], name)
    there = sorted(run.rglob("*"))
    with pytest.raises(UserError, match=r"`checkpoint`.*files that the run wrote.*run.json") as error:
        scored(run)
    assert said in str(error.value) and "force=true" in str(error.value)
    onward = replace(DIGITAL, start_from=str(run))
    with pytest.raises(UserError, match=r"`training.start_from`.*" + said):
        prepare(settings(run.parent, seed=5), TASK, MODEL, PCM(), TILE, onward, log=Log())
    assert sorted(run.rglob("*")) == there


@pytest.mark.slow
def test_a_run_as_it_was_written_and_one_older_than_the_list_are_scored(run):
    recorded = read_json(run / "run.json")
    assert recorded["files"] == hashes(run)
    assert {"model.safetensors", "config.json", "analog.safetensors", "run_config.json"} <= recorded["files"].keys()
    scored(run)
    write_json_atomic(run / "run.json", {key: value for key, value in recorded.items() if key != "files"})
    scored(run)
