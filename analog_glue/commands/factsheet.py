"""The command `factsheet`: what a network on its tiles is, takes and scores, as Markdown, JSON and one HTML file.

It reads, and computes nothing of a network: architecture from config.json or the run's record, scores from rows. So it works on
a record without weights. A run without scores of chips gets its sheet, too: accuracy says which command measures it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analog_glue.commands.summary import RunSummary
from analog_glue.configuration.build import as_annotated, build
from analog_glue.costs.architectures import PUBLISHED, Architecture
from analog_glue.costs.estimate import Costs, Estimate, Workload
from analog_glue.devices.device import Device
from analog_glue.errors import UserError
from analog_glue.nn.attention import FLOAT32, Attention
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.names import chosen_by_name
from analog_glue.reports.drift import figure_note, panel_of
from analog_glue.reports.factsheet import (
    FactSheet,
    Subject,
    amount_text,
    chips_text,
    costs_part,
    efficiency_fact,
    judged,
    latency_name,
    operations_text,
    performance_part,
    points_text,
    scores_of,
)
from analog_glue.reports.factsheet_methods import (
    architecture_part,
    data_part,
    inference_part,
    limits_part,
    machines_part,
    overview_part,
    purpose_part,
    test_data_part,
    training_part,
)
from analog_glue.reports.factsheet_pages import as_html, as_json, as_page
from analog_glue.reports.figures import drift_figure, time_label
from analog_glue.reports.grids import NAMES
from analog_glue.reports.published_sheet import beside_published
from analog_glue.reports.reprogramming import Verdict
from analog_glue.reports.sections import pivot
from analog_glue.reports.statistics import summarise
from analog_glue.reports.told_apart import on_paper, told_apart
from analog_glue.runs.files import read_json, write_text_atomic
from analog_glue.runs.fingerprint import fingerprint
from analog_glue.runs.folder import (
    CONFIG_FILE,
    CONFIG_FILE_OF_RUN,
    RUN_FILE,
    TUNING_FILE,
    checkpoint_config,
    files_of_runs,
    is_done,
    read_run,
)
from analog_glue.runs.identity import Payload, differences, resolved
from analog_glue.runs.rows import RESULTS_FILE, Measurement, ResultsFile
from analog_glue.settings import RunSettings, output_root_typed, typed
from analog_glue.tiles.crossbar import Crossbar

FOLDER = "factsheet"  # in that of the run
ALONE = "factsheets"  # in output_root, of models without a run
STEM = "factsheet"
# First parts of settings that a sheet reads, and of those that say how the command runs.
READ = {
    *("checkpoint", "task", "model", "attention", "noise", "tile", "hardware", "costs", "sequence_length", "batch"),
    *("reprogramming", "output_root", "dry_run", "force", "runtime", "data", "hydra"),
}
HARDWARE = ("noise", "tile", "attention", "hardware")  # that a command which scores or trains takes as well
NAMED = (*HARDWARE, "costs", "sequence_length", "batch", "reprogramming")  # in the name of a sheet's folder
LONGEST = 100  # characters of that name


@dataclass(frozen=True)
class FactSheetJob:
    """A sheet that could be written: everything is read, nothing is written."""

    folder: Path
    subject: Subject
    load: Workload
    costs: Costs
    option: str  # of `costs`
    settings: RunSettings

    @property
    def parameters(self) -> int | None:
        return self.subject.parameters or self.load.architecture.parameters


@dataclass(frozen=True)
class _Sweep:
    """Scores of a run on one hardware: folders that differ in how products were computed, or in chips."""

    noise: str
    tile: str
    attention: str
    folders: list[Path]
    rows: list[Measurement]
    config: dict[str, Any]
    scales: str  # of attention in integers, `learned` or `calibrated`
    telling: str = ""  # what tells it from others of the same names

    @property
    def names(self) -> tuple[str, ...]:
        return self.noise, self.tile, self.attention

    @property
    def paper(self) -> Payload:
        """Of its hardware, and where the scales of its attention come from."""
        return on_paper(self.config) | {"attention_scales": self.scales}

    @property
    def scores(self) -> int:
        return len({(row.chip, row.t_seconds, row.compensated) for row in self.rows if row.stage == "chip"})

    @property
    def in_words(self) -> str:
        chips = len({row.chip for row in self.rows if row.stage == "chip"})
        attention = "" if self.attention == "fp32" else f", attention in {self.attention}"
        telling = f", {self.telling}" if self.telling else ""
        return f"{self.noise} on {self.tile}{attention}{telling} ({chips_text(chips)})"


def prepare(
    settings: RunSettings,
    parts: Mapping[str, Any],
    config: Mapping[str, Any],
    choices: Mapping[str, str],
    words: Sequence[str] = (),
) -> FactSheetJob:
    """Read what there is of a run, or of a model alone.

    Args:
        parts: `costs`, and of `task`, `model`, `attention`, `noise` and `tile` those that were chosen.
        config: Resolved yaml of these groups.
        choices: Group → option of these.
        words: Overrides as they were typed.

    Raises:
        UserError: a setting that no sheet reads, neither a checkpoint nor a model, a checkpoint of another kind, a sweep that
            does not say its hardware, a cost file without values, an architecture whose layers are not known, or a sequence
            that the model has no positions for.
    """
    for word in words:
        if (key := _key(word)).partition(".")[0] not in READ:
            raise UserError(
                f"Setting `{key}` must be left out of `factsheet`, which reads scores and measures none, but is given: {word}. "
                "`analog-glue evaluate` measures."
            )
    costs = checked_costs(parts, choices)
    asked = {group: parts[group] for group in ("attention", "noise", "tile") if group in parts}
    if settings.checkpoint is None:
        if config.get("model") is None:
            raise UserError(
                "Setting `checkpoint` must name the folder of a run, or `model` a model, but neither is given. "
                "Write checkpoint=outputs/… (`analog-glue list runs` shows the runs), or model=bert_base."
            )
        return _alone(settings, parts, config, choices, asked, words)
    if config.get("model") is not None:
        raise UserError(
            f"Setting `model` must be left out where `checkpoint` names a run, but is {choices.get('model')}. "
            "The run knows its own model."
        )
    folder = Path(settings.checkpoint)
    if not folder.is_dir():
        raise UserError(
            f"Setting `checkpoint` must be the folder of a run, but `{folder}` is none. `analog-glue list runs` shows them."
        )
    if _is_elsewhere(folder):
        run = _run_of(folder, Path(settings.output_root))
        if run is None:
            return _elsewhere(settings, costs, choices, asked, folder, words)
        folder = run
    elif config.get("task") is not None:
        raise UserError(
            f"Setting `task` must be left out for a run of analog-glue, which knows its own, but is {choices['task']}."
        )
    return _of_run(settings, costs, choices, asked, folder, words)


def checked_costs(parts: Mapping[str, Any], choices: Mapping[str, str]) -> Costs:
    """The component `costs`.

    Raises:
        UserError: a cost file without values.
    """
    costs = parts.get("costs")
    if not isinstance(costs, Costs):
        raise UserError(
            f"Group `costs` must be a file with a `_target_` and its values, but {choices.get('costs')} has none. Copy "
            "bottom_up.yaml, which `analog-glue list options` names, and change it."
        )
    return costs


def _key(word: str) -> str:
    """Of an override."""
    return word.lstrip("+~").partition("=")[0].partition("@")[0]


def _of_groups(words: Iterable[str], groups: Iterable[str]) -> list[str]:
    """Those that choose or change one of these groups."""
    return [word for word in words if _key(word).partition(".")[0] in groups]


def _command(start: str, words: Iterable[str], groups: Iterable[str], root: str) -> str:
    """A command with what was typed of these groups; on phase-change memory where no devices were."""
    kept = _of_groups(words, groups)
    kept += [] if any(_key(word) == "noise" for word in kept) else ["noise=pcm"]
    return f"{start} {' '.join(shlex.quote(word) for word in kept)}{output_root_typed(root)}"


def _below(folder: Path, words: Iterable[str], more: Sequence[str] = ()) -> Path:
    """A folder for each length, batch, cost file and hardware that was typed, so that no sheet replaces another one."""
    defaults = {"costs=factsheet2022", *(f"{name}={getattr(RunSettings, name)}" for name in ("sequence_length", "batch"))}
    said = sorted({word for word in _of_groups(words, (*NAMED, *more)) if _key(word) != "model"} - defaults)
    name = ",".join(said)
    safe = re.sub(r"[^\w.=,+-]", "_", name)
    safe = safe if safe == name and len(name) <= LONGEST else f"{safe[:LONGEST]}-{fingerprint(said, 8)}"
    return folder / safe if said else folder


def _is_elsewhere(folder: Path) -> bool:
    """Whether it holds a model that no run of ours wrote."""
    ours = any((folder / name).exists() for name in (RUN_FILE, CONFIG_FILE_OF_RUN, "extraction.json"))
    return not ours and "model_type" in read_json(folder / CONFIG_FILE)


def _run_of(model: Path, root: Path) -> Path | None:
    """The newest finished run below `root` that took in the weights of a model's folder; None where there is none."""
    found = []
    for file in files_of_runs(root, CONFIG_FILE_OF_RUN) if root.is_dir() else ():
        said = read_json(file)
        path = (said.get("model") or {}).get("path")
        taken = (said.get("training") or {}).get("max_steps") == 0 and isinstance(path, str)
        if taken and Path(str(path)).resolve() == model.resolve() and is_done(file.parent):
            found.append((str(read_json(file.with_name(RUN_FILE)).get("started")), file.parent))
    return max(found)[1] if found else None


