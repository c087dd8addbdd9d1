"""A fully connected network on pulsed devices, trained one sample at a time (FC-MNIST of Gokmen & Vlasov 2016).

Arrays: outputs × (inputs + 1) each; logistic sigmoids between them, softmax and cross-entropy at the end.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from analog_glue.in_situ.kernels.lanes import LANES
from analog_glue.in_situ.kernels.matvec import IO
from analog_glue.in_situ.kernels.perceptron import sample, score
from analog_glue.in_situ.nn.learner import Learner, Stream, together, zeros


def initial_weights(sizes: list[int], random: np.random.Generator) -> list[np.ndarray]:
    """Uniform in ±1/√inputs, as torch.nn.Linear begins."""
    shapes = [(outputs, inputs + 1) for inputs, outputs in pairwise(sizes)]
    return [random.uniform(-1, 1, shape) * (shape[1] - 1) ** -0.5 for shape in shapes]


class InSituPerceptron:
    """The network around the arrays."""

    def __init__(self, learners: list[Learner], forward: IO, backward: IO, scale: float, stream: Stream) -> None:
        """As `InSituCharacterLSTM`."""
        self.learners, self.forward, self.backward, self.scale, self.stream = learners, forward, backward, scale, stream
        self._xs = tuple(zeros(1, -(-learner.inputs // LANES) * LANES) for learner in learners)
        self._ds = tuple(zeros(1, -(-learner.outputs // LANES) * LANES) for learner in learners)

    def train(self, image: np.ndarray, target: int, rate: float, step: int) -> float:
        """Learn from one float32 image; its cross-entropy [nats]. `step` counts samples."""
        loss, _ = sample(
            image, target, *self._arrays(), self.forward, self.backward, self.scale, True, step, self.stream.k0, self.stream.k1
        )
        for learner, x, d in zip(self.learners, self._xs, self._ds, strict=True):
            learner.update(x, d, rate, step)
        return loss

    def test(self, images: np.ndarray, targets: np.ndarray, step: int) -> tuple[float, float]:
        """Mean cross-entropy [nats] and share of right answers; nothing is learnt."""
        stream = self.stream.for_tests()
        loss, hits = score(images, targets, *self._arrays(), self.forward, self.scale, step, stream.k0, stream.k1)
        return loss / len(images), hits / len(images)

    def _arrays(self) -> tuple[int, tuple[np.ndarray, ...], tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """Their number, weights, inputs and errors."""
        weights = together(learner.weights() for learner in self.learners)
        return len(self.learners), weights, together(self._xs), together(self._ds)


def make(
    sizes: list[int], learner: Callable[[np.ndarray, int], Learner], scale: float, seed: int, forward: IO, backward: IO
) -> InSituPerceptron:
    """The network with fresh weights; `learner` puts weights, in units of the devices, on the array of that number."""
    random = np.random.Generator(np.random.Philox(Stream.of(seed, 0).k0))
    learners = [learner(weights / scale, number) for number, weights in enumerate(initial_weights(sizes, random))]
    return InSituPerceptron(learners, forward, backward, scale, Stream.of(seed, 0))
