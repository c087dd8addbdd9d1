"""Tables of extracted weights: Figure 6 and Tables 1 to 3 of Gokmen (2021)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

from analog_glue.in_situ.files import Cells
from analog_glue.in_situ.reports.groups import MOMENTUM, READING, TEXT, Group, belongs, headline, name_groups, sources, unit
from analog_glue.in_situ.reports.records import Extraction
from analog_glue.reports.figures import Chart, Line, line_figure
from analog_glue.reports.grids import (
    ALGORITHMS,
    MISSING,
    NAMES,
    Chapter,
    Grid,
    Picture,
    Statistic,
    in_points,
    score_cell,
    span,
    summarise,
)

PLACES = ("digital", "arrays without bounds", "fresh arrays")
WEIGHTS = ("analog arrays", *(f"{weights}, {place}" for weights in ("extracted", "averaged") for place in PLACES))

WITHOUT_DRAWS = ("analog arrays", "averaged, digital")  # of an extraction: one number of a run, however many found it
# Of Figure 6, as far as it is known (conf/experiment/gokmen_figure6.yaml).
PUBLISHED_ARRAY = {"outputs": "512", "inputs": "512", "weight_std": "0.333333", "w_max": "0.6", "output_noise": "0.06"}


# --- Figure 6 and Table 1: extraction ----------------------------------------------------------------------


def array_errors(made: Chapter, arrays: Sequence[tuple[Cells, list[Cells]]], published: Sequence[Cells]) -> None:
    """Error of extracted weights against the number of products, measured and by the law; a figure for each kind of array."""
    kinds: dict[tuple[tuple[str, str], ...], list[Cells]] = defaultdict(list)
    for chosen, rows in arrays:
        for cells in rows:
            own = chosen | {name: cells[name] for name in ("outputs", "inputs", "output_noise")}
            kinds[tuple(sorted(own.items()))].append(cells)
    paper = next(cells for cells in published if cells["table"] == "figure6")
    for number, (kind, rows) in enumerate(sorted(kinds.items(), key=lambda item: (dict(item[0]) != PUBLISHED_ARRAY, item[0]))):
        chosen = dict(kind)
        lines: dict[tuple[str, str], dict[int, dict[int, Cells]]] = defaultdict(lambda: defaultdict(dict))
        for cells in rows:
            lines[cells["form"], cells.get("amplitude", "")][int(cells["products"])][int(cells["seed"])] = cells
        table, drawn = [], []
        for (form, amplitude), by_products in sorted(lines.items(), reverse=True):
            largest = f" up to ±{float(amplitude):.3g}" if amplitude and form == "uniform" else ""
            label = f"{form.replace('_', '-')} inputs{largest}"
            comparable = (chosen, form, float(amplitude or 1)) == (PUBLISHED_ARRAY, "uniform", 1)
            found = dict(sorted(by_products.items()))
            for n, by_seed in found.items():
                error, estimated, correlation, law = (
                    _column(by_seed, name) for name in ("error", "estimated_error", "correlation", "law")
                )
                table.append([
                    label, f"{n:,}", str(len(by_seed)), score_cell(error, decimals=5), score_cell(estimated, decimals=5),
                    in_points(_mean(law), 5), score_cell(correlation, decimals=4),
                    paper["value"] if comparable and abs(n - int(paper["at"])) < 500 else "",
                ])  # fmt: skip
                made.records.setdefault("figure6.csv", []).append({
                    "size": f"{chosen['outputs']} × {chosen['inputs']}", "output_noise": float(chosen["output_noise"]),
                    "other_settings": _told(chosen), "inputs": form, "amplitude": amplitude, "products": n,
                    "seeds": len(by_seed), "error": _mean(error), "standard_error": error.error if error else None,
                    "estimated_error": _mean(estimated), "law": _mean(law), "correlation": _mean(correlation),
                })  # fmt: skip
            measured = {n: s for n, by_seed in found.items() if (s := _column(by_seed, "error"))}
            means, bars = [s.mean for s in measured.values()], [s.error for s in measured.values()]
            drawn.append(Line(label, list(measured), means, bars, joined=False))
            law = {n: s.mean for n, by_seed in found.items() if (s := _column(by_seed, "law")) and math.isfinite(s.mean)}
            drawn.append(Line("law", list(law), list(law.values()), [], law=True))
        known = chosen == PUBLISHED_ARRAY
        note = (
            "Errors: standard deviations in units of the range [−1, 1] of the weights, ± standard error over arrays (seeds). "
            "Law: √3 sd_y/(a √(N − n − 1)) for N uniform inputs up to ±a into n rows, sd_y/√reads one-hot; a is 1, or the "
            "largest 1/√2, 1/2 … at which no output of the array saturates, unless it was chosen."
            f"{' ' + sources([paper]) if known else ''}"
        )
        name = "figure6" if not number else f"figure6-{number + 1}"
        noise = f"noise of a product {float(chosen['output_noise']):g}"
        title = f"Figure 6: extraction from an array of {chosen['outputs']} × {chosen['inputs']}, {noise}{_told(chosen)}"
        header = ["", "products", "arrays", "error", "estimated from the residuals", "law", "correlation"]
        made.parts.append((name, Grid(title, note, [*header, "published"], table)))
        if known:
            said = f"published: {paper['value']} at about {int(paper['at']):,} products"
            drawn.append(Line(said, [float(paper["at"])], [float(paper["value"])], [None], joined=False))
        label = "standard deviation [range of the weights: ±1]"
        chart = Chart("error of a weight", "products", label, drawn, log_x=True, log_y=True)
        arrays_shown = span([len({cells["seed"] for cells in rows if cells["form"] == form}) for form, _ in lines])
        about = f"Points: measured, arrays (seeds): {arrays_shown}, bars ± 1 standard error; dashed: the law"
        made.parts.append((name, Picture(title, partial(line_figure, [chart], title, about))))


def _told(chosen: Cells) -> str:
    """What a random array has beside its size and noise that the published one has not, in words."""
    told = {name: value for name, value in chosen.items() if name not in ("outputs", "inputs", "output_noise")}
    return "".join(f", {name} {value}" for name, value in sorted(told.items()) if PUBLISHED_ARRAY.get(name) != value)


def _column(by_seed: Mapping[int, Cells], name: str) -> Statistic | None:
    values = {seed: float(cells[name]) for seed, cells in by_seed.items() if cells[name]}
    return summarise({seed: {0: value} for seed, value in values.items()})


def _mean(statistic: Statistic | None) -> float | None:
    return statistic.mean if statistic else None


def weights_table(made: Chapter, models: Sequence[Group], floating: Sequence[Group], published: Sequence[Cells]) -> None:
    """Table 1: test cross-entropy of the arrays, of extracted and of averaged weights, in digital and on fresh arrays."""
    models = [group for group in models if extractions(group)]
    if not models:
        return
    name_groups([*floating, *models])
    literature = [cells for cells in published if cells["table"] == "table1"]
    by_group = [(group, extractions(group)) for group in models]
    epochs = sorted({epoch for _, found in by_group for epoch in found} | {group.last for group in floating})
    rows, records, used = [], [], []

    def add(
        label: str, weights: str, origin: str, scores: Mapping[int, Statistic | None], paper: Sequence[str],
        on_part: Sequence[int] = (),
    ) -> None:  # fmt: skip
        told = (f": {weights}" if weights else "") + (f" ({origin})" if origin else "")
        cells = [score_cell(scores.get(n), decimals=3) + ("°" if n in on_part else "") for n in epochs]
        rows.append([f"{label}{told}", *cells, *paper])
        records.extend(
            {
                "label": label, "weights": weights, "got": origin, "epochs": epoch, "mean": score.mean,
                "standard_error": score.error, "seeds": score.seeds, "extractions": score.chips,
            }
            for epoch, score in scores.items()
            if score and epoch not in on_part
        )  # fmt: skip

    for group, found in by_group:
        named = dict.fromkeys((*WEIGHTS, *(name for own in found.values() for _, e in own for name in e.scores)))
        for name in named:
            paper = [c for c in literature if belongs(c["line"], group) and c["weights"] == name and group.setting(MOMENTUM)]
            used += paper
            values = [next((c["value"] for c in paper if c["at"] == epoch), "") for epoch in ("50", "200")]
            own = {epoch: [(seed, e) for seed, e in every if name in e.scores] for epoch, every in found.items()}
            origins = dict.fromkeys(e.origin(name.partition(",")[0]) for every in own.values() for _, e in every)
            for origin in origins or [""]:
                scores = {epoch: _extracted(every, name, origin) for epoch, every in own.items()}
                add(group.label, name, origin, scores, values)
    (paper,) = (cells for cells in published if cells["table"] == "curves" and cells["line"] == "floating point")
    used.append(paper)
    stated = [f"≈ {paper['value']} (epoch not stated)", ""]
    for group in floating:
        scores = {n: group.score("cross_entropy", n) for n in epochs}
        on_part = [n for n in epochs if n <= group.last and not group.whole(n)]
        paper_here = ["", ""] if group.short else stated
        add(group.label.replace(ALGORITHMS["sgd_digital"], "FP model"), "", "", scores, paper_here, on_part)
    if all(group.short for group in floating):
        rows.append(["FP model", *[MISSING] * len(epochs), *stated])
    note = (
        "Test cross-entropy [nats], whole test set (° its first part), ± standard error over seeds, or over extractions of "
        "one run. Arrays without bounds hold any weight, fresh ones what their own bounds allow. Averaged: over the last "
        "epochs, by regression from products sent while training, or exactly, which only a simulator can. FP: floating point. "
        f"{sources(used)} {READING}"
    )
    header = ["", *(f"{epoch} epochs" for epoch in epochs), "published, 50", "published, 200"]
    made.parts.append(("table1", Grid("Table 1: weights out of the arrays", note, header, rows)))
    made.records["table1.csv"] = records


def extractions(group: Group) -> dict[int, list[tuple[int, Extraction]]]:
    """Epoch → (seed of the run, extraction): of those by equally many products, which most seeds have, the most products."""
    found: dict[int, dict[int, list[tuple[int, Extraction]]]] = defaultdict(lambda: defaultdict(list))
    for seed, extraction in _right_after(group):
        found[extraction.epoch][extraction.products].append((seed, extraction))
    chosen = {epoch: max(own, key=lambda n: (len(dict(own[n])), n)) for epoch, own in sorted(found.items())}
    return {epoch: found[epoch][products] for epoch, products in chosen.items()}


def _right_after(group: Group) -> list[tuple[int, Extraction]]:
    """(Seed of the run, extraction by uniform inputs before anything drifted)."""
    every = [(seed, e) for seed, run in sorted(group.runs.items()) for e in run.extractions]
    return [(seed, e) for seed, e in every if e.inputs == "uniform" and not e.time]


def _extracted(extractions: Sequence[tuple[int, Extraction]], name: str, origin: str) -> Statistic | None:
    """Of weights that were got in this way."""
    by_seed: dict[int, dict[int, float]] = defaultdict(dict)
    for seed, extraction in extractions:
        if extraction.origin(name.partition(",")[0]) == origin and not (name in WITHOUT_DRAWS and by_seed[seed]):
            by_seed[seed][extraction.seed] = extraction.scores[name]["cross_entropy"]
    return summarise(by_seed)


# --- Tables 2 and 3: pruning, perturbation -----------------------------------------------------------------

# table → attribute of an extraction, columns that name a line, column across, what the columns are
ALTERED: dict[str, tuple[str, tuple[str, ...], str, str]] = {
    "table2": ("pruning", ("weights", "criterion"), "fraction", "share of the weights set to zero"),
    "table3": ("perturbation", ("weights", "noise"), "scale", "size of the noise in units of the spread of each weight"),
}


def _altered(group: Group, attribute: str) -> list[tuple[int, Extraction]]:
    """(Seed of the run, extraction) with such scores: of the latest epoch, of every run the one by the most products."""
    known = [(seed, e) for seed, e in _right_after(group) if getattr(e, attribute)]
    latest = max((e.epoch for _, e in known), default=0)
    known.sort(key=lambda item: (item[1].products, -item[1].seed))
    return list({seed: (seed, e) for seed, e in known if e.epoch == latest}.values())


def altered_weights(made: Chapter, table: str, title: str, groups: Sequence[Group], published: Sequence[Cells]) -> None:
    """Scores of extracted weights that were pruned or perturbed, a line for each way and a column for how much."""
    attribute, names, across, what = ALTERED[table]
    scores: dict[tuple[str, ...], dict[float, dict[int, dict[int, float]]]] = defaultdict(lambda: defaultdict(dict))
    own = [group for group in groups if _altered(group, attribute)]
    name_groups(own)
    several_tasks, epochs = len({group.any.task for group in own}) > 1, []
    for group in own:
        metric = headline(group.any)
        for seed, extraction in _altered(group, attribute):
            epochs.append(extraction.epoch)
            for cells in getattr(extraction, attribute):
                if cells["metric"] == metric:
                    origin = extraction.origin(cells["weights"])
                    weights = cells["weights"] + (f" ({origin})" if origin else "")
                    line = (group.any.task, group.label, weights, *(cells[name] for name in names[1:]), metric)
                    by_draw = scores[line][float(cells[across])].setdefault(seed, {})
                    by_draw[int(cells.get("draw") or 0)] = float(cells["value"])
    if not scores:
        return
    values = sorted({value for line in scores.values() for value in line})
    rows, records = [], []
    for line, by_value in sorted(scores.items()):
        found = {value: summarise(by_value.get(value, {})) for value in values}
        decimals = 3 if line[-1] == "cross_entropy" else 2
        task = [NAMES.get(line[0], line[0])] if several_tasks else []
        label = ", ".join([*task, line[1], *(word.replace("_", " ") for word in line[2:-1])])
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
    note = f"Across: {what}. After {span(epochs)} epochs; ± standard error over seeds, or over draws of one run. "
    note += sources(literature)
    made.parts.append((table, Grid(title, note, ["", *(f"{value:g}" for value in values)], rows)))
    made.records[f"{table}.csv"] = records
