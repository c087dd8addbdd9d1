"""Averaging while training: sparse random products with the arrays that learn, for one regression over all of them.

Each product sees the weights of its moment, so least squares finds their mean over the last epochs (Gokmen 2021). A host needs
X Xᵀ and Y Xᵀ alone; inputs come from the run's seed, their amplitude from a few products at the first of these epochs.
Nothing that is learnt depends on it.
"""

import numpy as np

from analog_glue.in_situ.extraction.regression import CHUNK, Regression, random_inputs, unsaturated_amplitude
from analog_glue.in_situ.nn.learner import Network, Stream
from analog_glue.in_situ.training.mode import InSituMode


class Averaging:
    """The sums of every array of a network, and when to add to them."""

    def __init__(self, network: Network, mode: InSituMode, units: int) -> None:
        """Args: units: Units of work in an epoch."""
        self.network = network
        self.wanted, self.first = mode.average_products, (mode.epochs - mode.average_epochs) * units
        self.last = mode.epochs * units
        io = mode.periphery.forward
        self._io = io._replace(noise_management=False, bound_management=False)
        self.sums = [Regression(learner.outputs, learner.inputs) for learner in network.learners] if self.wanted else []
        self._chunk = -1
        self._inputs: list[np.ndarray] = []  # of every array (products, padded inputs)

    def after(self, unit: int) -> None:
        """Send the products that are due after unit number `unit` since training began."""
        if not self.wanted or unit < self.first:
            return
        window, done = self.last - self.first, unit - self.first
        for _ in range(done * self.wanted // window, (done + 1) * self.wanted // window):
            self._send()

    def _send(self) -> None:
        number, stream = self.sums[0].products, self.network.stream
        streams = [Stream(stream.k0, stream.k1, np.uint32(index)) for index in range(len(self.sums))]
        if number == 0:
            for learner, sums, stream in zip(self.network.learners, self.sums, streams, strict=True):
                sums.amplitude = unsaturated_amplitude(learner.weights(), sums.inputs, self._io, stream)
        if self._chunk != number // CHUNK:
            self._chunk = number // CHUNK
            self._inputs = [
                random_inputs(self._chunk * CHUNK, CHUNK, sums.inputs, sums.amplitude, stream)
                for sums, stream in zip(self.sums, streams, strict=True)
            ]
        i = number % CHUNK
        for learner, sums, stream, x in zip(self.network.learners, self.sums, streams, self._inputs, strict=True):
            sums.apply(learner.weights(), x[i : i + 1], self._io, number, stream)

    @property
    def window(self) -> list[int]:
        """What sums belong to; those of another window are not to be added to."""
        return [self.wanted, self.first, self.last]

    def state(self) -> dict[str, np.ndarray]:
        """The sums by name; `resume` is the inverse."""
        return {
            f"average.{index}.{name}": array for index, sums in enumerate(self.sums) for name, array in sums.state().items()
        }

    def resume(self, tensors: dict[str, np.ndarray], window: list[int] | None) -> None:
        """Go on with saved sums if they belong to the same window; else begin anew."""
        if window == self.window:
            for index, sums in enumerate(self.sums):
                sums.load({name: tensors[f"average.{index}.{name}"] for name in sums.state()})
