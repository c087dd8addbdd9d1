"""Scores over time: the table, the figure and the records of a section."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy

from analog_glue.reports.figures import Curve, Level, Panel, time_label
from analog_glue.reports.grids import ANY, MISSING, NAMES, Grid, Place, Record, Sources, as_text, in_points, score_cell, span
from analog_glue.reports.sections import Section, Variant, pivot
from analog_glue.reports.statistics import Statistic, repeated_over, summarise
from analog_glue.runs.rows import Measurement

MOST_CURVES = 7  # in one axes; more cannot be told apart


def drift_table(rows: Iterable[Measurement]) -> str:
    """Plain text for the end of `train` and `evaluate`: every score of these rows over time."""
    sections, _ = pivot(rows)
    return "\n\n".join(as_text(drift_grid(section)) for section in sections)


def drift_grid(section: Section) -> Grid:
    """Times downwards, variants and their paired differences across."""
    cell = functools.partial(score_cell, decimals=decimals_of(section))
    keys, pairs = _keys(section), section.pairs()
    labels = [f"{keys[one]} − {keys[other]}" for one, other in pairs]
    on_chips = [variant.training for variant in keys]
    bare = sorted((section.digital.keys() | section.ideal.keys()) - set(on_chips))  # trained, but on no chip
    columns = [*on_chips, *bare]
    found = [[section.statistic(v, t) for t in section.times] for v in keys]
    paired = [[section.difference(one, other, t) for t in section.times] for one, other in pairs]
    nothing = [""] * len(pairs)

    alone = {training: section.alone_on_chips(training) for training in columns}
    rows = []
    for name, scores in (("digital", section.digital), ("ideal devices", section.ideal)):
        if scores:
            rows.append([name, *(cell(summarise(scores.get(t, {}))) for t in columns), *nothing])
        if name == "digital" and any(seed is not None for seed in alone.values()):
            own = [summarise({seed: scores[t][seed]}) if (seed := alone[t]) is not None else None for t in columns]
            rows.append(["digital, seed on chips", *map(cell, own), *nothing])
    for i, t in enumerate(section.times):
        label = time_label(t) + ("*" if t in section.extrapolated else "")
        cells = [cell(s[i], section.change(v, t)) for v, s in zip(keys, found, strict=True)]
        rows.append([label, *cells, *[MISSING] * len(bare), *(cell(s[i], signed=True) for s in paired)])
    if section.majority is not None:
        rows.append(["majority class", *[in_points(section.majority, decimals_of(section))] * len(columns), *nothing])
    seeds = [span([s.seeds for s in line if s]) for line in [*found, *paired]]
    chips = [span([n for s in line if s for n in (s.chips, s.most_chips)]) for line in [*found, *paired]]
    of_bare = [str(len(section.digital.get(training, section.ideal.get(training, {})))) for training in bare]
    rows.append(["training seeds", *seeds[: len(keys)], *of_bare, *seeds[len(keys) :]])
    rows.append(["chips per seed", *chips[: len(keys)], *["0"] * len(bare), *chips[len(keys) :]])

    note = f"Mean ± standard error {repeated_over(s for line in found for s in line)}"
    note += ", in brackets the change from the digital score of the same networks" if section.cells else ""
    note += "; differences are paired by chip and seed" if pairs else ""
    note += f". {section.examples:,} examples of {section.score.split}."
    for label, (one, other) in zip(labels, pairs, strict=True):
        note += _left_out(label, *section.unpaired(one, other))
    note += choice_note(
        {training.title: (seed, len(section.digital[training])) for training, seed in alone.items() if seed is not None}
    )
    if section.extrapolated:
        note += " * beyond the measurements behind the device model."
    legend = [f"{key}: {variant.title}" for variant, key in keys.items()]
    measured = [section.sources(variant) for variant in keys] + [section.sources(training) for training in bare]
    measured += [section.sources(*pair) for pair in pairs]
    sources: dict[Place, Sources] = {(ANY, column): source for column, source in enumerate(measured, 1)}
    for row, (name, *_) in enumerate(rows):
        if name in ("digital", "ideal devices", "digital, seed on chips"):
            sources |= {(row, column): section.sources(training) for column, training in enumerate(columns, 1)}
    return Grid(
        f"{_score_title(section)}: {section.hardware_title}",
        note,
        ["", *keys.values(), *(training.title for training in bare), *labels],
        rows,
        legend,
        sources,
    )


def choice_note(chosen: Mapping[str, tuple[int, int]]) -> str:
    """Of trainings with one network of several on chips: name → (its seed, number of networks); empty where there is none."""
    if not chosen:
        return ""
    said = ", ".join(f"{name}: seed {seed} of {number}" for name, (seed, number) in chosen.items())
    return (
        f" One network of several is on chips ({said}), the digital score is the mean of all. Where it was chosen by its score "
        "on the validation set (`best_of`), the scores here are those of the best network on the examples it was chosen by: "
        "higher than of a typical one, the more so the smaller the task."
    )


def _left_out(label: str, chips: int, streams: set[tuple[str, str]]) -> str:
    """Of a difference, for the note below its table; empty where every chip that both have is paired."""
    if not chips:
        return ""
    told = " and ".join(sorted(" ".join(filter(None, names)) or "one not recorded" for names in streams))
    return (
        f" {chips} chip(s) left out of {label}: their noise comes from different streams ({told}), so that they are not the "
        "same chips; measure both with the same `runtime.kernel` and `runtime.product`."
    )


def decimals_of(section: Section) -> int:
    """Scores are in points, except a cross-entropy [nats]."""
    return 3 if section.score.metric == "cross_entropy" else 2


def _keys(section: Section) -> dict[Variant, str]:
    """A letter for each variant: A, B, C are Spoon's (numbered if there are several), D and on all others."""
    letters = [variant.letter for variant in section.variants]
    keys, others = {}, (chr(code) for code in range(ord("D"), 0x10000))
    for i, variant in enumerate(section.variants):
        if not variant.letter:
            keys[variant] = next(others)
        elif letters.count(variant.letter) == 1:
            keys[variant] = variant.letter
        else:
            keys[variant] = f"{variant.letter}{letters[: i + 1].count(variant.letter)}"
    return keys


