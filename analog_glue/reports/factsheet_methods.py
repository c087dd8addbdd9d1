"""The parts of a FactSheet that tell how: architecture, training, inference, data, machines, limits. From the run's own
records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from analog_glue.costs.architectures import Architecture
from analog_glue.reports.factsheet import UNKNOWN, Fact, Part, Subject
from analog_glue.reports.grids import NAMES, Grid
from analog_glue.runs.configuration import config_of

GLUE_TEXT = (
    "The GLUE benchmark measures understanding of English sentences: classification of one sentence or of a pair, and for "
    "STS-B a similarity as a number."
)


def overview_part(subject: Subject) -> Part:
    task = "no task: architecture alone" if subject.task is None else _task(subject.task)
    about = (
        f"This sheet documents {subject.name}: {subject.model} ({task}) with its linear layers on simulated crossbar tiles. It "
        "is written by analog-glue from the run's own configuration and rows; what they do not say is unknown here.",
        "Scores are simulated, not measured on a chip. Operations and tiles are counted exactly; time, energy and area are "
        "those of published sources, each named beside its number.",
    )
    return Part("overview", "Overview", about)


def purpose_part(subject: Subject) -> Part:
    if subject.task is None:
        return Part("purpose", "Purpose", ("A transformer encoder with a classification head, not trained here for any task.",))
    kind = "regression" if subject.classes is not None and not subject.classes else "classification"
    text = [f"A transformer encoder that was fine-tuned for one task, {_task(subject.task)} ({kind})."]
    text += [GLUE_TEXT] if NAMES.get(subject.task) and subject.task != "demo" else []
    facts = [Fact("Classes", ", ".join(subject.classes), list(subject.classes))] if subject.classes else []
    return Part("purpose", "Purpose", text, facts)


def architecture_part(subject: Subject, architecture: Architecture) -> Part:
    encoder = architecture.encoder
    vocabulary = architecture.config.get("vocab_size")
    shared = encoder.modules or encoder.layers
    facts = [
        Fact("Kind", architecture.kind, architecture.kind),
        Fact(
            "Layers", f"{encoder.layers}" + (f", of {shared} different ones" if shared < encoder.layers else ""), encoder.layers
        ),
        Fact("Width", f"{encoder.hidden:,}", encoder.hidden),
        Fact("Attention heads", str(architecture.heads), architecture.heads),
        Fact("Feed-forward width", f"{encoder.intermediate:,}", encoder.intermediate),
        Fact("Vocabulary", f"{vocabulary:,}" if isinstance(vocabulary, int) else UNKNOWN, vocabulary),
        Fact("Longest sequence", f"{architecture.longest:,} tokens", architecture.longest, "tokens"),
        Fact("Outputs of the head", str(architecture.classes), architecture.classes),
        Fact("Sizes from", subject.architecture_from, subject.architecture_from),
    ]
    return Part("architecture", "Model architecture", (), facts)


def training_part(subject: Subject) -> Part:
    """From the run's own configuration."""
    heading = "Training methodology"
    if not subject.config:
        why = "no run: nothing was trained for this sheet"
        return Part("training", heading, (), (Fact("Training", UNKNOWN, None, "", UNKNOWN, why),))
    mode = subject.config.get("training") or {}
    name = str(subject.run.get("choices", {}).get("training", ""))
    if mode.get("max_steps") == 0:
        text = ["The network was fine-tuned elsewhere and its weights were taken as they are; how, is not known here."]
    elif name.startswith("hardware_aware") or "weight_noise" in mode:
        text = [
            "Hardware-aware: fine-tuning with noise on weights, converters and outputs in the forward pass; the backward pass "
            "and the update are those of a digital network. The hardware that training saw is this run's."
        ]
    else:
        text = ["Digital: ordinary fine-tuning. Training saw nothing of the hardware."]
    if subject.tuned:
        text.append(f"Ranges and scales were tuned afterwards, without training (method: {name.partition('+')[2] or 'tune'}).")
    facts = [*settings_facts(mode, "training."), Fact("seed", str(subject.run.get("seed", UNKNOWN)), subject.run.get("seed"))]
    if "weight_noise" in mode:
        for group in ("noise", "tile"):
            facts += settings_facts(subject.config.get(group) or {}, f"{group}.")
    return Part("training", heading, text, facts, _history(subject.run))


def _history(run: Mapping[str, Any]) -> Sequence[Grid]:
    """Loss and scores of every epoch, where the run says them."""
    history = run.get("history")
    epochs = history.get("epochs") if isinstance(history, Mapping) else None
    if not isinstance(history, Mapping) or not epochs:
        return ()
    names = [name for name in epochs[0] if name not in ("epoch", "step")]
    rows = [[str(one.get("epoch")), str(one.get("step")), *(_number(one.get(name)) for name in names)] for one in epochs]
    best = history.get("best_epoch")
    note = f"Scores on the validation set [points]; {history.get('steps', UNKNOWN)} steps in all."
    note += f" The weights are those of epoch {best + 1}." if isinstance(best, int) else ""
    return (Grid("Epochs", note, ["epoch", "step", *names], rows),)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else UNKNOWN if value is None else str(value)


