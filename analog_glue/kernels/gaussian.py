"""Standard normal numbers from a key: the same for any number of threads.

torch's CPU generator fills a tensor on one core at about 3 ns a number and is the bottleneck of a noisy product, so a
large tensor is cut into parts of fixed size, filled in parallel. The compiled kernel counts instead of advancing a state
(kernels/threefry.py): a quarter of the time, and a stream that does not depend on how it is cut.
"""

import numpy as np
import torch
from torch import Tensor

from analog_glue.kernels.operation import operation
from analog_glue.kernels.parallel import run
from analog_glue.seeding import generator
from analog_glue.seeding import key as derive_key

PART = 1 << 18  # numbers filled at a time; part of what a key means to the reference
WORD = 0xFFFFFFFF
COUNTED = "threefry-4x32-13-golden"  # the stream of compiled kernels, on CPU and GPU alike


def stream_name(kernel: str, device: torch.device | str) -> str:
    """Which numbers a key stands for: streams of one name agree number for number, others are independent draws."""
    if kernel == "compiled":
        return COUNTED
    kind = torch.device(device).type
    return "torch" if kind == "cpu" else f"torch-{kind}"


def fill_normal(out: Tensor, key: int, kernel: str = "reference") -> Tensor:
    """Fill the contiguous float32 tensor `out` with standard normal numbers of the stream `key`; returns `out`.

    Args:
        kernel: "reference" or "compiled"; their streams differ.
    """
    return _fill.by(kernel, out.device)(out, key)


@operation
def _fill(out: Tensor, key: int) -> Tensor:
    if out.device.type != "cpu":
        return out.normal_(generator=generator("gaussian", key, device=out.device))
    parts = out.view(-1).split(PART)
    run(lambda index: parts[index].normal_(generator=generator("gaussian", key, index)), range(len(parts)))
    return out


@_fill.compiled("cpu")
def _fill_by_numba(out: Tensor, key: int) -> Tensor:
    from analog_glue.kernels.threefry import ROW, fill

    words, parts = key_words(key), out.view(-1).split(PART)
    run(lambda index: fill(parts[index].numpy(), index * (PART // ROW), *words), range(len(parts)))
    return out


@_fill.compiled("cuda")
def _fill_by_triton(out: Tensor, key: int) -> Tensor:
    from analog_glue.kernels.triton_threefry import fill

    return fill(out, key)


def key_words(key: int) -> tuple[np.uint32, np.uint32]:
    """A key as the two 32-bit words that compiled kernels take."""
    return np.uint32(key & WORD), np.uint32(key >> 32 & WORD)


class NormalStream:
    """Field after field of standard normal numbers, all named by one key: what random devices are drawn from."""

    def __init__(self, *name: str | int | float, kernel: str = "reference") -> None:
        self._key, self.kernel, self._fields = derive_key(*name), kernel, 0

    def next_key(self) -> int:
        """The key of the next field, for a kernel that draws its numbers itself, as `fill_normal` would."""
        self._fields += 1
        return derive_key(self._key, self._fields)

    def like(self, field: Tensor) -> Tensor:
        """Numbers for every element of `field` (float32), independent of all that were taken before."""
        return fill_normal(field.new_empty(field.shape), self.next_key(), self.kernel)
