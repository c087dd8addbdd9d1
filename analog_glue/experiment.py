"""One straight function per command: `train` and `evaluate`.

    train      load data and model → fine-tune (resumes) → save → drift sweep → table
    evaluate   load a trained model → drift sweep on the hardware of this command → table

A training run lives in `<output_root>/<task>-<model>-<mode>-seed<seed>-<id>/`, where the id is a hash of what determines the
trained weights; each hardware it is put on has a folder in there, named by a hash of what determines the scores. The same
command twice finds its work done; more chips or times add rows; an interrupted command continues.
"""

import hashlib
import json
import os
import shlex
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from analog_glue.devices.device import Device
from analog_glue.evaluation import Point, Scored, Sentences, Workload, drift_sweep, points, score
from analog_glue.kernels.backend import choose_kernel
from analog_glue.kernels.matmul import route, taken
from analog_glue.kernels.products import choose_product
from analog_glue.models import LoadedModel, load_checkpoint_model, save_model
from analog_glue.nn.calibration import calibrate_input_ranges
from analog_glue.nn.convert import analog_layers, fold_output_scales, learned_periphery, to_digital
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.linear import LayerPeriphery
from analog_glue.nn.noise_clock import NoiseClock
from analog_glue.progress import Progress
from analog_glue.reports.tables import drift_table
from analog_glue.results import (
    Measurement,
    ResultsFile,
    provenance,
    working_in,
    write_json_atomic,
)
from analog_glue.seeding import generator
from analog_glue.settings import Calibration, RunSettings, output_root_typed, require, typed
from analog_glue.summary import describe
from analog_glue.tasks.task import Encoded, RawData, Task, encode, evaluation_batches, training_batches
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.training.loop import BEST, STATE, TrainingData, fit
from analog_glue.training.mode import Preparation, TrainingMode
from analog_glue.training.state import load_tensors, save_tensors

PERIPHERY_FILE = "analog.safetensors"  # learned input ranges and output scales, beside model.safetensors
RUN_FILE, CONFIG_FILE = "run.json", "config.json"


@dataclass(frozen=True)
class RunSummary:
    """Where the results are, and the table for the terminal."""

    run_dir: Path
    table: str
    next_steps: tuple[str, ...] = ()


def train(
    settings: RunSettings,
    task: Task,
    model: Any,
    device: Device,
    tile: Crossbar,
    mode: TrainingMode,
    config: dict[str, Any] | None = None,
    choices: dict[str, str] | None = None,
    overrides: Iterable[str] = (),
    log: Callable[[str], None] = print,
) -> RunSummary:
    """Fine-tune `model` on `task`, put it on chips, score it over time, and write everything down.

    Args:
        model: `models.PretrainedModel` or `models.TinyModel`.
        config: The resolved configuration, kept beside the results. None: made from the components.
        choices: Config group → option, for the names in tables. None: the components' own names.
        overrides: The words of the command line, kept beside the results.

    Raises:
        ValueError: settings that cannot be run, before anything is downloaded or trained where that can be known.
    """
    if not _is_main_process():
        log = _silent
    hardware, where = runtime(settings, device, tile)
    config = config or _config_of(task=task, model=model, noise=device, tile=tile, training=mode)
    choices = choices or _names_of(task, model, device, mode)
    task.check(settings.data.root)
    model.check()
    start = None if mode.start_from is None else _read_run(Path(mode.start_from), "training.start_from")
    raw = task.load(settings.data.root)

    identity = {
        "task": config["task"],
        "data": raw.fingerprint,
        "model": _model_identity(config["model"]),
        "training": _training_identity(config["training"], start),
        "seed": settings.seed,
    }
    if mode.uses_hardware:
        identity |= {"noise": config["noise"], "tile": config["tile"], "hardware": asdict(settings.hardware)}
    train_id = _hash(identity)
    name = f"{choices['task']}-{choices['model']}-{choices['training']}-seed{settings.seed}-{train_id}"
    folder = Path(settings.output_root) / name
    done = _is_done(folder) and not settings.force

    if done:
        log(f"Training was done already: {folder}")
        loaded = load_checkpoint_model(folder)
    else:
        loaded = model.load(task.num_labels, settings.seed, texts=raw.train.texts)
        if mode.start_from is not None:
            loaded.model.load_state_dict(load_checkpoint_model(Path(mode.start_from)).model.state_dict())
    analog_layers(loaded.model, hardware.layers)  # patterns that match nothing are refused before anything is trained
    encoded = EncodedData.of(task, raw, loaded)

    if settings.dry_run:
        text = describe(
            loaded.model, hardware, encoded.train, settings, task.name, raw, mode, folder, done, loaded.source
        )
        return RunSummary(folder, text)
    if not done:
        facts = provenance(
            command="train",
            overrides=list(overrides),
            name=name,
            train_id=train_id,
            choices=choices,
            seed=settings.seed,
            data={"source": raw.source, "fingerprint": raw.fingerprint},
            model={"source": loaded.source, "parameters": sum(p.numel() for p in loaded.model.parameters())},
            product=choose_product(hardware.product, where, device.noise_floor, hardware.kernel),
            kernel=hardware.kernel,
            matmul=taken(),
            device=where,
        )
        if _is_main_process():
            if settings.force:
                _forget(folder)
            folder.mkdir(parents=True, exist_ok=True)
            write_json_atomic(folder / CONFIG_FILE_OF_RUN, {**config, **_scalars(settings)})
            write_json_atomic(folder / RUN_FILE, {**facts, "status": "running"})
            log(f"Training {name} in {folder}")
        with working_in(folder):
            _train(settings, task, mode, hardware, loaded, encoded, folder, facts, where, log)
    if not _is_main_process():
        return RunSummary(folder, "")  # the sweep is the main process's work
    if not done:
        loaded = load_checkpoint_model(folder)
    subject = _subject(settings, hardware, task, raw, loaded, encoded, folder, log)
    return sweep(settings, hardware, subject, config, choices, overrides, where, log)


