"""Numbers with where they come from: a published value, and a band where two sources disagree."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from analog_glue.errors import require_argument

SMALLEST, LARGEST = 1e-30, 1e30  # of any value: beyond, the formulas that use it leave the numbers of a computer


@dataclass(frozen=True)
class Sourced:
    """A number and its citation; `value` None is unknown, and `source` then says what is missing."""

    value: float | None
    source: str


def sourced(name: str, node: Any) -> Sourced:
    """A node of a cost file, `{value: …, source: …}`.

    Args:
        name: Of the node, for messages.

    Raises:
        WrongArgument: a value without a source, or one that is no number in its bounds.
    """
    if isinstance(node, Sourced):
        return node
    known = isinstance(node, dict) and set(node) <= {"value", "source"}
    require_argument(known, name, "hold a value and its source", node, 'Write {value: 1.5, source: "who, where, year"}.')
    value, source = node.get("value"), node.get("source")
    if value is None:
        told = source is None or isinstance(source, str)
        require_argument(told, f"{name}.source", "be text that says what is missing, or null", source)
        return Sourced(None, source or "no published value")
    number = type(value) in (int, float) and (value == 0 or SMALLEST <= value <= LARGEST)
    fits = f"be null (unknown), 0, or a number in {SMALLEST:g} … {LARGEST:g}"
    require_argument(number, f"{name}.value", fits, value)
    cited = isinstance(source, str) and bool(source.strip())
    require_argument(cited, f"{name}.source", "be text that says where the value comes from", source,
                     "A number without a source is not used; value: null says that it is unknown.")  # fmt: skip
    return Sourced(float(value), source)


def published(name: str, node: Any) -> tuple[Sourced, ...]:
    """A node of a cost file that holds one value, or several by the names of those who published them.

    Raises:
        WrongArgument: as `sourced`, or nothing in it.
    """
    if isinstance(node, tuple):
        return node
    if isinstance(node, dict) and node and not set(node) & {"value", "source"}:
        return tuple(sourced(f"{name}.{who}", one) for who, one in node.items())
    return (sourced(name, node),)


@dataclass(frozen=True)
class Amount:
    """A quantity as the sheet shows it: one number, a band between two sources, or unknown.

    Args:
        low, high: Ends of the band, equal where there is one number; None: unknown.
        unit: Of both.
        origin: computed | given | scaled | unknown.
        low_source, high_source: Where the ends come from; of an unknown amount, why.
    """

    low: float | None
    high: float | None
    unit: str
    origin: str
    low_source: str = ""
    high_source: str = ""

    @property
    def known(self) -> bool:
        return self.low is not None

    @property
    def middle(self) -> float | None:
        """Geometric mean of the ends, to order by; None where unknown."""
        if self.low is None or self.high is None:
            return None
        return math.sqrt(self.low * self.high)

    def times(self, factor: float, unit: str = "") -> Amount:
        """So many of it."""
        if self.low is None or self.high is None:
            return Amount(None, None, unit or self.unit, self.origin, self.low_source, self.high_source)
        low, high = self.low * factor, self.high * factor
        return Amount(low, high, unit or self.unit, self.origin, self.low_source, self.high_source)


def unknown(unit: str, why: str) -> Amount:
    """What no source says."""
    return Amount(None, None, unit, "unknown", why, why)


def band(candidates: Iterable[Sourced], unit: str, origin: str = "computed") -> Amount:
    """From the smallest to the largest of several published values; those that are unknown say why where all are."""
    candidates = list(candidates)
    known = sorted((one for one in candidates if one.value is not None), key=lambda one: one.value or 0.0)
    if not known:
        return unknown(unit, "; ".join(dict.fromkeys(one.source for one in candidates)))
    return Amount(known[0].value, known[-1].value, unit, origin, known[0].source, known[-1].source)


def total(amounts: Iterable[Amount], unit: str, origin: str = "computed") -> Amount:
    """The sum of what is known of them; unknown where nothing is."""
    known = [(one.low, one.high) for one in amounts if one.low is not None and one.high is not None]
    if not known:
        return unknown(unit, "nothing of it has a published value")
    return Amount(sum(low for low, _ in known), sum(high for _, high in known), unit, origin)
