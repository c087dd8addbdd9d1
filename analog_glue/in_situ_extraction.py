"""One straight function for the command `extract`: a run's weights out of its arrays by noisy products, and their scores.

It reads the state of an in-situ run, finished or not, and writes into `<run>/extraction-<inputs>-<products>-seed<seed>/`

    extracted.safetensors   "0" … "n": float32 (outputs, inputs), in units of the network's weights
    averaged.safetensors    the same of the mean over the last epochs, where training collected it (training/averaging.py)
    extraction.json         products, errors of every array, scores

Scores are those of the task's whole test set: of the arrays themselves, of the extracted weights in digital float32, and of the
extracted weights on fresh arrays, written without error as far as each device's bounds allow (Gokmen 2021, Table 1).
"""

import math
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from analog_glue.devices.pulsed.device import PulsedDevice
from analog_glue.extraction import Regression, extract, extract_one_hot
from analog_glue.in_situ import run_of
from analog_glue.kernels.matvec import PERFECT
from analog_glue.nn.in_situ.learner import Fixed, Stream
from analog_glue.results import provenance, write_json_atomic
from analog_glue.seeding import key
from analog_glue.settings import RunSettings
from analog_glue.tasks.in_situ import InSituTask
from analog_glue.training.in_situ import InSituMode
from analog_glue.training.in_situ_loop import STATE, Trainable, restore
from analog_glue.training.state import save_tensors

RECORD = "extraction.json"
Scores = dict[str, float]


def extract_run(
    settings: RunSettings, task: InSituTask, device: PulsedDevice, mode: InSituMode, log: Callable[[str], None] = print
) -> tuple[Path, str, list[str]]:
    """Extract the weights of the run in `settings.checkpoint`, which `task`, `device` and `mode` were the components of.

    Returns:
        The folder that was written, a table for the terminal, and what to do next.

    Raises:
        ValueError: the folder is no in-situ run, the data are not there, or there are fewer products than inputs.
    """
    if settings.runtime.threads:
        torch.set_num_threads(settings.runtime.threads)
    chosen, run = settings.extract, Path(str(settings.checkpoint))
    seed_of_run = run_of(run)["seed"]
    folder = run / f"extraction-{chosen.inputs}-{chosen.products}-seed{settings.seed}"
    seed = key(seed_of_run, "extraction", settings.seed)
    trainable, data = task.load(settings.data.root, mode, device, seed_of_run)
    saved, notes = restore(trainable, run / STATE)
    if settings.dry_run:
        shapes = ", ".join(f"{learner.outputs} × {learner.inputs}" for learner in trainable.network.learners)
        return folder, f"{chosen.products:,} products with each of the arrays {shapes}", []
    log(f"Extracting {run} after {notes['epoch']} epochs")
    weights, arrays = _read(trainable, mode, settings, seed)

    sets = {"extracted": weights}
    if mean := _averaged(trainable, saved):
        sets["averaged"] = [sums.weights() * mode.output_scale for sums in mean]
    epoch = max(notes["epoch"] - (notes["unit"] == 0), 0)  # names the noise: after an epoch, the scores of its end
    scores = {"analog arrays": trainable.test(epoch, True)}
    for name, values in sets.items():
        scores |= _scores(name, trainable, values, mode, device, seed, epoch)
    folder.mkdir(exist_ok=True)
    for name, values in sets.items():
        tensors = {str(number): torch.from_numpy(array.astype(np.float32)) for number, array in enumerate(values)}
        save_tensors(folder / f"{name}.safetensors", tensors)
    facts = provenance(
        command="extract", seed=settings.seed, run=run.name, epoch=notes["epoch"], unit=notes["unit"], data=data,
        inputs=chosen.inputs, products=chosen.products,
    )  # fmt: skip
    averaged = [
        {"products": sums.products, "estimated_error": sums.weight_error() * mode.output_scale} for sums in mean
    ]
    write_json_atomic(folder / RECORD, {**facts, "arrays": arrays, "averaged": averaged, "scores": scores})
    again = f"analog-glue extract checkpoint={shlex.quote(str(run))}"
    steps = [f"{again} seed={settings.seed + 1}   other inputs, other fresh arrays"]
    if chosen.inputs == "uniform":
        steps.append(f"{again} extract.products={4 * chosen.products}   half the error")
    return folder, _errors(arrays) + "\n\n" + _table(scores), steps


