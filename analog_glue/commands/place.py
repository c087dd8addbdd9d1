"""The command `place`: which layers of a network are better computed digitally, and what does each choice take?

Groups of layers are taken off the tiles, each alone, or put on tiles alone; the same chips are scored, at the last of
`evaluation.times`. Then sets of several groups are scored, along the order of what they win for the energy that they add. Draws
are keyed by chip and layer, so the layers that stay on tiles are the same to the last bit, and scores are paired by chip.

Every choice is a sweep in a folder of its own, `<run>/placement-<noise>-<tile>-<id>/<n>_of_<all>_layers-<id>/`, so that it
resumes and nothing is measured twice; what an ordinary sweep of the same choice has measured is taken over. Rows say in the
column `ablation` which patterns of layers they are of, so that no ordinary mean counts them; their `hardware_id` is that of
`evaluate` with these patterns.
"""

import math
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from analog_glue.commands import deploy
from analog_glue.commands.deploy import EvaluationJob, Share, Subject, point_of, silent, subject_of, sweep
from analog_glue.commands.factsheet import checked_costs, entries_of_run, workload_of
from analog_glue.commands.naming import SweepRequest
from analog_glue.commands.summary import RunSummary
from analog_glue.commands.variants import Part, Variant
from analog_glue.costs.architectures import Architecture
from analog_glue.costs.estimate import Costs
from analog_glue.errors import UserError, require
from analog_glue.evaluation import points
from analog_glue.nn.attention import FLOAT32, Attention
from analog_glue.nn.grouping import GROUPINGS, grouped, patterns_of
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.names import chosen_by_name
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.nn.placement import Placement
from analog_glue.progress import Progress, duration
from analog_glue.reports.ablation import PLACED
from analog_glue.reports.answers import write_answer
from analog_glue.reports.figures import time_label
from analog_glue.reports.grids import NAMES, as_csv
from analog_glue.reports.pareto import energy_of
from analog_glue.reports.placement import (
    Judged,
    Placed,
    Price,
    Scores,
    chapter,
    difference,
    front_picture,
    front_records,
    greedy,
    group_records,
    known_to_all,
    page,
    sizes,
    terminal,
)
from analog_glue.reports.placement import Placement as Found
from analog_glue.runs.files import read_json, write_bytes_atomic, write_text_atomic
from analog_glue.runs.folder import PERIPHERY_FILE, TUNING_FILE, checkpoint_config, one_call, read_run
from analog_glue.runs.rows import ResultsFile, find_rows
from analog_glue.settings import RunSettings, output_root_typed, typed

Periphery = tuple[nn.Module, dict[str, LayerPeriphery], str]  # of `Subject.periphery`
JUDGED = {"alone_off": ("off",), "alone_on": ("on",), "both": ("off", "on")}
PAGE = "placement.md"
OF_THIS_COMMAND = ("checkpoint", "task", "output_root", "force", "dry_run", "hardware.layers")  # not told to the next one
PRICED = ("place", "costs", "sequence_length", "batch")  # first parts of settings that `evaluate` does not read
ON_PAPER = ("noise", "tile", "attention", "hardware", *PRICED[1:])  # and of those that `factsheet` does


