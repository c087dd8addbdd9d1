"""One straight function for `evaluate checkpoint=<extraction>`: weights trained in situ on chips of another kind, as they age.

train in situ → extract → program → drift sweep. The network is the plain one of torch with the extracted weights; its chips,
periphery, calibration, times and rows are those of every other network (commands/deploy.py). Results lie in
`<output_root>/<run>/<extraction>/<weights>-<id>/<noise>-<tile>-<id>/`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from analog_glue.commands.calibrated import calibrated_ranges
from analog_glue.commands.deploy import EncodedData, Subject, runtime, sweep
from analog_glue.commands.summary import RunSummary
from analog_glue.devices.device import Device
from analog_glue.errors import require
from analog_glue.evaluation import Sentences, Workload
from analog_glue.in_situ.commands.extract import in_digital
from analog_glue.in_situ.commands.train import RUN, check_data, run_of
from analog_glue.in_situ.commands.workloads import workload_of
from analog_glue.in_situ.devices.device import PulsedDevice
from analog_glue.in_situ.files import EXTRACTION
from analog_glue.in_situ.nn.plain import on_linear_layers
from analog_glue.in_situ.tasks.heads import HeadTask
from analog_glue.in_situ.tasks.task import InSituTask
from analog_glue.in_situ.training.loop import Trainable
from analog_glue.in_situ.training.mode import InSituMode
from analog_glue.nn.computation import Computation
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.nn.placement import Placement
from analog_glue.runs.fingerprint import fingerprint, fingerprint_of_file
from analog_glue.runs.identity import ID_LENGTH
from analog_glue.runs.spoiled import read_record
from analog_glue.runs.tensors import load_tensors
from analog_glue.settings import RunSettings
from analog_glue.tiles.crossbar import Crossbar


@dataclass(frozen=True)
class DeploymentJob:
    """Chips that could be programmed with extracted weights: all is loaded, nothing is programmed or written."""

    settings: RunSettings
    task: InSituTask
    mode: InSituMode
    placement: Placement
    computation: Computation
    config: dict[str, Any]
    choices: dict[str, str]
    overrides: tuple[str, ...]
    trained: dict[str, Any]  # run.json of the in-situ run
    file: Path  # of the weights
    weights: list[np.ndarray]  # of every array (outputs, inputs), in units of the network's weights
    trainable: Trainable
    data: dict[str, str]  # source, fingerprint
    model: nn.Module  # the plain network with the weights

    @property
    def folder(self) -> Path:
        """Of the extraction."""
        return self.file.parent


def prepare(
    settings: RunSettings,
    task: InSituTask,
    device: PulsedDevice,
    mode: InSituMode,
    noise: Device,
    tile: Crossbar,
    config: dict[str, Any],
    choices: dict[str, str],
    overrides: Iterable[str] = (),
) -> DeploymentJob:
    """Load what is needed to put the weights of the extraction in `settings.checkpoint` on the hardware of this command.

    Args:
        task, device, mode: Components of the in-situ run; the pulsed devices are not used again.
        noise, tile: The hardware of this command.

    Raises:
        UserError: an extraction without averaged weights where `evaluation.weights` asks for them.
    """
    hardware, computation = runtime(settings, noise, tile)
    extraction, chosen = Path(str(settings.checkpoint)), settings.evaluation.weights
    trained = read_record(extraction.parent / RUN)
    file = extraction / f"{chosen}.safetensors"
    require(file.is_file(), "evaluation.weights", "be extracted for an extraction without averaged weights", chosen,
            "Train the last epochs with training.average_products=100000 and extract again.")  # fmt: skip
    tensors, _ = load_tensors(file)
    seed = run_of(extraction.parent)["seed"]
    trainable, data = task.load(settings.data.root, mode, device, seed)
    check_data(extraction.parent, data)
    weights = [tensors[str(number)].numpy() for number in range(len(tensors))]
    model = on_linear_layers(trainable.deployable(weights)).eval()
    placement = Placement.of(model, hardware)
    return DeploymentJob(
        settings, task, mode, placement, computation, config, choices, tuple(overrides), trained, file, weights, trainable,
        data, model,
    )  # fmt: skip


def run(job: DeploymentJob, log: Callable[[str], None] = print) -> RunSummary:
    """Score the weights on the job's hardware over time."""
    settings, task, mode, placement, computation = job.settings, job.task, job.mode, job.placement, job.computation
    config, choices, overrides, trained, file = job.config, job.choices, job.overrides, job.trained, job.file
    trainable, weights, data, model, extraction = job.trainable, job.weights, job.data, job.model, job.folder
    seed, chosen = trained["seed"], file.stem
    calibration = settings.hardware.calibration
    source = calibration.in_words

    workload: Workload
    if isinstance(task, HeadTask):
        raw, loaded = task.load_sentences(settings.data.root, seed)
        encoded = EncodedData.of(task.task, raw, loaded)
        workload = Sentences(task.task, raw, encoded.validation, settings.evaluation.token_budget)
        ranges_of = partial(calibrated_ranges, placement=placement, train=encoded.train, calibration=calibration)
    else:
        workload = workload_of(trainable, in_digital(trainable, weights, mode, seed), computation.where)
        ranges_of = partial(workload.ranges, placement=placement, calibration=calibration)

    def calibrated(model: nn.Module) -> tuple[nn.Module, dict[str, LayerPeriphery], str]:
        log(f"Calibrating the input ranges: {source}")
        ranges: dict[str, Tensor] = ranges_of(model)
        return model, {name: LayerPeriphery(alpha) for name, alpha in ranges.items()}, source

    # A run that goes on is extracted anew: the weights themselves say which ones these are.
    train_id = fingerprint_of_file(file)[:ID_LENGTH]
    facts = {
        "name": trained["name"],
        "train_id": train_id,
        "seed": trained["seed"],
        "recipe": _recipe(trained, extraction, chosen),
    }
    names = {
        **choices,
        "task": trained["choices"]["task"],
        "model": "-".join(trained["choices"][group] for group in (*["model"] * isinstance(task, HeadTask), "device")),
        "training": f"{trained['choices']['training']}_{chosen}",
    }
    folder = f"{trained['name']}/{extraction.name}/{chosen}-{train_id}"
    subject = Subject(model, calibrated, workload, facts, data, extraction, folder)
    return sweep(settings, placement, computation, subject, config, names, overrides, log)


def _recipe(trained: dict[str, Any], extraction: Path, chosen: str) -> str:
    """Equal for extractions that differ in nothing but seeds; empty where the run is older than recipes."""
    if "recipe" not in trained:
        return ""
    read = read_record(extraction / EXTRACTION)
    how = {name: read[name] for name in ("inputs", "products", "amplitude", "time")}
    return fingerprint({"training": trained["recipe"], "weights": chosen, **how}, ID_LENGTH)
