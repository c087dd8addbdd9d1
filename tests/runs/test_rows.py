"""Rows are written whole or not at all, read back as they were, and never twice."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch

from analog_glue.runs.files import write_json_atomic, write_text_atomic
from analog_glue.runs.provenance import provenance
from analog_glue.runs.rows import Measurement, ResultsFile, find_rows, read_rows

DIGITAL = Measurement(
    run="mrpc-minilm-digital-0",
    sweep="",
    task="mrpc",
    model="minilm",
    training="digital",
    seed=0,
    noise="pcm",
    tile="spoon2021",
    stage="digital",
    chip=None,
    t_seconds=None,
    compensated=None,
    extrapolated=False,
    split="validation",
    metric="f1",
    headline=True,
    value=86.9,
    examples=408,
    train_ids="1f2e",
    hardware_id="a0b1",
    wall_seconds=2.5,
)


def on_chip(chip: int, t: float = 3600.0, compensated: bool = True, value: float = 85.0) -> Measurement:
    return replace(DIGITAL, stage="chip", chip=chip, t_seconds=t, compensated=compensated, value=value)


def test_rows_read_back_as_they_were_written(tmp_path):
    rows = [
        DIGITAL,
        on_chip(0, value=0.1 + 0.2),  # not representable in few digits
        replace(on_chip(1), value=float("nan"), extrapolated=True),
        replace(DIGITAL, stage="majority", run='a "quoted", run\nof two lines', value=-1e-17),
        replace(DIGITAL, metric="accuracy", value=numpy.float32(80.882355), seed=numpy.int64(0)),
    ]
    file = ResultsFile(tmp_path / "run")
    assert file.rows() == []
    assert file.append(rows) == 5
    assert list(map(repr, file.rows())) == list(map(repr, rows))  # repr: nan is not equal to itself
    assert ResultsFile(tmp_path / "run" / "results.csv").rows()[0] == DIGITAL


def test_a_row_measured_before_is_kept_and_not_repeated(tmp_path):
    file = ResultsFile(tmp_path)
    file.append([DIGITAL, on_chip(0, value=85.0)])
    again = [replace(on_chip(0, value=99.0), wall_seconds=9.0, run="renamed"), on_chip(1), on_chip(1)]
    assert file.append(again) == 1
    assert [(row.chip, row.value) for row in file.rows()] == [(None, 86.9), (0, 85.0), (1, 85.0)]
    before = os.stat(file.path).st_mtime_ns
    assert file.append(again) == 0
    assert os.stat(file.path).st_mtime_ns == before  # nothing new: not even touched


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"stage": "analog"}, "`stage` must be one of digital"),
        ({"stage": "chip"}, "`chip`, `t_seconds`, `compensated` must be given"),
        ({"value": math.inf}, "`value` must be finite or nan"),
    ],
)
def test_an_impossible_measurement_is_refused(wrong, named):
    with pytest.raises(ValueError, match=named):
        replace(DIGITAL, **wrong)


def test_a_file_of_other_columns_or_a_mangled_row_is_refused_by_name_and_line(tmp_path):
    file = ResultsFile(tmp_path)
    file.append([DIGITAL, on_chip(0)])
    text = file.path.read_text()
    file.path.write_text(text.replace("stage,", "phase,", 1))
    with pytest.raises(ValueError, match=r"results\.csv` must have the columns run, sweep"):
        file.rows()
    file.path.write_text(text.replace(",408,", ",many,", 1))
    with pytest.raises(ValueError, match=r"results\.csv`, line 2: Argument `examples` must be of type int"):
        file.rows()
    file.path.write_text(text[:-20])
    with pytest.raises(ValueError, match=r"results\.csv`, line 3: It must have 28 cells"):
        file.rows()


APPEND_FOREVER = """
import sys
from dataclasses import replace
from analog_glue.runs.rows import ResultsFile
file = ResultsFile(sys.argv[1])
template = file.rows()[-1]
chip = template.chip
while True:
    chip += 1
    file.append([replace(template, chip=chip, t_seconds=t, value=chip + t) for t in (1.0, 2.0, 3.0)])
    print(chip, flush=True)
