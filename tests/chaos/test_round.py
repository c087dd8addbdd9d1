"""A short round of kills and full disks, and that the harness would notice what it looks for; the long one is `make chaos`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.kept import contents, finished, names

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_what_is_killed_or_runs_out_of_disk_ends_as_if_nothing_had_been(tmp_path):
    command = [sys.executable, "-m", "tests.chaos", "--folder", str(tmp_path), "--short", "--kills", "4", "--full", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    trials = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert sum(sum(trial["kills"].values()) for trial in trials) >= 4 and sum(trial["full"] for trial in trials) >= 1
    assert ended.stdout.endswith((tmp_path / "table.md").read_text() + "\n")


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"status": "done", "started": "now", "seed": 0}))
    (tmp_path / "results.csv").write_text("value,wall_seconds\n1.0,0.5\n2.0,0.25\n")
    (tmp_path / "sweeps" / "2026").mkdir(parents=True)
    (tmp_path / "model.safetensors").write_bytes((0).to_bytes(8, "little"))
    return tmp_path


def test_when_and_how_long_may_differ_and_nothing_else(run):
    (run / "model.safetensors").unlink()
    before = contents(run)
    (run / "run.json").write_text(json.dumps({"status": "done", "started": "later", "seed": 0}))
    (run / "results.csv").write_text("value,wall_seconds\n1.0,7.5\n2.0,0.25\n")
    assert contents(run) == before
    (run / "results.csv").write_text("value,wall_seconds\n1.0,7.5\n2.5,0.25\n")
    assert contents(run) != before
    (run / "run.json").write_text(json.dumps({"status": "done", "started": "later", "seed": 1}))
    assert contents(run)["run.json"] != before["run.json"]


def test_a_score_that_is_measured_again_was_lost_and_so_are_weights_that_are_written_again(run):
    before = finished(run)
    assert len(before) == 3
    (run / "results.csv").write_text("value,wall_seconds\n1.0,7.5\n2.0,0.25\n")
    os.utime(run / "model.safetensors", ns=(1, 1))
    assert {said for _, said in before - finished(run)} == {"1.0,0.5", dict(before)[str(run / "model.safetensors")]}


def test_files_of_killed_processes_are_seen_in_records_of_calls_too(run):
    before = names(run)
    (run / "sweeps" / "2027").mkdir()
    (run / "sweeps" / "2027" / ".job_0.json.partial").touch()
    assert names(run) - before == {"sweeps/.job_0.json.partial"}
