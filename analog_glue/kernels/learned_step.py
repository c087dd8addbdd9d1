"""Rounding to multiples of a learned step, each way in one pass: what PyTorch needs four passes for forward, twelve backward.

Numbers are the reference's (`attention.to_multiples`) bit for bit. The sum that the step's gradient is made of is taken in
float64 over chunks of one length, and over chunks in their order: the number of threads changes nothing.
"""

import numpy as np
import torch
from numba import float32, float64
from torch import Tensor

from analog_glue.kernels.jit import exact
from analog_glue.kernels.parallel import run

CHUNK = 2**15  # numbers
LANES = 256  # sums that a chunk is added up in: as many as make a loop worth its start


@exact
def _forward(x, step, lowest, largest, out):
    for j in range(x.shape[0]):
        out[j] = min(max(np.rint(x[j] / step), lowest), largest) * step


@exact
def _backward(gradient, x, step, lowest, largest, out):
    """The gradient of x into `out`; returns Σ gradient · (what a change of the step adds to its multiple)."""
    sums, terms = np.zeros(LANES, np.float64), np.zeros(LANES, np.float32)
    for start in range(0, x.shape[0], LANES):
        some, above, target = x[start : start + LANES], gradient[start : start + LANES], out[start : start + LANES]
        for j in range(some.shape[0]):
            ratio = some[j] / step
            inside = (ratio >= lowest) & (ratio <= largest)
            code = min(max(np.rint(ratio), lowest), largest)
            target[j] = above[j] * float32(inside)
            terms[j] = above[j] * (code - ratio if inside else code)
        for j in range(some.shape[0]):
            sums[j] += float64(terms[j])
    return sums.sum()


def forward(x: Tensor, step: Tensor, lowest: int, largest: int) -> Tensor:
    """See `attention.to_multiples`."""
    out = torch.empty_like(x)
    source, target = _flat(x, out), _flat(out, out)
    numbers = np.float32(step.item()), np.float32(lowest), np.float32(largest)
    run(lambda at: _forward(source[at : at + CHUNK], *numbers, target[at : at + CHUNK]), range(0, len(source), CHUNK))
    return out


def backward(gradient: Tensor, x: Tensor, step: Tensor, lowest: int, largest: int) -> tuple[Tensor, Tensor]:
    """See `attention.gradients_of_multiples`."""
    out = torch.empty_like(x)
    above, source, target = _flat(gradient, out), _flat(x, out), _flat(out, out)
    numbers = np.float32(step.item()), np.float32(lowest), np.float32(largest)
    sums = np.zeros(-(-len(source) // CHUNK))

    def compute(at: int) -> None:
        end = at + CHUNK
        sums[at // CHUNK] = _backward(above[at:end], source[at:end], *numbers, target[at:end])

    run(compute, range(0, len(source), CHUNK))
    return out, torch.tensor(sums.sum(), dtype=x.dtype)


def _flat(x: Tensor, like: Tensor) -> np.ndarray:
    """The numbers of x in the order in which `like`, dense, has them in memory."""
    if x.stride() != like.stride():
        x = torch.empty_like(like).copy_(x)
    return x.detach().as_strided((x.numel(),), (1,)).numpy()