def _alone(
    settings: RunSettings,
    parts: Mapping[str, Any],
    config: Mapping[str, Any],
    choices: Mapping[str, str],
    asked: Mapping[str, Any],
    words: Sequence[str],
) -> FactSheetJob:
    """A model without a run."""
    short, task = str(parts["model"].short), parts.get("task")
    entries, origin = _entries_of(config["model"], short)
    classes = None if task is None else tuple(task.labels)
    why = "Accuracy is empty: no run was named, and an architecture alone has no scores. Train one: "
    start = "analog-glue train" + ("" if task is not None else " task=mrpc")
    why += _command(start, words, ("task", "model", *HARDWARE), settings.output_root)
    subject = Subject(
        short, short, None if task is None else task.name, classes, origin, None, *_hardware(asked, settings, choices, None),
        no_scores=why,
    )  # fmt: skip
    folder = _below(Path(settings.output_root) / ALONE / short, words, ("task", "model"))
    outputs = 2 if classes is None else len(classes) or 1
    return _job(folder, subject, Architecture(entries, outputs), settings, parts["costs"], asked, choices)


def _elsewhere(
    settings: RunSettings,
    costs: Costs,
    choices: Mapping[str, str],
    asked: Mapping[str, Any],
    model: Path,
    words: Sequence[str],
) -> FactSheetJob:
    """A model's folder that was not evaluated yet."""
    entries = read_json(model / CONFIG_FILE)
    task = [] if _of_groups(words, ("task",)) else ["task=…"]
    why = "Accuracy is empty: its weights were never put on chips. This does it: "
    start = " ".join(["analog-glue evaluate", typed("checkpoint", model), *task])
    why += _command(start, words, ("task", *HARDWARE), settings.output_root)
    labels = entries.get("id2label")
    subject = Subject(
        model.name, model.name, choices.get("task"), None, str(model / CONFIG_FILE), None,
        *_hardware(asked, settings, choices, None), no_scores=why,
    )  # fmt: skip
    folder = _below(Path(settings.output_root) / ALONE / model.resolve().name, words, ("task",))
    classes = len(labels) if isinstance(labels, dict) and labels else 2
    return _job(folder, subject, Architecture(entries, classes), settings, costs, asked, choices)


