"""The jobs of a sweep as jobs of Slurm: handed over by submitit, with the settings of Hydra's launcher for it.

What that launcher leaves open matters in a sweep of weeks, so its settings are taken and it is not called:

- It waits for results in the order of the jobs, and the first that died ends the wait for all. Where Slurm keeps no accounts
  (no `sacct`) it waits for ever for a job that died. Here a job writes down itself how it stands, and one that `squeue` no
  longer shows has ended, whatever it wrote.
- submitit lets SIGTERM pass, all that a preempted job hears before it is killed. Here it saves and is put back.
- By its default a job that reaches its time limit is not put back; conf/hydra/launcher/slurm.yaml says otherwise.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analog_glue.cli.errors import first_line
from analog_glue.cli.records import Outcome, read_record, sweep_of, words_of_job, write_record
from analog_glue.errors import UserError, require
from analog_glue.interruption import ENDING, Interrupted, ended_by_signals, exit_code
from analog_glue.runs.files import read_json, write_json_atomic

if TYPE_CHECKING:
    import submitit

CLUSTERS = {"SlurmLauncher": "slurm", "LocalLauncher": "local"}  # launcher of Hydra → executor of submitit
OF_EVERY_EXECUTOR = (
    *("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name", "stderr_to_stdout"),
)
LONGEST_ARRAY = 1000  # jobs; Slurm's MaxArraySize is 1001 unless its administrator changed it
# Starts Python with the signals held up that would kill it until `QueuedJob` listens; imports from a shared disk take a while.
LISTENING_SOON = (
    "import os, signal, sys; "
    "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2]); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
FIRST_LOOK, LONGEST_PAUSE = 1.0, 30.0  # [s] between two looks at the queue; every look asks the controller once
SLURM_SAYS = re.compile(r"slurmstepd[^:]*: error: (.*)")
OF_MEMORY = re.compile(r"\boom|memory limit", re.IGNORECASE)
QUEUE_FILE = "queue.json"  # of a sweep: the ids of its jobs, by number


def cluster_of(launcher: Mapping[str, Any]) -> str | None:
    """The executor of submitit that a launcher's settings are for; None where the jobs do not go to a queue."""
    return CLUSTERS.get(str(launcher.get("_target_", "")).rpartition(".")[2])


@dataclass(frozen=True)
class QueuedJob:
    """One job of a sweep, as submitit stores it and calls it where Slurm starts it, again each time that it was put back.

    Attributes:
        work: What it does, by number: a function of a module, or a `functools.partial` of one.
    """

    work: Callable[[int], None]
    folder: Path  # of the sweep
    number: int
    words: list[str]

    def __call__(self) -> None:
        """Work; on a signal save, and come back later unless somebody cancelled the job.

        Raises:
            SystemExit: it was put back or cancelled.
            Exception: it cannot be put back.
        """
        from submitit import JobEnvironment

        warning = getattr(signal, f"SIG{JobEnvironment.USR_SIG}")  # before the time limit; preemption, where it is set up so
        put_back = signal.getsignal(warning)
        write_record(self.folder, self.number, Outcome(self.words, "running"))
        try:
            with ended_by_signals(also=(signal.SIGTERM, warning)):
                signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)  # what came before this has waited
                self.work(self.number)
        except Interrupted as interrupt:  # what was in hand is saved
            if callable(put_back) and (interrupt.number == warning or _is_preempted(interrupt.number)):
                write_record(self.folder, self.number, Outcome(self.words, "requeued"))
                try:
                    put_back(warning, None)  # which ends this process
                except Exception as error:  # too many time-outs, or Slurm refuses
                    write_record(self.folder, self.number, Outcome(self.words, "interrupted", error=first_line(error)))
                    raise
            sys.exit(exit_code(interrupt))

    def checkpoint(self) -> "submitit.helpers.DelayedSubmission":
        """What is called when it is put back: the same again, which goes on where it stopped."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _is_preempted(number: int) -> bool:
    """Whether SIGTERM came to a job that still counts as running: one that is cancelled or over its limit does not."""
    return number == signal.SIGTERM and state_of(os.environ.get("SLURM_JOB_ID", "")) == "RUNNING"


def state_of(job: str) -> str:
    """What the controller knows of a job: RUNNING, CANCELLED, OUT_OF_MEMORY …; "" of one that it does not know, or no more."""
    said = _asked("scontrol", "--oneliner", "show", "job", job) if job else None
    states = [word.partition("=")[2] for word in (said or "").split() if word.startswith("JobState=")]
    return states[0] if states else ""


def in_queue() -> set[str] | None:
    """Ids of this user's jobs that wait, run or end; None where the controller does not answer."""
    said = _asked("squeue", "--noheader", "--array", "--me", "--format=%i")
    return None if said is None else set(said.split())


