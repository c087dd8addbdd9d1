"""When the chips of a fleet need a read-out, when new weights, and what either takes: a plan from the rows of a sweep.

A chip is good while it scores at least a wanted share of the digital score. Asked for is the age up to which all N chips of a
fleet are good with a wanted probability P. Chips fail independently, so each of them has to be good with P^(1/N), and the
one-sided tolerance bound of `reprogramming.py` says whether that many of all chips are, with a stated confidence.

Without drift compensation the last age that holds is when factors have to be read out first; with it, when chips have to be
programmed again. A compensated score has its factors read out at its own age, so how long they last is not measured. Ages
between and beyond those of the sweep are not judged.

What holds without the normal law is the smallest score of n chips, with n ≥ ln(1 − confidence) / ln(share) (Wilks 1941).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from analog_glue.costs.bottom_up import BottomUp
from analog_glue.costs.estimate import Costs
from analog_glue.costs.sourced import Amount
from analog_glue.errors import UserError
from analog_glue.reports.drift import label_of
from analog_glue.reports.factsheet import amount_text, points_text
from analog_glue.reports.figures import UNITS, time_label
from analog_glue.reports.grids import MISSING, NAMES, Chapter, Grid, Record
from analog_glue.reports.measured import Measured
from analog_glue.reports.pareto import Entry, load_of
from analog_glue.reports.reprogramming import TimePoint, Verdict, verdict
from analog_glue.reports.sections import Section, Variant, devices_of
from analog_glue.reports.statistics import summarise
from analog_glue.reports.trainings import Training


@dataclass(frozen=True)
class Wish:
    """What a fleet has to keep up.

    Args:
        keep: Of the digital score [%].
        probability: That all chips of the fleet keep it.
        confidence: Of the tolerance bound.
        fleet: Chips.
        programming_energy: Of a device, with all its iterations [pJ]; None: no published value, and none assumed.

    Raises:
        UserError: a number out of its bounds, by the flag that it comes from.
    """

    keep: float = 99.0
    probability: float = 0.95
    confidence: float = 0.95
    fleet: int = 1
    programming_energy: float | None = None

    def __post_init__(self) -> None:
        energy = self.programming_energy
        for flag, fits, must, found in (
            ("keep", 0 < self.keep <= 100, "lie in (0, 100] % of the digital score", self.keep),
            ("probability", 0 < self.probability < 1, "lie between 0 and 1", self.probability),
            ("confidence", 0 < self.confidence < 1, "lie between 0 and 1", self.confidence),
            ("fleet", self.fleet >= 1, "be at least 1 chip", self.fleet),
            ("programming-energy", energy is None or 0 < energy < math.inf, "be positive [pJ of a device]", energy),
        ):
            if not fits:
                raise UserError(f"Flag --{flag} must {must}, but is {found:g}.")

    @property
    def share(self) -> float:
        """Of all chips that have to be good, so that `fleet` of them are with the wanted probability."""
        return float(self.probability ** (1 / self.fleet))

    @property
    def chips_without_a_law(self) -> int:
        """Whose smallest score is a bound whatever the law of scores."""
        return chips_without_a_law(self.share, self.confidence)


def chips_without_a_law(share: float, confidence: float) -> int:
    """The fewest chips whose smallest score a `share` of all chips exceeds, with a confidence, whatever their law."""
    return math.ceil(math.log(1 - confidence) / math.log(share))


@dataclass(frozen=True)
class Plan:
    """Of one network on one hardware.

    Args:
        raw, compensated: Verdict on one chip of the fleet; None where that was not measured.
        read_out: Energy of reading all factors out [µJ], and time [ms]; None where the network or its price is not known.
        devices: That are programmed, one of each pair; None where the network is not known.
    """

    training: Training
    raw: Verdict | None
    compensated: Verdict | None
    read_out: tuple[Amount, Amount] | None
    devices: int | None

    @property
    def last(self) -> Verdict | None:
        """What reprogramming is judged by: compensated where that was measured."""
        return self.compensated or self.raw


def maintenance(sections: Sequence[Section], measured: Measured, costs: Costs | None, wish: Wish) -> Chapter:
    """A table for every headline score over time, and maintenance.csv."""
    made = Chapter()
    records: list[Record] = []
    for section in sections:
        if not section.headline or not section.cells:
            continue
        plans = plans_of(section, measured, costs, wish)
        if plans:
            made.parts.append((label_of("-".join(("maintenance", *section.score)), section), _grid(section, plans, wish)))
            records += [_record(section, plan, wish) for plan in plans]
    if records:
        made.records["maintenance.csv"] = records
    return made


def plans_of(section: Section, measured: Measured, costs: Costs | None, wish: Wish) -> list[Plan]:
    """One for every training that has a digital score."""
    plans = []
    for training in dict.fromkeys(variant.training for variant in section.variants):
        digital = summarise(section.digital.get(training, {}))
        if digital is None:
            continue
        by_way = {
            variant.compensated: _verdict(section, variant, digital.mean, wish)
            for variant in section.variants
            if variant.training == training
        }
        variant = next(one for one in section.variants if one.training == training)
        config = measured.hardware.get(section.bundle.hardware_id)
        load = None if config is None else load_of(Entry(section, variant, section.times[-1], config), measured)
        read_out = costs.read_out(load) if isinstance(costs, BottomUp) and load is not None else None
        devices = None if load is None else load.tiles.count.weights * load.crossbar.cells_per_weight
        plans.append(Plan(training, by_way.get(False), by_way.get(True), read_out, devices))
    return plans


def _verdict(section: Section, variant: Variant, digital: float, wish: Wish) -> Verdict:
    by_time = {
        t: [value for chips in found.values() for value in devices_of(chips).values()]
        for t in section.times
        if (found := section.chips(variant, t))
    }
    return verdict(by_time, digital, (1 - wish.keep / 100) * abs(digital), wish.share, wish.confidence)


def _failed(said: Verdict) -> TimePoint | None:
    """The first age at which the bound does not hold, or is not known to."""
    return next((point for point in said.points if not point.chip_holds(said.threshold)), None)


def _until(said: Verdict | None) -> str:
    """The last age up to which the bound holds."""
    if said is None:
        return "not measured"
    failed = _failed(said)
    if failed is None:
        return f"{time_label(said.points[-1].t)}, last measured"
    if said.single_chip is not None:
        return time_label(said.single_chip)
    unknown = failed.chip_holds(said.threshold) is None
    return f"{'unknown' if unknown else 'not even'} at {time_label(failed.t)}"


def _needed(said: Verdict | None) -> str:
    """Chips that it takes where the bound fails first, if mean and spread stay."""
    failed = _failed(said) if said is not None else None
    if said is None or failed is None:
        return ""
    if failed.chip_holds(said.threshold) is None:
        return "2 or more"
    return "no number" if failed.needed is None else f"{failed.needed:,}"


def _bound(said: Verdict | None) -> tuple[float, float] | None:
    """Age [s] and tolerance bound [points] at the last age."""
    point = said.points[-1] if said is not None else None
    return None if point is None or point.bound is None else (point.t, point.bound)


def _programming(plan: Plan, wish: Wish) -> Amount | None:
    """Energy of programming a chip [µJ]; None where it is not known."""
    if plan.devices is None or wish.programming_energy is None:
        return None
    energy = plan.devices * wish.programming_energy * 1e-6
    return Amount(energy, energy, "µJ", "given", "--programming-energy", "--programming-energy")


def _grid(section: Section, plans: Sequence[Plan], wish: Wish) -> Grid:
    rows = []
    for plan in plans:
        last = plan.last
        assert last is not None
        bound = _bound(last)
        programming = _programming(plan, wish)
        raw_holds = plan.raw is not None and _failed(plan.raw) is None
        rows.append(
            [
                plan.training.title,
                str(min(point.chips for point in last.points)),
                points_text(last.threshold),
                "none needed" if raw_holds else _until(plan.raw),
                _until(last),
                MISSING if bound is None else f"{points_text(bound[1])} at {time_label(bound[0])}",
                _needed(last),
                *(["unknown"] * 2 if plan.read_out is None else [amount_text(part) for part in plan.read_out]),
                "unknown" if plan.devices is None else f"{plan.devices:,}",
                "not given" if programming is None else amount_text(programming),
                _a_year(plan, programming, wish),
            ]
        )
    fleet = f"all of {wish.fleet:,} chips" if wish.fleet > 1 else "a chip"
    header = ["", "chips", "to keep", "read out first by", "reprogram by", "bound", "chips needed", "a read-out", "it takes",
              "devices", "programming", "of the fleet, a year"]  # fmt: skip
    name = ", ".join(NAMES.get(one, one) for one in (section.score.task, section.score.metric))
    raw_alone = any(plan.compensated is None for plan in plans)
    note = (
        f"So long {fleet} score at least {wish.keep:g} % of the digital score with probability {wish.probability:g}: each chip "
        f"with {wish.share:.6g}, by a one-sided tolerance bound of chips with a normal law, confidence {wish.confidence:g} "
        f"(without any law it takes {wish.chips_without_a_law:,} chips, all of them good). The ages are the last of the sweep "
        "up to which that holds; between and beyond them nothing is judged. Read out first by: of chips without compensation; "
        "how long factors last is not measured. Reprogram by: of chips whose factors were read out at that age"
        f"{', or without compensation where no other was measured' if raw_alone else ''}. Chips needed: where it fails first, "
        "if mean and spread stay; evaluation.chips adds them to the sweep. A read-out and its time: one product for every row "
        "of every tile, tiles side by side (costs=bottom_up, docs/costs.md). Programming: devices × --programming-energy, for "
        "which no published value is known here."
    )
    return Grid(f"Maintenance: {name}, {section.hardware_title}", note, header, rows)


def _a_year(plan: Plan, programming: Amount | None, wish: Wish) -> str:
    """Energy of programming the fleet as often as it has to be, in a year."""
    last = plan.last
    if programming is None or last is None or not last.single_chip:
        return MISSING
    times = wish.fleet * UNITS["year"] / last.single_chip
    return amount_text(programming.times(times * 1e-6, "J"))


def _record(section: Section, plan: Plan, wish: Wish) -> Record:
    last = plan.last
    assert last is not None
    bound = _bound(last)
    failed = _failed(last)
    energy, time = plan.read_out or (None, None)
    programming = _programming(plan, wish)
    return {
        **section.bundle._asdict(), **section.score._asdict(), "training": plan.training.name, "recipe": plan.training.recipe,
        "keep_percent": wish.keep, "probability": wish.probability, "confidence": wish.confidence, "fleet": wish.fleet,
        "share": wish.share, "chips": min(point.chips for point in last.points), "digital": last.digital,
        "threshold": last.threshold, "read_out_first_by_seconds": plan.raw.single_chip if plan.raw else None,
        "reprogram_by_seconds": last.single_chip, "bound": bound[1] if bound else None,
        "bound_at_seconds": bound[0] if bound else None, "fails_at_seconds": failed.t if failed else None,
        "chips_needed": failed.needed if failed else None, "read_out_low_uj": energy.low if energy else None,
        "read_out_high_uj": energy.high if energy else None, "read_out_low_ms": time.low if time else None,
        "read_out_high_ms": time.high if time else None, "devices": plan.devices,
        "programming_uj": programming.low if programming else None,
    }  # fmt: skip
