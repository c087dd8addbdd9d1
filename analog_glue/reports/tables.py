"""Tables from rows: group, pivot, compare; nothing but the rows of `results.csv` is ever read (in-situ runs: in_situ.py).

Statistics. Within one training seed, the mean over chips ± s/√n with s the sample standard deviation over
the n chips. With several seeds, chips are averaged within each seed first; the mean over the seeds then
stands ± s/√m with s over the m averages, because a second network, not a second chip, repeats a training.
Variants are compared on the same chips: differences are taken per (seed, chip, time) and treated the same.
"""

from __future__ import annotations

import csv
import functools
import io
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy

from analog_glue.reports.figures import Curve, Level, Panel, drift_figure, time_label
from analog_glue.reports.grids import (
    GLUE,
    MISSING,
    NAMES,
    Grid,
    Record,
    Statistic,
    as_csv,
    as_latex,
    as_markdown,
    as_text,
    in_points,
    repeated_over,
    score_cell,
    span,
    summarise,
)
from analog_glue.reports.groups import ALGORITHMS, DEVICES
from analog_glue.reports.in_situ import chapter
from analog_glue.results import Measurement, find_rows, write_bytes_atomic

# The curves of Spoon et al. (2021), Fig. 5: (training, drift compensated).
LETTERS = {("digital", False): "A", ("digital", True): "B", ("hardware_aware", True): "C"}
# What a command that says nothing of `evaluation.chips` and `evaluation.times` [s] does.
DEFAULT_CHIPS = 25
DEFAULT_TIMES = (1.0, 3600.0, 86_400.0, 604_800.0, 2_592_000.0)
MOST_CURVES = 7  # in one axes; more cannot be told apart


@dataclass(frozen=True)
class Report:
    """What `build` made: the files, and the Markdown of all tables for the terminal."""

    paths: list[Path]
    markdown: str


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


@dataclass(frozen=True)
class Published:
    """One number from the literature: `kind` is score or change (from digital) [points].

    `value` is None where the source could not be read, `t_seconds` [s] where there is no time or none stated.
    """

    line: str
    label: str
    kind: str
    t_seconds: float | None
    task: str
    metric: str
    value: float | None
    decimals: int
    source: str

    @property
    def text(self) -> str:
        """The number with as many digits as its source prints; changes with their sign."""
        if self.value is None:
            return ""
        return f"{self.value:{'+' if self.kind == 'change' else ''}.{self.decimals}f}".replace("-", "−")


# --- rows → sections ------------------------------------------------------------------------------------


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
            f"{conflicts} row(s) repeat a measurement with another score; "
            "the first in the order of the paths is used."
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


# --- sections → text tables -----------------------------------------------------------------------------


def drift_table(rows: Iterable[Measurement]) -> str:
    """Plain text for the end of `train` and `evaluate`: every score of these rows over time."""
    sections, _ = pivot(rows)
    return "\n\n".join(as_text(_drift_grid(section)) for section in sections)


