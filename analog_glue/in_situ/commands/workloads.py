"""What a network trained in situ is scored on when it lies on chips of another kind: its task's whole test set.

A text cannot be cut into independent examples, but into streams: `STREAMS` pieces side by side. Each is read from `WARM_UP`
characters before its beginning, from the state that the digital network has there after reading all of the text so far, so that
in digital the score is that of reading in one go, and on a chip nearly so. An empty state instead may never be forgotten:
trained with enough noise, gates of a network can latch, and then its cells grow without end.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from analog_glue.evaluation import Score, Workload
from analog_glue.in_situ.nn.lstm import InSituCharacterLSTM
from analog_glue.in_situ.tasks.characters import Characters
from analog_glue.in_situ.tasks.pictures import Images
from analog_glue.in_situ.tasks.samples import Samples
from analog_glue.in_situ.training.loop import Trainable
from analog_glue.nn.calibration import calibrate_input_ranges
from analog_glue.nn.placement import Placement
from analog_glue.seeding import generator
from analog_glue.settings import Calibration

STREAMS = 250
WARM_UP = 100  # characters
STEPS = 100  # characters between two looks at the outputs
AT_ONCE = 500  # examples
SPLIT = "test"

ScoresOf = Callable[[str, np.ndarray, np.ndarray], dict[str, float]]


class Deployed(Workload):
    """A workload that also knows inputs of the training set."""

    @abstractmethod
    def ranges(self, model: nn.Module, placement: Placement, calibration: Calibration) -> dict[str, Tensor]:
        """Input range of every layer on tiles, by name, from the first training examples of a fixed order."""


def workload_of(trainable: Trainable, digital: Trainable, device: str = "cpu") -> Deployed:
    """The task of a network that was trained in situ.

    Args:
        digital: The same with the weights that are deployed, in digital.
        device: Where torch computes.
    """
    if isinstance(trainable, Characters) and isinstance(digital, Characters):
        return Continuation(trainable, device, digital=digital.network)
    if isinstance(trainable, Images):
        images, classes, test_images, test_classes = map(
            torch.from_numpy, (trainable.images, trainable.classes, trainable.test_images, trainable.test_classes)
        )
        return Answers(images, classes, {SPLIT: (test_images, test_classes)}, picture_scores, device)
    if isinstance(trainable, Samples):
        data = trainable.data
        return Answers(data.inputs, data.targets, data.tests, trainable.score, device)
    raise TypeError(f"no workload for {type(trainable).__name__}")


class Continuation(Deployed):
    """Cross-entropy of the next character [nats] over a text."""

    headline = "cross_entropy"

    def __init__(
        self, trainable: Characters, device: str = "cpu", streams: int = STREAMS, warm_up: int = WARM_UP,
        digital: InSituCharacterLSTM | None = None,
    ) -> None:  # fmt: skip
        """Args: digital: The network whose states streams begin with; None: empty ones."""
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
        self._beginnings: Tensor | None = None  # (pieces, layers, 2, hidden)
        if digital is not None:
            before = [max(0, start - warm_up) for start in starts.flatten().tolist()]
            self._beginnings = torch.from_numpy(digital.states(trainable.test_text, before)).to(device)

    @torch.no_grad()
    def score(self, model: nn.Module, chips: int = 1) -> list[list[Score]]:
        device = self._device
        inputs = self._test[self._places].repeat(chips, 1).to(device)
        targets = self._test[self._places[:, self._warm_up :] + 1].repeat(chips, 1).to(device)
        valid = self._valid.repeat(chips, 1).to(device)
        network: Any = model  # a CharacterLSTM, or a copy of one with layers on chips
        state, losses = network.empty(len(inputs), device), torch.zeros(len(inputs), dtype=torch.float64, device=device)
        if self._beginnings is not None:
            state = [(layer[:, 0], layer[:, 1]) for layer in self._beginnings.repeat(chips, 1, 1, 1).unbind(1)]
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

    def ranges(self, model: nn.Module, placement: Placement, calibration: Calibration) -> dict[str, Tensor]:
        starts = (torch.arange(calibration.examples) * (len(self._train) - self._sequence)) // calibration.examples
        text = self._train[starts[:, None] + torch.arange(self._sequence)]

        network: Any = model

        def read(text: Tensor, attention_mask: Tensor) -> None:
            network(text, network.empty(len(text), self._device))

        return _ranges(read, model, {"text": text.to(self._device)}, placement, calibration)


class Answers(Deployed):
    """Outputs of a network for examples that are independent of each other, scored as in training."""

    def __init__(
        self, inputs: Tensor, targets: Tensor, tests: dict[str, tuple[Tensor, Tensor]], scores: ScoresOf, device: str = "cpu"
    ) -> None:
        """
        Args:
            inputs, targets: Of the training set (n, …), (n,).
            tests: The same of every split that is scored.
            scores: (split, outputs (n, …), targets (n,)) → metrics; the first is the headline.
        """
        self._inputs, self._targets, self._tests, self._scores, self._device = inputs, targets, tests, scores, device
        self._headline = self.majority()[0].metric

    @property
    def headline(self) -> str:
        return self._headline

    @torch.no_grad()
    def score(self, model: nn.Module, chips: int = 1) -> list[list[Score]]:
        scores: list[list[Score]] = [[] for _ in range(chips)]
        for split, (inputs, targets) in self._tests.items():
            parts = [
                model(torch.cat([part] * chips).to(self._device)).float().cpu().view(chips, len(part), -1)
                for part in inputs.split(AT_ONCE)
            ]
            for own, outputs in zip(scores, torch.cat(parts, 1), strict=True):
                own += self._of(split, outputs, targets)
        return scores

    def majority(self) -> list[Score]:
        shares = torch.bincount(self._targets) / len(self._targets)
        return [
            score
            for split, (_, targets) in self._tests.items()
            for score in self._of(split, shares.log().expand(len(targets), -1), targets)
        ]

    def _of(self, split: str, outputs: Tensor, targets: Tensor) -> list[Score]:
        metrics = self._scores(split, outputs.numpy(), targets.numpy())
        return [Score(split, metric, value, len(targets)) for metric, value in metrics.items()]

    def ranges(self, model: nn.Module, placement: Placement, calibration: Calibration) -> dict[str, Tensor]:
        chosen = torch.randperm(len(self._inputs), generator=generator("calibration examples"))[: calibration.examples]

        def look(inputs: Tensor, attention_mask: Tensor) -> None:
            model(inputs)

        return _ranges(look, model, {"inputs": self._inputs[chosen].to(self._device)}, placement, calibration)


def picture_scores(split: str, outputs: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """Accuracy [%] and cross-entropy [nats]."""
    loss = nn.functional.cross_entropy(torch.from_numpy(outputs), torch.from_numpy(classes)).item()
    return {"accuracy": 100 * float((outputs.argmax(1) == classes).mean()), "cross_entropy": loss}


def _ranges(
    look: Callable[..., None], model: nn.Module, batch: dict[str, Tensor], placement: Placement, calibration: Calibration
) -> dict[str, Tensor]:
    """`look` runs the model on `batch`."""
    mask = torch.ones(len(next(iter(batch.values()))), dtype=torch.int64)
    layers, batches = placement.layers(model), [{**batch, "attention_mask": mask}]
    rule = calibration.percentile, calibration.adc_headroom, calibration.deviations
    return calibrate_input_ranges(look, layers, placement, batches, *rule)
