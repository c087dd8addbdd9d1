"""Rows of scores, grouped: one section per score, data, model and hardware.

Statistics. Within one training seed, the mean over chips ± s/√n with s the sample standard deviation over
the n chips. With several seeds, chips are averaged within each seed first; the mean over the seeds then
stands ± s/√m with s over the m averages, because a second network, not a second chip, repeats a training.
Variants are compared on the same chips: differences are taken per (seed, chip, time) and treated the same. A chip is known by
its noise: the same number drawn from another stream is another chip. Multiplied in another way it is the same chip: its scores
are averaged first, but a difference is taken only between scores of one product.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from analog_glue.reports.grids import DEVICES, GLUE, Sources
from analog_glue.reports.statistics import Statistic, summarise
from analog_glue.reports.trainings import Training, network, trainings_of
from analog_glue.runs.identity import Payload
from analog_glue.runs.rows import Measurement

# The curves of Spoon et al. (2021), Fig. 5: (training, drift compensated).
LETTERS = {("digital", False): "A", ("digital", True): "B", ("hardware_aware", True): "C"}


class Variant(NamedTuple):
    """One line of a table: networks of one training, on chips with or without drift compensation."""

    training: Training
    compensated: bool

    @property
    def letter(self) -> str:
        return LETTERS.get((self.training.name, self.compensated), "")

    @property
    def title(self) -> str:
        return f"{self.training.title}, {'' if self.compensated else 'not '}compensated"


class Bundle(NamedTuple):
    """What is compared in one table: one model on one hardware."""

    model: str
    noise: str
    tile: str
    hardware_id: str
    attention: str = "fp32"

    @property
    def names(self) -> tuple[str, ...]:
        """By which a reader knows it; bundles of the same names differ in their hardware."""
        return self.model, self.noise, self.tile, self.attention

    def columns(self, beside: Iterable[Section]) -> dict[str, str]:
        """As columns of a table; attention among them where not all `beside` have it in float32."""
        named = self._asdict()
        if all(section.bundle.attention == "fp32" for section in beside):
            del named["attention"]
        return named


class Score(NamedTuple):
    """What is measured: one metric of one split of one task."""

    task: str
    split: str
    metric: str


class Scored(NamedTuple):
    """A score of one data: its fingerprint where rows say it, and its number of examples."""

    score: Score
    data: str
    examples: int


class Chip(NamedTuple):
    """A chip, and what its scores depend on beside its number; both empty in rows that do not say it."""

    number: int
    stream: str = ""
    product: str = ""


Chips = dict[Chip, float]  # chip → score [points]
Seeds = dict[int, Chips]  # training seed → its chips


def devices_of(chips: Chips) -> dict[tuple[int, str], float]:
    """One score for every chip that has noise of its own, the mean over the products that it was scored with."""
    found: dict[tuple[int, str], list[float]] = defaultdict(list)
    for chip, value in sorted(chips.items()):
        found[chip.number, chip.stream].append(value)
    return {device: sum(values) / len(values) for device, values in found.items()}


def difference_of(ours: Seeds, theirs: Seeds) -> Statistic | None:
    """Ours minus theirs on the chips and seeds that both have."""
    paired: Seeds = {}
    for seed in ours.keys() & theirs.keys():
        chips = ours[seed].keys() & theirs[seed].keys()
        paired[seed] = {chip: ours[seed][chip] - theirs[seed][chip] for chip in chips}
    return summarise({seed: devices_of(chips) for seed, chips in paired.items()})


@dataclass
class Section:
    """All rows of one score of one data on one hardware, pivoted.

    Args:
        bundle: The hardware and the model.
        score: The score; all values are in points.
        headline: Whether the task is reported by this score.
        data: Fingerprint of the data that was scored; empty where the rows do not say it.
        examples: Number of examples scored.
        cells: Variant → time [s] → seed → chip → score on programmed devices.
        seconds: Variant → time [s] → wall time of every evaluation [s].
        extrapolated: Times beyond the measurements behind the device model [s].
        digital: Training → seed → score of the weights in software; the chip is always 0.
        ideal: Training → seed → repeat → score on ideal devices.
        majority: Score of always answering the majority class.
        hardware: What tells this hardware from others of the same names; empty where there is no other.
        hardware_words: The same in words, where they are known.
        several_data: Whether the model was scored on other data in the same way.
        rows: Training or variant → where its scores come from.
    """

    bundle: Bundle
    score: Score
    headline: bool = False
    data: str = ""
    examples: int = 0
    cells: dict[Variant, dict[float, Seeds]] = field(default_factory=dict)
    seconds: dict[Variant, dict[float, list[float]]] = field(default_factory=dict)
    extrapolated: set[float] = field(default_factory=set)
    digital: dict[Training, Seeds] = field(default_factory=dict)
    ideal: dict[Training, Seeds] = field(default_factory=dict)
    majority: float | None = None
    hardware: str = ""
    hardware_words: str | None = None
    several_data: bool = False
    rows: dict[Training | Variant, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))

    @property
    def hardware_title(self) -> str:
        words = f"hardware {self.hardware}" if self.hardware_words is None else self.hardware_words
        hardware = f" ({words})" if self.hardware and words else ""
        attention = "" if self.bundle.attention == "fp32" else f", attention in {self.bundle.attention}"
        model = DEVICES.get(self.bundle.model, self.bundle.model)
        return f"{model}, {self.bundle.noise} on {self.bundle.tile}{attention}{hardware}"

    @property
    def data_title(self) -> str:
        """What tells the data from others of the same score; empty where there is no other."""
        if not self.several_data:
            return ""
        return f"data {self.data[:8]}" if self.data else f"{self.examples:,} examples, not recorded which"

    @property
    def variants(self) -> list[Variant]:
        """A, B, C first, then the others by name."""
        return sorted(self.cells, key=lambda v: (v.letter or "~", v))

    @property
    def times(self) -> list[float]:
        return sorted({t for by_time in self.cells.values() for t in by_time})

    def chips(self, variant: Variant, t: float) -> Seeds:
        """Scores by seed and chip; empty where this was not measured."""
        return self.cells.get(variant, {}).get(t, {})

    def statistic(self, variant: Variant, t: float) -> Statistic | None:
        return summarise({seed: devices_of(chips) for seed, chips in self.chips(variant, t).items()})

    def change(self, variant: Variant, t: float) -> Statistic | None:
        """Score minus the digital score of the same network."""
        digital = self.digital.get(variant.training, {})
        return summarise(
            {
                seed: {chip: value - digital[seed][Chip(0)] for chip, value in devices_of(chips).items()}
                for seed, chips in self.chips(variant, t).items()
                if seed in digital
            }
        )

    def sources(self, *which: Training | Variant) -> Sources:
        """Runs and sweeps that scored these; of a training those of its digital score and its ideal devices."""
        return frozenset(source for one in which for source in self.rows.get(one, ()))

    def difference(self, one: Variant, other: Variant, t: float) -> Statistic | None:
        """`one` minus `other` on the chips and seeds that both have at this time."""
        return difference_of(self.chips(one, t), self.chips(other, t))

    def unpaired(self, one: Variant, other: Variant) -> tuple[int, set[tuple[str, str]]]:
        """Chips (of all seeds) that both have, but not from the same noise stream and product; and which these are."""
        left_out: set[tuple[int, int]] = set()
        streams: set[tuple[str, str]] = set()
        for t in self.times:
            ours, theirs = self.chips(one, t), self.chips(other, t)
            for seed in ours.keys() & theirs.keys():
                numbers = {chip.number for chip in ours[seed]} & {chip.number for chip in theirs[seed]}
                alone = {chip for chip in ours[seed].keys() ^ theirs[seed].keys() if chip.number in numbers}
                left_out |= {(seed, chip.number) for chip in alone}
                streams |= {(chip.stream, chip.product) for chip in alone}
        return len(left_out), streams

    def alone_on_chips(self, training: Training) -> int | None:
        """The one seed that was put on chips where others have a digital score, as `best_of` leaves them; None elsewhere."""
        cells = [by_time for variant, by_time in self.cells.items() if variant.training == training]
        seeds = {seed for by_time in cells for by_seed in by_time.values() for seed in by_seed}
        digital = self.digital.get(training, {})
        return next(iter(seeds)) if len(seeds) == 1 and seeds < digital.keys() else None

    def pairs(self) -> list[tuple[Variant, Variant]]:
        """What compensation gives to a network, what a training gives over the digital one, and a tuning over its own run."""
        return [(one, other) for one in self.variants for other in self.variants if self._compared(one, other)]

    def _compared(self, one: Variant, other: Variant) -> bool:
        if one.training == other.training:
            return one.compensated and not other.compensated
        if one.compensated != other.compensated:
            return False
        if one.training.tuning:  # a tuned run is named below the run that it was tuned from
            parents = {run.rpartition("/")[0] for run, _ in self.sources(one)}
            return any(run in parents for run, _ in self.sources(other))
        over_digital = one.training.name != "digital" and other.training.name == "digital"
        recipes = {one.training.recipe, other.training.recipe}
        return over_digital and (len(recipes) == 1 or "" in recipes)


def pivot(rows: Iterable[Measurement], settings: Mapping[str, Payload] | None = None) -> tuple[list[Section], list[str]]:
    """Sections of all rows, headline metrics first, and remarks on rows that cannot be taken as they are.

    Args:
        settings: Of the trainings, by the name of the run, to say what trainings of one name differ in.
    """
    rows, remarks = _distinct(row for row in rows if not row.ablation)
    trainings, ambiguous = trainings_of(rows, settings, hardware_apart=True)
    sections: dict[tuple[Bundle, Scored], Section] = {}
    by_scored: dict[Scored, list[Section]] = defaultdict(list)

    def section(row: Measurement) -> Section:
        bundle, scored = Bundle(row.model, row.noise, row.tile, row.hardware_id, row.attention), _scored(row)
        if (bundle, scored) not in sections:
            sections[bundle, scored] = Section(bundle, scored.score, row.headline, row.data, row.examples)
            by_scored[scored].append(sections[bundle, scored])
        return sections[bundle, scored]

    for row in rows:
        if row.stage == "chip":
            assert row.chip is not None and row.t_seconds is not None and row.compensated is not None
            found, variant = section(row), Variant(trainings[network(row)], row.compensated)
            chips = found.cells.setdefault(variant, {}).setdefault(row.t_seconds, {}).setdefault(row.seed, {})
            chips[Chip(row.chip, row.stream, row.product)] = row.value
            found.seconds.setdefault(variant, {}).setdefault(row.t_seconds, []).append(row.wall_seconds)
            found.rows[variant].add((row.run, row.sweep))
            if row.extrapolated:
                found.extrapolated.add(row.t_seconds)
        elif row.stage == "ideal_devices":
            repeats = section(row).ideal.setdefault(trainings[network(row)], {}).setdefault(row.seed, {})
            repeats[Chip(len(repeats))] = row.value
            section(row).rows[trainings[network(row)]].add((row.run, row.sweep))
    # Networks and data do not change with the hardware: their scores go to every section of the same score on the same data.
    for row in rows:
        if row.stage == "digital":
            its = (row.model, row.attention)
            if not any((found.bundle.model, found.bundle.attention) == its for found in by_scored[_scored(row)]):
                section(row)  # trained, but not yet on any chip
            for found in by_scored[_scored(row)]:
                if (found.bundle.model, found.bundle.attention) == its:
                    found.digital.setdefault(trainings[network(row)], {})[row.seed] = {Chip(0): row.value}
                    found.rows[trainings[network(row)]].add((row.run, row.sweep))
    for row in rows:
        if row.stage == "majority":
            for found in by_scored[_scored(row)]:
                found.majority = row.value
    for found in sections.values():
        namesakes = {bundle.hardware_id for bundle, _ in sections if bundle.names == found.bundle.names}
        found.hardware = found.bundle.hardware_id[:8] if len(namesakes) > 1 else ""
        own = {scored for bundle, scored in sections if (bundle.model, scored.score) == (found.bundle.model, found.score)}
        found.several_data = len(own) > 1
    order = {task: i for i, task in enumerate(GLUE)}
    return sorted(
        sections.values(),
        key=lambda s: (s.bundle, order.get(s.score.task, -1), not s.headline, s.score, -s.examples, s.data),
    ), remarks + ambiguous


def _scored(row: Measurement) -> Scored:
    return Scored(Score(row.task, row.split, row.metric), row.data, row.examples)


def _distinct(rows: Iterable[Measurement]) -> tuple[list[Measurement], list[str]]:
    """Each measurement once, in an order that does not depend on the names of files."""
    by_identity: dict[tuple[object, ...], Measurement] = {}
    conflicts = 0
    for row in rows:
        first = by_identity.setdefault((*row.identity, row.examples), row)
        conflicts += first.value != row.value and not (math.isnan(first.value) and math.isnan(row.value))
    remarks = []
    if conflicts:
        remarks.append(
            f"{conflicts} row(s) repeat a measurement with another score; the first in the order of the paths is used."
        )
    return sorted(by_identity.values(), key=lambda row: tuple(map(str, (*row.identity, row.examples)))), remarks


def seeds_of(section: Section) -> set[int]:
    """Seeds that belong on chips: all, but of a training that has one of several there that one (`best_of` chose it)."""
    on_chips = {seed for times in section.cells.values() for seeds in times.values() for seed in seeds}
    digital = [seeds for training, seeds in section.digital.items() if section.alone_on_chips(training) is None]
    return on_chips | {seed for seeds in digital for seed in seeds}