def evaluate(
    settings: RunSettings,
    task: Task,
    device: Device,
    tile: Crossbar,
    config: dict[str, Any] | None = None,
    choices: dict[str, str] | None = None,
    overrides: Iterable[str] = (),
    log: Callable[[str], None] = print,
) -> RunSummary:
    """Put the trained weights of `settings.checkpoint` on the hardware of this command and score them over time.

    Args:
        task: The task that the checkpoint was trained on (`checkpoint_config` gives its configuration).

    Raises:
        ValueError: no finished training run in `settings.checkpoint`.
    """
    hardware, where = runtime(settings, device, tile)
    checkpoint = Path(str(settings.checkpoint))
    facts = _read_run(checkpoint, "checkpoint")
    config = config or _config_of(noise=device, tile=tile)
    choices = facts["choices"] | {"noise": type(device).__name__.lower(), "tile": "custom"} | (choices or {})
    task.check(settings.data.root)
    raw = task.load(settings.data.root)
    loaded = load_checkpoint_model(checkpoint)
    encoded = EncodedData.of(task, raw, loaded)
    if settings.dry_run:
        text = describe(
            loaded.model, hardware, encoded.train, settings, task.name, raw, None, checkpoint, True, str(checkpoint)
        )
        return RunSummary(checkpoint, text)
    subject = _subject(settings, hardware, task, raw, loaded, encoded, checkpoint, log)
    return sweep(settings, hardware, subject, config, choices, overrides, where, log)


def checkpoint_config(folder: Path | str) -> dict[str, Any]:
    """The resolved configuration that a finished training run was started with.

    Raises:
        ValueError: `folder` holds no finished training run.
    """
    _read_run(Path(folder), "checkpoint")
    return json.loads((Path(folder) / CONFIG_FILE_OF_RUN).read_text())


# --- training ------------------------------------------------------------------------------------------------------------

CONFIG_FILE_OF_RUN = "run_config.json"  # config.json is the model's own


@dataclass(frozen=True)
class EncodedData:
    train: Encoded
    validation: dict[str, Encoded]

    @classmethod
    def of(cls, task: Task, raw: RawData, loaded: LoadedModel) -> "EncodedData":
        def tokens(split: Any) -> Encoded:
            return encode(split, loaded.tokenizer, task.max_length, task.num_labels)

        return cls(tokens(raw.train), {name: tokens(split) for name, split in raw.validation.items()})


