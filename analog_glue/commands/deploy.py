"""The command `evaluate`: load a trained model → drift sweep on the hardware of this command → table.

A training run lives in `<output_root>/<task>-<model>-<mode>-seed<seed>-<id>/`, where the id is a hash of what determines the
trained weights; each hardware it is put on has a folder in there, named by a hash of what determines the scores. The same
command twice finds its work done; more chips or times add rows; an interrupted command continues.
"""

import os
import shlex
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from analog_glue.commands.calibrated import attention_scales, periphery_of, put_in_attention
from analog_glue.commands.naming import SweepRequest
from analog_glue.commands.summary import RunSummary
from analog_glue.configuration.again import OBJECT, words_again
from analog_glue.devices.device import Device
from analog_glue.errors import require
from analog_glue.evaluation import Point, Scored, Sentences, Workload, drift_sweep, points, read_noise_error
from analog_glue.kernels.integer_product import compiled_is_exact, obstacle
from analog_glue.kernels.matmul import route, taken
from analog_glue.kernels.products import ESTIMATING
from analog_glue.models import LoadedModel, load_checkpoint_model, positions_of
from analog_glue.nn.attention import FLOAT32, Attention
from analog_glue.nn.attention_interface import products_of, require_supported
from analog_glue.nn.computation import Computation
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.nn.placement import Placement, clipped_weights
from analog_glue.progress import Progress
from analog_glue.reports.drift import drift_table
from analog_glue.runs.configuration import config_of, scalars
from analog_glue.runs.files import read_json, write_json_atomic
from analog_glue.runs.folder import BEGUN_BY_FORCE, CONFIG_FILE, RUN_FILE, end_of_force, read_run, recorded, working_in
from analog_glue.runs.lookup import nearest_run
from analog_glue.runs.provenance import provenance
from analog_glue.runs.rows import RESULTS_SCHEMA, Measurement, ResultsFile
from analog_glue.settings import RunSettings, output_root_typed, typed
from analog_glue.tasks.task import Encoded, RawData, Task, encode
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tiles.operands import possible_product


@dataclass(frozen=True)
class EvaluationJob:
    """An evaluation that could begin: data and weights are loaded, nothing is programmed or written."""

    settings: RunSettings
    task: Task
    attention: Attention
    placement: Placement
    computation: Computation
    config: dict[str, Any]
    choices: dict[str, str]
    overrides: tuple[str, ...]
    raw: RawData
    loaded: LoadedModel
    encoded: "EncodedData"
    folder: Path  # of the training run


def prepare(
    settings: RunSettings,
    task: Task,
    device: Device,
    tile: Crossbar,
    config: dict[str, Any] | None = None,
    choices: dict[str, str] | None = None,
    overrides: Iterable[str] = (),
    attention: Attention = FLOAT32,
) -> EvaluationJob:
    """Load what is needed to put the trained weights of `settings.checkpoint` on the hardware of this command.

    Args:
        task: The task that the checkpoint was trained on (`checkpoint_config` gives its configuration).
        attention: How its products are computed; scales learned in training are used where it is that of the training.

    Raises:
        UserError: no finished training run in `settings.checkpoint`.
    """
    hardware, computation = runtime(settings, device, tile)
    checkpoint = Path(str(settings.checkpoint))
    facts = read_run(checkpoint, "checkpoint")
    config = config or config_of(attention=attention, noise=device, tile=tile)
    choices = facts["choices"] | {"noise": type(device).__name__.lower(), "tile": OBJECT} | (choices or {})
    task.check(settings.data.root)
    raw = task.load(settings.data.root)
    loaded = load_checkpoint_model(checkpoint)
    require_supported(attention, loaded.model.config.model_type)
    placement = Placement.of(loaded.model, hardware)
    encoded = EncodedData.of(task, raw, loaded)
    return EvaluationJob(
        settings, task, attention, placement, computation, config, choices, tuple(overrides), raw, loaded, encoded, checkpoint
    )


def run(job: EvaluationJob, log: Callable[[str], None] = print) -> RunSummary:
    """Score the weights on the job's hardware over time."""
    subject = subject_of(
        job.settings,
        job.attention,
        job.computation.kernel,
        job.placement,
        job.task,
        job.raw,
        job.loaded,
        job.encoded,
        job.folder,
        log,
    )
    return sweep(job.settings, job.placement, job.computation, subject, job.config, job.choices, job.overrides, log)