"""


@pytest.mark.slow
def test_a_process_killed_while_appending_leaves_whole_appends(tmp_path):
    file = ResultsFile(tmp_path)
    file.append([on_chip(0, t, value=t) for t in (1.0, 2.0, 3.0)])
    delay = random.Random(0)
    for _ in range(8):
        reached = len(file.rows())
        command = [sys.executable, "-c", APPEND_FOREVER, str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
        assert process.stdout is not None and process.stdout.readline()  # started and appended once
        time.sleep(delay.uniform(0.0, 0.03))
        process.send_signal(signal.SIGKILL)
        acknowledged = [int(line) for line in process.stdout.read().splitlines()]
        process.wait()
        rows = file.rows()
        assert len(rows) > reached and len(rows) % 3 == 0
        assert [row.chip for row in rows] == [i // 3 for i in range(len(rows))]
        assert all(row.value == row.chip + row.t_seconds for row in rows)
        assert not acknowledged or rows[-1].chip >= acknowledged[-1]  # what was reported as written is there
    # At most the one file that the last process did not come to rename; the next append clears it away.
    assert {path.name for path in tmp_path.iterdir()} <= {"results.csv", ".results.csv.partial"}
    file.append([on_chip(10**6)])
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


def environment() -> dict[str, str]:
    """The environment of this process, with the package under test importable."""
    source = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}


@pytest.mark.slow
def test_writers_at_once_lose_no_row(tmp_path):
    def write(first: int) -> None:
        for chip in range(first, first + 10):
            ResultsFile(tmp_path).append([on_chip(chip)])

    threads = [threading.Thread(target=write, args=(10 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(row.chip for row in ResultsFile(tmp_path).rows()) == list(range(40))


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    write_text_atomic(path, "seed: 0\n")

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_text_atomic(path, "seed: 1\n")
    assert path.read_text() == "seed: 0\n"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_strict_and_readable(tmp_path):
    path = tmp_path / "deep" / "run.json"
    write_json_atomic(path, {"µ": numpy.float32(0.5), "f1": float("nan"), "at": Path("runs/a"), "n": (1, 2)})
    text = path.read_text(encoding="utf-8")
    assert "µ" in text and "NaN" not in text
    assert json.loads(text) == {"µ": 0.5, "f1": None, "at": "runs/a", "n": [1, 2]}


def test_rows_of_all_runs_are_found_as_a_data_frame(tmp_path):
    ResultsFile(tmp_path / "b").append([DIGITAL])
    ResultsFile(tmp_path / "a" / "deep").append([on_chip(0), on_chip(1)])
    assert [row.chip for row in find_rows(tmp_path)] == [0, 1, None]
    frame = read_rows(tmp_path)
    assert frame["chip"].dtype == "Int64" and frame["compensated"].dtype == "boolean"
    assert frame["chip"].isna().tolist() == [False, False, True]
    assert frame.groupby("stage")["value"].mean().to_dict() == {"chip": 85.0, "digital": 86.9}
    assert read_rows(tmp_path / "none").empty


def test_records_that_came_with_the_source_stand_apart_from_the_users_own_runs(tmp_path):
    ResultsFile(tmp_path / "own").append([DIGITAL])
    ResultsFile(tmp_path / "records" / "demo" / "run").append([on_chip(0)])
    assert [row.chip for row in find_rows(tmp_path)] == [None]
    for root in ("records", "records/demo"):
        assert [row.chip for row in find_rows(tmp_path / root)] == [0]


def test_provenance_says_what_ran_and_nothing_of_who(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "ada"))
    model, data = tmp_path / "ada" / "models" / "minilm", tmp_path / "glue"
    facts = provenance(seed=3, model={"path": model}, data=[str(data)])
    assert facts["seed"] == 3
    assert facts["model"] == {"path": "~/models/minilm"}
    assert facts["data"] == [str(data)]
    assert facts["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert facts["versions"]["numpy"] == numpy.__version__
    assert facts["hardware"]["cores"] >= 1 and facts["hardware"]["memory_gib"] > 0
    assert facts["git"] is None or set(facts["git"]) == {"commit", "dirty", "diff"}
    write_json_atomic(tmp_path / "run.json", facts)


@pytest.mark.slow
def test_rows_and_provenance_need_no_torch(tmp_path):
    code = (
        "import sys; from analog_glue.runs import rows, provenance; from analog_glue.reports import build, figures;"
        "facts = provenance.provenance();"
        f"assert facts['versions']['torch'] == {str(torch.__version__)!r};"
        f"assert facts['versions']['cuda'] == {torch.version.cuda!r};"
        "assert 'threads' not in facts['hardware'];"
        "assert not {'torch', 'pandas', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=environment(), cwd=tmp_path)
