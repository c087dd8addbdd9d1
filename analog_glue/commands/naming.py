"""What is asked for, as what names it: the identity of a training run and of a sweep, and the folder each lives in."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from analog_glue.kernels.products import choose_product
from analog_glue.nn.attention import Attention
from analog_glue.nn.computation import Computation
from analog_glue.nn.hardware import Hardware
from analog_glue.runs import legacy
from analog_glue.runs.folder import is_done
from analog_glue.runs.identity import Identity, Payload, resolved
from analog_glue.runs.lookup import Found, find_run
from analog_glue.runs.model_files import model_entries, same_network
from analog_glue.settings import RunSettings
from analog_glue.tasks.task import Task
from analog_glue.training.mode import TrainingMode


@dataclass(frozen=True)
class TrainingRequest:
    """All that determines trained weights; `start` is run.json of the run whose weights are the starting point."""

    settings: RunSettings
    task: Task
    model: Any  # models.PretrainedModel or models.TinyModel
    mode: TrainingMode
    attention: Attention
    hardware: Hardware
    computation: Computation
    config: dict[str, Any]  # resolved yaml
    data: str  # fingerprint
    start: dict[str, Any] | None

    @cached_property
    def identity(self) -> Identity:
        """Hardware, and how it is computed, count where training sees them."""
        files = self.model.folder()
        payload: Payload = {
            **resolved("task", self.task),
            "data": self.data,
            **resolved("model", self.model),
            **({} if files is None else model_entries(files)),
            **resolved("attention", self.attention),
            **resolved("training", self.mode),
            "seed": self.settings.seed,
        }
        if self.start is not None:
            payload["training.start_from"] = self.start["train_id"]
        if self.mode.uses_hardware:
            payload |= _on_paper(self.settings, self.hardware)
            payload["computation.products"] = sorted({self.computation.fine, self.computation.coarse})
            payload["computation.stream"] = self.computation.stream
        return Identity(payload)

    @property
    def recipe(self) -> str:
        """The id of the training without its seed, nor that of the run it starts from."""
        if self.start is None:
            return self.identity.recipe()
        return self.identity.recipe(**{"training.start_from": self.start.get("recipe") or self.start["train_id"]})

    def find(self, root: Path, stem: str) -> Found:
        """The folder; one of version 0.1.0 counts where its checkpoint has the network that is asked for."""
        files = self.model.folder()
        before = legacy.training_id(
            self.config,
            self.data,
            self.settings.seed,
            None if self.start is None else self.start["train_id"],
            self.settings.hardware if self.mode.uses_hardware else None,
            files if self.config["model"].get("path") else None,
        )

        def fits(folder: Path, record: dict[str, Any]) -> bool:
            if not self.attention.is_float32:  # version 0.1.0 had no other
                return False
            if self.mode.uses_hardware and not _computed_alike(record, self.settings, self.hardware, self.computation):
                return False
            return files is None or (is_done(folder) and same_network(folder, files, self.model.dropout))

        return find_run(root, stem, self.identity, before, fits)


@dataclass(frozen=True)
class SweepRequest:
    """All that determines the rows of a drift sweep."""

    settings: RunSettings
    attention: Attention
    hardware: Hardware
    computation: Computation
    config: dict[str, Any]  # resolved yaml
    train_id: str  # of the network
    data: str  # fingerprint

    @property
    def physics(self) -> Identity:
        """What determines the chips, the same for every network put on them and however they are computed."""
        evaluation = self.settings.evaluation
        used = {"evaluation.chip_seed": evaluation.chip_seed, "evaluation.token_budget": evaluation.token_budget}
        on_paper = {**resolved("attention", self.attention), **_on_paper(self.settings, self.hardware)}
        return Identity({**on_paper, "evaluation": "Evaluation", **used})

    @property
    def identity(self) -> Identity:
        """What determines the rows: products and noise as they are computed here, not as settings name them."""
        computed = {
            "computation.product": self.computation.product,
            "computation.weight_digits": self.computation.weight_digits,
            "computation.stream": self.computation.stream,
        }
        return Identity({**self.physics.payload, "training_run": self.train_id, "data": self.data, **computed})

    def find(self, root: Path, stem: str) -> Found:
        """The folder; one of version 0.1.0 counts where its last rows have the data and the kernel that are asked for."""
        evaluation = self.settings.evaluation
        before = legacy.hardware_id(self.config, self.settings.hardware, evaluation.chip_seed, evaluation.token_budget)

        def fits(folder: Path, record: dict[str, Any]) -> bool:
            alike = _computed_alike(record, self.settings, self.hardware, self.computation)
            return self.attention.is_float32 and alike and bool(record["data"]["fingerprint"] == self.data)

        return find_run(root, stem, self.identity, before, fits)


def _on_paper(settings: RunSettings, hardware: Hardware) -> Payload:
    groups = {"noise": hardware.device, "tile": hardware.crossbar, "hardware": settings.hardware}
    return {key: value for group, part in groups.items() for key, value in resolved(group, part).items()}


def _computed_alike(record: dict[str, Any], settings: RunSettings, hardware: Hardware, computation: Computation) -> bool:
    """Whether a run of version 0.1.0 was computed as this one would be, by what its run.json says."""
    floor, rows = hardware.noise_floor, hardware.crossbar.rows
    product = choose_product(settings.runtime.product, computation.where, floor, computation.kernel, rows)
    now = {"product": product, "kernel": computation.kernel, "device": computation.where}
    return all(record.get(name) == value for name, value in now.items())
