"""Table II and Figure 3 of Lammie et al. (2024): ranges of converters and columns that are fixed, learned, or tuned afterwards.

A line is a configuration of the paper: weights clipped in training or not, inputs and outputs quantised in training or not, and
how each of two ranges came about, that of the inputs (DACs) and that of the conductances of a column: "none", "learned" in
training, "post-training" by `analog-glue tune`, or one after the other. Configurations are read from the settings of the runs,
not from their names; the networks are those of training=lammie2024, scored on tile=lammie2024 with drift compensation.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from analog_glue.reports.drift import figure_note
from analog_glue.reports.figures import Curve, Level, Panel, time_label
from analog_glue.reports.glue import average_of
from analog_glue.reports.grids import ANY, GLUE, NAMES, Chapter, Grid, Picture, Place, Record, Sources, score_cell, span
from analog_glue.reports.missing import DEFAULT_TIMES
from analog_glue.reports.published import Published
from analog_glue.reports.sections import Section, Variant, pivot
from analog_glue.reports.statistics import Statistic, repeated_over, summarise
from analog_glue.reports.trainings import Training
from analog_glue.runs.identity import Payload
from analog_glue.runs.rows import Measurement

OPTION = "lammie2024"  # of the groups `tile`, `training`, `tuning`
HOUR = 3600.0  # [s] of the table
CHIPS = 10  # of the paper, and of the experiments
SHOWN_OVER_TIME = ("rte", "mrpc", *GLUE)  # the first that is measured: the paper shows RTE

# Option of `tuning` → what it does to the range of the inputs and to that of the conductances.
TUNINGS = {
    "": ("", ""),
    "dac_range": ("post-training", ""),
    "conductance_range": ("", "post-training"),
    OPTION: ("post-training", "post-training"),
    "rescaling": ("rescaled", ""),
    "auto": ("auto", "auto"),
}
PAPER: Payload = {  # what is published of the training, and what is our "none"; other networks are told below the table
    "training.epochs": 20,
    "training.max_steps": None,
    "training.learning_rate": 5e-5,
    "training.weight_noise.law": "relative",
    "training.weight_noise.scale": 0.06,
    "training.output_noise": 0.1,
    "hardware.calibration.deviations": 3.0,
}
# Words that give `tune` the hardware of the experiments, so that its rows stand beside those of the training.
CALIBRATION = "hardware.calibration.deviations=3 hardware.calibration.examples=800"


class Configuration(NamedTuple):
    """How networks were trained and tuned; in the order of the table. `unclipped` first: no comes after yes."""

    unclipped: bool
    unquantised: bool
    learned_input: bool
    learned_conductance: bool
    tuning: str = ""

    @property
    def input_range(self) -> str:
        return _history(self.learned_input, TUNINGS.get(self.tuning, (self.tuning,) * 2)[0])

    @property
    def conductance_range(self) -> str:
        return _history(self.learned_conductance, TUNINGS.get(self.tuning, (self.tuning,) * 2)[1])

    @property
    def training(self) -> str:
        return f"{'no clipping' if self.unclipped else 'clipping'}, I/O {'not ' if self.unquantised else ''}quantised"

    @property
    def title(self) -> str:
        return f"input range {self.input_range}, conductance range {self.conductance_range} ({self.training})"

    @property
    def words(self) -> list[str]:
        """Overrides of training=lammie2024, which clips, quantises and learns both ranges."""
        found = ["training.weight_clip=null"] if self.unclipped else []
        found += ["training.quantisation=false"] if self.unquantised else []
        found += [] if self.learned_input else ["training.input_range.learning_rate=0"]
        return found + ([] if self.learned_conductance else ["training.output_scale_learning_rate=0"])


def _history(learned: bool, afterwards: str) -> str:
    """ "none", "learned", "post-training", "learned, post-training"."""
    return ", ".join(filter(None, ["learned" if learned else "", afterwards])) or "none"


NONE, BOTH_TUNED = Configuration(False, False, False, False), Configuration(False, False, False, False, OPTION)
LEARNED, THEN_TUNED = Configuration(False, False, True, True), Configuration(False, False, True, True, OPTION)
OF_CONFIGURATION = {  # whose average is published → its line in published.csv
    NONE: "lammie2024_none",
    BOTH_TUNED: "lammie2024_post_training",
    LEARNED: "lammie2024_learned",
    THEN_TUNED: "lammie2024_learned_post_training",
}
IDEAL = "lammie2024_ideal"
FAMILY = ("lammie2024_post_training_lowest", "lammie2024_post_training_highest")  # of ranges tuned after training alone


def configuration_of(settings: Payload, tuning: str) -> Configuration:
    """
    Args:
        settings: Of the training of a network, tuned or not.
        tuning: Option of the tuning; empty where there was none.
    """
    return Configuration(
        unclipped=settings.get("training.weight_clip", 2.5) is None,
        unquantised=not settings.get("training.quantisation", True),
        learned_input=settings.get("training.input_range.learning_rate", 3e-3) != 0,
        learned_conductance=settings.get("training.output_scale_learning_rate", 1e-3) != 0,
        tuning=tuning,
    )


class Line(NamedTuple):
    """Networks of one configuration and one training."""

    configuration: Configuration
    training: Training

    @property
    def cells(self) -> list[str]:
        own = self.configuration
        apart = f" [{self.training.recipe}]" if self.training.recipe else ""
        return [own.training + apart, own.input_range, own.conductance_range]

    @property
    def title(self) -> str:
        return self.configuration.title + (f" [{self.training.recipe}]" if self.training.recipe else "")

    @property
    def variant(self) -> Variant:
        return Variant(self.training, True)

    @property
    def order(self) -> tuple[object, ...]:
        """In the table: tunings of the paper first."""
        own = self.configuration
        known = list(TUNINGS).index(own.tuning) if own.tuning in TUNINGS else len(TUNINGS)
        return *own[:4], known, own.tuning, self.training


@dataclass
class Table:
    """What is known of one model on one device: sections by line and task, the runs behind them, and remarks."""

    model: str
    noise: str
    lines: dict[Line, dict[str, Section]] = field(default_factory=dict)
    runs: dict[Configuration, dict[str, set[str]]] = field(default_factory=dict)  # by task
    seeds: set[int] = field(default_factory=set)
    remarks: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)  # what all networks were trained with that is not as in the paper

    def statistics(self, line: Line, t: float) -> list[Statistic | None]:
        """Of the eight tasks."""
        own = self.lines[line]
        return [own[task].statistic(line.variant, t) if task in own else None for task in GLUE]

    def digital(self, line: Line) -> list[Statistic | None]:
        own = self.lines[line]
        return [summarise(own[task].digital.get(line.training, {})) if task in own else None for task in GLUE]

    def times(self, task: str) -> list[float]:
        return sorted({t for line, own in self.lines.items() if task in own for t in own[task].cells.get(line.variant, {})})

    @property
    def title(self) -> str:
        return f"{self.model}, {self.noise} on {OPTION}"


def lammie2024(rows: Sequence[Measurement], settings: Mapping[str, Payload] | None, published: Sequence[Published]) -> Chapter:
    """For every model and device: the table after an hour, one task over time, and records of both.

    Args:
        settings: Of the trainings and tunings, by the name of the run.
        published: Numbers of the literature.
    """
    made = Chapter()
    by_names: dict[tuple[str, str], list[Measurement]] = defaultdict(list)
    for row in rows:
        ours = row.tile == OPTION and row.training.partition("+")[0] == OPTION
        if ours and row.task in GLUE and row.headline and not row.ablation and row.attention == "fp32":
            by_names[row.model, row.noise].append(row)
    numbers = {number.line: number for number in published if number.line.startswith("lammie2024")}
    for (model, noise), own in by_names.items():
        table = _table(model, noise, own, settings or {})
        if not table.lines:
            continue
        names = f"{model}-{noise}"
        made.parts.append((f"lammie2024_table2-{names}", _grid(table, numbers)))
        made.records.setdefault("lammie2024_table2.csv", []).extend(_records(table))
        task = next((task for task in SHOWN_OVER_TIME if len(table.times(task)) > 1), None)
        if task is not None:
            title = f"Figure 3 of Lammie et al. (2024): {NAMES[task]} over time, {table.title}, compensated"
            name = f"lammie2024_figure3-{names}"
            made.parts += [(name, _over_time(table, task, title)), (name, _picture(table, task, title))]
            made.records.setdefault("lammie2024_figure3.csv", []).extend(_records_over_time(table, task))
        made.missing += _missing(table)
    if records := made.records.get("lammie2024_table2.csv"):
        blank: Record = dict.fromkeys(records[0])
        for number in numbers.values():
            its = {name: value for name, value in vars(number).items() if name in blank}
            how = {"model": "roberta_base", "hardware": "digital" if number.t_seconds is None else "analog"}
            records.append({**blank, **its, **how, "origin": "published"})
    return made


def _table(model: str, noise: str, rows: Sequence[Measurement], settings: Mapping[str, Payload]) -> Table:
    """Every configuration is pivoted by itself, so that what it consists of is not told once more as a difference."""
    table = Table(model, noise, seeds={row.seed for row in rows})
    apart: dict[Configuration, list[Measurement]] = defaultdict(list)
    unknown: set[str] = set()
    for row in rows:
        if row.run not in settings:
            unknown.add(row.run)
            continue
        configuration = configuration_of(settings[row.run], row.training.partition("+")[2])
        apart[configuration].append(row)
        if row.stage != "majority":
            table.runs.setdefault(configuration, defaultdict(set))[row.task].add(row.run)
    several: set[str] = set()
    for configuration, own in sorted(apart.items()):
        for section in sorted(pivot(own, settings)[0], key=_chips_after_an_hour, reverse=True):
            trainings = {variant.training for variant in section.variants if variant.compensated} | section.digital.keys()
            for training in sorted(trainings):
                known = table.lines.setdefault(Line(configuration, training), {})
                if known.setdefault(section.score.task, section) is not section and section.cells:
                    several.add(NAMES[section.score.task])
    if several:
        told = f"Of several hardwares or data of the same names the one with most chips is shown ({_listed(several)})"
        table.remarks.append(told)
    if unknown:
        table.remarks.append(
            f"{len(unknown)} network(s) are left out, since the settings of their training are not at hand: make the tables of "
            "the folder with the runs themselves"
        )
    trained = {name: settings[name] for row in rows if (name := row.run) in settings}
    unlike = _unlike(trained)
    differences = [
        f"{key.removeprefix('training.')} {value} instead of {_said(PAPER[key])}"
        + ("" if count == len(trained) else f" (in {count} of {len(trained)} networks)")
        for (key, value), count in unlike.items()
    ]
    table.remarks += [f"Not as in the paper: {'; '.join(differences)}"] if differences else []
    table.overrides = [f"{key}={value}" for (key, value), count in unlike.items() if count == len(trained)]
    return table


def _chips_after_an_hour(section: Section) -> int:
    return sum(len(chips) for by_time in section.cells.values() for chips in by_time.get(HOUR, {}).values())


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _unlike(settings: Mapping[str, Payload]) -> Counter[tuple[str, str]]:
    """Settings and their values that are not what the paper says, and how many networks have them."""
    return Counter(
        (key, _said(own[key])) for own in settings.values() for key, wanted in PAPER.items() if own.get(key, wanted) != wanted
    )


def _said(value: object) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _shown(table: Table) -> list[Line]:
    """Lines that were put on chips, and those whose average is published though nothing is measured, in order."""
    measured = [line for line, own in table.lines.items() if any(line.variant in section.cells for section in own.values())]
    there = {line.configuration for line in measured}
    blank = [Line(own, Training(OPTION, "")) for own in OF_CONFIGURATION if own not in there]
    return sorted([*measured, *blank], key=lambda line: line.order)


def _with_average(statistics: Sequence[Statistic | None]) -> list[str]:
    """Cells of the eight tasks and their average; one over fewer says over how many."""
    average, tasks = average_of(statistics)
    told = f" ({tasks} of {len(GLUE)} tasks)" if 0 < tasks < len(GLUE) else ""
    return [*map(score_cell, statistics), score_cell(average) + told]


def _published(configuration: Configuration, numbers: Mapping[str, Published]) -> str:
    """The average of this configuration in the paper, or that of its family; empty where neither is known."""
    if configuration in OF_CONFIGURATION:
        return numbers[OF_CONFIGURATION[configuration]].text
    after_training_alone = configuration.tuning in (OPTION, "dac_range", "conductance_range")
    if after_training_alone and not configuration.learned_input and not configuration.learned_conductance:
        return " … ".join(numbers[line].text for line in FAMILY)
    return ""


def _grid(table: Table, numbers: Mapping[str, Published]) -> Grid:
    rows: list[list[str]] = []
    sources: dict[Place, Sources] = {}

    def come_from(line: Line, which: Training | Variant) -> None:
        for column, task in enumerate(GLUE, 3):
            if task in table.lines.get(line, {}):
                sources[len(rows), column] = table.lines[line][task].sources(which)

    for line in sorted(table.lines, key=lambda line: line.order):
        if not line.configuration.tuning and any(table.digital(line)):
            first, *others = line.cells
            cells = _with_average(table.digital(line))
            come_from(line, line.training)
            rows.append([f"in software: {first}", *others, *cells, numbers[IDEAL].text])
    known: list[Statistic] = []
    for line in _shown(table):
        own = table.statistics(line, HOUR) if line in table.lines else [None] * len(GLUE)
        known += [statistic for statistic in own if statistic is not None]
        come_from(line, line.variant)
        rows.append([*line.cells, *_with_average(own), _published(line.configuration, numbers)])
    chips, seeds = span([n for s in known for n in (s.chips, s.most_chips)]), span([s.seeds for s in known])
    note = (
        f"Scores after 1 h, drift compensated, mean ± standard error {repeated_over(known)} (chips: {chips}, training seeds: "
        f"{seeds}). An average over fewer than the eight tasks says so. Input range none: that of the first calibration, never "
        "updated (our choice of what the paper calls none); learned conductance range: the learned scale of each column. "
        "Published: averages of RoBERTa-base over eight tasks. Scores of single tasks could not be recovered, nor which "
        "configuration the one in software is of; a span is that of all configurations tuned after training alone. "
        f"Source: {numbers[IDEAL].source}."
    )
    note += "".join(f" {remark}." for remark in table.remarks)
    header = ["training", "input range", "conductance range", *(NAMES[task] for task in GLUE), "average", "Lammie 2024"]
    return Grid(f"Table II of Lammie et al. (2024): GLUE after 1 h, {table.title}", note, header, rows, sources=sources)


def _of_task(table: Table, task: str) -> dict[Line, dict[float, Statistic]]:
    """Statistics of one task by line and time, of lines that have any."""
    found: dict[Line, dict[float, Statistic]] = {}
    for line, own in sorted(table.lines.items(), key=lambda item: item[0].order):
        if task in own:
            by_time = {t: own[task].statistic(line.variant, t) for t in table.times(task)}
            found[line] = {t: s for t, s in by_time.items() if s is not None}
    return {line: by_time for line, by_time in found.items() if by_time}


def _over_time(table: Table, task: str, title: str) -> Grid:
    lines, times = _of_task(table, task), table.times(task)
    rows = []
    for letter, (line, by_time) in zip(_letters(), lines.items(), strict=False):
        first, *others = line.cells
        rows.append([f"{letter}: {first}", *others, *(score_cell(by_time.get(t)) for t in times)])
    known = [s for by_time in lines.values() for s in by_time.values()]
    other = "" if task == "rte" else f" The paper shows RTE, of which no times are measured here; this is {NAMES[task]}."
    note = f"Mean ± standard error {repeated_over(known)}.{other} The curves of the paper could not be recovered."
    sources = {(row, ANY): table.lines[line][task].sources(line.variant) for row, line in enumerate(lines)}
    header = ["training", "input range", "conductance range", *map(time_label, times)]
    return Grid(title, note, header, rows, sources=sources)


def _letters() -> Iterator[str]:
    """A, B, C, … of lines over time, in the table and at the ends of the curves."""
    return (chr(code) for code in range(ord("A"), 0x10000))


def _picture(table: Table, task: str, title: str) -> Picture:
    curves, levels = [], {}
    for letter, (line, by_time) in zip(_letters(), _of_task(table, task).items(), strict=False):
        mean, error = [s.mean for s in by_time.values()], [s.error for s in by_time.values()]
        curves.append(Curve(f"{letter}: {line.title}", letter, list(by_time), mean, error))
        digital = summarise(table.lines[line][task].digital.get(line.training, {}))
        if digital is not None and line.configuration == LEARNED:
            levels[line] = Level("in software, both ranges learned", digital.mean, dotted=True)
    sections = [own[task] for own in table.lines.values() if task in own]
    panel = Panel(NAMES[task], f"{NAMES.get(GLUE[task], GLUE[task])} [points]", curves, list(levels.values())[:1])
    return Picture(title, [panel], figure_note(sections))


def _record(table: Table, line: Line, kind: str, t: float | None, task: str, tasks: int, s: Statistic | None) -> Record:
    own = line.configuration
    return {
        "origin": "measured",
        "model": table.model,
        "noise": table.noise,
        "label": line.title,
        "clipping": not own.unclipped,
        "quantisation": not own.unquantised,
        "input_range": own.input_range,
        "conductance_range": own.conductance_range,
        "apart": line.training.recipe,
        "hardware": kind,
        "t_seconds": t,
        "task": task,
        "tasks": tasks,
        "value": s.mean if s else None,
        "standard_error": s.error if s else None,
        "seeds": s.seeds if s else 0,
        "chips": s.chips if s and kind == "analog" else 0,
        "source": "",
    }


def _records(table: Table) -> list[Record]:
    records = []
    for line in sorted(table.lines, key=lambda line: line.order):
        for kind, t in (("digital", None), ("analog", HOUR)):
            found = table.digital(line) if t is None else table.statistics(line, t)
            average, tasks = average_of(found)
            for task, statistic in zip([*GLUE, "average"], [*found, average], strict=True):
                count = tasks if task == "average" else int(statistic is not None)
                records.append(_record(table, line, kind, t, task, count, statistic))
    return records


def _records_over_time(table: Table, task: str) -> list[Record]:
    found = _of_task(table, task).items()
    return [_record(table, line, "analog", t, task, 1, s) for line, by_time in found for t, s in by_time.items()]


def _missing(table: Table) -> list[str]:
    """Cells of the shown lines that no row fills, each with the command that measures them, and the rest of the table."""
    said = []
    chips = max((s.most_chips for line in table.lines for s in table.statistics(line, HOUR) if s), default=CHIPS)
    for line in _shown(table):
        own = table.statistics(line, HOUR) if line in table.lines else [None] * len(GLUE)
        lacking = [task for task, statistic in zip(GLUE, own, strict=True) if statistic is None]
        if lacking:
            said.append(_said_missing(table, "Table II", line.configuration, lacking, chips, "table2"))
    for line in _shown(table):
        known = _of_task(table, "rte").get(line, {})
        if not known.keys() >= set(DEFAULT_TIMES):
            said.append(_said_missing(table, "Figure 3", line.configuration, ["rte"], chips, "figure3"))
    every = "training.weight_clip=2.0,null training.quantisation=true,false"
    every += " training.input_range.learning_rate=0,3e-3 training.output_scale_learning_rate=0,1e-3"
    command = " ".join(_train(table, list(GLUE), "table2", chips, several=True))
    said.append(f"Table II, networks of all configurations: `{command} {every}`")
    return said


def _said_missing(
    table: Table, where: str, configuration: Configuration, tasks: Sequence[str], chips: int, experiment: str
) -> str:
    cells = f"{where}, {configuration.title}, {', '.join(NAMES[task] for task in tasks)}"
    if not configuration.tuning:
        return f"{cells}: `{' '.join([*_train(table, tasks, experiment, chips), *configuration.words])}`"
    trained = table.runs.get(configuration._replace(tuning=""), {})
    runs = sorted(run for task in tasks for run in trained.get(task, ()))
    after = [f"noise={table.noise} tile={OPTION} tuning={configuration.tuning} {CALIBRATION} evaluation.chips={chips}"]
    after += ["evaluation.times=[3600]"] if experiment == "table2" else []
    several = " -m" if len(runs) > 1 else ""
    checkpoints = ",".join(f"outputs/{run}" for run in runs) or "…"
    command = " ".join([f"analog-glue tune{several} checkpoint={checkpoints}", *after])
    untrained = [NAMES[task] for task in tasks if not trained.get(task)]
    return f"{cells}: `{command}`" + (f", of {', '.join(untrained)} once these are trained" if untrained and runs else "")


def _train(table: Table, tasks: Sequence[str], experiment: str, chips: int, several: bool = False) -> list[str]:
    """What trains on `tasks` and puts the networks on chips, a job for each task and seed."""
    seeds = sorted(table.seeds)
    words = ["analog-glue train", *["-m"] * (several or len(tasks) > 1 or len(seeds) > 1)]
    words.append(f"+experiment=lammie2024_{experiment}")
    words += [f"task={','.join(tasks)}"] if experiment == "table2" else []
    words += [f"model={table.model}"] if table.model != "roberta_base" else []
    words += [f"noise={table.noise}"] if table.noise != "pcm" else []
    words += [f"seed={','.join(map(str, seeds))}"] if seeds != [0] else []
    words += [f"evaluation.chips={chips}"] if chips != CHIPS else []
    return [*words, *table.overrides]
