"""Before and after the jobs: flags, the jobs of a sweep, Hydra, and how each job ended."""

import difflib
import functools
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analog_glue.cli.components import build_components
from analog_glue.cli.elsewhere import as_training, is_elsewhere
from analog_glue.cli.errors import DONE, FAILED, first_line, report_error
from analog_glue.cli.jobs import run_job
from analog_glue.cli.queue import QUEUE_FILE, QueuedJob, cluster_of, in_queue, submit, wait, waiting_already
from analog_glue.cli.records import (
    SWEEP_FILE,
    SWEEPS,
    Outcome,
    closing_summary,
    record_of,
    sweep_of,
    words_of_job,
    write_record,
)
from analog_glue.errors import UserError, require
from analog_glue.runs.as_written import without_values
from analog_glue.runs.files import exclusive, write_json_atomic
from analog_glue.settings import without_tilde

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from analog_glue.configuration.compose import Composed, Composer


def _sweep_job(config: "DictConfig") -> None:
    """What Hydra calls for each job of a sweep, in this process or in one that a launcher started."""
    from hydra.core.hydra_config import HydraConfig

    from analog_glue.configuration.compose import composed_job

    hydra = HydraConfig.get()
    command, overrides = str(hydra.job.config_name), [str(word) for word in hydra.overrides.task]
    folder, number = Path(hydra.sweep.dir), int(hydra.job.num)
    _, jobs = sweep_of(folder) or ("", [])
    print(f"[{number + 1}/{len(jobs)}] {' '.join(overrides)}")
    _recorded(folder, number, overrides, lambda: composed_job(config, hydra.runtime), command)


def _job_apart(extra_dir: str | None, folder: Path, number: int) -> None:
    """A job of a sweep in a process of its own."""
    from analog_glue.configuration.compose import Composer

    told = sweep_of(folder)
    if told is None:
        raise UserError(f"File {folder / SWEEP_FILE} must say what the jobs of the sweep are, but cannot be read.")
    command, jobs = told
    own = words_of_job(jobs[number])
    print(" ".join(own))
    with Composer(command, extra_dir) as composer:
        _recorded(folder, number, own, lambda: composer.compose(jobs[number]), command)


def _recorded(folder: Path, number: int, overrides: list[str], compose: Callable[[], "Composed"], command: str) -> None:
    """Run a job of a sweep and write down how it ended."""
    outcome, config = Outcome(overrides, "interrupted"), {}
    try:
        composed = compose()
        config = composed.config
        outcome = Outcome(overrides, "done", run=run_job(composed, command, overrides))
    except Exception as error:  # the other jobs go on; the summary at the end names this one
        report_error(error)
        outcome = Outcome(overrides, "failed", error=without_values(first_line(error), config))
    finally:
        write_record(folder, number, outcome)


OF_HYDRA = "multirun.yaml"  # its own copy of a sweep; sweep.json says the same


FLAGS_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-dir", "-cd")


SHOWING = ("--cfg", "-c", "--info", "-i", "--help", "-h", "--hydra-help")


FLAGS = ("--help", "-h", "--hydra-help", "--resolve", "--run", "-r", "--multirun", "-m", "--info", "-i")


def run_short(command: str, words: list[str]) -> int:
    """A command whose own settings may be written without their group."""
    return run_command(command, in_full(command, words))


def in_full(command: str, words: list[str]) -> list[str]:
    """Words of `publish` and `specify` with the group of their own settings; the folder of `publish` may be a word alone."""
    from dataclasses import fields

    from analog_glue.settings import Publish, Specify, quoted

    own = {"publish": Publish, "specify": Specify}.get(command)
    if own is None:
        return words
    short = tuple(f"{field.name}=" for field in fields(own))
    flags, overrides = split_flags(words)
    if command == "publish":
        overrides = [word if "=" in word else f"folder={quoted(word)}" for word in overrides]
    return [*flags, *(f"{command}.{word}" if word.startswith(short) else word for word in overrides)]


