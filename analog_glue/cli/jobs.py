"""The way of one job: build its components, let its command load what it needs, then describe it or run it."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from analog_glue.cli.components import Components, build_components, priced
from analog_glue.cli.elsewhere import as_training, is_elsewhere, on_the_run, with_its_chips
from analog_glue.commands.ahead import kernels_ahead
from analog_glue.errors import require
from analog_glue.runs.as_written import below
from analog_glue.runs.folder import one_call
from analog_glue.settings import ON_CHIPS

if TYPE_CHECKING:
    from analog_glue.commands.summary import RunSummary
    from analog_glue.configuration.compose import Composed


@dataclass(frozen=True)
class Job:
    """A command that could begin: everything is loaded, nothing is written."""

    folder: Path  # of the run
    describe: Callable[[], str]  # what it would do
    run: Callable[[], "RunSummary"]


@one_call()
def run_job(composed: "Composed", command: str, overrides: list[str]) -> str:
    """Run one job, or with `dry_run` describe it; print its table and what to do next.

    Returns:
        The folder of the run.
    """
    if is_elsewhere(composed) and command in ON_CHIPS:
        taken_in = as_training(composed)
        if composed.settings.dry_run:
            return run_job(with_its_chips(taken_in, composed, command), "train", [])
        job = _prepare(taken_in, "train", overrides, build_components(taken_in, "train", []))
        job.run()
        return run_job(on_the_run(composed, job.folder), command, overrides)
    with kernels_ahead() if _compiles(composed, command) else nullcontext():
        return _run_here(composed, command, overrides)


def _compiles(composed: "Composed", command: str) -> bool:
    """Whether a job will take the compiled kernels of training for phase-change memory, or of scores on it."""
    settings = composed.settings
    target = (composed.config.get("training") or {}).get("_target_", "")
    learns_elsewhere = str(target).startswith("analog_glue.in_situ.")
    computes = command in ("train", "evaluate", "place") and not settings.dry_run
    return computes and not learns_elsewhere and settings.runtime.kernel != "reference" and settings.runtime.device != "cuda"


def _run_here(composed: "Composed", command: str, overrides: list[str]) -> str:
    components = build_components(composed, command, overrides)
    in_situ = command == "extract" or "device" in components.parts
    require(not in_situ or composed.settings.best_of == 1, "best_of", "be 1 here", composed.settings.best_of,
            "Only `train` on phase-change memory chooses among seeds.")  # fmt: skip
    also = _also(composed, command, in_situ)
    one_voice = int(os.environ.get("RANK", "0")) == 0  # among the processes of `accelerate launch`
    prepare = _prepare_factsheet if command == "factsheet" else _prepare_in_situ if in_situ else _prepare
    job = prepare(composed, command, overrides, components)
    folder = job.folder
    if composed.settings.dry_run:
        told = [f"\nThen the same weights on chips of noise={', '.join(also)}."] if also else []
        said = [job.describe(), *told, "Nothing was run. The same command without dry_run=true runs it."]
    else:
        summary = job.run()
        folder = summary.run_dir
        said = [summary.table, f"{summary.holds}: {folder}"]
        for noise, other in also.items() if one_voice else ():
            print(f"The same weights on chips of noise={noise}")
            on_others = _of_weights(other, job.folder if command == "evaluate" else folder.parent)
            more = _prepare(on_others, "evaluate", overrides, build_components(on_others, "evaluate", overrides)).run()
            said += [f"\nnoise={noise}", more.table, f"{more.holds}: {more.run_dir}"]
        said += [f"next: {step}" for step in summary.next_steps]
    if one_voice:
        print("\n".join(said))
    return below(composed.settings.output_root, folder)


def _also(composed: "Composed", command: str, in_situ: bool) -> dict[str, "Composed"]:
    """The job on the other options of `noise` in `evaluation.also`, by name; what is wrong with them is said before it begins.

    Raises:
        UserError: an option that is not there or that was chosen already, or a command that scores no chips of that kind.
    """
    from analog_glue.configuration.build import as_annotated, build

    names, chosen = composed.settings.evaluation.also, composed.choices.get("noise", "")
    scores = not in_situ and not composed.settings.ablate
    require(scores or not names, "evaluation.also", "be empty here", list(names),
            "Only `train` and `evaluate` on phase-change memory, without `ablate`, score chips of several kinds.")  # fmt: skip
    require(chosen not in names, "evaluation.also", f"name others than noise={chosen}, which is scored anyway", list(names))
    jobs = {}
    for name in names:
        option = as_annotated(composed.option("noise", name), "noise")
        build(option, "noise")
        jobs[name] = replace(composed, config=composed.config | {"noise": option}, choices=composed.choices | {"noise": name})
    return jobs


def _of_weights(composed: "Composed", checkpoint: Path) -> "Composed":
    """The job as `evaluate` of weights that are there: trained and chosen among seeds already, measured anew by nobody."""
    settings = replace(composed.settings, checkpoint=str(checkpoint), best_of=1, model=None, device=None, training=None)
    config = composed.config | dict.fromkeys(("task", "model", "device", "training"))
    return replace(composed, settings=settings, config=config)


def _prepare(composed: "Composed", command: str, overrides: list[str], components: Components) -> Job:
    """`train`, `evaluate`, `tune`, `diagnose`, `specify`, `place` and `publish` for phase-change memory."""
    if command == "publish":
        from analog_glue.commands import publish

        publication = publish.prepare(composed.settings, priced())
        return Job(publication.folder, lambda: publish.describe(publication), lambda: publish.run(publication))
    from analog_glue.commands import ablation, best_of, deploy, diagnose, dry_run, specify, train
    from analog_glue.nn.attention import Attention

    settings, choices, config, parts = composed.settings, composed.choices, components.config, components.parts
    hardware, attention = (parts["noise"], parts["tile"]), parts.get("attention", Attention())
    if command == "train":
        task, model, mode = parts["task"], parts["model"], parts["training"]
        if settings.best_of > 1:
            selection = best_of.Selection(
                settings, lambda own: train.prepare(own, task, model, *hardware, mode, config, choices, overrides, attention)
            )
            first = selection.first
            return Job(first.folder, lambda: selection.describe(dry_run.describe(first)), selection.run)
        training = train.prepare(settings, task, model, *hardware, mode, config, choices, overrides, attention)
        return Job(training.folder, lambda: dry_run.describe(training), lambda: train.run(training))
    if command == "tune":
        from analog_glue.commands import tune

        tuning = tune.prepare(settings, parts["tuning"], parts["task"], *hardware, config, choices, overrides, attention)
        return Job(tuning.folder, lambda: dry_run.describe(tuning.evaluation) + tune.describe(tuning), lambda: tune.run(tuning))
    if command == "diagnose":
        diagnosis = diagnose.prepare(settings, parts["task"], *hardware, config, choices, overrides, attention)
        return Job(diagnosis.folder, lambda: dry_run.describe_diagnosis(diagnosis), lambda: diagnose.run(diagnosis))
    if command == "specify":
        search = specify.prepare(settings, parts["task"], *hardware, config, choices, overrides, attention)
        return Job(search.folder, lambda: dry_run.describe_specification(search), lambda: specify.run(search))
    if command == "place":
        from analog_glue.commands import place

        placing = place.prepare(settings, parts, config, choices, overrides)
        return Job(
            placing.folder, lambda: dry_run.describe(placing.evaluation) + place.describe(placing), lambda: place.run(placing)
        )
    if settings.ablate:
        parted = ablation.prepare(settings, parts["task"], *hardware, config, choices, overrides, attention)
        return Job(parted.folder, lambda: dry_run.describe_ablation(parted), lambda: ablation.run(parted))
    evaluation = deploy.prepare(settings, parts["task"], *hardware, config, choices, overrides, attention)
    return Job(evaluation.folder, lambda: dry_run.describe(evaluation), lambda: deploy.run(evaluation))


def _prepare_factsheet(composed: "Composed", command: str, overrides: list[str], components: Components) -> Job:
    """`factsheet`: what is written down of a run, or a model alone."""
    from analog_glue.commands import factsheet

    job = factsheet.prepare(composed.settings, components.parts, components.config, composed.choices, overrides)
    return Job(job.folder, lambda: factsheet.describe(job), lambda: factsheet.run(job))


def _prepare_in_situ(composed: "Composed", command: str, overrides: list[str], components: Components) -> Job:
    """`train` on pulsed devices, `extract`, and `evaluate` of what was extracted."""
    from analog_glue.in_situ.commands import deploy, dry_run, extract, extract_array, train

    settings, choices, config, parts = composed.settings, composed.choices, components.config, components.parts
    if not parts:
        array = extract_array.prepare(settings)
        return Job(array.folder, lambda: dry_run.describe(array), lambda: extract_array.run(array))
    learnt = parts["task"], parts["device"], parts["training"]
    if command == "train":
        training = train.prepare(settings, *learnt, config, choices, overrides)
        return Job(training.folder, lambda: dry_run.describe(training), lambda: train.run(training))
    if command == "extract":
        extraction = extract.prepare(settings, *learnt)
        return Job(extraction.folder, lambda: dry_run.describe(extraction), lambda: extract.run(extraction))
    deployment = deploy.prepare(settings, *learnt, parts["noise"], parts["tile"], config, choices, overrides)
    return Job(deployment.folder, lambda: dry_run.describe(deployment), lambda: deploy.run(deployment))
