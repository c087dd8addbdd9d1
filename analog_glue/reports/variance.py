"""How much of the variance of a score comes from training, chip and moment, and how many chips a wanted error needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from analog_glue.reports.grids import ANY, NAMES, Chapter, Grid, Record
from analog_glue.reports.sections import Section, Variant, devices_of

WANTED = (0.1, 0.25, 0.5)  # standard errors [points]


@dataclass(frozen=True)
class Components:
    """Variances of one score [points²], and the design that they were estimated from.

    Args:
        seed: Of training seeds, each with its own network; negative where the estimate is.
        chip: Of chips under one network: programming and drift, the same at all times; negative where the estimate is.
        moment: Of one chip from time to time: 1/f noise, noise of the products, the chip's own course in time; None where
            chips were scored at one time only, `chip` then holds both.
        seeds, chips, times: Of the balanced design: what every seed has.
    """

    seed: float
    chip: float
    moment: float | None
    seeds: int
    chips: int
    times: int

    @property
    def parts(self) -> tuple[float, float, float]:
        """The three variances, negative estimates as 0."""
        return max(self.seed, 0.0), max(self.chip, 0.0), max(self.moment or 0.0, 0.0)

    @property
    def total(self) -> float:
        """Variance of a single score of one network on one chip at one time."""
        return sum(self.parts)

    def error(self, chips: int) -> float:
        """Standard error [points] of the mean at one time over these seeds with so many chips each."""
        seed, chip, moment = self.parts
        return math.sqrt(seed / self.seeds + (chip + moment) / (self.seeds * chips))

    def chips_for(self, error: float) -> int | None:
        """Fewest chips a seed, with the seeds there are, that reach a standard error [points]; None where no number does."""
        seed, chip, moment = self.parts
        room = error**2 - seed / self.seeds
        if room <= 1e-12 * error**2:
            return None
        return max(1, math.ceil((chip + moment) / (self.seeds * room) - 1e-9))

    def seeds_for(self, error: float) -> int:
        """Fewest seeds, with the chips there are on each, that reach a standard error [points]."""
        seed, chip, moment = self.parts
        return max(1, math.ceil((seed + (chip + moment) / self.chips) / error**2 - 1e-9))


def components(scores: numpy.ndarray) -> Components:
    """Variance components of a balanced design by the analysis of variance (the method of moments).

    Model: score = mean + time + seed + chip(seed) + residual, times fixed, seeds and chips random, chips nested in seeds:

        MS_seed = b n Σᵢ (ȳᵢ.. − ȳ)² / (a − 1)                               E = σ²_res + n σ²_chip + b n σ²_seed
        MS_chip = n Σᵢⱼ (ȳᵢⱼ. − ȳᵢ..)² / (a (b − 1))                          E = σ²_res + n σ²_chip
        MS_res  = Σᵢⱼₖ (yᵢⱼₖ − ȳᵢⱼ. − ȳ..ₖ + ȳ)² / ((a b − 1)(n − 1))         E = σ²_res

    hence σ²_res = MS_res, σ²_chip = (MS_chip − MS_res)/n, σ²_seed = (MS_seed − MS_chip)/(b n). The estimates have no bias, so
    one of a part near zero may be negative. The drift that all chips share is the fixed effect of time and no variance; what
    a network or a chip has of its own over time is in the residual. With one time (n = 1) σ²_chip stands for σ²_chip + σ²_res.
    Chips of the same number have the same noise under every network; counting them as different chips is an approximation, as
    the weights that the noise meets are not the same.

    Args:
        scores: [points] (a seeds, b chips a seed, n times), a ≥ 2 and b ≥ 2.

    Source:
        Searle, Casella, McCulloch, Variance Components (1992), chapters 3 and 4; Montgomery, Design and Analysis of
        Experiments, chapter on nested designs.
    """
    seeds, chips, times = scores.shape
    mean, of_seed, of_chip = scores.mean(), scores.mean(axis=(1, 2)), scores.mean(axis=2)
    ms_seed = chips * times * ((of_seed - mean) ** 2).sum() / (seeds - 1)
    ms_chip = times * ((of_chip - of_seed[:, None]) ** 2).sum() / (seeds * (chips - 1))
    seed = (ms_seed - ms_chip) / (chips * times)
    if times == 1:
        return Components(float(seed), float(ms_chip), None, seeds, chips, times)
    rest = scores - of_chip[:, :, None] - scores.mean(axis=(0, 1)) + mean
    ms_rest = (rest**2).sum() / ((seeds * chips - 1) * (times - 1))
    return Components(float(seed), float((ms_chip - ms_rest) / times), float(ms_rest), seeds, chips, times)


def balanced(section: Section, variant: Variant) -> numpy.ndarray | None:
    """Scores (seeds, chips, times) that every seed has; None with fewer than two seeds or chips, or an undefined score."""
    by_time = {t: {seed: devices_of(chips) for seed, chips in section.chips(variant, t).items()} for t in section.times}
    seeds = sorted({seed for found in by_time.values() for seed in found})
    times = [t for t, found in by_time.items() if len(found) == len(seeds)]
    if len(seeds) < 2 or not times:
        return None
    shared = set.intersection(*(set(by_time[t][seed]) for t in times for seed in seeds))
    if len(shared) < 2:
        return None
    scores = numpy.array([[[by_time[t][seed][chip] for t in times] for chip in sorted(shared)] for seed in seeds])
    return scores if numpy.isfinite(scores).all() else None


def variance(sections: Sequence[Section]) -> Chapter:
    """Table and records over all headline scores that several seeds on several chips were measured of; empty without any."""
    made = Chapter()
    found = [
        (section, variant, components(scores))
        for section in sections
        if section.headline
        for variant in section.variants
        if (scores := balanced(section, variant)) is not None
    ]
    if found:
        made.parts.append(("variance", _grid(found)))
        made.records["variance.csv"] = [_record(*one) for one in found]
    return made


def _grid(found: Sequence[tuple[Section, Variant, Components]]) -> Grid:
    rows, negative = [], False
    for section, variant, parts in found:
        estimates = (parts.seed, parts.chip, parts.moment)
        negative = negative or any(value is not None and value < 0 for value in estimates)
        shares = [
            ("with chip" if value is None else f"{100 * part / parts.total:.0f} %" if parts.total else "–")
            + ("*" if value is not None and value < 0 else "")
            for value, part in zip(estimates, parts.parts, strict=True)
        ]
        needed = [parts.chips_for(error) for error in WANTED]
        cells = [
            str(chips) if chips is not None else f"{parts.seeds_for(error)} seeds"
            for error, chips in zip(WANTED, needed, strict=True)
        ]
        task, design = NAMES.get(section.score.task, section.score.task), f"{parts.seeds} × {parts.chips} × {parts.times}"
        name = ", ".join(filter(None, [task, section.data_title, section.hardware_title, variant.title]))
        rows.append([name, design, f"{math.sqrt(parts.total):.2f}", *shares, *cells])
    note = (
        "Shares of the variance of one score (one network, one chip, one time) by a nested analysis of variance with times as "
        "fixed effects, over the chips and times that all seeds have; seed: training; chip: programming and drift of a chip; "
        "moment: 1/f and read noise, and what a chip has of its own over time. Then the chips a seed, with the seeds there "
        "are, that give the mean at one time a standard error of so many points; “k seeds” where no number of chips does and k "
        "seeds with the chips there are would. With few seeds the share of training is known to a factor of several."
    )
    note += " * The estimate was negative and counts as 0." if negative else ""
    header = ["", "seeds × chips × times", "σ [points]", "seed", "chip", "moment", *(f"± {error:g}" for error in WANTED)]
    sources = {(row, ANY): section.sources(variant) for row, (section, variant, _) in enumerate(found)}
    return Grid("Where the variance of a score comes from", note, header, rows, sources=sources)


def _record(section: Section, variant: Variant, parts: Components) -> Record:
    return {
        **section.bundle._asdict(),
        **section.score._asdict(),
        "training": variant.training.name,
        "recipe": variant.training.recipe,
        "compensated": variant.compensated,
        "seeds": parts.seeds,
        "chips": parts.chips,
        "times": parts.times,
        "variance_seed": parts.seed,
        "variance_chip": parts.chip,
        "variance_moment": parts.moment,
        **{f"chips_for_{error:g}": parts.chips_for(error) for error in WANTED},
    }
