"""What tells hardware apart that bears the same names: the settings in which configurations of sweeps differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from analog_glue.reports.sections import Section
from analog_glue.runs.aliases import as_of_today, kind_of_target
from analog_glue.runs.identity import Payload, determining, differences

# Groups whose nodes name no class, with the kind under which their defaults are recorded.
KINDS = {"hardware": "HardwareSettings", "hardware.calibration": "Calibration", "evaluation": "Evaluation"}
ATTENTION = {"_target_": "analog_glue.nn.attention.Attention"}  # of sweeps that are older than the group
OF_CHIPS = ("chip_seed", "token_budget")  # of `evaluation`, in what determines a chip


def on_paper(config: Mapping[str, Any]) -> Payload:
    """What determines the chips of a sweep, as entries of an identity, from its resolved configuration."""
    evaluation = config.get("evaluation") or {}
    groups = {
        "noise": config.get("noise"), "tile": config.get("tile"), "attention": config.get("attention") or ATTENTION,
        "hardware": config.get("hardware") or {}, "evaluation": {n: evaluation[n] for n in OF_CHIPS if n in evaluation},
    }  # fmt: skip
    return {key: value for group, node in groups.items() for key, value in _entries(group, as_of_today(node))}


def _entries(key: str, node: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(node, Mapping):
        yield key, node
        return
    yield key, kind_of_target(str(node["_target_"])) if "_target_" in node else KINDS.get(key, "")
    for name, value in node.items():
        if name != "_target_":
            yield from _entries(f"{key}.{name}", value)


def devices_on_paper(config: Mapping[str, Any]) -> Payload:
    """What determines the devices, the same for the same devices whatever their option is called."""
    entries = on_paper(config)
    own = {key: value for key, value in entries.items() if key.partition(".")[0] == "noise"}
    return determining(own)


def told_apart(payloads: Sequence[Payload]) -> list[str]:
    """Of each, the values at which they are not all alike: "tile.wire_resistance=0.35, noise.noise_scale=1.0"."""
    first = payloads[0]
    by_key = [{one.key: one for one in differences(first, other)} for other in payloads]
    of_first = {key: one.first for found in by_key for key, one in found.items()}
    return [
        ", ".join(f"{key}={found[key].second if key in found else own}" for key, own in of_first.items()) for found in by_key
    ]


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
        words = not_in_all({one: on_paper(hardware[one]) for one in ids if one in hardware})
        for section in sections:
            own = words.get(section.bundle.hardware_id)
            if tuple(section.bundle.names) == names and own is not None and list(words.values()).count(own) == 1:
                section.hardware_words = own


def not_in_all(payloads: Mapping[str, Payload]) -> dict[str, str]:
    """Of each, the settings that are no default and not all have: "wire_resistance 0.35, pairs side_by_side"."""
    own = {one: {key: value for key, value in determining(payload).items() if "." in key} for one, payload in payloads.items()}
    varying = sorted({key for entries in own.values() for key in entries})
    varying = [key for key in varying if len({repr(entries.get(key)) for entries in own.values()}) > 1]
    return {
        one: ", ".join(f"{key.partition('.')[2]} {entries[key]}" for key in varying if key in entries)
        for one, entries in own.items()
    }
