"""The command `specify`: which device would do for a trained network?

How much of each non-ideality does it bear while the mean over chips keeps so many percent of the digital score at a given time?
One knob is turned at a time, everything else stays as it is, and pairs give a map. specification/knobs.py says what a knob is,
specification/search.py what "borne" and the confidence mean. Every setting is a variant of the hardware with rows of its own
(variants.py), which do not depend on what must be kept: another `keep` or confidence or a longer bisection reads them again.
The answer is made of rows alone, in `<run>/specify-<noise>-<tile>-<id>/answer-<id>/`.
"""

import shlex
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

from analog_glue.commands import deploy
from analog_glue.commands.ablation import in_software
from analog_glue.commands.deploy import EvaluationJob, point_of
from analog_glue.commands.summary import RunSummary
from analog_glue.commands.variants import Family, Network, Part, Variant, on_chips
from analog_glue.devices.device import Device
from analog_glue.errors import UserError, require
from analog_glue.nn.attention import FLOAT32, Attention
from analog_glue.nn.hardware import Hardware
from analog_glue.progress import Progress, duration
from analog_glue.reports.answers import write_answer
from analog_glue.reports.figures import time_label
from analog_glue.reports.grids import Sources, as_csv
from analog_glue.reports.specification import AS_IT_IS, Borne, Contour, Subject, chapter, page, pictures, records, terminal
from analog_glue.runs.files import write_bytes_atomic, write_json_atomic, write_text_atomic
from analog_glue.runs.fingerprint import fingerprint
from analog_glue.runs.folder import one_call
from analog_glue.runs.provenance import provenance
from analog_glue.runs.rows import find_rows
from analog_glue.settings import RunSettings, Specify, output_root_typed, typed
from analog_glue.specification.knobs import Knob, chosen, knobs_of
from analog_glue.specification.search import Answer, Rule, contour, search
from analog_glue.tasks.task import Task
from analog_glue.tiles.crossbar import Crossbar

COMMAND = "specify"
ON_TILES = ("chip", "ideal_devices")  # stages whose scores take about as long
Setting = tuple[tuple[Knob, float], ...]  # what is turned, each knob to its value


@dataclass(frozen=True)
class SpecificationJob:
    """A search that could begin: data and weights are loaded, nothing is programmed or written."""

    evaluation: EvaluationJob  # at the time that is asked for
    knobs: tuple[Knob, ...]
    pairs: tuple[tuple[Knob, Knob], ...]

    @property
    def folder(self) -> Path:
        """Of the training run."""
        return self.evaluation.folder

    @property
    def asked(self) -> Specify:
        return self.evaluation.settings.specify

    @cached_property
    def family(self) -> Family:
        return Family(self.evaluation, COMMAND)

    @property
    def chips(self) -> int:
        return self.evaluation.settings.evaluation.chips

    @cached_property
    def answer_folder(self) -> Path:
        """Of what this very question is answered by."""
        own = asdict(self.asked) | {"knobs": [knob.name for knob in self.knobs], "chips": self.chips, "time": self.time}
        own["compensation"] = self.evaluation.settings.evaluation.compensation
        return self.family.below / f"answer-{fingerprint(own, 8)}"

    @property
    def time(self) -> float:
        return float(self.asked.time or 0.0)

    def part(self, setting: Setting, fresh: bool = False) -> Part:
        """The hardware with knobs turned, as a sweep. `fresh`: of chips that the search does not look at."""
        chips = range(self.chips, self.chips + self.asked.check_chips) if fresh else range(self.chips)
        return self.family.part(self._variant(setting), chips)

    def _variant(self, setting: Setting) -> Variant:
        turned = [(knob, value) for knob, value in setting if value != knob.today]
        hardware: Hardware = self.evaluation.placement.hardware
        for knob, value in turned:
            hardware = knob.at(hardware, value)
        label = ", ".join(knob.label(value) for knob, value in turned) or AS_IT_IS
        return on_chips(label, hardware, self.evaluation.attention, ordinary=not turned)

    @cached_property
    def digital(self) -> Part:
        job = self.evaluation
        return self.family.part(in_software(job.placement.hardware, job.attention))

    def lines(self, knob: Knob) -> tuple[float, ...]:
        """Values of the first knob of a pair."""
        return knob.scale.first(self.asked.lines)

    @property
    def most_looks(self) -> dict[str, int]:
        """What is answered → the most values that chips are scored at, in words for `dry_run`."""
        found = {knob.name: knob.scale.most_looks for knob in self.knobs}
        for one, other in self.pairs:
            found[f"{other.name} at {len(self.lines(one))} values of {one.name}"] = (
                len(self.lines(one)) * other.scale.most_looks
            )
        return found

    @property
    def most_scores(self) -> int:
        """The digital score, chips at every look, and fresh chips at every answer of one knob."""
        return 1 + sum(self.most_looks.values()) * self.chips + len(self.knobs) * self.asked.check_chips

    @cached_property
    def seconds_per_score(self) -> float | None:
        """[s] that a score of this network on tiles took so far, in the median; None: there is none yet."""
        folder = self.family.ordinary.parent
        seconds = [row.wall_seconds for row in find_rows(folder) if row.stage in ON_TILES] if folder.is_dir() else []
        return median(seconds) if seconds else None


