"""Which layers should stay digital: what each group gains beside the tiles, and the front of accuracy against energy.

A group of layers is judged on the same chips, in one of two ways or both:

    gain  = score with all other layers on tiles − score with all of them     what taking it off wins first
    loss  = digital score − score with this group alone on tiles              what it costs last

Where both are measured, their mean counts: the average of the first and the last of its contributions. Groups are taken off in
the order of that number for the cost they add, the energy of an inference by the middle of its band, or where the energy of
any choice is unknown its digital multiply-adds. Contributions do not add up, so sets along this order are scored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from analog_glue.costs.sourced import Amount
from analog_glue.reports.factsheet import amount_text
from analog_glue.reports.figures import Chart, Level, Line
from analog_glue.reports.grids import ANY, Chapter, Grid, Picture, Record, as_markdown, as_text, in_points, score_cell
from analog_glue.reports.pareto import TICKS, unbeaten
from analog_glue.reports.statistics import Statistic, summarise
from analog_glue.settings import typed_list

KEPT = 0.99  # share of the digital score that counts as kept
MOST_LINES = 20  # of the table of groups at the end of the command
ROLES = {"one": "one group digital", "greedy": "by gain for its energy", "control": "by energy alone (control)"}
PUBLISHED = (
    "Published, for orientation (Rasch et al. 2023, as cited by others): exempting 2 to 11 % of the parameters brings networks "
    "back to iso-accuracy; other networks, devices and shares than these here."
)

Scores = Mapping[int, float]  # chip → headline score [points], the mean over splits


@dataclass(frozen=True)
class Price:
    """What an inference takes.

    Args:
        energy: Of it [µJ]; None where an analog part of it has no price.
        digital: Multiply-adds of linear layers beside the tiles.
    """

    energy: Amount | None
    digital: int

    def cost(self, by_energy: bool) -> float:
        """To order by: the middle of the energy [µJ], or multiply-adds."""
        middle = None if self.energy is None else self.energy.middle
        return float(self.digital) if not by_energy or middle is None else middle


@dataclass(frozen=True)
class Placed:
    """One choice of layers on tiles, scored and priced.

    Args:
        role: full | one | greedy | control | digital.
        layers: Patterns, as `hardware.layers` takes them; empty where no layer is on tiles.
        off: Groups beside the tiles.
        digital: Linear layers beside the tiles.
        share: Of the weights of linear layers that are beside the tiles [%].
        scores: Of chips; of the digital network its one score, on every chip.
    """

    role: str
    layers: tuple[str, ...]
    off: tuple[str, ...]
    digital: int
    share: float
    price: Price
    scores: Scores

    @property
    def score(self) -> Statistic | None:
        return summarise({0: self.scores})

    @property
    def in_words(self) -> str:
        if self.role in ("full", "digital"):
            return {"full": "all on tiles", "digital": "none on tiles"}[self.role]
        return self.off[0] if len(self.off) == 1 else f"{len(self.off)} groups {ROLES[self.role]}"

    @property
    def setting(self) -> str:
        """As a word for `evaluate`, `train` or `factsheet`."""
        return typed_list("hardware.layers", self.layers)


@dataclass(frozen=True)
class Judged:
    """A group of layers.

    Args:
        layers: How many.
        share: Of the weights of linear layers [%].
        gain, loss: By chip [points], see above; empty where it was not measured.
        cost: What it adds to an inference when it is taken off: energy [µJ], or multiply-adds.
    """

    group: str
    layers: int
    share: float
    gain: Scores
    loss: Scores
    cost: float

    @property
    def value(self) -> Scores:
        """What counts, by chip [points]."""
        if self.gain and self.loss:
            return {chip: (self.gain[chip] + self.loss[chip]) / 2 for chip in self.gain.keys() & self.loss.keys()}
        return self.gain or self.loss

    @property
    def mean(self) -> float:
        """Of `value` [points]; minus infinity where a score is undefined."""
        found = summarise({0: self.value})
        return -math.inf if found is None or math.isnan(found.mean) else found.mean

    @property
    def rate(self) -> float:
        """Points for the cost; infinite for a gain that costs nothing or saves something."""
        return self.mean / self.cost if self.cost > 0 else math.copysign(math.inf, self.mean)


def difference(one: Scores, other: Scores) -> Scores:
    """`one` minus `other`, on the chips that both have."""
    return {chip: one[chip] - other[chip] for chip in one.keys() & other.keys()}


def greedy(judged: Sequence[Judged]) -> list[str]:
    """The groups that gain anything, those first that gain most for their cost."""
    best = sorted((one for one in judged if one.mean > 0), key=lambda one: (-one.rate, -one.mean, one.group))
    return [one.group for one in best]


def sizes(first: int, last: int, most: int) -> list[int]:
    """At most so many whole numbers from `first` to `last`, all of them where they are few, else in about equal ratios."""
    if last < first or most < 1:
        return []
    found = [first]
    for left in range(min(most - 1, last - first), 0, -1):
        found.append(max(found[-1] + 1, round(found[-1] * (last / found[-1]) ** (1 / left))))
    return found


@dataclass(frozen=True)
class Placement:
    """All that was found of one network on one hardware.

    Args:
        title: Network and hardware.
        condition: Age and compensation of the chips, in words.
        grouping: layer | block | kind.
        priced: By what, for how many tokens, in words.
        digital: Score of the network in software [points].
        metric: In words.
        judged: Every group, in the model's order.
        placed: Every choice that was scored, and the digital network.
    """

    title: str
    condition: str
    grouping: str
    priced: str
    digital: float
    metric: str
    judged: Sequence[Judged]
    placed: Sequence[Placed]

    @property
    def by_energy(self) -> bool:
        return known_to_all([one.price for one in self.placed])

    @property
    def full(self) -> Placed:
        return next(one for one in self.placed if one.role == "full")

    @property
    def chips(self) -> int:
        return len(self.full.scores)

    @property
    def front(self) -> list[bool]:
        """Of `placed`, whether none scores at least as much for at most as much; both ends of a band count."""
        return unbeaten([(_mean(one), self._costs(one)) for one in self.placed])

    def _costs(self, one: Placed) -> tuple[float, ...]:
        energy = one.price.energy
        if not self.by_energy or energy is None:
            return (float(one.price.digital),)
        return energy.low or 0.0, energy.high or 0.0

    @property
    def shown(self) -> list[tuple[Placed, bool]]:
        """What the table has, cheapest first, and whether nobody beats it: of single groups only those."""
        marked = zip(self.placed, self.front, strict=True)
        kept = [(one, alone) for one, alone in marked if alone or one.role != "one"]
        return sorted(kept, key=lambda pair: (pair[0].price.cost(self.by_energy), -_mean(pair[0])))

    @property
    def enough(self) -> Placed | None:
        """The cheapest choice with layers on tiles whose mean keeps `KEPT` of the digital score; None where none does."""
        least = self.digital - (1 - KEPT) * abs(self.digital)
        keeping = [one for one in self.placed if one.layers and _mean(one) >= least]
        return min(keeping, key=lambda one: one.price.cost(self.by_energy), default=None)


def known_to_all(prices: Sequence[Price]) -> bool:
    """Whether the energy of all is known, so that it can be compared."""
    return all(price.energy is not None for price in prices)


def _mean(one: Placed) -> float:
    """Of its score [points]; minus infinity where it is undefined."""
    found = one.score
    return -math.inf if found is None or math.isnan(found.mean) else found.mean


def groups_grid(found: Placement, most: int | None = None) -> Grid:
    """The groups, those first that win most for their cost."""
    judged = sorted(found.judged, key=lambda one: (-one.rate, -one.mean, one.group))
    unit = "µJ" if found.by_energy else "10⁶ MAC"
    full = found.full.price.cost(found.by_energy)
    rows = [
        [
            one.group,
            str(one.layers),
            f"{one.share:.2f}",
            score_cell(summarise({0: one.gain}), signed=True),
            score_cell(summarise({0: one.loss}), signed=True),
            f"{one.cost / (1 if found.by_energy else 1e6):+,.3f}",
            f"{100 * one.cost / full:+.2f}" if found.by_energy and full else "–",
        ]
        for one in judged[:most]
    ]
    header = [found.grouping, "layers", "% of weights", "gain, alone off", "loss, alone on", f"added [{unit}]", "added [%]"]
    left = f" {len(judged) - len(rows)} more are in the Markdown and csv files." if len(judged) > len(rows) else ""
    note = (
        f"{found.metric}, {found.condition}; differences of the same {found.chips} chips, mean ± standard error. Alone off: "
        "gain over all layers on tiles. Alone on: loss from the digital score. Added: "
        + ("energy of an inference, middle of its band" if found.by_energy else "digital multiply-adds of an inference")
        + f". The order is the gain for what it adds.{left}"
    )
    return Grid(f"What each {found.grouping} wins beside the tiles: {found.title}", note, header, rows)


def front_grid(found: Placement) -> Grid:
    """The choices, cheapest first."""
    full = found.full
    rows = []
    for number, (one, alone) in enumerate(found.shown, start=1):
        change = summarise({0: difference(one.scores, full.scores)}) if one.role not in ("full", "digital") else None
        energy = one.price.energy
        cells = [f"{number}{' ●' if alone else ''}", one.in_words, str(one.digital), f"{one.share:.2f}"]
        cells.append(score_cell(one.score) if one.role != "digital" else in_points(found.digital))
        cells += [
            score_cell(change, signed=True) if change else "",
            "unknown" if energy is None else amount_text(energy),
            f"{one.price.digital / 1e6:,.1f}",
        ]
        rows.append(cells)
    header = ["", "digital", "layers", "% of weights", "score", "− all on tiles", "energy", "digital 10⁶ MAC"]
    compared = "energy" if found.by_energy else "digital multiply-adds, since the energy of some is unknown"
    note = (
        f"{found.metric}, {found.condition}, {found.chips} chips; {found.priced}. ●: none scores at least as much for at most "
        f"as much {compared}; means are compared, not their errors, and a choice among many looks better than it is. Of "
        f"single groups those with ● are shown. {PUBLISHED}"
    )
    return Grid(f"Accuracy against cost, layers beside the tiles: {found.title}", note, header, rows)


def settings_lines(found: Placement) -> list[str]:
    """Every choice of the table as it is typed."""
    return [f"{number:>3}  {one.setting}" for number, (one, _) in enumerate(found.shown, start=1) if one.layers]


def answer(found: Placement) -> str:
    """What a reader asks first."""
    kept, full = found.enough, found.full
    share = f"{100 * KEPT:g} % of the digital {in_points(found.digital)}"
    if kept is None:
        return f"No choice that was scored keeps {share}."
    if kept is full:
        return f"All layers may stay on tiles: they keep {share} ({score_cell(full.score)})."
    by_energy = found.by_energy
    more = kept.price.cost(by_energy) / full.price.cost(by_energy) - 1 if by_energy and full.price.cost(by_energy) else None
    energy = "" if more is None else f", {100 * more:+.1f} % energy"
    return (
        f"Cheapest that keeps {share}: {score_cell(kept.score)} with {kept.digital} layers digital, {kept.share:.2f} % of the "
        f"weights of linear layers{energy}. All on tiles: {score_cell(full.score)}."
    )


def terminal(found: Placement) -> str:
    """The end of the command."""
    parts = [as_text(groups_grid(found, MOST_LINES)), as_text(front_grid(found)), "\n".join(settings_lines(found))]
    return "\n\n".join([*parts, answer(found)])


def page(found: Placement, picture: str) -> str:
    """All of it in Markdown.

    Args:
        picture: Name of the file of the front.
    """
    words = "\n".join(["Each as a word for `evaluate`, `train` or `factsheet`:", "", "```", *settings_lines(found), "```"])
    title = f"# Which layers should stay digital: {found.title}"
    parts = [title, answer(found), f"![the front]({picture})", as_markdown(front_grid(found)), words]
    return "\n\n".join([*parts, as_markdown(groups_grid(found))]) + "\n"


def chapter(found: Placement, run: str, placed_in: str) -> Chapter:
    """The tables and the picture, for `report`; the runs of all numbers are those below `run`.

    Args:
        placed_in: The page beside them.
    """
    sources = {(ANY, ANY): frozenset({(run, "")})}
    front, groups = (replace(grid, sources=sources) for grid in (front_grid(found), groups_grid(found)))
    front = replace(front, note=f"{answer(found)} {front.note} The settings of each stand in {placed_in}.")
    return Chapter([("front", front), ("picture", front_picture(found)), ("groups", groups)])


def front_picture(found: Placement) -> Picture:
    """Score over energy, a colour for each way in which groups were chosen."""

    def place(one: Placed) -> float:
        return one.price.cost(found.by_energy) / (1 if found.by_energy else 1e6)

    def line(role: str, label: str) -> Line:
        own = [one for one in found.placed if one.role == role]
        own.sort(key=place)
        scores = [one.score for one in own]
        means, errors = [s.mean if s else math.nan for s in scores], [s.error if s else None for s in scores]
        return Line(label, [place(one) for one in own], means, errors, joined=False)

    lines = [line("full", "all on tiles"), *(line(role, label) for role, label in ROLES.items())]
    lines = [one for one in lines if one.x]
    best = sorted((place(o), _mean(o)) for o, alone in zip(found.placed, found.front, strict=True) if alone and o.layers)
    lines.append(Line("nobody beats these", [x for x, _ in best], [y for _, y in best], [None] * len(best), law=True))
    places = [x for one in lines for x in one.x]
    ticks = [tick for tick in TICKS if min(places) / 1.5 <= tick <= 1.5 * max(places)] if min(places) > 0 else []
    log = len(ticks) > 1
    axis = (
        "energy of an inference, middle of its band [µJ]" if found.by_energy else "digital multiply-adds of an inference [10⁶]"
    )
    level = Level("digital", found.digital, told=in_points(found.digital))
    chart = Chart("", axis, f"{found.metric} [points]", lines, [level], log_x=log, ticks=ticks if log else ())
    note = f"{found.condition}, {found.chips} chips; bars: ± 1 standard error over chips; {found.priced}"
    return Picture(f"Layers beside the tiles: {found.title}", [chart], note)


def group_records(found: Placement) -> list[Record]:
    """A line for every group."""
    records: list[Record] = []
    for one in found.judged:
        gain, loss = summarise({0: one.gain}), summarise({0: one.loss})
        records.append(
            {
                "group": one.group, "layers": one.layers, "weights_percent": one.share,
                "gain": gain.mean if gain else None, "gain_standard_error": gain.error if gain else None,
                "loss": loss.mean if loss else None, "loss_standard_error": loss.error if loss else None,
                ("added_uj" if found.by_energy else "added_multiply_adds"): one.cost, "chips": found.chips,
            }
        )  # fmt: skip
    return records


def front_records(found: Placement) -> list[Record]:
    """A line for every choice that was scored."""
    records: list[Record] = []
    for one, alone in zip(found.placed, found.front, strict=True):
        score, energy = one.score, one.price.energy
        records.append(
            {
                "role": one.role, "digital_groups": " ".join(one.off), "digital_layers": one.digital,
                "digital_weights_percent": one.share, "score": score.mean if score else None,
                "standard_error": score.error if score and one.role != "digital" else None,
                "energy_low_uj": energy.low if energy else None, "energy_high_uj": energy.high if energy else None,
                "digital_multiply_adds": one.price.digital, "unbeaten": alone,
                "setting": one.setting if one.layers else "",
            }
        )  # fmt: skip
    return records
