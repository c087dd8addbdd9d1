"""What a network needs from one weight matrix that learns in place: weights for its products, and an update.

A training algorithm (`training/sgd_pulsed.py`, `tiki_taka.py`, `ttv2.py`, …) implements it with one array of devices or more.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import torch

from analog_glue.in_situ.devices.device import PulsedArray, aligned, padded, symmetry_point
from analog_glue.in_situ.kernels.matvec import IO
from analog_glue.in_situ.kernels.pulsed import SIGN, trains, update, update_power
from analog_glue.kernels.parallel import run
from analog_glue.seeding import key

ROWS = 64  # rows that one core takes at a time, a multiple of `kernels.pulsed.GROUP`
SHARED_FROM = 16  # samples at once from which several cores pay


@dataclass(frozen=True)
class Stream:
    """Names the random numbers of one weight matrix: the run's key, and the matrix' own number."""

    k0: np.uint32
    k1: np.uint32
    array: np.uint32

    @classmethod
    def of(cls, seed: int, array: int) -> "Stream":
        whole = key(seed, "in-situ training")
        return cls(np.uint32(whole & 0xFFFFFFFF), np.uint32(whole >> 32), np.uint32(array))

    def for_tests(self) -> "Stream":
        """A stream that no update uses, for scores between updates."""
        return Stream(self.k0, np.uint32(~self.k1), self.array)


@dataclass(frozen=True)
class Pulses:
    """How a learning rate becomes pulse trains."""

    longest: int = 31  # BL: bits of a train at most
    managed: bool = True  # whether a train is just as long as the update needs

    def send(
        self, x: np.ndarray, d: np.ndarray, rate: float, dw_min: float, step: int, stream: Stream
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Trains of inputs and outputs of all samples, and the bits of the longest of them; see `kernels.pulsed.trains`."""
        words_x, words_d = np.empty(x.shape, np.uint32), np.empty(d.shape, np.uint32)
        sent = trains(
            words_x, words_d, x, d, rate, dw_min, self.longest, self.managed, step, stream.array, stream.k0, stream.k1
        )
        return words_x, words_d, sent


class Learner(ABC):
    """One weight matrix (outputs, inputs) on devices."""

    @property
    @abstractmethod
    def outputs(self) -> int: ...

    @property
    @abstractmethod
    def inputs(self) -> int: ...

    @abstractmethod
    def weights(self) -> np.ndarray:
        """The matrix that products see, float32 (outputs, padded inputs): a view where possible, never to be written to."""

    @abstractmethod
    def update(self, x: np.ndarray, d: np.ndarray, rate: float, step: int) -> None:
        """Learn from samples one after another: weights += rate · d ⊗ x in the algorithm's own way.

        Args:
            x: float32 (samples, padded inputs).
            d: float32 (samples, padded outputs): minus the gradient of the outputs.
            rate: Learning rate.
            step: Number of the first sample's update since training began.
        """

    def begin_epoch(self, epoch: int) -> None:
        """Take up what the algorithm's schedule says for an epoch (from 0); most have none."""
        return

    def arrays(self) -> list[PulsedArray]:
        """The arrays of devices that the matrix is made of; none where weights are plain numbers."""
        return []

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Everything that changes while learning, by name; writing into these arrays restores it."""


class LearnerOnC(Learner):
    """A matrix whose model is held by array C; algorithms add what else they need."""

    c: PulsedArray

    @property
    def outputs(self) -> int:
        return self.c.outputs

    @property
    def inputs(self) -> int:
        return self.c.inputs


@dataclass(frozen=True)
class LearnerOnNumbers(Learner):
    """A matrix of plain numbers, on no devices."""

    values: np.ndarray  # float32 (outputs, padded inputs)
    columns: int  # of them that are inputs, not padding

    @classmethod
    def of(cls, values: np.ndarray) -> Self:
        """From weights (outputs, inputs)."""
        return cls(padded(values.astype(np.float32)), values.shape[1])

    @property
    def outputs(self) -> int:
        return len(self.values)

    @property
    def inputs(self) -> int:
        return self.columns

    def weights(self) -> np.ndarray:
        return self.values


@dataclass(frozen=True)
class Fixed(LearnerOnNumbers):
    """Weights that no longer learn, to score them."""

    def update(self, x: np.ndarray, d: np.ndarray, rate: float, step: int) -> None:
        raise TypeError("fixed weights do not learn")

    def state(self) -> dict[str, np.ndarray]:
        return {}


class Network(Protocol):
    """What all networks have, whatever they compute."""

    learners: list[Learner]
    forward: IO  # converters and noise of the forward products
    scale: float  # digital factor behind every array
    stream: Stream


def share_rows(rows: Callable[[int, int], None], outputs: int, samples: int) -> None:
    """Call `rows(first, last)` for all rows of an array: on as many cores as torch has where there is enough to do."""
    if samples < SHARED_FROM or torch.get_num_threads() == 1:
        rows(0, outputs)
    else:
        run(lambda first: rows(first, min(first + ROWS, outputs)), range(0, outputs, ROWS))


def find_symmetry_point(array: PulsedArray, pulses: int, stream: Stream) -> None:
    """Make weight 0 of an array its symmetry point, where a step up and a step down have the same mean size.

    The reference devices are set to the working devices at their symmetry points (zero shifting, Kim et al. 2019).

    Args:
        array: Devices; weights and reference are changed.
        pulses: Alternating pulses up and down that are given to find the points, with their noise. 0: the exact points.
        stream: Names the noise of the pulses.
    """
    if pulses == 0:
        array.weights[...] = symmetry_point(array)
    words = [padded(np.full((1, array.inputs), word, np.uint32)) for word in (1, 1 | SIGN)]
    one = padded(np.ones((1, array.outputs), np.uint32))
    kernel = update_power if array.power else update
    stream, before = stream.for_tests(), array.weights.copy()  # updates of A use the other stream
    for i in range(pulses):
        before[...] = array.weights
        kernel(
            array.weights, array.devices, words[i % 2], one, array.noise, array.multiplicative, False, i, stream.array,
            stream.k0, stream.k1, 0, array.outputs,
        )  # fmt: skip
    array.reference[...] = (array.weights + before) / 2  # a point between a step up and a step down
    array.weights[...] = array.reference


def zeros(rows: int, columns: int) -> np.ndarray:
    """Aligned float32 zeros."""
    return aligned(np.zeros((rows, columns), np.float32))


EMPTY = zeros(0, 0)


def together(arrays: Iterable[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Arrays as a kernel takes them: in fours, filled up with empty ones, so that networks of up to 4 share a compilation."""
    arrays = tuple(arrays)
    return (*arrays, *(EMPTY for _ in range(-len(arrays) % 4)))
