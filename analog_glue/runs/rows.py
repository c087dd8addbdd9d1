"""One row per measured score: how it is identified, written, read back, and what it ran on.

Every table and figure is a group-by over these rows; nothing else is kept of a measurement. A file is
rewritten beside itself and renamed into place, so that a process killed at any moment leaves whole rows.
"""

from __future__ import annotations

import csv
import io
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cache
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analog_glue.errors import UserError
from analog_glue.runs.cells import csv_text
from analog_glue.runs.files import exclusive, replace_file
from analog_glue.runs.folder import files_of_runs
from analog_glue.runs.recorded import recorded_defaults

if TYPE_CHECKING:
    import pandas

log = logging.getLogger(__name__)

RESULTS_FILE = "results.csv"
RESULTS_SCHEMA = (
    3  # of the columns, in run.json of a sweep (`results_schema`); 2: without attention …; 1, or none: without data …
)

STAGES = ("digital", "majority", "ideal_devices", "chip")


@dataclass(frozen=True)
class Measurement:
    """One measured score and everything that identifies it: one row of `results.csv`.

    Args:
        run: Name of the training run that gave the weights.
        sweep: Name of the drift sweep, a folder of that run; empty where there was none.
        task: Option of the group `task`.
        model: Option of the group `model`.
        training: Option of the group `training`.
        seed: Seed of the training run.
        noise: Option of the group `noise`.
        tile: Option of the group `tile`.
        stage: `digital` (the weights in software), `majority` (always the most frequent answer of the
            training set), `ideal_devices` (the periphery alone) or `chip` (programmed devices).
        chip: Index of the programmed chip; the same index has the same device noise in every variant.
        t_seconds: Time since programming [s].
        compensated: Whether drift was compensated; false on devices without drift.
        extrapolated: Whether the time lies beyond the measurements that the device model was fitted to.
        split: Split of the data that was scored.
        metric: Name of the metric.
        headline: Whether this is the metric by which the task is reported.
        value: Score [points, 100 × the metric]; nan where the metric is undefined.
        examples: Number of examples scored.
        train_ids: Hash of what determined the trained weights, the seed among it.
        hardware_id: Hash of what determined the hardware, the same for every task and network put on it.
        wall_seconds: Time the measurement took [s].
        data: Fingerprint of the data that was scored; like all below, empty in rows that are older than the column.
        recipe: Hash of what determined the training but the seed and what it draws: equal for seeds of one experiment.
        product: How products were computed ("int8_single": integers, weights of 8 bits); see kernels/products.py.
        stream: Where the noise came from ("threefry-4x32-13", "torch"); draws of two streams are not those of one chip.
        attention: Precision of the products of attention, "fp32", "bf16", "int8"; see nn/attention.py.
        attention_scales: Where the scales of integer attention come from: `learned` in training, or `calibrated` after it.
        ablation: What this sweep changed of the hardware (`evaluate ablate=true`, `specify`), or ("layers …") which layers
            `place` put on tiles; empty: it is what its names say.
    """

    run: str
    sweep: str
    task: str
    model: str
    training: str
    seed: int
    noise: str
    tile: str
    stage: str
    chip: int | None
    t_seconds: float | None
    compensated: bool | None
    extrapolated: bool
    split: str
    metric: str
    headline: bool
    value: float
    examples: int
    train_ids: str
    hardware_id: str
    wall_seconds: float
    data: str = ""
    recipe: str = ""
    product: str = ""
    stream: str = ""
    attention: str = "fp32"
    attention_scales: str = ""
    ablation: str = ""

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise ValueError(
                f"Argument `stage` must be one of {', '.join(STAGES)}, but is {self.stage!r}. "
                "Name the stage at which the score was measured."
            )
        if self.stage == "chip" and None in (self.chip, self.t_seconds, self.compensated):
            raise ValueError(
                "Arguments `chip`, `t_seconds`, `compensated` must be given for the stage chip, but are "
                f"{self.chip}, {self.t_seconds}, {self.compensated}. Say which chip was scored, when and how."
            )
        if math.isinf(self.value):
            raise ValueError(f"Argument `value` must be finite or nan, but is {self.value}. Score in points.")
        # The row must read back as itself, whatever number types the caller computes with.
        for name, kind in _COLUMNS.items():
            object.__setattr__(self, name, _decode(_encode(getattr(self, name), kind), kind, name))

    @property
    def identity(self) -> tuple[object, ...]:
        """What was measured, without the outcome and without names that a user may change."""
        outcome = {"run", "sweep", "extrapolated", "headline", "value", "examples", "wall_seconds", "recipe"}
        return tuple(getattr(self, name) for name in _COLUMNS if name not in outcome)


