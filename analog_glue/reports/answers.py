"""Answers kept beside the rows they come from: what `specify` and `place` found, which no table of rows can say again.

The tables and pictures of an answer lie in `answer.json` of its folder, as data; `tables` and `report` show all of a folder.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from analog_glue.reports.figures import Chart, Level, Line
from analog_glue.reports.grids import Chapter, Grid, Picture
from analog_glue.runs.files import write_json_atomic
from analog_glue.runs.folder import files_of_runs
from analog_glue.runs.spoiled import leaving_out, read_record

ANSWER_FILE = "answer.json"


def write_answer(folder: Path, chapter: Chapter, label: str) -> None:
    """Keep the parts of a chapter.

    Args:
        chapter: Its pictures hold lines.
        label: Of this answer among all; what labels of its parts begin with.
    """
    parts = [{"label": f"{label}-{name}", **(_grid(part) if isinstance(part, Grid) else _picture(part))}
             for name, part in chapter.parts]  # fmt: skip
    write_json_atomic(folder / ANSWER_FILE, {"parts": parts})


def answers(root: Path | str, left_out: list[str] | None = None) -> list[Chapter]:
    """Of every answer at or below `root`, by folder; `left_out` takes files that cannot be read, and why."""
    found = []
    for file in files_of_runs(root, ANSWER_FILE):
        with leaving_out(left_out, file):
            parts = [(_label(part["label"]), _part(part)) for part in read_record(file)["parts"]]
            found += [Chapter(parts)] if parts else []
    return found


def _grid(grid: Grid) -> dict[str, Any]:
    sources = [[*place, sorted(map(list, own))] for place, own in sorted(grid.sources.items())]
    return {"kind": "table", **asdict(grid), "sources": sources}


def _picture(picture: Picture) -> dict[str, Any]:
    if not all(isinstance(chart, Chart) for chart in picture.charts):
        raise TypeError("Argument `chapter` must have pictures of lines alone.")
    return {"kind": "picture", **asdict(picture)}


def _part(said: Mapping[str, Any]) -> Grid | Picture:
    if said["kind"] == "picture":
        return Picture(_text(said["title"]), [_chart(chart) for chart in said["charts"]], _text(said["note"]), said["head"])
    rows = [[_text(cell) for cell in row] for row in said["rows"]]
    header = [_text(cell) for cell in said["header"]]
    if any(len(row) != len(header) for row in rows):
        raise ValueError("a row of a table has not as many cells as its header")
    sources = {(int(row), int(column)): frozenset((str(run), str(below)) for run, below in own)
               for row, column, own in said["sources"]}  # fmt: skip
    return Grid(_text(said["title"]), _text(said["note"]), header, rows, [_text(line) for line in said["legend"]], sources)


def _chart(said: Mapping[str, Any]) -> Chart:
    axes = _text(said["title"]), _text(said["x_label"]), _text(said["y_label"])
    lines, levels = [_line(line) for line in said["lines"]], [_level(level) for level in said["levels"]]
    return Chart(*axes, lines, levels, bool(said["log_x"]), bool(said["log_y"]), _numbers(said["ticks"]))


def _line(said: Mapping[str, Any]) -> Line:
    errors = [None if error is None else float(error) for error in said["error"]]
    return Line(_text(said["label"]), _numbers(said["x"]), _numbers(said["y"]), errors, bool(said["law"]), bool(said["joined"]))


def _level(said: Mapping[str, Any]) -> Level:
    texts = (_text(said[name]) for name in ("label", "like", "told"))
    label, like, told = texts
    return Level(label, float(said["value"]), like, bool(said["dotted"]), told)


def _numbers(said: Sequence[float | None]) -> list[float]:
    """JSON has null where a number was undefined."""
    return [math.nan if value is None else float(value) for value in said]


def _text(said: object) -> str:
    if not isinstance(said, str):
        raise TypeError(f"it has {said!r} where text belongs")
    return said


def _label(said: object) -> str:
    """It names files: nothing that leads to another folder."""
    label = _text(said)
    if not re.fullmatch(r"[\w.=,+-]+", label) or label.startswith("."):
        raise ValueError(f"it has a label {label!r}, which cannot name a file")
    return label
