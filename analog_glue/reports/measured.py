"""What the runs below a folder left for tables: their rows, and what each training was."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from analog_glue.runs.files import read_json
from analog_glue.runs.folder import CONFIG_FILE, RUN_FILE, TUNING_FILE, files_of_runs
from analog_glue.runs.identity import Payload
from analog_glue.runs.rows import RESULTS_FILE, Measurement, ResultsFile
from analog_glue.runs.spoiled import leaving_out


@dataclass(frozen=True)
class Measured:
    """Rows, and what stands beside them.

    Args:
        settings: Name of the run → resolved settings of the trainings and tunings whose folders are at hand.
        hardware: `hardware_id` → resolved configuration of a sweep on it.
        rescaled: (task, model, training, `hardware_id`) of a tuned network → layer → input channels multiplied for a token.
    """

    rows: list[Measurement]
    settings: dict[str, Payload]
    hardware: dict[str, dict[str, Any]] = field(default_factory=dict)
    rescaled: dict[tuple[str, str, str, str], dict[str, int]] = field(default_factory=dict)
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
            config = read_json(path.with_name(CONFIG_FILE))
            multiplied = read_json(path.parent.with_name(TUNING_FILE)).get("multiplies_per_token")
            for row in own:
                if "tile" in config and not row.ablation:
                    found.hardware.setdefault(row.hardware_id, config)
                if multiplied:
                    found.rescaled.setdefault((row.task, row.model, row.training, row.hardware_id), multiplied)
    for path in files_of_runs(root, RUN_FILE):
        run = read_json(path)
        if run.get("command") in ("train", "tune") and isinstance(run.get("identity"), dict):
            found.settings[str(run.get("name"))] = run["identity"]
    return found
