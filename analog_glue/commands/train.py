"""The command `train`: load data and model → fine-tune (resumes) → save → drift sweep → table.

A training run lives in `<output_root>/<task>-<model>-<mode>-seed<seed>-<id>/`, where the id is a hash of what determines the
trained weights; each hardware it is put on has a folder in there, named by a hash of what determines the scores. The same
command twice finds its work done; more chips or times add rows; an interrupted command continues.
"""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from analog_glue.commands.calibrated import calibrate_attention, calibrated_ranges
from analog_glue.commands.deploy import (
    EncodedData,
    is_main_process,
    runtime,
    silent,
    subject_of,
    sweep,
)
from analog_glue.commands.naming import TrainingRequest
from analog_glue.commands.summary import RunSummary
from analog_glue.configuration.again import OBJECT
from analog_glue.devices.device import Device
from analog_glue.errors import UserError
from analog_glue.evaluation import score
from analog_glue.kernels.matmul import taken
from analog_glue.models import LoadedModel, load_checkpoint_model, save_model, start_from
from analog_glue.nn.attention import FLOAT32, Attention
from analog_glue.nn.attention_interface import products_of, put_in, require_supported, take_out
from analog_glue.nn.computation import Computation
from analog_glue.nn.convert import fold_output_scales, learned_periphery
from analog_glue.nn.noise_clock import NoiseClock
from analog_glue.nn.periphery import periphery_tensors
from analog_glue.nn.placement import Placement, beside_tiles
from analog_glue.runs.configuration import config_of, scalars
from analog_glue.runs.folder import (
    ATTENTION_FILE,
    BEST,
    CONFIG_FILE_OF_RUN,
    PERIPHERY_FILE,
    STATE,
    end_of_force,
    is_done,
    one_call,
    read_run,
    recorded,
    starts_over,
    working_in,
)
from analog_glue.runs.identity import Identity
from analog_glue.runs.lookup import Found, nearest_run
from analog_glue.runs.own_files import FIELD as OWN_FILES
from analog_glue.runs.own_files import hashes
from analog_glue.runs.provenance import provenance
from analog_glue.runs.tensors import save_tensors
from analog_glue.settings import RunSettings
from analog_glue.tasks.task import RawData, Task, training_batches
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.training.loop import TrainingData, fit
from analog_glue.training.mode import Preparation, TrainingMode


@dataclass(frozen=True)
class TrainingJob:
    """A training run that could begin: data and model are loaded, nothing is trained, programmed or written."""

    settings: RunSettings
    task: Task
    mode: TrainingMode
    attention: Attention
    placement: Placement
    computation: Computation
    config: dict[str, Any]
    choices: dict[str, str]
    overrides: tuple[str, ...]
    raw: RawData
    loaded: LoadedModel
    encoded: EncodedData
    identity: Identity
    recipe: str  # the id of the training without its seed
    found: Found
    done: bool  # whether it is trained already

    @property
    def folder(self) -> Path:
        """Of the run."""
        return self.found.folder


def prepare(
    settings: RunSettings,
    task: Task,
    model: Any,
    device: Device,
    tile: Crossbar,
    mode: TrainingMode,
    config: dict[str, Any] | None = None,
    choices: dict[str, str] | None = None,
    overrides: Iterable[str] = (),
    attention: Attention = FLOAT32,
    log: Callable[[str], None] = print,
) -> TrainingJob:
    """Load what is needed to fine-tune `model` on `task`, put it on chips and score it over time.

    Args:
        model: `models.PretrainedModel` or `models.TinyModel`.
        config: The resolved configuration, kept beside the results. None: made from the components.
        choices: Config group → option, for the names in tables. None: the components' own names.
        overrides: The words of the command line, kept beside the results.
        attention: How its products are computed, in training and on chips.

    Raises:
        UserError: settings that cannot be run, before anything is downloaded or trained where that can be known.
    """
    if not is_main_process():
        log = silent
    hardware, computation = runtime(settings, device, tile)
    config = config or config_of(task=task, model=model, attention=attention, noise=device, tile=tile, training=mode)
    choices = choices or _names_of(task, model, device, mode)
    task.check(settings.data.root)
    model.check()
    mode.check(hardware, computation)
    require_supported(attention, model.kind())
    start = None if mode.start_from is None else read_run(Path(mode.start_from), "training.start_from")
    raw = task.load(settings.data.root)

    asked = TrainingRequest(settings, task, model, mode, attention, hardware, computation, config, raw.fingerprint, start)
    found = asked.find(Path(settings.output_root), _stem(settings, choices))
    folder = found.folder
    done = is_done(folder) and not starts_over(folder, settings.force)

    if done:
        log(f"Training was done already: {folder}")
        loaded = load_checkpoint_model(folder)
    else:
        loaded = model.load(task.num_labels, settings.seed, texts=raw.train.texts, classes=task.labels)
        if mode.start_from is not None:
            loaded = start_from(loaded, Path(mode.start_from), settings.seed, task.labels)
        if mode.max_steps == 0 and loaded.has_new_head:
            raise UserError(
                f"Setting `training.max_steps` must be at least 1 for a model without a head of {task.name}, but is 0. "
                f"{loaded.remark or f'{loaded.source} is an encoder alone.'}"
            )
    placement = Placement.of(loaded.model, hardware)  # patterns that match nothing are refused before anything is trained
    encoded = EncodedData.of(task, raw, loaded)

    return TrainingJob(
        settings, task, mode, attention, placement, computation, config, choices, tuple(overrides), raw, loaded, encoded,
        asked.identity, asked.recipe, found, done,
    )  # fmt: skip