def _train(
    settings: RunSettings,
    task: Task,
    mode: TrainingMode,
    hardware: Hardware,
    loaded: LoadedModel,
    encoded: EncodedData,
    folder: Path,
    facts: dict[str, Any],
    where: str,
    log: Callable[[str], None],
) -> None:
    calibration = settings.hardware.calibration

    def calibrate(model: nn.Module) -> dict[str, Tensor]:
        return calibrated_ranges(model, hardware, encoded.train, calibration)

    preparation = Preparation(hardware, NoiseClock(), calibrate)
    prepared = mode.prepare(loaded.model, preparation)
    data = TrainingData(
        order=lambda epoch: training_batches(len(encoded.train), mode.batch_size, settings.seed, epoch),
        batch=encoded.train.batch,
    )

    def validation_scores(model: nn.Module) -> dict[str, float]:
        scores = score(model, task, encoded.validation, settings.evaluation.token_budget)
        return {s.metric: s.value for s in scores}

    trained, history = fit(
        prepared, mode, data, validation_scores, task.headline, preparation, settings.seed, folder, where, log
    )
    if not _is_main_process():
        return
    fold_output_scales(trained)
    periphery = learned_periphery(trained)
    if periphery:
        tensors = {f"{name}.input_range": p.input_range for name, p in periphery.items()}
        tensors |= {f"{name}.output_scale": p.output_scale for name, p in periphery.items()}
        save_tensors(folder / PERIPHERY_FILE, tensors)
    _save_plain(trained, loaded, folder)
    write_json_atomic(folder / RUN_FILE, {**facts, "status": "done", "history": asdict(history)})
    for name in (STATE, BEST):
        (folder / name).unlink(missing_ok=True)


def _save_plain(trained: nn.Module, loaded: LoadedModel, folder: Path) -> None:
    """Save with plain linear layers, so that any reader of Hugging Face checkpoints finds only names it knows."""
    from analog_glue.nn.linear import AnalogLinear

    for name, layer in list(trained.named_modules()):
        if isinstance(layer, AnalogLinear):
            plain = nn.Linear(layer.in_features, layer.out_features, device="meta")
            plain.weight, plain.bias = layer.weight, layer.bias
            trained.set_submodule(name, plain)
    save_model(trained, loaded.tokenizer, folder)


def calibrated_ranges(
    model: nn.Module, hardware: Hardware, train: Encoded, calibration: Calibration
) -> dict[str, Tensor]:
    """Input range of every layer on tiles from the first training examples of a fixed order."""
    layers = analog_layers(model, hardware.layers)
    chosen = torch.randperm(len(train), generator=generator("calibration examples"))[: calibration.examples].tolist()
    device = next(model.parameters()).device
    subset = Encoded(
        [train.input_ids[i] for i in chosen],
        None if train.token_type_ids is None else [train.token_type_ids[i] for i in chosen],
        train.labels[chosen],
        train.pad_id,
    )
    batches = []
    for indices in evaluation_batches(subset, token_budget=4096):
        batch = subset.batch(indices)
        batches.append({name: tensor.to(device) for name, tensor in batch.items() if name != "labels"})
    was_training = model.training
    ranges = calibrate_input_ranges(
        model.eval(), layers, hardware.crossbar, batches, calibration.percentile, calibration.adc_headroom
    )
    model.train(was_training)
    return ranges


# --- drift sweep ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """What is put on chips: a plain network, what it is scored on, and where both come from."""

    model: nn.Module
    # The model for the chips, the periphery of its layers by name, and where its input ranges come from.
    periphery: Callable[[nn.Module], tuple[nn.Module, dict[str, LayerPeriphery], str]]
    workload: Workload
    facts: dict[str, Any]  # of the training run: name, train_id, seed
    data: dict[str, str]  # source, fingerprint
    checkpoint: Path
    folder: str  # of its sweeps, below `output_root`


def _subject(
    settings: RunSettings,
    hardware: Hardware,
    task: Task,
    raw: RawData,
    loaded: LoadedModel,
    encoded: EncodedData,
    trained_in: Path,
    log: Callable[[str], None],
) -> Subject:
    facts = _read_run(trained_in, "checkpoint")
    return Subject(
        loaded.model,
        lambda model: _periphery(trained_in, model, hardware, encoded.train, settings, log),
        Sentences(task, raw, encoded.validation, settings.evaluation.token_budget),
        facts,
        {"source": raw.source, "fingerprint": raw.fingerprint},
        trained_in,
        facts["name"],
    )


