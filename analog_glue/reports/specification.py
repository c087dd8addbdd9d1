"""Which device would do: what `specify` found, as a table, a map for each pair of knobs, and pictures of all looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from analog_glue.reports.figures import Chart, Level, Line, time_label
from analog_glue.reports.grids import ANY, MISSING, Chapter, Grid, Picture, Record, Sources, as_markdown, as_text, in_points
from analog_glue.specification.search import Answer, Look, Rule, standard_error

AS_IT_IS = "as it is"  # in the column `ablation`: no knob is turned


@dataclass(frozen=True)
class Subject:
    """What was asked, in words and numbers.

    Args:
        title: The run and its hardware.
        metric: Its unit is points.
        chips: That were looked at.
        confidence: Of every answer by itself.
        examples: Number of examples scored.
    """

    title: str
    metric: str
    digital: float  # [points]
    keep: float  # [%]
    time: float  # [s]
    compensated: bool
    confidence: float
    chips: int
    examples: int

    @property
    def threshold(self) -> float:
        """[points] that the mean over chips must keep."""
        return self.keep / 100 * self.digital

    @property
    def wish(self) -> str:
        how = "" if self.compensated else ", not compensated"
        return f"{self.keep:g} % of {self.digital:.2f} ({self.metric}) after {time_label(self.time)}{how}"


@dataclass(frozen=True)
class Borne:
    """The answer of one knob.

    Args:
        knob: Its name.
        today: The setting of the hardware as it is, "noise.programming=1".
        borne: The setting that was answered; empty where none is borne.
        denied: The next one, of which it is not said; empty where there is none.
        margin: How much more is borne than today.
        unit: Of the values, "bits" or "cells"; empty where they are factors.
        answer: In values of the knob.
        fresh: Scores [points] of chips that were not looked at before, at the answered value.
        sources: The sweeps of its looks.
    """

    knob: str
    today: str
    borne: str
    denied: str
    margin: str
    unit: str
    answer: Answer
    fresh: tuple[float, ...] = ()
    sources: Sources = frozenset()


@dataclass(frozen=True)
class Contour:
    """How much of the second knob is borne at values of the first, from harmless to severe; both as values of their knobs."""

    knobs: tuple[str, str]
    units: tuple[str, str]
    lines: tuple[tuple[float, Answer], ...]
    sources: tuple[Sources, ...] = ()  # of each line

    @property
    def name(self) -> str:
        return "map-" + "-".join(self.knobs)


def specification_grid(subject: Subject, found: Sequence[Borne], scores: int) -> Grid:
    """One knob a line. `scores`: that were asked for, all together."""
    header = ["one knob at a time", "today", "borne", "margin", "not borne", "score", "lower bound", "looks"]
    header += ["fresh chips", "holds"] if any(one.fresh for one in found) else []
    rows = []
    for one in found:
        at, rule = one.answer.at, one.answer.rule
        cells = [one.knob, _value(one.today), _value(one.borne) or "none", one.margin, _value(one.denied) or MISSING]
        cells += [_mean(at.scores), in_points(rule.lower_bound(at.scores))] if at else [MISSING, MISSING]
        cells.append(str(len(one.answer.looks)))
        if len(header) > len(cells):
            cells += [_mean(one.fresh), rule.verdict(one.fresh)] if one.fresh else [MISSING, MISSING]
        rows.append(cells)
    note = (
        f"Borne: the most severe value at which the lower confidence bound of the mean over {subject.chips} chips keeps "
        f"{subject.threshold:.2f}; with {100 * subject.confidence:g} % confidence, of each line by itself, it really does if "
        f"the score falls along the knob. Margin: over today, × a noise, or bits and cells not needed; all else as it is. Not "
        f"borne: the next value that was looked at. Score: mean ± standard error over chips, {subject.examples:,} examples. "
        f"{scores:,} scores."
    )
    if any(one.fresh for one in found):
        note += (
            f" Fresh chips: others, at the answered value. They hold where their mean keeps {subject.threshold:.2f}, fail "
            f"where their upper {100 * subject.confidence:g} % bound does not, and leave it undecided in between."
        )
    sources = {(number, ANY): one.sources for number, one in enumerate(found)}
    return Grid(f"Specification, {subject.title}: keep {subject.wish}", note, header, rows, sources=sources)


def contour_grid(subject: Subject, contour: Contour) -> Grid:
    """One line of a map a row."""
    across, up = contour.knobs
    rows = []
    for value, answer in contour.lines:
        at, looked = answer.at, sum(bool(look.scores) for look in answer.looks)
        told = MISSING if answer.value is None else _of_knob(answer.value, contour.units[1])
        cells = [_of_knob(value, contour.units[0]), "none" if answer.value is None else told]
        cells += [_mean(at.scores), in_points(answer.rule.lower_bound(at.scores))] if at else [MISSING, MISSING]
        rows.append([*cells, str(looked)])
    note = f"How much of {up} is borne at values of {across} (×: of today's), each line with its own confidence."
    sources = {(number, ANY): own for number, own in enumerate(contour.sources)}
    header = [across, f"{up} borne", "score", "lower bound", "looks"]
    return Grid(f"{up} borne beside {across}", note, header, rows, sources=sources)


def knobs_picture(subject: Subject, found: Sequence[Borne]) -> Picture:
    """Every look at every knob, and what must be kept."""
    charts = []
    for one in found:
        looks = sorted((look for look in one.answer.looks if look.scores and look.value > 0), key=lambda look: look.value)
        x, y = [look.value for look in looks], [fmean(look.scores) for look in looks]
        lines = [Line("mean over chips", x, y, [standard_error(look.scores) for look in looks])]
        lines += [] if (at := one.answer.at) is None or not at.value else [_spot("borne", at)]
        ticks = x if one.unit else _powers_of_two(x)
        levels = [
            Level("digital", subject.digital, dotted=True),
            Level(f"{subject.keep:g} % of it", subject.threshold, told=f"{subject.keep:g} %"),
        ]
        told = one.unit or "factor on today"
        charts.append(Chart(one.knob, told, f"{subject.metric} [points]", lines, levels, log_x=not one.unit, ticks=ticks))
    note = f"Lines: ± 1 standard error over {subject.chips} chips"
    return Picture(f"Which device would do: keep {subject.wish}", charts, note)


def contour_picture(subject: Subject, contour: Contour) -> Picture:
    """The staircase between what is borne and what is not, and every look."""
    (across, up), units = contour.knobs, contour.units
    edge = [(value, answer.value) for value, answer in contour.lines if answer.value]
    lines = [Line("borne up to here", [x for x, _ in edge], [y for _, y in edge], [None] * len(edge))]
    for label, borne in (("borne", True), ("not borne", False)):
        spots = [(x, look.value) for x, answer in contour.lines for look in answer.looks if _is_shown(look, borne)]
        lines.append(Line(label, [x for x, _ in spots], [y for _, y in spots], [None] * len(spots), joined=False))
    axes = [f"{name} [{unit or 'factor on today'}]" for name, unit in zip((across, up), units, strict=True)]
    ticks = () if units[0] else _powers_of_two([value for value, _ in contour.lines])
    chart = Chart("", axes[0], axes[1], lines, log_x=not units[0], log_y=not units[1], ticks=ticks)
    return Picture(f"Which device would do: keep {subject.wish}", [chart], f"{subject.title}, {subject.chips} chips")


def _powers_of_two(factors: Sequence[float]) -> list[float]:
    """Those among factors, to be named on their axis."""
    powers = (2.0**power for power in range(-6, 7))
    return [power for power in powers if min(factors, default=1) <= power <= max(factors, default=1)]


def _is_shown(look: Look, borne: bool) -> bool:
    return bool(look.scores) and look.value > 0 and look.borne == borne


def terminal(subject: Subject, found: Sequence[Borne], contours: Sequence[Contour], scores: int) -> str:
    return "\n\n".join(map(as_text, _grids(subject, found, contours, scores)))


def page(subject: Subject, found: Sequence[Borne], contours: Sequence[Contour], scores: int) -> str:
    """Markdown."""
    return "\n\n".join(map(as_markdown, _grids(subject, found, contours, scores))) + "\n"


def pictures(subject: Subject, found: Sequence[Borne], contours: Sequence[Contour]) -> dict[str, Picture]:
    """File name without its ending → picture."""
    drawn = {"knobs": knobs_picture(subject, found)} if found else {}
    return drawn | {one.name: contour_picture(subject, one) for one in contours}


def chapter(subject: Subject, found: Sequence[Borne], contours: Sequence[Contour], scores: int) -> Chapter:
    """The tables and the pictures, for `report`."""
    names = [*(["knobs"] if found else []), *(one.name for one in contours)]
    drawn = pictures(subject, found, contours)
    made = Chapter()
    for name, grid in zip(names, _grids(subject, found, contours, scores), strict=True):
        made.parts += [(name, grid), (f"{name}-picture", drawn[name])]
    return made


def records(found: Sequence[Borne], contours: Sequence[Contour]) -> list[Record]:
    """Every look, one line each; `beside` is the value of the first knob of a pair."""
    lines: list[Record] = []
    for one in found:
        lines += _looks(one.knob, "", None, one.answer)
        if one.fresh:
            fresh = Look(one.answer.value or 0.0, one.fresh, fmean(one.fresh) >= one.answer.rule.threshold)
            lines.append(_record(one.knob, "", None, fresh, one.answer.rule, fresh=True))
    for contour in contours:
        for value, answer in contour.lines:
            lines += _looks(contour.knobs[1], contour.knobs[0], value, answer)
    return lines


def _looks(knob: str, beside: str, at: float | None, answer: Answer) -> list[Record]:
    return [_record(knob, beside, at, look, answer.rule, answered=look.value == answer.value) for look in answer.looks]


def _record(
    knob: str, beside: str, at: float | None, look: Look, rule: Rule, answered: bool = False, fresh: bool = False
) -> Record:
    scored = bool(look.scores)
    return {
        "knob": knob,
        "value": look.value,
        "beside": beside,
        "beside_value": at,
        "chips": len(look.scores),
        "fresh": fresh,
        "mean": fmean(look.scores) if scored else None,
        "standard_error": standard_error(look.scores) if scored else None,
        "lower_bound": rule.lower_bound(look.scores) if scored and not fresh else None,
        "threshold": rule.threshold,
        "borne": look.borne,
        "answered": answered,
    }


def _grids(subject: Subject, found: Sequence[Borne], contours: Sequence[Contour], scores: int) -> list[Grid]:
    return [
        *([specification_grid(subject, found, scores)] if found else []),
        *(contour_grid(subject, one) for one in contours),
    ]


def _spot(label: str, look: Look) -> Line:
    return Line(label, [look.value], [fmean(look.scores)], [None], joined=False)


def _of_knob(value: float, unit: str) -> str:
    return f"{value:g} {unit}" if unit else f"× {value:.3g}"


def _value(setting: str) -> str:
    """Without the group: the knob stands beside it."""
    return setting.partition(".")[2] if "=" in setting else setting


def _mean(scores: Sequence[float]) -> str:
    return f"{in_points(fmean(scores))} ± {standard_error(scores):.2f}" if len(scores) > 1 else in_points(fmean(scores))
