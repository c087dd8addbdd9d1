"""The model card of a published network: what it is, how it was trained, and its scores on chips over time.

The scores stand in its text, and once more as metadata in the form that huggingface_hub reads (`EvalResult`). That library
takes results which differ in the arguments or the name of their data alone for one, so what was scored when, and on which
hardware, is in the name and the arguments of the metric.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analog_glue.reports.drift import drift_grid
from analog_glue.reports.figures import time_label
from analog_glue.reports.grids import GLUE, NAMES, as_markdown, in_markdown
from analog_glue.reports.sections import Section, pivot
from analog_glue.reports.statistics import Statistic, summarise
from analog_glue.runs.identity import Payload
from analog_glue.runs.model_files import OF_TOKENIZER
from analog_glue.runs.rows import Measurement

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

# What the pages of these models on the hub state.
LICENSES = {
    "albert/albert-base-v2": "apache-2.0",
    "distilbert/distilbert-base-uncased": "apache-2.0",
    "FacebookAI/roberta-base": "mit",
    "google-bert/bert-base-uncased": "apache-2.0",
    "google-bert/bert-large-uncased": "apache-2.0",
    "sentence-transformers/all-MiniLM-L6-v2": "apache-2.0",
    "sentence-transformers/all-mpnet-base-v2": "apache-2.0",
}
CHIPS = {"noise": "pcm", "tile": "spoon2021"}  # of a run that names none
UNKNOWN = "unknown"  # also the hub's own word
DATA = "nyu-mll/glue"  # of the eight tasks
MADE = {"demo": ("synthetic", "star ratings of synthetic product reviews")}  # tasks of no data set: its type, its name
METRICS = {"matthews": "matthews_correlation", "pearson": "pearsonr", "spearman": "spearmanr"}  # ours → the hub's
TASK_TYPE = "text-classification"
OF_FILES = {
    "model.safetensors": "the weights, of a plain Hugging Face model",
    "config.json": "its architecture and the names of its classes",
    "analog.safetensors": "ranges of converters and columns, and scales of channels, that were learned or tuned for the tiles",
    "attention.safetensors": "learned scales of attention in integers",
    "tuning.json": "what was tuned for each layer, and what it changed",
    "run.json": "identity of the training, versions, and the SHA-256 of the files here",
    "run_config.json": "every setting of the training",
}


@dataclass(frozen=True)
class Subject:
    """What is published.

    Args:
        facts: run.json of the run, without what belongs to one machine alone.
        config: Its configuration, likewise.
        files: Names of the files in the folder.
        local: Whether the model that was fine-tuned was read from a folder, which no hub vouches for.
        license: What the user said of the licence; None: that of the parent, if it is known.
        labels: Names of the classes in config.json; none of a regression.
    """

    facts: Mapping[str, Any]
    config: Mapping[str, Any]
    files: Sequence[str]
    local: bool = False
    license: str | None = None
    labels: Sequence[str] = ()

    @property
    def name(self) -> str:
        return str(self.facts["name"])

    @property
    def task(self) -> str:
        named = (self.config.get("task") or {}).get("name") or (self.facts.get("choices") or {}).get("task")
        return str(named or "")

    @property
    def task_in_words(self) -> str:
        return MADE[self.task][1] if self.task in MADE else NAMES.get(self.task, self.task)

    @property
    def labels_in_words(self) -> str:
        """The classes, as the task or else the model names them."""
        task = self.config.get("task") or {}
        return ", ".join(map(str, task["labels"] if "labels" in task else self.labels)) or "a grade"

    @property
    def parent(self) -> str:
        """Hub id of the model that was fine-tuned; empty where none is known."""
        name = str((self.config.get("model") or {}).get("name", ""))
        return name if name.count("/") == 1 else ""

    @property
    def measure(self) -> str:
        """What scores it on the chips that its training named; FOLDER is where it lies."""
        from analog_glue.configuration.again import words_again

        named = {group: str(option) for group, option in (self.facts.get("choices") or {}).items() if option}
        return " ".join(["analog-glue evaluate checkpoint=FOLDER", *words_again(self.config, CHIPS | named)])

    @property
    def license_in_words(self) -> str:
        return self.license or LICENSES.get(self.parent, UNKNOWN)


def card(
    subject: Subject,
    rows: Sequence[Measurement],
    settings: Mapping[str, Payload] | None = None,
    takes: Sequence[tuple[str, str]] = (),
) -> str:
    """README.md of the folder: metadata between its two rules, then the text.

    Args:
        rows: Of this network alone; none where it was scored on no chip yet.
        settings: Of the trainings, by the name of the run.
        takes: What its FactSheet answers first, name and text.
    """
    from huggingface_hub import ModelCardData

    sections = pivot(rows, settings)[0]
    results = list(evaluation_results(sections))
    data = ModelCardData(
        language="en",
        license=subject.license_in_words,
        library_name="transformers",
        pipeline_tag=TASK_TYPE,
        base_model=subject.parent or None,
        datasets=[DATA] if subject.task in GLUE else None,
        tags=["analog-in-memory-computing", "phase-change-memory", "analog-glue"],
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=subject.name,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n\n{_text(subject, sections, takes)}"


def evaluation_results(sections: Iterable[Section]) -> Iterator[EvalResult]:
    """In software, on ideal devices, and on chips at every time: means over chips as numbers in the metric's own unit."""
    for section in sections:
        hardware = section.hardware_title.partition(", ")[2]
        for scores in section.digital.values():
            yield from _result(section, "in software", summarise(scores))
        for scores in section.ideal.values():
            yield from _result(section, f"on ideal devices behind the periphery of {hardware}", summarise(scores))
        for variant in section.variants:
            how = "drift compensated" if variant.compensated else "drift not compensated"
            for t in section.times:
                if (statistic := section.statistic(variant, t)) is not None:
                    chips = f"mean of {statistic.most_chips} chip{'s' * (statistic.most_chips != 1)}"
                    told = f"after {time_label(t)}, {how}, {hardware} ({chips})"
                    arguments = {
                        "seconds_after_programming": t,
                        "drift_compensated": variant.compensated,
                        "chips": statistic.most_chips,
                        "noise": section.bundle.noise,
                        "tile": section.bundle.tile,
                        "attention": section.bundle.attention,
                    }
                    yield from _result(section, told, statistic, arguments)