def sweep(
    settings: RunSettings,
    hardware: Hardware,
    subject: Subject,
    config: dict[str, Any],
    choices: dict[str, str],
    overrides: Iterable[str],
    where: str,
    log: Callable[[str], None],
) -> RunSummary:
    """Score a trained network on the hardware of this command over time; only what is not known is measured."""
    facts = subject.facts
    evaluation = settings.evaluation
    hardware_id = _hash(
        {
            "noise": config["noise"],
            "tile": config["tile"],
            "hardware": asdict(settings.hardware),
            "chip_seed": evaluation.chip_seed,
            "token_budget": evaluation.token_budget,
        }
    )
    folder = Path(settings.output_root) / subject.folder / f"{choices['noise']}-{choices['tile']}-{hardware_id}"
    results = ResultsFile(folder)
    if settings.force:
        _forget(folder)
    known = results.rows()
    measured = {(row.stage, row.chip, row.t_seconds, row.compensated) for row in known}
    wanted = points(evaluation, hardware.device.drifts)
    missing = [p for p in wanted if (p.stage, p.chip, p.t, p.compensated) not in measured]
    if not missing:
        log(f"Already done: {folder}")
    else:
        model, periphery, source = subject.periphery(subject.model.to(where))
        folder.mkdir(parents=True, exist_ok=True)
        ranges = {name: p.input_range.tolist() for name, p in periphery.items()}
        write_json_atomic(folder / "input_ranges.json", {"source": source, "input_ranges": ranges})
        write_json_atomic(folder / CONFIG_FILE, {**config, **_scalars(settings)})
        provenance_of_sweep = provenance(
            command="sweep",
            overrides=list(overrides),
            trained=facts["name"],
            train_id=facts["train_id"],
            hardware_id=hardware_id,
            choices=choices,
            chip_seed=evaluation.chip_seed,
            data=subject.data,
            input_ranges=source,
            product=choose_product(hardware.product, where, hardware.device.noise_floor, hardware.kernel),
            kernel=hardware.kernel,
            matmul=taken(),
            device=where,
        )
        write_json_atomic(folder / RUN_FILE, {**provenance_of_sweep, "status": "running"})
        started = time.monotonic()

        def is_known(point: Point) -> bool:
            return (point.stage, point.chip, point.t, point.compensated) in measured

        scored = drift_sweep(model, hardware, periphery, subject.workload, evaluation, is_known)
        if len(measured):
            log(f"Resuming the sweep: {len(wanted) - len(missing)} of {len(wanted)} scores are measured.")
        with working_in(folder), Progress("drift sweep", len(missing), "score", log=log) as progress:
            for one in scored:
                results.append(_rows(one, subject.workload.headline, facts, choices, hardware_id, folder.name))
                progress.update(1)
        seconds = time.monotonic() - started
        write_json_atomic(folder / RUN_FILE, {**provenance_of_sweep, "status": "done", "seconds": seconds})
    rows = [row for row in results.rows() if row.hardware_id == hardware_id]
    another = "pcm" if choices["noise"] != "pcm" else "pcm_reduced"
    root = output_root_typed(settings.output_root)
    return RunSummary(
        folder,
        drift_table(rows),
        (
            f"analog-glue tables {shlex.quote(settings.output_root)}",
            f"analog-glue evaluate {typed('checkpoint', subject.checkpoint)} noise={another}{root}   # on other devices",
        ),
    )


def _periphery(
    trained_in: Path,
    model: nn.Module,
    hardware: Hardware,
    train: Encoded,
    settings: RunSettings,
    log: Callable[[str], None],
) -> tuple[nn.Module, dict[str, LayerPeriphery], str]:
    """Input ranges and output scales: learned in training where the tiles fit, else calibrated on training batches.

    Also the model that goes with them: learned scales of layers that do not lie on such tiles now are part of its weights.
    """
    calibration = settings.hardware.calibration
    layers = analog_layers(model, hardware.layers)
    grids = {name: hardware.crossbar.grid(*layer.weight.shape) for name, layer in layers.items()}
    learned: dict[str, LayerPeriphery] = {}
    unfit: dict[str, LayerPeriphery] = {}
    if (trained_in / PERIPHERY_FILE).exists():
        tensors, _ = load_tensors(trained_in / PERIPHERY_FILE)
        for name in {key.rpartition(".")[0] for key in tensors}:
            input_range = tensors[f"{name}.input_range"]
            fits = name in grids and len(input_range) == len(grids[name].row_blocks)
            (learned if fits else unfit)[name] = LayerPeriphery(input_range, tensors[f"{name}.output_scale"])
    if unfit:
        model = to_digital(model, unfit)
    if len(learned) == len(layers):
        return model, learned, "learned in training"
    source = f"{calibration.percentile:g} % of |x| of {calibration.examples} training examples"
    log(f"Calibrating the input ranges of {len(layers) - len(learned)} layers: {source}")
    ranges = calibrated_ranges(model, hardware, train, calibration)
    both = {name: learned.get(name) or LayerPeriphery(ranges[name]) for name in layers}
    return model, both, source + (" (others learned in training)" if learned else "")


