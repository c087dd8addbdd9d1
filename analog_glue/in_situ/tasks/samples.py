"""Examples that a torch model with layers in situ learns one at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from analog_glue.in_situ.kernels.matvec import IO
from analog_glue.in_situ.nn.convert import InSituModel, to_torch
from analog_glue.in_situ.nn.layers import InSituOptimizer
from analog_glue.in_situ.nn.learner import Learner, Stream
from analog_glue.in_situ.training.loop import Trainable
from analog_glue.in_situ.training.mode import InSituMode
from analog_glue.seeding import generator

SCORED_AT_ONCE = 50  # examples
ROWS_OF_A_SCORE = 1 << 23  # more than an array has products in one score; part of what a test's noise is named by

Loss = Callable[[Tensor, Tensor], Tensor]  # (outputs (1, …), targets (1,)) → a number
Score = Callable[[str, np.ndarray, np.ndarray], dict[str, float]]  # (split, outputs (n, …), targets (n,)) → metrics


@dataclass(frozen=True)
class Data:
    """Tensors (n, …) to learn from, and inputs and targets of every split that is scored."""

    inputs: Tensor
    targets: Tensor
    tests: dict[str, tuple[Tensor, Tensor]]


class Samples(Trainable[InSituModel]):
    """Every epoch has an order of its own."""

    unit_size = 1

    def __init__(
        self, model: nn.Module, number: int, data: Callable[[], Data], test_sizes: tuple[int, int], loss: Loss, score: Score,
        mode: InSituMode, seed: int, unit: str, deploy: Callable[[nn.Module], nn.Module], uses: tuple[int, ...] = (),
        ready: bool = True,
    ) -> None:  # fmt: skip
        """
        Args:
            model: With layers in situ (`to_in_situ`).
            number: Examples to learn from.
            data: Fetches the data when they are needed first.
            test_sizes: How many examples of all splits are scored between epochs, each split up to so many, and at the end.
            deploy: Makes the whole model of a plain copy of `model`.
            uses, ready: See `Trainable`.
        """
        self.network, self.units, self.test_sizes = InSituModel(model.train()), number, test_sizes
        self.uses, self.ready = uses, ready
        self._fetch, self._deploy = data, deploy
        self.loss, self.score, self.scale, self.seed, self.unit = loss, score, mode.output_scale, seed, unit
        self._optimizer = InSituOptimizer(model, mode.learning_rate)
        self._order: tuple[int, list[int]] = (-1, [])

    @cached_property
    def data(self) -> Data:
        return self._fetch()

    def train(self, epoch: int, unit: int, rate: float) -> float:
        if self._order[0] != epoch:
            self._order = (epoch, torch.randperm(self.units, generator=generator(self.seed, "data order", epoch)).tolist())
        i = self._order[1][unit]
        self._optimizer.param_groups[0]["lr"] = rate * self.scale
        self._optimizer.zero_grad()
        loss = self.loss(self.network.model(self.data.inputs[i : i + 1]), self.data.targets[i : i + 1])
        loss.backward()
        self._optimizer.step()
        return loss.item()

    @torch.no_grad()
    def test(self, epoch: int, whole: bool) -> dict[str, float]:
        self.network.start_scores(epoch * ROWS_OF_A_SCORE)
        model = self.network.model.eval()
        scores: dict[str, float] = {}
        for split, (inputs, targets) in self.data.tests.items():
            number = self.test_sizes[whole]
            parts = [model(part) for part in inputs[:number].split(SCORED_AT_ONCE)]
            scores |= self.score(split, torch.cat(parts).numpy(), targets[:number].numpy())
        model.train()
        return scores

    def state(self) -> dict[str, np.ndarray]:
        return self.network.state()

    def on(self, learners: Sequence[Learner], forward: IO, stream: Stream) -> Self:
        other = super().on(learners, forward, stream)
        other.network = self.network.on(learners, forward, stream)
        return other

    def deployable(self, weights: list[np.ndarray]) -> nn.Module:
        """The whole model in plain torch with the given weights (outputs, inputs) of every array, as extraction writes them."""
        return self._deploy(to_torch(self.network.model, weights))
