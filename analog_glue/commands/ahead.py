"""Kernels compiled ahead of need: where none are kept yet, a second process compiles them while the first one loads.

    with kernels_ahead():      in the process of the run; costs nothing once kernels are kept
        …
    python -m analog_glue.commands.ahead      the second process: a tiny layer trains, and is programmed

Both compile through the same locks (kernels/jit.py), so that each kernel is compiled once, by whoever comes first.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from analog_glue.kernels import kept


@contextmanager
def kernels_ahead() -> Iterator[None]:
    """The second process, while what is inside runs; none where kernels are kept or cannot be, or with a single core."""
    if _mark().exists() or (os.cpu_count() or 1) < 2 or not _can_be_marked():
        yield
        return
    quiet = subprocess.DEVNULL
    # It imports from where this process does; -m alone would put the working folder first, whatever modules lie there.
    command = [sys.executable, "-P", "-m", __name__]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    helper = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, env=environment)
    try:
        yield
    finally:
        helper.terminate()
        helper.wait()


def compile_kernels() -> None:
    """What training for phase-change memory and a score on it call, in about this order."""
    import torch
    from torch import nn

    from analog_glue.devices.pcm import PCM
    from analog_glue.nn.computation import Computation
    from analog_glue.nn.convert import program, to_analog
    from analog_glue.nn.hardware import Hardware
    from analog_glue.nn.linear import AnalogLinear
    from analog_glue.nn.noise_clock import NoiseClock
    from analog_glue.nn.periphery import LayerPeriphery
    from analog_glue.nn.placement import Placement
    from analog_glue.nn.weight_noise import WeightNoise
    from analog_glue.tiles.crossbar import Crossbar

    model, x = nn.Sequential(nn.Linear(8, 8)), torch.ones(4, 8)
    placement = Placement.of(model, Hardware(PCM(), Crossbar()))
    computation = Computation.resolved(placement.hardware, "cpu")
    chip = program(model, placement, computation, {"0": LayerPeriphery(torch.ones(1))}, chip=0)
    chip.set_time(1.0)
    chip.ready_to_score(compensated=True)(x)
    clock = NoiseClock("ahead")
    trained = to_analog(model, placement, computation, WeightNoise(), clock)
    layer = trained.get_submodule("0")
    assert isinstance(layer, AnalogLinear)
    layer.input_range, layer.on_tiles = torch.ones(1), True
    trained(x.requires_grad_()).sum().backward()


def _mark() -> Path:
    """A file that is there when the second process has nothing left to do."""
    return kept.folder() / f"ahead-{kept.sources()}"


def _can_be_marked() -> bool:
    """Whether the second process could leave its mark; else every run would start one anew."""
    folder = kept.folder()
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return os.access(folder, os.W_OK)


if __name__ == "__main__":
    compile_kernels()
    with suppress(OSError):  # a folder that cannot be written to
        _mark().touch()