def prepare(
    settings: RunSettings,
    task: Task,
    device: Device,
    tile: Crossbar,
    config: dict[str, Any] | None = None,
    choices: dict[str, str] | None = None,
    overrides: Iterable[str] = (),
    attention: Attention = FLOAT32,
) -> SpecificationJob:
    """Load what is needed to put the trained weights of `settings.checkpoint` on variants of the hardware of this command.

    Args:
        task: The task that the checkpoint was trained on.

    Raises:
        UserError: a question without a time or with too few chips, a knob that this hardware has not, or no finished training
            run in `settings.checkpoint`.
    """
    asked = settings.specify
    asked.require_whole(settings.evaluation)
    known = knobs_of(Hardware(device, tile), asked.largest, asked.looks)
    require(bool(known), "noise", "have a non-ideality, or `tile`,", "ideal", "Choose noise=pcm or tile=spoon2021.")
    names = list(asked.knobs) or ([] if asked.pairs else list(known))
    knobs = chosen(names, known, "specify.knobs")
    pairs = [chosen(list(pair), known, "specify.pairs") for pair in asked.pairs]
    at = replace(settings.evaluation, times=[float(asked.time or 0.0)], ideal_devices=False)
    settings = replace(settings, evaluation=at)
    evaluation = deploy.prepare(settings, task, device, tile, config, choices, overrides, attention)
    return SpecificationJob(evaluation, tuple(knobs), tuple((one, other) for one, other in pairs))


@dataclass
class _Scorer:
    """Scores of settings on chips: read where they are known, else measured."""

    job: SpecificationJob
    network: Network
    progress: Progress
    known: dict[str, tuple[float, ...]] = field(default_factory=dict)  # label → scores of chips
    asked: int = 0  # scores that were needed

    def of(self, part: Part) -> tuple[float, ...]:
        """The headline score of each chip [points], over the mean of splits where there are several."""
        self.progress.begin(f"{COMMAND}, {part.variant.label}")
        rows = self.network.sweep(part, self.progress)
        wanted = set(part.wanted)
        by_chip: dict[int, list[float]] = {}
        for row in rows:
            if row.headline and point_of(row) in wanted:
                by_chip.setdefault(-1 if row.chip is None else row.chip, []).append(row.value)
        self.asked += len(part.wanted)
        return tuple(fmean(by_chip[chip]) for chip in sorted(by_chip))

    def one(self, knob: Knob, value: float) -> tuple[float, ...]:
        """With one knob turned."""
        return self._at(((knob, value),))

    def two(self, first: Knob, second: Knob, x: float, y: float) -> tuple[float, ...]:
        """With a pair turned."""
        return self._at(((first, x), (second, y)))

    def _at(self, setting: Setting) -> tuple[float, ...]:
        part = self.job.part(setting)
        if part.variant.label not in self.known:
            self.known[part.variant.label] = self.of(part)
        return self.known[part.variant.label]


@one_call()
def run(job: SpecificationJob, log: Callable[[str], None] = print) -> RunSummary:
    """Search; only what no row says is measured."""
    one, asked, started = job.evaluation, job.asked, time.monotonic()
    log(f"{COMMAND}: at most {job.most_scores:,} scores, those that are known among them, in {job.family.below}")
    with Progress(COMMAND, job.most_scores, "score", log=log) as progress:
        scorer = _Scorer(job, Network.of(job.family, log), progress)
        (digital,) = scorer.of(job.digital)
        if not digital > 0:
            raise UserError(
                f"Setting `specify.keep` must be percent of a positive digital score, but that of {job.folder} is "
                f"{digital:.2f}. Choose a network that has learned its task."
            )
        subject = _subject(job, digital)

        def rule(knob: Knob) -> Rule:
            return Rule(subject.threshold, asked.confidence, knob.scale.most_looks)

        found = []
        for knob in job.knobs:
            answer = search(knob.scale, rule(knob), partial(scorer.one, knob))
            found.append(_borne(job, knob, answer, scorer))
        contours = []
        for first, second in job.pairs:
            lines = tuple(contour(job.lines(first), second.scale, rule(second), partial(scorer.two, first, second)))
            sources = tuple(_sources(job, answer, ((first, value),), second) for value, answer in lines)
            contours.append(Contour((first.name, second.name), (first.unit, second.unit), lines, sources))
    _write(job, subject, found, contours, scorer.asked, time.monotonic() - started)
    return RunSummary(
        job.answer_folder, terminal(subject, found, contours, scorer.asked), _next_steps(job, one), holds="specification"
    )


