"""Scores over the age of the chips, one axes per task, after Figure 5 of Spoon et al. (2021); and lines over anything else."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# [s]; a month is 30 days, as in `evaluation.times`
UNITS = {
    "year": 31_536_000.0,
    "month": 2_592_000.0,
    "week": 604_800.0,
    "day": 86_400.0,
    "h": 3600.0,
    "min": 60.0,
}
LANDMARKS = (1.0, 3600.0, 86_400.0, 604_800.0, 2_592_000.0, 31_536_000.0)  # [s] the labels of a crowded axis

INK, GREY, FAINT = "#222222", "#6b6b6b", "#e4e4e4"
# Okabe and Ito's palette, which stays apart for colour-blind readers; markers and dashes say it once more.
STYLES = {"A": ("#D55E00", "o"), "B": ("#0072B2", "s"), "C": ("#009E73", "^")}
SPARE_STYLES = (("#CC79A7", "D"), ("#E69F00", "v"), ("#56B4E9", "P"), ("#7A5195", "X"))
FONT_SIZE = 9.0  # [pt]


class Drawn(NamedTuple):
    """One picture in two formats; the fields are the endings of its files."""

    png: bytes
    svg: bytes

    def files(self, name: str) -> dict[str, bytes]:
        """File name → content."""
        return {f"{name}.{ending}": content for ending, content in self._asdict().items()}


@dataclass(frozen=True)
class Curve:
    """One variant over time.

    Args:
        label: What the legend says.
        letter: A, B or C for the curves of Spoon's figure, else empty; written at the end of the curve.
        times: Times since programming [s], ascending.
        mean: Score at each time [points].
        error: Standard error of each mean [points]; None where one chip gives none.
    """

    label: str
    letter: str
    times: Sequence[float]
    mean: Sequence[float]
    error: Sequence[float | None]


@dataclass(frozen=True)
class Level:
    """A score that no chip changes, drawn as a horizontal line.

    Args:
        label: What the legend says.
        value: Score [points].
        like: Label of the curve whose colour the line takes; empty for grey.
        dotted: Dotted (a floor, such as the majority class) rather than dashed.
        told: What stands at its end.
    """

    label: str
    value: float
    like: str = ""
    dotted: bool = False
    told: str = ""


@dataclass(frozen=True)
class Panel:
    title: str
    score: str  # and its unit
    curves: Sequence[Curve]
    levels: Sequence[Level]


@dataclass(frozen=True)
class Line:
    """One line of a chart; `error` holds the standard error of every y, None where there is none.

    `law` draws it grey and dashed: what theory says, not a measurement. `joined`: whether a line connects the points.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    error: Sequence[float | None]
    law: bool = False
    joined: bool = True