def _of_run(
    settings: RunSettings,
    costs: Costs,
    choices: Mapping[str, str],
    asked: Mapping[str, Any],
    folder: Path,
    words: Sequence[str],
) -> FactSheetJob:
    """A training run or a tuned checkpoint, with its weights or without."""
    for name, what in (("extraction.json", "an extraction"), ("learning_curve.csv", "a run")):
        if (folder / name).is_file():
            raise UserError(
                f"Setting `checkpoint` must be a run on phase-change memory, but {str(folder)!r} is {what} that was trained in "
                "situ, whose costs are not known here. `analog-glue list runs` shows the others."
            )
    facts, config = read_run(folder, "checkpoint"), checkpoint_config(folder)
    node: Mapping[str, Any] = config.get("model") or {}
    names = facts.get("choices") or {}
    short = str(node.get("short") or names.get("model") or folder.name)
    entries, origin = entries_of_run(folder, facts, node, short)
    task = build(as_annotated(config["task"], "task"), "task")
    classes = tuple(task.labels)
    sweeps = _sweeps(folder, Path(settings.output_root) / str(facts["name"]), str(facts.get("train_id", "")))
    chosen = _chosen(sweeps, asked, _typed_hardware(settings, words))
    hardware, noise, tile, said = _hardware(asked, settings, choices, chosen, config, names)
    rows = [] if chosen is None else chosen.rows
    on_chips = any(row.stage == "chip" for row in rows)
    if chosen is None:  # the network's own score is the same on every hardware
        attention = str(getattr(asked.get("attention"), "precision", "fp32"))
        rows = [
            row for one in sweeps for row in one.rows if row.stage in ("digital", "majority") and row.attention == attention
        ]
    sections = [section for section in pivot(rows)[0] if section.digital or section.cells]
    empty = "Accuracy on chips is empty: no sweep of this hardware was made. This makes one: "
    empty += _command(f"analog-glue evaluate {typed('checkpoint', folder)}", words, HARDWARE, settings.output_root)
    subject = Subject(
        str(facts["name"]), short, task.name, classes, origin, (facts.get("model") or {}).get("parameters"), hardware, noise,
        tile, said, facts, config, read_json(chosen.folders[0] / RUN_FILE) if chosen else {}, sections, "" if on_chips else
        empty, [one.in_words for one in sweeps if one is not chosen and one.scores], read_json(folder / TUNING_FILE),
    )  # fmt: skip
    own = (chosen.config if chosen else config).get("attention")
    trained: Attention = build(as_annotated(own, "attention"), "attention") if own else FLOAT32
    architecture = Architecture(entries, len(classes) or 1)
    return _job(
        _below(folder / FOLDER, words), subject, architecture, settings, costs, {"attention": trained, **asked}, choices
    )