def _drift_grid(section: Section) -> Grid:
    """Times downwards, variants and their paired differences across."""
    cell = functools.partial(score_cell, decimals=_decimals(section))
    keys, pairs = _keys(section), section.pairs()
    labels = [f"{keys[one]} − {keys[other]}" for one, other in pairs]
    on_chips = [variant.training for variant in keys]
    bare = sorted((section.digital.keys() | section.ideal.keys()) - set(on_chips))  # trained, but on no chip
    columns = [*on_chips, *bare]
    found = [[section.statistic(v, t) for t in section.times] for v in keys]
    paired = [[section.difference(one, other, t) for t in section.times] for one, other in pairs]
    nothing = [""] * len(pairs)

    rows = []
    for name, scores in (("digital", section.digital), ("ideal devices", section.ideal)):
        if scores:
            rows.append([name, *(cell(summarise(scores.get(t, {}))) for t in columns), *nothing])
    for i, t in enumerate(section.times):
        label = time_label(t) + ("*" if t in section.extrapolated else "")
        cells = [cell(s[i], section.change(v, t)) for v, s in zip(keys, found, strict=True)]
        rows.append([label, *cells, *[MISSING] * len(bare), *(cell(s[i], signed=True) for s in paired)])
    if section.majority is not None:
        rows.append(["majority class", *[in_points(section.majority, _decimals(section))] * len(columns), *nothing])
    seeds = [span([s.seeds for s in line if s]) for line in [*found, *paired]]
    chips = [span([n for s in line if s for n in (s.chips, s.most_chips)]) for line in [*found, *paired]]
    of_bare = [str(len(section.digital.get(training, section.ideal.get(training, {})))) for training in bare]
    rows.append(["training seeds", *seeds[: len(keys)], *of_bare, *seeds[len(keys) :]])
    rows.append(["chips per seed", *chips[: len(keys)], *["0"] * len(bare), *chips[len(keys) :]])

    note = f"Mean ± standard error {repeated_over(s for line in found for s in line)}"
    note += ", in brackets the change from the digital score of the same networks" if section.cells else ""
    note += "; differences are paired by chip and seed" if pairs else ""
    note += f". {section.examples:,} examples of {section.score.split}."
    if section.extrapolated:
        note += " * beyond the measurements behind the device model."
    legend = [f"{key}: {variant.title}" for variant, key in keys.items()]
    return Grid(
        f"{_score_title(section)}: {section.hardware_title}",
        note,
        ["", *keys.values(), *(training.title for training in bare), *labels],
        rows,
        legend,
    )


def _decimals(section: Section) -> int:
    """Scores are in points, except a cross-entropy [nats]."""
    return 3 if section.score.metric == "cross_entropy" else 2


def _keys(section: Section) -> dict[Variant, str]:
    """A letter for each variant: A, B, C are Spoon's (numbered if there are several), D and on all others."""
    letters = [variant.letter for variant in section.variants]
    keys, others = {}, (chr(code) for code in range(ord("D"), 0x10000))
    for i, variant in enumerate(section.variants):
        if not variant.letter:
            keys[variant] = next(others)
        elif letters.count(variant.letter) == 1:
            keys[variant] = variant.letter
        else:
            keys[variant] = f"{variant.letter}{letters[: i + 1].count(variant.letter)}"
    return keys


def _glue_grid(sections: Mapping[str, Section], published: Sequence[Published]) -> Grid:
    """The eight tasks at the last time beside the published numbers; `sections` by task, headline metric."""
    last = max((t for section in sections.values() for t in section.times), default=None)
    rows = []
    for variant, t, statistics, changes in _glue_lines(sections):
        if t == last:
            name = f"{variant.letter}: {variant.title}" if variant.letter else variant.title
            rows.append([name, *map(score_cell, statistics)])
            rows.append(["… change from digital", *(score_cell(s, signed=True) for s in changes)])
    for name, scores in (
        ("digital score", {task: section.digital for task, section in sections.items()}),
        ("ideal devices", {task: section.ideal for task, section in sections.items()}),
    ):
        for training in sorted({training for by_training in scores.values() for training in by_training}):
            found = [summarise(scores.get(task, {}).get(training, {})) for task in GLUE]
            rows.append([f"{training.title}, {name}", *map(score_cell, _with_average(found))])
    floor = [sections[task].majority if task in sections else None for task in GLUE]
    known = [value for value in floor if value is not None]
    average = sum(known) / len(GLUE) if len(known) == len(GLUE) else None
    rows.append(["always the majority class", *(in_points(value) for value in [*floor, average])])
    sources: list[str] = []
    for line in _published_lines(published):
        if line[0].source not in sources:
            sources.append(line[0].source)
        by_task = {number.task: number for number in line}
        texts = [by_task[task].text if task in by_task else "" for task in [*GLUE, "average"]]
        rows.append([f"{line[0].label} [{sources.index(line[0].source) + 1}]", *texts])
    when = f" at {time_label(last)}" if last is not None else ""
    over = repeated_over(
        section.statistic(v, t) for section in sections.values() for v in section.cells for t in section.times
    )
    note = (
        f"Mean ± standard error {over}. MRPC: F1, STS-B: Spearman, CoLA: Matthews, MNLI: matched accuracy, "
    )
    note += "the rest: accuracy. The average is the plain mean of the eight"
    if len(sections) < len(GLUE):
        note += f" and takes all of them ({len(sections)} here)"
    note += ". Blank: a published number that could not be recovered. " + " ".join(
        f"[{i}] {source}." for i, source in enumerate(sources, 1)
    )
    header = ["", *(NAMES[task] for task in GLUE), "average"]
    title = next(iter(sections.values())).hardware_title
    return Grid(f"GLUE{when}: {title}", note, header, rows)


