"""Many runs are read at once: one whose files are spoiled is left out and named, and the others are shown."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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


def why(file: Path, error: Exception) -> str:
    """What is wrong with a run's file, and what to do."""
    if isinstance(error, UserError):
        return str(error) if str(file) in str(error) else f"{file}: {error}"
    told = f"{type(error).__name__}: {error}"
    return (
        f"File `{file}` must be what its run wrote, but it, or one beside it, cannot be read ({told}). "
        "Put the file back, or move the run's folder away and run its command again."
    )
