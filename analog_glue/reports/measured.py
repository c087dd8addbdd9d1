"""What the runs below a folder left for tables: their rows, and what each training was."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from analog_glue.runs.files import read_json
from analog_glue.runs.folder import RUN_FILE, files_of_runs
from analog_glue.runs.identity import Payload
from analog_glue.runs.rows import RESULTS_FILE, Measurement, ResultsFile


@dataclass(frozen=True)
class Measured:
    """Rows, and by the name of the run the resolved settings of the trainings and tunings whose folders are at hand."""

    rows: list[Measurement]
    settings: dict[str, Payload]


def find_measured(root: Path | str) -> Measured:
    """Every `results.csv` at or below `root`, and what run.json of the trainings says, in the order of the paths.

    Rows older than the column `data` take the fingerprint that run.json beside them has.
    """
    rows = []
    for path in files_of_runs(root, RESULTS_FILE):
        data = read_json(path.with_name(RUN_FILE)).get("data") or {}
        fingerprint = str(data.get("without_seed") or data.get("fingerprint") or "")
        rows += [row if row.data else replace(row, data=fingerprint) for row in ResultsFile(path).rows()]
    settings: dict[str, Payload] = {}
    for path in files_of_runs(root, RUN_FILE):
        run = read_json(path)
        if run.get("command") in ("train", "tune") and isinstance(run.get("identity"), dict):
            settings[str(run.get("name"))] = run["identity"]
    return Measured(rows, settings)
