"""A table as text in three formats, and how the numbers in its cells are written."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from analog_glue.reports.figures import BarChart, Chart, Drawn, Panel, bar_figure, drift_figure, line_figure
from analog_glue.reports.statistics import Statistic
from analog_glue.runs.cells import csv_text

NO_DEVICE = "no_device"  # the device of a run in floating point
ALGORITHMS = {
    "sgd_digital": "floating point", "sgd_pulsed": "SGD", "tiki_taka": "Tiki-Taka", "ttv2": "TTv2",
    "chopped_ttv2": "chopped TTv2",
}  # fmt: skip
DEVICES = {
    NO_DEVICE: "", "symmetric_linear": "symmetric", "soft_bounds": "soft bounds", "model_i": "Model-I",
    "model_ii": "Model-II", "model_iii": "Model-III",
}  # fmt: skip
# The eight tasks in the order of Spoon's and the FactSheet's tables, with the metric each is reported by.
GLUE = {
    "rte": "accuracy",
    "mrpc": "f1",
    "stsb": "spearman",
    "cola": "matthews",
    "sst2": "accuracy",
    "qnli": "accuracy",
    "qqp": "accuracy",
    "mnli": "accuracy",
}
NAMES = {
    **{name: name.upper() for name in ("rte", "mrpc", "qnli", "qqp", "mnli", "f1")},
    **{name: name.capitalize() for name in ("spearman", "pearson", "matthews")},
    **{"stsb": "STS-B", "cola": "CoLA", "sst2": "SST-2"},
    **{"war_and_peace": "War and Peace", "digits": "Digits"},
    **{"mnist": "MNIST, fully connected", "mnist_lenet5": "MNIST, LeNet5"},
    "cross_entropy": "cross-entropy [nats]",
}
MISSING = "–"
Record = dict[str, object]  # one line of a csv file: column → value
Sources = frozenset[tuple[str, str]]  # names of runs, each with that of a sweep below it; "" is the run itself
ANY = -1
Place = tuple[int, int]  # row and column of a table; `ANY` of them


@dataclass(frozen=True)
class Grid:
    """A table as text, to be set in any format: the first column is left-aligned, the others right."""

    title: str
    note: str
    header: list[str]
    rows: list[list[str]]
    legend: Sequence[str] = ()  # what the letters of the header mean, a line each
    sources: Mapping[Place, Sources] = field(default_factory=dict)  # of the numbers there; the narrowest place counts

    def sources_of(self, row: int, column: int) -> Sources:
        """Where the number in a cell comes from; nothing where no run of the folder measured it."""
        places: tuple[Place, ...] = ((row, column), (row, ANY), (ANY, column), (ANY, ANY))
        return next((self.sources[place] for place in places if place in self.sources), frozenset())


@dataclass(frozen=True)
class Picture:
    """A figure as numbers: drawn when its files are written, or by a browser.

    Args:
        charts: Side by side, all of one kind.
        note: What its error bars mean.
        head: What stands above it in its files; None: the title.
    """

    title: str
    charts: Sequence[Panel] | Sequence[Chart] | Sequence[BarChart]
    note: str
    head: str | None = None

    def draw(self) -> Drawn:
        """PNG and SVG."""
        draw: Any = {Panel: drift_figure, Chart: line_figure, BarChart: bar_figure}[type(self.charts[0])]
        drawn: Drawn = draw(self.charts, self.title if self.head is None else self.head, self.note)
        return drawn


@dataclass
class Chapter:
    """Tables, figures and plain records of one subject, collected one after the other."""

    parts: list[tuple[str, Grid | Picture]] = field(default_factory=list)  # label, what stands there
    records: dict[str, list[Record]] = field(default_factory=dict)  # csv file → its lines
    missing: list[str] = field(default_factory=list)  # a line each: what, and the command that makes it


def in_points(value: float | None, decimals: int = 2) -> str:
    if value is None:
        return MISSING
    return "undefined" if math.isnan(value) else f"{value:.{decimals}f}".replace("-", "−")


def with_sign(value: float, decimals: int = 2) -> str:
    return "undefined" if math.isnan(value) else f"{value:+.{decimals}f}".replace("-", "−")


def score_cell(statistic: Statistic | None, change: Statistic | None = None, signed: bool = False, decimals: int = 2) -> str:
    """Mean ± standard error, and in brackets a change."""
    if statistic is None:
        return MISSING
    cell = (with_sign if signed else in_points)(statistic.mean, decimals)
    cell += "" if statistic.error is None else f" ± {statistic.error:.{decimals}f}"
    return cell if change is None else f"{cell} ({with_sign(change.mean, decimals)})"


def span(counts: Sequence[int]) -> str:
    if not counts:
        return MISSING
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def _widths(grid: Grid) -> list[int]:
    return [max(map(len, column)) for column in zip(grid.header, *grid.rows, strict=True)]


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]


def as_text(grid: Grid) -> str:
    widths = _widths(grid)
    lines = ["  ".join(_aligned(cells, widths)).rstrip() for cells in [grid.header, *grid.rows]]
    rule = "─" * max(map(len, lines))
    legend = [f"  {line}" for line in grid.legend]
    note = textwrap.fill(grid.note, max(len(rule), 72))
    return "\n".join([grid.title, *legend, rule, lines[0], rule, *lines[1:], rule, note])


def as_markdown(grid: Grid) -> str:
    rows = [[in_markdown(cell) for cell in cells] for cells in [grid.header, *grid.rows]]
    safe = replace(grid, header=rows[0], rows=rows[1:])
    widths = [max(3, width) for width in _widths(safe)]
    lines = ["| " + " | ".join(_aligned(cells, widths)) + " |" for cells in rows]
    rule = "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|"
    legend = [*(f"- {_no_tags(line)}" for line in grid.legend), ""] if grid.legend else []
    return "\n".join([f"## {_no_tags(grid.title)}", "", *legend, lines[0], rule, *lines[1:], "", _no_tags(grid.note)])


def in_markdown(cell: str) -> str:
    """A cell whose names, which may come from a run of somebody else, end no cell and are no HTML."""
    return _no_tags(cell).replace("|", "\\|")


def _no_tags(text: str) -> str:
    """Without HTML: a `<` that could begin a tag, which no number follows, is written out."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)