def _glue_lines(
    sections: Mapping[str, Section],
) -> list[tuple[Variant, float, list[Statistic | None], list[Statistic | None]]]:
    """(variant, time, scores, changes from digital), the eight tasks and their average in each list."""
    variants = sorted({v for s in sections.values() for v in s.cells}, key=lambda v: (v.letter or "~", v))
    lines = []
    for variant in variants:
        for t in sorted({t for s in sections.values() for t in s.cells.get(variant, {})}):
            found = [sections[task] if task in sections else None for task in GLUE]
            statistics = [section.statistic(variant, t) if section else None for section in found]
            changes = [section.change(variant, t) if section else None for section in found]
            lines.append((variant, t, _with_average(statistics), _with_average(changes)))
    return lines


def _with_average(statistics: list[Statistic | None]) -> list[Statistic | None]:
    """The eight tasks and their plain mean, where all are there; errors of tasks add in variance."""
    found = [statistic for statistic in statistics if statistic is not None]
    if len(found) < len(GLUE):
        return [*statistics, None]

    def combined(errors: list[float | None]) -> float | None:
        known = [error for error in errors if error is not None]
        return math.sqrt(sum(e * e for e in known)) / len(GLUE) if len(known) == len(GLUE) else None

    average = Statistic(
        mean=sum(s.mean for s in found) / len(GLUE),
        error=combined([s.error for s in found]),
        error_chips=combined([s.error_chips for s in found]),
        chips=min(s.chips for s in found),
        most_chips=max(s.most_chips for s in found),
        seeds=min(s.seeds for s in found),
    )
    return [*statistics, average]


# --- published numbers ----------------------------------------------------------------------------------


def published_numbers() -> list[Published]:
    """The numbers of the literature in `published.csv`, each with its source."""
    text = files("analog_glue.reports").joinpath("published.csv").read_text(encoding="utf-8")
    return [
        Published(
            line=cells["line"],
            label=cells["label"],
            kind=cells["kind"],
            t_seconds=float(cells["t_seconds"]) if cells["t_seconds"] else None,
            task=cells["task"],
            metric=cells["metric"],
            value=float(cells["value"]) if cells["value"] else None,
            decimals=len(cells["value"].partition(".")[2]),
            source=cells["source"],
        )
        for cells in csv.DictReader(io.StringIO(text, newline=""))
    ]


def _published_lines(published: Sequence[Published]) -> list[list[Published]]:
    """Lines of the literature with at least one of our columns: the headline metrics and their average."""
    lines: dict[str, list[Published]] = {}
    for number in published:
        if number.task == "average" or GLUE.get(number.task) == number.metric:
            lines.setdefault(number.line, []).append(number)
    return list(lines.values())


# --- what is missing ------------------------------------------------------------------------------------