@dataclass(frozen=True)
class Chart:
    """Lines over anything; the labels of the axes name the units. `ticks` are the values named along x; none: as it suits."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    levels: Sequence[Level] = ()
    log_x: bool = False
    log_y: bool = False
    ticks: Sequence[float] = ()


@dataclass(frozen=True)
class Bar:
    """One bar for every line of a chart, and its standard error; None where there is none."""

    label: str
    values: Sequence[float | None]
    error: Sequence[float | None]


@dataclass(frozen=True)
class BarChart:
    """Bars to the right, grouped by line; the first line stands on top."""

    title: str
    x_label: str
    lines: Sequence[str]
    bars: Sequence[Bar]


def time_label(seconds: float) -> str:
    """A time as people say it: 1 s, 1 h, 1 day, 1 week, 1 month (30 days), 1 year (365 days)."""
    for name, unit in UNITS.items():
        if seconds >= unit and (seconds / unit).is_integer():
            plural = "s" if seconds > unit and name not in ("h", "min") else ""
            return f"{seconds / unit:.10g} {name}{plural}"
    return f"{seconds:.10g} s"


def drift_figure(panels: Sequence[Panel], title: str, note: str) -> Drawn:
    """The scores over time; the same panels give the same bytes with the same matplotlib.

    Args:
        panels: One per task.
        title: Model and hardware.
        note: What the error bars mean; printed small below the title.
    """

    def draw(axes: Axes, i: int, width: float, lowest: bool) -> None:
        _draw(axes, panels[i], width)
        if lowest:
            axes.set_xlabel("time since programming", color=INK)

    return _page(len(panels), title, note, lambda: _legend_handles(panels), draw)


def line_figure(charts: Sequence[Chart], title: str, note: str) -> Drawn:
    """Charts side by side, a line of one label in the same colour in all of them; fixed bytes like `drift_figure`."""
    labels = dict.fromkeys(line.label for chart in charts for line in chart.lines if not line.law)
    cycle = [(*look, dashes) for dashes in ("-", "--", ":") for look in (*STYLES.values(), *SPARE_STYLES)]
    styles = {label: cycle[i % len(cycle)] for i, label in enumerate(labels)}

    def style(line: Line) -> dict[str, Any]:
        if line.law:
            return {"color": GREY, "lw": 1.1, "ls": (0, (5, 2.5))}
        colour, marker, dashes = styles[line.label]
        size = 4.0 if len(line.x) < 20 else 2.5
        look = {"color": colour, "marker": marker, "ms": size, "lw": 1.4}
        if line.joined:
            return look | {"ls": dashes}
        return look | {"ls": "none"} | ({} if dashes == "-" else {"mfc": "white"})  # hollow where dashes would tell it apart

    def legend() -> dict[str, Any]:
        from matplotlib.lines import Line2D

        handles: dict[str, Any] = {}
        for chart in charts:
            for line in sorted(chart.lines, key=lambda line: line.law):
                handles.setdefault(line.label, Line2D([], [], **style(line)))
            for level in chart.levels:
                handles.setdefault(level.label, Line2D([], [], **_level_style(level)))
        return handles

    def draw(axes: Axes, i: int, width: float, lowest: bool) -> None:
        chart = charts[i]
        for level in chart.levels:
            axes.axhline(level.value, zorder=1, **_level_style(level))
        for value, told in {level.value: level.told for level in reversed(chart.levels)}.items():
            place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "xytext": (2, 0), "textcoords": "offset points"}
            axes.annotate(told, (1.0, value), va="center", size=FONT_SIZE - 1.5, color=GREY, **place)
        for line in chart.lines:
            bars = [error or 0.0 for error in line.error] if any(line.error) else None
            axes.errorbar(line.x, line.y, yerr=bars, elinewidth=1.1, capsize=2.5, zorder=2 if line.law else 3, **style(line))
        axes.set_xscale("log" if chart.log_x else "linear")
        axes.set_yscale("log" if chart.log_y else "linear")
        if chart.x_label == "epoch":
            from matplotlib.ticker import MaxNLocator

            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
        if chart.ticks:
            axes.set_xticks(chart.ticks, [f"{tick:g}" for tick in chart.ticks])
            axes.minorticks_off()
        axes.set_xlabel(chart.x_label, color=INK)
        _trim(axes, chart.title, chart.y_label)

    return _page(len(charts), title, note, legend, draw)


def bar_figure(charts: Sequence[BarChart], title: str, note: str) -> Drawn:
    """Charts of bars side by side, a bar of one label in the same colour in all of them; fixed bytes as above."""
    labels = dict.fromkeys(bar.label for chart in charts for bar in chart.bars)
    colours = dict(zip(labels, (STYLES["B"][0], SPARE_STYLES[1][0], STYLES["C"][0], SPARE_STYLES[0][0]), strict=False))

    def legend() -> dict[str, Any]:
        from matplotlib.patches import Patch

        return {label: Patch(color=colour) for label, colour in colours.items()}

    def draw(axes: Axes, i: int, width: float, lowest: bool) -> None:
        chart = charts[i]
        height = 0.8 / len(chart.bars)
        for number, bar in enumerate(chart.bars):
            known = [(place, value) for place, value in enumerate(bar.values) if value is not None and math.isfinite(value)]
            places = [place + height * (number - (len(chart.bars) - 1) / 2) for place, _ in known]
            values = [value for _, value in known]
            axes.barh(places, values, height, color=colours[bar.label], zorder=2)
            errors = [bar.error[place] or 0.0 for place, _ in known]
            axes.errorbar(values, places, xerr=errors, fmt="none", ecolor=INK, elinewidth=0.9, capsize=1.5, zorder=3)
        axes.axvline(0.0, color=GREY, lw=0.8, zorder=2)
        axes.set_yticks(range(len(chart.lines)), chart.lines)
        axes.set_ylim(len(chart.lines) - 0.5, -0.5)
        axes.set_xlabel(chart.x_label, color=INK)
        _trim(axes, chart.title, "")
        axes.grid(visible=False, axis="y")
        axes.grid(axis="x", color=FAINT, lw=0.7)

    return _page(len(charts), title, note, legend, draw)


def _page(
    number: int,
    title: str,
    note: str,
    legend: Callable[[], dict[str, Any]],
    draw: Callable[[Axes, int, float, bool], None],
) -> Drawn:
    """`number` axes below a title and above one legend.

    Args:
        legend: Label → handle, called while the settings of matplotlib are ours.
        draw: Fills axes number i, given its width [inch] and whether nothing stands below it.
    """
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = min(number, 4 if number > 6 else 3)
    rows = math.ceil(number / columns)
    width, height = (7.2, 3.6) if number == 1 else (3.7, 2.9)
    with own_style():
        handles = legend()
        entry = max(3.1, 0.065 * max(map(len, handles), default=0) + 0.6)  # [inch] the widest, with its line
        legend_columns = max(1, min(len(handles), int(columns * width / entry)))
        legend_height = 0.19 * math.ceil(len(handles) / legend_columns) + 0.12
        size = (columns * width, rows * height + 0.62 + legend_height)  # [inch]
        figure = new_figure(size)
        below, between = legend_height / size[1], 1.0 - (legend_height + 0.58) / size[1]
        layout = ConstrainedLayoutEngine(rect=(0.0, below, 1.0, between), wspace=0.05, hspace=0.07)
        figure.set_layout_engine(layout)
        for i in range(number):
            axes = figure.add_subplot(rows, columns, i + 1)
            draw(axes, i, width - 0.6, i + columns >= number)
        head(figure, title, note)
        left = 0.12 / size[0]
        figure.legend(
            handles=list(handles.values()),
            labels=list(handles),
            loc="lower left",
            bbox_to_anchor=(left, 0.02 / size[1]),
            borderaxespad=0.0,
            ncols=legend_columns,
            frameon=False,
            fontsize=FONT_SIZE - 0.5,
            labelcolor=INK,
            handlelength=2.6,
        )
        return drawn(figure)


@contextmanager
def own_style() -> Iterator[None]:
    """matplotlib with our settings: the user's matplotlibrc must not change what a picture of ours looks like."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"font.size": FONT_SIZE, "axes.titlesize": FONT_SIZE + 1, "svg.hashsalt": "analog-glue"})
        yield


