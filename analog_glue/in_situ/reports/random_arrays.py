"""Figure 6 of Gokmen (2021): extraction from arrays of random weights."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from analog_glue.in_situ.reports.published import sources
from analog_glue.reports.figures import Chart, Line
from analog_glue.reports.grids import ANY, Chapter, Grid, Picture, Place, Sources, in_points, score_cell, span
from analog_glue.reports.statistics import Statistic, summarise
from analog_glue.runs.cells import Cells

# As far as the published array is known (conf/experiment/gokmen_figure6.yaml).
PUBLISHED_ARRAY = {"outputs": "512", "inputs": "512", "weight_std": "0.333333", "w_max": "0.6", "output_noise": "0.06"}


def array_errors(made: Chapter, arrays: Sequence[tuple[Cells, list[Cells]]], published: Sequence[Cells]) -> None:
    """Error of extracted weights against the number of products, measured and by the law; a figure for each kind of array."""
    kinds: dict[tuple[tuple[str, str], ...], list[Cells]] = defaultdict(list)
    for chosen, rows in arrays:
        for cells in rows:
            own = chosen | {name: cells[name] for name in ("outputs", "inputs", "output_noise")}
            kinds[tuple(sorted(own.items()))].append(cells)
    paper = next(cells for cells in published if cells["table"] == "figure6")
    ordered = sorted(kinds.items(), key=lambda item: (dict(item[0]) != PUBLISHED_ARRAY, item[0]))
    for number, (kind, rows) in enumerate(ordered, 1):
        _kind_of_array(made, "figure6" if number == 1 else f"figure6-{number}", dict(kind), rows, paper)


def _kind_of_array(made: Chapter, name: str, chosen: Cells, rows: Sequence[Cells], paper: Cells) -> None:
    """Table, figure and records of all arrays of the settings `chosen`, a line for each form of inputs."""
    lines: dict[tuple[str, str], dict[int, dict[int, Cells]]] = defaultdict(lambda: defaultdict(dict))
    for cells in rows:
        lines[cells["form"], cells.get("amplitude", "")][int(cells["products"])][int(cells["seed"])] = cells
    table: list[list[str]] = []
    came_from: dict[Place, Sources] = {}
    drawn: list[Line] = []
    for (form, amplitude), by_products in sorted(lines.items(), reverse=True):
        largest = f" up to ±{float(amplitude):.3g}" if amplitude and form == "uniform" else ""
        label = f"{form.replace('_', '-')} inputs{largest}"
        comparable = (chosen, form, float(amplitude or 1)) == (PUBLISHED_ARRAY, "uniform", 1)
        errors: dict[int, Statistic] = {}
        laws: dict[int, float] = {}
        for n, by_seed in sorted(by_products.items()):
            error, estimated, correlation, law = (
                _column(by_seed, name) for name in ("error", "estimated_error", "correlation", "law")
            )
            came_from[len(table), ANY] = frozenset((cells["run"], "") for cells in by_seed.values())
            came_from[len(table), 7] = frozenset()  # what is published
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
            if error:
                errors[n] = error
            if law and math.isfinite(law.mean):
                laws[n] = law.mean
        means, bars = [s.mean for s in errors.values()], [s.error for s in errors.values()]
        drawn.append(Line(label, list(errors), means, bars, joined=False))
        drawn.append(Line("law", list(laws), list(laws.values()), [], law=True))
    known = chosen == PUBLISHED_ARRAY
    note = (
        "Errors: standard deviations in units of the range [−1, 1] of the weights, ± standard error over arrays (seeds). "
        "Law: √3 sd_y/(a √(N − n − 1)) for N uniform inputs up to ±a into n rows, sd_y/√reads one-hot; a is 1, or the "
        "largest 1/√2, 1/2 … at which no output of the array saturates, unless it was chosen."
        f"{' ' + sources([paper]) if known else ''}"
    )
    noise = f"noise of a product {float(chosen['output_noise']):g}"
    title = f"Figure 6: extraction from an array of {chosen['outputs']} × {chosen['inputs']}, {noise}{_told(chosen)}"
    header = ["", "products", "arrays", "error", "estimated from the residuals", "law", "correlation", "published"]
    made.parts.append((name, Grid(title, note, header, table, sources=came_from)))
    if known:
        said = f"published: {paper['value']} at about {int(paper['at']):,} products"
        drawn.append(Line(said, [float(paper["at"])], [float(paper["value"])], [None], joined=False))
    label = "standard deviation [range of the weights: ±1]"
    chart = Chart("error of a weight", "products", label, drawn, log_x=True, log_y=True)
    arrays_shown = span([len({cells["seed"] for cells in rows if cells["form"] == form}) for form, _ in lines])
    about = f"Points: measured, arrays (seeds): {arrays_shown}, bars ± 1 standard error; dashed: the law"
    made.parts.append((name, Picture(title, [chart], about)))


def _told(chosen: Cells) -> str:
    """What a random array has beside its size and noise that the published one has not, in words."""
    told = {name: value for name, value in chosen.items() if name not in ("outputs", "inputs", "output_noise")}
    return "".join(f", {name} {value}" for name, value in sorted(told.items()) if PUBLISHED_ARRAY.get(name) != value)


def _column(by_seed: Mapping[int, Cells], name: str) -> Statistic | None:
    values = {seed: float(cells[name]) for seed, cells in by_seed.items() if cells[name]}
    return summarise({seed: {0: value} for seed, value in values.items()})


def _mean(statistic: Statistic | None) -> float | None:
    return statistic.mean if statistic else None
