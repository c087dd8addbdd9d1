"""The runs behind the numbers of a page: what each was told, by which command, and on what it ran."""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analog_glue.reports.grids import Sources
from analog_glue.runs.files import read_json
from analog_glue.runs.folder import CONFIG_FILE, CONFIG_FILE_OF_RUN, RUN_FILE, files_of_runs, status_of
from analog_glue.runs.spoiled import leaving_out

NOT_RECORDED = "not recorded"
FACTS = (
    "seed",
    "train_id",
    "hardware_id",
    "product",
    "kernel",
    "device",
    "input_ranges",
)  # of run.json that tell numbers apart


@dataclass(frozen=True)
class RunRecord:
    """A training, tuning, extraction or sweep, as its own files tell it.

    Args:
        source: The names of the run and of the sweep below it, as rows have them.
        folder: Below the folder that the page is of.
        command: The words that make it again.
        facts: What it ran on, by name.
        configuration: Every setting by its full key.
    """

    source: tuple[str, str]
    folder: str
    status: str
    command: str
    facts: dict[str, str]
    configuration: dict[str, str]


def run_records(root: Path, left_out: list[str]) -> list[RunRecord]:
    """Of every run.json at or below `root`, by folder; `left_out` takes those that cannot be read, and why."""
    found = []
    for file in files_of_runs(root, RUN_FILE):
        with leaving_out(left_out, file):
            found += [_record(root, file.parent, run)] if (run := read_json(file)) else []
    return sorted(found, key=lambda record: record.folder)  # a run before its sweeps


def _record(root: Path, folder: Path, run: Mapping[str, Any]) -> RunRecord:
    config = read_json(folder / CONFIG_FILE_OF_RUN)
    if not config and "trained" in run:
        config = read_json(folder / CONFIG_FILE)
    settings = _flat(config or {"extract": run.get("extract") or {}})
    name = folder.relative_to(root).as_posix()
    return RunRecord(_source(folder, run), name, status_of(folder), _command(run), _facts(run), settings)


def _source(folder: Path, run: Mapping[str, Any]) -> tuple[str, str]:
    """A sweep is named below the run that it is of: by one folder, or that of an ablation by two."""
    if "trained" not in run:
        return str(run.get("name") or folder.name), ""
    trained, path = str(run["trained"]), folder.as_posix()
    _, found, below = path.rpartition(f"/{trained}/")
    return trained, below if found else folder.name


def _command(run: Mapping[str, Any]) -> str:
    """What was typed; of a sweep the command that it was a part of."""
    words = run.get("overrides")
    if not isinstance(words, list) or not words:
        return NOT_RECORDED
    name = str(run.get("command"))
    if name == "sweep":
        by_checkpoint = any(str(word).startswith("checkpoint=") for word in words)
        name = ("tune" if "tuning" in (run.get("choices") or {}) else "evaluate") if by_checkpoint else "train"
    typed = (f"+{word}" if str(word).startswith("experiment=") else str(word) for word in words)  # a + is not recorded
    return " ".join(["analog-glue", name, *map(shlex.quote, typed)])


def _facts(run: Mapping[str, Any]) -> dict[str, str]:
    told = {
        "started": run.get("started"),
        "analog-glue": _within(run, "versions", "analog-glue"),
        "torch": _within(run, "versions", "torch"),
        "commit": _within(run, "git", "commit"),
        "CPU": _within(run, "hardware", "cpu"),
        "GPU": _within(run, "hardware", "gpu"),
        "data": _within(run, "data", "fingerprint"),
        **{key: run.get(key) for key in FACTS},
    }
    return {key: str(value) for key, value in told.items() if value is not None}


def _within(run: Mapping[str, Any], group: str, name: str) -> object:
    inside = run.get(group)
    return inside.get(name) if isinstance(inside, dict) else None


def _flat(node: Mapping[str, Any], above: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in node.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{above}{name}.")
        else:
            flat[f"{above}{name}"] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return flat


@dataclass(frozen=True)
class Index:
    """The records of a page, and their numbers by what rows say."""

    records: list[RunRecord]
    numbers: dict[tuple[str, str], list[int]]

    @classmethod
    def of(cls, records: Iterable[RunRecord]) -> Index:
        found = list(records)
        numbers: dict[tuple[str, str], list[int]] = defaultdict(list)
        for number, record in enumerate(found):
            numbers[record.source].append(number)
        return cls(found, dict(numbers))

    def of_sources(self, sources: Sources) -> list[int]:
        """Numbers of the records, the trainings before their sweeps; a sweep whose files are not at hand is left out."""
        runs = {(run, "") for run, _ in sources}
        found = {number for source in sources | runs for number in self.numbers.get(source, ())}
        return sorted(found)

    def packed(self) -> dict[str, Any]:
        """For the page: every key and every value once, and of each run the number of its value at each key (-1: none)."""
        keys = sorted({key for record in self.records for key in record.configuration})
        values = sorted({value for record in self.records for value in record.configuration.values()})
        number = {value: place for place, value in enumerate(values)} | {None: -1}
        runs = []
        for record in self.records:
            chosen = [number[record.configuration.get(key)] for key in keys]
            runs.append([*record.source, record.folder, record.status, record.command, record.facts, chosen])
        return {"keys": keys, "values": values, "runs": runs}