def evaluate(
    settings: RunSettings,
    task: Task,
    device: Device,
    tile: Crossbar,
    config: dict[str, Any] | None = None,
    choices: dict[str, str] | None = None,
    overrides: Iterable[str] = (),
    attention: Attention = FLOAT32,
    log: Callable[[str], None] = print,
) -> RunSummary:
    """`prepare`, whose arguments these are, and `run`."""
    return run(prepare(settings, task, device, tile, config, choices, overrides, attention), log)


@dataclass(frozen=True)
class EncodedData:
    train: Encoded
    validation: dict[str, Encoded]

    @classmethod
    def of(cls, task: Task, raw: RawData, loaded: LoadedModel) -> "EncodedData":
        """
        Raises:
            UserError: texts may be longer than the model has positions.
        """
        positions = positions_of(loaded.model)
        fits = positions is None or task.max_length <= positions
        require(fits, "task.max_length", f"be at most {positions}, the positions of the model", task.max_length)

        def tokens(split: Any) -> Encoded:
            return encode(split, loaded.tokenizer, task.max_length, task.num_labels)

        return cls(tokens(raw.train), {name: tokens(split) for name, split in raw.validation.items()})


@dataclass(frozen=True)
class Subject:
    """What is put on chips: a plain network, what it is scored on, and where both come from."""

    model: nn.Module
    # The model for the chips, the periphery of its layers by name, and where its input ranges come from.
    periphery: Callable[[nn.Module], tuple[nn.Module, dict[str, LayerPeriphery], str]]
    workload: Workload
    facts: dict[str, Any]  # of the training run: name, train_id, seed, recipe
    data: dict[str, str]  # source, fingerprint
    checkpoint: Path
    folder: str  # of its sweeps, below `output_root`
    attention: Attention = FLOAT32
    attention_scales: str = ""  # "learned", "calibrated", or "" of attention in floats


def subject_of(
    settings: RunSettings,
    attention: Attention,
    kernel: str,
    placement: Placement,
    task: Task,
    raw: RawData,
    loaded: LoadedModel,
    encoded: EncodedData,
    trained_in: Path,
    log: Callable[[str], None],
) -> Subject:
    facts = read_run(trained_in, "checkpoint")

    def prepared(model: Any) -> tuple[nn.Module, dict[str, LayerPeriphery], str]:
        put_in_attention(trained_in, model, attention, encoded.train, kernel, log)
        return periphery_of(trained_in, model, placement, encoded.train, settings.hardware.calibration, log)

    return Subject(
        loaded.model,
        prepared,
        Sentences(task, raw, encoded.validation, settings.evaluation.token_budget),
        facts,
        {"source": raw.source, "fingerprint": raw.fingerprint},
        trained_in,
        facts["name"],
        attention,
        attention_scales(trained_in, attention),
    )


@dataclass(frozen=True)
class Share:
    """What a sweep scores where it is one of several that belong together (commands/variants.py), in a folder of theirs."""

    label: str  # column `ablation` of its rows
    stem: str  # of its folder's name
    stages: tuple[str, ...]  # that it scores
    first_chip: int = 0  # that it scores

    def has(self, point: Point) -> bool:
        """Whether it scores a point of the whole sweep."""
        return point.stage in self.stages and (point.chip is None or point.chip >= self.first_chip)

    def sweep_name(self, folder: Path) -> str:
        """Column `sweep` of its rows: which several, and which of them."""
        return f"{folder.parent.name}/{folder.name}"


