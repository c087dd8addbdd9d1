"""Tables of extracted weights: Figure 6 and Tables 1 to 3 of Gokmen (2021)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from analog_glue.reports.figures import Chart, Level, Line, line_figure
from analog_glue.reports.grids import Chapter, Grid, Picture, Statistic, score_cell, span, summarise
from analog_glue.reports.groups import MOMENTUM, READING, TEXT, Group, belongs, headline, name_groups, sources, unit
from analog_glue.reports.records import Cells, Extraction

PLACES = ("digital", "arrays without bounds", "fresh arrays")
WEIGHTS = ("analog arrays", *(f"{weights}, {place}" for weights in ("extracted", "averaged") for place in PLACES))


# --- Figure 6 and Table 1: extraction ----------------------------------------------------------------------


def array_errors(made: Chapter, rows: Sequence[Cells], published: Sequence[Cells]) -> None:
    """Error of extracted weights against the number of products, measured and by the law."""
    arrays: dict[tuple[str, str], dict[tuple[str, int], dict[int, Cells]]] = defaultdict(lambda: defaultdict(dict))
    for cells in rows:
        size = f"{cells['outputs']} × {cells['inputs']}"
        arrays[size, cells["output_noise"]][cells["form"], int(cells["products"])][int(cells["seed"])] = cells
    for number, ((size, noise), points) in enumerate(sorted(arrays.items())):
        name = "figure6" if not number else f"figure6-{number + 1}"
        title = f"Figure 6: extraction from an array of {size}, noise of a product {float(noise):g}"
        value = next(cells["value"] for cells in published if cells["table"] == "figure6")
        table, lines = [], []
        for form in sorted({form for form, _ in points}, reverse=True):
            found = {count: by_seed for (own, count), by_seed in sorted(points.items()) if own == form}
            measured = {n: _column(by_seed, "error") for n, by_seed in found.items()}
            law = {n: float(next(iter(by_seed.values()))["law"]) for n, by_seed in found.items()}
            for n, by_seed in found.items():
                estimated, correlation = _column(by_seed, "estimated_error"), _column(by_seed, "correlation")
                near = value if form == "uniform" and abs(n - 10_000) < 500 else ""
                table.append([
                    f"{form.replace('_', '-')} inputs", f"{n:,}", str(len(by_seed)), score_cell(measured[n], decimals=5),
                    score_cell(estimated, decimals=5), f"{law[n]:.5f}", score_cell(correlation, decimals=4), near,
                ])  # fmt: skip
                made.records.setdefault("figure6.csv", []).append({
                    "size": size, "output_noise": float(noise), "inputs": form, "products": n, "seeds": len(by_seed),
                    "error": _mean(measured[n]), "standard_error": measured[n].error if measured[n] else None,
                    "estimated_error": _mean(estimated), "law": law[n], "correlation": _mean(correlation),
                })  # fmt: skip
            known = {n: s for n, s in measured.items() if s is not None}
            label = f"{form.replace('_', '-')} inputs"
            means, bars = [s.mean for s in known.values()], [s.error for s in known.values()]
            lines.append(Line(label, list(known), means, bars, joined=False))
            finite = {n: value for n, value in law.items() if math.isfinite(value)}
            lines.append(Line(f"law, {label}", list(finite), list(finite.values()), [], law=True))
        note = (
            "Errors: standard deviations in units of the range [−1, 1] of the weights, ± standard error over arrays (seeds). "
            "Law: √3 sd_y/√(N − n − 1) for N uniform inputs into n rows, sd_y/√reads one-hot. "
            f"{sources(cells for cells in published if cells['table'] == 'figure6')}"
        )
        header = ["", "products", "arrays", "error", "estimated from the residuals", "law", "correlation", "published"]
        made.parts.append((name, Grid(title, note, header, table)))
        level = Level(f"published at about 10,000 products: {value}", float(value), dotted=True)
        chart = Chart("error of a weight", "products", "standard deviation / range ±1", lines, [level], log_x=True, log_y=True)
        drawn = line_figure([chart], title, "Points: measured on the simulated array; dashed: the law")
        made.parts.append((name, Picture(title, drawn)))


def _column(by_seed: Mapping[int, Cells], name: str) -> Statistic | None:
    values = {seed: float(cells[name]) for seed, cells in by_seed.items() if cells[name]}
    return summarise({seed: {0: value} for seed, value in values.items()})


def _mean(statistic: Statistic | None) -> float | None:
    return statistic.mean if statistic else None


def weights_table(made: Chapter, models: Sequence[Group], published: Sequence[Cells]) -> None:
    """Table 1: test cross-entropy of the arrays, of extracted and of averaged weights, in digital and on fresh arrays."""
    models = [group for group in models if extractions(group)]
    if not models:
        return
    name_groups(models)
    literature = [cells for cells in published if cells["table"] == "table1"]
    found = {group.label: extractions(group) for group in models}
    epochs = sorted({epoch for by_epoch in found.values() for epoch in by_epoch})
    header = ["", *(f"{epoch} epochs" for epoch in epochs), "published, 50", "published, 200"]
    rows, records, used = [], [], []
    for group in models:
        products = sorted({e.products for by_epoch in found[group.label].values() for _, e in by_epoch})
        told = f" ({span(products)} products)" if products else ""
        for name in WEIGHTS:
            cells = [f"{group.label}: {name}{told if name.startswith('extracted') else ''}"]
            for epoch in epochs:
                score = _extracted(found[group.label].get(epoch, []), name)
                cells.append(score_cell(score, decimals=3))
                records.append({
                    "label": group.label, "weights": name, "epochs": epoch, "mean": _mean(score),
                    "standard_error": score.error if score else None, "seeds": score.seeds if score else 0,
                    "extractions": score.chips if score else 0,
                })  # fmt: skip
            paper = [c for c in literature if belongs(c["line"], group) and c["weights"] == name and group.setting(MOMENTUM)]
            used += paper
            cells += [next((c["value"] for c in paper if c["at"] == epoch), "") for epoch in ("50", "200")]
            rows.append(cells)
    note = (
        "Test cross-entropy [nats], whole test set, ± standard error over seeds, or over extractions of one run. "
        "Arrays without bounds hold any weight, fresh ones what their own bounds allow. "
        f"Floating point: about 1.325 (published). {sources(used)} {READING}"
    )
    made.parts.append(("table1", Grid("Table 1: weights out of the arrays", note, header, rows)))
    made.records["table1.csv"] = records


def extractions(group: Group) -> dict[int, list[tuple[int, Extraction]]]:
    """Epoch → (seed of the run, extraction) right after training by uniform inputs, those with the most products."""
    found: dict[int, list[tuple[int, Extraction]]] = defaultdict(list)
    for seed, run in sorted(group.runs.items()):
        for epoch in sorted({e.epoch for e in run.extractions}):
            own = [e for e in run.extractions if e.epoch == epoch and e.inputs == "uniform" and not e.time]
            most = max((e.products for e in own), default=0)
            found[epoch] += [(seed, e) for e in own if e.products == most]
    return {epoch: own for epoch, own in found.items() if own}


def _extracted(extractions: Sequence[tuple[int, Extraction]], name: str, metric: str = "cross_entropy") -> Statistic | None:
    by_seed: dict[int, dict[int, float]] = defaultdict(dict)
    for seed, extraction in extractions:
        if metric in extraction.scores.get(name, {}):
            by_seed[seed][extraction.seed] = extraction.scores[name][metric]
    return summarise(by_seed)


# --- Tables 2 and 3: pruning, perturbation -----------------------------------------------------------------

# table → attribute of an extraction, columns that name a line, column across, what the columns are
ALTERED: dict[str, tuple[str, tuple[str, ...], str, str]] = {
    "table2": ("pruning", ("weights", "criterion"), "fraction", "share of the weights set to zero"),
    "table3": ("perturbation", ("weights", "noise"), "scale", "size of the noise in units of the spread of each weight"),
}


def _altered(group: Group, attribute: str) -> list[tuple[int, Extraction]]:
    """(Seed of the run, extraction) with such scores: of every run one, of its latest epoch."""
    known = {epoch: [(seed, e) for seed, e in own if getattr(e, attribute)] for epoch, own in extractions(group).items()}
    latest = max((epoch for epoch, own in known.items() if own), default=0)
    return list({seed: (seed, e) for seed, e in reversed(known.get(latest, []))}.values())


def altered_weights(made: Chapter, table: str, title: str, groups: Sequence[Group], published: Sequence[Cells]) -> None:
    """Scores of extracted weights that were pruned or perturbed, a line for each way and a column for how much."""
    attribute, names, across, what = ALTERED[table]
    scores: dict[tuple[str, ...], dict[float, dict[int, dict[int, float]]]] = defaultdict(lambda: defaultdict(dict))
    own = [group for group in groups if any(getattr(e, attribute) for run in group.runs.values() for e in run.extractions)]
    name_groups(own)
    for group in own:
        metric = headline(group.any)
        for seed, extraction in _altered(group, attribute):
            for cells in getattr(extraction, attribute):
                if cells["metric"] == metric:
                    line = (group.any.task, group.label, *(cells[name] for name in names), metric)
                    by_draw = scores[line][float(cells[across])].setdefault(seed, {})
                    by_draw[int(cells.get("draw") or 0)] = float(cells["value"])
    if not scores:
        return
    values = sorted({value for line in scores.values() for value in line})
    rows, records = [], []
    for line, by_value in sorted(scores.items()):
        found = {value: summarise(by_value.get(value, {})) for value in values}
        decimals = 3 if line[-1] == "cross_entropy" else 2
        label = ", ".join([line[1], *(word.replace("_", " ") for word in line[2:-1])])
        rows.append([f"{label} ({unit(line[-1])})", *(score_cell(found[value], decimals=decimals) for value in values)])
        records += [
            {
                "task": line[0], "label": line[1], **dict(zip(names, line[2:-1], strict=True)), across: value,
                "metric": line[-1], "mean": _mean(score), "standard_error": score.error, "seeds": score.seeds,
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
    note = f"Across: {what}. ± standard error over seeds, or over draws of one run. {sources(literature)}"
    made.parts.append((table, Grid(title, note, ["", *(f"{value:g}" for value in values)], rows)))
    made.records[f"{table}.csv"] = records