def _job(
    folder: Path,
    subject: Subject,
    architecture: Architecture,
    settings: RunSettings,
    costs: Costs,
    asked: Mapping[str, Any],
    choices: Mapping[str, str],
) -> FactSheetJob:
    hardware = subject.hardware
    layers = chosen_by_name(architecture.linears, hardware.layers, "Setting `hardware.layers`", "linear")
    attention = asked.get("attention", FLOAT32)
    load = workload_of(architecture, hardware.crossbar, layers, attention, settings, subject.tuned)
    return FactSheetJob(folder, subject, load, costs, choices.get("costs", "costs"), settings)


def workload_of(
    architecture: Architecture,
    crossbar: Crossbar,
    layers: Iterable[str],
    attention: Attention,
    settings: RunSettings,
    tuned: Mapping[str, Any],
) -> Workload:
    """The batch that is priced, with `layers` on tiles; what the model or the length does not allow is refused here.

    Args:
        tuned: tuning.json of a tuned checkpoint; empty for any other.
    """
    linears = architecture.linears
    grids = {name: crossbar.grid(linears[name].outputs, linears[name].inputs) for name in layers}
    rescaled = tuned.get("multiplies_per_token") or {}
    return Workload(architecture, crossbar, grids, attention, settings.sequence_length, settings.batch, rescaled)