def sweep(
    settings: RunSettings,
    placement: Placement,
    computation: Computation,
    subject: Subject,
    config: dict[str, Any],
    choices: dict[str, str],
    overrides: Iterable[str],
    log: Callable[[str], None],
    share: Share | None = None,
    progress: Progress | None = None,
) -> RunSummary:
    """Score a trained network on the hardware of this command over time; only what is not known is measured.

    Args:
        progress: Over several sweeps, of which this is a `share`; None: one of its own.
    """
    facts = subject.facts
    evaluation, hardware = settings.evaluation, placement.hardware
    asked = SweepRequest(
        settings, subject.attention, hardware, computation, config, facts["train_id"], subject.data["fingerprint"]
    )
    root, stem = Path(settings.output_root) / subject.folder, share.stem if share else f"{choices['noise']}-{choices['tile']}"
    folder = asked.find(root, stem).folder
    results = ResultsFile(folder)
    wanted = [p for p in points(evaluation, hardware.device.drifts) if not share or share.has(p)]
    if settings.force:
        forget_scores(folder, wanted)
    known = results.rows()
    name = share.sweep_name(folder) if share else folder.name
    # A folder keeps the hardware_id that it has, and rows join those that are there, which may be older than some columns.
    hardware_id = str(read_json(folder / RUN_FILE).get("hardware_id", asked.physics.id))
    data = subject.data.get("without_seed", subject.data["fingerprint"])  # an encoder that the seed draws is no data
    of_all_rows = {"data": data, "recipe": str(facts.get("recipe", ""))}
    if any(not row.data for row in known):
        of_all_rows = {}
    of_all_rows |= {"attention": subject.attention.precision, "attention_scales": subject.attention_scales}
    if share:
        of_all_rows["ablation"] = share.label
    missing = unmeasured(wanted, known)
    if not missing:
        log(f"Already done: {folder}")
        if (said := read_json(folder / RUN_FILE)).get("status") == "running":  # killed between its last row and this note
            write_json_atomic(folder / RUN_FILE, {**said, "status": "done"})
    else:
        if not known and (nearest := nearest_run(root, stem, asked.identity)):
            log(nearest)
        if clipped := clipped_weights(subject.model, placement):
            log(clipped)
        model, periphery, source = subject.periphery(subject.model.to(computation.where))
        ranges = {name: p.input_range.tolist() for name, p in periphery.items()}
        configs = {
            "input_ranges.json": {"source": source, "input_ranges": ranges},
            **_scales_record(model, subject.attention_scales),
            CONFIG_FILE: {**config, **scalars(settings)},
        }
        provenance_of_sweep = provenance(
            command="sweep",
            overrides=list(overrides),
            trained=facts["name"],
            train_id=facts["train_id"],
            hardware_id=hardware_id,
            identity=asked.identity.payload,
            results_schema=RESULTS_SCHEMA,
            choices=choices,
            chip_seed=evaluation.chip_seed,
            data=subject.data,
            input_ranges=source,
            product=computation.product,
            kernel=computation.kernel,
            matmul=taken(),
            device=computation.where,
        )
        started = time.monotonic()
        to_do = set(missing)
        scored = drift_sweep(
            model, placement, computation, periphery, subject.workload, evaluation, lambda point: point not in to_do
        )
        if computation.product == ESTIMATING and isinstance(subject.workload, Sentences) and evaluation.chips:
            log(read_noise_error(model, placement, computation, periphery, subject.workload, evaluation))
        if known:
            log(f"Resuming the sweep: {len(wanted) - len(missing)} of {len(wanted)} scores are measured.")
        with ExitStack() as stack:
            stack.enter_context(working_in(folder))
            outcome = stack.enter_context(recorded(folder, provenance_of_sweep, configs))
            progress = progress or stack.enter_context(Progress("drift sweep", len(missing), "score", log=log))
            for one in scored:
                more = of_all_rows | _computed(one.point.stage, computation)
                results.append(_rows(one, subject.workload.headline, facts, choices, hardware_id, name, more))
                progress.update(1)
            outcome["seconds"] = time.monotonic() - started
    end_of_force(folder)
    rows = [row for row in results.rows() if row.hardware_id == hardware_id]
    another = "pcm" if choices["noise"] != "pcm" else "pcm_reduced"
    chosen = ["attention"] if any(word.startswith("attention") for word in overrides) else []
    same = words_again(config | scalars(settings), choices, [*chosen, "tile"])
    words = " ".join([typed("checkpoint", subject.checkpoint), f"noise={another}", *same])
    return RunSummary(
        folder,
        drift_table(rows),
        (
            f"analog-glue tables {shlex.quote(settings.output_root)}",
            f"analog-glue evaluate {words}{output_root_typed(settings.output_root)}   # on other devices",
        ),
    )