def run_command(command: str, words: list[str]) -> int:
    from analog_glue.cli.help import help_of
    from analog_glue.configuration.compose import Composer, conf_dir
    from analog_glue.configuration.wording import plain
    from analog_glue.settings import quoted

    flags, overrides = split_flags(words)
    for word in overrides:
        if word.startswith("checkpoint=") and ("…" in word or "..." in word):
            raise UserError(
                f"Setting `checkpoint` must be the whole name of a folder, but is `{word.partition('=')[2]}`. "
                "The dots stand for the rest of a name; `analog-glue list runs` shows the names."
            )
    overrides = [plain(word) for word in overrides]
    multirun = "-m" in flags or "--multirun" in flags or "hydra.mode=MULTIRUN" in overrides
    shows = [flag for flag in flags if flag in SHOWING]
    if multirun and shows:
        raise UserError(f"Flag {shows[0]} must stand without -m. It shows one configuration: choose one of the values.")
    extra_dir = next((flags[i + 1] for i, flag in enumerate(flags) if flag in ("--config-dir", "-cd")), None)
    if extra_dir is not None and not Path(extra_dir).is_dir():
        raise UserError(f"Flag --config-dir must name a folder, but `{extra_dir}` is none.")

    with Composer(command, extra_dir) as composer:
        jobs = expand(composer, overrides, multirun)
        composed = check_jobs(composer, jobs)
        if {"--help", "-h"} & set(shows):
            print(help_of(command, composed[0], {group: composer.options(group) for group in composer.groups()}, conf_dir()))
            return DONE
    if shows:
        call_hydra(command, [*flags, *overrides])
        return DONE
    if not multirun:
        run_job(composed[0], command, words_of_job(overrides))
        return DONE
    for job, own in zip(composed, jobs, strict=True):  # all that can be said without running is said before the first runs
        if is_elsewhere(job) and command != "train":
            build_components(as_training(job), "train", [])
        else:
            build_components(job, command, own)
    if all(job.settings.dry_run for job in composed):
        return _describe_all(composed, command, jobs)
    launcher, jobs_at_once = composed[0].launcher, composed[0].settings.runtime.jobs
    queues = cluster_of(launcher) is not None
    require(not queues or jobs_at_once == 1, "runtime.jobs", "be 1 where a queue runs the jobs", jobs_at_once,
            "hydra.launcher.array_parallelism says how many run at the same time.")  # fmt: skip
    sweeps = Path(composed[0].settings.output_root) / SWEEPS
    folder = waiting_already(sweeps, command, jobs) if queues else None
    if folder is not None:
        print(f"{len(jobs)} jobs that an earlier call has put into the queue; their records are in {folder}")
    else:
        folder = _sweep_folder(sweeps, command, jobs)
        print(f"{len(jobs)} jobs; their records go to {folder}")
    try:
        if queues:
            _run_in_queue(launcher, extra_dir, jobs, folder)
        elif jobs_at_once > 1:
            _run_apart(extra_dir, jobs, folder, jobs_at_once)
        else:
            call_hydra(command, [*flags, *overrides, f"hydra.sweep.dir={quoted(str(folder))}"])
    finally:
        (folder / OF_HYDRA).unlink(missing_ok=True)
        code = closing_summary(command, folder, jobs, words)
    if (
        command not in ("diagnose", "specify", "place", "extract", "factsheet", "publish")
        or composed[0].settings.extract.array is not None
    ):
        print(f"next: analog-glue tables {shlex.quote(composed[0].settings.output_root)}")
    return code


def _describe_all(composed: list["Composed"], command: str, jobs: list[list[str]]) -> int:
    """The dry run of a sweep: each job says what it would do, and no record of it is kept."""
    codes = []
    for number, (job, words) in enumerate(zip(composed, jobs, strict=True), start=1):
        own = words_of_job(words)
        print(f"[{number}/{len(jobs)}] {' '.join(own)}")
        try:
            run_job(job, command, own)
            codes.append(DONE)
        except Exception as error:  # the other jobs are described all the same
            codes.append(report_error(error))
    return DONE if not any(codes) else FAILED


def _run_in_queue(launcher: dict[str, Any], extra_dir: str | None, jobs: list[list[str]], folder: Path) -> None:
    """The jobs of a sweep in a queue: hand them over, unless an earlier call has, and wait for their ends."""
    queued = in_queue
    if not (folder / QUEUE_FILE).is_file():
        work = functools.partial(_job_apart, extra_dir, folder)
        handed = [QueuedJob(work, folder, number, words_of_job(job)) for number, job in enumerate(jobs)]
        queued = submit(launcher, handed, folder)
    try:
        wait(folder, queued)
    except KeyboardInterrupt:
        print("\nThe jobs stay in the queue and go on; the same command waits for them again, `scancel` ends them.")
        raise


def _run_apart(extra_dir: str | None, jobs: list[list[str]], folder: Path, at_once: int) -> None:
    """The jobs of a sweep, several at a time."""
    from analog_glue.cli.side_by_side import run_side_by_side

    work = functools.partial(_job_apart, extra_dir, folder)
    for number, code in run_side_by_side(work, range(len(jobs)), at_once).items():
        if not record_of(folder, number).is_file():  # killed, say for its memory
            outcome = Outcome(words_of_job(jobs[number]), "failed", error=f"its process ended with exit code {code}")
            write_record(folder, number, outcome)


