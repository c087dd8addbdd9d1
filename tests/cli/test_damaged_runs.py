"""A run.json that is not whole, as a full disk or an editor leaves it, is told and stops no other run from being shown."""

import json

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
