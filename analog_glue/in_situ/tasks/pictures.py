"""Pictures that a fully connected network on pulsed devices learns to classify, one image at a time."""

import numpy as np
import torch
from torch import nn

from analog_glue.in_situ.devices.device import PulsedDevice
from analog_glue.in_situ.nn import perceptron, plain
from analog_glue.in_situ.training.loop import Trainable
from analog_glue.in_situ.training.mode import InSituMode
from analog_glue.seeding import generator


class Images(Trainable[perceptron.InSituPerceptron]):
    """Images are float32 (n, pixels), classes int64 (n,); every epoch has an order of its own."""

    unit, unit_size = "image", 1

    def __init__(
        self, images: np.ndarray, classes: np.ndarray, test_images: np.ndarray, test_classes: np.ndarray,
        hidden: tuple[int, ...], test_number: int, mode: InSituMode, device: PulsedDevice, seed: int,
    ) -> None:  # fmt: skip
        """Args: test_number: How many test images are scored between epochs."""
        self.images, self.classes, self.test_images, self.test_classes = images, classes, test_images, test_classes
        self.seed, self.units = seed, len(images)
        self.test_sizes = min(test_number, len(test_images)), len(test_images)
        self.network = perceptron.make(
            [images.shape[1], *hidden, int(classes.max()) + 1],
            lambda values, number: mode.learner(device, values, seed, number),
            mode.output_scale, seed, mode.periphery.forward, mode.periphery.backward,
        )  # fmt: skip
        self._order: tuple[int, list[int]] = (-1, [])

    def train(self, epoch: int, unit: int, rate: float) -> float:
        if self._order[0] != epoch:
            self._order = (epoch, torch.randperm(self.units, generator=generator(self.seed, "data order", epoch)).tolist())
        i = self._order[1][unit]
        return self.network.train(self.images[i], int(self.classes[i]), rate, epoch * self.units + unit)

    def test(self, epoch: int, whole: bool) -> dict[str, float]:
        number = self.test_sizes[whole]
        step = epoch * len(self.test_images)
        loss, share = self.network.test(self.test_images[:number], self.test_classes[:number], step)
        return {"accuracy": 100 * share, "cross_entropy": loss}

    def state(self) -> dict[str, np.ndarray]:
        learners = enumerate(self.network.learners)
        return {f"{number}.{name}": array for number, learner in learners for name, array in learner.state().items()}

    def deployable(self, weights: list[np.ndarray]) -> nn.Module:
        return plain.perceptron(weights)
