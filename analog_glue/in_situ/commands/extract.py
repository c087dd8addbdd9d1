"""One straight function for the command `extract`: a run's weights out of its arrays by noisy products, and their scores.

It reads the state of an in-situ run, finished or not, and writes into `<run>/extraction-<inputs>-<products>-seed<seed>/` (with
`-<time>s` where the arrays were left to drift before)

    extracted.safetensors   "0" … "n": float32 (outputs, inputs), in units of the network's weights
    averaged.safetensors    the same of the mean over the last epochs, where it was collected (in_situ/training/averaging.py)
    spread.safetensors      the same of the standard deviation over these epochs (in_situ/training/statistics.py)
    extraction.json         products, errors of every array, scores
    pruning.csv, perturbation.csv   scores of pruned and perturbed weights where asked for (in_situ/extraction/uncertainty.py)

Scores are those of the task's whole test set: of the arrays themselves, and of the extracted weights in digital float32, on
arrays that hold any weight ("without bounds"), and on fresh arrays, written without error as far as each device's own bounds
allow. Gokmen (2021) models no error of writing, so "another analog hardware" of Table 1 is the one without bounds; weights that
training drove to the bounds of their devices lie beyond those of others.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from analog_glue.commands.summary import RunSummary
from analog_glue.errors import require
from analog_glue.in_situ.commands.train import check_data, run_of
from analog_glue.in_situ.devices.device import PulsedDevice
from analog_glue.in_situ.extraction.regression import Regression, extract, extract_one_hot
from analog_glue.in_situ.extraction.uncertainty import Weights, score_perturbation, score_pruning
from analog_glue.in_situ.files import EXTRACTION, PERTURBATION, PRUNING, RUN
from analog_glue.in_situ.kernels.matvec import PERFECT
from analog_glue.in_situ.nn.learner import Fixed, Learner, Stream
from analog_glue.in_situ.tasks.task import InSituTask
from analog_glue.in_situ.training.loop import STATE, Trainable, restore
from analog_glue.in_situ.training.mode import InSituMode
from analog_glue.in_situ.training.statistics import Moments
from analog_glue.progress import Progress
from analog_glue.runs.files import read_json, write_json_atomic
from analog_glue.runs.fingerprint import fingerprint_of_parts
from analog_glue.runs.folder import working_in
from analog_glue.runs.identity import Payload, differences, resolved
from analog_glue.runs.provenance import provenance
from analog_glue.runs.tensors import load_tensors, save_tensors
from analog_glue.seeding import key
from analog_glue.settings import Extract, RunSettings, output_root_typed, typed

Scores = dict[str, float]
Kind = TypeVar("Kind", Regression, Moments)


@dataclass(frozen=True)
class ExtractionJob:
    """An extraction that could begin: the run's arrays stand as they were saved, nothing is read or written."""

    settings: RunSettings
    device: PulsedDevice
    mode: InSituMode
    run: Path  # folder of the in-situ run
    folder: Path  # of the extraction
    seed: int
    trainable: Trainable
    data: dict[str, str]  # source, fingerprint
    saved: dict[str, np.ndarray]  # all that the run saved
    notes: dict[str, Any]  # beside it
    spread: Weights | None


