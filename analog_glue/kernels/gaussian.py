"""Standard normal numbers from a key: the same for any number of threads.

torch's CPU generator fills a tensor on one core at about 3 ns a number and is the bottleneck of a noisy product, so a
large tensor is cut into parts of fixed size, filled in parallel. The compiled kernel counts instead of advancing a state
(kernels/threefry.py): a quarter of the time, and a stream that does not depend on how it is cut.
"""

from torch import Tensor

from analog_glue.kernels.parallel import run
from analog_glue.seeding import generator
from analog_glue.seeding import key as derive_key

PART = 1 << 18  # numbers filled at a time; part of what a key means to the reference
WORD = 0xFFFFFFFF


def fill_normal(out: Tensor, key: int, kernel: str = "reference") -> Tensor:
    """Fill the contiguous float32 tensor `out` with standard normal numbers of the stream `key`; returns `out`.

    Args:
        kernel: "reference" or "compiled"; their streams differ.
    """
    if out.device.type == "cuda" and kernel == "compiled":
        from analog_glue.kernels.triton_threefry import fill as fill_on_gpu

        return fill_on_gpu(out, key)
    if out.device.type != "cpu":
        return out.normal_(generator=generator("gaussian", key, device=out.device))
    parts = out.view(-1).split(PART)
    if kernel == "compiled":
        from analog_glue.kernels.threefry import ROW, fill

        words = key_words(key)
        run(lambda index: fill(parts[index].numpy(), index * (PART // ROW), *words), range(len(parts)))
    else:
        run(lambda index: parts[index].normal_(generator=generator("gaussian", key, index)), range(len(parts)))
    return out


def key_words(key: int) -> tuple:
    """A key as the two 32-bit words that compiled kernels take."""
    import numpy as np

    return np.uint32(key & WORD), np.uint32(key >> 32 & WORD)


class NormalStream:
    """Field after field of standard normal numbers, all named by one key: what random devices are drawn from."""

    def __init__(self, *name: str | int | float, kernel: str = "reference") -> None:
        self._key, self._kernel, self._fields = derive_key(*name), kernel, 0

    def like(self, field: Tensor) -> Tensor:
        """Numbers for every element of `field` (float32), independent of all that were taken before."""
        self._fields += 1
        return fill_normal(field.new_empty(field.shape), derive_key(self._key, self._fields), self._kernel)
