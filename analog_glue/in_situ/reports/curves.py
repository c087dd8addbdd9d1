"""Learning curves, and where they end: Figures 3 and 5 of Gokmen (2021), MNIST, digits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from analog_glue.in_situ.reports.groups import SHORT, Group, headline, name_groups, unit
from analog_glue.in_situ.reports.published import READING, belongs, sources
from analog_glue.in_situ.reports.records import TEST_PART
from analog_glue.reports.figures import Chart, Level
from analog_glue.reports.grids import ANY, MISSING, NO_DEVICE, Chapter, Grid, Picture, Place, Record, Sources, score_cell, span
from analog_glue.reports.statistics import Statistic, summarise
from analog_glue.runs.cells import Cells

LIKE = ", of the same part of the training set"
References = Mapping[tuple[object, ...], Group]  # part of the training set → SGD on symmetric devices (`symmetric_sgd`)


class Gap(NamedTuple):
    """Group − reference after an epoch, on the whole test set or on the same part of it, paired by seed."""

    epoch: int
    by: Statistic
    whole: bool


def learning_curves(
    made: Chapter, name: str, title: str, groups: Sequence[Group], references: References, published: Sequence[Cells]
) -> None:
    """Learning curves, and a table of where they end; `references` are what the gaps are measured from."""
    if not groups:
        return
    name_groups(groups)
    metric = headline(groups[0].any)
    literature = [cells for cells in published if cells["table"] == "curves"]
    ours = [cells for cells in literature if any(belongs(cells["line"], group) for group in groups)]
    floors = [cells for cells in literature if cells["line"] in ("symmetric SGD", "floating point") and cells not in ours]
    numbers = [[cells for cells in ours if belongs(cells["line"], group)] for group in groups]
    used = {group.part: references[group.part] for group in groups if group.part in references}
    gaps = [_gap(group, used[group.part], metric) if group.part in used else None for group in groups]

    others = [other for other in groups[0].any.metrics if other != metric][:1]
    header = ["", "seeds", "epochs", "train loss [nats]", f"test {unit(metric)}", *(f"test {unit(other)}" for other in others)]
    header += ["− symmetric SGD"] if used else []
    header += ["time", *(["published"] if published else [])]
    rows = []
    for group, gap, found in zip(groups, gaps, numbers, strict=True):
        cells = _end_cells(group, metric, others)
        decimals = _decimals(metric)
        cells += [_gap_cell(gap, group, decimals) if group is not used.get(group.part) else ""] if used else []
        rows.append([*cells, _duration(_hours(group)), *([_published_cell(found)] if published else [])])
    for floor in floors:
        rows.append([f"{floor['line']}, published", *[""] * (len(header) - 2), _published_cell([floor])])
    note = _note(groups, used)
    if published:
        note += f" In brackets behind published values: epochs. {sources([*ours, *floors])} {READING}"
    came_from: dict[Place, Sources] = {(row, ANY): group.sources for row, group in enumerate(groups)}
    if published:
        came_from |= {(row, len(header) - 1): frozenset() for row in range(len(groups))}
    made.parts.append((name, Grid(title, note, header, rows, sources=came_from)))
    levels = [
        Level(f"{_published_cell([cells])}: {cells['line']}, published", float(cells["value"]), "", True, cells["value"])
        for cells in [*ours, *(floors if name == "figure5" else [])]
        if cells["value"]
    ]
    made.parts.append((name, _picture(title, groups, metric, sorted(levels, key=lambda level: -level.value))))
    made.records.setdefault("in_situ.csv", []).extend(
        _end_record(name, group, metric, gap, found) for group, gap, found in zip(groups, gaps, numbers, strict=True)
    )


def _decimals(metric: str) -> int:
    return 3 if metric == "cross_entropy" else 2


def _end_cells(group: Group, metric: str, others: Sequence[str]) -> list[str]:
    """Label, seeds, epochs, train loss, scores."""
    score = group.score(metric)
    scored = score.seeds if score else 0
    seeds = str(scored) if scored == len(group.runs) else f"{scored} of {len(group.runs)}"
    cells = [group.label, seeds, group.progress, score_cell(group.at(group.last, "train_loss"), decimals=3)]
    cells.append(score_cell(score, decimals=_decimals(metric)) + group.mark)
    return [*cells, *(score_cell(group.score(other), decimals=3) + group.mark for other in others)]


def _end_record(table: str, group: Group, metric: str, gap: Gap | None, numbers: Sequence[Cells]) -> Record:
    end, score, loss = group.last, group.score(metric), group.at(group.last, "train_loss")
    return {
        "table": table, "task": group.any.task, "device": group.any.device, "training": group.any.training,
        "label": group.label, "epochs": end, "asked_epochs": max(run.epochs for run in group.runs.values()),
        "metric": metric, "mean": score.mean if score else None, "standard_error": score.error if score else None,
        "seeds": score.seeds if score else 0, "whole_test_set": group.whole(end), "train_loss": loss.mean if loss else None,
        "gap_to_symmetric_sgd": gap.by.mean if gap else None, "gap_at_epoch": gap.epoch if gap else None,
        "hours": _hours(group), "published": " ".join(f"{c['value']}@{c['at'] or '?'}" for c in numbers if c["value"]),
    }  # fmt: skip


def _note(groups: Sequence[Group], used: References) -> str:
    note = "Mean ± standard error over seeds (one seed: none), after the epochs shown. ° on the first part of the test set"
    note += " (values of it do not compare with the whole set and with published ones); where seeds differ in this, of those on"
    note += " the whole set. Time: the longest run."
    if used:
        told = " or ".join(f"{group.label} ({len(group.runs)} seed(s))" for group in used.values())
        note += f" Gaps are from {told} at the same epoch and on the same test set{LIKE if len(used) > 1 else ''}."
    if any(group.short for group in groups):
        note += f" {SHORT}"
    return note


def _picture(title: str, groups: Sequence[Group], metric: str, levels: Sequence[Level]) -> Picture:
    # Floating point is there to compare with: a long run of it must not squeeze the others.
    until = max((group.last for group in groups if group.any.device != NO_DEVICE), default=groups[0].last)
    lines = [group.line(metric, whole, until) for whole in (False, True) for group in groups]
    losses = [group.line("train_loss", until=until) for group in groups]
    charts = [Chart("test", "epoch", unit(metric), lines, levels), Chart("training", "epoch", "train loss [nats]", losses)]
    seeds = span([len(group.runs) for group in groups])
    drawn = f"Seeds a curve: {seeds}; single points: the whole test set, lines: the first part of it"
    return Picture(title, charts, drawn)


def _hours(group: Group) -> float:
    """Of the longest run [h]."""
    return max(run.curve[-1]["seconds"] for run in group.runs.values()) / 3600


def _duration(hours: float) -> str:
    return f"{hours:.2f} h" if hours >= 0.1 else f"{3600 * hours:.0f} s"


def _gap(group: Group, reference: Group, metric: str) -> Gap | None:
    """At the latest epoch at which a seed of both was scored on the same examples."""
    parts = [{k: v for k, v in g.any.settings.items() if k.startswith(TEST_PART)} for g in (group, reference)]
    for epoch in range(min(group.last, reference.last), 0, -1):
        for whole in (True, False) if parts[0] == parts[1] else (True,):
            one, other = group.scores(epoch, metric, whole), reference.scores(epoch, metric, whole)
            if found := summarise({seed: {0: one[seed] - other[seed]} for seed in one.keys() & other.keys()}):
                return Gap(epoch, found, whole)
    return None


def _gap_cell(gap: Gap | None, group: Group, decimals: int) -> str:
    if gap is None:
        return MISSING
    text = score_cell(gap.by, signed=True, decimals=decimals) + ("" if gap.whole else "°")
    return text if gap.epoch == group.last else f"{text} (epoch {gap.epoch})"


def _published_cell(numbers: Iterable[Cells]) -> str:
    """ "1.633 (50), 1.570 (200)"; "≈" where the source says about; empty where the value is lost."""
    return ", ".join(
        f"{'≈ ' if cells['note'].startswith('about') else ''}{cells['value']}" + (f" ({cells['at']})" if cells["at"] else "")
        for cells in numbers
        if cells["value"]
    )


def curve_records(groups: Sequence[Group]) -> list[Record]:
    """Every epoch of every run, for other programs."""
    name_groups(groups)
    return [
        {
            "task": run.task, "device": run.device, "training": run.training, "label": group.label, "seed": run.seed,
            "epoch": int(row["epoch"]), "metric": name, "value": row[name], "whole_test_set": bool(row["whole_test_set"]),
            "seconds": row["seconds"],
        }
        for group in groups
        for run in group.runs.values()
        for row in run.curve
        for name in ("train_loss", *run.metrics)
    ]  # fmt: skip
