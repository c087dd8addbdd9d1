"""Runs that differ by their seed alone, and the words for them in a table.

Statistics. The runs of a group are one line: the mean over the seeds ± its standard error. Several extractions, draws or arrays
of one run are averaged within the run first; with a single run they give the error instead.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from analog_glue.in_situ.reports.records import SHORTENING, InSituRun, in_words
from analog_glue.reports.figures import Line
from analog_glue.reports.grids import ALGORITHMS, DEVICES, GLUE, NAMES, NO_DEVICE, Sources
from analog_glue.reports.statistics import Statistic, summarise

BASELINE = (NO_DEVICE, "symmetric_linear", "soft_bounds")  # devices of Figures 3 and 4


MODELS = ("model_i", "model_ii", "model_iii")  # Figure 5 and Table 1


TEXT = "war_and_peace"


MOMENTUM, ADC = "training.momentum", "training.periphery.adc_bits"
# What stands below a table with such a group.
SHORT = "Lines with train_characters or train_images learnt only so much of the training set; the paper's learnt all of it."


class Axis(NamedTuple):
    """One axis of Figure 4; its points differ in `key` alone."""

    key: str
    baseline: float
    values: tuple[float, ...]  # those of papers that could be read, or else ours
    what: str
    zero: str | None = None  # a setting that is 0 at all points, though not in Figure 3
    training: str = "ttv2"  # what the command of `missing` trains

    @property
    def name(self) -> str:
        return self.key.rpartition(".")[2]

    def has(self, group: Group) -> bool:
        """Whether a group is a point of the axis, the baseline included."""
        others = [key for key in departures(group) if key != self.key]
        return (
            group.any.device in BASELINE
            and others == ([self.zero] if self.zero else [])
            and not (self.zero and group.setting(self.zero))
        )

    def value(self, group: Group) -> float:
        found = group.setting(self.key)
        return self.baseline if found is None else float(str(found))

    def points(self, groups: Iterable[Group]) -> list[Group]:
        """The groups on the axis, of the devices and algorithms of which one is not at the baseline; none without such."""
        own = [(group, (group.any.device, group.any.training, group.part)) for group in groups if self.has(group)]
        kinds = {kind for group, kind in own if self.value(group) != self.baseline}
        return [group for group, kind in own if kind in kinds]


# An ADC of 9 bits on ±12 has steps of 0.047, and less noise than that no longer dithers what is rounded. So that its axis
# measures the noise of products alone, it is without ADC.
AXES = (
    Axis("device.dw_min", 0.001, (0.001, 0.005, 0.02, 0.05, 0.1, 0.15), "states of a device"),
    Axis("device.dw_min_std", 0.3, (0.3, 1.0, 3.0, 10.0), "update noise [steps]"),
    Axis("training.periphery.output_noise", 0.06, (0.006, 0.06, 0.6), "noise of products [units of weights]", ADC),
    Axis("training.periphery.read_noise", 0.06, (0.006, 0.06), "noise of reads of A [units of weights]", None, "tiki_taka"),
)


FIGURE_3 = {axis.key: axis.baseline for axis in AXES} | {ADC: 9, "training.periphery.read_adc_bits": 9}


@dataclass
class Group:
    """Runs that differ by their seed alone; of one seed the longest."""

    runs: dict[int, InSituRun] = field(default_factory=dict)
    label: str = ""

    @property
    def any(self) -> InSituRun:
        return next(iter(self.runs.values()))

    def setting(self, key: str) -> object:
        return self.any.settings.get(key)

    @property
    def sources(self) -> Sources:
        """The names of its runs."""
        return frozenset((run.folder.name, "") for run in self.runs.values())

    @property
    def part(self) -> tuple[object, ...]:
        """Of how much of the training set was learnt, as `SHORTENING` lists it; all None: of the whole."""
        return tuple(self.setting(key) for key in SHORTENING)

    @property
    def short(self) -> bool:
        """Whether a part of the training set was left out, so that the paper and other parts are not what it compares with."""
        return self.part != (None,) * len(SHORTENING)

    @property
    def last(self) -> int:
        """The latest epoch that every seed has finished."""
        return min(int(run.curve[-1]["epoch"]) for run in self.runs.values())

    def scores(self, epoch: int, name: str, whole: bool | None = None) -> dict[int, float]:
        """Seed → a column of the learning curve after an epoch; `whole`: only of the whole test set, or only of its part."""
        return {
            seed: row[name]
            for seed, run in sorted(self.runs.items())
            for row in run.curve
            if row["epoch"] == epoch and whole in (None, bool(row["whole_test_set"]))
        }

    def at(self, epoch: int, name: str, whole: bool | None = None) -> Statistic | None:
        """`scores`, averaged."""
        return summarise({seed: {0: value} for seed, value in self.scores(epoch, name, whole).items()})

    def whole(self, epoch: int) -> bool:
        """Whether a seed was scored on the whole test set after an epoch."""
        return bool(self.scores(epoch, "whole_test_set", True))

    def score(self, name: str, epoch: int | None = None) -> Statistic | None:
        """After an epoch (default: the last) over the seeds that were scored on the whole test set, else on its part."""
        epoch = epoch or self.last
        return self.at(epoch, name, self.whole(epoch))

    @property
    def mark(self) -> str:
        """What stands behind the last scores if they are those of a part of the test set."""
        return "" if self.whole(self.last) else "°"

    @property
    def progress(self) -> str:
        """The epoch, and of how many where a run has not reached its end."""
        asked = max((run.epochs for run in self.runs.values() if run.curve[-1]["epoch"] < run.epochs), default=0)
        return f"{self.last} of {asked}" if asked else str(self.last)

    def line(self, name: str, whole: bool | None = None, until: int = 10**9) -> Line:
        """A column over the epochs; of scores those of the whole test set, as single points, or of its part if all have it."""
        found = {epoch: self.at(epoch, name, whole) for epoch in range(1, min(self.last, until) + 1)}
        least = 1 if whole else len(self.runs)
        known = {epoch: s for epoch, s in found.items() if s is not None and s.seeds >= least}
        means, errors = [s.mean for s in known.values()], [s.error for s in known.values()]
        return Line(self.label, list(known), means, errors, joined=not whole)


def grouped(runs: Iterable[InSituRun]) -> list[Group]:
    """Runs by everything but the seed."""
    groups: dict[str, Group] = defaultdict(Group)
    for run in runs:
        key = repr((run.task, run.model, run.device, run.training, sorted(run.settings.items())))
        known = groups[key].runs.get(run.seed)
        if known is None or len(known.curve) < len(run.curve):
            groups[key].runs[run.seed] = run
    order = {name: i for i, name in enumerate(ALGORITHMS)}
    return sorted(
        groups.values(),
        key=lambda g: (
            g.any.task, list(DEVICES).index(g.any.device) if g.any.device in DEVICES else 99, g.any.device,
            order.get(g.any.training, 99), g.short, str(sorted(g.any.settings.items())),
        ),
    )  # fmt: skip


def name_groups(groups: Sequence[Group], beside: Sequence[str] = (), across: bool = False) -> None:
    """Device and algorithm, a shortened training set, and what tells a group from others of the same names.

    Args:
        beside: Settings that stand elsewhere.
        across: Tell it from groups of other tasks, too; then two groups of one name differ in their task (and `beside`) alone.
    """
    alike: dict[tuple[str, ...], list[Group]] = defaultdict(list)
    for group in groups:
        run = group.any
        alike["" if across else run.task, run.model, run.device, run.training].append(group)
    for (_, model, device, training), own in alike.items():
        keys = sorted({key for group in own for key in group.any.settings})
        differing = [key for key in keys if key != MOMENTUM and _differ(key, own)]
        hysteretic = MOMENTUM in keys and len({group.setting(MOMENTUM) for group in own}) > 1
        for group in own:
            words = [model, DEVICES.get(device, device.replace("_", " ")), ALGORITHMS.get(training, training.replace("_", " "))]
            if MOMENTUM in keys and (hysteretic or device in MODELS):
                kept = group.setting(MOMENTUM)
                words.append("plain" if not kept else f"hysteretic (m = {kept})")
            own_keys = {*SHORTENING, *differing, *(departures(group) if device in BASELINE else ())}
            told = [_told(key, group) for key in sorted(own_keys & set(group.any.settings) - set(beside))]
            group.label = ", ".join([" ".join(filter(None, words)), *told])


def differences(runs: Iterable[InSituRun]) -> dict[Path, str]:
    """Folder → settings, but the seed, in which a run differs from others of its task, model, device and training, in words."""
    alike: dict[tuple[str, ...], list[Group]] = defaultdict(list)
    for run in runs:
        alike[run.task, run.model, run.device, run.training].append(Group({run.seed: run}))
    told: dict[Path, str] = {}
    for own in alike.values():
        differing = [key for key in sorted({key for group in own for key in group.any.settings}) if _differ(key, own)]
        told |= {group.any.folder: ", ".join(_told(key, group) for key in differing) for group in own}
    return told


def _told(key: str, group: Group) -> str:
    return f"{key.rpartition('.')[2]} {in_words(group.setting(key))}"


def _differ(key: str, groups: Iterable[Group]) -> bool:
    """Whether a setting differs, one of the task or its data: among groups of the same task."""
    values: dict[str, set[str]] = defaultdict(set)
    for group in groups:
        of_task = key == "data" or key.startswith("task.")
        values[group.any.task if of_task else ""].add(repr(group.setting(key)))
    return any(len(found) > 1 for found in values.values())


def departures(group: Group) -> list[str]:
    """Which settings are not those of Figure 3."""
    if group.any.device == NO_DEVICE:
        return []
    return [key for key, value in FIGURE_3.items() if group.setting(key) not in (value, None)]


def symmetric_sgd(groups: Sequence[Group]) -> dict[tuple[object, ...], Group]:
    """Part of the training set → SGD on symmetric devices that learnt it, from which gaps of the others that did are measured.

    Of several the one that learnt longest, then best.
    """
    known = [g for g in groups if (g.any.training, g.any.device) == ("sgd_pulsed", "symmetric_linear")]

    def loss(group: Group) -> float:
        found = group.at(group.last, "train_loss")
        return found.mean if found else math.inf

    best_first = sorted(known, key=lambda group: (-group.last, loss(group)))
    return {group.part: group for group in reversed(best_first)}


def headline(run: InSituRun) -> str:
    """The score that a task is reported by."""
    if run.task in GLUE and GLUE[run.task] in run.metrics:
        return GLUE[run.task]
    return "accuracy" if "accuracy" in run.metrics else run.metrics[0]


def unit(metric: str) -> str:
    return "accuracy [%]" if metric == "accuracy" else NAMES.get(metric, metric)
