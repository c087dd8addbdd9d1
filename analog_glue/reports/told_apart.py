"""Hardwares of the same options, told apart by the settings in which they differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from analog_glue.reports.sections import Section
from analog_glue.runs.identity import Payload, determining, resolved_yaml

GROUPS = ("noise", "tile", "hardware")


def tell_apart(sections: Sequence[Section], hardware: Mapping[str, Mapping[str, Any]]) -> None:
    """Give sections of namesakes the words by which a reader knows their hardware, where they are known and differ.

    Args:
        hardware: `hardware_id` → resolved configuration of a sweep on it.
    """
    namesakes: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for section in sections:
        if section.hardware:
            namesakes[tuple(section.bundle.names)].add(section.bundle.hardware_id)
    for names, ids in namesakes.items():
        words = differing({one: _entries(hardware[one]) for one in ids if one in hardware})
        for section in sections:
            own = words.get(section.bundle.hardware_id)
            if tuple(section.bundle.names) == names and own is not None and list(words.values()).count(own) == 1:
                section.hardware_words = own


def differing(payloads: Mapping[str, Payload]) -> dict[str, str]:
    """Of each, the entries that not all have: "wire_resistance 0.35, pairs side_by_side"; empty where these are defaults."""
    every = {key for payload in payloads.values() for key in payload}
    varying = [key for key in sorted(every) if len({repr(payload.get(key)) for payload in payloads.values()}) > 1]
    return {
        one: ", ".join(f"{key.partition('.')[2]} {payload[key]}" for key in varying if key in payload)
        for one, payload in payloads.items()
    }


def _entries(config: Mapping[str, Any]) -> Payload:
    """What of a sweep's configuration says its hardware, without what is a default."""
    found: Payload = {}
    for group in GROUPS:
        found |= resolved_yaml(group, config.get(group) or {}, "HardwareSettings" if group == "hardware" else "")
    return {key: value for key, value in determining(found).items() if "." in key}
