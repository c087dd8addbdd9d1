"""Heads in situ: pooler and classifier on pulsed devices learn from what a frozen pretrained encoder makes of the sentences.

    features = encoder(sentence)[first token]         computed once, in digital float32, and kept on disk
    outputs  = classifier(activation(pooler(features)))          two arrays, one example after another

Dropout is off. The features of a task, a text and an encoder are shared by all runs below one folder, whatever their seed and
settings.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analog_glue.errors import require
from analog_glue.in_situ.tasks.task import InSituTask
from analog_glue.models import LoadedModel, PretrainedModel, TinyModel
from analog_glue.progress import Progress
from analog_glue.runs.fingerprint import canonical, fingerprint_of_parts
from analog_glue.runs.model_files import architecture_of
from analog_glue.tasks.task import Encoded, RawData, Task, encode, evaluation_batches

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from analog_glue.in_situ.devices.device import PulsedDevice
    from analog_glue.in_situ.tasks.samples import Data, Samples
    from analog_glue.in_situ.training.mode import InSituMode

TOKENS_AT_ONCE = 4096  # padded tokens of one batch through the encoder


@dataclass(frozen=True)
class Head:
    """What follows an encoder: names of its two linear layers, and the class of torch.nn between them."""

    first: str
    activation: str
    last: str


HEADS = {  # by `model_type` of transformers
    "bert": Head("bert.pooler.dense", "Tanh", "classifier"),
    "albert": Head("albert.pooler", "Tanh", "classifier"),
    "roberta": Head("classifier.dense", "Tanh", "classifier.out_proj"),
    "distilbert": Head("pre_classifier", "ReLU", "classifier"),
}


@dataclass(frozen=True)
class HeadTask(InSituTask):
    """A task for whole models (GLUE, demo) as one for in-situ training of the head."""

    task: Task
    model: PretrainedModel | TinyModel
    cache: Path  # folder of the features
    name: str = field(init=False)  # that of the task

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.task.name)

    def config(self) -> dict[str, Any]:
        task: Any = self.task  # every concrete one is a dataclass
        return {"task": asdict(task), "model": asdict(self.model)}

    def check(self, data_root: str | None) -> None:
        self.task.check(data_root)
        self.model.check()
        kind = self.model.kind()
        _require_head(kind) if kind else None

    def load_sentences(self, data_root: str | None, seed: int) -> tuple[RawData, LoadedModel]:
        """The text, and the encoder with the head that in-situ training begins with."""
        raw = self.task.load(data_root)
        return raw, self.model.load(self.task.num_labels, seed, texts=raw.train.texts, classes=self.task.labels)

    def load(self, data_root: str | None, mode: InSituMode, device: PulsedDevice, seed: int) -> tuple[Samples, dict[str, str]]:
        import torch
        from torch import nn

        from analog_glue.in_situ.nn.convert import to_in_situ
        from analog_glue.in_situ.tasks.samples import Samples

        raw, loaded = self.load_sentences(data_root, seed)
        names = _require_head(loaded.model.config.model_type)
        head = nn.Sequential(
            copy.deepcopy(loaded.model.get_submodule(names.first)), getattr(nn, names.activation)(),
            copy.deepcopy(loaded.model.get_submodule(names.last)),
        )  # fmt: skip
        identity = fingerprint_of_parts([raw.fingerprint, str(self.task.max_length), _fingerprint(loaded.model.base_model)])
        # Equal weights may be those of another architecture, or see other tokens.
        network = canonical(architecture_of(loaded.model.config.to_dict())), loaded.tokenizer.backend_tokenizer.to_str()
        folder = self.cache / f"{self.name}-{self.model.short}-{fingerprint_of_parts([identity, *network])}"
        files = {split: folder / f"{split}.safetensors" for split in ("train", *raw.validation)}

        def features() -> Data:
            from analog_glue.in_situ.tasks.samples import Data

            splits = {}
            for split, texts in {"train": raw.train, **raw.validation}.items():
                encoded = encode(texts, loaded.tokenizer, self.task.max_length, self.task.num_labels)
                splits[split] = (kept_features(loaded.model, encoded, files[split], split), encoded.labels)
            inputs, targets = splits.pop("train")
            return Data(inputs, targets, splits)

        loss = _squared_error if self.task.num_labels == 1 else torch.nn.functional.cross_entropy
        tests = sum(len(split) for split in raw.validation.values())
        trainable = Samples(
            to_in_situ(head, mode, device, seed), len(raw.train), features, (tests, tests), loss, self.task.score, mode, seed,
            "example", partial(_with_head, loaded.model, names), ready=all(file.is_file() for file in files.values()),
        )  # fmt: skip
        data = {"source": raw.source, "fingerprint": fingerprint_of_parts([raw.fingerprint, identity]), "model": loaded.source}
        if isinstance(self.model, TinyModel):  # the seed draws the encoder
            data["without_seed"] = fingerprint_of_parts([raw.fingerprint])
        return trainable, data


def kept_features(model: PreTrainedModel, encoded: Encoded, file: Path, split: str) -> Tensor:
    """The encoder's output at the first token of every example, float32 (examples, width); from `file` if it is there."""
    import torch

    from analog_glue.runs.tensors import load_tensors, save_tensors

    if file.is_file():
        return load_tensors(file)[0]["features"]
    features = torch.empty(len(encoded), model.config.hidden_size)
    for batch, found in _through(model, encoded, f"features of {split}"):
        features[batch] = found
    file.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(file, {"features": features})
    return features


def _through(model: PreTrainedModel, encoded: Encoded, what: str) -> Iterable[tuple[list[int], Tensor]]:
    """Batches of examples and their features, with progress."""
    import torch

    encoder = model.base_model.eval()
    with Progress(what, len(encoded), "example") as progress, torch.no_grad():
        for batch in evaluation_batches(encoded, TOKENS_AT_ONCE):
            inputs = {name: tensor for name, tensor in encoded.batch(batch).items() if name != "labels"}
            yield batch, encoder(**inputs).last_hidden_state[:, 0].float()
            progress.update(len(batch))


def _require_head(kind: str) -> Head:
    known = f"an encoder whose head is known ({', '.join(HEADS)})"
    require(kind in HEADS, "model", f"be {known} with in-situ training", kind, "Choose another model.")
    return HEADS[kind]


def _with_head(model: PreTrainedModel, names: Head, head: nn.Sequential) -> PreTrainedModel:
    """A copy of the whole `model` with the two linear layers of a plain `head`."""
    whole = copy.deepcopy(model)
    whole.set_submodule(names.first, head[0])
    whole.set_submodule(names.last, head[2])
    return whole.eval()


def _squared_error(outputs: Tensor, grades: Tensor) -> Tensor:
    return (outputs[:, 0] - grades).square().mean()


def _fingerprint(encoder: nn.Module) -> str:
    """A hash of all weights of an encoder."""
    return fingerprint_of_parts(parameter.detach().numpy() for _, parameter in sorted(encoder.named_parameters()))
