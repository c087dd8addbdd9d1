"""The command line: `analog-glue train | evaluate | extract | tables | list | verify`.

`train`, `evaluate` and `extract` take Hydra overrides; every job goes one straight way: compose, check, build the
components, call `experiment`. Nothing heavy is imported before a command needs it, so that `--help` and a
mistyped key answer at once.

Exit codes: 0 done, 1 something failed, 2 the input was wrong (one message says what), 130 interrupted.
"""

import argparse
import difflib
import functools
import json
import linecache
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import analog_glue

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from analog_glue.configuration import Composed, Composer
    from analog_glue.settings import RunSettings

DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130

HELP = """\
analog-glue: transformers on crossbars of phase-change memory, on GLUE.

usage: analog-glue COMMAND [key=value …]

  train      fine-tune, program chips, let them age, compensate drift, score
  evaluate   put the weights of a finished run on other hardware
  extract    read the weights that were trained on pulsed devices out of their arrays
  tables     tables and figures from the measured rows of a folder
  list       every option of every group (list options), or the runs of a folder (list runs)
  verify     hold the simulated devices and tiles against published measurements

examples:
  analog-glue train -m +experiment=demo training=digital,hardware_aware     no download, about 3 minutes
  analog-glue train task=mrpc noise=pcm                                     the main job
  analog-glue train task=mrpc noise=pcm dry_run=true                        sizes and noise, then stop
  analog-glue evaluate checkpoint=outputs/… noise=reram evaluation.chips=5
  analog-glue train +experiment=digits_in_situ training=ttv2                on pulsed devices
  analog-glue tables outputs

`analog-glue train --help` prints every setting with its value (`train training=ttv2 --help` of that choice).
Bash completion: eval "$(analog-glue -sc install=bash)"
Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted. ANALOG_GLUE_TRACE=1 adds the trace to any error.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Read when torch is loaded: its idle threads sleep instead of burning the cores of `kernels.parallel`.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # so that a log file shows progress when it is printed
    try:
        return _dispatch(words)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on where it stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `analog-glue list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        return _report(error)


def _dispatch(words: list[str]) -> int:
    commands: dict[str, Callable[[list[str]], int]] = {
        "train": functools.partial(_hydra, "train"),
        "evaluate": functools.partial(_hydra, "evaluate"),
        "extract": functools.partial(_hydra, "extract"),
        "tables": _tables,
        "list": _list,
        "verify": _verify,
    }
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return DONE
    if words[0] in ("-V", "--version"):
        print(f"analog-glue {analog_glue.__version__}")
        return DONE
    if words[0] in ("-sc", "--shell-completion"):
        return _completion(words, list(commands))
    if words[0] in commands:
        return commands[words[0]](words[1:])
    if "=" in words[0] or words[0].startswith("-"):
        hint = f"Put it first: analog-glue train {shlex.join(words)}"
    else:
        near = difflib.get_close_matches(words[0], list(commands), n=1)
        hint = f"Did you mean `{near[0]}`?" if near else "`analog-glue --help` describes them."
    return _wrong(f"The first word must be a command ({', '.join(commands)}), but is `{words[0]}`. {hint}")


# --- train and evaluate: the way of one job -------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """How one job of a sweep ended, kept as `job_<number>.json` in the sweep's folder."""

    overrides: list[str]
    status: str  # done | failed | interrupted
    run: str = ""  # folder of the run
    error: str = ""


def run_job(composed: "Composed", command: str, overrides: list[str]) -> str:
    """Build the components, call `experiment`, print its table and what to do next.

    Returns:
        The folder of the run.
    """
    config, parts = build_components(composed, command, overrides)
    if command == "extract":
        return _run_extraction(composed.settings, parts)
    from analog_glue import experiment

    settings, task, choices = composed.settings, parts["task"], composed.choices
    if "device" in parts and command == "train":
        return _run_in_situ(settings, parts, config, choices, overrides)
    if "device" in parts:
        from analog_glue.in_situ.deployment import deploy

        mode = parts["training"]
        summary = deploy(
            settings, task, parts["device"], mode, parts["noise"], parts["tile"], config, choices, overrides
        )
    elif command == "train":
        model, mode = parts["model"], parts["training"]
        summary = experiment.train(
            settings, task, model, parts["noise"], parts["tile"], mode, config, choices, overrides
        )
    else:
        summary = experiment.evaluate(
            settings, task, parts["noise"], parts["tile"], config, choices, overrides
        )
    if int(os.environ.get("RANK", "0")) == 0:  # one voice among the processes of `accelerate launch`
        print(summary.table)
        if settings.dry_run:
            print("Nothing was run. The same command without dry_run=true runs it.")
        else:
            print(f"rows: {summary.run_dir}")
            print("\n".join(f"next: {step}" for step in summary.next_steps))
    return str(summary.run_dir)


