"""How long a newcomer waits for the first number: one epoch and one score of a tiny network, the command as a whole.

    python scripts/benchmark.py --only start

A cold start has no kernels kept from earlier runs, a warm one those of the cold start before it. Beside the clock, which other
programs lengthen, stands the processor's time, user and system, which they hardly do; of a cold start it holds the second
process too, which compiles kernels ahead of need.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmark_timing import Measure

ROOT = Path(__file__).resolve().parents[1]
RUN = (
    "train", "task=demo", "task.train_size=64", "task.validation_size=64", "model=tiny", "training=hardware_aware",
    "training.epochs=1", "training.digital_epochs=0", "training.batch_size=32", "evaluation.chips=1", "evaluation.times=[1.0]",
)  # fmt: skip


def start(rounds: int) -> Iterator[Measure]:
    seconds: dict[str, list[float]] = {"start_cold": [], "start_cold_cpu": [], "start_warm": [], "start_warm_cpu": []}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(rounds):
            for kind in ("cold", "warm"):
                clock, processor = _one_run(Path(scratch) / f"cache{number}", Path(scratch) / f"{kind}{number}")
                seconds[f"start_{kind}"].append(clock)
                seconds[f"start_{kind}_cpu"].append(processor)
    for name, taken in seconds.items():
        kept = "no kernel kept" if "cold" in name else "kernels kept"
        what = f"first score of a tiny run, the command as a whole, {kept}"
        what += ", time of the processor" if name.endswith("cpu") else ""
        yield Measure(name, "seconds", statistics.median(taken), min(taken), max(taken), "", what)


def _one_run(cache: Path, outputs: Path) -> tuple[float, float]:
    """[s] by the clock, and of the processor."""
    own = {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "analog_glue", *RUN, f"output_root={outputs}"]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | own)
    clock, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