def _entries_of(node: Mapping[str, Any], short: str) -> tuple[Mapping[str, Any], str]:
    """config.json of a model without a run, and where it is from; nothing is downloaded.

    Raises:
        UserError: it lies nowhere here.
    """
    if "hidden" in node and "vocabulary_size" in node:  # made on the spot
        return _tiny(node), "the settings of the model, which is made on the spot; its vocabulary comes with a task"
    path = node.get("path")
    if path is not None:
        if not (entries := read_json(Path(path) / CONFIG_FILE)):
            raise UserError(f"Setting `model.path` must be a folder with a config.json, but {path} has none that can be read.")
        return entries, str(Path(path) / CONFIG_FILE)
    from analog_glue.hub import in_cache

    cached = in_cache(str(node["name"]), "model", str(node["revision"]), lambda folder: (folder / CONFIG_FILE).is_file())
    if cached is not None:
        return read_json(cached / CONFIG_FILE), f"config.json of {node['name']} in the cache of the hub"
    if short in PUBLISHED:
        return PUBLISHED[short], f"config.json of {node['name']} as published; nothing was downloaded"
    raise UserError(
        f"Setting `model` must be one whose config.json is here, but that of {node['name']} is not in the hub's cache. "
        "Write model.path=FOLDER, where FOLDER holds its config.json."
    )


def entries_of_run(
    folder: Path, facts: Mapping[str, Any], node: Mapping[str, Any], short: str
) -> tuple[Mapping[str, Any], str]:
    """config.json of a run's model: of its folder, of its record, or of the option that it names."""
    if "model_type" in (entries := read_json(folder / CONFIG_FILE)):
        return entries, f"{CONFIG_FILE} of the run"
    above = "model.architecture."
    recorded = {key.removeprefix(above): value for key, value in (facts.get("identity") or {}).items() if key.startswith(above)}
    if "model_type" in recorded:
        return recorded, "run.json of the run"
    if "hidden" in node:
        return _tiny(node), "the settings of the run's model, which was made on the spot"
    if short in PUBLISHED:
        return PUBLISHED[short], f"the published config.json that {short} stands for: the run is older than its record of it"
    raise UserError(
        f"Setting `checkpoint` must be a run that says how its model is built, but {folder} has no {CONFIG_FILE} of a model "
        f"and its {RUN_FILE} says nothing of it. Name a run with its weights."
    )


def _tiny(node: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model_type": "bert", "hidden_size": node["hidden"], "num_hidden_layers": node["layers"],
        "num_attention_heads": node["heads"], "intermediate_size": node["intermediate"],
    }  # fmt: skip


def _sweeps(folder: Path, below_root: Path, train_id: str) -> list[_Sweep]:
    """What the run's weights were scored on, each hardware once, without parts of an ablation."""
    found: dict[tuple[str, str, str], _Sweep] = {}
    places = {file.parent.resolve(): file.parent for root in (below_root, folder) for file in root.glob(f"*/{RESULTS_FILE}")}
    for place in sorted(places.values()):
        rows = [row for row in ResultsFile(place).rows() if not row.ablation and row.train_ids == train_id]
        for row in rows:
            key = (row.hardware_id, row.attention, row.attention_scales)
            if key not in found:
                config = read_json(place / CONFIG_FILE)
                if not {"noise", "tile"} <= config.keys():
                    raise UserError(
                        f"Folder `{place}` must hold {CONFIG_FILE}, which says the hardware of its scores, but has none that "
                        "says it. Move the folder away, and evaluate again."
                    )
                found[key] = _Sweep(row.noise, row.tile, row.attention, [], [], config, row.attention_scales)
            found[key].rows.append(row)
            if place not in found[key].folders:
                found[key].folders.append(place)
    sweeps = list(found.values())
    named = [[other for other in sweeps if other.names == one.names] for one in sweeps]
    telling = [told_apart([other.paper for other in alike])[alike.index(one)] for one, alike in zip(sweeps, named, strict=True)]
    return [replace(one, telling=told) for one, told in zip(sweeps, telling, strict=True)]


def _typed_hardware(settings: RunSettings, words: Iterable[str]) -> Payload:
    """The settings `hardware.…` that the command says; of the others a sweep may have any."""
    keys = [_key(word) for word in _of_groups(words, ("hardware",))]
    whole = resolved("hardware", settings.hardware)
    return {name: value for name, value in whole.items() if any(f"{name}.".startswith(f"{key}.") for key in keys)}


