"""How the jobs of a sweep stand, one small file each, and what is said of them at the end."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from analog_glue.cli.errors import DONE, FAILED
from analog_glue.runs.files import read_json, write_json_atomic
from analog_glue.runs.folder import files_of_runs

SWEEP_FILE = "sweep.json"  # command and words of every job
SWEEPS = "sweeps"  # folder of sweeps in `output_root`
ORDER = ("done", "failed", "interrupted", "requeued", "running", "waiting", "not run")


@dataclass(frozen=True)
class Outcome:
    """How one job of a sweep stands, kept as `job_<number>.json` in the sweep's folder."""

    overrides: list[str]
    status: str  # done | failed | interrupted; of a job in a queue before: waiting | running | requeued
    run: str = ""  # folder of the run
    error: str = ""

    @property
    def open(self) -> bool:
        """Whether its job has not come to an end yet, as far as it says itself."""
        return self.status in ("waiting", "running", "requeued")


def record_of(folder: Path, number: int) -> Path:
    return folder / f"job_{number}.json"


def write_record(folder: Path, number: int, outcome: Outcome) -> None:
    write_json_atomic(record_of(folder, number), asdict(outcome))


def read_record(folder: Path, number: int, overrides: list[str]) -> Outcome:
    said = read_json(record_of(folder, number))
    known = {name: said[name] for name in ("overrides", "status", "run", "error") if name in said}
    return Outcome(**known) if known.keys() >= {"overrides", "status"} else Outcome(overrides, "not run")


def words_of_job(words: Sequence[str]) -> list[str]:
    """The words of one job that say what it computes, not how it is launched."""
    return [word for word in words if not word.startswith(("hydra.", "hydra/"))]


def _alone(words: Sequence[str]) -> str:
    """A job's words as typed to run it here: where yaml files are searched stays, the launcher goes."""
    return shlex.join(word for word in words if not word.startswith(("hydra.launcher", "hydra/launcher")))


def closing_summary(command: str, folder: Path, jobs: Sequence[list[str]], again: Sequence[str] = ()) -> int:
    """Say how the jobs of a sweep stand, and how to run again those that are not done.

    Args:
        again: The words of the whole sweep; given, they are named where more than one job is to be run again.

    Returns:
        The exit code.
    """
    outcomes = [read_record(folder, number, job) for number, job in enumerate(jobs)]
    counts = Counter(outcome.status for outcome in outcomes)
    print(f"\n{counted(counts)}")
    _name_open_ends(command, jobs, outcomes)
    if again and len(jobs) - counts["done"] > 1:
        print(f"again, what is missing alone: analog-glue {command} {shlex.join(again)}")
    return DONE if counts["done"] == len(jobs) else FAILED


def list_sweeps(root: Path) -> list[Path]:
    """Say of every sweep of an output folder, the last first, how its jobs stand; the sweeps."""
    kept = files_of_runs(root / SWEEPS if (root / SWEEPS).is_dir() else root, SWEEP_FILE)
    for file in sorted(kept, key=lambda file: file.stat().st_mtime, reverse=True):
        folder, said = file.parent, sweep_of(file.parent)
        if said is None:
            print(f"{folder}: its {SWEEP_FILE} cannot be read")
            continue
        command, jobs = said
        outcomes = [read_record(folder, number, job) for number, job in enumerate(jobs)]
        shared = [word for word in words_of_job(jobs[0]) if all(word in job for job in jobs)] if jobs else []
        print(f"{folder}: {counted(Counter(outcome.status for outcome in outcomes))}\n  {command} -m {shlex.join(shared)} …")
        _name_open_ends(command, jobs, outcomes)
    return kept


def counted(counts: Counter[str]) -> str:
    """ "3 done, 1 failed"; none that are done are said, too."""
    return ", ".join(f"{counts[status]} {status}" for status in ORDER if counts[status] or status == "done")


def _name_open_ends(command: str, jobs: Sequence[list[str]], outcomes: Sequence[Outcome]) -> None:
    """The jobs that came to an end without being done, or never began, with what runs each again."""
    for number, (job, outcome) in enumerate(zip(jobs, outcomes, strict=True), start=1):
        if outcome.status == "done" or outcome.open:
            continue
        print(f"  [{number}] {outcome.status}: {outcome.error or ' '.join(words_of_job(job))}")
        print(f"      again: analog-glue {command} {_alone(job)}")


def sweep_of(folder: Path) -> tuple[str, list[list[str]]] | None:
    """Command and jobs of a sweep's folder; None where they cannot be read."""
    said = read_json(folder / SWEEP_FILE)
    try:
        return str(said["command"]), [[str(word) for word in job] for job in said["overrides"]]
    except (KeyError, TypeError):
        return None
