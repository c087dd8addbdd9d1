"""What all in-situ training modes share: the periphery, the pulses, the schedule.

A mode makes one `Learner` for every weight matrix of a network; the network does the rest (in_situ/nn).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np

from analog_glue.errors import require_argument
from analog_glue.in_situ.devices.device import PulsedDevice
from analog_glue.in_situ.kernels.matvec import IO
from analog_glue.in_situ.nn.learner import Learner, Pulses


@dataclass(frozen=True)
class Periphery:
    """Converters and noise around every array (defaults: Gokmen & Vlasov 2016), in units of the array's weights."""

    dac_bits: int = 7  # 0: none
    adc_bits: int = 9  # 0: none
    output_bound: float = 12.0
    output_noise: float = 0.06  # σ of every output of every product
    noise_management: bool = True  # inputs are scaled so that the largest drives the full range
    bound_management: bool = True  # forward products are repeated with halved inputs while outputs saturate
    read_noise: float | None = None  # of reads of A by transfers alone; null: `output_noise`
    read_adc_bits: int | None = None  # the same of the ADC; null: `adc_bits`

    def __post_init__(self) -> None:
        for name in ("dac_bits", "adc_bits"):
            bits = getattr(self, name)
            require_argument(bits == 0 or 2 <= bits <= 16, name, "be 0 or lie in 2 … 16", bits)
        bits = self.read_adc_bits
        known = bits is None or bits == 0 or 2 <= bits <= 16
        require_argument(known, "read_adc_bits", "be null, 0 or lie in 2 … 16", bits)
        quiet = self.read_noise is None or self.read_noise >= 0
        require_argument(quiet, "read_noise", "be null or at least 0", self.read_noise)
        require_argument(self.output_bound > 0, "output_bound", "be positive", self.output_bound)
        require_argument(self.output_noise >= 0, "output_noise", "be at least 0", self.output_noise)

    @property
    def forward(self) -> IO:
        return IO(
            _steps(self.dac_bits), _steps(self.adc_bits), float(self.output_bound), float(self.output_noise),
            self.noise_management, self.bound_management,
        )  # fmt: skip

    @property
    def backward(self) -> IO:
        return self.forward._replace(bound_management=False)

    @property
    def single(self) -> IO:
        """Of reads of A, whose inputs are ±1 or 0. A single column stays within the bound; a sum of all of them may not."""
        bits = self.adc_bits if self.read_adc_bits is None else self.read_adc_bits
        noise = self.output_noise if self.read_noise is None else self.read_noise
        return self.forward._replace(adc_steps=_steps(bits), noise=float(noise), noise_management=False, bound_management=False)


def _steps(bits: int) -> float:
    """Of a converter over its range; 0: none."""
    return float(2**bits - 2) if bits else 0.0


@dataclass(frozen=True, kw_only=True)
class InSituMode(ABC):
    """Schedule of a training run on pulsed devices. Concrete modes say which arrays a weight matrix has and how they learn."""

    trains_on: ClassVar[str] = "devices"  # what the weights are for, which a task must allow
    sections: ClassVar[tuple[str, ...]] = ("device",)  # of the configuration that it uses

    on_devices: ClassVar[bool] = True  # whether weights lie on devices at all
    reads_a: ClassVar[bool] = False  # whether there is an array A that is read while learning

    epochs: int = 50
    learning_rate: float = 0.03  # η, in units of the weights that the network sees
    decay_every: int | None = None  # [epochs] after which the learning rate is halved; null: constant
    periphery: Periphery = field(default_factory=Periphery)
    pulses: Pulses = field(default_factory=Pulses)
    output_scale: float = 1 / 0.3  # digital factor behind every array: ±0.6 acts as ±2
    save_every: float = 5.0  # [minutes] between resumable states
    average_products: int = 0  # random products of every array while it trains, for the mean of its weights; 0: none
    statistics_every: int = 0  # units of work between two looks at all weights, for their mean and spread; 0: none
    average_epochs: int = 1  # the last epochs, to which both belong

    def __post_init__(self) -> None:
        require_argument(self.epochs >= 1, "epochs", "be at least 1", self.epochs)
        require_argument(self.learning_rate > 0, "learning_rate", "be positive", self.learning_rate)
        decays = self.decay_every is None or self.decay_every >= 1
        require_argument(decays, "decay_every", "be at least 1 or null", self.decay_every)
        require_argument(self.output_scale > 0, "output_scale", "be positive", self.output_scale)
        require_argument(self.save_every > 0, "save_every", "be positive [minutes]", self.save_every)
        require_argument(self.average_products >= 0, "average_products", "be at least 0", self.average_products)
        require_argument(self.statistics_every >= 0, "statistics_every", "be at least 0", self.statistics_every)
        collects = self.average_products or self.statistics_every
        fits = not collects or 1 <= self.average_epochs <= self.epochs
        require_argument(fits, "average_epochs", f"lie in 1 … `epochs` = {self.epochs}", self.average_epochs)
        longest = self.pulses.longest
        require_argument(1 <= longest <= 31, "pulses.longest", "lie in 1 … 31 bits", longest)
        for name in ("read_noise", "read_adc_bits"):
            value = getattr(self.periphery, name)
            require_argument(self.reads_a or value is None, f"periphery.{name}", "be null where no array A is read", value,
                    "Take a mode that reads one, such as ttv2 or tiki_taka, or set the periphery of all products.")  # fmt: skip

    def rate(self, epoch: int) -> float:
        """Learning rate of the devices' own weights in an epoch (from 0): w = W / scale, so Δw = η (−dL/dW) / scale."""
        return halved(self.learning_rate, epoch, self.decay_every) / self.output_scale

    @abstractmethod
    def learner(self, device: PulsedDevice, values: np.ndarray, seed: int, number: int) -> Learner:
        """Put a weight matrix `values` (outputs, inputs) [units of the devices] on devices; `number` names it."""

    def reused(self, times: int) -> Self:
        """The mode of an array that is used `times` for one sample (a convolution): reads, if any, are counted in samples."""
        return self


def halved(value: float, epoch: int, every: int | None) -> float:
    """`value` halved after each `every` epochs; `epoch` counts from 0, and None means never."""
    return value * 0.5 ** (epoch // every) if every else value
