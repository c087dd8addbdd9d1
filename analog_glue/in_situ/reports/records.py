"""What in-situ runs leave behind, read back from their files: settings, learning curves, extractions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analog_glue.in_situ.files import (
    ARRAY_ERROR,
    CHANGES_NOTHING,
    CONFIG,
    CURVE,
    EXTRACTION,
    PERTURBATION,
    PRUNING,
    RUN,
)
from analog_glue.reports.grids import NO_DEVICE
from analog_glue.runs.cells import Cells, read_cells
from analog_glue.runs.files import read_json
from analog_glue.runs.folder import files_of_runs
from analog_glue.runs.spoiled import leaving_out

TEST_PART = "task.test_"  # settings that say which part of the test set is scored between epochs


SHORTENING = ("task.train_characters", "task.train_images")  # settings that leave out a part of the training set; null: none


@dataclass(frozen=True)
class Extraction:
    """One `extraction.json`, with the tables beside it."""

    name: str
    seed: int
    inputs: str  # uniform | one_hot
    products: int
    epoch: int  # of the state that was read; whole epochs
    time: float  # [s] for which the arrays were left to drift before
    scores: dict[str, dict[str, float]]  # weights and where they run → metric → value
    pruning: list[Cells]
    perturbation: list[Cells]
    averaged: list[dict[str, int]]  # of every array: by how many products its mean was got, and of how many looks

    def origin(self, weights: str) -> str:
        """How "extracted" or "averaged" weights were got, in words; empty for others and where no record tells."""
        if weights == "extracted":
            return f"by {self.products:,} products" if self.inputs == "uniform" else f"by {self.products:,} one-hot reads"
        if weights != "averaged" or not self.averaged:
            return ""
        products = max(mean.get("products", 0) for mean in self.averaged)
        return f"by {products:,} products" if products else f"exact mean of {self.averaged[0].get('looks', 0):,} looks"

    @property
    def best_score(self) -> str:
        """Averaged weights in digital, else the extracted ones, in words."""
        name = "averaged, digital" if "averaged, digital" in self.scores else "extracted, digital"
        scores = ", ".join(f"{metric} {value:.4g}" for metric, value in self.scores.get(name, {}).items())
        return f"{name} after epoch {self.epoch}: {scores}"


@dataclass(frozen=True)
class InSituRun:
    """One training run on pulsed devices.

    Args:
        task, device, training: Options of the config groups (class names where no command line chose them).
        settings: Everything else that was chosen and is not null, flat ("device.dw_min"), without what changes nothing, and
            "data", a fingerprint of what was learnt, without what the seed draws.
        epochs: How many were asked for; `curve` has as many rows as are finished.
        curve: Rows of the learning curve, numbers as floats; `whole_test_set` is 0 or 1 (1 where there is no part of it).
    """

    folder: Path
    task: str
    device: str
    training: str
    model: str
    seed: int
    settings: dict[str, object]
    epochs: int
    curve: list[dict[str, float]]
    extractions: list[Extraction]

    @property
    def metrics(self) -> list[str]:
        """Names of the scores, in the order in which they were written."""
        around = ("epoch", "train_loss", "whole_test_set", "seconds")
        return [name for name in (self.curve[-1] if self.curve else {}) if name not in around]

    @property
    def last_score(self) -> str:
        """In words, for a list of runs."""
        if not self.curve:
            return f"epoch 0 of {self.epochs}"
        last = self.curve[-1]
        scores = ", ".join(f"{name} {last[name]:.4g}" for name in self.metrics)
        return f"epoch {last['epoch']:.0f} of {self.epochs}: {scores}"


def find_runs(root: Path | str, left_out: list[str] | None = None) -> list[InSituRun]:
    """Every in-situ run at or below `root`, in the order of the paths; runs of other trainings are left out.

    Args:
        left_out: Takes the runs whose files cannot be read, and why; None: the first of them is raised.
    """
    runs = []
    for file in files_of_runs(root, CONFIG):
        with leaving_out(left_out, file):
            runs += [run] if (run := _run(file)) is not None else []
    return runs


def _run(file: Path) -> InSituRun | None:
    """Of its configuration `file` and what lies beside it; None for a run of another training."""
    folder, config = file.parent, read_json(file)
    if "periphery" not in (config.get("training") or {}):  # of pulsed arrays
        return None
    run = read_json(folder / RUN)
    choices = run.get("choices") or {}
    chosen: dict[str, object] = {}
    for group in ("task", "model", "device", "training"):
        used = group != "device" or choices.get("device") != NO_DEVICE
        if used and isinstance(config.get(group), dict):
            counts = {name: v for name, v in config[group].items() if name not in CHANGES_NOTHING.get(group, ())}
            chosen |= {f"{group}.{name}": v for name, v in _flat(counts).items() if v is not None}
    curve = [{name: _number(cell) for name, cell in cells.items()} for cells in read_cells(folder / CURVE)]
    if any(not {"epoch", "train_loss"} <= row.keys() for row in curve):
        raise ValueError(f"{CURVE} must have the columns epoch and train_loss")
    if not any(name.startswith(TEST_PART) for name in chosen):
        curve = [row | {"whole_test_set": 1.0} for row in curve]
    data = run.get("data") or {}
    return InSituRun(
        folder=folder,
        task=str(choices.get("task", config["task"].get("name", ""))),
        device=str(choices.get("device", "")),
        training=str(choices.get("training", "")),
        model=str(choices.get("model", "")) if isinstance(config.get("model"), dict) else "",
        seed=int(config.get("seed", 0)),
        settings=chosen | {"data": str(data.get("without_seed") or data.get("fingerprint", ""))[:6]},
        epochs=int(config["training"].get("epochs", 0)),
        curve=curve,
        extractions=[_extraction(record) for record in sorted(folder.glob(f"*/{EXTRACTION}"))],
    )


def find_array_errors(root: Path | str, left_out: list[str] | None = None) -> list[tuple[Cells, list[Cells]]]:
    """Of every random array at or below `root`: what was chosen of it, in words, and the rows of its `extraction_error.csv`.

    Args:
        left_out: See `find_runs`.
    """
    found = []
    for file in files_of_runs(root, ARRAY_ERROR):
        with leaving_out(left_out, file):
            chosen = (read_json(file.with_name(RUN)).get("extract") or {}).get("array") or {}
            own = {"run": file.parent.name}
            rows = [
                {**cells, "products": str(int(cells["products"])), "error": cells["error"], **own} for cells in read_cells(file)
            ]
            found.append(({name: in_words(value) for name, value in _flat(chosen).items()}, rows))
    return found


def in_words(value: object) -> str:
    """A setting as tables show it."""
    if value is None:
        return "null"
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if type(value) is int else str(value)  # a bool is an int, too


def _extraction(file: Path) -> Extraction:
    record = read_json(file)
    return Extraction(
        name=file.parent.name,
        seed=int(record.get("seed", 0)),
        inputs=str(record.get("inputs", "")),
        products=int(record.get("products", 0)),
        epoch=int(record.get("epoch", 0)),
        time=float(record.get("time") or 0),
        scores={name: {metric: float(v) for metric, v in of.items()} for name, of in (record.get("scores") or {}).items()},
        pruning=read_cells(file.with_name(PRUNING)),
        perturbation=read_cells(file.with_name(PERTURBATION)),
        averaged=[dict(mean) for mean in record.get("averaged") or []],
    )


def _number(cell: str) -> float:
    return float(cell == "True") if cell in ("True", "False") else float(cell or "nan")


def _flat(node: Mapping[str, Any], above: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in node.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{above}{name}.")
        elif name != "_target_":
            flat[f"{above}{name}"] = tuple(value) if isinstance(value, list) else value
    return flat
