"""A text that an LSTM on pulsed devices learns to continue, in sequences one after another."""

import numpy as np

from analog_glue.in_situ.devices.device import PulsedDevice
from analog_glue.in_situ.nn import lstm
from analog_glue.in_situ.nn.plain import CharacterLSTM
from analog_glue.in_situ.training.loop import Trainable
from analog_glue.in_situ.training.mode import InSituMode


class Characters(Trainable[lstm.InSituCharacterLSTM]):
    """`text` and `test_text` are int64 symbols; the network's state is carried through the text, and empty at its start."""

    unit = "char"

    def __init__(
        self, text: np.ndarray, test_text: np.ndarray, symbols: int, hidden: int, layers: int, sequence: int,
        test_characters: int, mode: InSituMode, device: PulsedDevice, seed: int,
    ) -> None:  # fmt: skip
        """
        Args:
            sequence: Characters through which errors go back.
            test_characters: How many of `test_text` are scored between epochs.
        """
        self.text, self.test_text = text, test_text
        self.unit_size, self.units = sequence, (len(text) - 1) // sequence
        whole = len(test_text) - 1  # the first character is only read
        self.test_sizes = min(test_characters, whole), whole
        self.network = lstm.make(
            symbols, hidden, layers, lambda values, number: mode.learner(device, values, seed, number), mode.output_scale, seed,
            mode.periphery.forward, mode.periphery.backward,
        )  # fmt: skip

    def train(self, epoch: int, unit: int, rate: float) -> float:
        if unit == 0:
            self.network.state[...] = 0
        first = unit * self.unit_size
        step = (epoch * self.units + unit) * self.unit_size
        return self.network.train(self.text[first : first + self.unit_size + 1], rate, step) / self.unit_size

    def test(self, epoch: int, whole: bool) -> dict[str, float]:
        part = self.test_text[: self.test_sizes[whole] + 1]
        return {"cross_entropy": self.network.test(part, epoch * len(self.test_text))}

    def state(self) -> dict[str, np.ndarray]:
        learners = enumerate(self.network.learners)
        arrays = {f"{number}.{name}": array for number, learner in learners for name, array in learner.state().items()}
        return {"state": self.network.state, **arrays}

    def deployable(self, weights: list[np.ndarray]) -> CharacterLSTM:
        return CharacterLSTM(weights)