@one_call()
def run(job: TrainingJob, log: Callable[[str], None] = print) -> RunSummary:
    """Train, unless that is done, score over time, and write everything down."""
    if not is_main_process():
        log = silent
    settings, task, mode, placement, computation = job.settings, job.task, job.mode, job.placement, job.computation
    config, choices, overrides, folder, name = job.config, job.choices, job.overrides, job.folder, job.found.name
    raw, loaded, encoded, done = job.raw, job.loaded, job.encoded, job.done
    if not done:
        facts = provenance(
            command="train",
            overrides=list(overrides),
            name=name,
            train_id=job.found.id,
            recipe=job.recipe,
            identity=job.identity.payload,
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
            if not folder.exists() and (nearest := nearest_run(folder.parent, _stem(settings, choices), job.identity)):
                log(nearest)
            log(f"Training {name} in {folder}")
            if beside := beside_tiles(loaded.model):
                log(f"Not on tiles: {beside}")
            if loaded.remark:
                log(loaded.remark)
        configs = {CONFIG_FILE_OF_RUN: {**config, **scalars(settings)}}
        main = is_main_process()
        held = working_in(folder, alone=True) if main else nullcontext()  # the others work for the one that holds the folder
        with held, recorded(folder, facts, configs, main, settings.force) as outcome:
            outcome["history"] = _train(
                settings, task, mode, job.attention, placement, computation, loaded, encoded, folder, log
            )
            if is_main_process():
                outcome[OWN_FILES] = hashes(folder)
    if is_main_process():
        for state in (STATE, BEST):  # of a finished run nobody needs them, whichever call finished it
            (folder / state).unlink(missing_ok=True)
    if not is_main_process():
        return RunSummary(folder, "")  # the sweep is the main process's work
    if not done:
        loaded = load_checkpoint_model(folder)
    subject = subject_of(settings, job.attention, computation.kernel, placement, task, raw, loaded, encoded, folder, log)
    summary = sweep(settings, placement, computation, subject, config, choices, overrides, log)
    end_of_force(folder)
    return summary


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
    attention: Attention = FLOAT32,
    log: Callable[[str], None] = print,
) -> RunSummary:
    """`prepare`, whose arguments these are, and `run`."""
    return run(prepare(settings, task, model, device, tile, mode, config, choices, overrides, attention, log), log)


def _train(
    settings: RunSettings,
    task: Task,
    mode: TrainingMode,
    attention: Attention,
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

    put_in(loaded.model, attention, computation.kernel)
    preparation = Preparation(
        placement, computation, NoiseClock(), calibrate, lambda model: calibrate_attention(model, encoded.train)
    )
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
        save_tensors(folder / PERIPHERY_FILE, periphery_tensors(periphery))
    if attention.bits is not None:
        save_tensors(folder / ATTENTION_FILE, {name: layer.scale_tensor for name, layer in products_of(trained).items()})
    _save_plain(trained, loaded, folder)
    return asdict(history)


def _save_plain(trained: Any, loaded: LoadedModel, folder: Path) -> None:
    """Save with plain linear layers, so that any reader of Hugging Face checkpoints finds only names it knows."""
    from analog_glue.nn.linear import AnalogLinear

    for name, layer in list(trained.named_modules()):
        if isinstance(layer, AnalogLinear):
            plain = nn.Linear(layer.in_features, layer.out_features, device="meta")
            plain.weight, plain.bias = layer.weight, layer.bias
            trained.set_submodule(name, plain)
    take_out(trained)
    save_model(trained, loaded.tokenizer, folder)


def _stem(settings: RunSettings, choices: dict[str, str]) -> str:
    """How the name of the run's folder begins."""
    return f"{choices['task']}-{choices['model']}-{choices['training']}-seed{settings.seed}"


def _names_of(task: Task, model: Any, device: Device, mode: TrainingMode) -> dict[str, str]:
    return {
        "task": task.name,
        "model": model.short,
        "training": mode.name,
        "noise": type(device).__name__.lower(),
        "tile": OBJECT,
    }
