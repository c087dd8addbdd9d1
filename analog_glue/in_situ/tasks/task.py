"""What a task for in-situ training is: data, and the network that learns it on pulsed devices."""

from __future__ import annotations

import gzip
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analog_glue.download import PublicFile, fetch
from analog_glue.runs.fingerprint import fingerprint_of_parts

if TYPE_CHECKING:
    from analog_glue.in_situ.devices.device import PulsedDevice
    from analog_glue.in_situ.training.loop import Trainable
    from analog_glue.in_situ.training.mode import InSituMode


class InSituTask(ABC):
    """Concrete tasks are frozen dataclasses whose fields are the keys of their yaml."""

    name: str

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The groups of the configuration that the task stands for, with their values."""

    @abstractmethod
    def check(self, data_root: str | None) -> None:
        """Raises ValueError within a few seconds where `load` would not find its data. Imports no torch."""

    @abstractmethod
    def load(
        self, data_root: str | None, mode: InSituMode, device: PulsedDevice, seed: int
    ) -> tuple[Trainable, dict[str, str]]:
        """The network with fresh devices and its data; {"source", "fingerprint"} of the data."""


def find_file(data_root: str | None, names: tuple[str, ...], public: PublicFile) -> Path:
    """The first of `names` below `data_root`; without a root the public file, downloaded unless it is in the user's cache.

    Raises:
        ValueError: none of the files, or no download.
    """
    if data_root is None:
        return fetch(public)
    places = [Path(data_root) / name for name in names]
    if found := next((place for place in places if place.is_file()), None):
        return found
    raise ValueError(
        f"Setting `data.root` must name a folder with {' or '.join(names)}, but is {data_root!r}. "
        "Write data.root=null to download."
    )


def fingerprint(*arrays: np.ndarray) -> str:
    """A hash of the data, whatever file they came in."""
    return fingerprint_of_parts(part for array in arrays for part in (f"{array.dtype.str}{array.shape}", array))


def read_idx(path: Path) -> np.ndarray:
    """An array of bytes from an idx file, packed with gzip or not."""
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    dimensions = content[3]
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
