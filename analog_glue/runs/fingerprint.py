"""Every fingerprint of this package: of values, and of bytes. What cannot be written down exactly raises."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

LENGTH = 16  # hexadecimal digits of a fingerprint; an id has 8


def canonical(value: Any) -> str:
    """Plain values as JSON text that is the same for the same values: keys sorted, floats by their shortest text.

    Raises:
        TypeError: a value or key that JSON does not know.
        ValueError: nan or an infinity.
    """
    _refuse_other_keys(value)
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def fingerprint(value: Any, length: int = LENGTH) -> str:
    """Of plain values: mappings, sequences, text, numbers, true, false and null; raises as `canonical` does."""
    return fingerprint_of_parts([canonical(value)], length)


def fingerprint_of_parts(parts: Iterable[str | bytes | np.ndarray], length: int = LENGTH) -> str:
    """Of texts, bytes and the bytes of arrays, one after another.

    Raises:
        TypeError: a part of another kind.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()[:length]


def fingerprint_of_file(path: Path) -> str:
    """SHA-256 of a file, all 64 digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_other_keys(value: Any) -> None:
    """json would write 1, 1.0, True and "1" as one key."""
    if isinstance(value, dict):
        if other := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"Keys of what is fingerprinted must be text, but one is {other[0]!r}.")
        for item in value.values():
            _refuse_other_keys(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_other_keys(item)
