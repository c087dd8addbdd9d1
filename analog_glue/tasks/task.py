"""What a task is: sentences with labels, the official score, and batches that pad as little as possible."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analog_glue.errors import UserError, require_argument
from analog_glue.runs.fingerprint import fingerprint_of_parts
from analog_glue.tasks import metrics as metric_functions

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

TOKENIZED_AT_ONCE = 16384  # examples; bounds the memory of the tokenizer's own objects on 400,000 rows


@dataclass(frozen=True)
class Split:
    """Examples of one split: one or two sentences each, and class indices or (regression) grades."""

    texts: list[tuple[str, ...]]
    labels: list[int] | list[float]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class RawData:
    """A task's text. Validation splits stand in the order they are reported; the first carries the headline
    metric.

    `source` says where the data came from (a path as the user wrote it, or hub id@revision); `fingerprint` is
    a hash of the text and labels, so the same data give the same fingerprint whatever files they came in.
    """

    train: Split
    validation: dict[str, Split]
    source: str
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fingerprint", _fingerprint({"train": self.train, **self.validation}))


class Task(ABC):
    """Sentences to classify (`labels` names the classes) or to grade (`labels` is empty: regression)."""

    trained_on: ClassVar[tuple[str, ...]] = ("tiles", "devices")  # what a training mode may train it on
    sections: ClassVar[tuple[str, ...]] = ("model",)  # of the configuration that it uses

    name: str
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    headline: str  # the metric that papers report and that checkpoints are selected by
    max_length: int  # [tokens] longer examples are truncated

    @property
    def num_labels(self) -> int:
        """Outputs of the classification head; 1 means regression."""
        return len(self.labels) or 1

    @abstractmethod
    def check(self, data_root: str | None) -> None:
        """Raises UserError within two seconds where `load` would not find its data. Imports no torch."""

    @abstractmethod
    def load(self, data_root: str | None) -> RawData:
        """The task's data, from the local folder `data_root` or (None) from where the task keeps it."""

    def score(self, split: str, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Every metric of the task, in points (100 × the metric).

        Args:
            split: Key of `RawData.validation`. The second of two splits is told apart by a suffix:
                "validation_mismatched" gives "accuracy_mismatched".
            logits: Outputs of the model (examples, `num_labels`).
            labels: Class indices or grades (examples,).
        """
        logits, labels = np.asarray(logits), np.asarray(labels)
        if logits.shape != (len(labels), self.num_labels):
            raise ValueError(f"Argument `logits` must have shape ({len(labels)}, {self.num_labels}), but has {logits.shape}.")
        if not np.isfinite(logits).all():
            raise UserError("Argument `logits` must be finite, but holds nan or infinity. Check the noise settings.")
        known = metric_functions.CLASSIFICATION if self.labels else metric_functions.REGRESSION
        predictions = logits.argmax(axis=1) if self.labels else logits[:, 0].astype(np.float64)
        suffix = "_mismatched" if split.endswith("_mismatched") else ""
        return {metric + suffix: known[metric](predictions, labels) for metric in self.metrics}

    def majority(self, raw: RawData) -> dict[str, dict[str, float]]:
        """Scores {split: {metric: points}} of always giving the training set's commonest class or mean."""
        if self.labels:
            counts = np.bincount(raw.train.labels, minlength=self.num_labels)
            answer = np.eye(self.num_labels)[counts.argmax()]
        else:
            answer = np.array([np.mean(raw.train.labels)])
        return {
            split: self.score(split, np.tile(answer, (len(data), 1)), np.array(data.labels))
            for split, data in raw.validation.items()
        }


def check_fields(task: Task) -> None:
    """Raises WrongArgument for a field that no task can have."""
    known = metric_functions.CLASSIFICATION if task.labels else metric_functions.REGRESSION
    kind = "classes" if task.labels else "grades"
    metrics, labels = list(task.metrics), list(task.labels)
    named = re.fullmatch(r"[a-z0-9][a-z0-9_]*", task.name) is not None
    require_argument(named, "name", "consist of lower-case letters, digits and _", task.name)
    fits = bool(metrics) and set(metrics) <= set(known)
    require_argument(fits, "metrics", f"name metrics of {kind} ({', '.join(known)})", metrics)
    require_argument(task.headline in metrics, "headline", f"be one of `metrics` = {metrics}", task.headline)
    differ = len(labels) != 1 and len(set(labels)) == len(labels)
    require_argument(differ, "labels", "name two or more different classes, or none for regression", labels)
    two = "f1" not in metrics or len(labels) == 2
    require_argument(two, "metrics", f"not hold f1, which needs two classes, with {len(labels)}", metrics)
    marks = "A pair of sentences needs three marks of the tokenizer's own."
    require_argument(task.max_length >= 8, "max_length", "be at least 8 tokens", task.max_length, marks)


@dataclass(frozen=True)
class Encoded:
    """Tokenized examples of one split, not yet padded."""

    input_ids: list[list[int]]
    token_type_ids: list[list[int]] | None  # None for encoders without segment embeddings
    labels: torch.Tensor  # (examples,) int64 class indices, or float32 grades
    pad_id: int
    pad_left: bool = False  # for a head that reads the last position

    def __len__(self) -> int:
        return len(self.input_ids)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each example (examples,)."""
        return np.fromiter(map(len, self.input_ids), dtype=np.int64, count=len(self.input_ids))

    def batch(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """The arguments of a Hugging Face model for the examples `indices`, padded to the longest of them."""
        import torch

        shape = (len(indices), max(len(self.input_ids[i]) for i in indices))
        input_ids = np.full(shape, self.pad_id, dtype=np.int64)
        token_type_ids = np.zeros(shape, dtype=np.int64)
        attention_mask = np.zeros(shape, dtype=np.int64)
        for row, i in enumerate(indices):
            length = len(self.input_ids[i])
            text = slice(shape[1] - length, None) if self.pad_left else slice(length)
            input_ids[row, text] = self.input_ids[i]
            attention_mask[row, text] = 1
            if self.token_type_ids is not None:
                token_type_ids[row, text] = self.token_type_ids[i]
        arrays = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self.token_type_ids is not None:
            arrays["token_type_ids"] = token_type_ids
        inputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return inputs | {"labels": self.labels[torch.as_tensor(indices, dtype=torch.int64)]}


def encode(split: Split, tokenizer: PreTrainedTokenizerBase, max_length: int, num_labels: int) -> Encoded:
    """Tokenizes a split, truncating the longer sentence first to `max_length` tokens.

    Segment ids are kept where the tokenizer lists them among its model inputs (`analog_glue.models` sets that
    list by what the encoder has). The tokenizer's compiled part is called directly: half the time of the
    wrapper. A tokenizer without one (BERTweet's) is called itself.
    """
    import torch

    compiled = tokenizer.backend_tokenizer if tokenizer.is_fast else None
    segments = "token_type_ids" in tokenizer.model_input_names
    input_ids: list[list[int]] = []
    token_type_ids: list[list[int]] = []
    if compiled is not None:
        compiled.no_padding()
        compiled.enable_truncation(max_length, strategy="longest_first")
    for start in range(0, len(split), TOKENIZED_AT_ONCE):
        texts = [text[0] if len(text) == 1 else text for text in split.texts[start : start + TOKENIZED_AT_ONCE]]
        if compiled is None:
            for text in texts:
                sentences = (text,) if isinstance(text, str) else text
                encoding = tokenizer(
                    *sentences, truncation="longest_first", max_length=max_length, return_token_type_ids=segments
                )
                input_ids.append(encoding["input_ids"])
                if segments:
                    token_type_ids.append(encoding["token_type_ids"])
            continue
        encodings = compiled.encode_batch_fast(texts)
        input_ids.extend(encoding.ids for encoding in encodings)
        if segments:
            token_type_ids.extend(encoding.type_ids for encoding in encodings)
    if compiled is not None:
        compiled.no_truncation()  # a tokenizer saved later must not carry this task's length
    return Encoded(
        input_ids=input_ids,
        token_type_ids=token_type_ids if segments else None,
        labels=torch.tensor(split.labels, dtype=torch.float32 if num_labels == 1 else torch.int64),
        pad_id=tokenizer.pad_token_id,
        pad_left=tokenizer.padding_side == "left",
    )


def evaluation_batches(encoded: Encoded, token_budget: int) -> list[list[int]]:
    """Every example once, in batches of similar length whose padded size is at most `token_budget` tokens.

    Examples of equal length keep their order. An example longer than the budget forms its own batch.
    """
    require_argument(token_budget >= 1, "token_budget", "be at least 1 token", token_budget)
    batches: list[list[int]] = []
    for i in np.argsort(encoded.lengths, kind="stable").tolist():
        # Lengths ascend, so the newcomer is the longest of its batch.
        if batches and (len(batches[-1]) + 1) * encoded.lengths[i] <= token_budget:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def training_batches(n: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Batches of `n` examples in random order, the last maybe smaller; depends on (seed, epoch) alone."""
    import torch

    from analog_glue.seeding import generator

    require_argument(batch_size >= 1, "batch_size", "be at least 1 example", batch_size)
    order = torch.randperm(n, generator=generator(seed, "data order", epoch)).tolist()
    return [order[start : start + batch_size] for start in range(0, n, batch_size)]


def _fingerprint(splits: dict[str, Split]) -> str:
    return fingerprint_of_parts(
        part
        for name, split in splits.items()
        for part in (
            f"{name}\x1d{len(split)}\x1d",
            "\x1e".join("\x1f".join(text) for text in split.texts),
            np.asarray(split.labels, dtype=np.float64),
        )
    )
