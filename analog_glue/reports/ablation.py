"""Which non-ideality costs the accuracy: scores with each one left out and each one alone, from rows with an `ablation`.

Differences are taken per training seed, chip and time between scores of the same chip, like those of `reports.sections`: what
leaving one out gains over the full hardware, and what one alone loses from the digital score. Costs do not add up where
non-idealities meet; the sum over all of them stands beside the whole.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from analog_glue.reports.drift import label_of_names
from analog_glue.reports.figures import Bar, BarChart, time_label
from analog_glue.reports.grids import (
    ANY,
    MISSING,
    NAMES,
    Chapter,
    Grid,
    Picture,
    Record,
    Sources,
    as_text,
    in_points,
    score_cell,
    span,
)
from analog_glue.reports.sections import Bundle, Score
from analog_glue.reports.statistics import Statistic, repeated_over, summarise
from analog_glue.reports.trainings import Training, network, trainings_of
from analog_glue.runs.identity import Payload
from analog_glue.runs.rows import Measurement

FULL, NONE = "full", "none"  # in the column `ablation`: the hardware as it is, and the weights in software
PLACED = "layers "  # the same column begins so in rows of `place`, which are no ablation: patterns of layers on tiles follow


def left_out(name: str) -> str:
    """In the column `ablation`: all non-idealities but `name`."""
    return f"without {name}"


def alone(name: str) -> str:
    """In the column `ablation`: `name`, everything else ideal."""
    return f"only {name}"


class Chip(NamedTuple):
    """A chip; `number` None: any, since scores without noise are the same on all."""

    number: int | None
    stream: str = ""


Scores = Mapping[int, Mapping[Chip, float]]  # training seed → chip → score [points]


class _Key(NamedTuple):
    """What one table is about."""

    bundle: Bundle
    score: Score
    data: str
    training: Training


@dataclass
class Ablation:
    """The rows of one network on the parts of one hardware.

    Args:
        key: The hardware in full, the score, its data and the training.
        headline: Whether the task is reported by this score.
        examples: Number of examples scored.
        cells: Column `ablation` → (time [s], compensated) → scores. Scores that hold at all times stand under (None, None).
        telling: What tells the hardware from others of the same names; empty where there is no other.
        rows: Column `ablation` → where its scores come from.
    """

    key: _Key
    headline: bool
    examples: int
    cells: dict[str, dict[tuple[float | None, bool | None], dict[int, dict[Chip, float]]]] = field(default_factory=dict)
    telling: str = ""
    rows: dict[str, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))

    def sources(self, *labels: str) -> Sources:
        """Runs and sweeps that scored these."""
        return frozenset(source for label in labels for source in self.rows.get(label, ()))

    @property
    def names(self) -> list[str]:
        """The non-idealities, in the order of their cost when left out at the last time; unknown ones last."""
        found = [label.removeprefix("without ") for label in self.cells if label.startswith("without ")]
        found += [name for label in self.cells if label.startswith("only ") and (name := label[5:]) not in found]

        def cost(name: str) -> float:
            gain = self.gain(name, self.times[-1], self.compensations[-1]) if self.times else None
            return -gain.mean if gain is not None else float("inf")

        return sorted(found, key=lambda name: (cost(name), name))

    @property
    def times(self) -> list[float]:
        return sorted({t for by_time in self.cells.values() for t, _ in by_time if t is not None})

    @property
    def compensations(self) -> list[bool]:
        """Of the full hardware; a part without drift is never compensated, and stands beside both."""
        return sorted({c for _, c in self.cells.get(FULL, {}) if c is not None}) or [False]

    def scores(self, label: str, t: float, compensated: bool) -> Scores:
        by_time = self.cells.get(label, {})
        found = (by_time.get(key) for key in ((t, compensated), (t, False), (None, None)))
        return next((scores for scores in found if scores), {})

    def statistic(self, label: str, t: float, compensated: bool) -> Statistic | None:
        return summarise(self.scores(label, t, compensated))

    def gain(self, name: str, t: float, compensated: bool) -> Statistic | None:
        """Score without `name` minus that of the full hardware."""
        return summarise(_difference(self.scores(left_out(name), t, compensated), self.scores(FULL, t, compensated)))

    def change(self, label: str, t: float, compensated: bool) -> Statistic | None:
        """Score minus the digital one."""
        return summarise(_difference(self.scores(label, t, compensated), self.scores(NONE, t, compensated)))

    def sum_of_gains(self, t: float, compensated: bool) -> Statistic | None:
        full = self.scores(FULL, t, compensated)
        return _sum(_difference(self.scores(left_out(name), t, compensated), full) for name in self.names)

    def sum_of_changes(self, t: float, compensated: bool) -> Statistic | None:
        digital = self.scores(NONE, t, compensated)
        return _sum(_difference(self.scores(alone(name), t, compensated), digital) for name in self.names)

    @property
    def title(self) -> str:
        bundle, score = self.key.bundle, self.key.score
        task, metric = (NAMES.get(name, name) for name in (score.task, score.metric))
        attention = "" if bundle.attention == "fp32" else f", attention in {bundle.attention}"
        telling = f" (hardware {self.telling})" if self.telling else ""
        hardware = f"{bundle.model}, {bundle.noise} on {bundle.tile}{attention}{telling}"
        return f"{task} ({metric}{', headline' if self.headline else ''}): {hardware}, {self.key.training.title}"


def _paired(one: Scores, other: Scores, combine: Callable[[float, float], float]) -> Scores:
    """By seed and chip; a score that holds on all chips meets each."""
    found: dict[int, dict[Chip, float]] = {}
    for seed in one.keys() & other.keys():
        ours, theirs = one[seed], other[seed]
        if _holds_everywhere(ours) and not _holds_everywhere(theirs):
            found[seed] = {chip: combine(next(iter(ours.values())), value) for chip, value in theirs.items()}
        elif _holds_everywhere(theirs):
            found[seed] = {chip: combine(value, next(iter(theirs.values()))) for chip, value in ours.items()}
        else:
            found[seed] = {chip: combine(ours[chip], theirs[chip]) for chip in ours.keys() & theirs.keys()}
    return found


def _holds_everywhere(chips: Mapping[Chip, float]) -> bool:
    return any(chip.number is None for chip in chips)


def _difference(one: Scores, other: Scores) -> Scores:
    return _paired(one, other, lambda ours, theirs: ours - theirs)


def _sum(parts: Iterable[Scores]) -> Statistic | None:
    """Of differences, on the chips that all have; None where one was not measured."""
    found = list(parts)
    if not found or not all(found):
        return None
    return summarise(functools.reduce(lambda one, other: _paired(one, other, lambda a, b: a + b), found))


def ablations_of(rows: Iterable[Measurement], settings: Mapping[str, Payload] | None = None) -> list[Ablation]:
    """One for every score of one training on one hardware, the headline first.

    Args:
        settings: Of the trainings, by the name of the run, to say what trainings of one name differ in.
    """
    own = [row for row in rows if row.ablation and not row.ablation.startswith(PLACED)]
    trainings, _ = trainings_of(own, settings)
    hardware = {_several(row): (row.hardware_id, row.attention) for row in own if row.ablation == FULL}
    found: dict[_Key, Ablation] = {}
    for row in sorted(own, key=lambda row: (row.run, row.sweep)):
        if _several(row) not in hardware:
            continue  # begun, but the full hardware is not measured yet
        bundle = Bundle(row.model, row.noise, row.tile, *hardware[_several(row)])
        key = _Key(bundle, Score(row.task, row.split, row.metric), row.data, trainings[network(row)])
        ablation = found.setdefault(key, Ablation(key, row.headline, row.examples))
        on_chip = row.stage == "chip"
        state = (row.t_seconds, row.compensated) if on_chip else (None, None)
        chip = Chip(row.chip, row.stream) if on_chip else Chip(None)
        ablation.rows[row.ablation].add((row.run, row.sweep))
        ablation.cells.setdefault(row.ablation, {}).setdefault(state, {}).setdefault(row.seed, {})[chip] = row.value
    for ablation in found.values():
        bundle = ablation.key.bundle
        namesakes = {key.bundle.hardware_id for key in found if key.bundle.names == bundle.names}
        ablation.telling = bundle.hardware_id[:8] if len(namesakes) > 1 else ""
    return sorted(found.values(), key=lambda one: (one.key.bundle, one.key.score.task, not one.headline, one.key))


def _several(row: Measurement) -> tuple[str, str]:
    """Which sweeps belong together: the run, and the folder around theirs."""
    return row.run, row.sweep.rpartition("/")[0]


def ablation_grid(ablation: Ablation, compensated: bool) -> Grid:
    """Non-idealities downwards; for every time its score left out, the gain, its score alone, the change from digital."""
    header, rows = [""], [[_title(name)] for name in (FULL, *ablation.names, "sum of the lines", NONE)]
    for t in ablation.times:
        label = time_label(t)
        header += [f"{label}: left out", "− full", f"{label}: alone", "− digital"]
        full, *parts, total, none = rows
        whole = ablation.change(FULL, t, compensated)
        full += [_mean(ablation.statistic(FULL, t, compensated)), "", "", score_cell(whole, signed=True)]
        for line, name in zip(parts, ablation.names, strict=True):
            line += [
                _mean(ablation.statistic(left_out(name), t, compensated)),
                score_cell(ablation.gain(name, t, compensated), signed=True),
                _mean(ablation.statistic(alone(name), t, compensated)),
                score_cell(ablation.change(alone(name), t, compensated), signed=True),
            ]
        total += ["", score_cell(ablation.sum_of_gains(t, compensated), signed=True), "",
                  score_cell(ablation.sum_of_changes(t, compensated), signed=True)]  # fmt: skip
        gap = summarise(_difference(ablation.scores(NONE, t, compensated), ablation.scores(FULL, t, compensated)))
        none += ["", score_cell(gap, signed=True), _mean(ablation.statistic(NONE, t, compensated)), ""]
    how = "compensated" if compensated else "not compensated"
    labels = [(FULL,), *((left_out(name), alone(name)) for name in ablation.names), tuple(ablation.cells), (NONE,)]
    sources = {(row, ANY): ablation.sources(*own) for row, own in enumerate(labels)}
    return Grid(f"Ablation, {ablation.title}, {how}", _note(ablation, compensated), header, rows, sources=sources)


def _note(ablation: Ablation, compensated: bool) -> str:
    known = [s for t in ablation.times if (s := ablation.statistic(FULL, t, compensated)) is not None]
    chips, seeds = span([n for s in known for n in (s.chips, s.most_chips)]), span([s.seeds for s in known])
    return (
        f"− full: what leaving it out gains over the full hardware; − digital: what it changes alone. Differences of the same "
        f"chips, mean ± standard error {repeated_over(known)} (chips: {chips}, training seeds: {seeds}), none where nothing is "
        f"random. {ablation.examples:,} examples of {ablation.key.score.split}."
    )


def _mean(statistic: Statistic | None) -> str:
    return MISSING if statistic is None else in_points(statistic.mean)


def _title(name: str) -> str:
    """A line of the table."""
    titles = {FULL: "full hardware", NONE: "none (digital)", "dac": "DAC", "adc": "ADC", "ir drop": "IR drop"}
    return titles.get(name, name)


def ablation_table(rows: Iterable[Measurement]) -> str:
    """Plain text for the end of `evaluate ablate=true`."""
    found = ablations_of(rows)
    return "\n\n".join(as_text(ablation_grid(one, compensated)) for one in found for compensated in one.compensations)


def ablation_chapter(rows: Iterable[Measurement], settings: Mapping[str, Payload] | None = None) -> Chapter | None:
    """Tables, pictures of the headline scores, and `ablation.csv`; None where nothing was ablated."""
    found = ablations_of(rows, settings)
    if not found:
        return None
    chapter = Chapter()
    for one in found:
        for compensated in one.compensations:
            label = _label(one, compensated)
            if one.headline:
                chapter.parts.append((label, _picture(one, compensated)))
            name = label if one.headline else f"{label}-{one.key.score.split}-{one.key.score.metric}"
            chapter.parts.append((name, ablation_grid(one, compensated)))
    chapter.records["ablation.csv"] = _records(found)
    return chapter


def _label(ablation: Ablation, compensated: bool) -> str:
    bundle, training = ablation.key.bundle, ablation.key.training
    attention = "" if bundle.attention == "fp32" else bundle.attention
    how = "" if compensated or len(ablation.compensations) == 1 else "not_compensated"
    names = ("ablation", ablation.key.score.task, *bundle[:3], attention, ablation.telling, training.name, training.recipe, how)
    return label_of_names(*names)


def _picture(ablation: Ablation, compensated: bool) -> Picture:
    """What every non-ideality costs, left out and alone, one chart a time."""

    def bar(label: str, costs: Sequence[Statistic | None], sign: int) -> Bar:
        return Bar(
            label, [None if s is None else sign * s.mean for s in costs], [None if s is None else s.error for s in costs]
        )

    charts = []
    for t in ablation.times:
        gains = [ablation.gain(name, t, compensated) for name in ablation.names]
        changes = [ablation.change(alone(name), t, compensated) for name in ablation.names]
        bars = [bar("left out: gain over the full hardware", gains, 1), bar("alone: loss from digital", changes, -1)]
        charts.append(BarChart(f"after {time_label(t)}", "costs [points]", [_title(name) for name in ablation.names], bars))
    known = [s for t in ablation.times if (s := ablation.statistic(FULL, t, compensated)) is not None]
    chips = span([n for s in known for n in (s.chips, s.most_chips)])
    scores = ", ".join(
        f"{_mean(s)} after {time_label(t)}"
        for t in ablation.times
        if (s := ablation.statistic(FULL, t, compensated)) is not None
    )
    note = f"full hardware {scores}; digital {_mean(summarise(ablation.cells.get(NONE, {}).get((None, None), {})))}. "
    note += f"Lines: ± 1 standard error {repeated_over(known)} (chips: {chips})"
    return Picture(f"Ablation, {ablation.title}", charts, note, head=ablation.title)


def _records(ablations: Sequence[Ablation]) -> list[Record]:
    """A line for every score of every part; `gain` and `change` as in the tables."""
    records: list[Record] = []
    for one in ablations:
        for compensated in one.compensations:
            for t in one.times:
                for label in (FULL, NONE, *(how(name) for name in one.names for how in (left_out, alone))):
                    statistic = one.statistic(label, t, compensated)
                    if statistic is None:
                        continue
                    gain = one.gain(label.removeprefix("without "), t, compensated) if label.startswith("without ") else None
                    change = one.change(label, t, compensated) if label != NONE else None
                    records.append(
                        {
                            **one.key.bundle._asdict(),
                            **one.key.score._asdict(),
                            "headline": one.headline,
                            "training": one.key.training.name,
                            "recipe": one.key.training.recipe,
                            "compensated": compensated,
                            "t_seconds": t,
                            "ablation": label,
                            "mean": statistic.mean,
                            "standard_error": statistic.error,
                            "seeds": statistic.seeds,
                            "chips": statistic.chips,
                            "gain": gain.mean if gain else None,
                            "gain_standard_error": gain.error if gain else None,
                            "change": change.mean if change else None,
                            "change_standard_error": change.error if change else None,
                            "examples": one.examples,
                            "data": one.key.data,
                        }
                    )
    return records
