"""Jobs in a queue: who has ended, who is lost, and who comes back; tests/cli/test_slurm.py has the same on a real one."""

import os
import signal
import threading
from pathlib import Path

import pytest

from analog_glue.cli import queue
from analog_glue.cli.queue import QueuedJob, cluster_of, submit, wait, waiting_already
from analog_glue.cli.records import Outcome, closing_summary, read_record, write_record
from analog_glue.errors import UserError
from analog_glue.runs.files import write_json_atomic

JOBS = [["hydra/launcher=slurm", "hydra.launcher.partition=gpu", f"seed={seed}"] for seed in range(3)]


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """A sweep whose three jobs were handed over, and no waiting between two looks."""
    monkeypatch.setattr(queue, "FIRST_LOOK", 0.0)
    monkeypatch.setattr(queue, "LONGEST_PAUSE", 0.0)
    folder = tmp_path / "sweeps" / "one"
    folder.mkdir(parents=True)
    write_json_atomic(folder / "sweep.json", {"command": "train", "jobs": 3, "overrides": JOBS})
    write_json_atomic(folder / "queue.json", {"cluster": "slurm", "jobs": {str(n): f"7_{n}" for n in range(3)}})
    for number in range(3):
        write_record(folder, number, Outcome([f"seed={number}"], "waiting"))
    return folder


def stands(folder: Path) -> list[str]:
    return [read_record(folder, number, []).status for number in range(3)]


def test_waiting_ends_with_the_last_job_whatever_became_of_each(sweep, monkeypatch, capsys):
    monkeypatch.setattr(queue, "state_of", lambda job: {"7_1": "OUT_OF_MEMORY"}.get(job, ""))

    def events():
        yield {"7_0", "7_1", "7_2"}
        write_record(sweep, 0, Outcome(["seed=0"], "done", "outputs/run"))
        yield {"7_1", "7_2"}
        yield None  # the controller is restarted
        write_record(sweep, 2, Outcome(["seed=2"], "interrupted"))  # just before it is put back
        yield {"7_1", "7_2"}
        write_record(sweep, 2, Outcome(["seed=2"], "requeued"))
        yield {"7_1", "7_2"}
        yield {"7_2"}
        assert stands(sweep) == ["done", "waiting", "requeued"]  # a record may be seen late
        yield {"7_2"}
        assert stands(sweep) == ["done", "failed", "requeued"]
        write_record(sweep, 2, Outcome(["seed=2"], "done"))
        yield set()

    looks = events()
    wait(sweep, lambda: next(looks))
    said = capsys.readouterr().out
    assert "[1/3] done: seed=0\n" in said and "[3/3] done: seed=2\n" in said
    assert (
        "[2/3] failed: seed=1: Slurm ended it as OUT_OF_MEMORY; hydra.launcher.mem_gb=… [GB] asks for more; its log: " in said
    )
    assert said.count("The queue does not answer") == said.count("The queue answers again") == 1
    assert closing_summary("train", sweep, JOBS, ["-m", "seed=0,1,2"]) == 1
    said = capsys.readouterr().out
    assert "2 done, 1 failed" in said and "      again: analog-glue train seed=1\n" in said  # here, not in the queue
    assert "missing alone" not in said  # which one command does


@pytest.mark.parametrize(
    "words, state, told",
    [  # polled, as Slurm 22.05 here; by cgroups; a node that died and a job that may not be put back
        ("slurmstepd-n1: error: StepId=7.0 exceeded memory limit (213 > 209), being killed", "FAILED", "mem_gb=…"),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=7.0. Some of the step tasks have been OOM Killed.", "FAILED",
         "mem_gb=…"),
        ("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026 DUE TO NODE FAILURE ***", "NODE_FAIL", "DUE TO NODE FAILURE)"),
    ],
)  # fmt: skip
def test_a_job_that_slurm_kills_is_told_of_in_slurms_words(sweep, monkeypatch, words, state, told):
    monkeypatch.setattr(queue, "state_of", lambda job: state)
    log = sweep / "submitit" / "7_1"
    log.mkdir(parents=True)
    before = "slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026 DUE TO PREEMPTION ***"  # it was put back then
    (log / "7_1_0_log.err").write_text(f"{before}\na warning of torch\n{words}\nsrun: error: n1: task 0: Killed\n")
    outcome = queue.lost(Outcome(["seed=1"], "running"), sweep, "7_1")
    assert outcome.status == "failed" and told in outcome.error
    assert outcome.error.startswith(f"Slurm ended it as {state} (") and ("mem_gb" in outcome.error) == (told == "mem_gb=…")


def test_more_than_one_job_is_run_again_by_the_same_command(sweep, capsys):
    write_record(sweep, 0, Outcome(["seed=0"], "done"))
    assert closing_summary("train", sweep, JOBS, ["-m", "hydra/launcher=slurm", "seed=0,1,2"]) == 1
    said = capsys.readouterr().out
    assert "1 done, 2 waiting" in said
    assert "again, what is missing alone: analog-glue train -m hydra/launcher=slurm seed=0,1,2\n" in said


