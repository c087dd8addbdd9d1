"""Stochastic gradient descent by pulses: one array, updated in place (Gokmen & Vlasov 2016).

    for each training step: C ← C + η (d ⊗ x)         stochastic pulses, every step

On devices with asymmetric steps it finds the balance of gradient and asymmetry instead of the minimum.
"""

from dataclasses import dataclass

import numpy as np

from analog_glue.in_situ.devices.device import PulsedArray, PulsedDevice
from analog_glue.in_situ.kernels.pulsed import send_and_update, update, update_power
from analog_glue.in_situ.nn.learner import SHARED_FROM, LearnerOnC, Pulses, Stream, share_rows
from analog_glue.in_situ.training.mode import InSituMode


@dataclass(frozen=True, kw_only=True)
class SGDPulsed(InSituMode):
    """See the module's algorithm."""

    def learner(self, device: PulsedDevice, values: np.ndarray, seed: int, number: int) -> "SGDPulsedLearner":
        outputs, inputs = values.shape
        c = device.draw(outputs, inputs, seed, f"C{number}")
        c.write(values)
        return SGDPulsedLearner(c, self.pulses, Stream.of(seed, number))


@dataclass(frozen=True)
class SGDPulsedLearner(LearnerOnC):
    c: PulsedArray
    pulses: Pulses
    stream: Stream

    def weights(self) -> np.ndarray:
        return self.c.weights

    def update(self, x: np.ndarray, d: np.ndarray, rate: float, step: int) -> None:
        pulse(self.c, x, d, rate, self.pulses, step, self.stream)

    def arrays(self) -> list[PulsedArray]:
        return [self.c]

    def state(self) -> dict[str, np.ndarray]:
        return {"c": self.c.weights}


def pulse(array: PulsedArray, x: np.ndarray, d: np.ndarray, rate: float, pulses: Pulses, step: int, stream: Stream) -> None:
    """array ← array + rate (d ⊗ x) for all samples one after another, by stochastic pulses."""
    if len(x) < SHARED_FROM and not array.power:
        send_and_update(
            array.weights, array.devices, x, d, rate, array.step, pulses.longest, pulses.managed, array.noise,
            array.multiplicative, array.gentle_to, step, stream.array, stream.k0, stream.k1,
        )  # fmt: skip
        return
    words_x, words_d, longest = pulses.send(x, d, rate, array.step, step, stream)
    kernel = update_power if array.power else update
    gentle = longest <= array.gentle_to

    def rows(first: int, last: int) -> None:
        kernel(
            array.weights, array.devices, words_x, words_d, array.noise, array.multiplicative, gentle, step, stream.array,
            stream.k0, stream.k1, first, last,
        )  # fmt: skip

    share_rows(rows, array.outputs, len(x))