def _run_in_situ(
    settings: "RunSettings", parts: dict[str, Any], config: dict[str, Any], choices: dict[str, str], overrides: list[str]
) -> str:
    from analog_glue.in_situ.run import train_in_situ
    from analog_glue.settings import typed

    folder, table = train_in_situ(
        settings, parts["task"], parts["device"], parts["training"], config, choices, overrides
    )
    print(table)
    print(
        "Nothing was run. The same command without dry_run=true runs it."
        if settings.dry_run
        else f"run: {folder}\nnext: analog-glue extract {typed('checkpoint', folder)}"
    )
    return str(folder)


def _run_extraction(settings: "RunSettings", parts: dict[str, Any]) -> str:
    if settings.extract.array is not None:
        from analog_glue.in_situ.arrays import extract_array

        folder, table = extract_array(settings)
        steps = [] if settings.dry_run else [f"analog-glue tables {shlex.quote(settings.output_root)}"]
    else:
        from analog_glue.in_situ.extraction import extract_run

        folder, table, steps = extract_run(settings, parts["task"], parts["device"], parts["training"])
    print(table)
    print("Nothing was run. The same command without dry_run=true runs it." if settings.dry_run else f"written: {folder}")
    print("\n".join(f"next: {step}" for step in steps), end="\n" if steps else "")
    return str(folder)


