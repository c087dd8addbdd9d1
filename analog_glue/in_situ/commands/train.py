"""One straight function for the command `train` with a task that learns on pulsed devices.

A run lives in `<output_root>/<task>[-<model>]-<device>-<mode>-seed<seed>-<id>/`; the id is a hash of what determines the
trained weights.

    run_config.json            everything that was chosen
    run.json                   provenance, and whether the run is done
    learning_curve.csv         one row per epoch
    training_state.safetensors all devices, filters and the network's state: resumes the run, and is what extraction reads

The same command twice finds its work done; an interrupted command goes on where it stopped.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from analog_glue.commands.summary import RunSummary
from analog_glue.errors import UserError, require
from analog_glue.in_situ.devices.device import PulsedDevice
from analog_glue.in_situ.files import CHANGES_NOTHING, CONFIG, CURVE, EXTRACTION, PERTURBATION, PRUNING, RUN
from analog_glue.in_situ.tasks.heads import HeadTask
from analog_glue.in_situ.tasks.task import InSituTask
from analog_glue.in_situ.training.loop import STATE, Epoch, Trainable, check_names, fit_in_situ
from analog_glue.in_situ.training.mode import InSituMode
from analog_glue.reports.grids import NO_DEVICE
from analog_glue.runs import legacy
from analog_glue.runs.cells import read_cells, write_cells
from analog_glue.runs.files import write_json_atomic
from analog_glue.runs.folder import BEGUN_BY_FORCE, LOCK, begin_by_force, end_of_force, recorded, status_of, working_in
from analog_glue.runs.identity import NO_RESULT, Identity, resolved
from analog_glue.runs.lookup import Found, find_run, nearest_run
from analog_glue.runs.model_files import model_entries
from analog_glue.runs.provenance import provenance
from analog_glue.runs.rows import RESULTS_FILE
from analog_glue.runs.spoiled import read_record, told_if_spoiled
from analog_glue.settings import RunSettings, typed

OF_EXTRACTIONS = (  # files in their folders, and in those of their weights on other hardware
    EXTRACTION, PRUNING, PERTURBATION, "extracted.safetensors", "averaged.safetensors", "spread.safetensors",
    RESULTS_FILE, RUN, "config.json", "input_ranges.json", LOCK, BEGUN_BY_FORCE,
)  # fmt: skip


@dataclass(frozen=True)
class InSituJob:
    """A run on pulsed devices that could begin: its data are loaded and its devices drawn, nothing is trained or written."""

    settings: RunSettings
    device: PulsedDevice
    mode: InSituMode
    chosen: dict[str, Any]  # the configuration of every group that the run has
    names: dict[str, str]  # of the options
    overrides: tuple[str, ...]
    trainable: Trainable
    data: dict[str, str]  # source, fingerprint
    identity: Identity
    stem: str  # how the name of the folder begins
    found: Found

    @property
    def folder(self) -> Path:
        """Of the run."""
        return self.found.folder

    @property
    def epochs_done(self) -> int:
        """How many are trained."""
        with suppress(UserError):  # it is made again of what the state holds of it
            return len(read_cells(self.folder / CURVE))
        return 0


def prepare(
    settings: RunSettings,
    task: InSituTask,
    device: PulsedDevice,
    mode: InSituMode,
    config: dict[str, Any] | None = None,
    choices: dict[str, str] | None = None,
    overrides: Iterable[str] = (),
) -> InSituJob:
    """Load what is needed to train `task` on pulsed devices."""
    if settings.runtime.threads:
        torch.set_num_threads(settings.runtime.threads)
    chosen = {**task.config(), "device": asdict(device), "training": asdict(mode)}
    chosen = {group: config[group] if config else own for group, own in chosen.items()}
    names = choices or {"task": task.name, "device": type(device).__name__, "training": type(mode).__name__}
    if not mode.on_devices:
        names = {**names, "device": NO_DEVICE}
    task.check(settings.data.root)
    trainable, data = task.load(settings.data.root, mode, device, settings.seed)
    check_names(trainable, mode)
    identity = _identity(task, device, mode, data["fingerprint"], settings.seed)
    counts = {group: values for group, values in chosen.items() if group != "device" or mode.on_devices}
    before = legacy.in_situ_id(counts, CHANGES_NOTHING, data["fingerprint"], settings.seed)
    named = "-".join(names[group] for group in ("task", "model", "device", "training") if group in chosen and group in names)
    root, stem = Path(settings.output_root), f"{named}-seed{settings.seed}"
    found = find_run(root, stem, identity, before, lambda folder, record: True)  # that id holds all that determines the run
    return InSituJob(settings, device, mode, chosen, names, tuple(overrides), trainable, data, identity, stem, found)


def run(job: InSituJob, log: Callable[[str], None] = print) -> RunSummary:
    """Train, and write the learning curve down.

    More `training.epochs` than before continue a finished run, as one run of so many epochs would have gone: rates that decay
    do so by the number of the epoch. Only what `training.average_epochs` collects begins anew in the new last epochs.
    """
    settings, mode, chosen, names, overrides = job.settings, job.mode, job.chosen, job.names, job.overrides
    trainable, data, identity, folder, name = job.trainable, job.data, job.identity, job.folder, job.found.name
    with working_in(folder, alone=True):
        begin_by_force(folder, settings.force, forget)
        write_json_atomic(folder / CONFIG, {**chosen, "seed": settings.seed, "data": {"root": settings.data.root}})
        done = job.epochs_done >= mode.epochs and status_of(folder) == "done"
        begins = not (done or (folder / RUN).exists() or settings.force)
        if begins and (nearest := nearest_run(folder.parent, job.stem, identity)):
            log(nearest)
        log(f"Already done: {folder}" if done else f"Training {name} in {folder}")
        facts = provenance(
            command="train", overrides=list(overrides), name=name, train_id=job.found.id, choices=names, seed=settings.seed,
            data=data, recipe=identity.recipe(data=data.get("without_seed", data["fingerprint"])), identity=identity.payload,
        )  # fmt: skip
        with recorded(folder, facts, write=not done) as outcome:
            curve = fit_in_situ(trainable, mode, folder, log, lambda curve: _write(curve, folder))
            outcome["seconds"] = curve[-1].seconds
        end_of_force(folder)
    return RunSummary(folder, _table(curve), (f"analog-glue extract {typed('checkpoint', folder)}",), holds="run")


def train_in_situ(
    settings: RunSettings,
    task: InSituTask,
    device: PulsedDevice,
    mode: InSituMode,
    config: dict[str, Any] | None = None,
    choices: dict[str, str] | None = None,
    overrides: Iterable[str] = (),
    log: Callable[[str], None] = print,
) -> RunSummary:
    """`prepare`, whose arguments these are, and `run`."""
    return run(prepare(settings, task, device, mode, config, choices, overrides), log)


def _identity(task: InSituTask, device: PulsedDevice, mode: InSituMode, data: str, seed: int) -> Identity:
    """What determines all that an epoch learns."""
    leave_out = {**CHANGES_NOTHING, "model": NO_RESULT["model"]}
    parts = {"task": task.task, "model": task.model} if isinstance(task, HeadTask) else {"task": task}
    files = task.model.folder() if isinstance(task, HeadTask) else None
    payload = {key: value for group, part in parts.items() for key, value in resolved(group, part, leave_out).items()}
    payload |= {} if files is None else model_entries(files)
    payload |= resolved("device", device, leave_out) if mode.on_devices else {}
    return Identity({**payload, **resolved("training", mode, leave_out), "data": data, "seed": seed})


def forget(folder: Path) -> None:
    """Remove what was trained in a run's folder, and what was extracted from it and scored, for `force=true`; nothing else."""
    for file in (CURVE, RUN, STATE):
        (folder / file).unlink(missing_ok=True)
    for extraction in folder.glob("extraction-*/"):
        for path in sorted(extraction.rglob("*"), reverse=True):  # folders after what is in them
            if path.name in OF_EXTRACTIONS:
                path.unlink()
            elif path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        if not any(extraction.iterdir()):
            extraction.rmdir()


