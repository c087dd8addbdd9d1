"""The command `diagnose`: where the tiles of a trained network lose, on the hardware of this command.

One chip is programmed whose number no sweep has, so that what is decided by what is seen here is not decided by a chip that is
scored. It runs training examples that calibration did not see, at the first and the last of `evaluation.times`. The folder
lies in that of the run, as a tuning does: `<run>/diagnosis-<noise>-<tile>-<id>/`.
"""

import shlex
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from analog_glue.commands import deploy
from analog_glue.commands.calibrated import calibration_batches
from analog_glue.commands.deploy import EvaluationJob, subject_of
from analog_glue.commands.naming import SweepRequest
from analog_glue.commands.summary import RunSummary
from analog_glue.devices.device import Device
from analog_glue.nn.attention import FLOAT32, Attention
from analog_glue.nn.convert import program
from analog_glue.nn.diagnosis import TileDiagnosis, diagnose
from analog_glue.reports.diagnosis import TILES_FILE, Subject, page, pictures, read_tiles, records, terminal
from analog_glue.runs.cells import write_cells
from analog_glue.runs.configuration import scalars
from analog_glue.runs.files import write_bytes_atomic, write_text_atomic
from analog_glue.runs.folder import CONFIG_FILE, forget, is_done, read_run, recorded, working_in
from analog_glue.runs.identity import Identity
from analog_glue.runs.lookup import find_run
from analog_glue.runs.provenance import provenance
from analog_glue.settings import RunSettings, output_root_typed, typed
from analog_glue.tasks.task import Task
from analog_glue.tiles.crossbar import Crossbar

CHIP = -1  # no sweep scores it
COMMAND = "diagnose"  # in run.json


@dataclass(frozen=True)
class DiagnosisJob:
    """A diagnosis that could begin: data and weights are loaded, nothing is programmed or written."""

    evaluation: EvaluationJob  # at the first and the last time

    @property
    def folder(self) -> Path:
        """Of the training run."""
        return self.evaluation.folder

    @property
    def compensated(self) -> bool:
        job = self.evaluation
        return job.placement.hardware.device.drifts and True in job.settings.evaluation.compensation

    @property
    def examples(self) -> int:
        """Training examples that are run through the chip."""
        return min(self.evaluation.settings.hardware.calibration.examples, len(self.evaluation.encoded.train))

    @cached_property
    def identity(self) -> Identity:
        """What determines the numbers: that of a sweep, and what of the settings of scores acts here."""
        job = self.evaluation
        facts = read_run(self.folder, "checkpoint")
        asked = SweepRequest(
            job.settings, job.attention, job.placement.hardware, job.computation, job.config, facts["train_id"],
            job.raw.fingerprint,
        )  # fmt: skip
        payload = {key: value for key, value in asked.identity.payload.items() if key != "evaluation.token_budget"}
        return Identity(
            payload
            | {
                "diagnosis.chip": CHIP,
                "diagnosis.times": job.settings.evaluation.times,
                "diagnosis.compensated": self.compensated,
            }
        )

    @cached_property
    def written_to(self) -> Path:
        """Folder of the diagnosis."""
        job = self.evaluation
        stem = f"diagnosis-{job.choices['noise']}-{job.choices['tile']}"
        return find_run(self.folder, stem, self.identity, None, lambda folder, record: False).folder

    @property
    def done(self) -> bool:
        return is_done(self.written_to) and (self.written_to / TILES_FILE).is_file()

    @property
    def subject(self) -> Subject:
        job = self.evaluation
        return Subject(
            read_run(self.folder, "checkpoint")["name"],
            job.choices["noise"],
            job.choices["tile"],
            job.placement.hardware.crossbar,
            CHIP,
            self.compensated,
            f"{self.examples} training examples",
        )


