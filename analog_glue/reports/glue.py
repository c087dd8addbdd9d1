"""The GLUE table, the published numbers beside ours, and the commands that measure what is missing."""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files

from analog_glue.reports.figures import time_label
from analog_glue.reports.grids import (
    ALGORITHMS,
    GLUE,
    NAMES,
    Grid,
    Record,
    Statistic,
    in_points,
    repeated_over,
    score_cell,
    summarise,
)
from analog_glue.reports.sections import LETTERS, Bundle, Section, Variant, seeds_of

# What a command that says nothing of `evaluation.chips` and `evaluation.times` [s] does.
DEFAULT_CHIPS = 25


DEFAULT_TIMES = (1.0, 3600.0, 86_400.0, 604_800.0, 2_592_000.0)


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


def glue_grid(sections: Mapping[str, Section], published: Sequence[Published]) -> Grid:
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
    over = repeated_over(section.statistic(v, t) for section in sections.values() for v in section.cells for t in section.times)
    note = f"Mean ± standard error {over}. MRPC: F1, STS-B: Spearman, CoLA: Matthews, MNLI: matched accuracy, "
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
        seeds = sorted({seed for s in tasks.values() for seed in seeds_of(s)}) or [0]
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
                    if name == training and not _complete(section, (training, compensated), seed, chips, times)
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


def _most_chips(section: Section) -> int:
    cells = (seeds for times in section.cells.values() for seeds in times.values())
    return max(max(chips) + 1 for seeds in cells for chips in seeds.values())


def _complete(section: Section | None, curve: tuple[str, bool], seed: int, chips: int, times: Sequence[float]) -> bool:
    return section is not None and any(
        all(len(by_time.get(t, {}).get(seed, ())) >= chips for t in times)
        for variant, by_time in section.cells.items()
        if (variant.training.name, variant.compensated) == curve
    )


def glue_records(bundles: Mapping[Bundle, Mapping[str, Section]], published: Sequence[Published]) -> list[Record]:
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
