"""Tables and figures of in-situ training, with the numbers of Gokmen (2021) beside ours, from the files of the runs alone."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from analog_glue.in_situ.reports.altered import altered_weights
from analog_glue.in_situ.reports.curves import curve_records, learning_curves
from analog_glue.in_situ.reports.extraction import weights_table
from analog_glue.in_situ.reports.groups import AXES, BASELINE, MODELS, TEXT, Group, departures, grouped, symmetric_sgd
from analog_glue.in_situ.reports.heads import heads_table
from analog_glue.in_situ.reports.missing import missing
from analog_glue.in_situ.reports.published import published_lines
from analog_glue.in_situ.reports.random_arrays import array_errors
from analog_glue.in_situ.reports.records import find_array_errors, find_runs
from analog_glue.in_situ.reports.sweeps import axis_sweeps
from analog_glue.reports.grids import GLUE, NAMES, NO_DEVICE, Chapter


def chapter(root: Path | str, left_out: list[str] | None = None) -> Chapter | None:
    """Everything that the in-situ runs and extractions below `root` show; None where there are none.

    Args:
        left_out: Takes the runs whose files cannot be read, and why; None: the first of them is raised.
    """
    runs = [run for run in find_runs(root, left_out) if run.curve]
    errors = find_array_errors(root, left_out)
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
    figure4 = {axis: points for axis in AXES if (points := axis.points(plain))}
    swept = [group for points in figure4.values() for group in points]
    others = [group for group in texts if group not in [*models, *base, *swept]]
    floating = [group for group in base if group.any.device == NO_DEVICE]
    references = symmetric_sgd(base)

    learning_curves(made, "figure3", "Figure 3: War and Peace on devices with 1,200 states", base, references, published)
    axis_sweeps(made, figure4, plain)
    noisy = [*floating, *models] if models else []
    learning_curves(made, "figure5", "Figure 5: War and Peace on extremely noisy devices", noisy, references, published)
    learning_curves(made, "war_and_peace-other", "War and Peace, other devices and settings", others, references, [])
    array_errors(made, errors, published)
    weights_table(made, models, floating, published)
    altered_weights(made, "table2", "Table 2: pruning", groups, published)
    altered_weights(made, "table3", "Table 3: perturbed weights", groups, published)
    heads = {task: by_task.pop(task) for task in GLUE if task in by_task}
    heads_table(made, heads)
    for task, own in sorted(by_task.items()):
        title = f"{NAMES.get(task, task.replace('_', ' '))}, trained in situ"
        learning_curves(made, f"in_situ-{task}", title, own, symmetric_sgd(own), [])
    made.missing = missing(texts, groups, bool(errors))
    made.records["learning_curves.csv"] = curve_records(groups)
    return made
