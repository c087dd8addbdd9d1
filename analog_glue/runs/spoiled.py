"""Files of runs that are not what their run wrote: the file is named, and of many runs the others are shown."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from analog_glue.errors import UserError

# What files that this package wrote never raise, and that anything else in their place may.
SPOILED = (UserError, OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, csv.Error)


@contextmanager
def leaving_out(left_out: list[str] | None, file: Path) -> Iterator[None]:
    """Add why `file` cannot be read to `left_out`, and go on; None: raise it."""
    try:
        yield
    except SPOILED as error:
        if left_out is None:
            raise
        left_out.append(why(file, error))


@contextmanager
def told_if_spoiled(file: Path) -> Iterator[None]:
    """Read what a run wrote into `file`.

    Raises:
        UserError: It is spoiled; the message names it.
    """
    try:
        yield
    except SPOILED as error:
        raise UserError(why(file, error)) from None


def read_record(file: Path) -> dict[str, Any]:
    """What a JSON file of a run says.

    Raises:
        UserError: It is not there, is not whole, or is no JSON object.
    """
    with told_if_spoiled(file):
        said = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(said, dict):
            raise ValueError("it is no JSON object")
    return said


def why(file: Path, error: Exception) -> str:
    """What is wrong with a run's file, and what to do."""
    if isinstance(error, UserError):
        return str(error) if str(file) in str(error) else f"{file}: {error}"
    told = f"{type(error).__name__}: {error}"
    return (
        f"File `{file}` must be what its run wrote, but it, or one beside it, cannot be read ({told}). "
        "Put the file back, or move the run's folder away and run its command again."
    )