def _result(
    section: Section, told: str, statistic: Statistic | None, arguments: Mapping[str, Any] | None = None
) -> Iterator[EvalResult]:
    """None where the score is undefined."""
    from huggingface_hub import EvalResult

    if statistic is None or not math.isfinite(statistic.mean):
        return
    task, split, metric = section.score
    kind = metric.removesuffix("_mismatched")
    data, name = (DATA, f"GLUE {NAMES.get(task, task)}") if task in GLUE else MADE.get(task, (task, NAMES.get(task, task)))
    how = dict(arguments or {})
    if statistic.error is not None:
        how["standard_error"] = _unit(statistic.error)
    yield EvalResult(
        task_type=TASK_TYPE,
        task_name="Text Classification",
        dataset_type=data,
        dataset_name=name,
        dataset_config=task if task in GLUE else None,
        dataset_split=split,
        metric_type=METRICS.get(kind, kind),
        metric_name=f"{NAMES.get(metric, metric)} {told}",
        metric_value=_unit(statistic.mean),
        metric_args=how or None,
    )


def _unit(points: float) -> float:
    """A score [points] as a Python float in the unit of its metric; other types make metadata that cannot be read back."""
    return round(float(points) / 100, 6)


def _text(subject: Subject, sections: Sequence[Section], takes: Sequence[tuple[str, str]]) -> str:
    facts, config = subject.facts, subject.config
    task, data = subject.task_in_words, facts.get("data") or {}
    trained, _, tuned = str((facts.get("choices") or {}).get("training", "")).partition("+")
    knows_chips = bool(tuned) or trained != "digital"
    identity = {
        "Task": f"{task}: {subject.labels_in_words}" if task else "",
        "Made from": (subject.parent or "no published model")
        + (", read from a local folder of that name, whose weights were not compared" if subject.local else ""),
        "Architecture": f"{(config.get('model') or {}).get('short', UNKNOWN)}, {_count(facts)} parameters",
        "Training": f"{trained}{f', then tuned by {tuned}' if tuned else ''}, seed {facts.get('seed', UNKNOWN)}",
        "Identity of the weights": str(facts.get("train_id", UNKNOWN)),
    }
    of_parent = "" if subject.license or subject.license_in_words == UNKNOWN else ", that of the model it was made from"
    origin = {
        "Data": f"{subject.task} of {DATA}, under a licence of its own"
        if subject.task in GLUE
        else str(data.get("source", "")),
        "Fingerprint of the data": str(data.get("fingerprint", UNKNOWN)),
        "Licence": subject.license_in_words + of_parent,
        "Made by": _made_by(facts),
    }
    parts = [
        f"# {in_markdown(subject.name)}",
        f"A network{f' for {in_markdown(task)}' if task else ''} that is to be put on crossbars of phase-change memory: "
        f"{in_markdown(trained.replace('_', '-'))} training{f', then tuned ({in_markdown(tuned)})' if tuned else ''}. "
        "Loaded as it is, it computes in software, like any other; analog-glue programs its weights on simulated chips and "
        "lets them age.",
        "## Use",
        "```python\nfrom transformers import AutoModelForSequenceClassification, AutoTokenizer\n\n"
        'model = AutoModelForSequenceClassification.from_pretrained("FOLDER")   # this folder, or its name on the hub\n'
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n```',
        f"```bash\n{subject.measure}\n```",
        "## What it is",
        _listed(identity),
        "## Training",
        _listed(_settings(config.get("training"))),
        "The chips that it was trained for:" if knows_chips else "The chips that the command of the training named:",
        _listed({**_settings(config.get("noise"), "device"), **_settings(config.get("tile"), "tile")}),
        *(["How its ranges were tuned:", _listed(_settings(config.get("tuning")))] if tuned else []),
        "## Scores on chips",
        *([] if any(section.cells for section in sections) else [
            "It was put on no chip yet. This measures it, and publishing it again fills the card:",
            f"```bash\n{subject.measure}\n```",
        ]),
        *(as_markdown(drift_grid(section)).replace("## ", "### ", 1) for section in sections),
        *([] if not takes else [
            "## What it takes",
            "As in its FactSheet (`analog-glue factsheet`): operations and tiles are counted exactly; time, energy and area "
            "are bands between published sources.",
            _listed(dict(takes)),
        ]),
        "## Limits",
        "The chips are simulated, after published measurements of devices; none was built for it. A score holds for the "
        "hardware, the times and the examples beside it. The best epoch of a training is chosen on the examples that are "
        "scored.",
        "## Files",
        _listed({name: OF_FILES.get(name) or _of_file(name) for name in subject.files}),
        "## Data and licence",
        _listed(origin),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _of_file(name: str) -> str:
    return "of the tokenizer" if name in OF_TOKENIZER else "of the weights"


def _listed(facts: Mapping[str, str]) -> str:
    """One line for each value; names and values, which may come from a run of somebody else, are text and no markup."""
    told = [f"- **{in_markdown(name)}**: {in_markdown(value)}" for name, value in facts.items() if value]
    return "\n".join(told) or "- nothing recorded"


def _settings(component: Any, above: str = "") -> dict[str, str]:
    """A component of the configuration as text by key, its class first."""
    if not isinstance(component, Mapping):
        return {}
    kind = str(component.get("_target_", "")).rpartition(".")[2]
    found = {above or "kind": kind} if kind else {}
    for name, value in component.items():
        key = f"{above}.{name}" if above else str(name)
        if isinstance(value, Mapping):
            found |= _settings(value, key)
        elif name != "_target_" and value is not None:
            found[key] = str(value)
    return found


def _count(facts: Mapping[str, Any]) -> str:
    count = (facts.get("model") or {}).get("parameters")
    return f"{count:,}" if isinstance(count, int) else UNKNOWN


def _made_by(facts: Mapping[str, Any]) -> str:
    versions, git = facts.get("versions") or {}, facts.get("git") or {}
    commit = f", commit {str(git['commit'])[:12]}" if git.get("commit") else ""
    return f"analog-glue {versions.get('analog-glue', UNKNOWN)}{commit}, torch {versions.get('torch', UNKNOWN)}"