def _read(
    trainable: Trainable, mode: InSituMode, settings: RunSettings, seed: int
) -> tuple[list[np.ndarray], list[dict[str, float | int]]]:
    """Ŵ of every array in units of the network's weights, and how good it is in the same units."""
    number, uniform, io = settings.extract.products, settings.extract.inputs == "uniform", mode.periphery.forward
    weights, facts = [], []
    for index, learner in enumerate(trainable.network.learners):
        stream, seen = Stream.of(seed, index), learner.weights()
        if uniform:
            sums = extract(seen, learner.inputs, io, number, stream)
            estimated = sums.weight_error()
        else:
            repeats = max(1, number // learner.inputs)
            sums = extract_one_hot(seen, learner.inputs, io, repeats, stream)
            estimated = sums.output_noise() / math.sqrt(repeats)
        found = sums.weights()
        actual = math.sqrt(np.mean((found - seen[:, : learner.inputs]) ** 2))
        weights.append(found * mode.output_scale)
        facts.append({
            "array": index, "outputs": learner.outputs, "inputs": learner.inputs, "products": sums.products,
            "output_noise": sums.output_noise(), "estimated_error": estimated * mode.output_scale,
            "actual_error": actual * mode.output_scale, "weight_rms": float(np.sqrt(np.mean(weights[-1] ** 2))),
        })  # fmt: skip
    return weights, facts


def _averaged(trainable: Trainable, saved: dict[str, np.ndarray]) -> list[Regression]:
    """The sums that were collected while training; none without `training.average_products`, or while they are too few."""
    every = []
    for index, learner in enumerate(trainable.network.learners):
        sums = Regression(learner.outputs, learner.inputs)
        names = {name: f"average.{index}.{name}" for name in sums.state()}
        if not all(full in saved for full in names.values()):
            return []
        sums.load({name: saved[full] for name, full in names.items()})
        every.append(sums)
    return every if all(sums.products > sums.inputs + 1 for sums in every) else []


def _scores(
    name: str, trainable: Trainable, weights: list[np.ndarray], mode: InSituMode, device: PulsedDevice, seed: int, epoch: int
) -> dict[str, Scores]:
    """Scores of `weights` in digital and on fresh arrays."""
    stream = Stream.of(seed, 0)
    own = [values / mode.output_scale for values in weights]
    digital = trainable.on([Fixed.of(values) for values in own], PERFECT, stream)
    fresh = [mode.learner(device, values, seed, number) for number, values in enumerate(own)]
    analog = trainable.on(fresh, mode.periphery.forward, stream)
    return {f"{name}, digital": digital.test(epoch, True), f"{name}, fresh arrays": analog.test(epoch, True)}


def _errors(arrays: list[dict[str, float | int]]) -> str:
    lines = ["array      size  products  rms weight  error: estimated  actual"]
    for row in arrays:
        size = f"{row['outputs']}×{row['inputs']}"
        lines.append(
            f"{row['array']:5}  {size:>8}  {row['products']:8,}  {row['weight_rms']:10.4f}  {row['estimated_error']:16.5f}"
            f"  {row['actual_error']:.5f}"
        )
    return "\n".join(lines)


def _table(scores: dict[str, Scores]) -> str:
    names = list(next(iter(scores.values())))
    lines = [f"{'weights':24}" + "  ".join(names)]
    for name, values in scores.items():
        lines.append(f"{name:24}" + "  ".join(f"{values[score]:{len(score)}.4f}" for score in names))
    return "\n".join(lines)
