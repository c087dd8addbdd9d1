"""The command `tune`: ranges and scales around trained weights, fitted to a hardware without any training.

The network stays what it is. What was found is a checkpoint of its own, a folder
`<run>/tuned-<method>-<noise>-<tile>-<id>/` with the weights of the run (the same file, linked where the file system can), the
tuned ranges in analog.safetensors, and tuning.json, which says what was chosen for each layer and what each step did to the
error of the outputs. Then the run and its tuned checkpoint are scored on the same chips, others than those that were tuned on.
"""

import math
import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analog_glue.commands.calibrated import calibration_batches, periphery_of, put_in_attention
from analog_glue.commands.deploy import EvaluationJob, is_main_process, silent, subject_of, sweep
from analog_glue.commands.deploy import prepare as prepare_evaluation
from analog_glue.commands.summary import RunSummary
from analog_glue.configuration.again import words_again
from analog_glue.devices.device import Device
from analog_glue.errors import UserError
from analog_glue.models import load_checkpoint_model
from analog_glue.nn.attention import FLOAT32, Attention
from analog_glue.nn.diagnosis import TileDiagnosis, diagnose
from analog_glue.nn.periphery import LayerPeriphery, periphery_tensors
from analog_glue.nn.placement import Placement
from analog_glue.reports.diagnosis import Subject, page, pictures, records
from analog_glue.reports.figures import time_label
from analog_glue.runs.cells import write_cells
from analog_glue.runs.configuration import scalars
from analog_glue.runs.files import exclusive, replacing, write_bytes_atomic, write_json_atomic, write_text_atomic
from analog_glue.runs.folder import (
    ATTENTION_FILE,
    CONFIG_FILE_OF_RUN,
    PERIPHERY_FILE,
    TUNING_FILE,
    checkpoint_config,
    end_of_force,
    is_done,
    one_call,
    read_run,
    recorded,
    starts_over,
    working_in,
)
from analog_glue.runs.identity import Identity, resolved
from analog_glue.runs.lookup import Found, find_run
from analog_glue.runs.model_files import OF_TOKENIZER, weight_files
from analog_glue.runs.own_files import FIELD as OWN_FILES
from analog_glue.runs.own_files import hashes
from analog_glue.runs.provenance import provenance
from analog_glue.runs.rows import Measurement, ResultsFile
from analog_glue.runs.tensors import save_tensors
from analog_glue.settings import RunSettings, output_root_typed, typed
from analog_glue.tasks.task import Task
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tuning.bench import Batches, Bench, Periphery
from analog_glue.tuning.method import Tuned, Tuning

LOOKED_AT = 8  # examples of a diagnosis
OF_MODEL = ("config.json", *OF_TOKENIZER)  # small files that make a folder a checkpoint, beside its weights


@dataclass(frozen=True)
class TuningJob:
    """A tuning that could begin: data and weights are loaded, nothing is programmed or written."""

    evaluation: EvaluationJob  # of the run that is tuned
    tuning: Tuning
    facts: dict[str, Any]  # run.json of that run
    identity: Identity
    recipe: str
    choices: dict[str, str]
    found: Found

    @property
    def folder(self) -> Path:
        """Of the tuned checkpoint."""
        return self.found.folder

    @property
    def done(self) -> bool:
        return is_done(self.folder) and not starts_over(self.folder, self.evaluation.settings.force)


