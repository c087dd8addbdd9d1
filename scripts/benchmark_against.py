"""Two revisions in turn on one machine: `python scripts/benchmark.py --against REV`.

REV is written into a temporary folder; one process for each revision imports its own package (benchmark_worker.py), and the
two measure one after another, the first of a round changing. The measure is the median over rounds of new / old within one
round; beside it stand the ratio of the shortest times and that of CPU time, which other programs disturb less. "Today" is the
working tree with what is not committed.
"""

import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmark_machine import Watch

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 7
Answer = tuple[list[float], list[float]]  # what a worker measured, and its CPU time; a number a part of the case
Pair = tuple[Answer, Answer]  # of today and of the other revision
FRESH = {"hwa_memory": 2}  # needs new processes for every round; this many rounds are enough

# Largest share of the time (or memory) of commit 5a5ade0. A case `start` (time to the first score of a tiny run) has its place
# in `CASES` of benchmark_worker.py: with targets of 0.5 with a cold kernel cache and 0.7 with a warm one.
TARGETS = {
    "mvm_4096": 0.70,
    "mvm_128": 0.70,
    "bert_inference": 0.65,
    "mrpc_score": 0.65,
    "hwa_step": 0.85,
    "hwa_step_int16": 0.65,
    "hwa_memory": 1.0,
    "program": 0.30,
    "age": 0.45,
    "lstm_ttv2": 0.75,
    "pulsed_update_256x152": 0.75,
    "pulsed_update_512x512": 0.75,
}


@dataclass(frozen=True)
class Comparison:
    """Time (of hwa_memory: memory) of today over that of another revision."""

    name: str
    ratios: tuple[float, ...]  # one a round
    of_shortest: float  # the same of the shortest times over rounds
    of_cpu: float  # the same of CPU time, median over rounds: what is left where other programs take most of the machine
    new: float  # [s] or [MiB], the shortest over rounds, summed over the parts of the case
    old: float
    over_fp32: float | None  # of today, in the same rounds
    disturbance: str

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    def row(self) -> str:
        target = TARGETS.get(self.name)
        verdict = "" if target is None else f"≤ {target:.2f} {'met' if self.ratio <= target else 'MISSED'}"
        beside = "" if self.over_fp32 is None else f"{self.over_fp32:.2f}×"
        unit = (lambda v: f"{v:,.0f} MiB") if self.name == "hwa_memory" else _duration
        spread, shortest = f"{min(self.ratios):.2f} – {max(self.ratios):.2f}", f"{self.of_shortest:.2f} | {self.of_cpu:.2f}"
        times = unit(self.new), unit(self.old)
        cells = (f"**{self.ratio:.2f}**", spread, shortest, verdict, beside, *times, self.disturbance)
        return f"| {self.name} | {' | '.join(cells)} |"


HEAD = (
    "| name | new / old | over rounds | of the shortest | of CPU time | target | new / FP32 | new | old | disturbed by |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def compare(revision: str, names: Sequence[str], rounds: int, threads: int, log: Callable[[str], None]) -> Iterator[Comparison]:
    """Measure `names` of `CASES` here and at `revision`, a name after another."""
    with checkout(revision) as other:
        for name in names:
            log(f"  {name}: {FRESH.get(name, rounds)} rounds")
            with Watch() as watch:
                pairs, fp32 = _rounds(name, other, rounds, threads)
            yield _comparison(name, pairs, fp32, watch.disturbance)


def _comparison(name: str, pairs: list[Pair], fp32: list[list[float]], disturbance: str) -> Comparison:
    """From what `_rounds` measured; of several parts the mean of the ratios."""

    def mean_ratio(above: Sequence[float], below: Sequence[float]) -> float:
        return statistics.mean(a / b for a, b in zip(above, below, strict=True))

    ratios = tuple(mean_ratio(new, old) for (new, _), (old, _) in pairs)
    of_cpu = statistics.median(mean_ratio(new, old) for (_, new), (_, old) in pairs)
    over_fp32 = [mean_ratio(new, plain) for ((new, _), _), plain in zip(pairs, fp32, strict=True) if plain]
    new, old = ([min(values) for values in zip(*(pair[side][0] for pair in pairs), strict=True)] for side in (0, 1))
    beside = statistics.median(over_fp32) if over_fp32 else None
    return Comparison(name, ratios, mean_ratio(new, old), of_cpu, sum(new), sum(old), beside, disturbance)


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """The files of `revision` in a temporary folder."""
    archive = subprocess.run(["git", "-C", ROOT, "archive", revision], capture_output=True)
    if archive.returncode:
        raise SystemExit(f"--against {revision}: {archive.stderr.decode().strip()}")
    with tempfile.TemporaryDirectory(prefix="analog-glue-") as folder:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(folder, filter="data")
        yield Path(folder).resolve()


def _rounds(name: str, other: Path, rounds: int, threads: int) -> tuple[list[Pair], list[list[float]]]:
    """(new, old) of every round, and FP32 of it (or nothing), each a number a part of the case."""
    pairs: list[Pair] = []
    fp32: list[list[float]] = []
    if name in FRESH:
        for _ in range(FRESH[name]):
            with Worker(ROOT, name, threads) as new:
                here = new.ask("ours")
            with Worker(other, name, threads) as old:
                pairs.append((here, old.ask("ours")))
        return pairs, [[] for _ in pairs]
    with Worker(ROOT, name, threads) as new, Worker(other, name, threads) as old:
        for number in range(rounds):
            if number % 2:
                before = old.ask("ours")
                pairs.append((new.ask("ours"), before))
            else:
                pairs.append((new.ask("ours"), old.ask("ours")))
            fp32.append(new.ask("fp32")[0])
    return pairs, fp32


class Worker:
    """A process of benchmark_worker.py."""

    def __init__(self, root: Path, name: str, threads: int) -> None:
        script = Path(__file__).with_name("benchmark_worker.py")
        command = [sys.executable, script, root, name, str(threads), ROOT.parent / "shared"]
        environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        self._name, self._root = name, root

    def __enter__(self) -> "Worker":
        with ExitStack() as stack:
            stack.callback(self._end)
            self._answer()
            stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def ask(self, question: str) -> Answer:
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        return json.loads(self._answer())

    def _answer(self) -> str:
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self._name} could not be measured in {self._root}: see above.")
        return answer

    def _end(self) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