def test_a_sweep_that_is_in_the_queue_is_waited_for_instead_of_handed_over_twice(sweep, monkeypatch):
    monkeypatch.setattr(queue, "in_queue", lambda: {"7_2", "9"})
    assert waiting_already(sweep.parent, "train", JOBS) == sweep
    assert waiting_already(sweep.parent, "train", JOBS[:2]) is None
    assert waiting_already(sweep.parent, "evaluate", JOBS) is None
    monkeypatch.setattr(queue, "in_queue", lambda: {"9"})
    assert waiting_already(sweep.parent, "train", JOBS) is None
    monkeypatch.setattr(queue, "in_queue", lambda: None)
    assert waiting_already(sweep.parent, "train", JOBS) is None


@pytest.fixture
def signals():
    """Handlers as submitit leaves them: SIGTERM passes, SIGUSR2 puts the job back."""
    pytest.importorskip("submitit", reason="left out: the extra `sweep` is not installed")
    calls = []

    def put_back(number, frame):
        calls.append(number)
        raise SystemExit(255)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.signal(signal.SIGUSR2, put_back)
    yield calls
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "state", "back"),
    [
        pytest.param(signal.SIGTERM, "RUNNING", True, id="preempted"),
        pytest.param(signal.SIGTERM, "CANCELLED", False, id="cancelled"),
        pytest.param(signal.SIGTERM, "", False, id="nobody knows"),
        pytest.param(signal.SIGUSR2, "RUNNING", True, id="near its limit"),
        pytest.param(signal.SIGINT, "RUNNING", False, id="ctrl-c"),
    ],
)
def test_a_job_comes_back_unless_somebody_cancelled_it(number, state, back, signals, sweep, monkeypatch):
    monkeypatch.setattr(queue, "state_of", lambda job: state)
    with pytest.raises(SystemExit) as ended:
        QueuedJob(lambda _: os.kill(os.getpid(), number), sweep, 1, ["seed=1"])()
    assert signals == ([signal.SIGUSR2] if back else [])
    assert ended.value.code == (255 if back else 128 + number)
    assert read_record(sweep, 1, []).status == ("requeued" if back else "running")  # the work writes down how it ended


def test_a_signal_that_came_before_the_job_listens_is_heard(signals, sweep, monkeypatch):
    monkeypatch.setattr(queue, "state_of", lambda job: "RUNNING")
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)  # another thread of the tests does not hold it up
        with pytest.raises(SystemExit):
            QueuedJob(lambda _: pytest.fail("it began to work"), sweep, 1, ["seed=1"])()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    assert signals == [signal.SIGUSR2]


def test_a_job_that_may_not_come_back_says_why(signals, sweep):
    def refused(number, frame):
        raise RuntimeError("timed-out too many times")

    signal.signal(signal.SIGUSR2, refused)
    with pytest.raises(RuntimeError):
        QueuedJob(lambda _: os.kill(os.getpid(), signal.SIGUSR2), sweep, 1, ["seed=1"])()
    outcome = read_record(sweep, 1, [])
    assert outcome.status == "interrupted" and "timed-out too many times" in outcome.error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["hydra.launcher.nodes=2"], "`hydra.launcher.nodes` must be 1"),
        (["runtime.jobs=2"], "`runtime.jobs` must be 1 where a queue runs the jobs"),
        ([], "`hydra/launcher` must be left out here, or sbatch be installed"),
    ],
)
def test_what_a_queue_cannot_do_is_refused(words, said, run, tmp_path, monkeypatch):
    pytest.importorskip("submitit", reason="left out: the extra `sweep` is not installed")
    monkeypatch.setattr(queue.shutil, "which", lambda name: "/usr/bin/sbatch" if words else None)
    common = ["task=digits", "device=soft_bounds", "training=ttv2", "seed=0,1", f"output_root={tmp_path}"]
    answer = run("train", "-m", "hydra/launcher=slurm", *common, *words)
    assert answer.code == 2 and said in answer.err


def test_what_sbatch_refuses_is_said_with_its_own_words(tmp_path, monkeypatch):
    pytest.importorskip("submitit", reason="left out: the extra `sweep` is not installed")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sbatch", "srun"):
        program = programs / name
        program.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: gpu' >&2\nexit 1\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    launcher = {"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher", "partition": "gpu"}
    with pytest.raises(UserError, match=r"`hydra.launcher` must be such .* invalid partition specified: gpu"):
        submit(launcher, [QueuedJob(print, tmp_path, 0, ["seed=0"])], tmp_path)


def test_a_launcher_that_needs_a_queue_is_known_by_its_class():
    place = "hydra_plugins.hydra_submitit_launcher.submitit_launcher"
    assert cluster_of({"_target_": f"{place}.SlurmLauncher"}) == "slurm"
    assert cluster_of({"_target_": f"{place}.LocalLauncher"}) == "local"
    assert cluster_of({"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}) is None
    assert cluster_of({}) is None