def _chosen(sweeps: list[_Sweep], asked: Mapping[str, Any], hardware: Payload) -> _Sweep | None:
    """The sweep of the hardware that is asked for, with most scores of chips; None where there is none."""

    def fits(sweep: _Sweep) -> bool:
        whole = {"hardware": "HardwareSettings", "hardware.calibration": "Calibration"} | hardware
        other = {one.key for one in differences(whole, sweep.paper)}
        return all(_part(sweep, group) == part for group, part in asked.items()) and not other & hardware.keys()

    fitting = [one for one in sweeps if fits(one)]
    return max(fitting, key=lambda one: one.scores, default=None)


def _part(sweep: _Sweep, group: str) -> Any:
    """A component of the hardware of a sweep, as its configuration says."""
    node = sweep.config.get(group)
    if node is None:
        return FLOAT32 if group == "attention" else None
    return build(as_annotated(node, group), group)


def _hardware(
    asked: Mapping[str, Any],
    settings: RunSettings,
    choices: Mapping[str, str],
    sweep: _Sweep | None,
    config: Mapping[str, Any] | None = None,
    names: Mapping[str, str] | None = None,
) -> tuple[Hardware, str, str, str]:
    """The accelerator on paper, names of its devices and tiles, and where they come from.

    That of the sweep; else what is asked for, for the rest the run's own, and without a run the defaults of `train`.
    """
    names = names or {}
    if sweep is not None:
        layers = tuple((sweep.config.get("hardware") or {}).get("layers") or ("*",))
        hardware = Hardware(_part(sweep, "noise"), _part(sweep, "tile"), layers)
        telling = f": {sweep.telling}" if sweep.telling else ""
        return hardware, sweep.noise, sweep.tile, f"as the chips that were scored{telling}"
    own = {group: build(as_annotated(node, group), group) for group in ("noise", "tile") if (node := (config or {}).get(group))}
    from analog_glue.devices.pcm import PCM

    device: Device = asked.get("noise") or own.get("noise") or PCM()
    tile: Crossbar = asked.get("tile") or own.get("tile") or Crossbar()
    noise_name = choices.get("noise") or (names.get("noise") if "noise" in own else None) or "pcm"
    tile_name = choices.get("tile") or (names.get("tile") if "tile" in own else None) or "spoon2021"
    said = "as this command says" if asked else "as the run was to be scored on" if own else "the defaults of `train`"
    return Hardware(device, tile, tuple(settings.hardware.layers)), noise_name, tile_name, said


def sheet_of(job: FactSheetJob) -> tuple[FactSheet, Estimate]:
    """Everything that the sheet says."""
    subject, load, costs = job.subject, job.load, job.costs
    asked = job.settings.reprogramming
    estimate = costs.estimate(load)
    said = judged(subject.scores, asked.loss, asked.share, asked.confidence)
    parts = [
        overview_part(subject),
        purpose_part(subject),
        architecture_part(subject, load.architecture),
        costs_part(load, costs, estimate, job.option, job.parameters),
        training_part(subject),
        inference_part(subject),
        data_part(subject),
        machines_part(subject),
        test_data_part(subject),
        performance_part(subject, estimate, load, said),
        limits_part(subject),
        beside_published(subject, load, costs, estimate, job.parameters, said),
    ]
    counted = load.count(costs.counting)
    numbers = {
        "costs": job.option,
        "sequence_length": load.sequence,
        "batch": load.batch,
        "parameters": job.parameters,
        "operations": counted.total,
        "operations_on_tiles": counted.analog,
        "operations_by_kind": counted.by_kind,
        "units_by_kind": counted.units,
        "tiles": load.tiles.tiles,
        "tile_map": load.tiles,
        "estimate": estimate,
    }
    hardware = f"{subject.noise} on {subject.tile}, attention in {load.attention.precision}"
    title = f"FactSheet: {subject.name}"
    sheet = FactSheet(
        title, subject.model, subject.task, subject.name if subject.run else None, hardware, parts, scores_of(subject.scores),
        said, numbers,
    )  # fmt: skip
    return sheet, estimate


