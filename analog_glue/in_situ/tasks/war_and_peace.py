"""War and Peace, character by character: LSTM2-64-WP of Gokmen et al. (2018) and Gokmen (2021).

3,258,246 bytes (iso-8859-1) of 87 kinds; the first 2,933,246 are learnt, the last 325,000 are the test set. Score: mean
cross-entropy per character [nats].
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analog_glue.download import PublicFile, require_available
from analog_glue.errors import require, require_argument
from analog_glue.in_situ.tasks.task import InSituTask, find_file, fingerprint
from analog_glue.runs.as_written import below

if TYPE_CHECKING:
    from analog_glue.in_situ.devices.device import PulsedDevice
    from analog_glue.in_situ.training.mode import InSituMode

FILES = ("warpeace/warpeace_input.txt", "warpeace_input.txt")
PUBLIC = PublicFile(  # the text that came with the char-rnn of A. Karpathy
    "warpeace/warpeace_input.txt",
    "fb66ba999dafe24017cdd59e04c56d385a9c8466993d374fd4c6f08b2142985e",
    ("https://cs.stanford.edu/people/karpathy/char-rnn/warpeace_input.txt",),
)
TEST_CHARACTERS = 325_000


@dataclass(frozen=True)
class WarAndPeace(InSituTask):
    """See the module."""

    layers: int = 2
    hidden: int = 64
    sequence: int = 100  # characters through which errors go back
    train_characters: int | None = None  # use only the first of them; null: all
    test_characters: int = 32_500  # scored after every epoch; the whole test set after the last
    name: str = "war_and_peace"

    def __post_init__(self) -> None:
        for field in ("layers", "hidden", "sequence", "test_characters"):
            require_argument(getattr(self, field) >= 1, field, "be at least 1", getattr(self, field))
        require_argument(self.hidden % 16 == 0, "hidden", "be a multiple of 16", self.hidden)
        known = self.train_characters is None or self.train_characters > self.sequence
        require_argument(known, "train_characters", "be null or longer than a sequence", self.train_characters)

    def config(self) -> dict[str, Any]:
        return {"task": asdict(self)}

    def check(self, data_root: str | None) -> None:
        require_available([PUBLIC]) if data_root is None else self._file(data_root)

    def load(self, data_root: str | None, mode: InSituMode, device: PulsedDevice, seed: int) -> tuple[Any, dict[str, str]]:
        from analog_glue.in_situ.tasks.characters import Characters

        path = self._file(data_root)
        content = np.frombuffer(path.read_bytes(), np.uint8)
        symbols, text = np.unique(content, return_inverse=True)
        text = text.astype(np.int64)
        train = text[: len(text) - TEST_CHARACTERS][: self.train_characters]
        facts = {"source": below(data_root, path), "fingerprint": fingerprint(content)}
        test = text[len(text) - TEST_CHARACTERS :]
        trainable = Characters(
            train, test, len(symbols), self.hidden, self.layers, self.sequence, self.test_characters, mode, device, seed
        )
        return trainable, facts

    def _file(self, data_root: str | None) -> Path:
        """Raises UserError where it is not there, or leaves no sequence to learn beside the test set."""
        path = find_file(data_root, FILES, PUBLIC)
        least, there = TEST_CHARACTERS + self.sequence + 1, path.stat().st_size
        require(there >= least, "data.root", f"hold a text of at least {least:,} bytes, of which the last {TEST_CHARACTERS:,} "
                "are the test set", f"{path} with {there:,} bytes", "Take the whole text, warpeace_input.txt.")  # fmt: skip
        return path