def _rows(
    one: Scored, headline: str, facts: dict[str, Any], choices: dict[str, str], hardware_id: str, sweep: str
) -> list[Measurement]:
    point = one.point
    return [
        Measurement(
            run=facts["name"],
            sweep=sweep,
            task=choices["task"],
            model=choices["model"],
            training=choices["training"],
            seed=facts["seed"],
            noise=choices["noise"],
            tile=choices["tile"],
            stage=point.stage,
            chip=point.chip,
            t_seconds=point.t,
            compensated=point.compensated,
            extrapolated=one.extrapolated,
            split=s.split,
            metric=s.metric,
            headline=s.metric == headline,
            value=s.value,
            examples=s.examples,
            train_ids=facts["train_id"],
            hardware_id=hardware_id,
            wall_seconds=round(one.seconds, 3),
        )
        for s in one.scores
    ]


# --- identity and bookkeeping --------------------------------------------------------------------------------------------


def runtime(settings: RunSettings, device: Device, tile: Crossbar) -> tuple[Hardware, str]:
    """The hardware on paper with the product that this machine computes fastest, and where torch computes."""
    cuda = torch.cuda.is_available()
    where = settings.runtime.device
    require(where != "cuda" or cuda, "runtime.device", "be cpu or auto on a machine without a CUDA device", where)
    where = ("cuda" if cuda else "cpu") if where == "auto" else where
    if settings.runtime.threads > 0:
        torch.set_num_threads(settings.runtime.threads)
    product = settings.runtime.product
    fits = ("auto", "float32", *(("float16",) if where == "cuda" else ("int8", "int8_single")))
    require(product in fits, "runtime.product", f"be one of {', '.join(fits)} on {where}", product)
    kernel = choose_kernel(settings.runtime.kernel, where)
    route(settings.runtime.matmul, where)
    return Hardware(device, tile, tuple(settings.hardware.layers), product, kernel, settings.hardware.read_out), where


def _is_main_process() -> bool:
    """True for the one process of a plain run, and for one among those of `accelerate launch`."""
    return int(os.environ.get("RANK", "0")) == 0


def _silent(message: str) -> None:
    """What the other processes of `accelerate launch` say."""


def _hash(identity: Any) -> str:
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _model_identity(config: dict[str, Any]) -> dict[str, Any]:
    """A local folder counts by its weights, not by its path."""
    identity = {name: value for name, value in config.items() if name != "path"}
    path = config.get("path")
    if path is not None:
        weights = Path(path) / "model.safetensors"
        identity = {"weights": hashlib.sha256(weights.read_bytes()).hexdigest(), "dropout": config.get("dropout")}
    return identity


def _training_identity(config: dict[str, Any], start: dict[str, Any] | None) -> dict[str, Any]:
    """`save_every` changes no bit; a starting point counts by its own identity."""
    identity = {name: value for name, value in config.items() if name != "save_every"}
    if start is not None:
        identity["start_from"] = start["train_id"]
    return identity


def _scalars(settings: RunSettings) -> dict[str, Any]:
    groups = ("task", "model", "noise", "tile", "training")
    return {name: value for name, value in asdict(settings).items() if name not in groups}


def _config_of(**components: Any) -> dict[str, Any]:
    """What the yaml of each component would say."""

    def node(component: Any) -> Any:
        if not is_dataclass(component):
            return component
        target = f"{type(component).__module__}.{type(component).__qualname__}"
        values = {name: node(getattr(component, name)) for name in component.__dataclass_fields__}
        return {"_target_": target} | values

    return {group: node(component) for group, component in components.items()}


def _names_of(task: Task, model: Any, device: Device, mode: TrainingMode) -> dict[str, str]:
    return {
        "task": task.name,
        "model": model.short,
        "training": mode.name,
        "noise": type(device).__name__.lower(),
        "tile": "custom",
    }


def _is_done(folder: Path) -> bool:
    with suppress(FileNotFoundError, json.JSONDecodeError):
        return json.loads((folder / RUN_FILE).read_text())["status"] == "done"
    return False


def _read_run(folder: Path, setting: str) -> dict[str, Any]:
    """run.json of a finished training run.

    Raises:
        ValueError: `folder` holds none.
    """
    if not _is_done(folder) or not (folder / CONFIG_FILE_OF_RUN).exists():
        raise ValueError(
            f"Setting `{setting}` must be the folder of a finished training run (with {RUN_FILE}), but is "
            f"{str(folder)!r}. `analog-glue list runs` shows them."
        )
    return json.loads((folder / RUN_FILE).read_text())


def _forget(folder: Path) -> None:
    """Remove what an earlier run of the same identity left, for `force=true`; nothing else in the folder."""
    for name in (STATE, BEST, RUN_FILE, "results.csv"):
        (folder / name).unlink(missing_ok=True)