def _write(curve: list[Epoch], folder: Path) -> None:
    write_cells(folder / CURVE, [epoch.row() for epoch in curve])


def run_of(folder: Path) -> dict[str, Any]:
    """What was chosen for the in-situ run in `folder`: task, device and training as resolved yaml, seed, data.

    Raises:
        UserError: `folder` holds no state of an in-situ run that the command line started.
    """
    config = read_record(folder / CONFIG) if (folder / CONFIG).exists() else {}
    found = (folder / STATE).is_file() and "_target_" in (config.get("training") or {})
    require(found, "checkpoint", f"be the folder of an in-situ run with its {STATE}", str(folder),
            "`analog-glue list runs` shows the runs; those that say `epoch … of …` are trained in situ.")  # fmt: skip
    return config


def check_data(folder: Path, data: dict[str, str]) -> None:
    """Raises UserError unless `data` are those that the run in `folder` learnt."""
    with told_if_spoiled(folder / RUN):
        learnt = read_record(folder / RUN)["data"]["fingerprint"]
    require(data["fingerprint"] == learnt, "data.root", f"hold what the run learnt (fingerprint {learnt})", data["fingerprint"],
            "Name the data of the run; of a head, its encoder, too (model.path).")  # fmt: skip


def _table(curve: list[Epoch]) -> str:
    names = list(curve[-1].scores)
    lines = ["epoch  train loss  " + "  ".join(names)]
    for epoch in curve[-10:]:
        values = "  ".join(f"{epoch.scores[name]:{len(name)}.4f}" for name in names)
        lines.append(f"{epoch.epoch:5}  {epoch.train_loss:10.4f}  {values}{'  (whole test set)' if epoch.whole else ''}")
    return "\n".join(lines)
