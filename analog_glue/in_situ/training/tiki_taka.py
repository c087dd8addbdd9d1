"""Tiki-Taka (Gokmen & Haensch 2020; Gokmen 2021, Algorithm 1): A takes the gradients, and C, slowly, what is read of A.

     1  given γ, η, λ, ns, unit vectors e_1 … e_n
     2  A := 0 (every device at its symmetry point)
     3  C := initial weights
     7  y = (γ A + C) x                                    every product, forward and backward
    13  A ← A + η (d ⊗ x)                                stochastic pulses, every step; t := t + 1
    14  if t mod ns = 0:  v = A e_i                        analog, noisy
    15                    C ← C + λ (v ⊗ e_i)              stochastic pulses
    16                    i := i mod n + 1

Line 15 sends trains of `pulses.longest` bits, every bit on with probability min(1, λ |v| / (longest · dw_min)).
"""

from dataclasses import dataclass

import numpy as np

from analog_glue.errors import require_argument
from analog_glue.in_situ.devices.device import PulsedDevice, aligned
from analog_glue.in_situ.kernels.matvec import IO
from analog_glue.in_situ.kernels.tiki_taka import update_and_transfer
from analog_glue.in_situ.nn.learner import Pulses, Stream, share_rows
from analog_glue.in_situ.training.transfer import TransferLearner, TransferMode


@dataclass(frozen=True, kw_only=True)
class TikiTaka(TransferMode):
    """See the module's algorithm."""

    transfer_rate: float = 0.03  # λ
    gamma: float = 0.0  # γ: share of A in the weights that the network sees

    def __post_init__(self) -> None:
        super().__post_init__()
        require_argument(self.gamma >= 0, "gamma", "be at least 0", self.gamma)

    def learner(self, device: PulsedDevice, values: np.ndarray, seed: int, number: int) -> "TikiTakaLearner":
        a, c = self.arrays(device, values, seed, number)  # lines 2 and 3
        return TikiTakaLearner(
            a, c, self.transfer_every, self.transfer_rate, self.transfer_rates, self.gamma, self.periphery.single, self.pulses,
            Stream.of(seed, number), aligned(c.weights),
        )  # fmt: skip


@dataclass
class TikiTakaLearner(TransferLearner):
    gamma: float
    io: IO
    pulses: Pulses
    stream: Stream
    sum: np.ndarray  # work space

    def weights(self) -> np.ndarray:
        if self.gamma == 0:
            return self.c.weights
        total = np.subtract(self.a.weights, self.a.reference, out=self.sum)  # line 7
        total *= self.gamma
        total += self.c.weights
        return total

    def update(self, x: np.ndarray, d: np.ndarray, rate: float, step: int) -> None:
        a, c, stream = self.a, self.c, self.stream
        words_x, words_d, longest = self.pulses.send(x, d, rate, a.step, step, stream)
        gentle = longest <= a.gentle_to
        probability = self.transfer_rate / (self.pulses.longest * c.step)  # of a pulse, per unit of v

        def rows(first: int, last: int) -> None:
            update_and_transfer(
                a.weights, a.reference, a.devices, a.noise, a.multiplicative, a.power, gentle, c.weights, c.devices, c.noise,
                c.multiplicative, c.power, words_x, words_d, self.inputs, self.transfer_every, probability, self.pulses.longest,
                self.io, step, stream.array, stream.k0, stream.k1, first, last,
            )  # fmt: skip

        share_rows(rows, self.outputs, len(words_x))

    def state(self) -> dict[str, np.ndarray]:
        return {"a": self.a.weights, "c": self.c.weights}