def prepare(
    settings: RunSettings,
    task: Task,
    device: Device,
    tile: Crossbar,
    config: dict[str, Any] | None = None,
    choices: dict[str, str] | None = None,
    overrides: Iterable[str] = (),
    attention: Attention = FLOAT32,
) -> DiagnosisJob:
    """Load what is needed to put the trained weights of `settings.checkpoint` on the hardware of this command.

    Args:
        task: The task that the checkpoint was trained on.

    Raises:
        UserError: no finished training run in `settings.checkpoint`.
    """
    times = settings.evaluation.times
    ends = sorted({float(min(times)), float(max(times))}) if device.drifts else [float(min(times))]
    settings = replace(settings, evaluation=replace(settings.evaluation, times=ends))
    return DiagnosisJob(deploy.prepare(settings, task, device, tile, config, choices, overrides, attention))


def run(job: DiagnosisJob, log: Callable[[str], None] = print) -> RunSummary:
    """Look at every tile of the job's hardware, once; say what stands out."""
    folder, subject = job.written_to, job.subject
    if job.done and not job.evaluation.settings.force:
        log(f"Already done: {folder}")
        tiles = read_tiles(folder)
    else:
        tiles = _measure(job, log)
    one = job.evaluation
    root = output_root_typed(one.settings.output_root)
    left_out = ("checkpoint", "output_root", "force", "dry_run", "evaluation.chips")
    hardware = [shlex.quote(word) for word in one.overrides if word.partition("=")[0] not in left_out]
    hardware += ["ablate=true"] * bool(one.placement.hardware.non_idealities)
    words = " ".join([typed("checkpoint", job.folder), *hardware, "evaluation.chips=5"])
    steps = [f"analog-glue evaluate {words}{root}   # what it costs in score"]
    steps += [f"see {shlex.quote(str(file))}" for file in sorted(folder.glob("columns-*.png"))]
    return RunSummary(folder, terminal(tiles, subject), tuple(steps), holds="diagnosis")


def _measure(job: DiagnosisJob, log: Callable[[str], None]) -> list[TileDiagnosis]:
    """Diagnose, and write down what was found."""
    one, folder = job.evaluation, job.written_to
    settings, placement, computation = one.settings, one.placement, one.computation
    on_chips = subject_of(
        settings, one.attention, computation.kernel, placement, one.task, one.raw, one.loaded, one.encoded, job.folder, log
    )
    facts = provenance(
        command=COMMAND,
        overrides=list(one.overrides),
        trained=on_chips.facts["name"],
        train_id=on_chips.facts["train_id"],
        identity=job.identity.payload,
        choices=one.choices,
        chip=CHIP,
        chip_seed=settings.evaluation.chip_seed,
        examples=job.examples,
        data=on_chips.data,
        product=computation.product,
        kernel=computation.kernel,
        device=computation.where,
    )
    with working_in(folder, alone=True):
        forget(folder)
        for file in (folder / TILES_FILE, *folder.glob("columns-*")):
            file.unlink(missing_ok=True)
        with recorded(folder, facts, {CONFIG_FILE: {**one.config, **scalars(settings)}}) as outcome:
            started = time.monotonic()
            model, periphery, outcome["input_ranges"] = on_chips.periphery(on_chips.model.to(computation.where))
            chip = program(model, placement, computation, periphery, CHIP, settings.evaluation.chip_seed)
            where = next(model.parameters()).device
            batches = calibration_batches(one.encoded.train, job.examples, where, after=job.examples)
            log(f"Looking at {len(chip.layers)} layers of {job.subject.chip_name} with {job.examples} training examples")
            tiles = diagnose(chip, batches, settings.evaluation.times, job.compensated)
            drawn = pictures(tiles, job.subject)
            write_cells(folder / TILES_FILE, records(tiles))
            for name, picture in drawn.items():
                for file_name, content in picture.files(name).items():
                    write_bytes_atomic(folder / file_name, content)
            write_text_atomic(folder / "diagnosis.md", page(tiles, job.subject, list(drawn)))
            outcome["seconds"] = time.monotonic() - started
    return tiles
