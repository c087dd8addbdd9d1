"""Figure 4 of Gokmen (2021): the final score against states and noise, all else the same at all points."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from analog_glue.in_situ.reports.groups import SHORT, Axis, Group, departures, name_groups, symmetric_sgd
from analog_glue.reports.figures import Chart, Level, Line
from analog_glue.reports.grids import MISSING, Chapter, Grid, Picture, Record, score_cell, span
from analog_glue.reports.statistics import Statistic


def axis_sweeps(made: Chapter, figure4: Mapping[Axis, list[Group]], plain: Sequence[Group]) -> None:
    """Final cross-entropy along each axis, all else the same at all its points."""
    charts: list[Chart] = []
    records: list[Record] = []
    shown: list[Group] = []
    for axis, own in figure4.items():
        key, baseline = axis.key, axis.baseline
        references = symmetric_sgd([group for group in plain if departures(group) == ([axis.zero] if axis.zero else [])])
        name_groups(own, beside=[key, axis.zero or key])
        shown += own
        lines: dict[str, dict[float, Group]] = defaultdict(dict)
        for group in own:
            lines[group.label][axis.value(group)] = group
        values = sorted({*axis.values, *(value for points in lines.values() for value in points)})
        bound = float(str(own[0].setting("device.w_max") or 0.6))
        heads = [f"{2 * bound / v:,.0f} states" if key == "device.dw_min" else f"{v:g}" for v in values]
        uneven = len({group.last for group in own}) > 1
        told = "" if uneven else f", after {own[0].last} epoch(s)"
        rows, drawn = [], []
        for name, points in sorted(lines.items()):
            scores = {value: group.score("cross_entropy") for value, group in sorted(points.items())}
            rows.append([name, *(_sweep_cell(scores.get(value), points.get(value), uneven) for value in values)])
            known = {value: s for value, s in scores.items() if s is not None}
            like: dict[tuple[int, str], dict[float, Statistic]] = defaultdict(dict)  # epoch, part of the test set
            for value, s in known.items():
                group = points[value]
                like[group.last, group.mark][2 * bound / value if key == "device.dw_min" else value] = s
            drawn += [Line(name, list(p), [s.mean for s in p.values()], [s.error for s in p.values()]) for p in like.values()]
            records += [
                {
                    "setting": key, "value": value, "line": name, "epochs": points[value].last, "mean": s.mean,
                    "standard_error": s.error, "seeds": s.seeds, "whole_test_set": points[value].whole(points[value].last),
                }
                for value, s in known.items()
            ]  # fmt: skip
        zero = f" {axis.zero}=0 at all points, since an ADC needs the noise as dither;" if axis.zero else ""
        note = (
            f"Test cross-entropy [nats] ± standard error over seeds{told}; in brackets the epoch where runs differ in it or go "
            f"on; ° on the first part of the test set. {key};{zero} the rest as in Figure 3 (baseline {baseline:g}). The "
            "paper's values and curves are lost; it claims tens of states instead of thousands, about 100 times the update "
            "noise, 10 times that of products, and that Tiki-Taka closes its gap with a tenth of the noise of its reads."
        )
        if any(group.short for group in own):
            note += f" {SHORT}"
        came_from = {
            (row, column): points[value].sources
            for row, (_, points) in enumerate(sorted(lines.items()))
            for column, value in enumerate(values, 1)
            if value in points
        }
        grid = Grid(f"Figure 4: {axis.what}", note, ["", *heads], rows, sources=came_from)
        made.parts.append((f"figure4-{axis.name}", grid))
        levels = [
            Level(f"{reference.label}, epoch {reference.last}{reference.mark}", score.mean)
            for part, reference in references.items()
            if part in {group.part for group in own} and (score := reference.score("cross_entropy"))
        ]
        charts.append(Chart(axis.what, axis.what, "cross-entropy [nats]", drawn, levels, log_x=True))
    if charts:
        title = "Figure 4: War and Peace against states and noise"
        epochs, seeds = span([group.last for group in shown]), span([len(group.runs) for group in shown])
        about = f"Epochs: {epochs}, seeds: {seeds} a point; lines join points of the same epoch and part of the test set"
        made.parts.append(("figure4", Picture(title, charts, about)))
        made.records["figure4.csv"] = records


def _sweep_cell(score: Statistic | None, group: Group | None, uneven: bool) -> str:
    if score is None or group is None:
        return MISSING
    return score_cell(score, decimals=3) + group.mark + (f" ({group.last})" if uneven or " of " in group.progress else "")
