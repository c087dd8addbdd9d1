"""A character-level LSTM on pulsed devices (LSTM2-64-WP of Gokmen et al. 2018 and Gokmen 2021), trained with batch 1.

Arrays: 4·hidden × (hidden + 1 + inputs) a layer, then symbols × (hidden + 1). Errors go back through one sequence; the state
is carried from sequence to sequence. The updates of a sequence follow each other in the order of the characters.
"""

from collections.abc import Callable, Sequence

import numpy as np

from analog_glue.in_situ.kernels.lanes import LANES
from analog_glue.in_situ.kernels.lstm import sequence
from analog_glue.in_situ.kernels.matvec import IO, transpose
from analog_glue.in_situ.nn.learner import Learner, Stream, together, zeros


def shapes(symbols: int, hidden: int, layers: int) -> list[tuple[int, int]]:
    """(outputs, inputs) of every array."""
    below = [symbols, *[hidden] * (layers - 1)]
    return [*((4 * hidden, hidden + 1 + inputs) for inputs in below), (symbols, hidden + 1)]


def initial_weights(symbols: int, hidden: int, layers: int, random: np.random.Generator) -> list[np.ndarray]:
    """Uniform in ±1/√hidden, as torch.nn.LSTM and Linear begin (two biases of an LSTM are one column here)."""
    limit = hidden**-0.5
    return [random.uniform(-limit, limit, shape) for shape in shapes(symbols, hidden, layers)]


class InSituCharacterLSTM:
    """The network around the arrays: digital state and activations, records of a sequence."""

    def __init__(
        self, symbols: int, hidden: int, learners: list[Learner], forward: IO, backward: IO, scale: float, stream: Stream
    ) -> None:
        """
        Args:
            learners: One for each array of `shapes`, in that order.
            forward, backward: Converters and noise of the products.
            scale: Digital factor behind every array.
        """
        self.symbols, self.hidden, self.learners = symbols, hidden, learners
        self.forward, self.backward, self.scale, self.stream = forward, backward, scale, stream
        self.state = np.zeros((len(learners) - 1, 2, hidden), np.float32)
        self._transposed = tuple(zeros(learner.inputs, -(-learner.outputs // LANES) * LANES) for learner in learners)

    def train(self, text: np.ndarray, rate: float, step: int) -> float:
        """Learn to predict text[1:] from text[:-1], int64 symbols; summed cross-entropy [nats]. `step` counts characters."""
        loss, xs, ds = self._run(text, self.state, step, learn=True)
        for learner, x, d in zip(self.learners, xs, ds, strict=True):
            learner.update(x, d, rate, step)
        return loss

    def test(self, text: np.ndarray, step: int, length: int = 1000) -> float:
        """Mean cross-entropy of the predictions of text[1:] [nats per character], from an empty state; nothing is learnt."""
        state = np.zeros_like(self.state)
        total = 0.0
        for first in range(0, len(text) - 1, length):
            piece = text[first : first + length + 1]
            total += self._run(piece, state, step + first, learn=False, stream=self.stream.for_tests())[0]
        return total / (len(text) - 1)

    def states(self, text: np.ndarray, places: Sequence[int], length: int = 1000) -> np.ndarray:
        """State (places, layers, 2, hidden) before each of the ascending `places` of a text, read from an empty state."""
        state, at, found, stream = np.zeros_like(self.state), 0, [], self.stream.for_tests()
        for place in places:
            for first in range(at, place, length):
                self._run(text[first : min(first + length, place) + 1], state, first, learn=False, stream=stream)
            found.append(state.copy())
            at = place
        return np.stack(found)

    def gradients(self, text: np.ndarray, state: np.ndarray) -> tuple[float, list[np.ndarray]]:
        """Loss and minus the gradient of every array's weights (outputs, inputs), for checks."""
        loss, xs, ds = self._run(text, state.copy(), 0, learn=True)
        return loss, [
            d[:, : learner.outputs].T @ x[:, : learner.inputs] * self.scale
            for learner, x, d in zip(self.learners, xs, ds, strict=True)
        ]

    def _run(
        self, text: np.ndarray, state: np.ndarray, step: int, learn: bool, stream: Stream | None = None
    ) -> tuple[float, tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        stream = stream or self.stream
        weights = tuple(learner.weights() for learner in self.learners)
        for learner, transposed, weight in zip(self.learners, self._transposed, weights, strict=True):
            transpose(transposed, weight[:, : learner.inputs])
        steps = len(text) - 1
        xs = tuple(zeros(steps, weight.shape[1]) for weight in weights)
        ds = tuple(zeros(steps, transposed.shape[1]) for transposed in self._transposed)
        loss = sequence(
            text, self.symbols, together(self._transposed), together(weights), together(xs), together(ds), state, self.forward,
            self.backward, self.scale, learn, step, stream.k0, stream.k1,
        )  # fmt: skip
        return loss, xs, ds


def make(
    symbols: int, hidden: int, layers: int, learner: Callable[[np.ndarray, int], Learner], scale: float, seed: int,
    forward: IO, backward: IO,
) -> InSituCharacterLSTM:  # fmt: skip
    """The network with fresh weights; `learner` puts weights, in units of the devices, on the array of that number."""
    random = np.random.Generator(np.random.Philox(Stream.of(seed, 0).k0))
    initial = initial_weights(symbols, hidden, layers, random)
    learners = [learner(weights / scale, number) for number, weights in enumerate(initial)]
    return InSituCharacterLSTM(symbols, hidden, learners, forward, backward, scale, Stream.of(seed, 0))
