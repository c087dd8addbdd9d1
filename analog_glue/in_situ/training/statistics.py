"""Mean and spread of every weight over the iterates of the last epochs, from looks at the simulated arrays (Gokmen 2021).

    m ← m + (w − m) / k,    M ← M + (w − m_before)(w − m),    spread² = M / (k − 1)       after look number k

These are the exact moments of what products see. No chip can look; the paper leaves open how one would measure them. One that
regresses bursts of products at K moments has estimates Ŵ_k with a known error each, and spread² = var_k(Ŵ) − error².
Nothing that is learnt depends on it.
"""

from dataclasses import dataclass, field

import numpy as np

from analog_glue.in_situ.nn.learner import Network
from analog_glue.in_situ.training.mode import InSituMode


@dataclass
class Moments:
    """Running mean and sum of squares of an array of numbers (Welford's recurrence)."""

    outputs: int
    inputs: int
    mean: np.ndarray = field(init=False)  # m (outputs, inputs)
    squares: np.ndarray = field(init=False)  # M (outputs, inputs)
    looks: int = 0

    def __post_init__(self) -> None:
        self.mean = np.zeros((self.outputs, self.inputs))
        self.squares = np.zeros((self.outputs, self.inputs))

    def add(self, weights: np.ndarray) -> None:
        """Take in weights (outputs, inputs)."""
        self.looks += 1
        before = weights - self.mean
        self.mean += before / self.looks
        self.squares += before * (weights - self.mean)

    def spread(self) -> np.ndarray:
        """Standard deviation over the looks (outputs, inputs); nan with less than two."""
        return np.sqrt(self.squares / (self.looks - 1)) if self.looks > 1 else np.full_like(self.mean, np.nan)

    def state(self) -> dict[str, np.ndarray]:
        """The moments by name, as `load` takes them."""
        return {"mean": self.mean, "squares": self.squares, "looks": np.array([self.looks])}

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Inverse of `state`."""
        self.mean[...], self.squares[...], self.looks = state["mean"], state["squares"], int(state["looks"][0])


class Statistics:
    """The moments of every array of a network, and when to look."""

    def __init__(self, network: Network, mode: InSituMode, units: int) -> None:
        """Args: units: Units of work in an epoch."""
        self.network, self.every = network, mode.statistics_every
        self.first, self.last = (mode.epochs - mode.average_epochs) * units, mode.epochs * units
        self.moments = [Moments(learner.outputs, learner.inputs) for learner in network.learners] if self.every else []

    def after(self, unit: int) -> None:
        """Look, if it is time, after unit number `unit` since training began."""
        if self.every and unit >= self.first and (unit + 1) % self.every == 0:
            for learner, moments in zip(self.network.learners, self.moments, strict=True):
                moments.add(learner.weights()[:, : learner.inputs])

    @property
    def window(self) -> list[int]:
        """What the moments belong to; those of another window are not to be added to."""
        return [self.every, self.first, self.last]

    def state(self) -> dict[str, np.ndarray]:
        """The moments by name; `resume` is the inverse."""
        return {
            f"statistics.{index}.{name}": array
            for index, moments in enumerate(self.moments)
            for name, array in moments.state().items()
        }

    def resume(self, tensors: dict[str, np.ndarray], window: list[int] | None) -> None:
        """Go on with saved moments if they belong to the same window; else begin anew."""
        if window == self.window:
            for index, moments in enumerate(self.moments):
                moments.load({name: tensors[f"statistics.{index}.{name}"] for name in moments.state()})
