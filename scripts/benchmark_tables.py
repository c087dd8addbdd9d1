"""How long results take to tabulate that have outgrown a look: about 2,000 rows in 300 runs.

    python scripts/benchmark.py --only tables

Rows are those of 15 networks with 20 seeds each: digital, on ideal devices, and five ages of one chip. What the command does is
timed in parts: every row read, and all tables and figures made of them and written. Beside the clock, which other programs
lengthen, stands the processor's time, which they hardly do.
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmark_timing import Measure

from analog_glue.reports.build import build
from analog_glue.runs.rows import Measurement, ResultsFile, find_rows

TASKS, TRAININGS, SEEDS = ("mrpc", "stsb", "rte", "cola", "sst2"), ("digital", "hardware_aware", "int16"), 20
AGES = (1.0, 3600.0, 86_400.0, 604_800.0, 2_592_000.0)  # [s]


def tables(rounds: int) -> Iterator[Measure]:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "runs"
        rows = sum(_write(root, *network) for network in itertools.product(TASKS, TRAININGS, range(SEEDS)))
        parts: dict[str, Callable[[], object]] = {
            "tables_read": lambda: find_rows(root),
            "tables_all": lambda: build(root, Path(scratch) / "out"),
        }
        for name, work in parts.items():
            work()  # imports, and the font cache of the first figure
            taken = [_timed(work) for _ in range(rounds)]
            what = f"{rows:,} rows in {len(list(root.iterdir()))} runs " + {
                "tables_read": "read", "tables_all": "read, tabulated, drawn and written",
            }[name]  # fmt: skip
            for place, kind in enumerate(("", "_cpu")):
                seconds = [one[place] for one in taken]
                told = what + (", time of the processor" if kind else "")
                yield Measure(f"{name}{kind}", "seconds", statistics.median(seconds), min(seconds), max(seconds), "", told)


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """[s] by the clock, and of the processor."""
    clock, processor = time.monotonic(), time.process_time()
    work()
    return time.monotonic() - clock, time.process_time() - processor


def _write(root: Path, task: str, training: str, seed: int) -> int:
    """The rows of one run, in a folder as a sweep leaves it; their number."""
    metric = {"stsb": "spearman", "cola": "matthews"}.get(task, "accuracy")
    name = f"{task}-minilm-{training}-seed{seed}"
    moments = [("digital", None), ("ideal_devices", None), *(("chip", age) for age in AGES)]
    rows = [
        Measurement(
            run=name, sweep=f"{name}/pcm", task=task, model="minilm", training=training, seed=seed,
            noise="pcm", tile="spoon2021",
            stage=stage, chip=None if age is None else 0, t_seconds=age, compensated=None if age is None else True,
            extrapolated=False, split="validation", metric=metric, headline=True, examples=500, train_ids=name,
            hardware_id="c0ffee11", wall_seconds=1.0, value=80.0 - place - 0.1 * (seed % 7),
        )
        for place, (stage, age) in enumerate(moments)
    ]  # fmt: skip
    ResultsFile(root / name).append(rows)
    return len(rows)