def prepare(settings: RunSettings, task: InSituTask, device: PulsedDevice, mode: InSituMode) -> ExtractionJob:
    """Load the arrays of the run in `settings.checkpoint`, which `task`, `device` and `mode` were the components of.

    Raises:
        UserError: the folder is no in-situ run, the data are not there, there are fewer products than inputs, or a
            perturbation was asked for without statistics.
    """
    if settings.runtime.threads:
        torch.set_num_threads(settings.runtime.threads)
    chosen, trained_in = settings.extract, Path(str(settings.checkpoint))
    seed_of_run = run_of(trained_in)["seed"]
    aged = f"-{chosen.time:.10g}s" if chosen.time else ""
    folder = trained_in / f"extraction-{chosen.inputs}-{chosen.products}-seed{settings.seed}{aged}"
    seed = key(seed_of_run, "extraction", settings.seed)
    trainable, data = task.load(settings.data.root, mode, device, seed_of_run)
    check_data(trained_in, data)
    saved, notes = restore(trainable, trained_in / STATE)
    _age(trainable.network.learners, chosen.time)
    spread = _spread(trainable, saved, mode)
    require(not chosen.perturb or spread is not None, "extract.perturb", "be empty without statistics of the weights",
            list(chosen.perturb), "Train the last epochs with training.statistics_every=100.")  # fmt: skip
    most = max(learner.inputs for learner in trainable.network.learners)
    enough = chosen.inputs != "uniform" or chosen.products > most + 1
    require(enough, "extract.products", f"be more than {most + 1}, the inputs of the largest array and 1", chosen.products,
            "10000 is usual.")  # fmt: skip
    return ExtractionJob(settings, device, mode, trained_in, folder, seed, trainable, data, saved, notes, spread)


def run(job: ExtractionJob, log: Callable[[str], None] = print) -> RunSummary:
    """Extract and score; what was extracted from the same state is not extracted again."""
    settings, device, mode, folder, seed = job.settings, job.device, job.mode, job.folder, job.seed
    trainable, data, saved, notes, chosen = job.trainable, job.data, job.saved, job.notes, job.settings.extract
    # What decides the weights of this folder, beside its name.
    facts = {
        "epoch": notes["epoch"], "unit": notes["unit"], "state": _fingerprint(saved), "amplitude": chosen.amplitude,
        "time": chosen.time, "drift": asdict(device.drift),
        "window": notes.get("window"), "statistics_window": notes.get("statistics_window"),
    }  # fmt: skip
    record = read_json(folder / EXTRACTION)
    differs = differences({name: record.get(name) for name in facts}, facts) if record else []
    if settings.force or not record or differs:
        changed = f" (not as before: {'; '.join(one.in_words('it was', 'is now') for one in differs)})" if differs else ""
        log(f"Extracting {job.run} after epoch {notes['epoch']}{changed}")
        record = _extract(trainable, saved, facts, folder, mode, device, settings, data, seed, log)
    else:
        log(f"Extracted already: {folder}")
    _score_uncertainty(trainable, job.spread, folder, record["epoch"], mode, chosen, seed)
    root = output_root_typed(job.run.parent)  # rows beside the run are where `tables` finds them
    again = f"analog-glue extract {typed('checkpoint', job.run)}"
    steps = [
        f"analog-glue evaluate {typed('checkpoint', folder)} noise=pcm{root}   # on phase-change memory, as it drifts",
        f"{again} seed={settings.seed + 1}   # other inputs, other fresh arrays",
    ]
    if chosen.inputs == "uniform":
        steps.append(f"{again} extract.products={4 * chosen.products}   # half the error")
    table = _errors(record["arrays"]) + "\n\n" + _table(record["scores"])
    return RunSummary(folder, table, tuple(steps), holds="written")


