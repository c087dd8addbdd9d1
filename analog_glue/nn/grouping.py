"""Layers in groups by their names, and the patterns that choose a group and nothing else."""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

GROUPINGS = ("layer", "block", "kind")  # from fine to coarse, as a rule


def grouped(names: Iterable[str], how: str) -> dict[str, tuple[str, ...]]:
    """Layers by the name of their group, in their order.

    Args:
        how: layer: each by itself. block: all of one place in the stack ("bert.encoder.layer.3"). kind: the same layer of all
            places ("bert.encoder.layer.*.output.dense"). What stands beside the stack is alone in each.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_group_of(name, how), []).append(name)
    return {group: tuple(own) for group, own in found.items()}


def _group_of(name: str, how: str) -> str:
    if how == "kind":
        return re.sub(r"(?<=\.)\d+(?=\.)", "*", name)
    block = re.match(r"(.*\.\d+)\.", name) if how == "block" else None
    return block[1] if block else name


def patterns_of(group: str, names: Sequence[str], all_names: Iterable[str]) -> tuple[str, ...]:
    """Patterns (`fnmatch`) that choose the layers `names` of a group among `all_names`; the names where none do so alone."""
    numbers = (re.sub(r"(?<=\.)\d+(?=\.)", lambda number: "?" * len(number[0]), name) for name in names)
    known = list(all_names)
    for patterns in ((f"{group}.*",), tuple(dict.fromkeys(numbers))):
        chosen = {name for name in known if any(fnmatchcase(name, pattern) for pattern in patterns)}
        if chosen == set(names):
            return patterns if len(patterns) < len(names) else tuple(names)
    return tuple(names)
