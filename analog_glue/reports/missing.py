"""The commands that measure what the tables of a folder lack."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from analog_glue.reports.grids import ALGORITHMS, GLUE
from analog_glue.reports.sections import LETTERS, Bundle, Section, seeds_of

# What a command that says nothing of `evaluation.chips` and `evaluation.times` [s] does.
DEFAULT_CHIPS = 25
DEFAULT_TIMES = (1.0, 3600.0, 86_400.0, 604_800.0, 2_592_000.0)


def missing_commands(sections: Iterable[Section]) -> list[str]:
    """Commands that measure what the tables lack; what is there already is not measured again.

    Wanted are A, B and C (on devices without drift: both trainings, not compensated) of every task, of all
    eight once one of GLUE is there, for every seed, with as many chips and times as any of the variants has.
    Settings that no column names (`data.root`, learning rates …) are the user's to add; of a task that was scored on several
    data, the largest counts.
    """
    wanted: dict[tuple[Bundle, str, tuple[int, ...], bool, int, tuple[float, ...]], list[str]] = {}
    by_bundle: dict[Bundle, dict[str, Section]] = defaultdict(dict)
    for section in sections:
        # Of attention in another precision Figure 8 says what is missing.
        if section.headline and not _extracted(section) and section.bundle.attention == "fp32":
            by_bundle[section.bundle].setdefault(section.score.task, section)
    for bundle, tasks in by_bundle.items():
        every = [s for s in tasks.values() if s.cells]
        seeds = sorted({seed for s in tasks.values() for seed in seeds_of(s)}) or [0]
        times = tuple(sorted({t for s in every for t in s.times})) or DEFAULT_TIMES
        drifts = any(v.compensated for s in every for v in s.cells) or not every
        letters = LETTERS if drifts else {("digital", False): "", ("hardware_aware", False): ""}
        names = [*GLUE, *sorted(tasks.keys() - GLUE.keys())] if tasks.keys() & GLUE.keys() else sorted(tasks)
        most = max((most_chips(s) for s in every), default=DEFAULT_CHIPS)
        for task in names:
            known = tasks.get(task)
            chips = most_chips(known) if known and known.cells else most
            for training in dict.fromkeys(training for training, _ in letters):
                lacking = {
                    (seed, compensated)
                    for name, compensated in letters
                    for seed in seeds
                    if name == training and not _complete(known, (training, compensated), seed, chips, times)
                }
                if lacking:
                    without = drifts and any(not compensated for _, compensated in lacking)
                    key = (bundle, training, tuple(sorted({s for s, _ in lacking})), without, chips, times)
                    wanted.setdefault(key, []).append(task)
    ambiguous = [bundle.names for bundle in by_bundle]
    commands = []
    for (bundle, training, lacking_seeds, without, chips, times), names in wanted.items():
        words = [train_command(names, bundle, training, lacking_seeds)]
        words += ["evaluation.compensation=[true,false]"] if without else []
        words += how_often(chips, times)
        words += [f"# hardware {bundle.hardware_id}"] if ambiguous.count(bundle.names) > 1 else []
        commands.append(" ".join(words))
    return commands


def train_command(tasks: Sequence[str], bundle: Bundle, training: str, seeds: Sequence[int]) -> str:
    """What trains on `tasks` and puts the networks on chips, a job for each task and seed."""
    words = ["analog-glue train"]
    words += ["-m"] if len(tasks) > 1 or len(seeds) > 1 else []
    words += [f"task={','.join(tasks)} model={bundle.model} noise={bundle.noise} tile={bundle.tile}"]
    words += attention_words(bundle.attention)
    words += [f"training={training} seed={','.join(map(str, seeds))}"]
    return " ".join(words)


def how_often(chips: int, times: tuple[float, ...]) -> list[str]:
    """Words for so many chips and these times [s]; none for the defaults."""
    words = [f"evaluation.chips={chips}"] if chips != DEFAULT_CHIPS else []
    listed = ",".join(f"{t:.12g}" for t in times)
    return [*words, f"evaluation.times=[{listed}]"] if times != DEFAULT_TIMES else words


def attention_words(precision: str) -> list[str]:
    """What chooses the attention that rows call "int6 smooth"; nothing for the default."""
    name, *more = precision.split()
    if name == "fp32":
        return []
    bits = name.removeprefix("int")
    words = [f"attention={name}" if name in ("bf16", "int10", "int8", "int6") else f"attention=int8 attention.bits={bits}"]
    words += ["attention.signed_probabilities=true"] * ("signed" in more) + ["attention.smooth_keys=true"] * ("smooth" in more)
    return words


def _extracted(section: Section) -> bool:
    """Whether the weights were trained in situ, which no `train` with this hardware does."""
    return any(training.name.startswith(tuple(ALGORITHMS)) for training in section.digital)


def most_chips(section: Section) -> int:
    """Chips that any variant at any time was put on."""
    cells = (seeds for times in section.cells.values() for seeds in times.values())
    return max(max(chips).number + 1 for seeds in cells for chips in seeds.values())


def _complete(section: Section | None, curve: tuple[str, bool], seed: int, chips: int, times: Sequence[float]) -> bool:
    return section is not None and any(
        all(len({chip.number for chip in by_time.get(t, {}).get(seed, ())}) >= chips for t in times)
        for variant, by_time in section.cells.items()
        if (variant.training.name, variant.compensated) == curve
    )
