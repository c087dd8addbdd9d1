"""What a folder of runs holds: bits to compare, and work that was finished and must not be done again."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

from safetensors import safe_open

from analog_glue.runs.folder import LOCK, STATE

# All that may differ between a run that was killed and one that was not: when it ran, and how long it took.
PROVENANCE = {
    "json": ("started", "seconds", "git"),  # keys at any depth; of the commit, since the source may be worked on meanwhile
    "csv": ("wall_seconds", "seconds"),  # columns
    "safetensors": ("seconds",),  # of the notes in a state
    "files": (LOCK,),  # empty
    "folders": ("sweeps",),  # records of every call, in folders that are named by its time
}


def content(file: Path) -> Any:
    """Of a file, without what may differ."""
    if file.suffix == ".json":
        return _without(json.loads(file.read_text(encoding="utf-8")), PROVENANCE["json"])
    if file.suffix == ".csv":
        lines = csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"), newline=""))
        return [_without(line, PROVENANCE["csv"]) for line in lines]
    if file.suffix == ".safetensors":
        with safe_open(file, framework="np") as tensors:
            notes = json.loads((tensors.metadata() or {}).get("notes", "{}"))
            arrays = {name: tensors.get_tensor(name) for name in tensors.keys()}
        bits = {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}
        return bits, _without(notes, PROVENANCE["safetensors"])
    return file.read_bytes()


def _without(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _without(item, names) for key, item in value.items() if key not in names}
    return [_without(item, names) for item in value] if isinstance(value, list) else value


def contents(root: Path) -> dict[str, Any]:
    """By path, of every file below `root` that is compared."""
    found = {}
    for file in sorted(root.rglob("*")):
        name = file.relative_to(root)
        if file.is_file() and name.parts[0] not in PROVENANCE["folders"] and file.name not in PROVENANCE["files"]:
            found[str(name)] = content(file)
    return found


def names(root: Path) -> set[str]:
    """Paths of all files and folders below `root`; those of a call without the name of its folder."""
    every = {file.relative_to(root) for file in root.rglob("*")}
    return {str(Path(*name.parts[:1], *name.parts[2:]) if name.parts[0] in PROVENANCE["folders"] else name) for name in every}


def finished(root: Path) -> set[tuple[str, str]]:
    """What is done, as (path, what it says): scores and epochs with the time they took, weights with that of their writing."""
    found = set()
    for name in ("results.csv", "learning_curve.csv"):
        for file in root.rglob(name):
            found |= {(str(file), line) for line in file.read_text(encoding="utf-8").splitlines()[1:]}
    for file in root.rglob("run.json"):
        if any(part.startswith(".") for part in file.relative_to(root).parts):  # not there yet, for anybody
            continue
        weights = file.with_name("model.safetensors")
        if json.loads(file.read_text(encoding="utf-8"))["status"] == "done" and weights.exists():
            found.add((str(weights), str(weights.stat().st_mtime_ns)))
    return found


def steps(root: Path) -> list[str]:
    """What the next call has to say for every training that a state holds: that it goes on from there."""
    found = []
    for file in root.rglob(STATE):
        said = json.loads(file.with_name("run.json").read_text(encoding="utf-8"))
        with safe_open(file, framework="np") as tensors:
            step = json.loads(tensors.metadata()["notes"])["step"]
        if said["status"] == "running":
            found.append(f"Resuming after step {step} of")
    return found


def writes_a_checkpoint(root: Path) -> bool:
    """Whether a process was killed while it wrote weights or a state."""
    partial = re.compile(r"\.(.*\.safetensors\.partial|tmp.{6}|saving-.*)")  # safetensors names its own file
    return any(partial.fullmatch(file.name) for file in root.rglob(".*"))
