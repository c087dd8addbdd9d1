"""Accuracy against cost: what each network on each hardware scores and takes, and which of them nobody beats.

A point is beaten where another of the same score, data, devices and age scores at least as much and takes at most as much, one
of both strictly. Of an energy that is a band both ends count, since all points of a table are priced by the same sources: what
is published for one size of tile alone is left out where there are others. Devices are the same where their settings are.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from analog_glue.costs.architectures import KINDS, PUBLISHED, Architecture
from analog_glue.costs.bottom_up import alike_on_all_tiles
from analog_glue.costs.estimate import Costs, Estimate, Workload
from analog_glue.costs.sourced import Amount
from analog_glue.reports.drift import label_of_names
from analog_glue.reports.factsheet import amount_text
from analog_glue.reports.figures import Chart, Line, time_label
from analog_glue.reports.grids import NAMES, Chapter, Grid, Picture, Record, score_cell
from analog_glue.reports.measured import Measured
from analog_glue.reports.sections import Section, Variant
from analog_glue.reports.statistics import Statistic
from analog_glue.reports.told_apart import devices_on_paper, on_paper, told_apart
from analog_glue.runs.fingerprint import canonical, fingerprint
from analog_glue.runs.identity import Payload

TOKENS = 128  # of the one sequence that is priced: where the tasks of GLUE are cut
MONTH = 2_592_000.0  # [s]
TICKS = [step * 10.0**power for power in range(-3, 6) for step in (1, 2, 5)]  # of the axis of costs
ANALOG = ("arrays", "DACs", "ADCs")  # parts without which an energy is of another thing


@dataclass(frozen=True)
class Entry:
    """What a point is made of: networks of one kind on a hardware, their age [s], and the configuration of its sweep."""

    section: Section
    variant: Variant
    t: float
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Point:
    """One network on one hardware at one age.

    Args:
        network: Model and training.
        attention: Precision of its products.
        adc_bits: None: ideal.
        tile: Option, and rows × columns.
        telling: Of hardware that bears the names of another one, the settings in which they differ.
        digital: Number of linear layers that lie on no tile.
        score: Over chips [points].
        operations: Of an inference.
        estimate: Of an inference.
    """

    network: str
    attention: str
    adc_bits: int | None
    tile: str
    digital: int
    score: Statistic
    operations: int
    estimate: Estimate
    telling: str = ""

    @property
    def tile_in_words(self) -> str:
        return f"{self.tile}, {self.telling}" if self.telling else self.tile

    @property
    def names(self) -> tuple[str, ...]:
        """What a reader sees of it."""
        return self.network, *self.hardware

    @property
    def hardware(self) -> tuple[str, ...]:
        """In words, a property each."""
        adc = "ideal ADC" if self.adc_bits is None else f"ADC of {self.adc_bits} bits"
        digital = f"{self.digital} layers digital" if self.digital else "all layers on tiles"
        return self.tile, adc, f"attention {self.attention}", digital, *filter(None, [self.telling])

    @property
    def energy(self) -> Amount | None:
        """[µJ]; None where an analog part of it has no price."""
        return energy_of(self.estimate)


def energy_of(estimate: Estimate) -> Amount | None:
    """The energy of a batch [µJ]; None where an analog part of it has no price."""
    whole = all(line.energy.known for line in estimate.lines if line.what in ANALOG)
    return estimate.energy if whole and estimate.energy.known else None


def unbeaten(points: Sequence[tuple[float, tuple[float, ...]]]) -> list[bool]:
    """Of (score, costs), for each whether no other scores at least as much at no higher costs, one of them strictly."""

    def beats(one: tuple[float, tuple[float, ...]], other: tuple[float, tuple[float, ...]]) -> bool:
        no_worse = one[0] >= other[0] and all(a <= b for a, b in zip(one[1], other[1], strict=True))
        return no_worse and (one[0] > other[0] or one[1] != other[1])

    return [not any(beats(other, point) for other in points) for point in points]


def accuracy_against_cost(sections: Sequence[Section], measured: Measured, costs: Costs | None) -> Chapter:
    """Tables and pictures of every score for which hardware of different cost was measured; nothing elsewhere."""
    made = Chapter()
    if costs is None:
        return made
    groups: dict[tuple[Any, ...], list[Entry]] = defaultdict(list)
    devices: dict[str, Payload] = {}
    for section in sections:
        config = measured.hardware.get(section.bundle.hardware_id)
        for variant in section.variants if section.headline and config is not None else ():
            times = [t for t in section.times if section.chips(variant, t)]
            if times:
                assert config is not None
                t = MONTH if MONTH in times else times[-1]
                own = devices_on_paper(config)
                devices[canonical(own)] = own
                key = (section.score, section.data, section.examples, t, section.bundle.noise, canonical(own))
                groups[key].append(Entry(section, variant, t, config))
    for (score, data, examples, t, noise, own), entries in groups.items():
        if len({entry.section.bundle for entry in entries}) < 2:
            continue
        alike = alike_on_all_tiles(costs) if _of_other_tiles(entries) else costs
        points = _told_apart([(e, point) for e in entries if (point := _point(e, measured, alike)) is not None])
        if len({(point.operations, point.estimate.energy, point.estimate.area) for point in points}) < 2:
            continue
        namesakes = sorted({other[5] for other in groups if other[:5] == (score, data, examples, t, noise)})
        telling = told_apart([devices[one] for one in namesakes])[namesakes.index(own)].replace("noise.", "")
        named = f"{noise} ({telling})" if telling else noise
        task = ", ".join(NAMES.get(name, name) for name in (score.task, score.metric))
        title = f"Accuracy against cost: {task}, {named} after {time_label(t)}"
        several = len({other[1] for other in groups if (other[0], *other[3:5]) == (score, t, noise)}) > 1
        age = time_label(t).replace(" ", "")
        which = fingerprint(devices[own], 8) if telling else ""
        name = label_of_names("accuracy_against_cost", score.task, noise, age, data[:8] if several else "", which)
        points.sort(key=lambda point: (_price(points, point), -point.score.mean))
        made.parts += [(name, _grid(title, points, alike is not costs)), (name, _picture(title, points))]
        made.records[f"{name}.csv"] = [_record(score.task, t, point, alone) for point, alone in _marked(points)]
    return made


def _of_other_tiles(entries: Sequence[Entry]) -> bool:
    """Whether not all tiles are of the size that energies of whole tiles are published for."""
    return any(
        (entry.config["tile"].get("rows", 512), entry.config["tile"].get("columns", 512)) != (512, 512) for entry in entries
    )


def _told_apart(points: Sequence[tuple[Entry, Point]]) -> list[Point]:
    """Points of the same words with what differs between their hardware."""
    by_names: dict[tuple[str, ...], list[tuple[Entry, Point]]] = defaultdict(list)
    for entry, point in points:
        by_names[point.names].append((entry, point))
    return [
        replace(point, telling=telling)
        for alike in by_names.values()
        for (_, point), telling in zip(alike, told_apart([on_paper(entry.config) for entry, _ in alike]), strict=True)
    ]


def _price(points: Sequence[Point], point: Point) -> tuple[float, ...]:
    """What is compared: the energy where all of them know it, else the operations."""
    energies = [one.energy for one in points]
    own = point.energy
    if own is None or any(energy is None for energy in energies):
        return (float(point.operations),)
    return (own.low or 0.0, own.high or 0.0)


def _marked(points: Sequence[Point]) -> list[tuple[Point, bool]]:
    alone = unbeaten([(point.score.mean, _price(points, point)) for point in points])
    return list(zip(points, alone, strict=True))


def _point(entry: Entry, measured: Measured, costs: Costs) -> Point | None:
    """A network on a hardware, priced; None where its architecture or its tiles are not known."""
    section, variant = entry.section, entry.variant
    score, load = section.statistic(variant, entry.t), load_of(entry, measured)
    if score is None or load is None:
        return None
    crossbar = load.crossbar
    tile = f"{section.bundle.tile} {crossbar.rows} × {crossbar.columns}"
    network = f"{section.bundle.model}, {variant.title}"
    return Point(
        network, section.bundle.attention, crossbar.adc_bits, tile, len(load.digital_layers), score,
        load.count(costs.counting).total, costs.estimate(load),
    )  # fmt: skip


def load_of(entry: Entry, measured: Measured) -> Workload | None:
    """One sequence through the network on its tiles; None where its architecture is not known."""
    from analog_glue.configuration.build import as_annotated, build
    from analog_glue.nn.attention import Attention
    from analog_glue.nn.names import chosen_by_name

    section, found = entry.section, entry.config
    entries = _entries(entry, measured.settings)
    if entries is None:
        return None
    labels = (found.get("task") or {}).get("labels")
    architecture = Architecture(entries, 2 if labels is None else len(labels) or 1)
    crossbar = build(as_annotated(found["tile"], "tile"), "tile")
    layers = (found.get("hardware") or {}).get("layers") or ["*"]
    on_tiles = chosen_by_name(architecture.linears, layers, "Setting `hardware.layers`", "linear")
    grids = {name: crossbar.grid(linear.outputs, linear.inputs) for name, linear in on_tiles.items()}
    bits = re.match(r"int(\d+)", section.bundle.attention)
    attention = Attention(int(bits[1])) if bits else Attention(dtype=section.bundle.attention)
    rescaled = measured.rescaled.get(
        (section.score.task, section.bundle.model, entry.variant.training.name, section.bundle.hardware_id), {}
    )
    return Workload(architecture, crossbar, grids, attention, min(TOKENS, architecture.longest), 1, rescaled)


def _entries(entry: Entry, settings: Mapping[str, Payload]) -> Mapping[str, Any] | None:
    """config.json of the network: of the runs that its rows come from, else as published for the option of its model.

    None where it is of another kind, or not known.
    """
    above = "model.architecture."
    for run, _ in sorted(entry.section.sources(entry.variant)):
        payload = settings.get(run, {})
        if kind := payload.get(f"{above}model_type"):
            own = {key.removeprefix(above): value for key, value in payload.items() if key.startswith(above)}
            return own if kind in KINDS else None
    return PUBLISHED.get(entry.section.bundle.model)


def _grid(title: str, points: Sequence[Point], without_share: bool) -> Grid:
    marked = _marked(points)
    by_energy = len(_price(points, points[0])) > 1
    rows = [
        [
            ("● " if alone else "  ") + point.network,
            point.attention,
            "ideal" if point.adc_bits is None else str(point.adc_bits),
            point.tile_in_words,
            str(point.digital) if point.digital else "none",
            score_cell(point.score),
            "unknown" if point.energy is None else amount_text(point.energy),
            f"{point.operations / 1e9:,.3f}",
            amount_text(point.estimate.area),
        ]
        for point, alone in marked
    ]
    header = [
        "● nobody beats it",
        "attention",
        "ADC bits",
        "tile",
        "digital layers",
        "score",
        "energy",
        "operations [10⁹]",
        "area",
    ]
    priced = "energy" if by_energy else "operations, since the energy of some is unknown"
    note = (
        f"One inference of {TOKENS} tokens by costs=bottom_up (docs/costs.md): energies are sums of what is known, bands "
        f"between sources, areas those of tiles. Marked: nobody scores at least as much for at most as much {priced}; means "
        "are compared, not their errors."
    )
    if without_share:
        note += " The measured share of ADCs is published for tiles of 512 × 512 alone, and left out here of all energies."
    return Grid(title, note, header, rows)


def _record(task: str, t: float, point: Point, alone: bool) -> Record:
    energy, area = point.energy, point.estimate.area
    return {
        "task": task, "t_seconds": t, "network": point.network, "attention": point.attention, "adc_bits": point.adc_bits,
        "tile": point.tile_in_words, "digital_layers": point.digital, "score": point.score.mean,
        "standard_error": point.score.error, "energy_low_uj": energy.low if energy else None,
        "energy_high_uj": energy.high if energy else None, "operations": point.operations, "area_low_mm2": area.low,
        "area_high_mm2": area.high, "unbeaten": alone,
    }  # fmt: skip


def _picture(title: str, points: Sequence[Point]) -> Picture:
    by_energy = len(_price(points, points[0])) > 1

    def place(point: Point) -> float:
        energy = point.energy
        return energy.middle or 0.0 if by_energy and energy is not None else point.operations / 1e9

    by_hardware: dict[str, list[Point]] = defaultdict(list)
    differs = [len(set(words)) > 1 for words in itertools.zip_longest(*(point.hardware for point in points))]
    for point in points:
        said = [word for word, other in zip(point.hardware, differs, strict=False) if other]
        by_hardware[", ".join(said) or point.hardware[0]].append(point)
    lines = [
        Line(label, [place(p) for p in own], [p.score.mean for p in own], [p.score.error for p in own], joined=False)
        for label, own in by_hardware.items()
    ]
    best = sorted((place(point), point.score.mean) for point, alone in _marked(points) if alone)
    front = Line("nobody beats these", [x for x, _ in best], [y for _, y in best], [None] * len(best), law=True)
    axis = "energy of an inference, middle of its band [µJ]" if by_energy else "operations of an inference [10⁹]"
    places = [place(point) for point in points]
    ticks = [tick for tick in TICKS if min(places) / 1.5 <= tick <= 1.5 * max(places)]
    chart = Chart("", axis, "score [points]", [*lines, front], log_x=len(ticks) > 1, ticks=ticks if len(ticks) > 1 else ())
    return Picture(title, [chart], f"One sequence of {TOKENS} tokens, costs=bottom_up; bars: ± 1 standard error over chips")