def inference_part(subject: Subject) -> Part:
    hardware = subject.hardware
    named = config_of(noise=hardware.device, tile=hardware.crossbar)
    text = [
        f"Weights are written to pairs of devices (noise={subject.noise}) on tiles "
        f"(tile={subject.tile}), {subject.hardware_from}. Each chip is programmed once with errors of its own and read at "
        "every age; activations, softmax and layer norms are digital.",
    ]
    if hardware.device.drifts:
        text.append(
            "Drift is compensated by one factor a tile, measured on the chip at every age (Spoon et al. 2021), where a row "
            "says compensated."
        )
    facts = [
        Fact("hardware.layers", ", ".join(hardware.layers), list(hardware.layers)),
        *settings_facts(named["noise"], "noise."),
        *settings_facts(named["tile"], "tile."),
        Fact("Input ranges", str(subject.sweep.get("input_ranges") or UNKNOWN), subject.sweep.get("input_ranges")),
    ]
    return Part("inference", "Inference methodology", text, facts)


def data_part(subject: Subject) -> Part:
    data = subject.run.get("data") or {}
    task = subject.config.get("task") or {}
    facts = [
        Fact("Task", _task(subject.task) if subject.task else UNKNOWN, subject.task),
        _said("Source", data.get("source")),
        _said("Fingerprint", data.get("fingerprint")),
        _said("Longest text [tokens]", task.get("max_length")),
    ]
    return Part("training_data", "Training data", (), facts)


def machines_part(subject: Subject) -> Part:
    """Where it was trained, and where scores were computed."""
    parts = []
    for key, heading, run in (("trained_on", "Training", subject.run), ("scored_on", "Inference (simulation)", subject.sweep)):
        machine, git = run.get("hardware") or {}, run.get("git") or {}
        versions = ", ".join(f"{name} {version}" for name, version in (run.get("versions") or {}).items() if version)
        facts = [
            _said("Started", run.get("started")),
            _said("CPU", machine.get("cpu")),
            _said("Cores", machine.get("cores")),
            _said("GPU", machine.get("gpu") or ("none" if machine else None)),
            _said("Memory [GiB]", machine.get("memory_gib")),
            _said("Platform", run.get("platform")),
            _said("Versions", versions or None),
            _said("Commit", git.get("commit")),
            _said("Wall time [s]", _seconds(run)),
        ]
        parts.append(Part(key, heading, () if run else ("There is no such run.",), facts if run else ()))
    return Part("machines", "Characteristics of the training hardware and of the inference hardware", (), (), (), parts)


def _seconds(run: Mapping[str, Any]) -> Any:
    history = run.get("history") or {}
    seconds = run.get("seconds", history.get("seconds") if isinstance(history, Mapping) else None)
    return round(seconds, 1) if isinstance(seconds, float) else seconds


def test_data_part(subject: Subject) -> Part:
    scored = {(one.score.task, one.score.split, one.examples, one.data) for one in subject.scores}
    if not scored:
        why = subject.no_scores or "no scores"
        return Part("test_data", "Test data", (), (Fact("Test data", UNKNOWN, None, "", UNKNOWN, why),))
    facts = [
        Fact(f"{_task(task)}, {split}", f"{examples:,} examples" + (f", data {data[:8]}" if data else ""), examples, "examples")
        for task, split, examples, data in sorted(scored)
    ]
    text = (
        "The labels of GLUE's test sets are hidden: scores are of validation sets, from which the epoch may have been chosen.",
    )
    return Part("test_data", "Test data", text, facts)


def limits_part(subject: Subject) -> Part:
    text = [
        "For research. The scores hold for the task, the data and the hardware named above, simulated; another chip, another "
        "task or another age is another score, and times between those measured are not judged.",
        "The simulation knows programming, drift, read and converter noise and what else the inference methodology names; it "
        "knows nothing of temperature, retention loss, yield or wear.",
        "Numbers of time, energy and area come from the literature, of other chips, processes and simulations than one "
        "another; a band is the spread of these sources, not an error bar.",
        "Counted for padded sequences of the length named; real texts are shorter. Tokenisation, the host and memory outside "
        "the accelerator are not counted.",
    ]
    if subject.task is not None:
        text.append("Trained on public data with its biases; no test for fairness or safety was made.")
    return Part("limits", "Limits of use", text)


def settings_facts(settings: Mapping[str, Any], above: str = "") -> list[Fact]:
    """Resolved settings as facts, inner ones by their full key; a class by its name."""
    found: list[Fact] = []
    for name, value in settings.items():
        key = f"{above}{name}"
        if isinstance(value, Mapping):
            found += settings_facts(value, f"{key}.")
        elif name == "_target_":
            found.append(Fact(above.rstrip("."), str(value).rpartition(".")[2], value))
        else:
            found.append(Fact(key, "none" if value is None else str(value), value))
    return found


def _said(name: str, value: Any) -> Fact:
    if value is None:
        return Fact(name, UNKNOWN, None, "", UNKNOWN, "the run does not say")
    return Fact(name, PurePath(value).as_posix() if isinstance(value, PurePath) else str(value), value)


def _task(task: str) -> str:
    return NAMES.get(task, task)