def new_figure(size: tuple[float, float]) -> Figure:
    """An empty white page of `size` [inch]."""
    # Figure and canvas instead of pyplot: no window, no state shared with the user's own plots.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=160, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def head(figure: Figure, title: str, note: str) -> None:
    """Title and note at the top left; long lines in smaller letters."""
    width, height = figure.get_size_inches()
    left, room = 0.12 / width, width - 0.24
    title_size = min(FONT_SIZE + 2, room / (0.0092 * max(len(title), 1)))
    note_size = min(FONT_SIZE - 1, room / (0.0084 * max(len(note), 1)))
    figure.text(left, 1.0 - 0.10 / height, title, va="top", size=title_size, weight="bold", color=INK)
    figure.text(left, 1.0 - 0.33 / height, note, va="top", size=note_size, color=GREY)


def drawn(figure: Figure) -> Drawn:
    """The figure in both formats, the same bytes whenever it is drawn."""
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi="figure", metadata={"Software": "analog-glue"})
    figure.savefig(svg, format="svg", metadata={"Creator": "analog-glue", "Date": None})  # a date would be other bytes
    return Drawn(png.getvalue(), svg.getvalue())


def styles_of(panel: Panel) -> list[tuple[str, str]]:
    """Colour and marker of each curve: fixed for the first A, B and C, in turn for all others."""
    free, taken, styles = list(SPARE_STYLES), set(), []
    for curve in panel.curves:
        if curve.letter in STYLES and curve.letter not in taken:
            taken.add(curve.letter)
            styles.append(STYLES[curve.letter])
        else:
            styles.append(free[0])
            free.append(free.pop(0))
    return styles


