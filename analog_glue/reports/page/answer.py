"""The question, and its answer from the runs: how accurate after a second, a day, a month, and what makes it better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from analog_glue.reports.drift import decimals_of
from analog_glue.reports.figures import LANDMARKS, time_label
from analog_glue.reports.grids import ANY, GLUE, MISSING, NAMES, Grid, Place, Sources, score_cell, with_sign
from analog_glue.reports.sections import Section, Variant
from analog_glue.reports.statistics import Statistic, repeated_over, summarise

QUESTION = "How accurate is a transformer on this hardware after a second, a day, a month, and what makes it better?"


@dataclass(frozen=True)
class Fact:
    """A number, what it is, and the runs that it comes from."""

    label: str
    text: str
    sources: Sources


@dataclass(frozen=True)
class Answer:
    """The task and hardware that was scored most first, then the best of every one.

    Args:
        title: What was measured on which hardware.
        best: What was done with the network whose scores these are.
        why: That it was measured most; empty where nothing else was measured.
        scores: In software, then over time.
        gains: What each of two trainings, tunings or compensations has over the other at the last time, the largest first.
        when: That time.
        note: What the errors mean.
        grid: A line for every task and hardware.
    """

    title: str
    best: str
    why: str
    scores: list[Fact]
    gains: list[Fact]
    when: str
    note: str
    grid: Grid


@dataclass(frozen=True)
class _Best:
    """The variant with the best mean at the last time at which the section was measured."""

    section: Section
    variant: Variant
    last: float
    found: dict[float, Statistic] = field(default_factory=dict)

    @property
    def digital(self) -> Statistic | None:
        return summarise(self.section.digital.get(self.variant.training, {}))


def answer(sections: Sequence[Section]) -> Answer | None:
    """From the headline scores on chips; None where there are none."""
    known = [best for section in sections if section.headline and (best := _best(section)) is not None]
    if not known:
        return None
    lead = max(known, key=_thoroughness)  # of equals the first
    section, variant = lead.section, lead.variant
    decimals = decimals_of(section)
    scores = [Fact("in software", score_cell(lead.digital, decimals=decimals), section.sources(variant.training))]
    for t in _shown(list(lead.found)):
        told = score_cell(lead.found[t], decimals=decimals)
        scores.append(Fact(f"after {time_label(t)}", told, section.sources(variant)))
    gains = []
    for one, other in section.pairs():
        gain = section.difference(one, other, lead.last)
        if gain is not None and math.isfinite(gain.mean):
            gains.append((gain.mean * _sign(section), _gain(section, one, other, gain)))
    gains.sort(key=lambda pair: -pair[0])
    note = f"{_metric(section)} on {section.examples:,} examples, mean ± standard error {repeated_over(lead.found.values())}"
    note += f" ({_chips(lead.found[lead.last])}). Differences are of the same chips."
    return Answer(
        f"{_task(section)} with {section.hardware_title}",
        variant.title,
        _why(lead, known),
        scores,
        [gain for _, gain in gains],
        time_label(lead.last),
        note,
        _grid(known),
    )


def _best(section: Section) -> _Best | None:
    if not section.times:
        return None
    last = section.times[-1]
    scored = {variant: s for variant in section.variants if (s := section.statistic(variant, last)) and math.isfinite(s.mean)}
    if not scored:
        return None
    variant = max(scored, key=lambda one: _sign(section) * scored[one].mean)
    found = {t: s for t in section.times if (s := section.statistic(variant, t)) is not None}
    return _Best(section, variant, last, found)


def _sign(section: Section) -> int:
    """−1 where less is better."""
    return -1 if section.score.metric == "cross_entropy" else 1


def _thoroughness(best: _Best) -> tuple[bool, int, float, int, int]:
    """A task of GLUE before one made on the spot; then its scores on chips, for how long, what was compared, on how much."""
    section = best.section
    return section.score.task in GLUE, math.prod(_measured(best)), best.last, len(section.pairs()), section.examples


def _measured(best: _Best) -> tuple[int, int, int]:
    """Chips, seeds and times."""
    last = best.found[best.last]
    return last.chips, last.seeds, len(best.found)


def _why(lead: _Best, known: Sequence[_Best]) -> str:
    if len(known) == 1:
        return ""
    among = " of the tasks of GLUE" if any(best.section.score.task not in GLUE for best in known) else ""
    among = among if lead.section.score.task in GLUE else ""
    counts = zip(_measured(lead), ("chip", "training seed", "time"), strict=True)
    told = " × ".join(f"{count} {name}{'s' * (count != 1)}" for count, name in counts)
    return f"It stands first because it was scored most{among}: {told}."


def _shown(times: Sequence[float]) -> list[float]:
    """Times that a reader asks for; all where these are few, the landmarks among them where there are many."""
    landmarks = [t for t in times if t in LANDMARKS]
    return sorted(times) if len(times) <= 6 or not landmarks else sorted(landmarks)


def _task(section: Section) -> str:
    task = NAMES.get(section.score.task, section.score.task)
    return ", ".join(filter(None, [task, section.data_title]))


def _metric(section: Section) -> str:
    return NAMES.get(section.score.metric, section.score.metric)


def _gain(section: Section, one: Variant, other: Variant, gain: Statistic) -> Fact:
    how = "compensated" if one.compensated else "not compensated"
    if one.training == other.training:
        label = f"drift compensation ({one.training.title})"
    elif one.training.tuning and one.training.trained == other.training.name:
        label = f"tuning, {one.training.tuning} ({other.training.title}, {how})"
    else:
        label = f"{one.training.title} instead of {other.training.title} ({how})"
    return Fact(label, score_cell(gain, signed=True, decimals=decimals_of(section)), section.sources(one, other))


def _chips(statistic: Statistic) -> str:
    chips = str(statistic.chips) if statistic.chips == statistic.most_chips else f"{statistic.chips} to {statistic.most_chips}"
    return f"chips: {chips}, training seeds: {statistic.seeds}"


def _grid(known: Sequence[_Best]) -> Grid:
    """The best variant of every task and hardware at the times that any was measured at."""
    times = _shown(sorted({t for best in known for t in best.found}))
    rows: list[list[str]] = []
    sources: dict[Place, Sources] = {}
    for best in known:
        section, decimals = best.section, decimals_of(best.section)
        sources[len(rows), ANY] = section.sources(best.variant)
        sources[len(rows), 2] = section.sources(best.variant.training)
        change = section.change(best.variant, best.last)
        left = with_sign(change.mean, decimals) if change else MISSING
        cells = [score_cell(best.found.get(t), decimals=decimals) for t in times]
        digital = score_cell(best.digital, decimals=decimals)
        name = f"{_task(section)} ({_metric(section)}): {section.hardware_title}"
        rows.append([name, best.variant.title, digital, *cells, left])
    note = (
        "Of each task and hardware the network, compensated or not, that is best at its last time, and the change from its "
        "score in software by then."
    )
    header = ["", "best", "in software", *map(time_label, times), "change"]
    return Grid("The best of every task and hardware", note, header, rows, sources=sources)
