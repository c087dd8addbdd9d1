"""Figure 6 of Spoon et al. (2021): what chips of two qualities lose against the digital networks, over the tasks of GLUE.

Hardware-aware training, drift compensated (curve C). γ scales programming and read noise of the chips alone: 1 is noise=pcm,
0.5 noise=pcm_reduced; the paper applies 0.5 "during inference" (Sec. 3.1), so both are measured on the same networks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from analog_glue.reports.drift import figure_note
from analog_glue.reports.figures import Curve, Level, Panel, time_label
from analog_glue.reports.glue import average_of, change_cells
from analog_glue.reports.grids import GLUE, NAMES, Chapter, Grid, Picture, Record
from analog_glue.reports.missing import how_often, most_chips, train_command
from analog_glue.reports.published import Published
from analog_glue.reports.sections import Section, Variant, pivot
from analog_glue.reports.statistics import Statistic, repeated_over
from analog_glue.runs.identity import Payload
from analog_glue.runs.rows import Measurement

GAMMAS = {"pcm": "1", "pcm_reduced": "0.5"}  # option of `noise` → γ
PUBLISHED = {"spoon2021_change": "1", "spoon2021_change_half": "0.5"}  # line of published.csv → γ
MONTH = 2_592_000.0  # [s]


class Line(NamedTuple):
    """Chips of one γ under networks of one training."""

    noise: str
    hardware: str  # what tells it and its data from others of the same names
    variant: Variant

    @property
    def title(self) -> str:
        apart = ", ".join(filter(None, [self.variant.training.recipe, self.hardware]))
        return f"γ = {GAMMAS[self.noise]}" + (f" [{apart}]" if apart else "")


def figure6(rows: Sequence[Measurement], settings: Mapping[str, Payload] | None, published: Sequence[Published]) -> Chapter:
    """For every model and tile that hardware-aware networks of a GLUE task were put on PCM with: table, picture, records.

    Args:
        settings: Of the trainings, by the name of the run, to say what trainings of one name differ in.
        published: Numbers of the literature.
    """
    made = Chapter()
    # Pivoted by themselves: networks that were trained with integer attention are not what these are told apart from.
    own = [row for row in rows if row.task in GLUE and row.training == "hardware_aware" and row.attention == "fp32"]
    by_names: dict[tuple[str, str], list[Section]] = defaultdict(list)
    for section in pivot(own, settings)[0]:
        if section.headline and section.bundle.noise in GAMMAS and _compensated(section):
            by_names[section.bundle.model, section.bundle.tile].append(section)
    records: list[Record] = []
    for (model, tile), found in by_names.items():
        lines = _lines(found)
        name, title = (
            f"spoon2021_figure6-{model}-{tile}",
            f"Figure 6: change from digital, {model} on {tile}, hardware-aware, compensated",
        )
        made.parts.append((name, _grid(title, lines, found, published)))
        made.parts.append((name, Picture(title, _panels(lines, published), figure_note(found))))
        made.missing += _missing(lines, found, own)
        records += _records(model, tile, lines)
    if records:
        blank = dict.fromkeys(records[0])
        for number in published:
            if number.line in PUBLISHED:
                its = {name: value for name, value in vars(number).items() if name in blank}
                records.append({**blank, **its, "origin": "published", "gamma": PUBLISHED[number.line]})
        made.records["spoon2021_figure6.csv"] = records
    return made


def _compensated(section: Section) -> list[Variant]:
    return [variant for variant in section.variants if variant.compensated]


def _lines(sections: Iterable[Section]) -> dict[Line, dict[str, Section]]:
    """Lines by γ from 1 down, each with its sections by task."""
    lines: dict[Line, dict[str, Section]] = defaultdict(dict)
    for section in sections:
        for variant in _compensated(section):
            apart = ", ".join(filter(None, [section.hardware, section.data_title]))
            lines[Line(section.bundle.noise, apart, variant)][section.score.task] = section
    return dict(sorted(lines.items(), key=lambda item: (list(GAMMAS).index(item[0].noise), item[0])))


def _changes(line: Line, sections: Mapping[str, Section], t: float) -> list[Statistic | None]:
    return [sections[task].change(line.variant, t) if task in sections else None for task in GLUE]


def _times(sections: Mapping[str, Section], variant: Variant) -> list[float]:
    return sorted({t for section in sections.values() for t in section.cells.get(variant, {})})


def _grid(
    title: str, lines: Mapping[Line, Mapping[str, Section]], over: Sequence[Section], published: Sequence[Published]
) -> Grid:
    rows = [
        [f"{line.title}, {time_label(t)}", *change_cells(_changes(line, sections, t))]
        for line, sections in lines.items()
        for t in _times(sections, line.variant)
    ]
    places = [(line, sections) for line, sections in lines.items() for _ in _times(sections, line.variant)]
    measured = {
        (row, column): sections[task].sources(line.variant)
        for row, (line, sections) in enumerate(places)
        for column, task in enumerate(GLUE, 1)
        if task in sections
    }
    sources = []
    for name, gamma in PUBLISHED.items():
        numbers = {number.task: number for number in published if number.line == name}
        sources += [number.source for number in numbers.values()]
        rows.append([f"Spoon 2021: γ = {gamma}, 1 month", *(numbers[task].text for task in [*GLUE, "average"])])
    errors = repeated_over(section.statistic(v, t) for section in over for v in _compensated(section) for t in section.times)
    note = (
        f"Score on chips minus the digital score of the same networks [points], mean ± standard error {errors}. An average "
        f"over fewer than the eight tasks says so. Published changes are to a baseline that could not be recovered; blank: nor "
        f"could these. Source: {'; '.join(dict.fromkeys(sources))}."
    )
    return Grid(title, note, ["", *(NAMES[task] for task in GLUE), "average"], rows, sources=measured)


def _panels(lines: Mapping[Line, Mapping[str, Section]], published: Sequence[Published]) -> list[Panel]:
    """One axes for each task that was measured, and one for the average of all."""
    measured = [task for task in GLUE if any(task in sections for sections in lines.values())]
    panels = []
    for task in [*measured, "average"]:
        curves = []
        for line, sections in lines.items():
            found = {}
            for t in _times(sections, line.variant):
                changes = dict(zip(GLUE, _changes(line, sections, t), strict=True))
                found[t] = average_of(list(changes.values()))[0] if task == "average" else changes[task]
            points = {t: s for t, s in found.items() if s is not None}  # none: the curve still keeps its colour
            mean, error = [s.mean for s in points.values()], [s.error for s in points.values()]
            curves.append(Curve(line.title, "", list(points), mean, error))
        for name, gamma in PUBLISHED.items():
            known = [n for n in published if (n.line, n.task) == (name, task) and n.value is not None]
            mean = [number.value for number in known if number.value is not None]
            curves.append(Curve(f"Spoon 2021, γ = {gamma}", "", [MONTH] * len(mean), mean, [None] * len(mean)))
        title = NAMES.get(task, "Average" if len(measured) == len(GLUE) else f"Average of {len(measured)} of {len(GLUE)} tasks")
        panels.append(Panel(title, "change from digital [points]", curves, [Level("digital score", 0.0, dotted=True)]))
    return panels


def _records(model: str, tile: str, lines: Mapping[Line, Mapping[str, Section]]) -> list[Record]:
    records: list[Record] = []
    for line, sections in lines.items():
        for t in _times(sections, line.variant):
            changes = _changes(line, sections, t)
            average, tasks = average_of(changes)
            for task, statistic in zip([*GLUE, "average"], [*changes, average], strict=True):
                records.append(
                    {
                        "origin": "measured",
                        "model": model,
                        "tile": tile,
                        "gamma": GAMMAS[line.noise],
                        "apart": ", ".join(filter(None, [line.variant.training.recipe, line.hardware])),
                        "t_seconds": t,
                        "task": task,
                        "tasks": tasks if task == "average" else int(statistic is not None),
                        "value": statistic.mean if statistic else None,
                        "standard_error": statistic.error if statistic else None,
                        "seeds": statistic.seeds if statistic else 0,
                        "chips": statistic.chips if statistic else 0,
                        "source": "",
                    }
                )
    return records


def _missing(lines: Mapping[Line, Mapping[str, Section]], over: Sequence[Section], rows: Sequence[Measurement]) -> list[str]:
    """Cells that no row fills, by γ, each with the command that measures them."""
    bundle = over[0].bundle
    seeds = sorted({seed for s in over for v in _compensated(s) for at in s.cells[v].values() for seed in at})
    times = tuple(sorted({t for section in over for t in section.times}))
    more = how_often(max(map(most_chips, over)), times)
    trained: dict[str, set[str]] = defaultdict(set)  # runs on chips, by task
    for row in rows:
        if row.stage == "chip" and (row.model, row.tile) == (bundle.model, bundle.tile):
            trained[row.task].add(row.run)
    said = []
    for noise, gamma in GAMMAS.items():
        there = {task for line, sections in lines.items() if line.noise == noise for task in sections}
        lacking = [task for task in GLUE if task not in there]
        runs = sorted(run for task in lacking for run in trained[task])
        untrained = [task for task in lacking if not trained[task]]
        hardware = f"noise={noise} tile={bundle.tile}"
        if runs:
            several = " -m" if len(runs) > 1 else ""
            checkpoints = ",".join(f"outputs/{run}" for run in runs)
            words = [f"analog-glue evaluate{several} checkpoint={checkpoints} {hardware}", *more]
            cells = ", ".join(NAMES[task] for task in lacking if trained[task])
            said.append(f"Figure 6, γ = {gamma}, {cells}: `{' '.join(words)}`")
        if untrained:
            cells = ", ".join(NAMES[task] for task in untrained)
            if noise == "pcm":
                command = " ".join([train_command(untrained, bundle._replace(noise=noise), "hardware_aware", seeds), *more])
                said.append(f"Figure 6, γ = {gamma}, {cells}: `{command}`")
            else:
                said.append(
                    f"Figure 6, γ = {gamma}, {cells}: `analog-glue evaluate checkpoint=… {hardware}`, of the runs above"
                )
    return said
