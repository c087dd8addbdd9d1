"""One seed, many independent streams.

Every stochastic function of the project takes a generator or a key; nothing draws from torch's global generator
except dropout, which the training loop re-keys at every step. A stream is named by what it is for, so its numbers do
not depend on what was drawn before it, on the number of workers, or on whether a run was resumed:

    generator(seed, "weight noise", layer, step)        training, per layer and step
    generator(chip_seed, "programming", chip, layer)    one programmed chip; shared by all variants compared
    generator(chip_seed, "1/f noise", chip, layer, t)   frozen over the read-out and the test set at time t
"""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def key(*parts: str | int | float) -> int:
    """A 63-bit integer that identifies the stream named by `parts`, the same in every process and on every machine.

    `1` and `1.0` name the same stream (times arrive as either); `"1"` names another.
    """
    names = [f"{type(part).__name__ if isinstance(part, str) else 'number'}:{_plain(part)}" for part in parts]
    digest = hashlib.blake2b("\x1f".join(names).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*parts: str | int | float, device: "str | torch.device" = "cpu") -> "torch.Generator":
    """A fresh generator for the stream named by `parts`. Streams of CPU and CUDA generators differ."""
    import torch

    return torch.Generator(device=device).manual_seed(key(*parts))


def _plain(part: str | int | float) -> str:
    if isinstance(part, str):
        return part
    return str(int(part)) if float(part).is_integer() else repr(float(part))
