"""Pictures for a browser: the same numbers that `figures` draws, as specifications of Vega-Lite.

Field names and expressions are ours; names that come from runs stand among the data alone, where nothing is executed. What a
number k in the data is called stands once in `labels`; the page puts the name beside it, as l.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from analog_glue.reports.figures import GREY, LANDMARKS, SPARE_STYLES, STYLES, BarChart, Chart, Panel, styles_of, time_label
from analog_glue.reports.grids import Picture

Spec = dict[str, Any]
SHAPES = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "triangle-right",
}
DASHES = ([1, 0], [5, 3], [2, 2])  # of curves, once the colours are used up
OF_LAW, OF_FLOOR = [6, 3], [1, 2]


@dataclass(frozen=True)
class Key:
    """One entry of a legend. `shape` empty: a line without points; `dash` empty: points without a line."""

    label: str
    colour: str
    dash: tuple[int, ...]
    shape: str


@dataclass(frozen=True)
class Drawing:
    """A picture for the page: its charts side by side, and one legend for all."""

    title: str
    note: str
    charts: list[tuple[str, Spec]]  # heading, specification
    keys: list[Key]


def drawing(picture: Picture) -> Drawing:
    """Titles and keys as in the files of `tables`."""
    keys: dict[str, Key] = {}
    charts: list[tuple[str, Spec]] = []
    cycle = _looks(picture.charts)
    for chart in picture.charts:
        if isinstance(chart, BarChart):
            charts.append((chart.title, _bars(chart, keys)))
        elif isinstance(chart, Panel):
            charts.append((chart.title, _panel(chart, keys)))
        else:
            charts.append((chart.title, _chart(chart, keys, cycle)))
    return Drawing(picture.title, picture.note, charts, list(keys.values()))


def _looks(charts: Sequence[Any]) -> dict[str, Key]:
    """Of lines over anything: one label looks the same in all charts."""
    labels = dict.fromkeys(line.label for chart in charts if isinstance(chart, Chart) for line in chart.lines if not line.law)
    cycle = [(*look, dash) for dash in DASHES for look in (*STYLES.values(), *SPARE_STYLES)]
    return {
        label: Key(label, colour, tuple(dash), SHAPES[marker])
        for label, (colour, marker, dash) in zip(labels, (cycle[i % len(cycle)] for i in range(len(labels))), strict=True)
    }


def _points(
    key: int, x: Sequence[float], y: Sequence[float], error: Sequence[float | None], at: Sequence[str], unit: str
) -> Iterator[dict[str, Any]]:
    """Finite points of curve number `key`, with what is said of each; `error` may be shorter where there is none."""
    bars = [*error, *[None] * (len(x) - len(error))]
    for one, value, bar, told in zip(x, y, bars, at, strict=True):
        if math.isfinite(value):
            width = bar if bar is not None and math.isfinite(bar) else None
            said = f"{value:.4g}" + (f" ± {width:.2g}" if width is not None else "") + f" {unit}"
            point = {"k": key, "x": one, "y": value, "at": told, "said": said}
            yield point | ({"lo": value - width, "hi": value + width} if width is not None else {})


def _panel(panel: Panel, keys: dict[str, Key]) -> Spec:
    shown: dict[str, Key] = {}
    points: list[dict[str, Any]] = []
    unit = panel.score
    for curve, (colour, marker) in zip(panel.curves, styles_of(panel), strict=True):
        shown[curve.label] = Key(curve.label, colour, (1, 0), SHAPES[marker])
        at = [time_label(t) for t in curve.times]
        points += _points(list(shown).index(curve.label), curve.times, curve.mean, curve.error, at, unit)
    colours = {label: key.colour for label, key in shown.items()}
    for level in panel.levels:
        dash = OF_FLOOR if level.dotted else OF_LAW
        shown.setdefault(level.label, Key(level.label, colours.get(level.like, GREY), tuple(dash), ""))
    times = sorted({t for curve in panel.curves for t in curve.times})
    ticks = times if len(times) <= 6 else [t for t in LANDMARKS if times[0] <= t <= times[-1]]
    labels = " : ".join(f"datum.value == {t!r} ? '{time_label(t)}'" for t in ticks)
    axis = {"values": ticks, "labelExpr": f"{labels} : ''" if labels else "''", "title": "time since programming"}
    keys |= shown
    levels = [(level.label, level.value) for level in panel.levels]
    return _lines(points, levels, shown, axis, {"type": "log"}, panel.score, {"type": "linear", "zero": False}, "after")


def _chart(chart: Chart, keys: dict[str, Key], cycle: dict[str, Key]) -> Spec:
    shown: dict[str, Key] = {}
    points: list[dict[str, Any]] = []
    for line in chart.lines:
        look = Key(line.label, GREY, tuple(OF_LAW), "") if line.law else cycle[line.label]
        joined = line.joined or (line.label in shown and bool(shown[line.label].dash))
        shown[line.label] = look if joined else replace(look, dash=())
        at = [f"{x:g}" for x in line.x]
        found = _points(list(shown).index(line.label), line.x, line.y, line.error, at, chart.y_label)
        points += found if line.joined else ({**point, "single": True} for point in found)
    for level in chart.levels:
        shown.setdefault(level.label, Key(level.label, GREY, tuple(OF_FLOOR if level.dotted else OF_LAW), ""))
    axis: Spec = {"title": chart.x_label}
    if chart.ticks:
        axis["values"] = list(chart.ticks)
    elif chart.x_label == "epoch":
        axis["tickMinStep"] = 1
    keys |= shown
    levels = [(level.label, level.value) for level in chart.levels]
    x_scale = {"type": "log"} if chart.log_x else {"type": "linear", "zero": False}
    y_scale = {"type": "log"} if chart.log_y else {"type": "linear", "zero": False}
    return _lines(points, levels, shown, axis, x_scale, chart.y_label, y_scale, chart.x_label)


def _lines(
    points: list[dict[str, Any]],
    levels: Sequence[tuple[str, float]],
    shown: dict[str, Key],
    axis: Spec,
    x_scale: Spec,
    y_label: str,
    y_scale: Spec,
    x_name: str,
) -> Spec:
    """Curves with error bars and what is said of a point where the pointer is, above horizontal levels."""
    order, keys = list(shown), shown.values()
    colour = _by_label("color", [key.colour for key in keys])
    dash = _by_label("strokeDash", [list(key.dash) or [1, 0] for key in keys])
    shape = _by_label("shape", [key.shape or "circle" for key in keys])
    x = {"field": "x", "type": "quantitative", "scale": x_scale, "axis": axis}
    y = {"field": "y", "type": "quantitative", "scale": y_scale, "title": y_label}
    tooltip = [{"field": "l", "title": "curve"}, {"field": "at", "title": x_name}, {"field": "said", "title": "score"}]
    without = [number for number, key in enumerate(keys) if not key.shape]
    floors = [
        {"k": order.index(label), "y": value, "said": f"{value:.4g} {y_label}"}
        for label, value in levels
        if math.isfinite(value)
    ]
    layers: list[tuple[object, Spec]] = [
        (
            floors,
            {
                "data": {"values": floors},
                "mark": {"type": "rule", "strokeWidth": 1.3},
                "encoding": {"y": y, **colour, **dash, "tooltip": [tooltip[0], tooltip[2]]},
            },
        ),
        (
            [point for point in points if "single" not in point],
            {
                "transform": [{"filter": {"not": {"field": "single", "valid": True}}}],
                "mark": {"type": "line", "strokeWidth": 2},
                "encoding": {"x": x, "y": y, **colour, **dash},
            },
        ),
        (
            [point for point in points if "hi" in point],
            {
                "transform": [{"filter": {"field": "hi", "valid": True}}],
                "mark": {"type": "rule", "strokeWidth": 1.4},
                "encoding": {"x": x, "y": y | {"field": "lo"}, "y2": {"field": "hi"}, **colour},
            },
        ),
        (
            [point for point in points if point["k"] not in without],
            {
                "transform": [{"filter": {"not": {"field": "k", "oneOf": without}}}],
                "mark": {"type": "point", "filled": True, "opacity": 1, "size": 55},
                "encoding": {"x": x, "y": y, **colour, **shape, "tooltip": tooltip},
            },
        ),
    ]
    drawn = [layer for shown_by, layer in layers if shown_by]
    return {"height": 230, "labels": order, "data": {"values": points}, "layer": drawn}


def _by_label(channel: str, values: list[Any]) -> Spec:
    """One value of a channel for every label, by its number."""
    scale = {"domain": list(range(len(values))), "range": values}
    return {channel: {"field": "k", "type": "nominal", "scale": scale, "legend": None}}


def _bars(chart: BarChart, keys: dict[str, Key]) -> Spec:
    colours = (STYLES["B"][0], SPARE_STYLES[1][0], STYLES["C"][0], SPARE_STYLES[0][0])
    values: list[dict[str, Any]] = []
    for number, (bar, colour) in enumerate(zip(chart.bars, colours, strict=False)):
        keys.setdefault(bar.label, Key(bar.label, colour, (1, 0), ""))
        for line, value, error in zip(chart.lines, bar.values, bar.error, strict=True):
            if value is not None and math.isfinite(value):
                said = f"{value:.3g}" + (f" ± {error:.2g}" if error is not None else "") + f" {chart.x_label}"
                ends = {"lo": value - error, "hi": value + error} if error is not None else {}
                values.append({"k": number, "line": line, "y": value, "said": said, **ends})
    order = [bar.label for bar in chart.bars]
    x = {"field": "y", "type": "quantitative", "title": chart.x_label}
    place = {
        "y": {"field": "line", "type": "nominal", "sort": list(chart.lines), "title": None},
        "yOffset": {"field": "k", "type": "nominal", "sort": list(range(len(order)))},
    }
    of_bar = _by_label("color", list(colours[: len(order)]))
    tooltip = [{"field": "l", "title": "curve"}, {"field": "line", "title": "of"}, {"field": "said", "title": "points"}]
    return {
        "height": 14 * len(chart.lines) * len(order) + 20,
        "labels": order,
        "data": {"values": values},
        "layer": [
            {"mark": "bar", "encoding": {**place, "x": x, **of_bar, "tooltip": tooltip}},
            {
                "transform": [{"filter": {"field": "hi", "valid": True}}],
                "mark": {"type": "rule", "strokeWidth": 1.2},
                "encoding": {**place, "x": x | {"field": "lo"}, "x2": {"field": "hi"}},
            },
        ],
    }
