"""Rows of scores, grouped: one section per score, model and hardware.

Statistics. Within one training seed, the mean over chips ± s/√n with s the sample standard deviation over
the n chips. With several seeds, chips are averaged within each seed first; the mean over the seeds then
stands ± s/√m with s over the m averages, because a second network, not a second chip, repeats a training.
Variants are compared on the same chips: differences are taken per (seed, chip, time) and treated the same.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from analog_glue.reports.grids import DEVICES, GLUE
from analog_glue.reports.statistics import Statistic, summarise
from analog_glue.runs.rows import Measurement

# The curves of Spoon et al. (2021), Fig. 5: (training, drift compensated).
LETTERS = {("digital", False): "A", ("digital", True): "B", ("hardware_aware", True): "C"}


class Training(NamedTuple):
    """Networks that differ by their seed alone.

    `recipe` is empty unless there are several trainings of the same name and seed; then it tells them apart.
    """

    name: str
    recipe: str

    @property
    def title(self) -> str:
        recipe = f" [{self.recipe}]" if self.recipe else ""
        return f"{self.name.replace('_', '-')} training{recipe}"


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


class Score(NamedTuple):
    """What is measured: one metric of one split of one task."""

    task: str
    split: str
    metric: str


Chips = dict[int, float]  # chip → score [points]


Seeds = dict[int, Chips]  # training seed → its chips


@dataclass
class Section:
    """All rows of one score on one hardware, pivoted.

    Args:
        bundle: The hardware and the model.
        score: The score; all values are in points.
        headline: Whether the task is reported by this score.
        examples: Number of examples scored.
        cells: Variant → time [s] → seed → chip → score on programmed devices.
        seconds: Variant → time [s] → wall time of every evaluation [s].
        extrapolated: Times beyond the measurements behind the device model [s].
        digital: Training → seed → score of the weights in software; the chip is always 0.
        ideal: Training → seed → repeat → score on ideal devices.
        majority: Score of always answering the majority class.
        hardware: What tells this hardware from others of the same names; empty where there is no other.
    """

    bundle: Bundle
    score: Score
    headline: bool = False
    examples: int = 0
    cells: dict[Variant, dict[float, Seeds]] = field(default_factory=dict)
    seconds: dict[Variant, dict[float, list[float]]] = field(default_factory=dict)
    extrapolated: set[float] = field(default_factory=set)
    digital: dict[Training, Seeds] = field(default_factory=dict)
    ideal: dict[Training, Seeds] = field(default_factory=dict)
    majority: float | None = None
    hardware: str = ""

    @property
    def hardware_title(self) -> str:
        hardware = f" (hardware {self.hardware})" if self.hardware else ""
        return f"{DEVICES.get(self.bundle.model, self.bundle.model)}, {self.bundle.noise} on {self.bundle.tile}{hardware}"

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
        return summarise(self.chips(variant, t))

    def change(self, variant: Variant, t: float) -> Statistic | None:
        """Score minus the digital score of the same network."""
        digital = self.digital.get(variant.training, {})
        return summarise(
            {
                seed: {chip: value - digital[seed][0] for chip, value in chips.items()}
                for seed, chips in self.chips(variant, t).items()
                if seed in digital
            }
        )

    def difference(self, one: Variant, other: Variant, t: float) -> Statistic | None:
        """`one` minus `other` on the chips and seeds that both have at this time."""
        ours, theirs = self.chips(one, t), self.chips(other, t)
        paired: Seeds = {}
        for seed in ours.keys() & theirs.keys():
            chips = ours[seed].keys() & theirs[seed].keys()
            paired[seed] = {chip: ours[seed][chip] - theirs[seed][chip] for chip in chips}
        return summarise(paired)

    def pairs(self) -> list[tuple[Variant, Variant]]:
        """What compensation gives to a network, and what a training gives over the digital one."""
        pairs = []
        for one in self.variants:
            for other in self.variants:
                recipes = {one.training.recipe, other.training.recipe}
                over_digital = one.training.name != "digital" and other.training.name == "digital"
                if one.training == other.training:
                    compared = one.compensated and not other.compensated
                else:
                    compared = over_digital and one.compensated == other.compensated
                if compared and (len(recipes) == 1 or "" in recipes):
                    pairs.append((one, other))
        return pairs


def pivot(rows: Iterable[Measurement]) -> tuple[list[Section], list[str]]:
    """Sections of all rows, headline metrics first, and remarks on rows that cannot be taken as they are."""
    rows, remarks = _distinct(rows)
    trainings, ambiguous = _trainings(rows)
    sections: dict[tuple[Bundle, Score], Section] = {}
    by_score: dict[Score, list[Section]] = defaultdict(list)

    def section(row: Measurement) -> Section:
        bundle = Bundle(row.model, row.noise, row.tile, row.hardware_id)
        score = Score(row.task, row.split, row.metric)
        if (bundle, score) not in sections:
            sections[bundle, score] = Section(bundle, score, row.headline, row.examples)
            by_score[score].append(sections[bundle, score])
        return sections[bundle, score]

    for row in rows:
        if row.stage == "chip":
            assert row.chip is not None and row.t_seconds is not None and row.compensated is not None
            found, variant = section(row), Variant(trainings[_network(row)], row.compensated)
            times = found.cells.setdefault(variant, {})
            times.setdefault(row.t_seconds, {}).setdefault(row.seed, {})[row.chip] = row.value
            found.seconds.setdefault(variant, {}).setdefault(row.t_seconds, []).append(row.wall_seconds)
            if row.extrapolated:
                found.extrapolated.add(row.t_seconds)
        elif row.stage == "ideal_devices":
            repeats = section(row).ideal.setdefault(trainings[_network(row)], {}).setdefault(row.seed, {})
            repeats[len(repeats)] = row.value
    # Networks and data do not change with the hardware: their scores go to every section of the same score.
    for row in rows:
        score = Score(row.task, row.split, row.metric)
        if row.stage == "digital":
            if not any(found.bundle.model == row.model for found in by_score[score]):
                section(row)  # trained, but not yet on any chip
            for found in by_score[score]:
                if found.bundle.model == row.model:
                    found.digital.setdefault(trainings[_network(row)], {})[row.seed] = {0: row.value}
    for row in rows:
        if row.stage == "majority":
            for found in by_score[Score(row.task, row.split, row.metric)]:
                found.majority = row.value
    for found in sections.values():
        namesakes = {bundle.hardware_id for bundle, _ in sections if bundle[:3] == found.bundle[:3]}
        found.hardware = found.bundle.hardware_id[:8] if len(namesakes) > 1 else ""
    order = {task: i for i, task in enumerate(GLUE)}
    return sorted(
        sections.values(),
        key=lambda s: (s.bundle, order.get(s.score.task, -1), not s.headline, s.score),
    ), remarks + ambiguous


def _distinct(rows: Iterable[Measurement]) -> tuple[list[Measurement], list[str]]:
    """Each measurement once, in an order that does not depend on the names of files."""
    by_identity: dict[tuple[object, ...], Measurement] = {}
    conflicts = 0
    for row in rows:
        first = by_identity.setdefault(row.identity, row)
        conflicts += first.value != row.value and not (math.isnan(first.value) and math.isnan(row.value))
    remarks = []
    if conflicts:
        remarks.append(
            f"{conflicts} row(s) repeat a measurement with another score; the first in the order of the paths is used."
        )
    return sorted(by_identity.values(), key=lambda row: tuple(map(str, row.identity))), remarks


def _network(row: Measurement) -> tuple[str, str, str, str]:
    return row.task, row.model, row.training, row.train_ids


def _trainings(rows: Iterable[Measurement]) -> tuple[dict[tuple[str, str, str, str], Training], list[str]]:
    """The training of each network, named so that no two networks of one seed share a line of a table.

    Two networks of the same task, model, mode and seed differ in something that no column names (a learning
    rate, say). They must not be averaged.
    """
    networks: dict[tuple[str, str, str], dict[str, Measurement]] = defaultdict(dict)
    for row in rows:
        if row.stage != "majority":
            networks[row.task, row.model, row.training].setdefault(row.train_ids, row)
    trainings, remarks = {}, []
    for (task, model, name), by_id in networks.items():
        alone = len({row.seed for row in by_id.values()}) == len(by_id)
        for row in by_id.values():
            trainings[_network(row)] = Training(name, "" if alone else row.train_ids[:8])
        if not alone:
            remarks.append(
                f"{task}, {model}: several {Training(name, '').title}s of the same seed, told apart by the "
                "hash at the end of the run's name; `analog-glue tables` also takes the folder of one run."
            )
    return trainings, remarks


def seeds_of(section: Section) -> set[int]:
    on_chips = {seed for times in section.cells.values() for seeds in times.values() for seed in seeds}
    return on_chips | {seed for seeds in section.digital.values() for seed in seeds}