_COLUMNS: dict[str, str] = {field.name: str(field.type) for field in fields(Measurement)}


class ResultsFile:
    """The rows of one run directory, in the order in which they were measured.

    A column that the file lacks reads as its recorded default; one that is not known here, as a later version may have
    written it, is kept when the file is rewritten, and reported once.
    """

    def __init__(self, path: Path | str) -> None:
        """
        Args:
            path: The csv file, or a directory that holds (or will hold) `results.csv`.
        """
        path = Path(path)
        self.path = path if path.suffix == ".csv" else path / RESULTS_FILE
        self._seen: tuple[str, set[tuple[object, ...]]] | None = None  # text of the file, and the identities of its rows

    def rows(self) -> list[Measurement]:
        """All rows measured so far; none where the file does not exist yet."""
        return self._read()[0]

    def unknown_columns(self) -> tuple[str, ...]:
        """Columns of the file that are none of `Measurement`."""
        return tuple(self._read()[1])

    def _read(self) -> tuple[list[Measurement], dict[str, list[str]]]:
        """The rows, and the cells of unknown columns by name, one for each row."""
        try:
            return _parse(self.path.read_text(encoding="utf-8"), self.path)
        except FileNotFoundError:
            return [], {}
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(
                f"File `{self.path}` must be a table of scores, but cannot be read ({type(error).__name__}: {error}). "
                "Move it away and measure again."
            ) from None

    def append(self, measured: Iterable[Measurement]) -> int:
        """Add rows, all or none of them, and return how many were new.

        A row measured before keeps its first value: measuring twice gives the same score, and a second
        row would count as a second chip. Several processes may append to one file.
        """
        with exclusive(self.path.parent) as folder:
            try:
                text = self.path.read_bytes().decode()
            except FileNotFoundError:
                text = ""
            if self._seen is None or self._seen[0] != text:  # somebody else wrote, or this is the first time
                self._seen = text, {row.identity for row in self._read()[0]}
            known, new = set(self._seen[1]), []
            for row in measured:
                if row.identity not in known:
                    known.add(row.identity)
                    new.append(row)
            if new:
                header = next(csv.reader(io.StringIO(text, newline="")), [])
                if header[: len(_COLUMNS)] == list(_COLUMNS) and text.endswith("\n"):
                    text += _lines(new, {name: [] for name in header[len(_COLUMNS) :]})
                else:  # a new file, or one of another version
                    rows, unknown = self._read()
                    text = _format([*rows, *new], unknown)
                replace_file(self.path, text.encode(), folder)
                self._seen = text, known
            return len(new)

    def keep(self, keeps: Callable[[Measurement], bool]) -> None:
        """Remove the other rows; the file, too, where none is left."""
        with exclusive(self.path.parent) as folder:
            rows, unknown = self._read()
            kept = [keeps(row) for row in rows]
            if not any(kept):
                self.path.unlink(missing_ok=True)
            elif not all(kept):
                left = {name: list(compress(cells, kept)) for name, cells in unknown.items()}
                replace_file(self.path, _format(list(compress(rows, kept)), left).encode(), folder)


