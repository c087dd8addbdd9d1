"""Chopped TTv2: TTv2 whose inputs change sign at random, so that an error of A's zero averages out.

Differs from Algorithm 2 (training/ttv2.py) in three lines; s_i = ±1 is the chopper of input i:

    13  A ← A + η (d ⊗ s x)
    16  H_i ← H_i + λ s_i v
    22  after the read of column i:  s_i := −s_i with probability p;   i := i mod n + 1

An offset r of A's reference adds λ s_i r to H_i at every read: its mean is 0, where TTv2 would drift by λ r.
Source: Rasch et al. (2023), "Fast offset corrected in-memory training"; only one-hot vectors.
"""

from dataclasses import dataclass, fields

import numpy as np

from analog_glue.errors import require_argument
from analog_glue.in_situ.devices.device import PulsedDevice
from analog_glue.in_situ.kernels.chopper import chop
from analog_glue.in_situ.training.ttv2 import TTv2, TTv2Learner


@dataclass(frozen=True, kw_only=True)
class ChoppedTTv2(TTv2):
    """See the module's algorithm."""

    chop_probability: float = 0.1  # p

    def __post_init__(self) -> None:
        super().__post_init__()
        require_argument(0 <= self.chop_probability <= 1, "chop_probability", "lie in [0, 1]", self.chop_probability)
        require_argument(self.vectors == "one_hot", "vectors", "be one_hot with choppers", self.vectors)

    def learner(self, device: PulsedDevice, values: np.ndarray, seed: int, number: int) -> "ChoppedTTv2Learner":
        plain = super().learner(device, values, seed, number)
        parts = {part.name: getattr(plain, part.name) for part in fields(TTv2Learner)}
        chopper = np.ones(values.shape[1], np.float32)
        return ChoppedTTv2Learner(**parts, chopper=chopper, chop_probability=self.chop_probability)


@dataclass
class ChoppedTTv2Learner(TTv2Learner):
    chopper: np.ndarray  # s, ±1 (inputs,)
    chop_probability: float

    def update(self, x: np.ndarray, d: np.ndarray, rate: float, step: int) -> None:
        words_x, words_d, longest = self.pulses.send(x, d, rate, self.a.step, step, self.stream)
        signs = np.ones(len(x) // self.transfer_every + 1, np.float32)
        stream = self.stream
        chop(words_x, self.chopper, signs, self.chop_probability, self.transfer_every, step, stream.array, stream.k0, stream.k1)
        self.learn(words_x, words_d, signs, longest, step)

    def state(self) -> dict[str, np.ndarray]:
        return {**super().state(), "chopper": self.chopper}
