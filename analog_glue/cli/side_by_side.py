"""Several jobs of a sweep at the same time, each in a process of its own with its share of the cores.

In-situ training of one network uses little more than one core (a single update is too short to share), so that two runs side
by side take about the time of one. Nothing that is learnt depends on it: every run draws from its own seed.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from io import TextIOBase
from multiprocessing.process import BaseProcess
from typing import TextIO

from analog_glue.interruption import Interrupted, ended_by_signals, exit_code

ON_DEATH_OF_PARENT = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>
PATIENCE = 0.05  # [s] between two looks at the processes


def run_side_by_side(work: Callable[[int], None], numbers: Sequence[int], at_once: int) -> dict[int, int]:
    """Call `work(number)` for every number, in processes that a fresh Python starts, at most `at_once` at a time.

    Every line that a process prints begins with its number, counted from 1. Ctrl-C, or an exception here, interrupts the
    processes that run and waits for them.

    Args:
        work: Something that `pickle` can name, so a function of a module, or a `functools.partial` of one.

    Returns:
        Exit codes by number; negative: the signal that ended the process.
    """
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // at_once)
    todo, codes = list(numbers), {}
    running: dict[int, BaseProcess] = {}
    try:
        while todo or running:
            while todo and len(running) < at_once:
                number = todo.pop(0)
                # Read when numpy and torch are loaded, so before the process can say it itself.
                with _environment("OMP_NUM_THREADS", str(threads)):
                    process: BaseProcess = context.Process(
                        target=_alone, args=(work, number, f"[{number + 1}/{len(numbers)}] ", os.getpid())
                    )
                    process.start()
                running[number] = process
            time.sleep(PATIENCE)
            for number in [number for number, process in running.items() if process.exitcode is not None]:
                codes[number] = running.pop(number).exitcode or 0
    finally:
        for process in running.values():
            process.terminate()  # which the process takes for Ctrl-C
        for process in running.values():
            process.join()
    return codes


def _alone(work: Callable[[int], None], number: int, mark: str, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the first one passes it on
    _end_with(parent)
    outputs = sys.stdout, sys.stderr = _Marked(sys.stdout, mark), _Marked(sys.stderr, mark)
    try:
        with ended_by_signals():
            work(number)
    except KeyboardInterrupt as interrupt:
        sys.exit(exit_code(interrupt))
    finally:
        for output in outputs:
            output.end()


def _end_with(parent: int) -> None:
    """Send this process SIGTERM when its parent is gone, however that ended; Linux alone knows how."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(ON_DEATH_OF_PARENT, signal.SIGTERM)
    if os.getppid() != parent:  # it was gone before this could be said
        sys.exit(exit_code(Interrupted(signal.SIGTERM)))


class _Marked(TextIOBase):
    """Whole lines, each behind a mark, so that processes can share a terminal. No terminal itself: no progress bars."""

    def __init__(self, out: TextIO | TextIOBase, mark: str) -> None:
        self._out, self._mark, self._begun = out, mark, ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        if lines:
            self._out.write("".join(f"{self._mark}{line}\n" for line in lines))
            self._out.flush()
        return len(text)

    def flush(self) -> None:
        self._out.flush()

    def end(self) -> None:
        """Print what was begun without an end of its line."""
        if self._begun:
            self.write("\n")


class _environment:
    """One variable of the environment, unless it is set already, for as long as a process is being started."""

    def __init__(self, name: str, value: str) -> None:
        self._name, self._value, self._set = name, value, name not in os.environ

    def __enter__(self) -> None:
        if self._set:
            os.environ[self._name] = self._value

    def __exit__(self, *_: object) -> None:
        if self._set:
            del os.environ[self._name]
