"""Numbers of the literature on GLUE, each with its source."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from analog_glue.reports.grids import GLUE
from analog_glue.runs.cells import Cells


@dataclass(frozen=True)
class Published:
    """One number from the literature: `kind` is score or change (from digital) [points].

    `value` is None where the source could not be read, `t_seconds` [s] where there is no time or none stated.
    """

    line: str
    label: str
    kind: str
    t_seconds: float | None
    task: str
    metric: str
    value: float | None
    decimals: int
    source: str

    @property
    def text(self) -> str:
        """The number with as many digits as its source prints; changes with their sign."""
        if self.value is None:
            return ""
        return f"{self.value:{'+' if self.kind == 'change' else ''}.{self.decimals}f}".replace("-", "−")


def published_cells(package: str) -> list[Cells]:
    """Every line of the `published.csv` that a package holds."""
    text = files(package).joinpath("published.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def published_numbers() -> list[Published]:
    """The numbers of the literature in `published.csv`, each with its source."""
    return [
        Published(
            line=cells["line"],
            label=cells["label"],
            kind=cells["kind"],
            t_seconds=float(cells["t_seconds"]) if cells["t_seconds"] else None,
            task=cells["task"],
            metric=cells["metric"],
            value=float(cells["value"]) if cells["value"] else None,
            decimals=len(cells["value"].partition(".")[2]),
            source=cells["source"],
        )
        for cells in published_cells("analog_glue.reports")
    ]


def published_lines(published: Sequence[Published]) -> list[list[Published]]:
    """Lines of the literature with at least one of our columns: the headline metrics and their average."""
    lines: dict[str, list[Published]] = {}
    for number in published:
        if number.metric == GLUE.get(number.task, "headline"):
            lines.setdefault(number.line, []).append(number)
    return list(lines.values())
