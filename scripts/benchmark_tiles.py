"""Is the tile of sums that `kernels/instruction_sets.py` names the fastest here? Beside it all others that registers hold.

    python scripts/benchmark_tiles.py               three shapes of BERT-base's layers, 1,024 vectors, one thread
    NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES=+avx2,+fma,+popcnt python scripts/benchmark_tiles.py    without AVX-512

Each shape is compiled in a process of its own. Times are those of the thread, which other programs hardly lengthen, the
shortest of the rounds; all shapes compute the same numbers, which is checked.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEIGHTS, REGISTERS = (2, 3, 4, 5, 6, 8, 10, 12, 14), (1, 2, 3, 4, 5, 6)
PARTS = (16, 32, 48, 64, 96)


def candidates(height: int, registers: int, part: int, held: int) -> list[tuple[int, int, int]]:
    """(vectors, registers a vector, vectors at a time): shapes that fill most of `held` registers; and parts."""
    shapes = [
        (h, r, part)
        for h in HEIGHTS
        for r in REGISTERS
        if 0.7 * held <= h * r + r + 1 <= held and (h, r) != (height, registers)
    ]
    return [(height, registers, part), *shapes, *((height, registers, other) for other in PARTS if other != part)]


def measure(height: int, registers: int, part: int, rounds: int) -> None:
    """[s] of the three layers with these shapes of the signed instruction, as JSON; and what they computed, as one number."""
    sys.path.insert(0, str(ROOT / "scripts"))
    from analog_glue.kernels import instruction_sets

    best = instruction_sets.chosen()
    assert best is not None
    one = dataclasses.replace(best.signed, height=height, registers=registers)
    same = best.unsigned == best.signed
    changed = dataclasses.replace(best, signed=one, unsigned=one if same else best.unsigned, part=part)
    instruction_sets.chosen = lambda: changed  # before anything is compiled with it
    import torch
    from benchmark_cases import SHAPES, on_chip
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    seconds, total = 0.0, 0.0
    with torch.no_grad():
        for inputs, outputs in SHAPES:
            model, x = on_chip(nn.Sequential(nn.Linear(inputs, outputs))), torch.randn(1024, inputs)
            total += float(model(x).double().sum())
            shortest = float("inf")
            for _ in range(rounds):
                started = time.thread_time()
                model(x)
                shortest = min(shortest, time.thread_time() - started)
            seconds += shortest
    print(json.dumps({"seconds": seconds, "total": total}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--one", type=int, nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        measure(*given.one, given.rounds)
        return
    from analog_glue.kernels.instruction_sets import chosen

    best = chosen()
    if best is None:
        raise SystemExit("None of the instruction sets that kernels/instruction_sets.py knows may be used here.")
    held = 32 if best.signed.lanes in (16, 4) else 16
    print(
        f"{best.name}; today: {best.signed.height} vectors × {best.signed.registers} registers, {best.part} vectors at a time"
    )
    print("| vectors × registers | at a time | ms | share of today's |\n|---|--:|--:|--:|")
    today: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as cache:
        own = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        for number, one in enumerate(candidates(best.signed.height, best.signed.registers, best.part, held)):
            command = [sys.executable, __file__, "--rounds", str(given.rounds), "--one", *map(str, one)]
            said = subprocess.run(
                command, env=own | {"NUMBA_CACHE_DIR": f"{cache}/{number}"}, capture_output=True, text=True, check=True
            ).stdout
            found = json.loads(said.splitlines()[-1])
            today = today or found
            wrong = "" if found["total"] == today["total"] else " WRONG"
            share = found["seconds"] / today["seconds"]
            print(f"| {one[0]} × {one[1]} | {one[2]} | {found['seconds'] * 1e3:.1f} | {share:.2f}{wrong} |", flush=True)


if __name__ == "__main__":
    main()
