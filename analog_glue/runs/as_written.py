"""Texts that a variable of the environment is part of: used as what it says, stored as they were written.

A configuration may come from others, and a run may go to others: `${oc.env:DATA}/glue` names the data on this machine, and what
the variable says stands in no file. What determines a run is the value: its id is made of it, and another value is another run.
Numbers are no texts: every row and table states them, and so does run.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self


class FromEnvironment(str):
    """A text that is stored otherwise than it is used.

    Args:
        value: What it says.
        written: What is stored of it: "${oc.env:DATA}/glue".
    """

    written: str

    def __new__(cls, value: str, written: str = "") -> Self:  # a copy is made of the value, and then given the rest
        text = super().__new__(cls, value)
        text.written = written
        return text


def below(root: str | None, path: Path) -> str:
    """A path at or below `root` as text, which is stored as `root` was written."""
    text = str(path)
    if isinstance(root, FromEnvironment) and text.startswith(root):
        return FromEnvironment(text, root.written + text[len(root) :])
    return text


def without_values(text: str, content: Any) -> str:
    """`text` with what every such text of `content` says as it was written."""
    for _, one in texts(content):
        if isinstance(one, FromEnvironment) and one:
            text = text.replace(one, one.written)
    return text


def texts(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text below a node of plain mappings and lists, with its full key."""
    if isinstance(content, str):
        yield key, content
    elif isinstance(content, Mapping):
        for name, value in content.items():
            yield from texts(value, f"{key}.{name}" if key else str(name))
    elif isinstance(content, list | tuple):
        for number, value in enumerate(content):
            yield from texts(value, f"{key}[{number}]")
