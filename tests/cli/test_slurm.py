"""A sweep on a real Slurm: whatever happens to its jobs, every row is there at the end, once, with the bits of one process."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos.kept import contents

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "slurm_on_one_machine"
WITH_SBIN = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
SWEEP = [
    *(
        "task=demo",
        "task.train_size=96",
        "task.validation_size=48",
        "task.aspects=2",
        "training=digital",
        "training.epochs=120",
    ),
    *("model=tiny", "model.hidden=32", "model.heads=2", "model.intermediate=64", "training.batch_size=16"),
    *("training.learning_rate=1e-3", "training.save_every=5"),
    *("hardware.calibration.examples=16", "evaluation.chips=1", "evaluation.times=[1,2592000]"),
    "seed=0,1,2,3,4,5",
]
PATIENCE = 900  # [s] for any one thing; all of it took 452 s on two cores at a load of 6.5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.slurm,
    pytest.mark.skipif(
        shutil.which("slurmctld", path=WITH_SBIN["PATH"]) is None,
        reason="left out: slurmctld is not installed (apt-get install slurm-wlm)",
    ),
]


@dataclass(frozen=True)
class Slurm:
    folder: Path
    environment: dict[str, str]

    def control(self, action: str) -> str:
        return self.call(str(SCRIPT), action, str(self.folder))

    def call(self, *words: str) -> str:
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def job(self, name: str) -> dict[str, str]:
        """What the controller says of a job."""
        return dict(
            word.partition("=")[::2] for word in self.call("scontrol", "-o", "show", "job", name).split() if "=" in word
        )

    def minutes(self, name: str) -> int:
        """Whole minutes that a job has run, below a day."""
        hours, minutes, _ = self.job(name)["RunTime"].split(":")
        return 60 * int(hours) + int(minutes)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    pytest.importorskip("submitit", reason="left out: the extra `sweep` is not installed")
    folder = tmp_path_factory.mktemp("slurm") / "here"
    threads = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    # Three at a time, and nothing left for a job of the other partition.
    own = Slurm(folder, {**os.environ, **WITH_SBIN, **threads, "CPUS": "3", "SLURM_CONF": str(folder / "slurm.conf")})
    begun = subprocess.run([SCRIPT, "start", folder], env=own.environment, capture_output=True, text=True, timeout=120)
    if begun.returncode != 0:  # a machine that may not have one: names that do not resolve, ports that are closed
        own.control("stop")
        pytest.skip(f"left out: Slurm does not start here: {begun.stdout}{begun.stderr}")
    yield own
    own.control("stop")
    assert not folder.exists()


def wait_for(what: Callable[[], object], sweep: "Sweep", pause: float = 0.1) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end and sweep.process.poll() is None, sweep.said()
        time.sleep(pause)


class Sweep:
    """`train -m`, in a process of its own, and the jobs that it has handed over."""

    def __init__(self, slurm: Slurm, place: Path, *words: str) -> None:
        place.mkdir(exist_ok=True)
        # The same words in both places, since runs keep them.
        command = [sys.executable, "-m", "analog_glue", "train", "-m", *words, *SWEEP, "output_root=runs"]
        self.slurm, self.root, self.log = slurm, place / "runs", place / f"{time.monotonic_ns()}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, env=slurm.environment, stdout=log, stderr=subprocess.STDOUT, cwd=place)

    def said(self) -> str:
        jobs = [file.read_text() for file in sorted(self.root.glob("sweeps/*/submitit/*/*_log.*"))]
        return "\n---\n".join([self.log.read_text(), *jobs, self.slurm.call("squeue")])

    @property
    def folder(self) -> Path:
        return max((self.root / "sweeps").iterdir())

    def ids(self) -> dict[int, str]:
        wait_for(lambda: list(self.root.glob("sweeps/*/queue.json")), self)
        return {int(number): job for number, job in json.loads((self.folder / "queue.json").read_text())["jobs"].items()}

    def record(self, number: int) -> dict:
        return json.loads((self.folder / f"job_{number}.json").read_text())

    def log_of(self, job: str) -> str:
        return "".join(file.read_text() for file in (self.folder / "submitit").glob(f"{job}/*_log.*"))

    def in_training(self, number: int) -> str:
        """The id of a job that has begun to train and has far to go."""
        job = self.ids()[number]
        wait_for(lambda: "epoch 2:" in self.log_of(job), self, 0.01)
        return job

    def end(self) -> tuple[int, str]:
        self.process.wait(PATIENCE)
        return self.process.returncode, self.log.read_text()


def process_of(slurm: Slurm, job: str) -> int:
    """The Python of a job's only step."""
    table = [line.split() for line in slurm.call("scontrol", "listpids", slurm.job(job)["JobId"]).splitlines()[1:]]
    (pid,) = [int(pid) for pid, _, step, place, _ in table if step != "batch" and place != "-"]
    return pid


def test_a_sweep_that_is_cancelled_preempted_out_of_time_or_memory_without_controller_or_node_ends_in_the_rows_of_one_process(
    slurm, tmp_path
):
    queued = ("hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=60")
    sweep = Sweep(slurm, tmp_path / "queue", *queued)

    def stands_still(number: int) -> str:
        """The id of a job that trains no further until Slurm, which wakes a job first, tells it to end."""
        job = sweep.in_training(number)
        os.kill(process_of(slurm, job), signal.SIGSTOP)
        return job

    late, cancelled, _ = (stands_still(number) for number in range(3))  # all processors
    slurm.call("scontrol", "update", f"JobId={sweep.ids()[5]}", "MinMemoryNode=200")  # [MB], less than torch takes alone

    lived = slurm.minutes(late)
    slurm.call("scontrol", "update", f"JobId={late}", f"TimeLimit={lived + 3}")  # the warning comes 2 minutes before
    wait_for(lambda: sweep.record(0)["status"] == "requeued", sweep, 0.02)
    slurm.call("scontrol", "update", f"JobId={late}", "TimeLimit=60")

    slurm.call("scancel", cancelled)

    # All processors are wanted: whatever runs has to make room.
    pushed = stands_still(3)
    slurm.call("sbatch", "--partition=urgent", "--cpus-per-task=3", "--output=/dev/null", "--wrap=sleep 1")
    wait_for(lambda: "Requeued job" in sweep.log_of(pushed), sweep)
    slurm.control("restart-controller")

    wait_for(lambda: "Resuming" in sweep.log_of(pushed), sweep, 0.01)
    os.kill(process_of(slurm, pushed), signal.SIGSTOP)
    slurm.control("fail-node")

    code, said = sweep.end()
    assert code == 1 and "4 done, 1 failed, 1 interrupted" in said, sweep.said()
    assert "memory limit" in said and "hydra.launcher.mem_gb=…" in said
    assert sweep.log_of(pushed).count("Resuming") == 2
    assert "Resuming after step" in sweep.log_of(late)
    assert sweep.record(1)["status"] == "interrupted"

    again = Sweep(slurm, tmp_path / "queue", *queued)
    code, said = again.end()
    assert code == 0 and "6 done" in said, again.said()
    told = [again.log_of(job) for job in again.ids().values()]
    assert [("Already done" in log, "Resuming" in log) for log in told] == [(n not in (1, 5), n == 1) for n in range(6)]

    alone = Sweep(slurm, tmp_path / "alone")
    assert alone.end()[0] == 0
    rows = [contents(tmp_path / place / "runs") for place in ("queue", "alone")]
    assert rows[0].keys() == rows[1].keys() and [name for name in rows[0] if rows[0][name] != rows[1][name]] == []
    assert sum(name.endswith("results.csv") for name in rows[0]) == 6