_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: "\\" + character for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "…": r"\dots{}",
    "γ": r"$\gamma$",
    "√": r"$\surd$",
    "°": r"$^\circ$",
    "≈": r"$\approx$",
    "×": r"$\times$",
    "●": r"$\bullet$",
    "µ": r"$\mu$",
}


def as_latex(grid: Grid, label: str) -> str:
    """A booktabs table, scaled down to the width of the text where it is wider."""

    def escape(text: str) -> str:
        return "".join(_LATEX.get(character, character) for character in text)

    caption = " ".join([f"{grid.title}.", *(f"{line}." for line in grid.legend), grid.note])
    lines = [" & ".join(map(escape, cells)) + r" \\" for cells in [grid.header, *grid.rows]]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(caption)}}}",
            rf"\label{{tab:{label}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{l{'r' * (len(grid.header) - 1)}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_csv(records: Sequence[Record]) -> bytes:
    """Records of one kind; floats to six decimals, nothing for what is not known."""

    def cell(value: object) -> str:
        if value is None:
            return ""
        if isinstance(value, bool):
            return str(value).lower()
        if not isinstance(value, float) or math.isnan(value):
            text = str(value)
            # A spreadsheet would take it for a formula: a name may come from a run of somebody else.
            return f"'{text}" if isinstance(value, str) and text[:1] in FORMULA else text
        digits = f"{value:.6f}".rstrip("0").rstrip(".")
        return "0" if digits == "-0" else digits

    return csv_text(records[0], ([cell(value) for value in record.values()] for record in records)).encode()
