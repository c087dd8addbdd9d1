"""One row per measured score: how it is identified, written, read back, and what it ran on.

Every table and figure is a group-by over these rows; nothing else is kept of a measurement. A file is
rewritten beside itself and renamed into place, so that a process killed at any moment leaves whole rows.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import importlib.metadata
import io
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy

import analog_glue

if TYPE_CHECKING:
    import pandas

RESULTS_FILE = "results.csv"
KEPT = "records"  # folder of measured runs that came with the source
LOCK = ".lock"  # held by every process that works on a run; the lock is gone when the process is
STAGES = ("digital", "majority", "ideal_devices", "chip")
PACKAGES = ("torch", "transformers", "datasets", "accelerate", "hydra-core", "numpy")


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
        outcome = {"run", "sweep", "extrapolated", "headline", "value", "examples", "wall_seconds"}
        return tuple(getattr(self, name) for name in _COLUMNS if name not in outcome)


_COLUMNS: dict[str, str] = {field.name: str(field.type) for field in fields(Measurement)}


class ResultsFile:
    """The rows of one run directory, in the order in which they were measured."""

    def __init__(self, path: Path | str) -> None:
        """
        Args:
            path: The csv file, or a directory that holds (or will hold) `results.csv`.
        """
        path = Path(path)
        self.path = path if path.suffix == ".csv" else path / RESULTS_FILE

    def rows(self) -> list[Measurement]:
        """All rows measured so far; none where the file does not exist yet."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return _parse(text, self.path)

    def has(
        self,
        stage: str,
        chip: int | None = None,
        t_seconds: float | None = None,
        compensated: bool | None = None,
        hardware_id: str | None = None,
    ) -> bool:
        """Whether this was measured before; without `hardware_id`, on any hardware.

        One evaluation appends all its metrics and splits at once, so that one row stands for all of them.
        """
        return any(
            (row.stage, row.chip, row.t_seconds, row.compensated) == (stage, chip, t_seconds, compensated)
            and hardware_id in (None, row.hardware_id)
            for row in self.rows()
        )

    def append(self, measured: Iterable[Measurement]) -> int:
        """Add rows, all or none of them, and return how many were new.

        A row measured before keeps its first value: measuring twice gives the same score, and a second
        row would count as a second chip. Several processes may append to one file.
        """
        with _exclusive(self.path.parent) as folder:
            rows = self.rows()
            known = {row.identity for row in rows}
            before = len(rows)
            for row in measured:
                if row.identity not in known:
                    known.add(row.identity)
                    rows.append(row)
            if len(rows) > before:
                _replace(self.path, _format(rows).encode(), folder)
            return len(rows) - before


def files_of_runs(root: Path | str, name: str) -> list[Path]:
    """Files called `name` at or below `root`, sorted; not those of a folder `records` below it, which came with the source."""
    return sorted(file for file in Path(root).rglob(name) if KEPT not in file.relative_to(root).parts)


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


def write_text_atomic(path: Path | str, text: str) -> None:
    """Write a text file (UTF-8) that other processes see either whole or not at all."""
    write_bytes_atomic(path, text.encode())


def write_bytes_atomic(path: Path | str, content: bytes) -> None:
    """Write a file that other processes see either whole or not at all."""
    path = Path(path)
    with _exclusive(path.parent) as folder:
        _replace(path, content, folder)


