"""GLUE tasks whose pooler and classifier were trained in situ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from analog_glue.in_situ.reports.groups import Group, headline, name_groups
from analog_glue.reports.grids import GLUE, MISSING, NAMES, Chapter, Grid, Record, score_cell

RATE, SCALE = "training.learning_rate", "training.output_scale"  # columns of the heads


def heads_table(made: Chapter, by_task: Mapping[str, Sequence[Group]]) -> None:
    """Headline scores of GLUE tasks whose pooler and classifier were trained in situ, a line for each setting."""
    if not by_task:
        return
    groups = [group for own in by_task.values() for group in own]
    name_groups(groups, beside=(RATE, SCALE), across=True)
    lines: dict[tuple[str, str, str], dict[str, Group]] = defaultdict(dict)
    for group in groups:
        lines[group.label, _in_cell(group.setting(RATE)), _in_cell(group.setting(SCALE))][group.any.task] = group
    rows: list[list[str]] = []
    records: list[Record] = []
    for (label, rate, scale), own in lines.items():
        cells = [label, rate, scale]
        for task in by_task:
            if task not in own:
                cells.append(MISSING)
                continue
            known, metric = own[task], headline(own[task].any)
            score = known.score(metric)
            cells.append(f"{score_cell(score)} ({known.progress})")
            if score:
                records.append({
                    "label": label, "learning_rate": rate, "output_scale": scale, "task": task, "metric": metric,
                    "epochs": known.last, "asked_epochs": max(run.epochs for run in known.runs.values()), "mean": score.mean,
                    "standard_error": score.error, "seeds": score.seeds,
                })  # fmt: skip
        rows.append(cells)
    note = (
        "Pooler and classifier on pulsed devices behind the frozen encoder; headline metric of each task [points] on "
        "validation, ± standard error over seeds; in brackets the epoch, and of how many where a run is not at its end. "
        "Scale: weights of the network / weights of the devices. Not part of the paper."
    )
    header = ["", "learning rate", "scale"]
    header += [f"{NAMES.get(task, task.upper())} ({NAMES.get(GLUE[task], GLUE[task])})" for task in by_task]
    sources = {
        (row, column): own[task].sources
        for row, own in enumerate(lines.values())
        for column, task in enumerate(by_task, 3)
        if task in own
    }
    made.parts.append(("glue-heads", Grid("GLUE heads trained in situ", note, header, rows, sources=sources)))
    made.records["glue_heads.csv"] = records


def _in_cell(setting: object) -> str:
    return MISSING if setting is None else f"{setting:g}" if isinstance(setting, float | int) else str(setting)
