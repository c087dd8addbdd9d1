"""Pictures of digits for a fully connected network, one image at a time: MNIST from its idx files, or scikit-learn's digits.

FC-MNIST is 784-256-128-10 with logistic sigmoids (Gokmen & Vlasov 2016). Scores: accuracy [%] and cross-entropy [nats].
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analog_glue.download import PublicFile, require_available
from analog_glue.errors import require_argument
from analog_glue.in_situ.tasks.task import InSituTask, find_file, fingerprint, read_idx
from analog_glue.runs.as_written import below

if TYPE_CHECKING:
    from analog_glue.in_situ.devices.device import PulsedDevice
    from analog_glue.in_situ.training.mode import InSituMode

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist")
IDX_FILES = {  # MNIST of LeCun, Cortes and Burges, with the SHA-256 of the packed file
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


def public_files() -> list[PublicFile]:
    """The four idx files, packed."""
    return [
        PublicFile(f"mnist/{name}.gz", sha256, tuple(f"{mirror}/{name}.gz" for mirror in MIRRORS))
        for name, sha256 in IDX_FILES.items()
    ]


@dataclass(frozen=True)
class _Images(InSituTask):
    hidden: tuple[int, ...] = (256, 128)  # sizes of the hidden layers
    train_images: int | None = None  # use only the first of them; null: all
    test_images: int = 2000  # scored after every epoch; the whole test set after the last

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))  # yaml gives lists
        require_argument(all(n >= 1 for n in self.hidden), "hidden", "hold sizes of at least 1", self.hidden)
        require_argument(self.test_images >= 1, "test_images", "be at least 1", self.test_images)
        known = self.train_images is None or self.train_images >= 1
        require_argument(known, "train_images", "be at least 1 or null", self.train_images)

    def config(self) -> dict[str, Any]:
        return {"task": asdict(self)}

    @abstractmethod
    def _read(self, data_root: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, str]:
        """Images (n, inputs) in [0, 1] and classes for training, the same for testing, and where they came from."""

    def load(self, data_root: str | None, mode: InSituMode, device: PulsedDevice, seed: int) -> tuple[Any, dict[str, str]]:
        from analog_glue.in_situ.tasks.pictures import Images

        *data, source = self._read(data_root)
        images, classes, test_images, test_classes = data
        trainable = Images(
            images[: self.train_images], classes[: self.train_images], test_images, test_classes, self.hidden, self.test_images,
            mode, device, seed,
        )  # fmt: skip
        return trainable, {"source": source, "fingerprint": fingerprint(*data)}


@dataclass(frozen=True)
class Mnist(_Images):
    """60,000 images of 28 × 28 for training and 10,000 for testing, from the four idx files."""

    name: str = "mnist"

    def check(self, data_root: str | None) -> None:
        require_available(public_files()) if data_root is None else self._files(data_root)

    def _read(self, data_root: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, str]:
        files = self._files(data_root)
        images, classes, test_images, test_classes = (read_idx(file) for file in files)

        def scaled(pictures: np.ndarray) -> np.ndarray:
            return pictures.reshape(len(pictures), -1).astype(np.float32) / 255

        source = below(data_root, files[0].parent)
        return scaled(images), classes.astype(np.int64), scaled(test_images), test_classes.astype(np.int64), source

    def _files(self, data_root: str | None) -> list[Path]:
        return [
            find_file(data_root, tuple(f"{folder}{name}{end}" for folder in ("mnist/", "") for end in ("", ".gz")), public)
            for name, public in zip(IDX_FILES, public_files(), strict=True)
        ]


@dataclass(frozen=True)
class Digits(_Images):
    """1,797 images of 8 × 8 that come with scikit-learn; every fifth is kept for testing."""

    hidden: tuple[int, ...] = (32,)
    name: str = "digits"

    def check(self, data_root: str | None) -> None:
        """Nothing to find: the images come with scikit-learn."""

    def _read(self, data_root: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, str]:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        images, classes = (bunch.data / 16).astype(np.float32), bunch.target.astype(np.int64)
        test = np.arange(len(images)) % 5 == 0
        return images[~test], classes[~test], images[test], classes[test], "scikit-learn"


@dataclass(frozen=True)
class MnistLeNet5(InSituTask):
    """The same images for LeNet5, a convolutional network."""

    train_images: int | None = None  # use only the first of them; null: all
    test_images: int = 2000  # scored after every epoch; the whole test set after the last
    name: str = "mnist_lenet5"

    def __post_init__(self) -> None:
        self._images  # noqa: B018  # refuses what `Mnist` refuses

    @property
    def _images(self) -> Mnist:
        return Mnist(train_images=self.train_images, test_images=self.test_images, name=self.name)

    def config(self) -> dict[str, Any]:
        return {"task": asdict(self)}

    def check(self, data_root: str | None) -> None:
        self._images.check(data_root)

    def load(self, data_root: str | None, mode: InSituMode, device: PulsedDevice, seed: int) -> tuple[Any, dict[str, str]]:
        from analog_glue.in_situ.tasks.lenet5 import train_lenet5

        images, classes, test_images, test_classes, source = self._images._read(data_root)
        data = images[: self.train_images], classes[: self.train_images], test_images, test_classes
        trainable = train_lenet5(data, self.test_images, mode, device, seed)
        return trainable, {"source": source, "fingerprint": fingerprint(images, classes, test_images, test_classes)}