def _borne(job: SpecificationJob, knob: Knob, answer: Answer, scorer: _Scorer) -> Borne:
    """The answer in settings, and fresh chips at it where they are asked for."""
    hardware = job.evaluation.placement.hardware

    def told(value: float | None) -> str:
        return "" if value is None else knob.settings(hardware, value)

    fresh: tuple[float, ...] = ()
    if answer.value is not None and job.asked.check_chips:
        fresh = scorer.of(job.part(((knob, answer.value),), fresh=True))
    margin = "" if answer.value is None else knob.margin(answer.value)
    margin = f"at least {margin}" if answer.value is not None and answer.denied is None else margin
    values = told(knob.today), told(answer.value), told(answer.denied)
    return Borne(knob.name, *values, margin, knob.unit, answer, fresh, _sources(job, answer, (), knob))


def _sources(job: SpecificationJob, answer: Answer, beside: Setting, knob: Knob) -> Sources:
    """The sweeps of all looks at a knob, others turned `beside` it."""
    looked = [look.value for look in answer.looks if look.scores]
    return frozenset((job.family.facts["name"], job.part((*beside, (knob, value))).sweep) for value in looked)


def _subject(job: SpecificationJob, digital: float) -> Subject:
    one = job.evaluation
    drifts = one.placement.hardware.device.drifts
    return Subject(
        f"{job.family.facts['name']} on {one.choices['noise']} and {one.choices['tile']}", one.task.headline, digital,
        job.asked.keep, job.time, not drifts or True in one.settings.evaluation.compensation, job.asked.confidence, job.chips,
        sum(map(len, one.encoded.validation.values())),
    )  # fmt: skip


def _write(
    job: SpecificationJob, subject: Subject, found: list[Borne], contours: list[Contour], scores: int, seconds: float
) -> None:
    """Table, records, pictures, and what they are of."""
    folder, one = job.answer_folder, job.evaluation
    write_text_atomic(folder / "specification.md", page(subject, found, contours, scores))
    write_bytes_atomic(folder / "specification.csv", as_csv(records(found, contours)))
    trained, hardware, own = job.family.facts["name"], job.family.ordinary.name, folder.name.rpartition("-")[2]
    write_answer(folder, chapter(subject, found, contours, scores), f"{COMMAND}-{trained}-{hardware}-{own}")
    for name, picture in pictures(subject, found, contours).items():
        for file, content in picture.draw().files(name).items():
            write_bytes_atomic(folder / file, content)
    facts = provenance(
        command=COMMAND,
        overrides=list(one.overrides),
        trained=job.family.facts["name"],
        train_id=job.family.facts["train_id"],
        hardware=job.family.ordinary.name,
        asked=asdict(job.asked),
        chips=job.chips,
        digital=subject.digital,
        threshold=subject.threshold,
        scores=scores,
        seconds=seconds,
        answers={borne.knob: borne.borne for borne in found},
    )
    write_json_atomic(folder / "specification.json", facts)


def _next_steps(job: SpecificationJob, one: EvaluationJob) -> tuple[str, ...]:
    root = output_root_typed(one.settings.output_root)
    own = ("checkpoint", "output_root", "force", "dry_run", "specify.check_chips")
    words = [shlex.quote(word) for word in one.overrides if word.partition("=")[0] not in own]
    again = " ".join([typed("checkpoint", job.folder), *words])
    steps = [f"see {shlex.quote(str(file))}" for file in sorted(job.answer_folder.glob("*.png"))]
    if job.knobs and not job.asked.check_chips:
        steps.insert(0, f"analog-glue specify {again}{root} specify.check_chips=25   # do answers hold on fresh chips?")
    return tuple(steps)


def describe(job: SpecificationJob) -> list[str]:
    """What would be searched, and the most that it takes, for `dry_run`."""
    asked, seconds = job.asked, job.seconds_per_score
    took = "no score of this network is known yet, so the time is not" if seconds is None else (
        f"{seconds:.3g} s each as measured so far: {duration(job.most_scores * seconds)} at most"
    )  # fmt: skip
    lines = [
        "", f"Specify    keep {asked.keep:g} % of the digital score after {time_label(job.time)}, confidence "
        f"{asked.confidence:g}, {job.chips} chips at every look",
        f"           at most {job.most_scores:,} scores, in {job.family.below}; {took}",
    ]  # fmt: skip
    lines += [f"  {looks:>5} looks: {name}" for name, looks in job.most_looks.items()]
    lines += [f"  {asked.check_chips:>5} fresh chips at every answer"] if asked.check_chips and job.knobs else []
    return lines
