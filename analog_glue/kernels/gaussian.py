"""Standard normal numbers from a key: the same for any number of threads.

torch's CPU generator fills a tensor on one core at about 3 ns a number and is the bottleneck of a noisy product, so a
large tensor is cut into parts of fixed size, each with a stream of its own, and the parts are filled in parallel.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from torch import Tensor

from analog_glue.seeding import generator

PART = 1 << 18  # numbers per stream; a constant, because it is part of what a key means


def fill_normal(out: Tensor, key: int) -> Tensor:
    """Fill the contiguous float32 tensor `out` with standard normal numbers of the stream `key`; returns `out`."""
    if out.device.type != "cpu":
        return out.normal_(generator=generator("gaussian", key, device=out.device))
    flat = out.view(-1)
    if flat.numel() <= PART:
        flat.normal_(generator=generator("gaussian", key, 0))
        return out
    list(_pool().map(_fill_part, flat.split(PART), [key] * (-(-flat.numel() // PART)), range(flat.numel())))
    return out


def _fill_part(part: Tensor, key: int, index: int) -> None:
    part.normal_(generator=generator("gaussian", key, index))


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1))