def prepare(
    settings: RunSettings,
    tuning: Tuning,
    task: Task,
    device: Device,
    tile: Crossbar,
    config: dict[str, Any] | None = None,
    choices: dict[str, str] | None = None,
    overrides: Iterable[str] = (),
    attention: Attention = FLOAT32,
) -> TuningJob:
    """Load what is needed to tune the run in `settings.checkpoint` for the hardware of this command.

    Args:
        task: The task that the checkpoint was trained on.
        attention: How its products are computed.

    Raises:
        UserError: no finished training run in `settings.checkpoint`, tiles that lack what is to be tuned, or too few examples.
    """
    tuning.check(tile)
    folder = Path(str(settings.checkpoint))
    facts = read_run(folder, "checkpoint")
    if facts.get("command") == "tune":
        raise UserError(
            f"Setting `checkpoint` must be a training run, but {folder} is one that was tuned already. "
            f"Tune its run anew, with another tuning or hardware: {typed('checkpoint', folder.parent)}."
        )
    evaluation = prepare_evaluation(settings, task, device, tile, config, choices, overrides, attention)
    wanted = settings.tune.examples + settings.tune.compared + settings.tune.judged
    there = len(evaluation.encoded.train)
    if there < wanted:
        raise UserError(
            f"Settings `tune.examples`, `tune.compared` and `tune.judged` must add up to at most {there}, the training "
            f"examples, but are {settings.tune.examples} + {settings.tune.compared} + {settings.tune.judged}. Lower them."
        )
    option = (choices or {}).get("tuning", tuning.name)
    names = evaluation.choices | {"training": f"{facts['choices']['training']}+{option}"}
    on = {"noise": device, "tile": tile, "hardware": settings.hardware, "attention": attention, "tune": settings.tune}
    payload = {
        **facts.get("identity", {}),
        **resolved("tuning", tuning),
        **{key: value for group, part in on.items() for key, value in resolved(f"tuned.{group}", part).items()},
        "tuned.chip_seed": settings.evaluation.chip_seed,
        "tuned.run": facts["train_id"],
        "tuned.stream": evaluation.computation.stream,
        "tuned.product": evaluation.computation.product,
    }
    identity = Identity(payload)
    stem = f"tuned-{option}-{names['noise']}-{names['tile']}"
    found = find_run(folder, stem, identity, None, lambda folder, record: False)
    recipe = identity.recipe(**{"tuned.run": facts.get("recipe") or facts["train_id"]})
    return TuningJob(evaluation, tuning, facts, identity, recipe, names, found)


@one_call()
def run(job: TuningJob, log: Callable[[str], None] = print) -> RunSummary:
    """Tune, unless that is done, and score the run and its tuned checkpoint on the same chips."""
    if not is_main_process():
        log = silent
    of_run, folder = job.evaluation, job.folder
    settings = of_run.settings
    if job.done:
        log(f"Tuned already: {folder}")
    else:
        _tune(job, log)
    scored = [_scored(job, of_run.folder, of_run.choices, log), _scored(job, folder, job.choices, log)]
    end_of_force(folder)
    before, after = ([row for row in ResultsFile(place).rows() if row.headline] for place in scored)
    root = output_root_typed(settings.output_root)
    hardware = words_again(of_run.config | scalars(settings), job.choices)
    words = " ".join([typed("checkpoint", folder), *hardware, "ablate=true"])
    return RunSummary(
        folder,
        compared(before, after),
        (
            f"analog-glue tables {shlex.quote(settings.output_root)}",
            f"analog-glue evaluate {words}{root}   # what is left",
        ),
        holds="checkpoint",
    )


