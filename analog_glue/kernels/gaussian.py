"""Standard normal numbers from a key: the same for any number of threads.

torch's CPU generator fills a tensor on one core at about 3 ns a number and is the bottleneck of a noisy product, so a
large tensor is cut into parts of fixed size, each with a stream of its own, and the parts are filled in parallel.
"""

from torch import Tensor

from analog_glue.kernels.parallel import run
from analog_glue.seeding import generator

PART = 1 << 18  # numbers per stream; a constant, because it is part of what a key means


def fill_normal(out: Tensor, key: int) -> Tensor:
    """Fill the contiguous float32 tensor `out` with standard normal numbers of the stream `key`; returns `out`."""
    if out.device.type != "cpu":
        return out.normal_(generator=generator("gaussian", key, device=out.device))
    parts = out.view(-1).split(PART)

    def fill(index: int) -> None:
        parts[index].normal_(generator=generator("gaussian", key, index))

    run(fill, range(len(parts)))
    return out
