"""Figure 8 of Spoon et al. (2021): what integer attention costs on chips after a month, over the tasks of GLUE.

Hardware-aware training, drift compensated (curve C), the linear layers on PCM in every case. A line is a precision of attention
whose scales are either `learned` (the network was trained with that attention) or `calibrated` (set after training: the network
of the float32 line itself). The change is to attention in float32 on the same chips, paired by training seed and chip.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from analog_glue.reports.figures import Chart, Level, time_label
from analog_glue.reports.figures import Line as Drawing
from analog_glue.reports.glue import average_of, change_cells
from analog_glue.reports.grids import GLUE, NAMES, Chapter, Grid, Picture, Record, score_cell
from analog_glue.reports.missing import attention_words, how_often, most_chips, train_command
from analog_glue.reports.sections import Section, Variant, difference_of, pivot
from analog_glue.reports.statistics import Statistic, repeated_over
from analog_glue.runs.identity import Payload, differences
from analog_glue.runs.rows import Measurement

ORIGINS = {"learned": "retrained", "calibrated": "post-training"}  # `attention_scales` → in words
PRECISIONS = ("int10", "int8", "int6")  # of the paper
SOURCE = "Spoon et al., Front. Comput. Neurosci. 15, 675741 (2021), Sec. 3.2 and Fig. 8"


class Line(NamedTuple):
    """One precision of attention in networks of one training."""

    attention: str  # "int8", "int8 smooth"
    scales: str  # learned | calibrated | "" (of floats)
    variant: Variant

    @property
    def title(self) -> str:
        apart = [ORIGINS.get(self.scales, self.scales), self.variant.training.recipe]
        return ", ".join(filter(None, [self.attention.upper(), *apart]))

    @property
    def bits(self) -> int:
        """Of its integers; 0 for floats."""
        name = self.attention.split()[0]
        return int(name.removeprefix("int")) if name.startswith("int") else 0


Table = dict[Line, dict[str, Section]]  # line → task → section


def figure8(rows: Sequence[Measurement], settings: Mapping[str, Payload] | None = None) -> Chapter:
    """For every model, device and tile that was scored with another attention than float32: table, picture, records.

    Args:
        settings: Of the trainings, by the name of the run, to say what trainings of one name differ in.
    """
    made = Chapter()
    by_names: dict[tuple[str, str, str], list[Measurement]] = defaultdict(list)
    for row in rows:
        if row.task in GLUE and row.headline and row.training == "hardware_aware" and not row.ablation:
            by_names[row.model, row.noise, row.tile].append(row)
    for names, own in by_names.items():
        if all(row.attention == "fp32" for row in own if row.stage == "chip"):
            continue
        lines, remarks = _lines(own, settings)
        if not lines:
            continue
        model, noise, tile = names
        t = max(t for by_task in lines.values() for section in by_task.values() for t in section.times)
        remarks = [*remarks, *_unlike(lines, own, settings or {})]
        name = f"spoon2021_figure8-{model}-{noise}-{tile}"
        title = f"Figure 8: attention after {time_label(t)}, {model}, {noise} on {tile}, hardware-aware, compensated"
        grid = _grid(title, lines, t, remarks)
        made.parts += [(name, grid), (name, _picture(lines, t, title))]
        made.missing += _missing(lines, own)
        made.records.setdefault("spoon2021_figure8.csv", []).extend(_records(names, lines, t))
    return made


def _lines(rows: Sequence[Measurement], settings: Mapping[str, Payload] | None) -> tuple[Table, list[str]]:
    """Every line with its sections by task, and remarks on rows that have no place.

    Each attention and origin of its scales is pivoted by itself, so that the attention a network was trained with is not what
    tells its training apart: trainings that are alike otherwise have the same name and are paired.
    """
    apart: dict[tuple[str, str], list[Measurement]] = defaultdict(list)
    for row in rows:
        if row.stage == "chip":
            apart[row.attention, row.attention_scales].append(row)
    lines: Table = defaultdict(dict)
    remarks = []
    for (attention, scales), own in apart.items():
        for section in pivot(own, settings)[0]:
            for variant in section.variants:
                task = section.score.task
                line = Line(attention, scales, variant)
                if not variant.compensated:
                    continue
                if task in lines[line]:
                    remarks.append(
                        f"{NAMES[task]}, {line.title}: several hardwares or data of the same names, the first is shown"
                    )
                    continue
                lines[line][task] = section
    known = sorted((line for line in lines if lines[line]), key=lambda line: (line.scales, -(line.bits or 64), line))
    return {line: lines[line] for line in known}, sorted(set(remarks))


def _unlike(lines: Table, rows: Sequence[Measurement], settings: Mapping[str, Payload]) -> list[str]:
    """Lines whose networks were trained otherwise than those they are compared with, in more than their attention."""
    runs: dict[tuple[str, str, str], set[str]] = defaultdict(set)  # with known settings, by task, attention and origin
    for row in rows:
        if row.stage == "chip" and row.run in settings:
            runs[row.task, row.attention, row.attention_scales].add(row.run)
    remarks = []
    for line, by_task in lines.items():
        keys = {
            one.key
            for task in by_task
            for run in runs[task, line.attention, line.scales]
            for other in runs[task, "fp32", ""]
            if settings[run].get("seed") == settings[other].get("seed")
            for one in differences(settings[run], settings[other])
            if line.attention != "fp32" and not one.key.startswith("attention") and one.key != "seed"
        }
        if keys:
            remarks.append(f"{line.title} was also trained with another {', '.join(sorted(keys))} than FP32")
    return remarks


def _reference(line: Line, lines: Table) -> dict[str, Section]:
    return lines.get(Line("fp32", "", line.variant), {})


def _changes(line: Line, lines: Table, t: float) -> list[Statistic | None]:
    """To float32, on the chips of the seeds that both have."""
    ours, theirs = lines[line], _reference(line, lines)
    return [
        difference_of(ours[task].chips(line.variant, t), theirs[task].chips(line.variant, t))
        if task in ours and task in theirs
        else None
        for task in GLUE
    ]


def _grid(title: str, lines: Table, t: float, remarks: Sequence[str]) -> Grid:
    rows = []
    for line in lines:
        if line.attention == "fp32":
            scores = [lines[line][task].statistic(line.variant, t) if task in lines[line] else None for task in GLUE]
            average, tasks = average_of(scores)
            told = f" ({tasks} of {len(GLUE)} tasks)" if tasks < len(GLUE) else ""
            rows.append([f"{line.title}, score", *map(score_cell, scores), score_cell(average) + told])
    shown = [line for line in lines if line.attention != "fp32"]
    changes = {line: _changes(line, lines, t) for line in shown}
    rows += [[f"{line.title}, change", *change_cells(changes[line])] for line in shown]
    rows += [[f"Spoon 2021: {name.upper()}, retrained, change", *[""] * (len(GLUE) + 1)] for name in PRECISIONS]
    note = (
        f"Change from attention in float32 [points], paired by training seed and chip, mean ± standard error "
        f"{repeated_over(s for line in shown for s in changes[line])}. An average over fewer than the eight tasks says so. "
        "Published: the table could not be recovered (blank); the text says that SST-2, QNLI, QQP and MNLI change by nothing "
        f"significant at γ = 1 after a month, and that small tasks and the average are sometimes better. Source: {SOURCE}."
    )
    note += "".join(f" {remark}." for remark in remarks)
    order = [line for line in lines if line.attention == "fp32"] + shown
    sources = {
        (row, column): lines[line][task].sources(line.variant)
        for row, line in enumerate(order)
        for column, task in enumerate(GLUE, 1)
        if task in lines[line]
    }
    return Grid(title, note, ["", *(NAMES[task] for task in GLUE), "average"], rows, sources=sources)


def _picture(lines: Table, t: float, title: str) -> Picture:
    """One axes for each task that was measured and one for the average, change over the bits of the integers."""
    drawn: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line.bits:
            drawn[line.title.replace(line.attention.upper(), " ".join(line.attention.split()[1:])).strip(", ")].append(line)
    changes = {line: dict(zip(GLUE, _changes(line, lines, t), strict=True)) for own in drawn.values() for line in own}
    measured = [task for task in GLUE if any(by_task[task] is not None for by_task in changes.values())]
    name = "Average" if len(measured) == len(GLUE) else f"Average of {len(measured)} of {len(GLUE)} tasks"
    charts = []
    for task in [*measured, "average"]:
        curves = []
        for label, own in drawn.items():
            found = {
                line.bits: average_of(list(changes[line].values()))[0] if task == "average" else changes[line][task]
                for line in sorted(own, key=lambda line: line.bits)
            }
            points = {bits: s for bits, s in found.items() if s is not None}
            curves.append(Drawing(label, list(points), [s.mean for s in points.values()], [s.error for s in points.values()]))
        level = Level("attention in float32", 0.0, dotted=True)
        ticks = sorted({line.bits for line in changes})
        label = "change from float32 [points]"
        charts.append(Chart(NAMES.get(task, name), "attention [bits]", label, curves, [level], ticks=ticks))
    over = repeated_over(s for by_task in changes.values() for s in by_task.values())
    return Picture(title, charts, f"Bars: ± 1 standard error {over}, of differences on the same chips")


def _records(names: tuple[str, str, str], lines: Table, t: float) -> list[Record]:
    model, noise, tile = names
    records: list[Record] = []
    for line in lines:
        changes = _changes(line, lines, t)
        scores = [lines[line][task].statistic(line.variant, t) if task in lines[line] else None for task in GLUE]
        for kind, found in (("score", scores), ("change", changes)):
            if kind == "change" and line.attention == "fp32":
                continue
            average, tasks = average_of(found)
            for task, statistic in zip([*GLUE, "average"], [*found, average], strict=True):
                records.append(
                    {
                        "origin": "measured",
                        "model": model,
                        "noise": noise,
                        "tile": tile,
                        "attention": line.attention,
                        "attention_scales": line.scales,
                        "recipe": line.variant.training.recipe,
                        "kind": kind,
                        "t_seconds": t,
                        "task": task,
                        "tasks": tasks if task == "average" else int(statistic is not None),
                        "value": statistic.mean if statistic else None,
                        "standard_error": statistic.error if statistic else None,
                        "seeds": statistic.seeds if statistic else 0,
                        "chips": statistic.chips if statistic else 0,
                    }
                )
    return records


def _missing(lines: Table, rows: Sequence[Measurement]) -> list[str]:
    """What the paper has and no row fills, each with the command that measures it."""
    sections = [section for by_task in lines.values() for section in by_task.values()]
    bundle = sections[0].bundle._replace(attention="fp32")
    on_chips = [row for row in rows if row.stage == "chip"]
    seeds = sorted({row.seed for row in on_chips})
    times = tuple(sorted({t for section in sections for t in section.times}))
    more = how_often(max(map(most_chips, sections)), times)
    runs: dict[str, set[str]] = defaultdict(set)  # trained and scored with attention in float32, by task
    for row in on_chips:
        if row.attention == "fp32":
            runs[row.task].add(row.run)
    said = []
    for attention, scales in (("fp32", ""), *((name, origin) for origin in ORIGINS for name in PRECISIONS)):
        there = {task for line in lines if line[:2] == (attention, scales) for task in lines[line]}
        lacking = [task for task in GLUE if task not in there]
        if scales == "calibrated":  # networks that are there; the others are those of the float32 line above
            lacking = [task for task in lacking if runs[task]]
            trained = sorted(run for task in lacking for run in runs[task])
            words = ["analog-glue evaluate" + (" -m" if len(trained) > 1 else "")]
            words += [f"checkpoint={','.join(f'outputs/{run}' for run in trained)} noise={bundle.noise} tile={bundle.tile}"]
            words += attention_words(attention)
        elif lacking:
            words = [train_command(lacking, bundle._replace(attention=attention), "hardware_aware", seeds)]
        if lacking:
            cells = ", ".join(filter(None, [attention.upper(), ORIGINS.get(scales), *(NAMES[task] for task in lacking)]))
            said.append(f"Figure 8, {cells}: `{' '.join([*words, *more])}`")
    return said