def _legend_handles(panels: Sequence[Panel]) -> dict[str, Any]:
    from matplotlib.lines import Line2D

    handles: dict[str, Any] = {}
    for panel in panels:
        for curve, (colour, marker) in zip(panel.curves, styles_of(panel), strict=True):
            handles.setdefault(curve.label, Line2D([], [], color=colour, marker=marker, ms=5, lw=1.6))
    for panel in panels:
        for level in panel.levels:
            handles.setdefault(level.label, Line2D([], [], **_level_style(level, panel)))
    return handles


def _level_style(level: Level, panel: Panel | None = None) -> dict[str, Any]:
    curves = zip(panel.curves, styles_of(panel), strict=True) if panel else ()
    colour = next((colour for curve, (colour, _) in curves if curve.label == level.like), GREY)
    return {"color": colour, "lw": 1.1, "ls": (0, (1, 1.6)) if level.dotted else (0, (5, 2.5)), "alpha": 0.9}


def _draw(axes: Axes, panel: Panel, width: float) -> None:
    """One task; `width` [inch] of the axes decides how close the labels of the times may stand."""
    for level in panel.levels:
        if math.isfinite(level.value):
            axes.axhline(level.value, zorder=1, **_level_style(level, panel))
    ends = []
    for curve, (colour, marker) in zip(panel.curves, styles_of(panel), strict=True):
        error = [e or 0.0 for e in curve.error]
        axes.errorbar(
            curve.times,
            curve.mean,
            yerr=error,
            color=colour,
            marker=marker,
            ms=4.5,
            lw=1.6,
            elinewidth=1.1,
            capsize=2.5,
            zorder=3,
        )
        if curve.letter and curve.mean and math.isfinite(curve.mean[-1]):
            ends.append((curve.mean[-1], curve.times[-1], curve.letter, colour))
    times = sorted({t for curve in panel.curves for t in curve.times})
    axes.set_xscale("log")
    if times:
        reach = (times[-1] / times[0]) ** 0.07 if len(times) > 1 else 3.0
        axes.set_xlim(times[0] / reach, times[-1] * reach**1.4)  # more room at the right, for the letters
        ticks = times if len(times) <= 6 else [t for t in LANDMARKS if times[0] <= t <= times[-1]]
        first, last = axes.get_xlim()
        axes.set_xticks(ticks, _labels_apart(ticks, width / math.log10(last / first)))
    axes.minorticks_off()
    axes.margins(y=0.10)
    _write_letters(axes, ends)
    _trim(axes, panel.title, panel.score)


def _trim(axes: Axes, title: str, y_label: str) -> None:
    axes.set_title(title, loc="left", color=INK, weight="bold")
    axes.set_ylabel(y_label, color=INK)
    axes.grid(axis="y", color=FAINT, lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, length=3, labelsize=FONT_SIZE - 0.5)


def _labels_apart(ticks: Sequence[float], decade: float) -> list[str]:
    """Labels of the times, every second one lowered where they would touch; `decade` [inch] on paper."""
    labels = [time_label(tick) for tick in ticks]
    lowered = [False] * len(labels)
    for i in range(1, len(labels)):
        room = math.log10(ticks[i] / ticks[i - 1]) * decade  # [inch] between the middles of two labels
        lowered[i] = not lowered[i - 1] and room < 0.036 * len(labels[i - 1] + labels[i]) + 0.06
    return ["\n" + label if low else label for label, low in zip(labels, lowered, strict=True)]


def _write_letters(axes: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """A, B, C beside the last point of their curve, pushed apart where curves end together."""
    low, high = axes.get_ylim()
    spacing, previous = 0.075 * (high - low), -math.inf
    for value, t, letter, colour in sorted(ends):
        previous = max(value, previous + spacing)
        axes.annotate(
            letter,
            (t, previous),
            xytext=(7, 0),
            textcoords="offset points",
            va="center_baseline",
            color=colour,
            weight="bold",
            size=FONT_SIZE + 1.5,
            annotation_clip=False,
        )
