"""A run.json that is not whole, as a full disk or an editor leaves it, is told and stops no other run from being shown."""

import json
import shutil
from pathlib import Path

import pytest

from analog_glue.cli.main import main
from analog_glue.runs.folder import is_done, status_of

DAMAGED = {
    "empty": b"",
    "cut": b'{"status": "do',
    "no_text": b"\xff\xfe",
    "a_list": b"[1]",
    "nothing": b"{}",
    "no_identity": b'{"identity": 5}',
    "no_seed": b'{"command": "x"}',
}


@pytest.fixture(params=DAMAGED)
def damaged(request, tmp_path):
    folder = tmp_path / "damaged"
    folder.mkdir()
    (folder / "run.json").write_bytes(DAMAGED[request.param])
    (folder / "run_config.json").write_text("{}")
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "run.json").write_text(json.dumps({"command": "train", "status": "done", "identity": {"seed": 0}}))
    return folder


def test_the_other_runs_are_listed(damaged, capsys):
    assert main(["list", "runs", str(damaged.parent)]) == 0
    assert f"done        {damaged.parent / 'whole'}" in capsys.readouterr().out.splitlines()


def test_one_that_cannot_be_read_is_named(damaged, capsys):
    main(["list", "runs", str(damaged.parent)])
    readable = isinstance(_read(damaged), dict) and _read(damaged)
    assert (f"{damaged}: its run.json cannot be read" in capsys.readouterr().out) is not bool(readable)


def _read(folder):
    try:
        return json.loads((folder / "run.json").read_bytes())
    except ValueError:
        return None


def test_it_has_nothing_to_differ_in(damaged, capsys):
    assert main(["list", "runs", "--difference", str(damaged.parent / "whole"), str(damaged)]) == 2
    assert str(damaged) in capsys.readouterr().err


def test_it_is_no_finished_run(damaged, capsys):
    assert not is_done(damaged) and status_of(damaged) == "unknown"
    assert main(["evaluate", f"checkpoint={damaged}"]) == 2
    assert "must be the folder of a finished training run" in capsys.readouterr().err


RECORDS = Path(__file__).resolve().parents[2] / "outputs" / "records"
SPOILT = {
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-40]),
    "no text": lambda file: file.write_bytes(bytes(range(256))),
    "words": lambda file: file.write_text(file.read_text().splitlines()[0] + "\n" + ",".join(["x"] * 28) + "\n"),
    "other columns": lambda file: file.write_text("a,b\n1,2\n"),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.fixture
def two_runs(tmp_path):
    """(the folder, a table of scores in one of two runs of it, the name of the other run)."""
    shutil.copytree(RECORDS / "demo", tmp_path / "runs", ignore=shutil.ignore_patterns("tables"))
    one, other = sorted((tmp_path / "runs").glob("demo-*"))
    (table,) = one.glob("pcm-*/results.csv")
    return tmp_path / "runs", table, other.name


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_spoiled_table_of_scores_is_named_and_the_other_runs_are_listed(two_runs, capsys, spoil):
    root, table, other = two_runs
    spoil(table)
    assert main(["list", "runs", str(root)]) == 1
    said = capsys.readouterr()
    assert f"{root / other}" in said.out and "5 chips up to 1 month" in said.out
    assert str(table) in said.err and said.err.startswith("left out: ") and len(said.err.splitlines()) == 1


def test_tables_are_made_of_the_runs_that_can_be_read(two_runs, capsys):
    root, table, _ = two_runs
    SPOILT["cut"](table)
    assert main(["tables", str(root)]) == 1
    said = capsys.readouterr()
    assert "C: hardware-aware training, compensated" in said.out and "B: digital training" not in said.out
    assert str(table) in said.err and (root / "tables" / "drift.csv").is_file()


@pytest.mark.parametrize("spoil", [SPOILT["cut"], SPOILT["no text"], SPOILT["other columns"], SPOILT["a folder"]])
@pytest.mark.parametrize("name", ["learning_curve.csv", "extraction.json"])
def test_spoiled_files_of_an_in_situ_run_are_named(tmp_path, capsys, spoil, name):
    whole = RECORDS / "gokmen2021" / "mrpc-minilm-soft_bounds-ttv2-seed0-e3380460"
    for number in (1, 2):
        shutil.copytree(whole, tmp_path / f"run{number}")
    spoil(next((tmp_path / "run1").rglob(name)))
    code = main(["list", "runs", str(tmp_path)])
    said = capsys.readouterr()
    assert "run2" in said.out and "Traceback" not in said.err
    assert (code == 1 and str(tmp_path / "run1") in said.err) or (code == 0 and name == "extraction.json")
