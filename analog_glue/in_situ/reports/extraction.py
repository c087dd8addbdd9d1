"""Table 1 of Gokmen (2021): scores of weights read out of the arrays, in digital and on fresh arrays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from analog_glue.in_situ.reports.groups import MOMENTUM, Group, name_groups
from analog_glue.in_situ.reports.published import READING, belongs, sources
from analog_glue.in_situ.reports.records import Extraction
from analog_glue.reports.grids import ALGORITHMS, ANY, MISSING, Chapter, Grid, Place, Record, Sources, score_cell
from analog_glue.reports.statistics import Statistic, summarise
from analog_glue.runs.cells import Cells

PLACES = ("digital", "arrays without bounds", "fresh arrays")
WEIGHTS = ("analog arrays", *(f"{weights}, {place}" for weights in ("extracted", "averaged") for place in PLACES))
WITHOUT_DRAWS = ("analog arrays", "averaged, digital")  # of an extraction: one number of a run, however many found it


def weights_table(made: Chapter, models: Sequence[Group], floating: Sequence[Group], published: Sequence[Cells]) -> None:
    """Table 1: test cross-entropy of the arrays, of extracted and of averaged weights, in digital and on fresh arrays."""
    models = [group for group in models if extractions(group)]
    if not models:
        return
    name_groups([*floating, *models])
    literature = [cells for cells in published if cells["table"] == "table1"]
    by_group = [(group, extractions(group)) for group in models]
    epochs = sorted({epoch for _, found in by_group for epoch in found} | {group.last for group in floating})
    rows: list[list[str]] = []
    records: list[Record] = []
    used: list[Cells] = []
    came_from: dict[Place, Sources] = {}

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
                came_from[len(rows), ANY] = group.sources
                add(group.label, name, origin, scores, values)
    (floor,) = (cells for cells in published if cells["table"] == "curves" and cells["line"] == "floating point")
    used.append(floor)
    stated = [f"≈ {floor['value']} (epoch not stated)", ""]
    for group in floating:
        scores = {n: group.score("cross_entropy", n) for n in epochs}
        on_part = [n for n in epochs if n <= group.last and not group.whole(n)]
        paper_here = ["", ""] if group.short else stated
        came_from[len(rows), ANY] = group.sources
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
    came_from |= {(row, len(header) - last): frozenset() for row in range(len(rows)) for last in (1, 2)}
    made.parts.append(("table1", Grid("Table 1: weights out of the arrays", note, header, rows, sources=came_from)))
    made.records["table1.csv"] = records


def extractions(group: Group) -> dict[int, list[tuple[int, Extraction]]]:
    """Epoch → (seed of the run, extraction): of those by equally many products, which most seeds have, the most products."""
    found: dict[int, dict[int, list[tuple[int, Extraction]]]] = defaultdict(lambda: defaultdict(list))
    for seed, extraction in right_after(group):
        found[extraction.epoch][extraction.products].append((seed, extraction))
    chosen = {epoch: max(own, key=lambda n: (len(dict(own[n])), n)) for epoch, own in sorted(found.items())}
    return {epoch: found[epoch][products] for epoch, products in chosen.items()}


def right_after(group: Group) -> list[tuple[int, Extraction]]:
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
