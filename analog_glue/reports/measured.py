"""What the runs below a folder left for tables: their rows, and what each training was."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from analog_glue.runs.files import read_json
from analog_glue.runs.folder import RUN_FILE, files_of_runs
from analog_glue.runs.identity import Payload
from analog_glue.runs.rows import RESULTS_FILE, Measurement, ResultsFile
from analog_glue.runs.spoiled import leaving_out


@dataclass(frozen=True)
class Measured:
    """Rows, and by the name of the run the resolved settings of the trainings and tunings whose folders are at hand."""

    rows: list[Measurement]
    settings: dict[str, Payload]
    left_out: list[str] = field(default_factory=list)  # what could not be read, and why


def find_measured(root: Path | str) -> Measured:
    """Every `results.csv` at or below `root`, and what run.json of the trainings says, in the order of the paths.

    A file that cannot be read is left out, and said.
    Rows older than the column `data` take the fingerprint that run.json beside them has.
    """
    found = Measured([], {})
    for path in files_of_runs(root, RESULTS_FILE):
        with leaving_out(found.left_out, path):
            data = read_json(path.with_name(RUN_FILE)).get("data") or {}
            fingerprint = str(data.get("without_seed") or data.get("fingerprint") or "")
            own = ResultsFile(path).rows()
            found.rows.extend(row if row.data else replace(row, data=fingerprint) for row in own)
    for path in files_of_runs(root, RUN_FILE):
        run = read_json(path)
        if run.get("command") in ("train", "tune") and isinstance(run.get("identity"), dict):
            found.settings[str(run.get("name"))] = run["identity"]
    return found
