"""Tables 2 and 3 of Gokmen (2021): extracted weights, pruned or perturbed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from analog_glue.in_situ.reports.extraction import right_after
from analog_glue.in_situ.reports.groups import TEXT, Group, headline, name_groups, unit
from analog_glue.in_situ.reports.published import sources
from analog_glue.in_situ.reports.records import Extraction
from analog_glue.reports.grids import ANY, NAMES, Chapter, Grid, Record, Sources, score_cell, span
from analog_glue.reports.statistics import summarise
from analog_glue.runs.cells import Cells

# table → attribute of an extraction, columns that name a line, column across, what the columns are
ALTERED: dict[str, tuple[str, tuple[str, ...], str, str]] = {
    "table2": ("pruning", ("weights", "criterion"), "fraction", "share of the weights set to zero"),
    "table3": ("perturbation", ("weights", "noise"), "scale", "size of the noise in units of the spread of each weight"),
}


def _altered(group: Group, attribute: str) -> list[tuple[int, Extraction]]:
    """(Seed of the run, extraction) with such scores: of the latest epoch, of every run the one by the most products."""
    known = [(seed, e) for seed, e in right_after(group) if getattr(e, attribute)]
    latest = max((e.epoch for _, e in known), default=0)
    known.sort(key=lambda item: (item[1].products, -item[1].seed))
    return list({seed: (seed, e) for seed, e in known if e.epoch == latest}.values())


def altered_weights(made: Chapter, table: str, title: str, groups: Sequence[Group], published: Sequence[Cells]) -> None:
    """Scores of extracted weights that were pruned or perturbed, a line for each way and a column for how much."""
    attribute, names, across, what = ALTERED[table]
    scores: dict[tuple[str, ...], dict[float, dict[int, dict[int, float]]]] = defaultdict(lambda: defaultdict(dict))
    own = [group for group in groups if _altered(group, attribute)]
    name_groups(own)
    several_tasks = len({group.any.task for group in own}) > 1
    epochs: list[int] = []
    of_line: dict[tuple[str, ...], Sources] = {}
    for group in own:
        metric = headline(group.any)
        for seed, extraction in _altered(group, attribute):
            epochs.append(extraction.epoch)
            for cells in getattr(extraction, attribute):
                if cells["metric"] == metric:
                    origin = extraction.origin(cells["weights"])
                    weights = cells["weights"] + (f" ({origin})" if origin else "")
                    line = (group.any.task, group.label, weights, *(cells[name] for name in names[1:]), metric)
                    of_line[line] = group.sources
                    by_draw = scores[line][float(cells[across])].setdefault(seed, {})
                    by_draw[int(cells.get("draw") or 0)] = float(cells["value"])
    if not scores:
        return
    values = sorted({value for line in scores.values() for value in line})
    rows: list[list[str]] = []
    records: list[Record] = []
    for line, by_value in sorted(scores.items()):
        found = {value: summarise(by_value.get(value, {})) for value in values}
        decimals = 3 if line[-1] == "cross_entropy" else 2
        task = [NAMES.get(line[0], line[0])] if several_tasks else []
        label = ", ".join([*task, line[1], *(word.replace("_", " ") for word in line[2:-1])])
        rows.append([f"{label} ({unit(line[-1])})", *(score_cell(found[value], decimals=decimals) for value in values)])
        records += [
            {
                "task": line[0], "label": line[1], **dict(zip(names, line[2:-1], strict=True)), across: value,
                "metric": line[-1], "mean": score.mean, "standard_error": score.error, "seeds": score.seeds,
                "draws": score.chips,
            }
            for value, score in found.items()
            if score is not None
        ]  # fmt: skip
    literature = [cells for cells in published if cells["table"] == table and any(group.any.task == TEXT for group in own)]
    for cells in literature:
        if cells["value"]:
            at = [cells["value"] if cells["at"] and float(cells["at"]) == value else "" for value in values]
            lost = "" if cells["at"] else f" {cells['value']} ({cells['note']})"
            rows.append([f"published: {cells['line'].replace('_', ' ')}{lost}", *at])
    note = f"Across: {what}. After {span(epochs)} epochs; ± standard error over seeds, or over draws of one run. "
    note += sources(literature)
    came_from = {(row, ANY): of_line[line] for row, line in enumerate(sorted(scores))}
    made.parts.append((table, Grid(title, note, ["", *(f"{value:g}" for value in values)], rows, sources=came_from)))
    made.records[f"{table}.csv"] = records
