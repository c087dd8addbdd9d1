"""How long `analog-glue factsheet` takes for a run of the records: the whole command, a process of its own, imports included.

Read by `scripts/benchmark.py --only factsheet`. Two measures: the time on the clock, which other programs lengthen, and the
processor's time, user and system, which they hardly do.
"""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmark_timing import Measure

RUN = Path("spoon2021_figure5_minilm") / "mrpc-minilm-hardware_aware-seed0-5b1dfdbe"
RECORDS = Path(__file__).resolve().parents[1] / "outputs" / "records"
TARGET = 5.0  # [s]


def factsheet(rounds: int) -> Iterator[Measure]:
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(shutil.copytree(RECORDS / RUN, Path(scratch) / RUN.name))
        command = [sys.executable, "-m", "analog_glue", "factsheet", f"checkpoint={run}", "costs=bottom_up"]
        clock, processor = [], []
        for _ in range(rounds + 1):  # the first reads files from the disk
            before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
            clock.append(time.monotonic() - started)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    what = "FactSheet of a MiniLM with five chips at five times, the command as a whole"
    for name, taken, more in (("factsheet", clock, ""), ("factsheet_cpu", processor, ", time of the processor")):
        seconds = taken[1:]
        yield Measure(
            name, "seconds", statistics.median(seconds), min(seconds), max(seconds), "",
            what + more, target=TARGET,
        )  # fmt: skip