def _tune(job: TuningJob, log: Callable[[str], None]) -> None:
    """Tune and write the checkpoint."""
    of_run, folder, settings = job.evaluation, job.folder, job.evaluation.settings
    train, chosen = of_run.encoded.train, settings.tune
    facts = provenance(
        command="tune",
        overrides=list(of_run.overrides),
        name=f"{job.facts['name']}/{folder.name}",
        train_id=job.found.id,
        recipe=job.recipe,
        identity=job.identity.payload,
        choices=job.facts["choices"] | {"training": job.choices["training"]},
        seed=job.facts["seed"],
        parent={"name": job.facts["name"], "train_id": job.facts["train_id"]},
        data={"source": of_run.raw.source, "fingerprint": of_run.raw.fingerprint},
        product=of_run.computation.product,
        kernel=of_run.computation.kernel,
        device=of_run.computation.where,
    )
    log(f"Tuning {job.facts['name']} by {job.choices['training'].partition('+')[2]} in {folder}")
    config = checkpoint_config(of_run.folder) | {"tuning": of_run.config.get("tuning"), "tuned": scalars(settings)["tune"]}
    started = time.monotonic()
    model: Any = of_run.loaded.model.eval()
    model.to(of_run.computation.where)
    put_in_attention(of_run.folder, model, of_run.attention, train, of_run.computation.kernel, log)
    model, periphery, source = periphery_of(of_run.folder, model, of_run.placement, train, settings.hardware.calibration, log)
    configs = {CONFIG_FILE_OF_RUN: config}
    with working_in(folder, alone=True), recorded(folder, facts, configs, force=settings.force) as outcome:

        def examples(first: int, count: int) -> Batches:
            return calibration_batches(train, count, next(model.parameters()).device, first, token_budget=1024)

        bench = Bench(
            model, of_run.placement, of_run.computation, examples, chosen.examples, chosen.compared, chosen.judged,
            chosen.chips, chosen.judges, chosen.time, settings.evaluation.chip_seed,
        )  # fmt: skip
        tuned = job.tuning.tune(bench, periphery, log)
        seconds = time.monotonic() - started
        _save(of_run, folder, tuned, f"tuned ({job.tuning.name})")
        record = {"source": source, "seconds": seconds, "steps": [step.record() for step in tuned.steps]}
        record["multiplies_per_token"] = multiplies(bench, tuned.periphery)
        write_json_atomic(folder / TUNING_FILE, record)
        said = _diagnose(bench, periphery, tuned.periphery, job)
        outcome |= {"seconds": seconds, OWN_FILES: hashes(folder)}
        if not any(step.logit_errors for step in tuned.steps):  # those that were judged have been told
            for step in tuned.steps:
                log(f"{step.method}: {step.words()}")
        log(f"Tuned in {seconds:.1f} s. {said}")


def _save(of_run: EvaluationJob, folder: Path, tuned: Tuned, source: str) -> None:
    """The files of the run, and the tuned ranges beside them."""
    weights = {file.name for file in weight_files(of_run.folder)}
    for name in (*OF_MODEL, ATTENTION_FILE, *weights):
        if (of_run.folder / name).is_file():
            _link(of_run.folder / name, folder / name)
    save_tensors(folder / PERIPHERY_FILE, periphery_tensors(tuned.periphery), {"source": source})


def _diagnose(bench: Bench, before: Periphery, after: Periphery, job: TuningJob) -> str:
    """Look at the tiles of one chip before and after, and write both down; one line on what changed."""
    drifts = job.evaluation.placement.hardware.device.drifts
    examples = min(LOOKED_AT, bench.compared)
    batches = bench.examples(bench.calibration, examples)
    pages, means = [], []
    for when, periphery in (("before", before), ("after", after)):
        tiles = diagnose(bench.chip(periphery, 0), batches, [bench.time], drifts)
        subject = Subject(
            f"{job.facts['name']} {when} tuning", job.choices["noise"], job.choices["tile"], bench.placement.hardware.crossbar,
            -1, drifts, f"{examples} training examples",
        )  # fmt: skip
        drawn = pictures(tiles, subject)
        write_cells(job.folder / f"tiles-{when}.csv", records(tiles))
        for name, picture in drawn.items():
            for file_name, content in picture.files(f"{when}-{name}").items():
                write_bytes_atomic(job.folder / file_name, content)
        pages.append(page(tiles, subject, [f"{when}-{name}" for name in drawn]))
        means.append([_share(tiles, field) for field in ("clipped", "saturated", "rms_code", "filled")])
    write_text_atomic(job.folder / "diagnosis.md", "\n".join(pages))
    names = ("clipped inputs", "saturated outputs", "rms code", "columns filled")
    told = [f"{name} {old} → {new}" for name, old, new in zip(names, *means, strict=True) if old]
    return f"Over all tiles: {', '.join(told)}."


def _share(tiles: list[TileDiagnosis], field: str) -> str:
    """Mean over tiles [%]; "" where tiles have no such converter."""
    values = [value for tile in tiles if (value := getattr(tile, field)) is not None]
    return f"{100 * sum(values) / len(values):.3g} %" if values else ""