def build_components(composed: "Composed", command: str, words: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Build and check the components of one job; data and model files are looked for, but not loaded.

    Args:
        words: What was typed for the job: none of them may be about what it has not.

    Returns:
        The configuration with every number in the type of its class, and the components by group.

    Raises:
        ValueError: a value that a component refuses, or data or model files that are not there.
    """
    from analog_glue.configuration import COMPONENTS, WrongInput, as_annotated, build
    from analog_glue.reports.records import EXTRACTION
    from analog_glue.settings import typed

    config = dict(composed.config)
    if composed.settings.extract.array is not None:
        if command != "extract" or composed.settings.checkpoint is not None:
            raise WrongInput(
                "Setting `extract.array` must be null, except for `extract` without a checkpoint, but is set. "
                "Write analog-glue extract +experiment=gokmen_figure6."
            )
        return config, {}
    if command in ("evaluate", "extract"):
        if composed.settings.checkpoint is None:
            raise WrongInput(
                "Setting `checkpoint` must name the folder of a training run, but is not given. "
                "Write checkpoint=outputs/…; `analog-glue list runs` shows the runs."
            )
        checkpoint = Path(composed.settings.checkpoint)
        if not checkpoint.is_dir():
            raise WrongInput(
                f"Setting `checkpoint` must be the folder of a training run, but `{checkpoint}` is none. "
                f"`analog-glue list runs {composed.settings.output_root}` shows the runs."
            )
        extracted = (checkpoint / EXTRACTION).is_file()
        if extracted and command == "extract":
            raise WrongInput(
                f"Setting `checkpoint` must be the folder of an in-situ run, but `{checkpoint}` is an extraction of one. "
                f"`analog-glue extract {typed('checkpoint', checkpoint.parent)}` extracts from its run again."
            )
        if command == "extract" or extracted:
            from analog_glue.in_situ.run import run_of

            run = run_of(checkpoint.parent if extracted else checkpoint)
            config |= {group: run[group] for group in ("task", "model", "device", "training") if group in run}
            composed.settings.data.root = composed.settings.data.root or run["data"]["root"]
        else:
            from analog_glue.experiment import checkpoint_config

            trained = checkpoint_config(checkpoint)
            if str(trained["training"]["_target_"]).split(".")[-2] in IN_SITU_MODES:
                raise WrongInput(
                    "Setting `checkpoint` must be an extraction of a run that was trained in situ, but is the run itself, "
                    f"{str(checkpoint)!r}. `analog-glue extract {typed('checkpoint', checkpoint)}` makes one."
                )
            config["task"] = trained["task"]
            composed.settings.data.root = composed.settings.data.root or trained.get("data", {}).get("root")
    from analog_glue.tasks.in_situ import InSituTask

    parts: dict[str, Any] = {}
    unused: tuple[str, ...] = ()
    for group in COMPONENTS:  # task and model come first, and need no torch to say what is missing
        if config[group] is None or group in unused:
            continue
        config[group] = as_annotated(config[group], group)
        parts[group] = build(config[group], group)
        if group == "task":
            whole = isinstance(parts[group], InSituTask)
            in_situ = _learns_in_situ(config["training"], whole, composed)
            unused = ("model", "noise", "tile") if whole else ("noise", "tile") if in_situ else ("device",)
            if command == "evaluate":  # its chips are those of this command
                unused = tuple(group for group in unused if group not in ("noise", "tile"))
            parts[group].check(composed.settings.data.root)
        elif group == "model":
            parts[group].check()
            if in_situ:
                from analog_glue.in_situ.heads import HeadTask

                root = Path(composed.settings.output_root) if command == "train" else checkpoint.resolve().parent
                root = root.parent if command == "evaluate" else root  # of the run, not of its extraction
                parts["task"] = HeadTask(parts["task"], parts.pop("model"), root / "features")
                parts["task"].check(composed.settings.data.root)
    if command == "train":
        _refuse_what_is_unused(words, parts)
    return config, parts


def _refuse_what_is_unused(words: list[str], parts: dict[str, Any]) -> None:
    """Raises WrongInput for words of `train` that choose what its kind of training has not: it would be ignored silently."""
    from analog_glue.configuration import WrongInput

    in_situ = "device" in parts
    unused = {"noise", "tile", "hardware", "evaluation"} if in_situ else {"device"}
    if in_situ and "model" not in parts["task"].config():
        unused.add("model")
    for word in words:
        key = word.lstrip("+~").split("=")[0]
        if key.split(".")[0].split("@")[0] in unused:
            raise WrongInput(
                f"Setting `{key}` must be left out of training in situ, but is given: {word}. Its arrays have devices "
                "(device=…), converters and noise (training.periphery) of their own; PCM tiles come afterwards: "
                "`analog-glue extract`, then `analog-glue evaluate … noise=pcm`."
                if in_situ
                else f"Setting `{key}` must be left out where nothing is trained in situ, but is given: {word}. Choose "
                "training=ttv2, tiki_taka or sgd_pulsed, or noise=… for the devices of inference."
            )


IN_SITU_MODES = ("sgd_digital", "sgd_pulsed", "tiki_taka", "ttv2", "chopped_ttv2")


def _learns_in_situ(training: dict[str, Any] | None, whole: bool, composed: "Composed") -> bool:
    """Whether the mode is one for pulsed devices, as it must be where the `whole` network of a task is on them."""
    from analog_glue.configuration import WrongInput

    if training is None:
        return False
    mode = str(training["_target_"]).split(".")[-2]
    if whole and mode not in IN_SITU_MODES:
        raise WrongInput(
            f"Setting `training` must be one of {', '.join(IN_SITU_MODES)} for task={composed.choices['task']}, but is {mode}. "
            "Choose the task or the training mode that fits."
        )
    return mode in IN_SITU_MODES


def _sweep_job(config: "DictConfig") -> None:
    """What Hydra calls for each job of a sweep, in this process or in one that a launcher started."""
    from hydra.core.hydra_config import HydraConfig

    from analog_glue.configuration import composed_job

    hydra = HydraConfig.get()
    command, overrides = str(hydra.job.config_name), [str(word) for word in hydra.overrides.task]
    folder, number = Path(hydra.sweep.dir), int(hydra.job.num)
    total = json.loads((folder / "sweep.json").read_text())["jobs"]
    print(f"[{number + 1}/{total}] {' '.join(overrides)}")
    _recorded(folder, number, overrides, lambda: composed_job(config, dict(hydra.runtime.choices)), command)


def _job_apart(command: str, extra_dir: str | None, jobs: list[list[str]], folder: Path, number: int) -> None:
    """A job of a sweep in a process of its own."""
    from analog_glue.configuration import Composer

    own = [word for word in jobs[number] if not word.startswith("hydra.")]
    print(" ".join(own))
    with Composer(command, extra_dir) as composer:
        _recorded(folder, number, own, lambda: composer.compose(jobs[number]), command)


def _recorded(folder: Path, number: int, overrides: list[str], compose: Callable[[], "Composed"], command: str) -> None:
    """Run a job of a sweep and write down how it ended."""
    outcome = Outcome(overrides, "interrupted")
    try:
        outcome = Outcome(overrides, "done", run=run_job(compose(), command, overrides))
    except Exception as error:  # the other jobs go on; the summary at the end names this one
        _report(error)
        outcome = Outcome(overrides, "failed", error=_first_line(error))
    finally:
        (folder / f"job_{number}.json").write_text(
            json.dumps(asdict(outcome), indent=2, ensure_ascii=False) + "\n"
        )


# --- train and evaluate: before and after the jobs ------------------------------------------------------

FLAGS_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-dir", "-cd")
SHOWING = ("--cfg", "-c", "--info", "-i", "--help", "-h", "--hydra-help")
FLAGS = ("--help", "-h", "--hydra-help", "--resolve", "--run", "-r", "--multirun", "-m", "--info", "-i")


def _hydra(command: str, words: list[str]) -> int:
    from analog_glue.configuration import Composer, WrongInput, plain
    from analog_glue.settings import quoted

    flags, overrides = split_flags(words)
    for word in overrides:
        if word.startswith("checkpoint=") and ("…" in word or "..." in word):
            raise WrongInput(
                f"Setting `checkpoint` must be the whole name of a folder, but is `{word.partition('=')[2]}`. "
                "The dots stand for the rest of a name; `analog-glue list runs` shows the names."
            )
    overrides = [plain(word) for word in overrides]
    multirun = "-m" in flags or "--multirun" in flags or "hydra.mode=MULTIRUN" in overrides
    shows = [flag for flag in flags if flag in SHOWING]
    if multirun and shows:
        raise WrongInput(
            f"Flag {shows[0]} must stand without -m. It shows one configuration: choose one of the values."
        )
    extra_dir = next((flags[i + 1] for i, flag in enumerate(flags) if flag in ("--config-dir", "-cd")), None)
    if extra_dir is not None and not Path(extra_dir).is_dir():
        raise WrongInput(f"Flag --config-dir must name a folder, but `{extra_dir}` is none.")

    with Composer(command, extra_dir) as composer:
        jobs = expand(composer, overrides, multirun)
        if shows and (problems := composer.problems(jobs[0])):
            raise WrongInput("\n".join(problems))
        composed = [] if shows else check_jobs(composer, jobs)
    if shows:
        _call_hydra(command, [*flags, *overrides])
        return DONE
    if not multirun:
        run_job(composed[0], command, [word for word in overrides if not word.startswith("hydra.")])
        return DONE
    for job, own in zip(composed, jobs, strict=True):  # all that can be said without running is said before the first runs
        build_components(job, command, own)
    folder = _sweep_folder(composed[0].settings.output_root, command, jobs)
    print(f"{len(jobs)} jobs; their records go to {folder}")
    try:
        if composed[0].settings.runtime.jobs > 1:
            _run_apart(command, extra_dir, jobs, folder, composed[0].settings.runtime.jobs)
        else:
            _call_hydra(command, [*flags, *overrides, f"hydra.sweep.dir={quoted(str(folder))}"])
    finally:
        (folder / "multirun.yaml").unlink(missing_ok=True)  # Hydra's own copy; sweep.json says the same
        code = _summary(command, folder, jobs)
    if command != "extract" or composed[0].settings.extract.array is not None:
        print(f"next: analog-glue tables {shlex.quote(composed[0].settings.output_root)}")
    return code


def _run_apart(command: str, extra_dir: str | None, jobs: list[list[str]], folder: Path, at_once: int) -> None:
    """The jobs of a sweep, several at a time."""
    from analog_glue.side_by_side import run_side_by_side

    work = functools.partial(_job_apart, command, extra_dir, jobs, folder)
    for number, code in run_side_by_side(work, range(len(jobs)), at_once).items():
        record = folder / f"job_{number}.json"
        if not record.is_file():  # killed, say for its memory
            outcome = Outcome(jobs[number], "failed", error=f"its process ended with exit code {code}")
            record.write_text(json.dumps(asdict(outcome), indent=2, ensure_ascii=False) + "\n")


def split_flags(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags and overrides in any order → flags with their values, overrides.

    Raises:
        ValueError: a flag that is unknown or lacks its value.
    """
    from analog_glue.configuration import WrongInput

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
                raise WrongInput(f"Flag {name} must be followed by its value.")
            flags += [name, value or rest.pop(0)]
        elif word in FLAGS:
            flags.append(word)
            if word in ("--info", "-i") and rest and "=" not in rest[0] and not rest[0].startswith("-"):
                flags.append(rest.pop(0))
        else:
            known = [flag for flag in (*FLAGS, *FLAGS_WITH_VALUE) if flag.startswith("--")]
            near = difflib.get_close_matches(word, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise WrongInput(f"There is no flag {word}, only {', '.join(known)}.{hint}")
    choices = ("job", "hydra", "all")
    for i, flag in enumerate(flags):
        if flag in ("--cfg", "-c") and flags[i + 1] not in choices:
            given = flags[i + 1]
            raise WrongInput(
                f"Flag --cfg must be followed by {', '.join(choices)}, but is followed by `{given}`."
            )
    return flags, overrides


def expand(composer: "Composer", overrides: list[str], multirun: bool) -> list[list[str]]:
    """The overrides of every job of a sweep, in the order in which they run; one job without -m.

    Raises:
        WrongInput: a list of values for one job.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    from analog_glue.configuration import GROUPS, WrongInput

    parsed = []
    for word in overrides:
        try:
            parsed.append(composer.parse(word))
        except WrongInput:
            return [overrides]  # checking this job names every word that is wrong
    own = [o for o in parsed if not o.is_hydra_override()]
    hydra = [o.input_line for o in parsed if o.is_hydra_override()]
    swept = [o for o in own if o.is_sweep_override()]
    if not multirun:
        if swept:
            key, _, values = swept[0].input_line.partition("=")
            a_list = "" if key in GROUPS else f", or write a list as {key}=[{values}]"
            raise WrongInput(
                f"Setting `{key}` must have one value, but has several: {values}. "
                f"Add -m to run one job for each{a_list}."
            )
        return [overrides]
    if continuous := [o for o in swept if not o.is_discrete_sweep()]:
        raise WrongInput(f"Sweep `{continuous[0].input_line}` must list its values, such as key=1,2,3.")
    return [[*hydra, *job] for job in BasicSweeper.split_arguments(own, None)[0]]


def check_jobs(composer: "Composer", jobs: list[list[str]]) -> list["Composed"]:
    """Compose every job.

    Raises:
        WrongInput: everything that is wrong with any of them, each sentence once.
    """
    from analog_glue.configuration import WrongInput

    composed, problems = [], []
    for job in jobs:
        try:
            composed.append(composer.compose(job))
        except WrongInput as error:
            problems += str(error).splitlines()
    if problems:
        raise WrongInput("\n".join(dict.fromkeys(problems)))
    return composed


def _call_hydra(command: str, words: list[str]) -> None:
    """Hand the command line to Hydra, which launches the jobs (or shows what was asked for)."""
    import hydra

    from analog_glue.configuration import HYDRA_VERSION, conf_dir, register_settings

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


def _sweep_folder(output_root: str, command: str, jobs: list[list[str]]) -> Path:
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for name in (stamp, *(f"{stamp}_{i}" for i in range(2, 1000))):  # two sweeps may start in one second
        folder = Path(output_root).expanduser().resolve() / "sweeps" / name
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise ValueError(
                f"Setting `output_root` must be a folder that can be written to: {error}."
            ) from None
        record = {"command": command, "jobs": len(jobs), "overrides": jobs}
        (folder / "sweep.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
        return folder
    raise RuntimeError(f"no free folder for the sweep {stamp}")


def _summary(command: str, folder: Path, jobs: list[list[str]]) -> int:
    """Say how the jobs of a sweep ended, and how to run again those that did not."""
    outcomes: dict[int, Outcome] = {}
    for number in range(len(jobs)):
        record = folder / f"job_{number}.json"
        if record.is_file():
            outcomes[number] = Outcome(**json.loads(record.read_text()))
    counts = {status: 0 for status in ("done", "failed", "interrupted", "not run")}
    for number in range(len(jobs)):
        counts[outcomes[number].status if number in outcomes else "not run"] += 1
    print(
        f"\n{', '.join(f'{count} {status}' for status, count in counts.items() if count or status == 'done')}"
    )
    for number, job in enumerate(jobs):
        outcome = outcomes.get(number, Outcome(job, "not run"))
        if outcome.status != "done":
            print(f"  [{number + 1}] {outcome.status}: {outcome.error or ' '.join(job)}")
            print(f"      again: analog-glue {command} {shlex.join(job)}")
    return DONE if counts["done"] == len(jobs) else FAILED


# --- tables, list, verify -------------------------------------------------------------------------------

RECORDS_APART = "Runs of a folder `records` below ROOT, which came with the source, are left out: name it, or a record in it."


class _Parser(argparse.ArgumentParser):
    """argparse with this project's exit code and form of message."""

    def error(self, message: str) -> Any:
        raise SystemExit(_wrong(f"{message}. `{self.prog} --help` shows how it is called."))


def _parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace | int:
    try:
        return parser.parse_args(words)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else DONE


def _tables(words: list[str]) -> int:
    parser = _Parser(
        "analog-glue tables",
        description="Tables and figures from every results.csv and learning curve of a folder.", epilog=RECORDS_APART,
    )  # fmt: skip
    parser.add_argument("root", nargs="?", default="outputs", help="a folder of runs (default: outputs)")
    parser.add_argument("--out", help="where to write (default: ROOT/tables)")
    given = _parse(parser, words)
    if isinstance(given, int):
        return given
    from analog_glue.reports import tables

    report = tables.build(Path(given.root), Path(given.out) if given.out else None)
    print(report.markdown)
    for path in report.paths:
        print(f"written: {path}")
    pictures = [path for path in report.paths if path.suffix == ".png"]
    if pictures:
        print(f"figure: {pictures[0]}")
    return DONE


def _verify(words: list[str]) -> int:
    parser = _Parser(
        "analog-glue verify", description="Hold devices and tiles against published measurements."
    )
    parser.add_argument(
        "--against", choices=["aihwkit"], help="compare with this simulator too (extra `peer`)"
    )
    parser.add_argument("--quick", action="store_true", help="fewer draws, wider tolerances")
    given = _parse(parser, words)
    if isinstance(given, int):
        return given
    from analog_glue import verify

    code = verify.main(against=given.against, quick=given.quick)
    print(
        "next: analog-glue train task=mrpc noise=pcm"
        if code == DONE
        else "next: see which rows are marked as off"
    )
    return code


LISTS = ("options", "runs")


def _list(words: list[str]) -> int:
    parser = _Parser("analog-glue list", description="What can be chosen, and what has been run.", epilog=RECORDS_APART)
    parser.add_argument(
        "what", nargs="?", default="options", metavar=f"{{{','.join(LISTS)}}}", help="default: options"
    )
    parser.add_argument("root", nargs="?", default="outputs", help="runs: the folder (default: outputs)")
    given = _parse(parser, words)
    if isinstance(given, int):
        return given
    if given.what not in LISTS:
        near = difflib.get_close_matches(given.what, LISTS, n=1)
        hint = f" Did you mean `{near[0]}`?" if near else ""
        return _wrong(f"The word after `analog-glue list` must be {' or '.join(LISTS)}, but is `{given.what}`. "
                      "`analog-glue list` shows what can be chosen, `analog-glue list runs FOLDER` what has been run."
                      f"{hint}")  # fmt: skip
    return _list_options() if given.what == "options" else _list_runs(Path(given.root))


def _list_options() -> int:
    from analog_glue.configuration import GROUPS, conf_dir

    defaults = dict(re.findall(r"^  - (\w+): (\w+)", (conf_dir() / "train.yaml").read_text(), re.MULTILINE))
    for group in GROUPS:
        print(f"{group}=…")
        for file in sorted((conf_dir() / group).glob("*.yaml")):
            mark = "*" if defaults.get(group) == file.stem else " "
            print(f" {mark} {file.stem:20} {_description(file)}")
    print("* used when nothing is said\nnext: analog-glue train --help   every setting with its value")
    return DONE


def _description(file: Path) -> str:
    """The first comment line of a yaml file."""
    comments = [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    return next((line.lstrip("# ") for line in comments if "@package" not in line), "")


def _list_runs(root: Path) -> int:
    """Every training run below `root`, and below it the hardware that its weights were put on."""
    from analog_glue.reports.groups import differences
    from analog_glue.reports.records import array_error, find_runs
    from analog_glue.results import ResultsFile, files_of_runs, status_of

    in_situ = {run.folder: run for run in find_runs(root)}
    told = differences(in_situ.values())
    runs = {file.parent: json.loads(file.read_text(encoding="utf-8")) for file in files_of_runs(root, "run.json")}
    trained = [folder for folder, run in runs.items() if run.get("command") == "train"]
    arrays = {folder: said for folder in runs if (said := array_error(folder))}
    if not trained and not arrays:
        return _wrong(f"Folder `{root}` has no runs (those of a folder `records` below it are not counted). "
                      "`analog-glue train …` makes one.")  # fmt: skip
    for folder in trained:
        print(f"{status_of(folder):11} {folder}")
        if folder in in_situ:
            print(f"  {in_situ[folder].last_score}")
            if told[folder]:
                print(f"  differs: {told[folder]}")
            for extraction in in_situ[folder].extractions:
                print(f"  {extraction.name}: {extraction.best_score}")
        for below in (other for other in runs if folder in other.parents):
            rows = [row for row in ResultsFile(below).rows() if row.headline]
            digital = [f"digital {row.metric} {row.value:.2f}" for row in rows if row.stage == "digital"]
            chips = len({row.chip for row in rows if row.stage == "chip"})
            last = max((row.t_seconds for row in rows if row.t_seconds is not None), default=0.0)
            said = (
                [*digital[:1], f"{chips} chip{'s' if chips != 1 else ''} up to {last:g} s"]
                if rows
                else ["no score yet"]
            )
            print(f"  {status_of(below):11} {below.name}: {', '.join(said)}")
    for folder, said in arrays.items():
        print(f"{status_of(folder):11} {folder}\n  {said}")
    print(f"next: analog-glue tables {shlex.quote(str(root))}")
    return DONE


# --- bash completion ------------------------------------------------------------------------------------


def _completion(words: list[str], commands: list[str]) -> int:
    """Print Hydra's completion script, or the words that may follow on the command line in COMP_LINE."""
    line = os.environ.get("COMP_LINE", "")
    typed = line.split()
    if any(word.startswith("query=") for word in words):
        if len(typed) < 2 or (len(typed) == 2 and not line.endswith(" ")):
            print(" ".join(name for name in commands if name.startswith(typed[1] if len(typed) == 2 else "")))
            return DONE
        if typed[1] not in ("train", "evaluate", "extract"):
            return DONE
        os.environ["COMP_LINE"] = line.replace(f"{typed[1]} ", "", 1)  # Hydra knows no commands
        _call_hydra(typed[1], words)
    else:
        _call_hydra("train", words)
    return DONE


# --- errors ---------------------------------------------------------------------------------------------


def _wrong(message: str) -> int:
    print(message, file=sys.stderr)
    return WRONG


def _report(error: Exception) -> int:
    """Print an error, as one message where the user can mend it and else with its trace; its exit code."""
    if os.environ.get("ANALOG_GLUE_TRACE") == "1" or not _is_message(error):
        traceback.print_exception(error)
    else:
        print(error, file=sys.stderr)
    return WRONG if _is_message(error) else FAILED


def _is_message(error: Exception) -> bool:
    """Whether an error is a message to the user: a ValueError, or a missing file or package, that this
    package raises itself. What other code raises, or Python for a slip of ours, keeps its trace.
    """
    from_package = str(Path(analog_glue.__file__).parent)
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or not isinstance(error, ValueError | OSError | ImportError):
        return False
    last = frames[-1]
    line = linecache.getline(last.filename, last.lineno or 0).strip()
    return last.filename.startswith(from_package) and line.startswith("raise ")


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0] if _is_message(error) else f"{type(error).__name__}: {text.splitlines()[0]}"
