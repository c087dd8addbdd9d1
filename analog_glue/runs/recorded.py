"""Defaults as they were recorded when an option or a column was introduced: what a run without it stands for.

`recorded_defaults.json` has one section per release, in order; in each, by component kind, settings group or file, every
field that came with that release and the default it came with. A section, once released, is never edited.
"""

from __future__ import annotations

import importlib.resources
import json
from functools import cache
from typing import Any

FILE = "recorded_defaults.json"


@cache
def recorded_sections() -> dict[str, dict[str, dict[str, Any]]]:
    """Release → kind → field → default, as the file has them."""
    text = importlib.resources.files("analog_glue.runs").joinpath(FILE).read_text(encoding="utf-8")
    sections: dict[str, dict[str, dict[str, Any]]] = json.loads(text)
    return sections


@cache
def recorded_defaults(kind: str) -> dict[str, Any]:
    """Field → recorded default of one kind, over all releases."""
    return {name: value for section in recorded_sections().values() for name, value in section.get(kind, {}).items()}
