"""Which CPU a number was measured on, and whether other programs disturbed it.

    with Watch() as watch: …
    watch.disturbance        "" on a quiet machine, else what was seen

Three signs: time that the host took away (`steal` of /proc/stat), time of the CPU that neither this program nor those it
started have used, and a fixed loop that does not run at one speed before and after. Load is looked at before only: measuring
makes it itself.
"""

import os
import platform
import statistics
import time
from functools import cache
from pathlib import Path

import numpy as np

INSTRUCTIONS = {  # what products and passes depend on, by their names in /proc/cpuinfo
    "avx2": "AVX2", "avx512f": "AVX-512", "avx_vnni": "AVX-VNNI", "avx512_vnni": "AVX-512 VNNI", "avx512_bf16": "AVX-512 BF16",
    "amx_int8": "AMX INT8", "amx_bf16": "AMX BF16", "asimd": "NEON", "asimddp": "dot products", "i8mm": "I8MM", "sve": "SVE",
}  # fmt: skip
STEAL = 0.01  # share of the time of all cores
OTHERS = 0.05  # the same
SPREAD = 0.05  # of the fixed loop: median over shortest, less 1
LOAD = 0.7  # load average before


@cache
def cpu() -> str:
    """Model name, family and model, the instruction sets that matter, cores."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    name = fields.get("model name") or platform.processor() or platform.machine()
    numbers = f" (family {fields['cpu family']}, model {fields['model']})" if "cpu family" in fields else ""
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    sets = ", ".join(word for flag, word in INSTRUCTIONS.items() if flag in flags) or "instruction sets unknown"
    return f"{platform.machine()}, {name}{numbers}: {sets}; {os.cpu_count()} cores"


class Watch:
    """What else went on between entering and leaving."""

    def __enter__(self) -> "Watch":
        self._load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        self._loop = [_seconds_of_a_fixed_loop() for _ in range(30)]
        self._before, self._own, self._started = _jiffies(), _own_seconds(), time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        elapsed = (time.perf_counter() - self._started) * (os.cpu_count() or 1)  # [s] of all cores
        busy, stolen = (after - before for before, after in zip(self._before, _jiffies(), strict=True))
        others = busy - (_own_seconds() - self._own)
        self._loop += [_seconds_of_a_fixed_loop() for _ in range(30)]
        spread = statistics.median(self._loop) / min(self._loop) - 1
        signs = {
            f"{100 * stolen / elapsed:.0f} % of the time stolen": stolen > STEAL * elapsed,
            f"{100 * others / elapsed:.0f} % of it used by others": others > OTHERS * elapsed,
            f"a fixed loop varies by {100 * spread:.0f} %": spread > SPREAD,
            f"load {self._load:.1f} before": self._load > LOAD,
        }
        self.disturbance = ", ".join(sign for sign, seen in signs.items() if seen)


def _seconds_of_a_fixed_loop() -> float:
    """About 2 ms of one core, in its nearest cache."""
    numbers = np.arange(4096.0)
    started = time.perf_counter()
    for _ in range(500):
        np.sqrt(numbers, out=numbers)
    return time.perf_counter() - started


def _jiffies() -> tuple[float, float]:
    """Seconds that all cores have worked, and that the host has taken away, since the machine started."""
    file = Path("/proc/stat")
    if not file.exists():
        return 0.0, 0.0
    user, nice, system, _, _, interrupts, soft, stolen, *_ = map(int, file.read_text().splitlines()[0].split()[1:])
    ticks = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + interrupts + soft) / ticks, stolen / ticks


def _own_seconds() -> float:
    """Of this process and of those it has started that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
