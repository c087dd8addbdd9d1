"""What determines a run: every resolved value by its key, and the id that names the run's folder.

The payload is flat, "tile": "Crossbar", "tile.adc_bits": 8, …, complete, and stored beside the run. The id hashes of it only
what differs from the default recorded when the option was introduced (`recorded.py`): a new option changes no id, nor does a
class that moves, and of two payloads the difference can be named.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from analog_glue.runs.aliases import recorded_name
from analog_glue.runs.as_written import FromEnvironment
from analog_glue.runs.fingerprint import canonical, fingerprint
from analog_glue.runs.recorded import recorded_defaults
from analog_glue.settings import MISSING

WHOLE = "run"  # the kind whose recorded defaults are groups that came after the first release
Payload = dict[str, Any]  # key → text, number, true, false, null, or a list of these

ID_LENGTH = 8
NO_RESULT = {  # settings that change no result, by group: names, places, and how often a state is saved
    "training": ("save_every",),
    "model": ("name", "revision", "path", "short"),  # the files themselves count
}


@dataclass(frozen=True)
class Identity:
    """The payload of a run, and what is made of it."""

    payload: Payload

    @property
    def id(self) -> str:
        """Eight hexadecimal digits."""
        return fingerprint(determining(self.payload), ID_LENGTH)

    def recipe(self, **instead: Any) -> str:
        """The id of the run without its seed: equal for runs that differ in nothing else.

        Args:
            **instead: Values of payload keys that the seed draws, as they are without it.
        """
        return Identity({name: value for name, value in self.payload.items() if name != "seed"} | instead).id


def resolved(key: str, value: Any, leave_out: Mapping[str, tuple[str, ...]] = NO_RESULT) -> Payload:
    """A component or group of settings as entries of a payload: its kind, then every field with its value.

    Args:
        key: Of the group: "tile", "training".
        leave_out: Fields that do not count, by key of their group.
    """
    return dict(_entries(key, value, leave_out))


def _entries(key: str, value: Any, leave_out: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, Any]]:
    if not is_dataclass(value):
        infinite = isinstance(value, float) and not math.isfinite(value)
        yield key, list(value) if isinstance(value, tuple) else repr(value) if infinite else value  # JSON knows no infinity
        return
    kind = recorded_name(type(value).__name__)
    yield key, kind
    defaults = recorded_defaults(kind)
    for name in (field.name for field in fields(value) if field.name not in leave_out.get(key, ())):
        own = getattr(value, name)
        if isinstance(defaults.get(name), float) and type(own) is int:
            own = float(own)  # 25 and 25.0 are one value
        yield from _entries(f"{key}.{name}", own, leave_out)


def determining(payload: Payload) -> Payload:
    """The entries that differ from their recorded default, and those without one."""
    return {key: value for key, value in payload.items() if not _is_default(payload, key, value)}


def _is_default(payload: Payload, key: str, value: Any) -> bool:
    defaults, name = _defaults_beside(payload, key)
    return defaults.get(name, MISSING) != MISSING and canonical(defaults[name]) == canonical(value)


def _defaults_beside(payload: Payload, key: str) -> tuple[dict[str, Any], str]:
    """Recorded defaults of the group that holds `key`, and the name in that group."""
    group, _, name = key.rpartition(".")
    kind = payload.get(group) if group else WHOLE
    return (recorded_defaults(kind) if isinstance(kind, str) else {}), name


@dataclass(frozen=True)
class Difference:
    """A key at which two payloads differ; `None` where one does not say, as text else."""

    key: str
    first: str | None
    second: str | None

    def in_words(self, first: str = "this run has", second: str = "you ask for") -> str:
        """One line: "`tile.adc_bits`: this run has 8, you ask for 10"."""
        sides = [
            f"{who} {'nothing recorded' if value is None else value}"
            for who, value in ((first, self.first), (second, self.second))
        ]
        return f"`{self.key}`: {', '.join(sides)}"


def differences(first: Payload, second: Payload) -> list[Difference]:
    """Where two payloads differ, in the order of `second`; an option that one is too old for has its recorded default.

    Where a group is of another kind, its fields are not compared.
    """
    found: list[Difference] = []
    others: list[str] = []  # groups of another kind
    for key in [*second, *(key for key in first if key not in second)]:
        if any(key.startswith(f"{group}.") for group in others):
            continue
        one, two = _said(first, second, key), _said(second, first, key)
        if one == two:
            continue
        found.append(Difference(key, one, two))
        if any(name.startswith(f"{key}.") for name in (*first, *second)):
            others.append(key)
    return found


def _said(payload: Payload, other: Payload, key: str) -> str | None:
    """The value at `key` as text; the recorded default where the payload is older than the option."""
    if key in payload:
        if isinstance(payload[key], FromEnvironment):
            return payload[key].written
        return canonical(payload[key]).strip('"') if isinstance(payload[key], str) else canonical(payload[key])
    group = key.rpartition(".")[0]
    if payload.get(group) != other.get(group):
        return None
    defaults, name = _defaults_beside(other, key)
    return None if defaults.get(name, MISSING) == MISSING else _said({key: defaults[name]}, {}, key)