def missing_commands(sections: Iterable[Section]) -> list[str]:
    """Commands that measure what the tables lack; what is there already is not measured again.

    Wanted are A, B and C (on devices without drift: both trainings, not compensated) of every task, of all
    eight once one of GLUE is there, for every seed, with as many chips and times as any of the variants has.
    Settings that no column names (`data.root`, learning rates …) are the user's to add.
    """
    wanted: dict[tuple[Bundle, str, tuple[int, ...], bool, int, tuple[float, ...]], list[str]] = {}
    by_bundle: dict[Bundle, dict[str, Section]] = defaultdict(dict)
    for section in sections:
        if section.headline and not _extracted(section):
            by_bundle[section.bundle].setdefault(section.score.task, section)
    for bundle, tasks in by_bundle.items():
        every = [s for s in tasks.values() if s.cells]
        seeds = sorted({seed for s in tasks.values() for seed in _seeds(s)}) or [0]
        times = tuple(sorted({t for s in every for t in s.times})) or DEFAULT_TIMES
        drifts = any(v.compensated for s in every for v in s.cells) or not every
        letters = LETTERS if drifts else {("digital", False): "", ("hardware_aware", False): ""}
        names = [*GLUE, *sorted(tasks.keys() - GLUE.keys())] if tasks.keys() & GLUE.keys() else sorted(tasks)
        most = max((_most_chips(s) for s in every), default=DEFAULT_CHIPS)
        for task in names:
            section = tasks.get(task)
            chips = _most_chips(section) if section and section.cells else most
            for training in dict.fromkeys(training for training, _ in letters):
                lacking = {
                    (seed, compensated)
                    for name, compensated in letters
                    for seed in seeds
                    if name == training
                    and not _complete(section, (training, compensated), seed, chips, times)
                }
                if lacking:
                    without = drifts and any(not compensated for _, compensated in lacking)
                    key = (bundle, training, tuple(sorted({s for s, _ in lacking})), without, chips, times)
                    wanted.setdefault(key, []).append(task)
    ambiguous = [bundle[:3] for bundle in by_bundle]
    commands = []
    for (bundle, training, lacking_seeds, without, chips, times), names in wanted.items():
        words = ["analog-glue train"]
        words += ["-m"] if len(names) > 1 or len(lacking_seeds) > 1 else []
        words += [f"task={','.join(names)} model={bundle.model} noise={bundle.noise} tile={bundle.tile}"]
        words += [f"training={training} seed={','.join(map(str, lacking_seeds))}"]
        words += ["evaluation.compensation=[true,false]"] if without else []
        words += [f"evaluation.chips={chips}"] if chips != DEFAULT_CHIPS else []
        listed = ",".join(f"{t:.12g}" for t in times)
        words += [f"evaluation.times=[{listed}]"] if times != DEFAULT_TIMES else []
        words += [f"# hardware {bundle.hardware_id}"] if ambiguous.count(bundle[:3]) > 1 else []
        commands.append(" ".join(words))
    return commands


def _extracted(section: Section) -> bool:
    """Whether the weights were trained in situ, which no `train` with this hardware does."""
    return any(training.name.startswith(tuple(ALGORITHMS)) for training in section.digital)


def _seeds(section: Section) -> set[int]:
    on_chips = {seed for times in section.cells.values() for seeds in times.values() for seed in seeds}
    return on_chips | {seed for seeds in section.digital.values() for seed in seeds}


def _most_chips(section: Section) -> int:
    cells = (seeds for times in section.cells.values() for seeds in times.values())
    return max(max(chips) + 1 for seeds in cells for chips in seeds.values())


def _complete(
    section: Section | None, curve: tuple[str, bool], seed: int, chips: int, times: Sequence[float]
) -> bool:
    return section is not None and any(
        all(len(by_time.get(t, {}).get(seed, ())) >= chips for t in times)
        for variant, by_time in section.cells.items()
        if (variant.training.name, variant.compensated) == curve
    )


# --- all of it, to disk ---------------------------------------------------------------------------------


