"""Tables of a run as csv text: one header line, cells as text, read and written in one way."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from analog_glue.runs.files import write_text_atomic
from analog_glue.runs.spoiled import told_if_spoiled

Cells = dict[str, str]  # one line of a csv file: column → text


def read_cells(file: Path | str) -> list[Cells]:
    """Every line of a csv file; none where there is no such file.

    Raises:
        UserError: A file that does not end with a whole line, or a line with more or fewer cells than there are columns.
    """
    file = Path(file)
    if not file.exists():
        return []
    with told_if_spoiled(file):
        text = file.read_text(encoding="utf-8")
        columns, *lines = list(csv.reader(io.StringIO(text, newline=""))) or [[]]
        if (text and not text.endswith("\n")) or any(len(line) != len(columns) for line in lines):
            raise ValueError(f"{file.name} is cut off or has lines of another length than its header")
    return [dict(zip(columns, line, strict=True)) for line in lines]


def write_cells(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of the same columns, those of the first, so that a reader sees the old file or the new one.

    Args:
        rows: At least one; None is an empty cell.
    """
    columns = list(rows[0])
    write_text_atomic(file, csv_text(columns, ([row[name] for name in columns] for row in rows)))


def csv_text(columns: Iterable[str], lines: Iterable[Sequence[Any]]) -> str:
    """Columns and lines of cells as the text of a csv file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(lines)
    return text.getvalue()
