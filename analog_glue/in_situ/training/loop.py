"""The way of an in-situ training run: epochs of small units of work, scores, resumable state.

A unit is what is learnt between two moments at which the run could stop: a sequence of characters, an image. All random
numbers are named by the unit, so a resumed run is the uninterrupted one, bit for bit.
"""

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import numpy as np
import torch
from torch import nn

from analog_glue.errors import require
from analog_glue.in_situ.kernels.matvec import IO
from analog_glue.in_situ.nn.learner import Learner, Network, Stream
from analog_glue.in_situ.training.averaging import Averaging
from analog_glue.in_situ.training.mode import InSituMode
from analog_glue.in_situ.training.statistics import Statistics
from analog_glue.interruption import holds
from analog_glue.progress import Progress, duration
from analog_glue.runs.tensors import load_tensors, save_tensors

STATE = "training_state.safetensors"
NAMES = 2**32  # of products and updates of one array: the numbers of their noise have 32 bits


AnyNetwork = TypeVar("AnyNetwork", bound=Network)


class Trainable(ABC, Generic[AnyNetwork]):
    """A network with its data. Concrete ones say which network, because what it learns from differs."""

    network: AnyNetwork
    unit: str  # what progress counts: "char", "image"
    units: int  # per epoch
    unit_size: int  # of what progress counts, in one unit of work
    test_sizes: tuple[int, int]  # what progress counts, scored between epochs and at the end
    uses: tuple[int, ...] = ()  # of every array, for one of what progress counts; empty: once each
    ready: bool = True  # whether all data are there, else the first unit of work makes them

    @abstractmethod
    def train(self, epoch: int, unit: int, rate: float) -> float:
        """Learn one unit; its mean loss [nats]."""

    @abstractmethod
    def test(self, epoch: int, whole: bool) -> dict[str, float]:
        """Scores on the test set, or (not `whole`) on the part of it that stands for it between epochs."""

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Everything that changes while training, by name; writing into these arrays restores it."""

    @abstractmethod
    def deployable(self, weights: list[np.ndarray]) -> nn.Module:
        """A plain torch network with the given weights (outputs, inputs) of every array, as extraction writes them."""

    def on(self, learners: Sequence[Learner], forward: IO, stream: Stream) -> Self:
        """The same network and data with other arrays and periphery, for scores; the original stays as it is."""
        other = copy.copy(self)
        other.network = copy.copy(self.network)
        other.network.learners, other.network.forward, other.network.stream = list(learners), forward, stream
        return other


@dataclass(frozen=True)
class Epoch:
    """One row of a learning curve."""

    epoch: int  # from 1
    train_loss: float  # mean over the epoch while learning [nats]
    scores: dict[str, float]  # of the test set or its part
    whole: bool  # whether the whole test set was scored
    seconds: float  # of training and scores since the run began, without the compilation of kernels

    def row(self) -> dict[str, float | int | bool]:
        """Flat, for a table."""
        return {"epoch": self.epoch, "train_loss": self.train_loss, **self.scores, "whole_test_set": self.whole,
                "seconds": round(self.seconds, 1)}  # fmt: skip


def check_names(trainable: Trainable, mode: InSituMode) -> None:
    """Raises UserError where so many epochs would see the same noise again."""
    epoch = trainable.units * trainable.unit_size * max(trainable.uses, default=1)
    most = NAMES // epoch
    require(mode.epochs <= most, "training.epochs", f"be at most {most}, which use an array {NAMES:,} times", mode.epochs,
            "More would see the same noise again.")  # fmt: skip


def restore(trainable: Trainable, path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Bring a network to a state that `fit_in_situ` saved; all that was saved, and the notes of that state."""
    tensors, notes = load_tensors(path)
    saved = {name: tensor.numpy() for name, tensor in tensors.items()}
    for name, array in trainable.state().items():
        array[...] = saved[name]
    return saved, notes


