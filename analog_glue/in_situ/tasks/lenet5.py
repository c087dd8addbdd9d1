"""LeNet5 for pictures of 28 × 28, on pulsed devices (Gokmen, Onen & Haensch 2017): arrays 16×26, 32×401, 128×513, 10×129.

The first two arrays are used for every patch, 576 and 64 times a picture (weight reuse). A mode that reads its arrays after so
many samples counts pictures, so ns = 1 is 576 updates of the first array.
"""

import numpy as np
import torch
from torch import nn

from analog_glue.in_situ.devices.device import PulsedDevice
from analog_glue.in_situ.nn.convert import to_in_situ
from analog_glue.in_situ.tasks.samples import Data, Samples
from analog_glue.in_situ.training.mode import InSituMode
from analog_glue.seeding import key

REUSE = {"first": 24 * 24, "second": 8 * 8}


def lenet5(seed: int) -> nn.Sequential:
    """The network of torch with fresh weights."""
    with torch.random.fork_rng():
        torch.manual_seed(key(seed, "LeNet5"))
        layers = {
            "first": nn.Conv2d(1, 16, 5), "tanh": nn.Tanh(), "pool": nn.MaxPool2d(2),
            "second": nn.Conv2d(16, 32, 5), "tanh2": nn.Tanh(), "pool2": nn.MaxPool2d(2), "flat": nn.Flatten(),
            "third": nn.Linear(512, 128), "tanh3": nn.Tanh(), "fourth": nn.Linear(128, 10),
        }  # fmt: skip
        model = nn.Sequential()
        for name, layer in layers.items():
            model.add_module(name, layer)
    return model


def train_lenet5(
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], test_number: int, mode: InSituMode, device: PulsedDevice,
    seed: int,
) -> Samples:  # fmt: skip
    """LeNet5 with fresh devices, and what it learns.

    Args:
        arrays: Pictures float32 (n, 784) and classes int64 (n,) for training, the same for testing.
        test_number: How many test pictures are scored between epochs.
    """
    pictures, classes, test_pictures, test_classes = (torch.from_numpy(array) for array in arrays)
    model = to_in_situ(lenet5(seed), mode, device, seed, reuse=REUSE)
    data = Data(pictures.view(-1, 1, 28, 28), classes, {"test": (test_pictures.view(-1, 1, 28, 28), test_classes)})
    return Samples(
        model, len(pictures), lambda: data, (min(test_number, len(test_pictures)), len(test_pictures)),
        nn.functional.cross_entropy, _score, mode, seed, "image", lambda plain: plain, (*REUSE.values(), 1, 1),
    )  # fmt: skip


def _score(split: str, outputs: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """Accuracy [%] and cross-entropy [nats]."""
    loss = nn.functional.cross_entropy(torch.from_numpy(outputs), torch.from_numpy(classes))
    return {"accuracy": 100 * float((outputs.argmax(1) == classes).mean()), "cross_entropy": loss.item()}