def _link(source: Path, target: Path) -> None:
    """The same file under another name where the file system can, else a copy; files of a run are replaced, never changed."""
    if target.exists() and target.samefile(source):
        return  # a name that replaces another of the same file would stay beside it
    with exclusive(target.parent) as folder, replacing(target, folder) as partial:
        try:
            os.link(source, partial)
        except OSError:
            shutil.copyfile(source, partial)


def _scored(job: TuningJob, folder: Path, choices: dict[str, str], log: Callable[[str], None]) -> Path:
    """Score the checkpoint in `folder` on the hardware of this command; where its rows are."""
    own = job.evaluation
    loaded = load_checkpoint_model(folder)
    placement = Placement.of(loaded.model, own.placement.hardware)
    subject = subject_of(
        own.settings, own.attention, own.computation.kernel, placement, own.task, own.raw, loaded, own.encoded, folder, log
    )
    return sweep(own.settings, placement, own.computation, subject, own.config, choices, own.overrides, log).run_dir


def compared(before: list[Measurement], after: list[Measurement]) -> str:
    """Scores before and after at every time, and the change on the same chips with its standard error.

    Args:
        before: Rows of the headline metric of the run on this hardware.
        after: Those of the tuned checkpoint.
    """
    digital = next((row.value for row in before if row.stage == "digital"), math.nan)
    metric = next((row.metric for row in before), "")
    lines = [f"{'':>12} {'chips':>6} {'before':>16} {'after':>16} {'change':>16}    {metric}, digital {digital:.2f}"]
    both = {_place(row): row.value for row in before if row.stage == "chip"}
    pairs: dict[tuple[float, bool], list[tuple[float, float]]] = {}
    for row in after:
        if row.stage == "chip" and _place(row) in both and row.t_seconds is not None and row.compensated is not None:
            pairs.setdefault((row.t_seconds, row.compensated), []).append((both[_place(row)], row.value))
    for (t, compensated), values in sorted(pairs.items()):
        label = time_label(t) + ("" if compensated else " raw")
        columns = [[old for old, _ in values], [new for _, new in values], [new - old for old, new in values]]
        cells = [_mean(column, signed=column is columns[2]) for column in columns]
        lines.append(f"{label:>12} {len(values):>6} {cells[0]:>16} {cells[1]:>16} {cells[2]:>16}")
    lines.append("Mean ± standard error over chips; the change is that of each chip.")
    return "\n".join(lines)


def _place(row: Measurement) -> tuple[int | None, float | None, bool | None, str, str]:
    return row.chip, row.t_seconds, row.compensated, row.stream, row.split


def _mean(values: list[float], signed: bool) -> str:
    mean = sum(values) / len(values)
    if len(values) < 2:
        return f"{mean:+.2f}" if signed else f"{mean:.2f}"
    error = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
    return f"{mean:+.2f} ± {error:.2f}" if signed else f"{mean:.2f} ± {error:.2f}"


def multiplies(bench: Bench, periphery: dict[str, LayerPeriphery]) -> dict[str, int]:
    """Digital multiplies a token that an `input_scale` costs, by layer that first reads the inputs; none where there is none.

    Layers that read the same tensor share them. That of an attention output folds into the values where attention is in floats.
    """
    from analog_glue.nn.attention_interface import products_of

    in_floats = all(layer.attention.bits is None for layer in products_of(bench.model).values())
    counted: dict[str, int] = {}
    for group in bench.shared:
        scale = periphery[group[0]].input_scale
        if scale is None:
            continue
        folds = in_floats and group[0] in bench.attention_outputs
        counted[group[0]] = 0 if folds else len(scale)
    return counted


def describe(job: TuningJob) -> str:
    """What would be tuned, for `dry_run=true`, beside what `dry_run.describe` says of the hardware."""
    chosen = job.evaluation.settings.tune
    chips = f"{chosen.chips} chip{'s' * (chosen.chips > 1)} of {time_label(chosen.time)}"
    state = "done already" if job.done else (
        f"ranges from {chosen.examples} training examples, compared on {chosen.compared} others and {chips}, "
        f"judged on {chosen.judged} more and {chosen.judges} other chips"
    )  # fmt: skip
    return f"\nTuning     {job.choices['training'].partition('+')[2]}: {state}; in {job.folder}"