@dataclass(frozen=True)
class Choice:
    """Which layers lie on tiles.

    Args:
        layers: As `hardware.layers` says.
        off: Groups that lie on none, in the model's order.
    """

    layers: tuple[str, ...]
    off: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What is scored, as names alone decide it: nothing is loaded for it.

    Args:
        architecture: Of the network.
        base: `hardware.layers` of the command, which all choices begin with.
        grouping: layer | block | kind.
        groups: Name → layers, of those that the command puts on tiles.
    """

    settings: RunSettings
    architecture: Architecture
    base: tuple[str, ...]
    grouping: str
    groups: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, settings: RunSettings, architecture: Architecture) -> "Plan":
        """
        Raises:
            UserError: patterns that match no layer, fewer than two groups, or more scores than `place.most_scores`.
        """
        base, asked = tuple(settings.hardware.layers), settings.place
        names = chosen_by_name(architecture.linears, base, "Setting `hardware.layers`", "linear")
        plans = [cls(settings, architecture, base, how, grouped(names, how)) for how in GROUPINGS]
        plans.sort(key=lambda plan: -len(plan.groups))
        several = [plan for plan in plans if len(plan.groups) > 1]
        if asked.group != "auto":
            (plan,) = (plan for plan in plans if plan.grouping == asked.group)
            require(len(plan.groups) > 1, "place.group", "make at least two groups of the layers on tiles", asked.group,
                    "Choose layer, block or kind, or put more layers on tiles by hardware.layers.")  # fmt: skip
            several = [plan]
        require(bool(several), "hardware.layers", "put at least two layers on tiles", list(base))
        fitting = next((plan for plan in several if plan.most <= asked.most_scores), None)
        if fitting is not None:
            return fitting
        least = several[-1]
        coarser = min((plan for plan in plans if len(plan.groups) > 1), key=lambda plan: plan.most)
        advice = f"place.group={coarser.grouping} takes {coarser.most:,}; " if coarser.most < least.most else ""
        require(False, "place.most_scores", f"be at least {least.most:,} for {least.in_words}", asked.most_scores,
                f"Raise it, or score fewer: {advice}fewer evaluation.chips or place.sets.")  # fmt: skip
        raise AssertionError

    @property
    def chips(self) -> int:
        return self.settings.evaluation.chips

    @property
    def judged(self) -> tuple[str, ...]:
        return JUDGED[self.settings.place.by]

    @property
    def largest(self) -> int:
        """Groups that may be taken off together: one stays on tiles."""
        return len(self.groups) - 1

    @property
    def smallest(self) -> int:
        """Groups of the smallest set that is not scored as a single one anyway."""
        return 2 if "off" in self.judged else 1

    @property
    def most_sets(self) -> int:
        """Of several groups that are scored at most, with those of the control."""
        asked = self.settings.place
        return len(sizes(self.smallest, self.largest, asked.sets)) * (1 + asked.control)

    @property
    def most(self) -> int:
        """Scores that all of it takes at most: of each choice one a chip, and the digital one."""
        return 1 + self.chips * (1 + len(self.groups) * len(self.judged) + self.most_sets)

    @property
    def in_words(self) -> str:
        """How the number of scores comes about."""
        ways = " and ".join(f"{len(self.groups)} alone {how}" for how in self.judged)
        kind = "layers" if self.grouping == "layer" else f"groups by {self.grouping}"
        return f"{self.chips} chips × (all on tiles, {ways} of {kind}, at most {self.most_sets} sets)"

    def patterns(self, group: str) -> tuple[str, ...]:
        return patterns_of(group, self.groups[group], self.architecture.linears)

    def without(self, groups: Iterable[str]) -> Choice:
        """These groups beside the tiles, all others of the command on them."""
        chosen = set(groups)
        off = tuple(group for group in self.groups if group in chosen)
        return Choice((*self.base, *(f"!{pattern}" for group in off for pattern in self.patterns(group))), off)

    def alone(self, group: str) -> Choice:
        """This group on tiles, all others beside them."""
        return Choice(self.patterns(group), tuple(other for other in self.groups if other != group))

    @property
    def first(self) -> list[Choice]:
        """What groups are judged by: all on tiles, and each alone off or on."""
        off = [self.without([group]) for group in self.groups] if "off" in self.judged else []
        on = [self.alone(group) for group in self.groups] if "on" in self.judged else []
        return [Choice(self.base), *off, *on]


@dataclass(frozen=True)
class PlaceJob:
    """A search that could begin: data and weights are loaded, nothing is programmed or written."""

    evaluation: EvaluationJob  # at one time, with compensation or without
    plan: Plan
    costs: Costs
    option: str  # of `costs`
    tuned: Mapping[str, Any]  # tuning.json

    @property
    def folder(self) -> Path:
        """Of the training run."""
        return self.evaluation.folder

    @cached_property
    def _facts(self) -> dict[str, Any]:
        return read_run(self.folder, "checkpoint")

    @property
    def root(self) -> Path:
        """Folder around the sweeps of the run."""
        return Path(self.evaluation.settings.output_root) / str(self._facts["name"])

    @cached_property
    def below(self) -> Path:
        """Folder around those of the choices."""
        ordinary = self.part(Choice(self.plan.base)).ordinary
        assert ordinary is not None
        return self.root / f"placement-{ordinary.name}"

    @cached_property
    def _parts(self) -> dict[Choice, Part]:
        return {}

    def on_tiles(self, choice: Choice) -> tuple[str, ...]:
        """Layers that lie on tiles."""
        return tuple(self.part(choice).placement.grids)

    def part(self, choice: Choice) -> Part:
        """A choice as a sweep."""
        if choice not in self._parts:
            self._parts[choice] = self._part(choice)
        return self._parts[choice]

    def _part(self, choice: Choice) -> Part:
        job = self.evaluation
        settings = replace(job.settings, hardware=replace(job.settings.hardware, layers=list(choice.layers)))
        hardware = replace(job.placement.hardware, layers=choice.layers)
        placement = Placement.of(job.loaded.model, hardware)
        asked = SweepRequest(
            settings, job.attention, hardware, job.computation, job.config, self._facts["train_id"], job.raw.fingerprint
        )
        ordinary = asked.find(self.root, f"{job.choices['noise']}-{job.choices['tile']}").folder
        stages = ("chip",) if choice.off else ("digital", "chip")
        wanted = [point for point in points(settings.evaluation, hardware.device.drifts) if point.stage in stages]
        whole = choice.layers == self.plan.base
        below = self.root / f"placement-{ordinary.name}" if whole else self.below
        folder = asked.find(below, self._stem(placement)).folder
        variant = Variant(f"{PLACED}{' '.join(choice.layers)}", hardware, job.attention, stages)
        share = Share(variant.label, self._stem(placement), stages)
        return Part(variant, share, settings, placement, job.computation, job.config, asked, folder, wanted, ordinary)

    def _stem(self, placement: Placement) -> str:
        return f"{len(placement.grids)}_of_{len(self.plan.architecture.linears)}_layers"

    def price(self, layers: Iterable[str]) -> Price:
        """Of an inference with these layers on tiles, as a FactSheet of the same words has it."""
        job, settings = self.evaluation, self.evaluation.settings
        crossbar = job.placement.hardware.crossbar
        load = workload_of(self.plan.architecture, crossbar, layers, job.attention, settings, self.tuned)
        estimate = self.costs.estimate(load)
        energy = energy_of(estimate)
        each = 1 / load.batch
        digital = load.count(self.costs.counting).units["digital_product"]
        return Price(None if energy is None else energy.times(each), digital // load.batch)

    @cached_property
    def condition(self) -> str:
        evaluation = self.evaluation.settings.evaluation
        drifts = self.evaluation.placement.hardware.device.drifts
        how = "" if not drifts else ", compensated" if True in evaluation.compensation else ", not compensated"
        return f"after {time_label(evaluation.times[0])}{how}"


def prepare(
    settings: RunSettings,
    parts: Mapping[str, Any],
    config: dict[str, Any] | None = None,
    choices: dict[str, str] | None = None,
    overrides: Iterable[str] = (),
) -> PlaceJob:
    """Load what is needed to put parts of the trained weights of `settings.checkpoint` on the hardware of this command.

    Args:
        parts: `task` that the checkpoint was trained on, `noise`, `tile`, `costs`, and `attention` where it was chosen.

    Raises:
        UserError: no finished training run in `settings.checkpoint`, ideal hardware, no chips, an architecture whose layers are
            not known, or more scores than are allowed; all of it before data or weights are loaded.
    """
    device, tile = parts["noise"], parts["tile"]
    attention: Attention = parts.get("attention", FLOAT32)
    costs = checked_costs(parts, choices or {})
    evaluation = settings.evaluation
    require(evaluation.chips >= 1, "evaluation.chips", "be at least 1 for `place`", evaluation.chips)
    if not Hardware(device, tile).non_idealities:
        raise UserError(
            "Setting `noise` or `tile` must not be ideal for `place`, but both are. All layers score as digital ones there: "
            "choose other devices (noise=pcm) or tiles (tile=spoon2021)."
        )
    folder = Path(str(settings.checkpoint))
    facts, trained = read_run(folder, "checkpoint"), checkpoint_config(folder)
    node = trained.get("model") or {}
    entries, _ = entries_of_run(folder, facts, node, str(node.get("short") or folder.name))
    plan = Plan.of(settings, Architecture(entries, len(parts["task"].labels) or 1))
    tuned = read_json(folder / TUNING_FILE)
    workload_of(plan.architecture, tile, (), attention, settings, tuned)  # refuses a length that the model has no positions for
    one = replace(
        evaluation, times=[float(max(evaluation.times))], compensation=[True in evaluation.compensation], ideal_devices=False
    )
    job = deploy.prepare(replace(settings, evaluation=one), parts["task"], device, tile, config, choices, overrides, attention)
    return PlaceJob(job, plan, costs, (choices or {}).get("costs", "costs"), tuned)


@one_call()
def run(job: PlaceJob, log: Callable[[str], None] = print) -> RunSummary:
    """Judge the groups, score sets of them, write tables and the picture; only what is not known is measured."""
    plan = job.plan
    scorer = _Scorer(job, log)
    scored = scorer.scores(plan.first, f"each {plan.grouping} alone")
    digital = scorer.digital
    prices = {choice: job.price(job.on_tiles(choice)) for choice in plan.first}
    nothing = job.price(())
    by_energy = known_to_all([*prices.values(), nothing])
    judged = _judged(job, scored, prices, digital, by_energy)
    sets = _sets(plan, judged)
    scored |= scorer.scores(sets, "sets")
    prices |= {choice: job.price(job.on_tiles(choice)) for choice in sets}

    roles = {Choice(plan.base): "full"} | {plan.without([group]): "one" for group in plan.groups if "off" in plan.judged}
    roles |= {choice: role for choice, role in sets.items() if choice not in roles}
    placed = [
        Placed(role, choice.layers, choice.off, *_beside(plan, job.on_tiles(choice)), prices[choice], scored[choice])
        for choice, role in roles.items()
    ]
    everywhere = dict.fromkeys(range(plan.chips), digital)
    placed.append(Placed("digital", (), tuple(plan.groups), *_beside(plan, ()), nothing, everywhere))
    one = job.evaluation
    settings, names = one.settings, one.choices
    found = Found(
        f"{job._facts['name']}, {names['noise']} on {names['tile']}", job.condition, plan.grouping,
        f"an inference of {settings.sequence_length} tokens in a batch of {settings.batch} by costs={job.option}", digital,
        NAMES.get(one.task.headline, one.task.headline), judged, placed,
    )  # fmt: skip
    written = _written(job, found)
    return RunSummary(job.below, terminal(found), _next_steps(job, found, written), holds="placement")


class _Scorer:
    """Scores choices; what is prepared of the network is prepared once."""

    def __init__(self, job: PlaceJob, log: Callable[[str], None]) -> None:
        one = job.evaluation
        self._job, self._log = job, log
        self._of = one.task, one.raw, one.loaded, one.encoded, job.folder
        subject = self._subject(one.placement, log)
        self._subject_of_all = replace(subject, folder=f"{subject.folder}/{job.below.name}")
        self._prepared: list[Periphery] = []
        self.digital = math.nan  # score of the network in software [points]

    def _subject(self, placement: Placement, log: Callable[[str], None]) -> Subject:
        one = self._job.evaluation
        return subject_of(one.settings, one.attention, one.computation.kernel, placement, *self._of, log)

    def scores(self, choices: Iterable[Choice], what: str) -> dict[Choice, Scores]:
        """Headline score by chip, the mean over the splits of the task."""
        job, one = self._job, self._job.evaluation
        parts = {choice: job.part(choice) for choice in choices}
        wanted = sum(len(part.wanted) for part in parts.values())
        missing = sum(len(part.missing) for part in parts.values())
        if parts and not missing:
            self._log(f"Already done: {what} in {job.below}")
        elif missing < wanted:
            self._log(f"Resuming with {what}: {wanted - missing:,} of {wanted:,} scores are measured.")
        if not one.settings.force:
            for part in parts.values():
                if known := part.known_elsewhere():
                    ResultsFile(part.folder).append(known)
        with Progress("placement", missing, "score", log=self._log) as progress:
            for number, part in enumerate(parts.values(), start=1):
                progress.begin(f"placement, {what}, {number} of {len(parts)}")
                own = replace(self._subject_of_all, periphery=self._periphery(part.placement))
                how = part.placement, part.computation, own, part.config, one.choices, one.overrides
                sweep(part.settings, *how, silent, part.share, progress)
        return {choice: self._read(part) for choice, part in parts.items()}

    def _read(self, part: Part) -> Scores:
        wanted = set(part.wanted)
        found: dict[int, list[float]] = {}
        for row in ResultsFile(part.folder).rows():
            if row.headline and point_of(row) in wanted:
                found.setdefault(-1 if row.chip is None else row.chip, []).append(row.value)
        means = {chip: sum(values) / len(values) for chip, values in found.items()}
        self.digital = means.pop(-1, self.digital)
        return means

    def _periphery(self, placement: Placement) -> Callable[[nn.Module], Periphery]:
        """As `evaluate` finds it for these layers. Ranges that are calibrated are those of a layer in the digital network, and
        need that once; where some were learned, what lies beside the tiles is part of the network that is calibrated."""
        if (self._job.folder / PERIPHERY_FILE).exists():
            return self._subject(placement, silent).periphery

        def of_these(model: nn.Module) -> Periphery:
            if not self._prepared:
                self._prepared.append(self._subject_of_all.periphery(model))
            prepared, whole, source = self._prepared[0]
            return prepared, {name: whole[name] for name in placement.grids}, source

        return of_these


def _beside(plan: Plan, on: Iterable[str]) -> tuple[int, float]:
    """Linear layers beside the tiles, and their share of the weights of all [%]."""
    linears, kept = plan.architecture.linears, set(on)
    sizes_of = {name: linear.outputs * linear.inputs for name, linear in linears.items()}
    beside = [size for name, size in sizes_of.items() if name not in kept]
    return len(beside), 100 * sum(beside) / sum(sizes_of.values())


def _judged(
    job: PlaceJob, scored: Mapping[Choice, Scores], prices: Mapping[Choice, Price], digital: float, by_energy: bool
) -> list[Judged]:
    plan = job.plan
    whole = Choice(plan.base)
    judged = []
    for group, layers in plan.groups.items():
        off, on = plan.without([group]), plan.alone(group)
        price = prices.get(off) or job.price(job.on_tiles(off))
        gain = difference(scored[off], scored[whole]) if "off" in plan.judged else {}
        loss = {chip: digital - score for chip, score in scored[on].items()} if "on" in plan.judged else {}
        others = [name for name in plan.architecture.linears if name not in layers]
        cost = price.cost(by_energy) - prices[whole].cost(by_energy)
        judged.append(Judged(group, len(layers), _beside(plan, others)[1], gain, loss, cost))
    return judged


def _sets(plan: Plan, judged: list[Judged]) -> dict[Choice, str]:
    """Sets of several groups, and by what they were chosen."""
    asked = plan.settings.place
    order = greedy(judged)
    several = sizes(plan.smallest, min(len(order), plan.largest), asked.sets)
    sets = {plan.without(order[:size]): "greedy" for size in several}
    if asked.control:
        cheap = [one.group for one in sorted(judged, key=lambda one: (one.cost, one.group))]
        for size in sizes(plan.smallest, plan.largest, asked.sets):
            sets.setdefault(plan.without(cheap[:size]), "control")
    return sets


def _written(job: PlaceJob, found: Found) -> Path:
    """Write down what was found; the page of it."""
    folder = job.below / f"{found.grouping}-{job.evaluation.settings.place.by}-{job.option}"
    for name, content in front_picture(found).draw().files("front").items():
        write_bytes_atomic(folder / name, content)
    write_bytes_atomic(folder / "groups.csv", as_csv(group_records(found)))
    write_bytes_atomic(folder / "front.csv", as_csv(front_records(found)))
    write_text_atomic(folder / PAGE, page(found, "front.png"))
    run, hardware = job.folder.name, job.below.name.partition("-")[2]
    told = chapter(found, run, f"{run}/{job.below.name}/{folder.name}/{PAGE}")
    write_answer(folder, told, f"place-{run}-{hardware}-{folder.name}")
    return folder / PAGE


def _next_steps(job: PlaceJob, found: Found, written: Path) -> tuple[str, ...]:
    one = job.evaluation
    best = found.enough or max(found.placed, key=lambda placed: (bool(placed.layers), placed.score.mean if placed.score else 0))
    kept = [word for word in one.overrides if _key(word) not in OF_THIS_COMMAND and _key(word).partition(".")[0] not in PRICED]
    words = " ".join([typed("checkpoint", job.folder), *map(shlex.quote, kept), best.setting])
    on_paper = [f"{group}={one.choices[group]}" for group in ("noise", "tile")] + [f"costs={job.option}"]
    named = ("noise", "tile", "costs", "hardware.layers")
    on_paper += [word for word in one.overrides if _key(word).partition(".")[0] in ON_PAPER and _key(word) not in named]
    sheet = " ".join([typed("checkpoint", job.folder), *map(shlex.quote, on_paper), best.setting])
    root = output_root_typed(one.settings.output_root)
    return (
        f"see {shlex.quote(str(written))}",
        f"analog-glue evaluate {words}{root}   # over time, as ordinary rows",
        f"analog-glue factsheet {sheet}{root}   # what it takes",
    )


def _key(word: str) -> str:
    """Of an override."""
    return word.lstrip("+").partition("=")[0]


def describe(job: PlaceJob) -> str:
    """What would be scored, for `dry_run=true`, beside what `dry_run.describe` says of the hardware."""
    plan = job.plan
    parts = [job.part(choice) for choice in plan.first]
    known = sum(len(part.wanted) - len(part.missing) for part in parts)
    left = plan.most - known
    seconds = sorted(
        row.wall_seconds for row in (find_rows(job.root) if job.root.is_dir() else []) if row.stage == "chip" and row.headline
    )
    each = seconds[len(seconds) // 2] if seconds else None
    time = (
        f"about {duration(left * each)} by {each:.1f} s a score, the median of this run's rows"
        if each is not None
        else "not known before a first score of this run"
    )
    return "\n".join(
        [
            f"\nPlacement  {plan.in_words}, {job.condition}",
            f"           at most {plan.most:,} scores (place.most_scores={plan.settings.place.most_scores:,}), "
            f"{known:,} of them known",
            f"Time       {time}",
            f"Energy     of an inference of {plan.settings.sequence_length} tokens by costs={job.option}",
            f"Output     {job.below}",
        ]
    )
