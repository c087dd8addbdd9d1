"""The runs behind the numbers of a page: what each was told, by which command, and on what it ran."""

from __future__ import annotations

import json
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analog_glue.reports.grids import Sources
from analog_glue.runs.files import read_json
from analog_glue.runs.folder import CONFIG_FILE, CONFIG_FILE_OF_RUN, RUN_FILE, files_of_runs, status_of

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


def run_records(root: Path) -> list[RunRecord]:
    """Of every run.json at or below `root` that can be read, in the order of the paths."""
    found = []
    for file in files_of_runs(root, RUN_FILE):
        run = read_json(file)
        if run:
            config = read_json(file.with_name(CONFIG_FILE_OF_RUN))
            if not config and "trained" in run:
                config = read_json(file.with_name(CONFIG_FILE))
            folder = file.parent.relative_to(root).as_posix()
            facts, settings = _facts(run), _flat(config or {"extract": run.get("extract") or {}})
            found.append(RunRecord(_source(file.parent, run), folder, status_of(file.parent), _command(run), facts, settings))
    return found


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
        """For the page: what most runs have is said once, and of each run what it has otherwise (null: what it has not)."""
        counted: dict[str, Counter[str]] = defaultdict(Counter)
        for record in self.records:
            for key, value in record.configuration.items():
                counted[key][value] += 1
        usual = {key: min(own.items(), key=lambda item: (-item[1], item[0]))[0] for key, own in sorted(counted.items())}
        runs = []
        for record in self.records:
            own = record.configuration
            unlike: dict[str, str | None] = {key: value for key, value in own.items() if usual[key] != value}
            unlike |= {key: None for key in usual if key not in own}
            name, sweep = record.source
            told = [name, sweep, record.folder, record.status, record.command, record.facts, unlike]
            runs.append(told)
        return {"usual": usual, "runs": runs}
