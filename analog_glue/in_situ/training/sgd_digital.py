"""Stochastic gradient descent in floating point: the network that the pulsed devices are measured against.

    for each training step: W ← W + η (d ⊗ x)

No devices: weights are float32 without bounds. The periphery is perfect unless settings say otherwise, which shows what its
noise alone costs.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from analog_glue.in_situ.devices.device import PulsedDevice
from analog_glue.in_situ.nn.learner import LearnerOnNumbers
from analog_glue.in_situ.training.mode import InSituMode, Periphery


def perfect() -> Periphery:
    """No converters, no noise, no bound that matters."""
    return Periphery(dac_bits=0, adc_bits=0, output_bound=1e9, output_noise=0.0, noise_management=False, bound_management=False)


@dataclass(frozen=True, kw_only=True)
class SGDDigital(InSituMode):
    """See the module's equation; `device` and `pulses` are not used."""

    on_devices: ClassVar[bool] = False

    output_scale: float = 1.0
    periphery: Periphery = field(default_factory=perfect)

    def learner(self, device: PulsedDevice, values: np.ndarray, seed: int, number: int) -> "SGDDigitalLearner":
        return SGDDigitalLearner.of(values)


@dataclass(frozen=True)
class SGDDigitalLearner(LearnerOnNumbers):
    def update(self, x: np.ndarray, d: np.ndarray, rate: float, step: int) -> None:
        np.add(self.values, np.float32(rate) * (d[:, : self.outputs].T @ x), out=self.values)

    def state(self) -> dict[str, np.ndarray]:
        return {"c": self.values}