@contextmanager
def forgotten(trainable: Trainable) -> Iterator[None]:
    """At its end `trainable` is as it was at its beginning, whatever it has learnt in between."""
    before = {name: array.copy() for name, array in trainable.state().items()}
    yield
    for name, array in trainable.state().items():
        array[...] = before[name]


def fit_in_situ(
    trainable: Trainable,
    mode: InSituMode,
    folder: Path,
    log: Callable[[str], None] = print,
    report: Callable[[list[Epoch]], None] = lambda _: None,
    stop_after: int | None = None,
) -> list[Epoch]:
    """Train for `mode.epochs`, going on from the state in `folder` if there is one.

    Args:
        report: Called with the learning curve after every epoch, and with what a state holds of it.
        stop_after: Units after which to save and leave (None: never); what a test interrupts with.

    Raises:
        UserError: see `check_names`.

    Returns:
        The learning curve; shorter than `mode.epochs` where `stop_after` ended the run.
    """
    check_names(trainable, mode)
    averaging = Averaging(trainable.network, mode, trainable.units)
    statistics = Statistics(trainable.network, mode, trainable.units)
    epoch, unit, total, seconds = 0, 0, 0.0, 0.0
    curve: list[Epoch] = []
    if (folder / STATE).is_file():
        saved, notes = restore(trainable, folder / STATE)
        averaging.resume(saved, notes.get("window"))
        statistics.resume(saved, notes.get("statistics_window"))
        epoch, unit, total, seconds = notes["epoch"], notes["unit"], notes["total"], notes["seconds"]
        curve = [Epoch(**row) for row in notes["curve"]]
        if curve:
            report(curve)  # the state is older than its report: a run that was killed between the two has it alone
    if epoch < mode.epochs:
        if curve or unit:
            log(f"Resuming in epoch {epoch + 1} after {unit * trainable.unit_size:,} {trainable.unit}s.")
        started = time.monotonic()
        with forgotten(trainable):  # the first unit and score compile the kernels and fetch the data
            trainable.train(0, 0, mode.rate(0))
            trainable.test(0, False)
        if (passed := time.monotonic() - started) > 5:
            log(f"Ready after {duration(passed)}; compiled kernels are kept for later runs.")
    done, started, saved_at = 0, time.monotonic() - seconds, time.monotonic()

    def save() -> None:
        arrays = trainable.state() | averaging.state() | statistics.state()
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        notes = {
            "epoch": epoch, "unit": unit, "total": total, "seconds": time.monotonic() - started, "window": averaging.window,
            "statistics_window": statistics.window, "curve": [asdict(row) for row in curve],
        }  # fmt: skip
        save_tensors(folder / STATE, tensors, notes)

    all_units, done_units = mode.epochs * trainable.units, epoch * trainable.units + unit
    size = trainable.unit_size
    with Progress("training", all_units * size, trainable.unit, done_units * size, log) as progress, holds() as asked:
        while epoch < mode.epochs:
            progress.begin(f"epoch {epoch + 1}/{mode.epochs}")
            rate = mode.rate(epoch)
            for learner in trainable.network.learners:
                learner.begin_epoch(epoch)
            while unit < trainable.units:
                total += trainable.train(epoch, unit, rate)
                averaging.after(epoch * trainable.units + unit)
                statistics.after(epoch * trainable.units + unit)
                unit += 1
                done += 1
                progress.update(size)
                if time.monotonic() - saved_at > 60 * mode.save_every or done == stop_after or asked():
                    save()
                    saved_at = time.monotonic()
                if asked():
                    asked.obey()
                if done == stop_after:
                    return curve
            whole = epoch + 1 == mode.epochs
            scores = trainable.test(epoch, whole)
            curve.append(Epoch(epoch + 1, total / trainable.units, scores, whole, time.monotonic() - started))
            epoch, unit, total = epoch + 1, 0, 0.0
            save()
            saved_at = time.monotonic()
            report(curve)
            words = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
            so_far = duration(curve[-1].seconds)
            progress.say(f"epoch {epoch}/{mode.epochs}: train loss {curve[-1].train_loss:.4f}, {words}, {so_far} so far")
    return curve
