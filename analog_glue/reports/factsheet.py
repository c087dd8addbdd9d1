"""The content of a FactSheet as plain data: what a network on its tiles is, takes and scores, under the headings of IBM's.

A `FactSheet` is a tree of dataclasses without behaviour, from which `factsheet_pages.py` writes documents and from which a
model card can be written. What is not known is a `Fact` that says so and why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analog_glue.costs.estimate import Costs, Estimate, Workload
from analog_glue.costs.operations import KINDS, PRODUCTS
from analog_glue.costs.sourced import Amount
from analog_glue.reports.drift import drift_grid
from analog_glue.reports.figures import time_label
from analog_glue.reports.grids import NAMES, Grid
from analog_glue.reports.reprogramming import Verdict, verdict
from analog_glue.reports.sections import Section as Scores
from analog_glue.reports.sections import Variant, devices_of
from analog_glue.reports.statistics import summarise

if TYPE_CHECKING:
    from analog_glue.nn.hardware import Hardware

UNKNOWN = "unknown"
HOLDS = {True: "yes", False: "no", None: UNKNOWN}
ANY_TIME = "Mean of chips"  # whose last time may come after failures


@dataclass(frozen=True)
class Fact:
    """One thing that the sheet says.

    Args:
        name: Of what.
        text: As it is read: "109.5 million", "0.19395 ms", "unknown".
        value: The number or word behind it; None where it is unknown or the text is all there is; a band is [low, high].
        unit: Of `value`.
        origin: computed | given | scaled | measured | configuration | unknown.
        source: Where it comes from; of an unknown fact, why.
    """

    name: str
    text: str
    value: Any = None
    unit: str = ""
    origin: str = "configuration"
    source: str = ""


@dataclass(frozen=True)
class Part:
    """What stands under one heading; parts of it have headings of their own."""

    key: str  # stable name
    heading: str
    text: Sequence[str] = ()  # paragraphs
    facts: Sequence[Fact] = ()
    tables: Sequence[Grid] = ()
    parts: Sequence[Part] = ()


@dataclass(frozen=True)
class Score:
    """A score at one stage, by the names of `results.csv`; `t_seconds` and `compensated` of chips alone."""

    task: str
    split: str
    metric: str
    headline: bool
    stage: str  # digital | ideal_devices | majority | chip
    mean: float
    sem: float | None = None
    chips: int = 0
    t_seconds: float | None = None
    compensated: bool | None = None
    examples: int = 0


@dataclass(frozen=True)
class FactSheet:
    """All of it: documents are written from `parts`, other programs read `scores`, `reprogramming` and `costs`."""

    title: str
    model: str
    task: str | None
    run: str | None
    hardware: str
    parts: Sequence[Part]
    scores: Sequence[Score]
    reprogramming: Verdict | None
    costs: Mapping[str, Any]


@dataclass(frozen=True)
class Subject:
    """What a sheet is of, as read from a run's folder or from options.

    Args:
        name: Of the run, or of the model where there is none.
        model: Option or short name.
        task: Option of the task; None without a run.
        classes: Names of the outputs, empty for regression; None without a run.
        architecture_from: Where its sizes are read from, in words.
        parameters: As counted when it was trained; None: as its architecture says.
        hardware: Devices, tiles and which layers lie on them.
        noise, tile: Options, or words for them.
        hardware_from: Where that comes from, in words.
        run: run.json of the run; empty without one.
        config: Its resolved configuration; empty without one.
        sweep: run.json of the sweep whose scores are told; empty without one.
        scores: Of the network on this hardware, the headline metric first.
        no_scores: Why there are none on chips, and the command that measures them; empty where there are.
        others: Other hardware that the run was scored on, a line each.
        tuned: `tuning.json` of a tuned checkpoint; empty elsewhere.
    """

    name: str
    model: str
    task: str | None
    classes: Sequence[str] | None
    architecture_from: str
    parameters: int | None
    hardware: Hardware
    noise: str
    tile: str
    hardware_from: str
    run: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    sweep: Mapping[str, Any] = field(default_factory=dict)
    scores: Sequence[Scores] = ()
    no_scores: str = ""
    others: Sequence[str] = ()
    tuned: Mapping[str, Any] = field(default_factory=dict)


def amount_text(amount: Amount) -> str:
    """ "0.194 ms", "105 … 878 µJ", "unknown"."""
    if amount.low is None or amount.high is None:
        return UNKNOWN
    digits = 6 if amount.origin == "given" else 4  # as many as its source prints
    low, high = (f"{float(f'{end:.{digits}g}'):,.10g}" for end in (amount.low, amount.high))  # no exponents
    return f"{low} {amount.unit}" if low == high else f"{low} … {high} {amount.unit}"


def points_text(score: float | None) -> str:
    """ "84.31", "undefined" where the metric is, "unknown"."""
    return UNKNOWN if score is None else f"{score:.2f}" if math.isfinite(score) else "undefined"


def chips_text(number: int) -> str:
    return f"{number} chip{'s' * (number != 1)}"


def operations_text(number: int, digits: int = 2) -> str:
    """ "21.84 billion", "3.20 million", so that small networks keep their digits."""
    return f"{number / 1e9:,.{digits}f} billion" if number >= 1e8 else f"{number / 1e6:,.{digits}f} million"


def amount_fact(name: str, amount: Amount) -> Fact:
    """An amount with its sources: of both ends where it is a band."""
    value: Any = None if amount.low is None else amount.low if amount.low == amount.high else [amount.low, amount.high]
    return Fact(name, amount_text(amount), value, amount.unit, amount.origin, _sources(amount))


def costs_part(load: Workload, costs: Costs, estimate: Estimate, option: str, parameters: int | None) -> Part:
    """Parameters and inference attributes: operations, tiles, and power, area and latency."""
    counted, tiles = load.count(costs.counting), load.tiles
    per = f"{load.batch} sequence{'s' * (load.batch > 1)} of {load.sequence} tokens"
    share = 100 * counted.analog / counted.total if counted.total else 0.0
    shared = load.architecture.encoder.modules or load.architecture.encoder.layers
    reuse = load.architecture.encoder.layers // shared
    reused = f"every layer of the encoder is gone through {reuse} times for a token" if reuse > 1 else "none"
    attributes = [
        Fact("Parameters", f"{parameters:,}" if parameters else UNKNOWN, parameters, "", "computed" if parameters else UNKNOWN,
             "" if parameters else "the configuration says nothing of a vocabulary"),
        Fact("Weights on tiles", f"{tiles.count.weights:,}", tiles.count.weights, "", "computed"),
        Fact(f"Operations of {per}", operations_text(counted.total, 4), counted.total, "", "computed",
             f"counted as costs={option} does, see below"),
        Fact("of which on tiles", f"{operations_text(counted.analog, 4)} ({share:.2f} %)", counted.analog, "", "computed"),
        Fact("Reuse of weights", reused, reuse, "", "computed"),
    ]  # fmt: skip
    operations = Part(
        "operations",
        "Operations",
        (
            "Multiply-adds and elements are exact for this length and batch; how many operations one is, is a convention.",
            f"Drift compensation takes none: its factor is part of the digital scale. Each read-out of the chip takes "
            f"{tiles.read_out:,} products of a single tile, one for every row of every tile.",
        ),
        tables=(_operations_by_kind(load, costs), _operations_by_layer(load, costs)),
    )
    parts = [operations, _tile_part(load), _power_part(load, costs, estimate, option)]
    return Part("costs", "Parameters and inference attributes", (), attributes, (), parts)


def _operations_by_kind(load: Workload, costs: Costs) -> Grid:
    counting, counted = costs.counting, load.count(costs.counting)
    rows = []
    for kind, what in KINDS.items():
        each, operations = counting.per_unit(kind), counted.by_kind[kind]
        if counted.units[kind]:
            rows.append(
                [what, f"{counted.units[kind]:,}", f"{operations // each if each else 0:,}", str(each), f"{operations:,}"]
            )
    rows.append(["all", "", "", "", f"{counted.total:,}"])
    head = (
        "" if counting.head else " The head (pooler and classifier) is left out of the operations, as the published sheet does."
    )
    note = f"{load.batch} × {load.sequence} tokens, padding included, which a machine computes like any other.{head}"
    return Grid("Operations by kind", note, ["one of them is a", "number", "counted", "operations each", "operations"], rows)


def _operations_by_layer(load: Workload, costs: Costs) -> Grid:
    rows: dict[str, list[int]] = {}
    for one in load.work:
        line = rows.setdefault(one.layer, [0, 0, 0])
        column = 0 if one.kind == "analog_product" else 1 if one.kind in PRODUCTS else 2
        line[column] += load.batch * one.amount
        rows[one.layer] = line
    cells = [[layer, *(f"{number:,}" if number else "" for number in line)] for layer, line in rows.items()]
    note = "Exact, for the batch; a layer that is used several times counts every use. Elements: all but multiply-adds."
    return Grid("Work by layer", note, ["layer", "multiply-adds on tiles", "digital multiply-adds", "elements"], cells)


def _tile_part(load: Workload) -> Part:
    tiles, crossbar = load.tiles, load.crossbar
    rows = []
    for layer in tiles.layers:
        blocks, columns = layer.row_blocks, layer.column_blocks
        grid = f"{len(blocks)} × {len(columns)}"
        each = f"{blocks[0]} × {columns[0]}"
        uses = f"{layer.vectors:,}"
        rows.append([layer.layer, f"{layer.inputs} × {layer.outputs}", grid, each, f"{layer.utilisation:.2f} %", uses])
    note = (
        "Rows are inputs, columns outputs. A matrix is cut as evenly as possible; of unequal parts the largest is told. "
        "Vectors: inputs of one sequence."
    )
    header = ["layer", "inputs × outputs", "tiles", "rows × columns", "utilisation", "vectors"]
    count = tiles.count
    facts = [
        Fact("Tile", f"{crossbar.rows} × {crossbar.columns} weights, each a differential pair of devices",
             [crossbar.rows, crossbar.columns]),
        Fact("Tiles", f"{tiles.tiles:,} for {count.layers} layers", tiles.tiles, "", "computed"),
        Fact("Mean utilisation", f"{count.over_layers:.2f} % over layers, {count.over_tiles:.2f} % over tiles",
             [count.over_layers, count.over_tiles], "%", "computed"),
        Fact("Layers beside the tiles", ", ".join(load.digital_layers) or "none of the linear layers",
    list(load.digital_layers)), ]  # fmt: skip
    return Part("tiles", "Tile map", (), facts, (Grid("Tiles by layer", note, header, rows),))


def _power_part(load: Workload, costs: Costs, estimate: Estimate, option: str) -> Part:
    counted = load.count(costs.counting)
    facts = [
        amount_fact(latency_name(estimate), estimate.latency),
        amount_fact("Average power", estimate.power),
        amount_fact("Effective area", estimate.area),
        amount_fact("Energy of the batch", estimate.energy),
        amount_fact("Energy of an inference", estimate.energy.times(1 / load.batch)),
        efficiency_fact(estimate, load.batch),
        operations_fact(estimate, counted.total),
    ]
    if estimate.adc_area is not None:
        facts.insert(3, amount_fact("Area of one ADC a column, by formulas of others", estimate.adc_area))
    tables, parts = [], []
    if estimate.lines:
        rows = [
            [line.what, f"{line.units:,}", line.unit, amount_text(line.each), amount_text(line.energy)]
            for line in estimate.lines
        ]
        left_out = f" Not in the sum: {'; '.join(estimate.unpriced)}." if estimate.unpriced else ""
        note = f"Sum of what is known: {amount_text(estimate.energy)}.{left_out}"
        tables.append(Grid("Energy by component", note, ["component", "number", "one of them", "each", "together"], rows))
        sources = [Fact(line.what, f"each {amount_text(line.each)}", source=_sources(line.each)) for line in estimate.lines]
        parts.append(Part("energy_sources", "Sources of these energies", (), sources))
    text = [f"By costs={option}; sources and assumptions: docs/costs.md of analog-glue.", *estimate.remarks]
    return Part("power", "Power, area and latency", text, facts, tables, parts)


def latency_name(estimate: Estimate) -> str:
    return "Latency of the batch, at least" if estimate.is_floor else "Latency of the batch"


def efficiency_fact(estimate: Estimate, batch: int) -> Fact:
    """Inferences a second and watt, which are inferences a joule."""
    return amount_fact("Energy efficiency", _inverse(estimate.energy, batch * 1e6, "inferences/s/W"))


def operations_fact(estimate: Estimate, operations: int) -> Fact:
    """Operations of the batch a second and watt."""
    return amount_fact("Operations for an energy", _inverse(estimate.energy, operations * 1e-6, "TOPS/W"))


def _inverse(energy: Amount, number: float, unit: str) -> Amount:
    """So many of something for an energy [µJ], in `unit`."""
    if not energy.low or not energy.high:
        return Amount(None, None, unit, UNKNOWN, energy.low_source or "its energy is unknown")
    origin = "computed" if energy.origin == "given" else energy.origin
    return Amount(number / energy.high, number / energy.low, unit, origin, energy.high_source, energy.low_source)


def _sources(amount: Amount) -> str:
    ends = dict.fromkeys(filter(None, (amount.low_source, amount.high_source)))
    return next(iter(ends), "") if len(ends) < 2 else f"lower end: {amount.low_source}. Upper end: {amount.high_source}"


def scores_of(sections: Sequence[Scores]) -> list[Score]:
    """Every mean that the rows give, as plain numbers."""
    found = []
    for section in sections:
        names = section.score._asdict() | {"headline": section.headline, "examples": section.examples}
        for stage, by_training in (("digital", section.digital), ("ideal_devices", section.ideal)):
            for by_seed in by_training.values():
                if (statistic := summarise(by_seed)) is not None:
                    found.append(Score(**names, stage=stage, mean=statistic.mean))
        if section.majority is not None:
            found.append(Score(**names, stage="majority", mean=section.majority))
        for variant in section.variants:
            for t in section.times:
                if (statistic := section.statistic(variant, t)) is not None:
                    found.append(
                        Score(
                            **names, stage="chip", mean=statistic.mean, sem=statistic.error, chips=statistic.chips, t_seconds=t,
                            compensated=variant.compensated,
                        )
                    )  # fmt: skip
    return found


def judged(scores: Sequence[Scores], loss: float, share: float, confidence: float) -> Verdict | None:
    """The verdict on the headline metric, with drift compensated where that was measured; None without chips or reference."""
    section = next((one for one in scores if one.headline and one.cells), None)
    if section is None:
        return None
    variant: Variant = max(section.variants, key=lambda one: one.compensated)
    digital = summarise(section.digital.get(variant.training, {}))
    if digital is None:
        return None
    by_time = {
        t: [value for chips in section.chips(variant, t).values() for value in devices_of(chips).values()]
        for t in section.times
        if section.chips(variant, t)
    }
    return verdict(by_time, digital.mean, loss, share, confidence)


def performance_part(subject: Subject, estimate: Estimate, load: Workload, said: Verdict | None) -> Part:
    """Performance metrics: scores with drift, time and energy of an inference, how often to reprogram."""
    tables = [drift_grid(section) for section in subject.scores]
    facts = [
        amount_fact(f"Classification time: {latency_name(estimate).lower()}", estimate.latency),
        efficiency_fact(estimate, load.batch),
    ]
    text = [subject.no_scores] if subject.no_scores else []
    if subject.others:
        text.append(f"Also scored on: {'; '.join(subject.others)}. noise=…, tile=…, attention=… and hardware.… choose.")
    return Part("performance", "Performance metrics", text, facts, tables, [reprogramming_part(subject, said)])


def reprogramming_part(subject: Subject, said: Verdict | None) -> Part:
    """How often the weights must be programmed again."""
    heading = "How often to reprogram"
    if said is None:
        why = subject.no_scores or "there is no digital score of this network to compare with"
        return Part("reprogramming", heading, (), (Fact("Reprogram", UNKNOWN, None, "", UNKNOWN, why),))
    metric = next((NAMES.get(one.score.metric, one.score.metric) for one in subject.scores if one.headline), "score")
    last = said.points[-1].t
    bound = f"{100 * said.share:g} % of chips with {100 * said.confidence:g} % confidence"

    def when(t: float | None, holds: Sequence[bool | None], name: str, source: str) -> Fact:
        not_known = [time_label(point.t) for point, held in zip(said.points, holds, strict=True) if held is None]
        why = f"{source}; a single chip or an undefined score has no error: {', '.join(not_known)}" if not_known else source
        if t is not None:
            told = f"{time_label(t)}, the last time measured" if t == last else time_label(t)
            return Fact(name, told, t, "s", "measured", why)
        if holds[0] is None or (name == ANY_TIME and not_known):
            return Fact(name, UNKNOWN, None, "", UNKNOWN, why)
        return Fact(name, f"at once: it does not hold at {time_label(said.points[0].t)}", 0.0, "s", "measured", why)

    facts = [
        Fact("What must hold",
             f"{metric} of at least {points_text(said.threshold)}: digital {points_text(said.digital)} less {said.loss:g}",
             said.threshold, "points", "measured", "reprogramming.loss"),
        when(said.last_mean, said.means, ANY_TIME, "last time whose mean minus 2 standard errors holds"),
        when(said.before_failure, said.means, "Mean of chips, before any failure",
             "last time before the first whose mean does not hold"),
        when(said.single_chip, said.single_chips, "A single chip",
             f"last time before the first whose one-sided tolerance bound ({bound}) does not hold; chips normally distributed"),
    ]  # fmt: skip
    if said.single_chip != last:
        failed = next(point for point in said.points if not point.chip_holds(said.threshold))
        at = f"at {time_label(failed.t)}"
        if failed.chip_holds(said.threshold) is None:
            why = f"{at} there is a single chip, or an undefined score: neither has a spread"
            facts.append(Fact("Chips for a single chip", UNKNOWN, None, "", UNKNOWN, why))
        elif failed.needed is not None:
            told = f"too few chips {at}: {failed.chips} of {failed.needed} that it would take if mean and spread stay"
            facts.append(Fact("Chips for a single chip", told, failed.needed, "chips", "computed"))
        else:
            below = f"more than {100 * (1 - said.share):.3g} % of chips are below"
            told = f"more chips would not help {at}: with this mean and spread {below}"
            facts.append(Fact("Chips for a single chip", told, None, "chips", "computed"))
    rows = [
        [
            time_label(point.t),
            points_text(point.mean),
            points_text(point.sem),
            UNKNOWN if point.sem is None else points_text(point.mean - 2 * point.sem),
            points_text(point.bound),
            str(point.chips),
            HOLDS[point.mean_holds(said.threshold)],
            HOLDS[point.chip_holds(said.threshold)],
        ]
        for point in said.points
    ]
    note = (
        f"Holds: at least {points_text(said.threshold)}. Bound: {bound}, mean − k s with k of the non-central t distribution. "
        "Times between and beyond those measured are not judged."
    )
    header = ["after", "mean", "standard error", "mean − 2 errors", "bound of a chip", "chips", "mean holds", "chip holds"]
    return Part("reprogramming", heading, (), facts, (Grid("Judged by age", note, header, rows),))