def _scales_record(model: nn.Module, source: str) -> dict[str, Any]:
    """The scales of integer attention as a file beside the rows; none where attention is of floats."""
    scales = {name: asdict(layer.scales) for name, layer in products_of(model).items()} if source else {}
    return {"attention_scales.json": {"source": source, "scales": scales}} if scales else {}


def forgotten_by_force(folder: Path) -> set[Point]:
    """Points whose scores a call with `force` that has not come to its end forgot in a sweep's folder."""
    return {Point(*point) for point in read_json(folder / BEGUN_BY_FORCE).get("points", [])}


def forget_scores(folder: Path, wanted: Iterable[Point]) -> None:
    """Forget what was measured at `wanted`, each point once until `end_of_force`; scores of other chips and times stay."""
    before = forgotten_by_force(folder)
    now = set(wanted) - before
    if now:
        ResultsFile(folder).keep(lambda row: point_of(row) not in now)
        write_json_atomic(folder / BEGUN_BY_FORCE, {"points": [astuple(point) for point in before | now]})


def unmeasured(wanted: Iterable[Point], rows: Iterable[Measurement]) -> list[Point]:
    """Those points, in their order, that no row is a score of."""
    measured = {point_of(row) for row in rows}
    return [point for point in wanted if point not in measured]


def point_of(row: Measurement) -> Point:
    return Point(row.stage, row.chip, row.t_seconds, row.compensated)


def _computed(stage: str, computation: Computation) -> dict[str, str]:
    """The columns of a row that say how its noise and products came about; none for what is digital."""
    if stage not in ("ideal_devices", "chip"):
        return {}
    used = computation if stage == "chip" else computation.beside_noise(0.0)
    return {"product": used.product, "stream": used.stream}


def _rows(
    one: Scored,
    headline: str,
    facts: dict[str, Any],
    choices: dict[str, str],
    hardware_id: str,
    sweep: str,
    more: dict[str, str],
) -> list[Measurement]:
    """Args: more: The columns of `Measurement` that may be empty, by name."""
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
            **more,
        )
        for s in one.scores
    ]


def runtime(settings: RunSettings, device: Device, tile: Crossbar) -> tuple[Hardware, Computation]:
    """The hardware on paper, and how this machine computes it: torch's threads and products are set from here on."""
    cuda = torch.cuda.is_available()
    where = settings.runtime.device
    require(where != "cuda" or cuda, "runtime.device", "be cpu or auto on a machine without a CUDA device", where)
    where = ("cuda" if cuda else "cpu") if where == "auto" else where
    if settings.runtime.threads > 0:
        torch.set_num_threads(settings.runtime.threads)
    product = settings.runtime.product
    fits = ("auto", "float32", *(("float16",) if where == "cuda" else ("int8", "int8_single", ESTIMATING)))
    require(product in fits, "runtime.product", f"be one of {', '.join(fits)} on {where}", product)
    hardware = Hardware(device, tile, tuple(settings.hardware.layers))
    compensation = settings.hardware.compensation
    computation = Computation.resolved(hardware, where, settings.runtime.kernel, product, **compensation)
    wrong = obstacle(computation.kernel, tile.rows) if product.startswith("int8") else None
    require(wrong is None, "runtime.product", "be auto or float32 here", product, f"The reason: {wrong}.")
    able = computation.kernel == "compiled" and compiled_is_exact(tile.rows) and possible_product(product, tile) == product
    estimates = able and tile.read_noise > 0 and tile.ir_drop == 0
    require(product != ESTIMATING or estimates, "runtime.product", "be auto or int8_single here", product,
            "Only compiled kernels draw read noise from outliers, on tiles with read noise, a DAC of at most 8 bits and no "
            "IR drop.")  # fmt: skip
    route(settings.runtime.matmul, where)
    return hardware, computation


def is_main_process() -> bool:
    """True for the one process of a plain run, and for one among those of `accelerate launch`."""
    return int(os.environ.get("RANK", "0")) == 0


def silent(message: str) -> None:
    """What the other processes of `accelerate launch` say."""
