"""Tables and figures of in-situ training, with the numbers of Gokmen (2021) beside ours, from the files of the runs alone."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from analog_glue.in_situ.files import Cells
from analog_glue.in_situ.reports.extraction import altered_weights, array_errors, extractions, weights_table
from analog_glue.in_situ.reports.groups import (
    AXES,
    BASELINE,
    MODELS,
    MOMENTUM,
    READING,
    TEXT,
    Axis,
    Group,
    belongs,
    departures,
    grouped,
    headline,
    name_groups,
    published_lines,
    sources,
    unit,
)
from analog_glue.in_situ.reports.records import TEST_PART, find_array_errors, find_runs
from analog_glue.reports.figures import Chart, Level, Line, line_figure
from analog_glue.reports.grids import (
    ALGORITHMS,
    DEVICES,
    GLUE,
    MISSING,
    NAMES,
    NO_DEVICE,
    Chapter,
    Grid,
    Picture,
    Record,
    Statistic,
    score_cell,
    span,
    summarise,
)

SHORT = "Lines with train_characters or train_images learnt only so much of the training set; the paper's learnt all of it."
LIKE = ", of the same part of the training set"
# Of TTv2 at 1,200 states (docs/in_situ.md, "Settings from a search").
SLOWING = " training.transfer_rate=0.004 training.transfer_decay_every=2"


def chapter(root: Path | str) -> Chapter | None:
    """Everything that the in-situ runs and extractions below `root` show; None where there are none."""
    runs = [run for run in find_runs(root) if run.curve]
    errors = find_array_errors(root)
    if not runs and not errors:
        return None
    made, published = Chapter(), published_lines()
    groups = grouped(runs)
    by_task: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        by_task[group.any.task].append(group)
    texts = by_task.pop(TEXT, [])
    models = [group for group in texts if group.any.device in MODELS]
    plain = [group for group in texts if group.any.device in BASELINE]
    base = [group for group in plain if not departures(group)]
    figure4 = {axis: points for axis in AXES if (points := _points(axis, plain))}
    swept = [group for points in figure4.values() for group in points]
    others = [group for group in texts if group not in [*models, *base, *swept]]
    floating = [group for group in base if group.any.device == NO_DEVICE]
    references = _symmetric(base)

    _curves(made, "figure3", "Figure 3: War and Peace on devices with 1,200 states", base, references, published)
    _sweeps(made, figure4, plain)
    noisy = [*floating, *models] if models else []
    _curves(made, "figure5", "Figure 5: War and Peace on extremely noisy devices", noisy, references, published)
    _curves(made, "war_and_peace-other", "War and Peace, other devices and settings", others, references, [])
    array_errors(made, errors, published)
    weights_table(made, models, floating, published)
    altered_weights(made, "table2", "Table 2: pruning", groups, published)
    altered_weights(made, "table3", "Table 3: perturbed weights", groups, published)
    heads = {task: by_task.pop(task) for task in GLUE if task in by_task}
    _heads(made, heads)
    for task, own in sorted(by_task.items()):
        title = f"{NAMES.get(task, task.replace('_', ' '))}, trained in situ"
        _curves(made, f"in_situ-{task}", title, own, _symmetric(own), [])
    _missing(made, texts, groups, errors)
    made.records["learning_curves.csv"] = _curve_records(groups)
    return made


# --- Figures 3 and 5, MNIST, digits: learning curves -----------------------------------------------------


def _symmetric(groups: Sequence[Group]) -> dict[tuple[object, ...], Group]:
    """Part of the training set → SGD on symmetric devices that learnt it, from which gaps of the others that did are measured.

    Of several the one that learnt longest, then best.
    """
    known = [g for g in groups if (g.any.training, g.any.device) == ("sgd_pulsed", "symmetric_linear")]

    def loss(group: Group) -> float:
        found = group.at(group.last, "train_loss")
        return found.mean if found else math.inf

    best_first = sorted(known, key=lambda group: (-group.last, loss(group)))
    return {group.part: group for group in reversed(best_first)}


def _curves(
    made: Chapter, name: str, title: str, groups: Sequence[Group], references: Mapping[tuple[object, ...], Group],
    published: Sequence[Cells],
) -> None:  # fmt: skip
    """Learning curves, and a table of where they end; `references` (`_symmetric`) are what the gaps are measured from."""
    if not groups:
        return
    name_groups(groups)
    metric = headline(groups[0].any)
    decimals = 3 if metric == "cross_entropy" else 2
    literature = [cells for cells in published if cells["table"] == "curves"]
    ours = [cells for cells in literature if any(belongs(cells["line"], group) for group in groups)]
    floors = [cells for cells in literature if cells["line"] in ("symmetric SGD", "floating point") and cells not in ours]
    others = [other for other in groups[0].any.metrics if other != metric][:1]
    header = ["", "seeds", "epochs", "train loss [nats]", f"test {unit(metric)}", *(f"test {unit(other)}" for other in others)]
    used = {group.part: references[group.part] for group in groups if group.part in references}
    header += ["− symmetric SGD"] if used else []
    header += ["time", *(["published"] if published else [])]
    rows, records = [], []
    for group in groups:
        end = group.last
        score, loss = group.score(metric), group.at(end, "train_loss")
        scored = score.seeds if score else 0
        seeds = str(scored) if scored == len(group.runs) else f"{scored} of {len(group.runs)}"
        hours = max(run.curve[-1]["seconds"] for run in group.runs.values()) / 3600
        cells = [group.label, seeds, group.progress, score_cell(loss, decimals=3)]
        cells.append(score_cell(score, decimals=decimals) + group.mark)
        cells += [score_cell(group.score(other), decimals=3) + group.mark for other in others]
        reference = used.get(group.part)
        gap = _gap(group, reference, metric) if reference else None
        cells += [_gap_cell(gap, group, decimals) if group is not reference else ""] if used else []
        numbers = [c for c in ours if belongs(c["line"], group)]
        cells += [_duration(hours), *([_published_cell(numbers)] if published else [])]
        rows.append(cells)
        records.append(
            {
                "table": name, "task": group.any.task, "device": group.any.device, "training": group.any.training,
                "label": group.label, "epochs": end, "asked_epochs": max(run.epochs for run in group.runs.values()),
                "metric": metric, "mean": score.mean if score else None, "standard_error": score.error if score else None,
                "seeds": scored, "whole_test_set": group.whole(end), "train_loss": loss.mean if loss else None,
                "gap_to_symmetric_sgd": gap.by.mean if gap else None, "gap_at_epoch": gap.epoch if gap else None,
                "hours": hours,
                "published": " ".join(f"{c['value']}@{c['at'] or '?'}" for c in numbers if c["value"]),
            }
        )  # fmt: skip
    for cells in floors:
        rows.append([f"{cells['line']}, published", *[""] * (len(header) - 2), _published_cell([cells])])
    note = "Mean ± standard error over seeds (one seed: none), after the epochs shown. ° on the first part of the test set"
    note += " (values of it do not compare with the whole set and with published ones); where seeds differ in this, of those on"
    note += " the whole set. Time: the longest run."
    if used:
        told = " or ".join(f"{group.label} ({len(group.runs)} seed(s))" for group in used.values())
        note += f" Gaps are from {told} at the same epoch and on the same test set{LIKE if len(used) > 1 else ''}."
    if any(group.short for group in groups):
        note += f" {SHORT}"
    if published:
        note += f" In brackets behind published values: epochs. {sources([*ours, *floors])} {READING}"
    made.parts.append((name, Grid(title, note, header, rows)))
    levels = [
        Level(f"{_published_cell([cells])}: {cells['line']}, published", float(cells["value"]), "", True, cells["value"])
        for cells in [*ours, *(floors if name == "figure5" else [])]
        if cells["value"]
    ]
    levels.sort(key=lambda level: -level.value)
    # Floating point is there to compare with: a long run of it must not squeeze the others.
    until = max((group.last for group in groups if group.any.device != NO_DEVICE), default=groups[0].last)
    lines = [group.line(metric, whole, until) for whole in (False, True) for group in groups]
    charts = [Chart("test", "epoch", unit(metric), lines, levels)]
    losses = [group.line("train_loss", until=until) for group in groups]
    charts.append(Chart("training", "epoch", "train loss [nats]", losses))
    seeds = span([len(group.runs) for group in groups])
    drawn = f"Seeds a curve: {seeds}; single points: the whole test set, lines: the first part of it"
    made.parts.append((name, Picture(title, partial(line_figure, charts, title, drawn))))
    made.records.setdefault("in_situ.csv", []).extend(records)


def _duration(hours: float) -> str:
    return f"{hours:.2f} h" if hours >= 0.1 else f"{3600 * hours:.0f} s"


class Gap(NamedTuple):
    """Group − reference after an epoch, on the whole test set or on the same part of it, paired by seed."""

    epoch: int
    by: Statistic
    whole: bool


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


# --- Figure 4: sweeps --------------------------------------------------------------------------------------


def _points(axis: Axis, groups: Sequence[Group]) -> list[Group]:
    """The groups of an axis, of the devices and algorithms of which one is not at the baseline; none where there is no such."""
    own = [(group, (group.any.device, group.any.training, group.part)) for group in groups if axis.has(group)]
    kinds = {kind for group, kind in own if axis.value(group) != axis.baseline}
    return [group for group, kind in own if kind in kinds]


def _sweeps(made: Chapter, figure4: Mapping[Axis, list[Group]], plain: Sequence[Group]) -> None:
    """Final cross-entropy along each axis, all else the same at all its points."""
    charts, records, shown = [], [], []
    for axis, own in figure4.items():
        key, baseline = axis.key, axis.baseline
        references = _symmetric([group for group in plain if departures(group) == ([axis.zero] if axis.zero else [])])
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
        made.parts.append((f"figure4-{axis.name}", Grid(f"Figure 4: {axis.what}", note, ["", *heads], rows)))
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
        made.parts.append(("figure4", Picture(title, partial(line_figure, charts, title, about))))
        made.records["figure4.csv"] = records


def _sweep_cell(score: Statistic | None, group: Group | None, uneven: bool) -> str:
    if score is None or group is None:
        return MISSING
    return score_cell(score, decimals=3) + group.mark + (f" ({group.last})" if uneven or " of " in group.progress else "")


# --- GLUE heads, and what is missing -----------------------------------------------------------------------


RATE, SCALE = "training.learning_rate", "training.output_scale"  # columns of the heads


def _heads(made: Chapter, by_task: Mapping[str, Sequence[Group]]) -> None:
    """Headline scores of GLUE tasks whose pooler and classifier were trained in situ, a line for each setting."""
    if not by_task:
        return
    groups = [group for own in by_task.values() for group in own]
    name_groups(groups, beside=(RATE, SCALE), across=True)
    lines: dict[tuple[str, str, str], dict[str, Group]] = defaultdict(dict)
    for group in groups:
        settings = [group.setting(RATE), group.setting(SCALE)]
        lines[group.label, *(MISSING if value is None else f"{value:g}" for value in settings)][group.any.task] = group
    rows, records = [], []
    for (label, rate, scale), own in lines.items():
        cells = [label, rate, scale]
        for task in by_task:
            group = own.get(task)
            score = group.score(headline(group.any)) if group else None
            cells.append(score_cell(score) + (f" ({group.progress})" if group else ""))
            if group and score:
                records.append({
                    "label": label, "learning_rate": rate, "output_scale": scale, "task": task, "metric": headline(group.any),
                    "epochs": group.last, "asked_epochs": max(run.epochs for run in group.runs.values()), "mean": score.mean,
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
    made.parts.append(("glue-heads", Grid("GLUE heads trained in situ", note, header, rows)))
    made.records["glue_heads.csv"] = records


def _missing(made: Chapter, texts: Sequence[Group], groups: Sequence[Group], errors: Sequence[Cells]) -> None:
    """A line for every figure and table of the paper that has no data, once one of them has.

    What learnt only a part of the training set is no data of the paper's.
    """
    tasks = {group.any.task for group in groups}
    if not (texts or errors or any(task.startswith("mnist") for task in tasks)):
        return
    texts, groups = ([group for group in own if not group.short] for own in (texts, groups))
    tasks = {group.any.task for group in groups}
    base = {(g.any.device, g.any.training) for g in texts if not departures(g)}
    every = [extraction for group in groups for run in group.runs.values() for extraction in run.extractions]
    noisy = [group for group in texts if group.any.device in MODELS]
    train, extract, folder = "analog-glue train", "analog-glue extract", "checkpoint=<its folder>"
    first = [bool(group.setting(MOMENTUM)) for group in noisy if group.any.device == MODELS[0]]
    wanted: list[tuple[str, bool, str]] = [
        *(
            (f"Figure 3, {DEVICES[device]} {ALGORITHMS[mode]}", (device, mode) in base,
             f"{train} +experiment=gokmen_figure3 training={mode} device={device}{SLOWING if mode == 'ttv2' else ''}")
            for device, mode in (("symmetric_linear", "sgd_pulsed"), ("soft_bounds", "sgd_pulsed"),
                                 ("soft_bounds", "tiki_taka"), ("soft_bounds", "ttv2"))
        ),
        ("Figure 3, floating point", (NO_DEVICE, "sgd_digital") in base,
         f"{train} +experiment=gokmen_figure3 training=sgd_digital"),
        *(
            (f"Figure 4, {axis.what}", bool(_points(axis, texts)), f"{train} -m +experiment=gokmen_figure4{_along(axis)}")
            for axis in AXES
        ),
        *(
            (f"Figure 5, {name} TTv2 on Model-I", kept in first,
             f"{train} +experiment=gokmen_figure5{'' if kept else ' training.momentum=0'}")
            for name, kept in (("hysteretic", True), ("plain", False))
        ),
        ("Figure 6", bool(errors), f"{extract} -m +experiment=gokmen_figure6 extract.inputs=uniform,one_hot seed=0,1,2"),
        *(
            (f"Table 1, {DEVICES[device]}", any(extractions(g) for g in noisy if g.any.device == device),
             f"{train} +experiment=gokmen_table1 device={device}, then {extract} {folder}")
            for device in MODELS
        ),
        ("Table 2", any(e.pruning for e in every),
         f"{train} +experiment=gokmen_table2, then {extract} {folder} extract.prune=[0,0.1,0.2,0.3,0.4]"),
        ("Table 3", any(e.perturbation for e in every),
         f"{train} +experiment=gokmen_table3, then {extract} {folder} extract.perturb=[0.25,0.5,1]"),
        ("MNIST", any(task.startswith("mnist") for task in tasks),
         f"{train} -m +experiment=mnist_in_situ training=sgd_pulsed,tiki_taka,ttv2"),
    ]  # fmt: skip
    made.missing = [f"{what}: {command}" for what, there, command in wanted if not there]


def _along(axis: Axis) -> str:
    """Settings of a command for all points of an axis; Figure 3 has the baseline where it has the rest."""
    values = ",".join(f"{value:g}" for value in axis.values if axis.zero or value != axis.baseline)
    zero = f" {axis.zero}=0" if axis.zero else ""
    mode = SLOWING if axis.training == "ttv2" else f" training={axis.training}"
    return f"{zero} {axis.key}={values}{mode}"


def _curve_records(groups: Sequence[Group]) -> list[Record]:
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
