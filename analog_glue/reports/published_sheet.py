"""IBM's Analog AI BERT FactSheet beside ours, line by line, with the reason where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analog_glue.costs.estimate import Costs, Estimate, Workload
from analog_glue.reports.factsheet import (
    Part,
    Subject,
    amount_text,
    efficiency_fact,
    operations_fact,
    operations_text,
    points_text,
)
from analog_glue.reports.figures import time_label
from analog_glue.reports.grids import GLUE, MISSING, NAMES, Grid
from analog_glue.reports.published import published_numbers
from analog_glue.reports.reprogramming import Verdict
from analog_glue.reports.statistics import summarise

SOURCE = "IBM, Analog AI BERT FactSheet (2022)"


def beside_published(
    subject: Subject, load: Workload, costs: Costs, estimate: Estimate, parameters: int | None, said: Verdict | None
) -> Part:
    """The table; a line that the sheet has and ours has not says unknown."""
    counted, crossbar = load.count(costs.counting), load.crossbar
    sizes = load.architecture
    same_model = sizes.kind == "bert" and (sizes.encoder.hidden, sizes.encoder.layers) == (768, 12)
    same_load = (load.sequence, load.batch) == (32, 4)
    model = "" if same_model else f"another model ({subject.model})"
    length = "" if same_load else f"{load.batch} × {load.sequence} tokens here, 4 × 32 there"
    differs = "; ".join(filter(None, (model, length)))
    head = "" if not costs.counting.head else "the head is counted, and attention as 2 operations a multiply-add"
    reuse = sizes.encoder.layers // (sizes.encoder.modules or sizes.encoder.layers)

    def taken(amount: Any) -> str:
        return amount.low_source if amount.origin == "given" or not amount.known else differs or amount.low_source

    lines = [
        ("parameters", "110 million", f"{parameters / 1e6:,.2f} million" if parameters else "unknown", model or "not rounded"),
        ("sequence length, batch", "32, 4", f"{load.sequence}, {load.batch}", length),
        ("operations", "21.84 billion", operations_text(counted.total), "; ".join(filter(None, (differs, head)))),
        (
            "of which on tiles",
            "21.74 billion",
            operations_text(counted.analog),
            "; ".join(filter(None, (differs, head))),
        ),
        ("weights used again", "no", "no" if reuse == 1 else f"{reuse} times", model if reuse > 1 else ""),
        ("tile", "512 × 512, differential pairs", f"{crossbar.rows} × {crossbar.columns}, differential pairs", ""),
        (
            "tiles",
            MISSING,
            f"{load.tiles.tiles:,}",
            "not printed there; ours counts pooler and classifier where they lie on tiles",
        ),
        (
            "execution time",
            "0.19 ms",
            ("at least " if estimate.is_floor else "") + amount_text(estimate.latency),
            taken(estimate.latency),
        ),
        ("average power", "3.13 W", amount_text(estimate.power), taken(estimate.power)),
        ("effective area", "780.4 mm²", amount_text(estimate.area), taken(estimate.area)),
        (
            "energy efficiency",
            "6,589 inferences/s/W",
            efficiency_fact(estimate, load.batch).text,
            differs or taken(estimate.energy),
        ),
        (
            "operations for an energy",
            "not printed; its numbers give 36.0 TOPS/W",
            operations_fact(estimate, counted.total).text,
            differs or taken(estimate.energy) or "not rounded",
        ),
        *_training_lines(subject),
        ("ADC", "8 bits (noise 0.04 is half a step of 8 bits)", _bits(crossbar.adc_bits), "the sheet's is tile=factsheet"),
        ("read noise", "0.0175", f"{crossbar.read_noise:g}", ""),
        ("ADC/output noise", "0.04", _output_noise(crossbar), "of a full-on cell; tile=factsheet has the sheet's"),
        (
            "input bound",
            "3.0",
            str(subject.sweep.get("input_ranges") or "unknown"),
            "there, as far as is known, where training begins",
        ),
        ("output bound", "10", f"{crossbar.adc_bound:g}", "another bound of the ADC"),
        *_scores(subject),
        ("reprogram", "every 4 weeks", _reprogram(said), "" if said else "no scores of chips"),
    ]
    rows = [[name, theirs, ours, "" if theirs == ours else why] for name, theirs, ours, why in lines]
    note = f"Source: {SOURCE}. Its scores of digital networks are of test sets, those of analog ones of validation sets."
    table = Grid("The published sheet and this one", note, ["", "published", "this sheet", "why they differ"], rows)
    return Part("published", "Beside the published FactSheet", (), (), (table,))


def _bits(bits: int | None) -> str:
    return "ideal" if bits is None else f"{bits} bits"


def _output_noise(crossbar: Any) -> str:
    """In full-on cells."""
    return f"{crossbar.output_noise * crossbar.adc.lsb:.4g}" if crossbar.adc_bits is not None else "0"


def _training_lines(subject: Subject) -> list[tuple[str, str, str, str]]:
    mode: Mapping[str, Any] = subject.config.get("training") or {}
    if not mode:
        return [("training", "hardware-aware, from a trained baseline", "none", "nothing was trained for this sheet")]
    noise = mode.get("weight_noise")
    trained = f"{noise.get('scale', 1.0):g} ({noise.get('law', 'programming')})" if isinstance(noise, Mapping) else "none"
    rate = mode.get("learning_rate")
    start = "taken as it is" if mode.get("max_steps") == 0 else str(subject.run.get("choices", {}).get("training", "unknown"))
    return [
        ("training", "hardware-aware, from a trained baseline", start.replace("_", "-"), "another run of the same simulator"),
        ("weight noise in training", "1.0", trained, "" if isinstance(noise, Mapping) else "no noise in digital training"),
        ("learning rate", "5e-5 to 1.5e-4", f"{rate:g}" if isinstance(rate, float) else "unknown", "one run, one rate"),
    ]


def _scores(subject: Subject) -> list[tuple[str, str, str, str]]:
    """Of the task of the run, digital and analog."""
    section = next((one for one in subject.scores if one.headline), None)
    task = subject.task or ""
    if task not in GLUE:
        return [("GLUE average", "80.6 % analog, 81.2 % digital", "unknown", subject.no_scores or "another task")]
    numbers = {
        number.line: number.text for number in published_numbers() if number.task == task and number.metric == GLUE[task]
    }
    label = f"{NAMES.get(task, task)}, {NAMES.get(GLUE[task], GLUE[task])}"
    digital = analog = "unknown"
    why = subject.no_scores
    if section is not None:
        means = [summarise(seeds) for seeds in section.digital.values()]
        digital = ", ".join(points_text(one.mean) for one in means if one is not None) or digital
        if section.cells:
            variant, t = max(section.variants, key=lambda one: one.compensated), max(section.times)
            statistic = section.statistic(variant, t)
            analog = f"{points_text(statistic.mean)} after {time_label(t)}" if statistic else analog
    how = f"{section.score.split} set, this network" if section is not None else why
    return [
        (f"{label}: digital", numbers.get("factsheet_digital", MISSING), digital, how),
        (
            f"{label}: analog",
            numbers.get("factsheet_analog", MISSING),
            analog,
            f"{how}; the sheet states no time" if how else "",
        ),
    ]


def _reprogram(said: Verdict | None) -> str:
    if said is None:
        return "unknown"
    if said.means[0] is None:
        return "unknown: a single chip, or an undefined score"
    if said.before_failure is None:
        return f"before {time_label(said.points[0].t)}"
    holds = time_label(said.before_failure)
    return f"holds to {holds}" + (", the last time measured" if said.before_failure == said.points[-1].t else "")