def find_rows(root: Path | str) -> list[Measurement]:
    """Every row of every `results.csv` at or below `root` (not of `records` below it), in the order of the paths."""
    return [row for path in files_of_runs(root, RESULTS_FILE) for row in ResultsFile(path).rows()]


def read_rows(root: Path | str) -> pandas.DataFrame:
    """`find_rows` as a data frame for a notebook: one column per field of `Measurement`.

    Empty cells are missing values: `chip` is Int64, `t_seconds` float64, `compensated` boolean.
    """
    import pandas

    rows = find_rows(root)
    columns = {name: [getattr(row, name) for row in rows] for name in _COLUMNS}
    kinds = {
        "str": "str",
        "int": "int64",
        "float": "float64",
        "bool": "bool",
        "int | None": "Int64",
        "float | None": "float64",
        "bool | None": "boolean",
    }
    return pandas.DataFrame(columns).astype({name: kinds[kind] for name, kind in _COLUMNS.items()})


def _encode(value: Any, kind: str) -> str:
    if value is None:
        return ""
    if kind.startswith("bool"):
        return "true" if value else "false"
    if kind.startswith("int"):
        return str(int(value))
    if kind.startswith("float"):
        return repr(float(value))  # the shortest text that reads back as the same bits
    return str(value)


def _decode(cell: str, kind: str, name: str) -> Any:
    if cell == "" and kind.endswith("None"):
        return None
    try:
        if kind.startswith("bool"):
            return {"true": True, "false": False}[cell]
        if kind.startswith("int"):
            return int(cell)
        if kind.startswith("float"):
            return float(cell)
    except (KeyError, ValueError):
        message = f"Argument `{name}` must be of type {kind}, but is {cell!r}. Mend the row."
        raise ValueError(message) from None
    return cell


def _format(rows: list[Measurement], unknown: dict[str, list[str]]) -> str:
    """Args: unknown: Cells of further columns by name; rows that were added after these have empty ones."""
    return csv_text([*_COLUMNS, *unknown], []) + _lines(rows, unknown)


def _lines(rows: list[Measurement], unknown: dict[str, list[str]]) -> str:
    further = [[*cells, *[""] * (len(rows) - len(cells))] for cells in unknown.values()]
    cells = [
        [*(_encode(getattr(row, name), kind) for name, kind in _COLUMNS.items()), *(cells[number] for cells in further)]
        for number, row in enumerate(rows)
    ]
    return csv_text(cells[0], cells[1:]) if cells else ""


def _parse(text: str, path: Path) -> tuple[list[Measurement], dict[str, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""))
    header = next(reader, [])
    defaults = recorded_defaults(RESULTS_FILE)
    if missing := [name for name in _COLUMNS if name not in header and name not in defaults]:
        raise UserError(
            f"File `{path}` must have the columns {', '.join(_COLUMNS)}, but has "
            f"{', '.join(header) if header else 'none'}: {', '.join(missing)} must be there. "
            "Move the file away and measure again."
        )
    unknown: dict[str, list[str]] = {name: [] for name in header if name not in _COLUMNS}
    if unknown:
        _report_unknown(path, tuple(unknown))
    rows = []
    for cells in reader:
        try:
            if len(cells) != len(header):
                raise ValueError(f"It must have {len(header)} cells, but has {len(cells)}. Mend the row.")
            named = defaults | dict(zip(header, cells, strict=True))
            rows.append(Measurement(**{name: _decode(named[name], kind, name) for name, kind in _COLUMNS.items()}))
        except ValueError as error:
            raise UserError(f"File `{path}`, line {reader.line_num}: {error}") from None
        for name, further in unknown.items():
            further.append(named[name])
    return rows, unknown


@cache
def _report_unknown(path: Path, columns: tuple[str, ...]) -> None:
    """Once per file and process."""
    log.warning("Columns of %s that this version does not know are kept and not used: %s", path, ", ".join(columns))