def panel_of(section: Section) -> Panel:
    curves = []
    keys = _keys(section)
    for variant in section.variants[:MOST_CURVES]:
        found = {t: section.statistic(variant, t) for t in section.times}
        points = {t: s for t, s in found.items() if s is not None}
        curves.append(
            Curve(
                label=f"{keys[variant]}: {variant.title}",
                letter=keys[variant],
                times=list(points),
                mean=[s.mean for s in points.values()],
                error=[s.error for s in points.values()],
            )
        )
    levels = []
    for training, by_seed in sorted(section.digital.items()):
        score = summarise(by_seed)
        own = sorted((v for v in section.variants if v.training == training), key=lambda v: v.compensated)
        if score is not None:
            like = f"{keys[own[-1]]}: {own[-1].title}" if own and training.name != "digital" else ""
            levels.append(Level(f"{training.title}, digital score", score.mean, like=like))
    if section.majority is not None and math.isfinite(section.majority):
        levels.append(Level("always the majority class", section.majority, dotted=True))
    task, metric = (NAMES.get(name, name) for name in (section.score.task, section.score.metric))
    title = ", ".join(filter(None, [task, section.data_title]))
    return Panel(title, metric if metric.endswith("]") else f"{metric} [points]", curves, levels)


def figure_note(sections: Sequence[Section]) -> str:
    found = [s.statistic(v, t) for s in sections for v in s.cells for t in s.times]
    known = [statistic for statistic in found if statistic is not None]
    chips = [n for s in known for n in (s.chips, s.most_chips)]
    seeds = [s.seeds for s in known]
    counts = f"chips: {span(chips)}, training seeds: {span(seeds)}"
    return f"Bars: ± 1 standard error {repeated_over(known)} ({counts})"


def _statistic_record(statistic: Statistic) -> Record:
    return {
        "mean": statistic.mean,
        "standard_error": statistic.error,
        "standard_error_chips": statistic.error_chips,
        "seeds": statistic.seeds,
        "chips": statistic.chips,
        "most_chips": statistic.most_chips,
    }


def _data_record(section: Section, sections: Sequence[Section]) -> Record:
    """A column for the data where there are several; none, as in tables of old, where there is one."""
    return {"data": section.data} if any(other.several_data for other in sections) else {}


def drift_records(sections: Sequence[Section]) -> list[Record]:
    records: list[Record] = []
    for section in sections:
        for variant in section.variants:
            digital = summarise(section.digital.get(variant.training, {}))
            ideal = summarise(section.ideal.get(variant.training, {}))
            for t in section.times:
                statistic, change = section.statistic(variant, t), section.change(variant, t)
                if statistic is None:
                    continue
                records.append(
                    {
                        **section.bundle.columns(sections),
                        **section.score._asdict(),
                        "headline": section.headline,
                        "curve": variant.letter,
                        "training": variant.training.name,
                        "recipe": variant.training.recipe,
                        "compensated": variant.compensated,
                        "t_seconds": t,
                        "extrapolated": t in section.extrapolated,
                        **_statistic_record(statistic),
                        "digital": digital.mean if digital else None,
                        "change": change.mean if change else None,
                        "change_standard_error": change.error if change else None,
                        "ideal_devices": ideal.mean if ideal else None,
                        "majority": section.majority,
                        "examples": section.examples,
                        "wall_seconds_per_evaluation": float(numpy.mean(sorted(section.seconds[variant][t]))),
                        **_data_record(section, sections),
                    }
                )
    return records


def difference_records(sections: Sequence[Section]) -> list[Record]:
    return [
        {
            **section.bundle.columns(sections),
            **section.score._asdict(),
            "headline": section.headline,
            "variant": one.title,
            "minus": other.title,
            "t_seconds": t,
            **_statistic_record(statistic),
            **_data_record(section, sections),
        }
        for section in sections
        for one, other in section.pairs()
        for t in section.times
        if (statistic := section.difference(one, other, t)) is not None
    ]


def _score_title(section: Section) -> str:
    task, metric = (NAMES.get(name, name) for name in (section.score.task, section.score.metric))
    data = f", {section.data_title}" if section.data_title else ""
    return f"{task} ({metric}{', headline' if section.headline else ''}){data}"


def label_of(kind: str, section: Section) -> str:
    """Name of a file and a LaTeX label."""
    parts = [kind, *section.bundle[:3]]
    parts += filter(None, [section.bundle.attention.replace("fp32", ""), section.hardware, section.data_title])
    return label_of_names(*parts)


def label_of_names(*parts: str) -> str:
    """Of what is named by `parts`, of which some may be empty."""
    return "-".join(re.sub(r"[^A-Za-z0-9_.-]+", "_", part) for part in parts if part)
