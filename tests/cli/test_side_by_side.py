"""Sweeps whose jobs run at the same time: the same bits, readable output, and an end that leaves nothing behind."""

import csv
import functools
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from analog_glue.cli.main import main
from analog_glue.cli.side_by_side import run_side_by_side

DIGITS = ["task=digits", "device=soft_bounds", "training=ttv2", "training.output_scale=2", "training.epochs=1",
          "task.train_images=100", "seed=0,1"]  # fmt: skip


def runs(root: Path) -> dict[str, tuple[dict, list]]:
    found = {}
    for folder in sorted(path for path in root.iterdir() if path.name != "sweeps"):
        rows = csv.DictReader((folder / "learning_curve.csv").open())
        curve = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
        found[folder.name] = load_file(folder / "training_state.safetensors"), curve
    return found


@pytest.mark.slow
def test_runs_at_the_same_time_learn_the_same_bits_as_one_after_another(tmp_path, capfd):
    # A kernel may round otherwise in the process that compiles it, so this one compiles and the others compare.
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(["train", *DIGITS[:-1], "seed=0", f"output_root={tmp_path / 'compiles'}"]) == 0
    command = [sys.executable, "-m", "analog_glue", "train", "-m", *DIGITS, f"output_root={one}"]
    subprocess.run(command, check=True, capture_output=True)
    assert main(["train", "-m", *DIGITS, f"output_root={two}", "runtime.jobs=2"]) == 0
    out = capfd.readouterr().out
    assert "2 done" in out
    for number in (1, 2):
        assert any(line.startswith(f"[{number}/2] epoch 1/1: train loss") for line in out.splitlines())
    first, second = runs(one), runs(two)
    assert first.keys() == second.keys() and len(first) == 2
    for name, (state, curve) in first.items():
        assert second[name][1] == curve
        assert all(np.array_equal(array, second[name][0][key]) for key, array in state.items())
    (folder,) = (two / "sweeps").iterdir()
    records = [json.loads((folder / f"job_{number}.json").read_text()) for number in range(2)]
    assert [record["status"] for record in records] == ["done", "done"]
    assert records[1]["overrides"][-2:] == [f"output_root={two}", "runtime.jobs=2"]


@pytest.mark.slow
def test_a_job_that_fails_beside_another_is_written_down(tmp_path, capfd):
    words = [*DIGITS, f"output_root={tmp_path}"]
    assert main(["train", *words[:-2], "seed=1", words[-1], "dry_run=true"]) == 0
    name = re.search(rf"^Output +{tmp_path}/(\S+)$", capfd.readouterr().out, re.MULTILINE)[1]
    (tmp_path / name).write_text("in the way")
    assert main(["train", "-m", *words, "runtime.jobs=2"]) == 1
    said = capfd.readouterr()
    assert "1 done, 1 failed" in said.out and "again: analog-glue train" in said.out
    (folder,) = (tmp_path / "sweeps").iterdir()
    assert [json.loads((folder / f"job_{i}.json").read_text())["status"] for i in range(2)] == ["done", "failed"]


def leave(number):
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    print(f"number {number}\nand no newline", end="")


@pytest.mark.slow
def test_every_line_is_marked_and_a_killed_process_has_the_signal_as_its_code(capfd):
    assert run_side_by_side(leave, range(3), 2) == {0: 0, 1: -signal.SIGKILL, 2: 0}
    lines = capfd.readouterr().out.splitlines()
    assert sorted(lines) == ["[1/3] and no newline", "[1/3] number 0", "[3/3] and no newline", "[3/3] number 2"]


def note_the_interrupt(folder, number):
    try:
        (folder / f"started_{number}").touch()
        time.sleep(60)
    except KeyboardInterrupt:
        (folder / f"saved_{number}").touch()
        raise


@pytest.mark.slow
def test_ctrl_c_interrupts_what_runs_and_starts_nothing_more(tmp_path):
    def both_started(*_):
        if len(list(tmp_path.glob("started_*"))) == 2:
            signal.setitimer(signal.ITIMER_REAL, 0)  # a second Ctrl-C would end the orderly end of the first
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, both_started)
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_side_by_side(functools.partial(note_the_interrupt, tmp_path), range(4), 2)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["saved_0", "saved_1", "started_0", "started_1"]
    assert multiprocessing.active_children() == []


PARENT = """
import functools, sys
from pathlib import Path
from analog_glue.cli.side_by_side import run_side_by_side
from tests.cli.test_side_by_side import note_the_interrupt
if __name__ == "__main__":
    run_side_by_side(functools.partial(note_the_interrupt, Path(sys.argv[1])), range(2), 2)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_what_runs_saves_and_ends_with_its_parent_however_that_ends(tmp_path, number):
    def wait_for(pattern):
        end = time.monotonic() + 120
        while len(list(tmp_path.glob(pattern))) < 2:
            assert time.monotonic() < end, pattern
            time.sleep(0.05)

    (tmp_path / "parent.py").write_text(PARENT)
    here = Path(__file__).resolve().parents[2]
    own = {**os.environ, "PYTHONPATH": str(here)}
    words = [sys.executable, str(tmp_path / "parent.py"), str(tmp_path)]
    heard = functools.partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)  # below nohup it is not
    parent = subprocess.Popen(words, env=own, stderr=subprocess.DEVNULL, preexec_fn=heard)
    wait_for("started_*")
    parent.send_signal(number)
    parent.wait()
    wait_for("saved_*")


@pytest.mark.slow
def test_less_than_one_job_at_a_time_is_refused(tmp_path, capfd):
    assert main(["train", "-m", *DIGITS, f"output_root={tmp_path}", "runtime.jobs=0"]) == 2
    assert "`runtime.jobs`" in capfd.readouterr().err
