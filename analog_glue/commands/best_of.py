"""The setting `best_of`: networks of several seeds are trained, and the best on validation alone goes on chips.

Spoon et al. (2021), Sec. 2.3: "we train 5 models per task per condition and choose the best model for inference simulation".
Every seed is a training run of its own and gets its digital scores and those of ideal devices; the chosen one gets the chips.
Everything is found again: the same command measures nothing new, and more seeds or chips add what is not there.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from analog_glue.commands import train
from analog_glue.commands.deploy import is_main_process, silent
from analog_glue.commands.summary import RunSummary
from analog_glue.commands.train import TrainingJob
from analog_glue.runs.files import read_json, write_json_atomic
from analog_glue.runs.folder import RUN_FILE, one_call
from analog_glue.settings import RunSettings


@dataclass(frozen=True)
class Selection:
    """Runs that differ by their seed, one of which will be chosen.

    Args:
        settings: `seed` is the first one, `best_of` their number.
        prepare: Settings → a training run that could begin. Called once for every seed, when its turn comes.
    """

    settings: RunSettings
    prepare: Callable[[RunSettings], TrainingJob]

    @property
    def seeds(self) -> range:
        return range(self.settings.seed, self.settings.seed + self.settings.best_of)

    @cached_property
    def first(self) -> TrainingJob:
        """Of the first seed: loaded before anything is trained, so that what is wrong is said at once."""
        return self.prepare(self._of(self.seeds[0]))

    def _of(self, seed: int, chips: int = 0) -> RunSettings:
        settings = self.settings
        return replace(settings, seed=seed, evaluation=replace(settings.evaluation, chips=chips))

    def describe(self, said: str) -> str:
        """`said` is the dry run of the first seed."""
        last, chips = self.seeds[-1], self.settings.evaluation.chips
        return f"{said}\n\nThe same for seeds {self.seeds[0]} … {last}, then {chips} chips for the best of them on validation."

    @one_call()
    def run(self, log: Callable[[str], None] = print) -> RunSummary:
        """Train every seed, choose, and put the chosen network on chips."""
        if not is_main_process():
            log = silent
        folders: dict[int, Path] = {}
        for seed in self.seeds:
            log(f"Seed {seed} of {self.seeds[0]} … {self.seeds[-1]}")
            job = self.first if seed == self.seeds[0] else self.prepare(self._of(seed))
            train.run(job, log)
            folders[seed] = job.folder
            headline = job.task.headline
        if not is_main_process():
            return RunSummary(folders[self.seeds[0]], "")  # chips are the main process's work
        scores = {seed: validation_score(folder, headline) for seed, folder in folders.items()}
        chosen = best(scores)
        said = (
            f"Best of {len(scores)} seeds by {headline} on validation: seed {chosen} with {scores[chosen]:.2f}; "
            + ", ".join(f"seed {seed} {score:.2f}" for seed, score in scores.items() if seed != chosen)
        )
        log(said)
        for seed, folder in folders.items():
            note_choice(folder, chosen == seed, headline, scores)
        summary = train.run(self.prepare(self._of(chosen, self.settings.evaluation.chips)), log)
        root = shlex.quote(self.settings.output_root)
        steps = (f"analog-glue tables {root}   # the chosen network beside the mean over the seeds", *summary.next_steps[1:])
        return replace(summary, table=f"{summary.table}\n{said}", next_steps=steps)


def validation_score(folder: Path, headline: str) -> float:
    """Score of the epoch that was kept, as training measured it on the validation split [points]."""
    history = read_json(folder / RUN_FILE)["history"]
    return float(history["epochs"][history["best_epoch"]][headline])


def best(scores: dict[int, float]) -> int:
    """The seed with the highest score; the first of equals, and an undefined score only where there is no other."""
    return max(scores, key=lambda seed: (-math.inf if math.isnan(scores[seed]) else scores[seed], -seed))


def note_choice(folder: Path, chosen: bool, headline: str, scores: dict[int, float]) -> None:
    """Write into run.json of a finished training which networks it was compared with, and whether it was the one chosen."""
    run = read_json(folder / RUN_FILE)
    of = {str(seed): None if math.isnan(score) else score for seed, score in scores.items()}
    choice = {"chosen": chosen, "metric": headline, "split": "validation", "scores": of}
    if run.get("selected_of") != choice:
        write_json_atomic(folder / RUN_FILE, {**run, "selected_of": choice})