def build(root: Path | str, out: Path | str | None = None) -> Report:
    """Read every `results.csv` and every in-situ run at or below `root`, and write all tables and figures.

    Args:
        root: A folder of runs; `outputs` or the folder of one experiment.
        out: Where to write; `<root>/tables` if not given.

    Returns:
        The files, and what `tables.md` says. The same rows give the same bytes.

    Raises:
        ValueError: There is no row and no learning curve below `root`.
    """
    root = Path(root)
    rows, in_situ = find_rows(root), chapter(root)
    if not rows and in_situ is None:
        raise ValueError(
            f"Argument `root` must hold a results.csv or learning_curve.csv with measured scores, but `{root}` has none at "
            "or below it (`records` not counted). Name the folder that `analog-glue train` or `analog-glue evaluate` wrote to, "
            "or one of outputs/records."
        )
    sections, remarks = pivot(rows)
    published = published_numbers()
    bundles: dict[Bundle, dict[str, Section]] = defaultdict(dict)
    for section in sections:
        if section.headline:
            bundles[section.bundle].setdefault(section.score.task, section)
    content: dict[str, bytes] = {}
    markdown, latex = ["# Scores over time"] if rows else [], []

    for by_task in bundles.values():
        glue = {task: section for task, section in by_task.items() if task in GLUE}
        if glue:
            grid = _glue_grid(glue, published)
            markdown.append(as_markdown(grid))
            latex.append(as_latex(grid, _label("glue", next(iter(glue.values())))))
        drawn = [section for section in by_task.values() if section.cells]
        if drawn:
            name, title = _label("drift", drawn[0]) + ".png", drawn[0].hardware_title
            content[name] = drift_figure([_panel(s) for s in drawn], title, _figure_note(drawn))
            markdown.append(f"![Scores over time: {title}]({name})")
    for section in sections:
        grid = _drift_grid(section)
        markdown.append(as_markdown(grid))
        latex.append(as_latex(grid, _label("-".join(("drift", *section.score)), section)))
    commands = missing_commands(sections)
    if commands:
        intro = "Each command measures only what is not there. Add the overrides that your other runs used."
        markdown.append("## Missing\n\n" + intro + "\n\n```\n" + "\n".join(commands) + "\n```")
    if in_situ is not None:
        markdown.append("# In-situ training")
        for name, part in in_situ.parts:
            if isinstance(part, Grid):
                markdown.append(as_markdown(part))
                latex.append(as_latex(part, name))
            else:
                content[f"{name}.png"] = part.png
                markdown.append(f"![{part.title}]({name}.png)")
        if in_situ.missing:
            intro = "What the paper shows and no run here has measured, each with the command that makes it."
            markdown.append("## Missing in-situ runs\n\n" + intro + "\n\n" + "\n".join(f"- {line}" for line in in_situ.missing))
    if remarks:
        markdown.append("## Remarks\n\n" + "\n".join(f"- {remark}" for remark in sorted(remarks)))

    report = "\n\n".join(markdown) + "\n"
    preamble = "% Needs \\usepackage{booktabs} and \\usepackage{graphicx}.\n"
    content["tables.md"] = report.encode()
    content["tables.tex"] = (preamble + "\n" + "\n".join(latex)).encode()
    for name, records in (
        ("drift.csv", _drift_records(sections)),
        ("differences.csv", _difference_records(sections)),
        ("glue.csv", _glue_records(bundles, published)),
        *(in_situ.records.items() if in_situ is not None else ()),
    ):
        if records:
            content[name] = as_csv(records)
    folder = Path(out) if out is not None else root / "tables"
    for name, data in sorted(content.items()):
        write_bytes_atomic(folder / name, data)
    return Report(paths=[folder / name for name in sorted(content)], markdown=report)


def _panel(section: Section) -> Panel:
    curves = []
    keys = _keys(section)
    for variant in section.variants[:MOST_CURVES]:
        found = {t: section.statistic(variant, t) for t in section.times}
        points = {t: s for t, s in found.items() if s is not None}
        curves.append(
            Curve(
                label=f"{keys[variant]}: {variant.title}",
                letter=keys[variant],
                times=list(points),
                mean=[s.mean for s in points.values()],
                error=[s.error for s in points.values()],
            )
        )
    levels = []
    for training, by_seed in sorted(section.digital.items()):
        score = summarise(by_seed)
        own = sorted((v for v in section.variants if v.training == training), key=lambda v: v.compensated)
        if score is not None:
            like = f"{keys[own[-1]]}: {own[-1].title}" if own and training.name != "digital" else ""
            levels.append(Level(f"{training.title}, digital score", score.mean, like=like))
    if section.majority is not None and math.isfinite(section.majority):
        levels.append(Level("always the majority class", section.majority, dotted=True))
    task, metric = (NAMES.get(name, name) for name in (section.score.task, section.score.metric))
    return Panel(task, metric if metric.endswith("]") else f"{metric} [points]", curves, levels)