def split_flags(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags and overrides in any order → flags with their values, overrides.

    Raises:
        UserError: a flag that is unknown or lacks its value.
    """
    flags: list[str] = []
    overrides: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, _, value = word.partition("=")
        if not word.startswith("-"):
            overrides.append(word)
        elif name in FLAGS_WITH_VALUE:
            if not value and not rest:
                raise UserError(f"Flag {name} must be followed by its value.")
            value = value or rest.pop(0)
            flags += [name, without_tilde(value) if name in ("--config-dir", "-cd") else value]
        elif word in FLAGS:
            flags.append(word)
            if word in ("--info", "-i") and rest and "=" not in rest[0] and not rest[0].startswith("-"):
                flags.append(rest.pop(0))
        else:
            known = [flag for flag in (*FLAGS, *FLAGS_WITH_VALUE) if flag.startswith("--")]
            near = difflib.get_close_matches(word, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UserError(f"There is no flag {word}, only {', '.join(known)}.{hint}")
    choices = ("job", "hydra", "all")
    for i, flag in enumerate(flags):
        if flag in ("--cfg", "-c") and flags[i + 1] not in choices:
            given = flags[i + 1]
            raise UserError(f"Flag --cfg must be followed by {', '.join(choices)}, but is followed by `{given}`.")
    return flags, overrides


def expand(composer: "Composer", overrides: list[str], multirun: bool) -> list[list[str]]:
    """The overrides of every job of a sweep, in the order in which they run; one job without -m.

    Raises:
        UserError: a list of values for one job.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    from analog_glue.configuration.wording import GROUPS

    parsed = []
    for word in overrides:
        try:
            parsed.append(composer.parse(word))
        except UserError:
            return [overrides]  # checking this job names every word that is wrong
    own = [o for o in parsed if not o.is_hydra_override()]
    hydra = [str(o.input_line) for o in parsed if o.is_hydra_override()]
    swept = [o for o in own if o.is_sweep_override()]
    if not multirun:
        if swept:
            key, _, values = str(swept[0].input_line).partition("=")
            a_list = "" if key in GROUPS else f", or write a list as {key}=[{values}]"
            raise UserError(
                f"Setting `{key}` must have one value, but has several: {values}. Add -m to run one job for each{a_list}."
            )
        return [overrides]
    if continuous := [o for o in swept if not o.is_discrete_sweep()]:
        raise UserError(f"Sweep `{continuous[0].input_line}` must list its values, such as key=1,2,3.")
    return [[*hydra, *job] for job in BasicSweeper.split_arguments(own, None)[0]]


def check_jobs(composer: "Composer", jobs: list[list[str]]) -> list["Composed"]:
    """Compose every job.

    Raises:
        UserError: everything that is wrong with any of them, each sentence once.
    """
    composed, problems = [], []
    for job in jobs:
        try:
            composed.append(composer.compose(job))
        except UserError as error:
            problems += str(error).splitlines()
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    return composed


def call_hydra(command: str, words: list[str]) -> None:
    """Hand the command line to Hydra, which launches the jobs (or shows what was asked for)."""
    import hydra

    from analog_glue.configuration.compose import HYDRA_VERSION, conf_dir, register_settings

    register_settings()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to `main` instead of being printed with Hydra's frames
    argv, sys.argv = sys.argv, [sys.argv[0], *words]
    try:
        hydra.main(version_base=HYDRA_VERSION, config_path=str(conf_dir()), config_name=command)(_sweep_job)()
    except SystemExit as stop:  # --help and the like
        if stop.code not in (None, 0):
            raise RuntimeError(f"Hydra stopped with exit code {stop.code}") from None
    finally:
        sys.argv = argv


def _remove_remains(sweeps: Path) -> None:
    """Remove what calls that were killed left beside the records of theirs."""
    for file in sweeps.glob(f"*/{OF_HYDRA}"):
        file.unlink(missing_ok=True)
    for folder in {file.parent for file in sweeps.glob("*/.*.partial")}:
        with exclusive(folder):  # which removes it
            pass


def _sweep_folder(sweeps: Path, command: str, jobs: list[list[str]]) -> Path:
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    _remove_remains(sweeps)
    for name in (stamp, *(f"{stamp}_{i}" for i in range(2, 1000))):  # two sweeps may start in one second
        folder = sweeps.resolve() / name
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(f"Setting `output_root` must be a folder that can be written to: {error}.") from None
        write_json_atomic(folder / SWEEP_FILE, {"command": command, "jobs": len(jobs), "overrides": jobs})
        return folder
    raise RuntimeError(f"no free folder for the sweep {stamp}")
