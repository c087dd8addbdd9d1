"""What a network trained in situ is scored on when it lies on chips of another kind: its task's whole test set.

A text cannot be cut into independent examples, but into streams: `STREAMS` pieces side by side, each read from `WARM_UP`
characters before its beginning, so that the state is nearly that of reading the whole text in one go.
"""

from abc import abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from analog_glue.evaluation import Score, Workload
from analog_glue.nn.calibration import calibrate_input_ranges
from analog_glue.nn.convert import analog_layers
from analog_glue.nn.hardware import Hardware
from analog_glue.seeding import generator
from analog_glue.settings import Calibration
from analog_glue.training.characters import Characters
from analog_glue.training.images import Images
from analog_glue.training.in_situ_loop import Trainable

STREAMS = 250
WARM_UP = 100  # characters
STEPS = 100  # characters between two looks at the outputs
AT_ONCE = 500  # pictures
SPLIT = "test"


class Deployed(Workload):
    """A workload that also knows inputs of the training set."""

    @abstractmethod
    def ranges(self, model: nn.Module, hardware: Hardware, calibration: Calibration) -> dict[str, Tensor]:
        """Input range of every layer on tiles, by name, from the first training examples of a fixed order."""


def workload_of(trainable: Trainable, device: str = "cpu") -> Deployed:
    """The task of a network that was trained in situ; `device` is where torch computes.

    Raises:
        ValueError: a network that this cannot score.
    """
    if isinstance(trainable, Characters):
        return Continuation(trainable, device)
    if isinstance(trainable, Images):
        return Pictures(trainable, device)
    raise ValueError(
        f"Setting `checkpoint` must lead to an LSTM of characters or a perceptron, but leads to {type(trainable).__name__}. "
        "Its scores in digital and on fresh arrays are in extraction.json."
    )


class Continuation(Deployed):
    """Cross-entropy of the next character [nats] over a text."""

    headline = "cross_entropy"

    def __init__(
        self, trainable: Characters, device: str = "cpu", streams: int = STREAMS, warm_up: int = WARM_UP
    ) -> None:
        self._train, self._device = torch.from_numpy(trainable.text), device
        self._sequence = trainable.unit_size
        text = torch.from_numpy(trainable.test_text)
        self._total, self._warm_up = len(text) - 1, warm_up  # predictions
        pieces = max(1, min(streams, self._total // max(warm_up, 1)))
        self._steps = -(-self._total // pieces)
        self._test = torch.nn.functional.pad(text, (warm_up, pieces * self._steps + 1 - len(text)))
        starts = torch.arange(pieces)[:, None] * self._steps
        self._places = starts + torch.arange(warm_up + self._steps)  # (pieces, steps) of the inputs
        # The first piece has nothing before it, and the last may be shorter.
        self._valid = self._places[:, warm_up:] < self._total + warm_up

    @torch.no_grad()
    def score(self, model: nn.Module, chips: int = 1) -> list[list[Score]]:
        device = self._device
        inputs = self._test[self._places].repeat(chips, 1).to(device)
        targets = self._test[self._places[:, self._warm_up :] + 1].repeat(chips, 1).to(device)
        valid = self._valid.repeat(chips, 1).to(device)
        state, losses = model.empty(len(inputs), device), torch.zeros(len(inputs), dtype=torch.float64, device=device)
        if self._warm_up:
            _, state = model(inputs[:, : self._warm_up], state)
            begins = (torch.arange(len(inputs), device=device) % len(self._places) == 0)[:, None]
            state = [(h.masked_fill(begins, 0), c.masked_fill(begins, 0)) for h, c in state]
        for first in range(0, self._steps, STEPS):
            part = slice(first, first + STEPS)
            logits, state = model(inputs[:, self._warm_up :][:, part], state)
            loss = nn.functional.cross_entropy(logits.transpose(1, 2), targets[:, part], reduction="none")
            losses += (loss.double() * valid[:, part]).sum(1)
        sums = losses.view(chips, -1).sum(1) / self._total
        return [[Score(SPLIT, "cross_entropy", value, self._total)] for value in sums.tolist()]

    def majority(self) -> list[Score]:
        answers = self._test[self._warm_up + 1 :][: self._total]
        symbols = int(max(self._train.max(), answers.max())) + 1
        counts = torch.bincount(self._train, minlength=symbols).double() + 1  # a symbol may be new
        loss = -(counts / counts.sum()).log()[answers].mean().item()
        return [Score(SPLIT, "cross_entropy", loss, self._total)]

    def ranges(self, model: nn.Module, hardware: Hardware, calibration: Calibration) -> dict[str, Tensor]:
        starts = (torch.arange(calibration.examples) * (len(self._train) - self._sequence)) // calibration.examples
        text = self._train[starts[:, None] + torch.arange(self._sequence)]

        def read(text: Tensor, attention_mask: Tensor) -> None:
            model(text, model.empty(len(text), self._device))

        return _ranges(read, model, {"text": text.to(self._device)}, hardware, calibration)


class Pictures(Deployed):
    """Share of right answers [%] and cross-entropy [nats] over pictures."""

    headline = "accuracy"

    def __init__(self, trainable: Images, device: str = "cpu") -> None:
        self._train, self._train_classes, self._device = trainable.images, trainable.classes, device
        self._test, self._classes = torch.from_numpy(trainable.test_images), trainable.test_classes

    @torch.no_grad()
    def score(self, model: nn.Module, chips: int = 1) -> list[list[Score]]:
        parts = [
            model(torch.cat([part] * chips).to(self._device)).float().cpu().view(chips, len(part), -1)
            for part in self._test.split(AT_ONCE)
        ]
        return [self._scores(logits) for logits in torch.cat(parts, 1)]

    def majority(self) -> list[Score]:
        shares = torch.from_numpy(np.bincount(self._train_classes) / len(self._train_classes))
        return self._scores(shares.log().expand(len(self._classes), -1))

    def _scores(self, logits: Tensor) -> list[Score]:
        classes = torch.from_numpy(self._classes)
        right = 100 * (logits.argmax(1) == classes).double().mean().item()
        loss = nn.functional.cross_entropy(logits, classes).item()
        return [Score(SPLIT, name, value, len(classes)) for name, value in (("accuracy", right), ("cross_entropy", loss))]

    def ranges(self, model: nn.Module, hardware: Hardware, calibration: Calibration) -> dict[str, Tensor]:
        chosen = torch.randperm(len(self._train), generator=generator("calibration examples"))[: calibration.examples]

        def look(images: Tensor, attention_mask: Tensor) -> None:
            model(images)

        images = torch.from_numpy(self._train[chosen.numpy()]).to(self._device)
        return _ranges(look, model, {"images": images}, hardware, calibration)


def _ranges(
    look: Callable[..., None], model: nn.Module, batch: dict[str, Tensor], hardware: Hardware, calibration: Calibration
) -> dict[str, Tensor]:
    """`look` runs the model on `batch`."""
    mask = torch.ones(len(next(iter(batch.values()))), dtype=torch.int64)
    layers = analog_layers(model, hardware.layers)
    return calibrate_input_ranges(
        look, layers, hardware.crossbar, [{**batch, "attention_mask": mask}], calibration.percentile, calibration.adc_headroom
    )
