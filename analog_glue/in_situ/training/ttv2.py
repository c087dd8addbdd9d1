"""TTv2 (Gokmen 2021, Algorithm 2): gradients go to A, a digital integrator H filters what is read of A, and C holds the model.

     1  given η, λ, ns, threshold T, vectors e_1 … e_n
     2  A := 0 at its symmetry point                       analog
     3  C := initial weights                               analog; the network is C alone
     4  H := 0                                             digital
    12  for each training step
    13    A ← A + η (d ⊗ x)                              stochastic pulses; t := t + 1
    14    if t mod ns = 0
    15      v = A e_i                                      analog, noisy
    16      H_i ← H_i + λ v                                digital
    18      where |H_ki| ≥ T
    19        p_k := sign(H_ki)
    20        H_ki := 0,   hysteretic: H_ki := m H_ki
    21      C_i gets one pulse for every p_k               up for +, down for −
    22      i := i mod n + 1

T is stated in steps of C (dw_min). One-hot vectors read and write one column; Hadamard vectors read all of A at once, and H
holds the coefficients (v is divided by their number N, so that λ and T mean the same). A sum of all columns may exceed the
periphery's bound, where it is clipped: bound management would repeat the read of all rows for one of them. Since a row of
devices is independent of every other row, each core takes rows through all steps of a sequence, reads included.
"""

from dataclasses import dataclass

import numpy as np

from analog_glue.errors import require_argument
from analog_glue.in_situ.devices.device import PulsedDevice
from analog_glue.in_situ.kernels.matvec import IO
from analog_glue.in_situ.kernels.ttv2 import update_and_transfer
from analog_glue.in_situ.nn.learner import Pulses, Stream, share_rows
from analog_glue.in_situ.training.transfer import TransferLearner, TransferMode


@dataclass(frozen=True, kw_only=True)
class TTv2(TransferMode):
    """See the module's algorithm."""

    transfer_rate: float = 0.01  # λ
    threshold: float = 1.0  # T [dw_min of C]
    momentum: float = 0.1  # m: what H keeps after a pulse; 0 is plain TTv2, more is hysteretic
    vectors: str = "one_hot"  # one_hot | hadamard

    def __post_init__(self) -> None:
        super().__post_init__()
        require_argument(self.threshold > 0, "threshold", "be positive", self.threshold)
        require_argument(0 <= self.momentum < 1, "momentum", "lie in [0, 1)", self.momentum)
        require_argument(self.vectors in ("one_hot", "hadamard"), "vectors", "be one_hot or hadamard", self.vectors)

    def learner(self, device: PulsedDevice, values: np.ndarray, seed: int, number: int) -> "TTv2Learner":
        a, c = self.arrays(device, values, seed, number)  # lines 2 and 3
        vectors = hadamard(values.shape[1]) if self.vectors == "hadamard" else np.zeros((0, 0), np.float32)
        coefficients = len(vectors) or values.shape[1]
        h = np.zeros((values.shape[0], coefficients), np.float32)  # line 4
        return TTv2Learner(
            a, c, self.transfer_every, self.transfer_rate, self.transfer_rates, h, vectors, self.threshold * device.step,
            self.momentum, self.periphery.single, self.pulses, Stream.of(seed, number),
        )  # fmt: skip


@dataclass
class TTv2Learner(TransferLearner):
    h: np.ndarray  # (outputs, N)
    vectors: np.ndarray  # (N, inputs) of ±1; empty: one-hot
    threshold: float  # [weight]
    momentum: float
    io: IO
    pulses: Pulses
    stream: Stream

    def weights(self) -> np.ndarray:
        return self.c.weights

    def update(self, x: np.ndarray, d: np.ndarray, rate: float, step: int) -> None:
        words_x, words_d, longest = self.pulses.send(x, d, rate, self.a.step, step, self.stream)
        self.learn(words_x, words_d, np.ones(len(x) // self.transfer_every + 1, np.float32), longest, step)

    def learn(self, words_x: np.ndarray, words_d: np.ndarray, signs: np.ndarray, longest: int, step: int) -> None:
        """Lines 13 to 22 for trains that were sent; `signs`: what every read is multiplied with."""
        a, c, stream = self.a, self.c, self.stream
        gentle = longest <= a.gentle_to

        def rows(first: int, last: int) -> None:
            update_and_transfer(
                a.weights, a.reference, a.devices, a.noise, a.multiplicative, a.power, gentle, c.weights, c.devices, c.noise,
                c.multiplicative, c.power, self.h, self.vectors, words_x, words_d, signs, self.inputs, self.transfer_every,
                self.transfer_rate, self.threshold, self.momentum, self.io, step, stream.array, stream.k0, stream.k1, first,
                last,
            )  # fmt: skip

        share_rows(rows, self.outputs, len(words_x))

    def state(self) -> dict[str, np.ndarray]:
        return {"a": self.a.weights, "c": self.c.weights, "h": self.h}


def hadamard(inputs: int) -> np.ndarray:
    """Vectors of ±1 (N, inputs), orthogonal over all N = 2^k ≥ `inputs` of them (Sylvester's construction)."""
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < inputs:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return np.ascontiguousarray(matrix[:, :inputs])
