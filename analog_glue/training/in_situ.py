"""What all in-situ training modes share: the periphery, the pulses, the schedule.

A mode makes one `Learner` for every weight matrix of a network; the network does the rest (nn/in_situ).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from analog_glue.devices.pulsed.device import PulsedDevice
from analog_glue.kernels.matvec import IO
from analog_glue.nn.in_situ.learner import Learner, Pulses
from analog_glue.settings import require


@dataclass(frozen=True)
class Periphery:
    """Converters and noise around every array (defaults: Gokmen & Vlasov 2016), in units of the array's weights."""

    dac_bits: int = 7  # 0: none
    adc_bits: int = 9  # 0: none
    output_bound: float = 12.0
    output_noise: float = 0.06  # σ of every output of every product
    noise_management: bool = True  # inputs are scaled so that the largest drives the full range
    bound_management: bool = True  # forward products are repeated with halved inputs while outputs saturate

    def __post_init__(self) -> None:
        for name in ("dac_bits", "adc_bits"):
            bits = getattr(self, name)
            require(bits == 0 or 2 <= bits <= 16, f"training.periphery.{name}", "be 0 or lie in 2 … 16", bits)
        require(self.output_bound > 0, "training.periphery.output_bound", "be positive", self.output_bound)
        require(self.output_noise >= 0, "training.periphery.output_noise", "be at least 0", self.output_noise)

    @property
    def forward(self) -> IO:
        def steps(bits: int) -> float:
            return float(2**bits - 2) if bits else 0.0

        return IO(
            steps(self.dac_bits), steps(self.adc_bits), float(self.output_bound), float(self.output_noise),
            self.noise_management, self.bound_management,
        )  # fmt: skip

    @property
    def backward(self) -> IO:
        return self.forward._replace(bound_management=False)

    @property
    def single(self) -> IO:
        """The read of single columns: no input exceeds the range and no output the bound."""
        return self.forward._replace(noise_management=False, bound_management=False)


@dataclass(frozen=True, kw_only=True)
class InSituMode(ABC):
    """Schedule of a training run on pulsed devices. Concrete modes say which arrays a weight matrix has and how they learn."""

    epochs: int = 50
    learning_rate: float = 0.03  # η, in units of the weights that the network sees
    decay_every: int | None = None  # [epochs] after which the learning rate is halved; null: constant
    periphery: Periphery = field(default_factory=Periphery)
    pulses: Pulses = field(default_factory=Pulses)
    output_scale: float = 1 / 0.3  # digital factor behind every array: ±0.6 acts as ±2
    save_every: float = 5.0  # [minutes] between resumable states
    average_products: int = 0  # random products of every array while it trains, for the mean of its weights; 0: none
    average_epochs: int = 1  # the last epochs, over which they are spread

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "training.epochs", "be at least 1", self.epochs)
        require(self.learning_rate > 0, "training.learning_rate", "be positive", self.learning_rate)
        decays = self.decay_every is None or self.decay_every >= 1
        require(decays, "training.decay_every", "be at least 1 or null", self.decay_every)
        require(self.output_scale > 0, "training.output_scale", "be positive", self.output_scale)
        require(self.save_every > 0, "training.save_every", "be positive [minutes]", self.save_every)
        require(self.average_products >= 0, "training.average_products", "be at least 0", self.average_products)
        fits = not self.average_products or 1 <= self.average_epochs <= self.epochs
        require(fits, "training.average_epochs", f"lie in 1 … training.epochs = {self.epochs}", self.average_epochs)
        longest = self.pulses.longest
        require(1 <= longest <= 31, "training.pulses.longest", "lie in 1 … 31 bits", longest)

    def rate(self, epoch: int) -> float:
        """Learning rate of the devices' own weights in an epoch (from 0): w = W / scale, so Δw = η (−dL/dW) / scale."""
        return halved(self.learning_rate, epoch, self.decay_every) / self.output_scale

    @abstractmethod
    def learner(self, device: PulsedDevice, values: np.ndarray, seed: int, number: int) -> Learner:
        """Put a weight matrix `values` (outputs, inputs) [units of the devices] on devices; `number` names it."""

    @abstractmethod
    def reused(self, times: int) -> Self:
        """The mode of an array that is used `times` for one sample (a convolution): its reads are counted in samples."""


def halved(value: float, epoch: int, every: int | None) -> float:
    """`value` halved after each `every` epochs; `epoch` counts from 0, and None means never."""
    return value * 0.5 ** (epoch // every) if every else value
