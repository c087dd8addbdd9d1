"""What the algorithms with two arrays share: A takes the gradients, and every ns updates C gets something of a read of A."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Self

import numpy as np

from analog_glue.errors import require_argument
from analog_glue.in_situ.devices.device import PulsedArray, PulsedDevice
from analog_glue.in_situ.nn.learner import Learner, LearnerOnC, Stream, find_symmetry_point
from analog_glue.in_situ.training.mode import InSituMode, halved


@dataclass(frozen=True, kw_only=True)
class TransferMode(InSituMode):
    """Lines 1 to 3 of Algorithms 1 and 2 (Gokmen 2021). Concrete modes say what C gets of a read."""

    reads_a: ClassVar[bool] = True

    transfer_every: int = 2  # ns: updates of A between two reads
    transfer_rate: float  # λ
    transfer_decay_every: int | None = None  # [epochs] after which λ is halved; null: constant
    symmetry_pulses: int = 0  # alternating pulses that find A's symmetry point; 0: the exact one

    def __post_init__(self) -> None:
        super().__post_init__()
        require_argument(self.transfer_every >= 1, "transfer_every", "be at least 1", self.transfer_every)
        require_argument(self.transfer_rate > 0, "transfer_rate", "be positive", self.transfer_rate)
        require_argument(self.symmetry_pulses >= 0, "symmetry_pulses", "be at least 0", self.symmetry_pulses)
        decays = self.transfer_decay_every is None or self.transfer_decay_every >= 1
        require_argument(decays, "transfer_decay_every", "be at least 1 or null", self.transfer_decay_every)

    @abstractmethod
    def learner(self, device: PulsedDevice, values: np.ndarray, seed: int, number: int) -> Learner: ...

    def arrays(self, device: PulsedDevice, values: np.ndarray, seed: int, number: int) -> tuple[PulsedArray, PulsedArray]:
        """A at its symmetry point (line 2) and C with `values` (line 3), of devices that `seed` and `number` name."""
        outputs, inputs = values.shape
        a = device.draw(outputs, inputs, seed, f"A{number}")
        find_symmetry_point(a, self.symmetry_pulses, Stream.of(seed, number))
        c = device.draw(outputs, inputs, seed, f"C{number}")
        c.write(values)
        return a, c

    @property
    def transfer_rates(self) -> Callable[[int], float]:
        """λ of an epoch."""
        return partial(halved, self.transfer_rate, every=self.transfer_decay_every)

    def reused(self, times: int) -> Self:
        return replace(self, transfer_every=self.transfer_every * times)


@dataclass
class TransferLearner(LearnerOnC):
    """A, C and when C gets something of A."""

    a: PulsedArray
    c: PulsedArray
    transfer_every: int
    transfer_rate: float  # λ of this epoch
    transfer_rates: Callable[[int], float]  # λ of an epoch

    def begin_epoch(self, epoch: int) -> None:
        self.transfer_rate = self.transfer_rates(epoch)

    def arrays(self) -> list[PulsedArray]:
        return [self.a, self.c]
