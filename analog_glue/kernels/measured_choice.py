"""Which of several ways is the fastest on this machine: measured once, then kept beside the compiled kernels."""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import perf_counter

import torch
from numba.core.registry import cpu_target

from analog_glue.runs.files import write_text_atomic

ROUNDS = 7  # in turn, of which the shortest counts: whatever else runs only makes a way slower
FILE = "choices.json"


def fastest(
    question: str, ways: Mapping[str, Callable[[], object]], folder: Path, clock: Callable[[], float] = perf_counter
) -> str:
    """The name of the way that takes least time.

    Args:
        question: What the ways compute; the answer is kept for it, this CPU as it is limited, torch and its threads.
        clock: Seconds.
    """
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    machine = *cpu_target.target_context.codegen().magic_tuple()[1:], allowed, torch.__version__, str(torch.get_num_threads())
    asked, file = " | ".join((question, *machine)), folder / FILE
    answers: dict[str, str] = {}
    with suppress(OSError, ValueError):
        answers = json.loads(file.read_text(encoding="utf-8"))
    if answers.get(asked) not in ways:
        answers[asked] = _measured(ways, clock)
        with suppress(OSError):  # a folder that cannot be written to: measured again next time
            folder.mkdir(parents=True, exist_ok=True)
            write_text_atomic(file, json.dumps(answers, indent=2))
    return answers[asked]


def _measured(ways: Mapping[str, Callable[[], object]], clock: Callable[[], float]) -> str:
    shortest = dict.fromkeys(ways, float("inf"))
    for way in ways.values():  # compiles, and fetches memory
        way()
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = clock()
            way()
            shortest[name] = min(shortest[name], clock() - start)
    return min(shortest, key=lambda name: shortest[name])