def write_json_atomic(path: Path | str, content: Mapping[str, Any]) -> None:
    """Write readable JSON atomically; nan and infinities, which JSON does not know, become null."""
    write_text_atomic(path, json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def working_in(folder: Path, alone: bool = False) -> Iterator[None]:
    """Hold a run's folder while it is worked on, so that `status_of` knows a run that goes on from one that was killed.

    Args:
        alone: Whether no other process may work in the folder at the same time.

    Raises:
        ValueError: `alone`, and another process works in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
        except BlockingIOError:
            raise ValueError(
                f"Folder {folder} must be free, but another process is working in it. "
                "Wait for that one, or give this one another `output_root`."
            ) from None
        except OSError:
            pass  # some network file systems know no locks
        yield


def status_of(folder: Path) -> str:
    """What run.json says, but "interrupted" for a run that was going on and that no process works on any more."""
    try:
        status = str(json.loads((folder / "run.json").read_text(encoding="utf-8"))["status"])
    except (FileNotFoundError, KeyError, json.JSONDecodeError):
        return "unknown"
    if status != "running":
        return status
    try:
        with (folder / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "running"
    except FileNotFoundError:
        return "interrupted"
    except OSError:
        return "running"  # as far as can be known
    return "interrupted"


def provenance(**facts: Any) -> dict[str, Any]:
    """What a measurement ran on, for `run.json`: versions, commit, hardware and the start time (UTC).

    Threads, vector instructions and the GPU are reported only where torch is loaded already. The name of
    the host is left out, and the home directory of the user is written as `~`.

    Args:
        **facts: What the caller knows besides (seeds, revision of the model, fingerprint of the data …).
    """
    return _without_home(
        {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {
                "python": platform.python_version(),
                "analog-glue": getattr(analog_glue, "__version__", None),
                **{name: _version(name) for name in PACKAGES},
            },
            "git": _git(),
            "hardware": _hardware(),
            "platform": platform.platform(),
            **facts,
        }
    )


# --- rows as text ---------------------------------------------------------------------------------------


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


def _format(rows: Iterable[Measurement]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows([_encode(getattr(row, name), kind) for name, kind in _COLUMNS.items()] for row in rows)
    return text.getvalue()


def _parse(text: str, path: Path) -> list[Measurement]:
    reader = csv.reader(io.StringIO(text, newline=""))
    header = next(reader, None)
    if header != list(_COLUMNS):
        raise ValueError(
            f"File `{path}` must have the columns {', '.join(_COLUMNS)}, but has "
            f"{', '.join(header) if header else 'none'}. Move the file away and measure again."
        )
    rows = []
    for cells in reader:
        try:
            if len(cells) != len(_COLUMNS):
                raise ValueError(f"It must have {len(_COLUMNS)} cells, but has {len(cells)}. Mend the row.")
            named = zip(_COLUMNS.items(), cells, strict=True)
            rows.append(Measurement(**{name: _decode(cell, kind, name) for (name, kind), cell in named}))
        except ValueError as error:
            raise ValueError(f"File `{path}`, line {reader.line_num}: {error}") from None
    return rows


# --- files ----------------------------------------------------------------------------------------------


@contextmanager
def _exclusive(folder: Path) -> Iterator[int]:
    """Hold the folder against other writers of this module; the lock is gone when its process is."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems know no locks: still atomic, for one writer
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _replace(path: Path, content: bytes, folder: int) -> None:
    # One fixed name per target: what a killed process leaves is overwritten by the next one.
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    os.fsync(folder)  # the new name, too, must survive a loss of power


def _plain(value: Any) -> Any:
    """Mappings, sequences, paths and NumPy scalars as what JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, numpy.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


# --- provenance -----------------------------------------------------------------------------------------


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    """Commit of this source and whether it was changed since; none for an installed copy without history."""
    source = Path(__file__).resolve()

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(source.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout

    try:
        # Fails for a copy installed inside someone else's repository (its .venv): that commit says nothing.
        git("ls-files", "--error-unmatch", source.name)
        commit = git("rev-parse", "HEAD").strip()
        change = git("diff", "HEAD")
        new_files = git("ls-files", "--others", "--exclude-standard", ".")
    except (OSError, subprocess.SubprocessError):
        return None
    return {
        "commit": commit,
        "dirty": bool(change or new_files),
        "diff": hashlib.sha256(change.encode()).hexdigest()[:12] if change else None,
    }


def _hardware() -> dict[str, Any]:
    described: list[str] = []
    with suppress(OSError):
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in described if line.startswith("model name")]
    facts: dict[str, Any] = {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    }
    torch = sys.modules.get("torch")  # not imported for this: only a run that computes has these facts
    if torch is not None:
        facts["threads"] = torch.get_num_threads()
        facts["instructions"] = torch.backends.cpu.get_cpu_capability()
        facts["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return facts


def _without_home(value: Any) -> Any:
    home = str(Path.home())
    if isinstance(value, Mapping):
        return {key: _without_home(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_home(item) for item in value]
    if isinstance(value, (str, Path)) and len(home) > 1:
        return str(value).replace(home, "~")
    return value
