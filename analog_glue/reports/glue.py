"""The eight tasks of GLUE in one table, with the published numbers beside ours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from analog_glue.reports.drift import choice_note
from analog_glue.reports.figures import time_label
from analog_glue.reports.grids import GLUE, NAMES, Grid, Place, Record, Sources, in_points, score_cell
from analog_glue.reports.published import Published, published_lines
from analog_glue.reports.sections import Section, Variant
from analog_glue.reports.statistics import Statistic, repeated_over, summarise
from analog_glue.reports.trainings import Training


def glue_grid(sections: Mapping[str, Section], published: Sequence[Published]) -> Grid:
    """The eight tasks at the last time beside the published numbers; `sections` by task, headline metric."""
    last = max((t for section in sections.values() for t in section.times), default=None)
    rows: list[list[str]] = []
    came_from: dict[Place, Sources] = {}

    def come_from(which: Training | Variant) -> None:
        own = {column: sections[task].sources(which) for column, task in enumerate(GLUE, 1) if task in sections}
        own[len(GLUE) + 1] = frozenset().union(*own.values())
        came_from.update({(len(rows), column): source for column, source in own.items()})

    for variant, t, statistics, changes in _glue_lines(sections):
        if t == last:
            come_from(variant)
            name = f"{variant.letter}: {variant.title}" if variant.letter else variant.title
            rows.append([name, *map(score_cell, statistics)])
            come_from(variant)
            rows.append(["… change from digital", *(score_cell(s, signed=True) for s in changes)])
    for name, scores in (
        ("digital score", {task: section.digital for task, section in sections.items()}),
        ("ideal devices", {task: section.ideal for task, section in sections.items()}),
    ):
        for training in sorted({training for by_training in scores.values() for training in by_training}):
            found = [summarise(scores.get(task, {}).get(training, {})) for task in GLUE]
            come_from(training)
            rows.append([f"{training.title}, {name}", *map(score_cell, _with_average(found))])
    alone = {  # of several networks the one on chips, by training and task
        training: {task: seed for task, section in sections.items() if (seed := section.alone_on_chips(training)) is not None}
        for training in sorted({v.training for section in sections.values() for v in section.cells})
    }
    for training, seeds in alone.items():
        own = {task: summarise({seed: sections[task].digital[training][seed]}) for task, seed in seeds.items()}
        if own:
            cells = map(score_cell, _with_average([own.get(task) for task in GLUE]))
            come_from(training)
            rows.append([f"{training.title}, digital score of the seed on chips", *cells])
    floor = [sections[task].majority if task in sections else None for task in GLUE]
    known = [value for value in floor if value is not None]
    average = sum(known) / len(GLUE) if len(known) == len(GLUE) else None
    rows.append(["always the majority class", *(in_points(value) for value in [*floor, average])])
    sources: list[str] = []
    for line in published_lines(published):
        if line[0].source not in sources:
            sources.append(line[0].source)
        by_task = {number.task: number for number in line}
        texts = [by_task[task].text if task in by_task else "" for task in [*GLUE, "average"]]
        rows.append([f"{line[0].label} [{sources.index(line[0].source) + 1}]", *texts])
    when = f" at {time_label(last)}" if last is not None else ""
    over = repeated_over(section.statistic(v, t) for section in sections.values() for v in section.cells for t in section.times)
    note = f"Mean ± standard error {over}. MRPC: F1, STS-B: Spearman, CoLA: Matthews, MNLI: matched accuracy, "
    note += "the rest: accuracy. The average is the plain mean of the eight"
    if len(sections) < len(GLUE):
        note += f" and takes all of them ({len(sections)} here)"
    note += "."
    for training, seeds in alone.items():
        some = {
            f"{NAMES[task]}, {training.title}": (seed, len(sections[task].digital[training])) for task, seed in seeds.items()
        }
        note += choice_note(some)
    note += " Blank: a published number that could not be recovered. " + " ".join(
        f"[{i}] {source}." for i, source in enumerate(sources, 1)
    )
    header = ["", *(NAMES[task] for task in GLUE), "average"]
    data = [f"{NAMES[task]}: {section.data_title}" for task, section in sections.items() if section.data_title]
    title = next(iter(sections.values())).hardware_title + (f" ({', '.join(data)})" if data else "")
    return Grid(f"GLUE{when}: {title}", note, header, rows, sources=came_from)


def _glue_lines(
    sections: Mapping[str, Section],
) -> list[tuple[Variant, float, list[Statistic | None], list[Statistic | None]]]:
    """(variant, time, scores, changes from digital), the eight tasks and their average in each list."""
    variants = sorted({v for s in sections.values() for v in s.cells}, key=lambda v: (v.letter or "~", v))
    lines = []
    for variant in variants:
        for t in sorted({t for s in sections.values() for t in s.cells.get(variant, {})}):
            found = [sections[task] if task in sections else None for task in GLUE]
            statistics = [section.statistic(variant, t) if section else None for section in found]
            changes = [section.change(variant, t) if section else None for section in found]
            lines.append((variant, t, _with_average(statistics), _with_average(changes)))
    return lines


def _with_average(statistics: list[Statistic | None]) -> list[Statistic | None]:
    """The eight tasks and their plain mean, where all are there."""
    average, tasks = average_of(statistics)
    return [*statistics, average if tasks == len(GLUE) else None]


def average_of(statistics: Sequence[Statistic | None]) -> tuple[Statistic | None, int]:
    """The plain mean of the tasks that are there, and how many these are; errors of tasks add in variance."""
    found = [statistic for statistic in statistics if statistic is not None]
    if not found:
        return None, 0

    def combined(errors: list[float | None]) -> float | None:
        known = [error for error in errors if error is not None]
        return math.sqrt(sum(e * e for e in known)) / len(found) if len(known) == len(found) else None

    average = Statistic(
        mean=sum(s.mean for s in found) / len(found),
        error=combined([s.error for s in found]),
        error_chips=combined([s.error_chips for s in found]),
        chips=min(s.chips for s in found),
        most_chips=max(s.most_chips for s in found),
        seeds=min(s.seeds for s in found),
    )
    return average, len(found)


def change_cells(statistics: Sequence[Statistic | None]) -> list[str]:
    """Changes of the eight tasks, and their average; one over fewer says over how many."""
    average, tasks = average_of(statistics)
    told = f" ({tasks} of {len(GLUE)} tasks)" if 0 < tasks < len(GLUE) else ""
    return [*(score_cell(s, signed=True) for s in statistics), score_cell(average, signed=True) + told]


def glue_records(tables: Iterable[Mapping[str, Section]], published: Sequence[Published]) -> list[Record]:
    """Numbers of `glue_grid` for other programs; `tables`: headline sections of one hardware by task."""
    of_glue = [{task: section for task, section in by_task.items() if task in GLUE} for by_task in tables]
    several_data = any(section.several_data for glue in of_glue for section in glue.values())
    records: list[Record] = []
    columns = [*GLUE.items(), ("average", "headline")]
    for glue in filter(None, of_glue):
        bundle = next(iter(glue.values())).bundle
        for variant, t, statistics, changes in _glue_lines(glue):
            for kind, found in (("score", statistics), ("change", changes)):
                for (task, metric), statistic in zip(columns, found, strict=True):
                    measured: Record = {
                        "origin": "measured",
                        **bundle.columns(section for by_task in of_glue for section in by_task.values()),
                        "label": variant.title,
                        "kind": kind,
                        "t_seconds": t,
                        "task": task,
                        "metric": metric,
                        "value": statistic.mean if statistic else None,
                        "standard_error": statistic.error if statistic else None,
                        "seeds": statistic.seeds if statistic else 0,
                        "chips": statistic.chips if statistic else 0,
                        "source": "",
                    }
                    if several_data:
                        measured["data"] = glue[task].data if task in glue else ""
                    records.append(measured)
    if records:
        blank: Record = dict.fromkeys(records[0])
        for line in published_lines(published):
            for number in line:
                columns_of_both = {name: value for name, value in asdict(number).items() if name in blank}
                records.append({**blank, "origin": "published", **columns_of_both})
    return records