def _figure_note(sections: Sequence[Section]) -> str:
    found = [s.statistic(v, t) for s in sections for v in s.cells for t in s.times]
    known = [statistic for statistic in found if statistic is not None]
    chips = [n for s in known for n in (s.chips, s.most_chips)]
    seeds = [s.seeds for s in known]
    counts = f"chips: {span(chips)}, training seeds: {span(seeds)}"
    return f"Bars: ± 1 standard error {repeated_over(known)} ({counts})"


def _statistic_record(statistic: Statistic) -> Record:
    return {
        "mean": statistic.mean,
        "standard_error": statistic.error,
        "standard_error_chips": statistic.error_chips,
        "seeds": statistic.seeds,
        "chips": statistic.chips,
        "most_chips": statistic.most_chips,
    }


def _drift_records(sections: Iterable[Section]) -> list[Record]:
    records = []
    for section in sections:
        for variant in section.variants:
            digital = summarise(section.digital.get(variant.training, {}))
            ideal = summarise(section.ideal.get(variant.training, {}))
            for t in section.times:
                statistic, change = section.statistic(variant, t), section.change(variant, t)
                if statistic is None:
                    continue
                records.append(
                    {
                        **section.bundle._asdict(),
                        **section.score._asdict(),
                        "headline": section.headline,
                        "curve": variant.letter,
                        "training": variant.training.name,
                        "recipe": variant.training.recipe,
                        "compensated": variant.compensated,
                        "t_seconds": t,
                        "extrapolated": t in section.extrapolated,
                        **_statistic_record(statistic),
                        "digital": digital.mean if digital else None,
                        "change": change.mean if change else None,
                        "change_standard_error": change.error if change else None,
                        "ideal_devices": ideal.mean if ideal else None,
                        "majority": section.majority,
                        "examples": section.examples,
                        "wall_seconds_per_evaluation": float(numpy.mean(sorted(section.seconds[variant][t]))),
                    }
                )
    return records


def _difference_records(sections: Iterable[Section]) -> list[Record]:
    return [
        {
            **section.bundle._asdict(),
            **section.score._asdict(),
            "headline": section.headline,
            "variant": one.title,
            "minus": other.title,
            "t_seconds": t,
            **_statistic_record(statistic),
        }
        for section in sections
        for one, other in section.pairs()
        for t in section.times
        if (statistic := section.difference(one, other, t)) is not None
    ]


def _glue_records(
    bundles: Mapping[Bundle, Mapping[str, Section]], published: Sequence[Published]
) -> list[Record]:
    records: list[Record] = []
    columns = [*GLUE.items(), ("average", "headline")]
    for bundle, by_task in bundles.items():
        glue = {task: section for task, section in by_task.items() if task in GLUE}
        for variant, t, statistics, changes in _glue_lines(glue):
            for kind, found in (("score", statistics), ("change", changes)):
                for (task, metric), statistic in zip(columns, found, strict=True):
                    measured = {
                        "origin": "measured",
                        **bundle._asdict(),
                        "label": variant.title,
                        "kind": kind,
                        "t_seconds": t,
                        "task": task,
                        "metric": metric,
                        "value": statistic.mean if statistic else None,
                        "standard_error": statistic.error if statistic else None,
                        "seeds": statistic.seeds if statistic else 0,
                        "chips": statistic.chips if statistic else 0,
                        "source": "",
                    }
                    records.append(measured)
    if records:
        blank: Record = dict.fromkeys(records[0])
        for line in _published_lines(published):
            for number in line:
                columns_of_both = {name: value for name, value in asdict(number).items() if name in blank}
                records.append({**blank, "origin": "published", **columns_of_both})
    return records


# --- text -----------------------------------------------------------------------------------------------


def _score_title(section: Section) -> str:
    task, metric = (NAMES.get(name, name) for name in (section.score.task, section.score.metric))
    return f"{task} ({metric}{', headline' if section.headline else ''})"


def _label(kind: str, section: Section) -> str:
    """Name of a file and a LaTeX label."""
    parts = [kind, *section.bundle[:3], *([section.hardware] if section.hardware else [])]
    return "-".join(re.sub(r"[^A-Za-z0-9_.-]+", "_", part) for part in parts)
