"""Inside a job of submitit SIGUSR2 stays submitit's: work in hand is saved, the job is put back, and ends in the same bits."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from analog_glue.runs.files import read_json

DIGITS = [
    "task=digits",
    "device=soft_bounds",
    "training=ttv2",
    "training.epochs=400",
    "task.train_images=100",
    "training.save_every=1e6",
]
STATE = "training_state.safetensors"


def started(root: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "analog_glue", "train", *words, *DIGITS, f"output_root={root}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def wait_for(log: Path, words: str, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 300
    while not list(log.glob("*/*_log.out")) or words not in "".join(file.read_text() for file in log.glob("*/*_log.out")):
        assert time.monotonic() < end and process.poll() is None, words
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason="left out: the extra `sweep` is not installed")
def test_a_job_that_is_preempted_saves_and_is_requeued(tmp_path):
    root = tmp_path / "runs"
    job = started(root, "-m", "hydra/launcher=submitit_local", "hydra.launcher.timeout_min=60")
    while not list(root.glob("sweeps/*/queue.json")):
        assert job.poll() is None, job.communicate()[0]
        time.sleep(0.1)
    (log,) = root.glob("sweeps/*/submitit")
    wait_for(log, "epoch 3/400", job)
    (controller,) = {int(file.name.partition("_")[0]) for file in log.glob("*/*_log.out")}
    (task,) = map(int, Path(f"/proc/{controller}/task/{controller}/children").read_text().split())
    os.kill(task, signal.SIGUSR2)
    said, _ = job.communicate(timeout=300)
    assert job.returncode == 0 and "1 done" in said, said
    told = "".join(file.read_text() for file in log.glob("*/*_log.*"))
    assert "Requeued job" in told and "Resuming in epoch" in told
    (sweep,) = (root / "sweeps").iterdir()
    assert read_json(sweep / "job_0.json")["status"] == "done"
    plain = started(tmp_path / "plain")
    said, _ = plain.communicate(timeout=300)
    assert plain.returncode == 0, said
    (one,), (two,) = root.glob(f"digits-*/{STATE}"), (tmp_path / "plain").glob(f"digits-*/{STATE}")
    states = load_file(one), load_file(two)
    assert states[0].keys() == states[1].keys()
    assert all(np.array_equal(array, states[1][name]) for name, array in states[0].items())
