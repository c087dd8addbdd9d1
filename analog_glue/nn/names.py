"""Layers chosen by name patterns."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from analog_glue.errors import UserError

Layer = TypeVar("Layer")


def chosen_by_name(layers: Mapping[str, Layer], patterns: Sequence[str], what: str, kind: str) -> dict[str, Layer]:
    """Those of `layers` that `patterns` choose, in their order.

    Args:
        patterns: Each adds to what the ones before chose, or with "!" in front takes away (`fnmatch`).
        what, kind: Who asked for which layers, for messages: "Setting `hardware.layers`", "linear".

    Raises:
        UserError: a pattern that matches no layer, or none left.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        matched = {name for name in layers if fnmatchcase(name, pattern.removeprefix("!"))}
        if not matched:
            known = ", ".join(list(layers)[:8])
            raise UserError(
                f"{what} must name {kind} layers, but {pattern!r} matches none. "
                f"The model's {kind} layers are {known}{', …' if len(layers) > 8 else ''}."
            )
        chosen = chosen - matched if pattern.startswith("!") else chosen | matched
    if not chosen:
        raise UserError(f"{what} must leave at least one layer, but {list(patterns)} leaves none.")
    return {name: layer for name, layer in layers.items() if name in chosen}