def run(job: FactSheetJob, log: Callable[[str], None] = print) -> RunSummary:
    """Write the sheet: factsheet.md, factsheet.json, factsheet.html."""
    sheet, estimate = sheet_of(job)
    drawn = [section for section in job.subject.scores if section.cells and section.headline]
    pictures = []
    if drawn:
        title = drawn[0].hardware_title
        pictures = [(f"Scores over time: {title}", drift_figure([panel_of(s) for s in drawn], title, figure_note(drawn)).svg)]
    answer = answers(job, sheet, estimate)
    for ending, text in (("md", as_page(sheet)), ("json", as_json(sheet)), ("html", as_html(sheet, answer, pictures))):
        write_text_atomic(job.folder / f"{STEM}.{ending}", text)
    width = max(len(name) for name, _ in answer)
    table = "\n".join([sheet.title, *(f"  {name:<{width}}  {text}" for name, text in answer)])
    steps = [f"see {shlex.quote(str(job.folder / f'{STEM}.html'))}"]
    command = job.subject.no_scores.partition("analog-glue ")[2]
    steps += [f"analog-glue {command}   # for its accuracy"] if command else []
    return RunSummary(job.folder, table, tuple(steps), holds="FactSheet")


def answers(job: FactSheetJob, sheet: FactSheet, estimate: Estimate) -> list[tuple[str, str]]:
    """What a reader asks first: name and text."""
    load, said = job.load, sheet.reprogramming
    counted = load.count(job.costs.counting)
    told = [
        ("hardware", sheet.hardware),
        ("parameters", f"{job.parameters:,}" if job.parameters else "unknown"),
        ("tiles", f"{load.tiles.tiles:,}"),
        (
            f"operations of {load.batch} × {load.sequence} tokens",
            f"{operations_text(counted.total)}, {operations_text(counted.analog)} on tiles",
        ),
        (latency_name(estimate).lower(), amount_text(estimate.latency)),
        ("energy of an inference", amount_text(estimate.energy.times(1 / load.batch))),
        ("efficiency", efficiency_fact(estimate, load.batch).text),
        ("area", amount_text(estimate.area)),
    ]
    section = next((one for one in job.subject.scores if one.headline), None)
    if section is not None:
        name = f"{NAMES.get(section.score.task, section.score.task)}, {NAMES.get(section.score.metric, section.score.metric)}"
        digital = [one for seeds in section.digital.values() if (one := summarise(seeds)) is not None]
        scores = [f"digital {points_text(one.mean)}" for one in digital[:1]]
        if section.cells:
            variant, t = max(section.variants, key=lambda one: one.compensated), max(section.times)
            if (statistic := section.statistic(variant, t)) is not None:
                error = "" if statistic.error is None else f" ± {statistic.error:.2f}"
                scores.append(f"{points_text(statistic.mean)}{error} after {time_label(t)} ({chips_text(statistic.chips)})")
        told.append((name, ", ".join(scores) or "unknown"))
    else:
        told.append(("accuracy", "unknown"))
    told.append(("reprogram", _reprogram(said)))
    return told


def _reprogram(said: Verdict | None) -> str:
    if said is None:
        return "unknown"
    parts = [("mean", said.before_failure, said.means[0]), ("a single chip", said.single_chip, said.single_chips[0])]
    words = [
        f"{who} holds to {time_label(t)}" if t is not None else f"{who} unknown" if held is None else f"{who} does not hold"
        for who, t, held in parts
    ]
    return f"within {said.loss:g} of digital: {', '.join(words)}"


def describe(job: FactSheetJob) -> str:
    """The text of `dry_run=true`."""
    subject, load = job.subject, job.load
    scored = subject.no_scores or f"{sum(len(one.cells) for one in subject.scores)} curves of scores"
    lines = [
        f"Dry run: nothing is written.\n\nFactSheet  {subject.name}: {subject.model}, {subject.noise} on {subject.tile}",
        f"Costs      {job.option}, {load.batch} × {load.sequence} tokens, attention in {load.attention.precision}",
        f"Tiles      {load.tiles.tiles:,} of {load.tiles.rows} × {load.tiles.columns} for {len(load.grids)} layers",
        f"Scores     {scored}",
        f"Output     {job.folder}",
    ]
    return "\n".join(lines)
