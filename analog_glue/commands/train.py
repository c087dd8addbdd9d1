"""The command `train`: load data and model → fine-tune (resumes) → save → drift sweep → table.

A training run lives in `<output_root>/<task>-<model>-<mode>-seed<seed>-<id>/`, where the id is a hash of what determines the
trained weights; each hardware it is put on has a folder in there, named by a hash of what determines the scores. The same
command twice finds its work done; more chips or times add rows; an interrupted command continues.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from analog_glue.commands.deploy import (
    EncodedData,
    RunSummary,
    calibrated_ranges,
    computed_alike,
    is_main_process,
    runtime,
    silent,
    subject_of,
    sweep,
)
from analog_glue.commands.dry_run import describe
from analog_glue.devices.device import Device
from analog_glue.evaluation import score
from analog_glue.kernels.matmul import taken
from analog_glue.models import LoadedModel, load_checkpoint_model, save_model
from analog_glue.nn.computation import Computation
from analog_glue.nn.convert import fold_output_scales, learned_periphery
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.noise_clock import NoiseClock
from analog_glue.nn.placement import Placement
from analog_glue.runs import legacy
from analog_glue.runs.configuration import config_of, scalars
from analog_glue.runs.folder import (
    BEST,
    CONFIG_FILE_OF_RUN,
    PERIPHERY_FILE,
    STATE,
    forget,
    is_done,
    read_run,
    recorded,
    working_in,
)
from analog_glue.runs.identity import Identity, resolved
from analog_glue.runs.lookup import Found, find_run, nearest_run
from analog_glue.runs.model_files import model_entries, same_network
from analog_glue.runs.provenance import provenance
from analog_glue.runs.tensors import save_tensors
from analog_glue.settings import RunSettings
from analog_glue.tasks.task import Task, training_batches
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.training.loop import TrainingData, fit
from analog_glue.training.mode import Preparation, TrainingMode


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
    if not is_main_process():
        log = silent
    hardware, computation = runtime(settings, device, tile)
    config = config or config_of(task=task, model=model, noise=device, tile=tile, training=mode)
    choices = choices or _names_of(task, model, device, mode)
    task.check(settings.data.root)
    model.check()
    start = None if mode.start_from is None else read_run(Path(mode.start_from), "training.start_from")
    raw = task.load(settings.data.root)

    root, stem = Path(settings.output_root), f"{choices['task']}-{choices['model']}-{choices['training']}-seed{settings.seed}"
    identity = identity_of_training(settings, task, model, mode, hardware, computation, raw.fingerprint, start)
    found = _find(root, stem, identity, settings, config, model, mode, hardware, computation, raw.fingerprint, start)
    folder, name = found.folder, found.name
    done = is_done(folder) and not settings.force

    if done:
        log(f"Training was done already: {folder}")
        loaded = load_checkpoint_model(folder)
    else:
        loaded = model.load(task.num_labels, settings.seed, texts=raw.train.texts)
        if mode.start_from is not None:
            loaded.model.load_state_dict(load_checkpoint_model(Path(mode.start_from)).model.state_dict())
    placement = Placement.of(loaded.model, hardware)  # patterns that match nothing are refused before anything is trained
    encoded = EncodedData.of(task, raw, loaded)

    if settings.dry_run:
        text = describe(loaded.model, placement, encoded.train, settings, task.name, raw, mode, folder, done, loaded.source)
        return RunSummary(folder, text)
    if not done:
        facts = provenance(
            command="train",
            overrides=list(overrides),
            name=name,
            train_id=found.id,
            recipe=recipe_of(identity, start),
            identity=identity.payload,
            choices=choices,
            seed=settings.seed,
            data={"source": raw.source, "fingerprint": raw.fingerprint},
            model={"source": loaded.source, "parameters": sum(p.numel() for p in loaded.model.parameters())},
            product=computation.product,
            kernel=computation.kernel,
            matmul=taken(),
            device=computation.where,
        )
        if is_main_process():
            if settings.force:
                forget(folder)
            elif not folder.exists() and (nearest := nearest_run(root, stem, identity)):
                log(nearest)
            log(f"Training {name} in {folder}")
        configs = {CONFIG_FILE_OF_RUN: {**config, **scalars(settings)}}
        with working_in(folder), recorded(folder, facts, configs, write=is_main_process()) as outcome:
            outcome["history"] = _train(settings, task, mode, placement, computation, loaded, encoded, folder, log)
        if is_main_process():
            for state in (STATE, BEST):
                (folder / state).unlink(missing_ok=True)
    if not is_main_process():
        return RunSummary(folder, "")  # the sweep is the main process's work
    if not done:
        loaded = load_checkpoint_model(folder)
    subject = subject_of(settings, placement, task, raw, loaded, encoded, folder, log)
    return sweep(settings, placement, computation, subject, config, choices, overrides, log)


def identity_of_training(
    settings: RunSettings,
    task: Task,
    model: Any,
    mode: TrainingMode,
    hardware: Hardware,
    computation: Computation,
    data: str,
    start: dict[str, Any] | None,
) -> Identity:
    """What determines the trained weights; hardware, and how it is computed, where training sees it.

    Args:
        data: Fingerprint of the data.
        start: run.json of the run whose weights are the starting point.
    """
    files = model.folder()
    payload = {
        **resolved("task", task),
        "data": data,
        **resolved("model", model),
        **({} if files is None else model_entries(files)),
        **resolved("training", mode),
        "seed": settings.seed,
    }
    if start is not None:
        payload["training.start_from"] = start["train_id"]
    if mode.uses_hardware:
        payload |= resolved("noise", hardware.device) | resolved("tile", hardware.crossbar)
        payload |= resolved("hardware", settings.hardware)
        payload |= {
            "computation.products": sorted({computation.fine, computation.coarse}),
            "computation.stream": computation.stream,
        }
    return Identity(payload)


def recipe_of(identity: Identity, start: dict[str, Any] | None) -> str:
    """The id of the training without its seed, nor that of the run it starts from."""
    return identity.recipe(**({} if start is None else {"training.start_from": start.get("recipe") or start["train_id"]}))


def _find(
    root: Path,
    stem: str,
    identity: Identity,
    settings: RunSettings,
    config: dict[str, Any],
    model: Any,
    mode: TrainingMode,
    hardware: Hardware,
    computation: Computation,
    data: str,
    start: dict[str, Any] | None,
) -> Found:
    """The folder of a training run; one of version 0.1.0 counts where its checkpoint has the network that is asked for."""
    files = model.folder()
    before = legacy.training_id(
        config,
        data,
        settings.seed,
        None if start is None else start["train_id"],
        settings.hardware if mode.uses_hardware else None,
        files if config["model"].get("path") else None,
    )

    def fits(folder: Path, record: dict[str, Any]) -> bool:
        if mode.uses_hardware and not computed_alike(record, settings, hardware, computation):
            return False
        return files is None or (is_done(folder) and same_network(folder, files, model.dropout))

    return find_run(root, stem, identity, before, fits)


def _train(
    settings: RunSettings,
    task: Task,
    mode: TrainingMode,
    placement: Placement,
    computation: Computation,
    loaded: LoadedModel,
    encoded: EncodedData,
    folder: Path,
    log: Callable[[str], None],
) -> dict[str, Any]:
    """Train and save the model; the history for run.json."""
    calibration = settings.hardware.calibration

    def calibrate(model: nn.Module) -> dict[str, Tensor]:
        return calibrated_ranges(model, placement, encoded.train, calibration)

    preparation = Preparation(placement, computation, NoiseClock(), calibrate)
    prepared = mode.prepare(loaded.model, preparation)
    data = TrainingData(
        order=lambda epoch: training_batches(len(encoded.train), mode.batch_size, settings.seed, epoch),
        batch=encoded.train.batch,
    )

    def validation_scores(model: nn.Module) -> dict[str, float]:
        scores = score(model, task, encoded.validation, settings.evaluation.token_budget)
        return {s.metric: s.value for s in scores}

    trained, history = fit(
        prepared, mode, data, validation_scores, task.headline, preparation, settings.seed, folder, computation.where, log
    )
    if not is_main_process():
        return {}
    fold_output_scales(trained)
    periphery = learned_periphery(trained)
    if periphery:
        tensors = {f"{name}.input_range": p.input_range for name, p in periphery.items()}
        tensors |= {f"{name}.output_scale": p.output_scale for name, p in periphery.items()}
        save_tensors(folder / PERIPHERY_FILE, tensors)
    _save_plain(trained, loaded, folder)
    return asdict(history)


def _save_plain(trained: nn.Module, loaded: LoadedModel, folder: Path) -> None:
    """Save with plain linear layers, so that any reader of Hugging Face checkpoints finds only names it knows."""
    from analog_glue.nn.linear import AnalogLinear

    for name, layer in list(trained.named_modules()):
        if isinstance(layer, AnalogLinear):
            plain = nn.Linear(layer.in_features, layer.out_features, device="meta")
            plain.weight, plain.bias = layer.weight, layer.bias
            trained.set_submodule(name, plain)
    save_model(trained, loaded.tokenizer, folder)


def _names_of(task: Task, model: Any, device: Device, mode: TrainingMode) -> dict[str, str]:
    return {
        "task": task.name,
        "model": model.short,
        "training": mode.name,
        "noise": type(device).__name__.lower(),
        "tile": "custom",
    }