def _extract(
    trainable: Trainable, saved: dict[str, np.ndarray], facts: dict[str, Any], folder: Path, mode: InSituMode,
    device: PulsedDevice, settings: RunSettings, data: dict[str, str], seed: int, log: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """Read the arrays, score, and write all files but the two tables; what went into extraction.json."""
    chosen = settings.extract
    weights, arrays = _read(trainable, mode, chosen, seed, log)
    sets: dict[str, Weights] = {"extracted": weights}
    found = _mean(trainable, saved, mode)
    if found:
        sets["averaged"] = found[0]
    epoch = max(facts["epoch"] - (facts["unit"] == 0), 0)  # names the noise: after an epoch, the scores of its end
    networks = {"analog arrays": trainable}
    for name, values in sets.items():
        networks |= _networks(name, trainable, values, mode, device, seed, chosen.time)
    scores: dict[str, Scores] = {}
    with Progress("scores", len(networks), "score", log=log) as progress:
        for name, network in networks.items():
            scores[name] = network.test(epoch, True)
            progress.update(1)
    choices = {"command": "extract", "seed": settings.seed, "inputs": chosen.inputs, "products": chosen.products}
    choices |= {"run": folder.parent.name, "identity": _identity(settings, folder.parent, facts)}
    spread = _spread(trainable, saved, mode)
    record = {
        **provenance(**choices, data=data),
        **facts,
        "arrays": arrays,
        "averaged": found[1] if found else [],
        "scores": scores,
    }
    with working_in(folder):
        of_another_state = (EXTRACTION, PRUNING, PERTURBATION, "averaged.safetensors", "spread.safetensors")
        for name in of_another_state:
            (folder / name).unlink(missing_ok=True)
        for name, values in (sets if spread is None else {**sets, "spread": spread}).items():
            tensors = {str(number): torch.from_numpy(array.astype(np.float32)) for number, array in enumerate(values)}
            save_tensors(folder / f"{name}.safetensors", tensors)
        write_json_atomic(folder / EXTRACTION, record)
    return record


def _identity(settings: RunSettings, run: Path, facts: dict[str, Any]) -> Payload:
    """What determines the extracted weights, under the keys of its settings."""
    tables = {"extract": ("prune", "perturb", "draws", "array")}  # of pruned and perturbed weights, beside the weights
    said = {name: value for name, value in facts.items() if name not in ("amplitude", "time")}  # they are settings
    trained = read_json(run / RUN).get("train_id")
    return {**resolved("extract", settings.extract, tables), "seed": settings.seed, "training_run": trained, **said}


def _read(
    trainable: Trainable, mode: InSituMode, chosen: Extract, seed: int, log: Callable[[str], None]
) -> tuple[Weights, list[dict[str, float | int]]]:
    """Ŵ of every array in units of the network's weights, and how good it is in the same units."""
    io, learners, facts = mode.periphery.forward, trainable.network.learners, []
    weights: Weights = []
    repeats = [max(1, chosen.products // learner.inputs) for learner in learners]
    uniform = chosen.inputs == "uniform"
    every = [chosen.products if uniform else learner.inputs * number for learner, number in zip(learners, repeats, strict=True)]
    with Progress("extraction", sum(every), "product", log=log) as progress:
        for index, learner in enumerate(learners):
            stream, seen, n = Stream.of(seed, index), learner.weights(), learner.inputs
            if uniform:
                sums = extract(seen, n, io, chosen.products, stream, chosen.amplitude, progress.update)
            else:
                sums = extract_one_hot(seen, n, io, repeats[index], stream, progress.update)
            found = sums.weights()
            actual = math.sqrt(np.mean((found - seen[:, :n]) ** 2))
            weights.append(found * mode.output_scale)
            facts.append({
                "array": index, "outputs": learner.outputs, "inputs": n, "products": sums.products,
                "amplitude": sums.amplitude, "output_noise": sums.output_noise(),
                "estimated_error": sums.weight_error() * mode.output_scale, "actual_error": actual * mode.output_scale,
                "weight_rms": float(np.sqrt(np.mean(weights[-1] ** 2))),
            })  # fmt: skip
    return weights, facts


def _fingerprint(saved: dict[str, np.ndarray]) -> str:
    """Of all that a run has saved."""
    return fingerprint_of_parts(part for name, array in sorted(saved.items()) for part in (name, array))


def _spread(trainable: Trainable, saved: dict[str, np.ndarray], mode: InSituMode) -> Weights | None:
    """Of every weight, in units of the network's weights; None without `training.statistics_every`, or from one look."""
    every = _collected(trainable, saved, "statistics", Moments)
    usable = every and all(moments.looks > 1 for moments in every)
    return [moments.spread() * mode.output_scale for moments in every] if usable else None


def _mean(
    trainable: Trainable, saved: dict[str, np.ndarray], mode: InSituMode
) -> tuple[Weights, list[dict[str, float | int | None]]] | None:
    """The mean over the last epochs in units of the network's weights, and how good it is in the same units.

    By regression where training sent products, else the mean of the looks; None where it collected neither, or too little.
    """
    scale = mode.output_scale
    every = _collected(trainable, saved, "average", Regression)
    looked = _collected(trainable, saved, "statistics", Moments)
    looks = [moments.looks for moments in looked] or [0] * len(every)
    if every and all(sums.products > sums.inputs + 1 for sums in every):
        means = [sums.weights() for sums in every]
        exact = [moments.mean for moments in looked] if looked and all(looks) else [None] * len(means)
        return [mean * scale for mean in means], [
            {"products": sums.products, "looks": number, "estimated_error": sums.weight_error() * scale,
             "actual_error": None if true is None else scale * math.sqrt(np.mean((mean - true) ** 2))}
            for sums, mean, true, number in zip(every, means, exact, looks, strict=True)
        ]  # fmt: skip
    if not looked or not all(looks):
        return None
    return [moments.mean * scale for moments in looked], [{"products": 0, "looks": number} for number in looks]


def _collected(trainable: Trainable, saved: dict[str, np.ndarray], name: str, kind: type[Kind]) -> list[Kind]:
    """What was collected under `name` while training, one of every array; none where it was not."""
    every = []
    for index, learner in enumerate(trainable.network.learners):
        one = kind(learner.outputs, learner.inputs)
        names = {part: f"{name}.{index}.{part}" for part in one.state()}
        if not all(full in saved for full in names.values()):
            return []
        one.load({part: saved[full] for part, full in names.items()})
        every.append(one)
    return every


def _score_uncertainty(
    trainable: Trainable, spread: Weights | None, folder: Path, epoch: int, mode: InSituMode, chosen: Extract, seed: int
) -> None:
    """The two tables, of the averaged weights where there are some, in digital."""
    name = "averaged" if (folder / "averaged.safetensors").is_file() else "extracted"
    tensors, _ = load_tensors(folder / f"{name}.safetensors")
    weights = [tensors[str(number)].numpy() for number in range(len(tensors))]

    def score(values: Weights) -> Scores:
        return in_digital(trainable, values, mode, seed).test(epoch, True)

    score_pruning(folder, name, weights, spread, chosen.prune, score)
    if spread is not None:
        score_perturbation(folder, name, weights, spread, chosen.perturb, chosen.draws, seed, score)


def in_digital(trainable: Trainable, weights: Weights, mode: InSituMode, seed: int) -> Trainable:
    """The network with `weights`, in its own units, in digital float32."""
    return trainable.on([Fixed.of(values / mode.output_scale) for values in weights], PERFECT, Stream.of(seed, 0))


def _networks(
    name: str, trainable: Trainable, weights: Weights, mode: InSituMode, device: PulsedDevice, seed: int, time: float
) -> dict[str, Trainable]:
    """The network with `weights` in digital, behind the periphery alone, and on fresh arrays."""
    own = [values / mode.output_scale for values in weights]
    fresh = [mode.learner(device, values, seed, number) for number, values in enumerate(own)]
    _age(fresh, time)
    forward, stream = mode.periphery.forward, Stream.of(seed, 0)
    return {
        f"{name}, digital": in_digital(trainable, weights, mode, seed),
        f"{name}, arrays without bounds": trainable.on([Fixed.of(values) for values in own], forward, stream),
        f"{name}, fresh arrays": trainable.on(fresh, forward, stream),
    }


def _age(learners: Sequence[Learner], time: float) -> None:
    for learner in learners:
        for array in learner.arrays():
            array.age(time)


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
    lines = [f"{'weights':33}" + "  ".join(names)]
    for name, values in scores.items():
        lines.append(f"{name:33}" + "  ".join(f"{values[score]:{len(score)}.4f}" for score in names))
    return "\n".join(lines)