def _asked(*command: str) -> str | None:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def submit(launcher: Mapping[str, Any], jobs: Sequence[QueuedJob], folder: Path) -> Callable[[], set[str] | None]:
    """Hand the jobs over, and keep their ids in `folder`.

    Returns:
        Something that says which ids are still in the queue.

    Raises:
        UserError: a setting of the launcher cannot be, or sbatch refuses.
    """
    import submitit

    cluster = cluster_of(launcher)
    require(cluster != "slurm" or shutil.which("sbatch") is not None, "hydra/launcher",
            "be left out here, or sbatch be installed", "slurm", "Call it on a machine that submits jobs.")  # fmt: skip
    for name in ("nodes", "tasks_per_node"):
        require(launcher.get(name, 1) == 1, f"hydra.launcher.{name}", "be 1: a job of a sweep is one process",
                launcher.get(name))  # fmt: skip
    own = {name: value for name, value in launcher.items() if name not in ("_target_", "submitit_folder", "max_num_timeout")}
    made: dict[str, Any] = {f"{cluster}_max_num_timeout": launcher["max_num_timeout"]} if "max_num_timeout" in launcher else {}
    if cluster == "slurm":  # as many threads as the job has cores, where nobody says otherwise
        threads = "export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_ON_NODE:-1}}"
        own["setup"] = [*(own.get("setup") or []), threads]
        made["slurm_python"] = shlex.join([sys.executable, "-c", LISTENING_SOON])
    ids: dict[str, str] = {}
    handles: list[submitit.Job[None]] = []
    try:
        executor = submitit.AutoExecutor(folder=folder / "submitit" / "%j", cluster=cluster, **made)
        executor.update_parameters(
            **{name if name in OF_EVERY_EXECUTOR else f"{cluster}_{name}": value for name, value in own.items()}
        )
        for job in jobs:
            write_record(folder, job.number, Outcome(job.words, "waiting"))
        for first in range(0, len(jobs), LONGEST_ARRAY):
            part = jobs[first : first + LONGEST_ARRAY]
            with executor.batch():
                handed = [executor.submit(job) for job in part]
            ids |= {str(job.number): handle.job_id for job, handle in zip(part, handed, strict=True)}
            handles += handed
            write_json_atomic(folder / QUEUE_FILE, {"cluster": cluster, "jobs": ids})
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError, ValueError) as error:
        raise UserError(f"Settings `hydra.launcher` must be such that the jobs can be submitted, but: {error}") from None
    if cluster == "slurm":
        return in_queue
    return lambda: {handle.job_id for handle in handles if not handle.done()}


def waiting_already(sweeps: Path, command: str, jobs: list[list[str]]) -> Path | None:
    """The folder of a sweep of the same words that Slurm still has jobs of: a second one would get in its way."""
    found = [file.parent for file in sweeps.glob(f"*/{QUEUE_FILE}") if sweep_of(file.parent) == (command, jobs)]
    if not found:
        return None
    queued = in_queue() or set()
    return next((folder for folder in sorted(found, reverse=True) if queued & set(_ids(folder).values())), None)


def _ids(folder: Path) -> dict[int, str]:
    said = read_json(folder / QUEUE_FILE)
    return {int(number): str(job) for number, job in said.get("jobs", {}).items()} if said.get("cluster") == "slurm" else {}


def wait(folder: Path, queued: Callable[[], set[str] | None]) -> None:
    """Wait until no job of the sweep is in the queue any more, and say how each ended."""
    said = read_json(folder / QUEUE_FILE)
    ids = {int(number): str(job) for number, job in said["jobs"].items()}
    _, jobs = sweep_of(folder) or ("", [])
    told: set[int] = set()
    missing: set[int] = set()
    pause, answers = FIRST_LOOK, True
    while len(told) < len(ids):
        there = queued()
        if answers != (there is not None):
            answers = not answers
            print("The queue answers again." if answers else "The queue does not answer; its jobs may go on. Asking again …")
        for number in sorted(ids.keys() - told) if there is not None else ():
            outcome = read_record(folder, number, words_of_job(jobs[number]))
            here = ids[number] in (there or ())
            if outcome.open and not here:
                # A record on a shared disk may be seen late, so it is looked at twice.
                if number not in missing:
                    missing.add(number)
                    continue
                outcome = lost(outcome, folder, ids[number])
                write_record(folder, number, outcome)
            elif outcome.open or (outcome.status == "interrupted" and here):  # just before it is put back
                continue
            told.add(number)
            why = f": {outcome.error}" if outcome.error else ""
            print(f"[{len(told)}/{len(ids)}] {outcome.status}: {' '.join(outcome.overrides)}{why}")
        if len(told) < len(ids):
            time.sleep(pause)
            pause = min(LONGEST_PAUSE, 1.5 * pause)


def lost(outcome: Outcome, folder: Path, job: str) -> Outcome:
    """What is said of a job that is gone from the queue and wrote down no end."""
    state, log = state_of(job), folder / "submitit" / job
    why = f"Slurm ended it as {state}" if state and state != "COMPLETED" else "it left the queue without a word"
    said = words_of_slurm(log)
    if said:
        why += f" ({said})"
    if state == "OUT_OF_MEMORY" or OF_MEMORY.search(said):
        why += "; hydra.launcher.mem_gb=… [GB] asks for more"
    return replace(outcome, status="failed", error=f"{why}; its log: {log}")


def words_of_slurm(log: Path) -> str:
    """What the daemon of Slurm wrote last into the log of a job, of all its lives, so why it was killed; "" for nothing."""
    lines = [line for file in sorted(log.glob("*_log.err")) for line in file.read_text(errors="replace").splitlines()]
    return next((found[1].strip(" *") for line in reversed(lines) if (found := SLURM_SAYS.match(line))), "")
