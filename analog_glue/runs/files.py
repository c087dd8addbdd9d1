"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy

from analog_glue.runs.as_written import FromEnvironment


def write_text_atomic(path: Path | str, text: str) -> None:
    """Write a text file (UTF-8) that other processes see either whole or not at all."""
    write_bytes_atomic(path, text.encode())


def write_bytes_atomic(path: Path | str, content: bytes) -> None:
    """Write a file that other processes see either whole or not at all."""
    path = Path(path)
    with exclusive(path.parent) as folder:
        replace_file(path, content, folder)


def write_json_atomic(path: Path | str, content: Mapping[str, Any]) -> None:
    """Write readable JSON atomically; nan and infinities, which JSON does not know, become null.

    A text that a variable of the environment is part of is stored as it was written (`as_written.py`).
    """
    write_text_atomic(path, json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(file: Path) -> dict[str, Any]:
    """What a JSON file says; nothing where it is not there, cannot be read, or is not whole or no JSON object."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return said if isinstance(said, dict) else {}


@contextmanager
def named_in_errors(folder: Path) -> Iterator[None]:
    """What writes into `folder` by a library: an error of the disk that names no file names the folder."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(folder)
        raise


@contextmanager
def exclusive(folder: Path, tidies: bool = True) -> Iterator[int]:
    """Hold the folder against other writers of this module; the lock is gone when its process is.

    Args:
        tidies: Remove what processes that were killed left half written; False in a folder where others write, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems know no locks: still atomic, for one writer
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if tidies:
                remove_half_written(folder)
        yield descriptor
    finally:
        os.close(descriptor)


def remove_half_written(folder: Path) -> None:
    """Remove what processes that were killed left half written, in a folder that is held against other writers."""
    # safetensors writes a file of its own beside the one that it is asked for.
    for left in (*folder.glob(".*.partial"), *folder.glob(".tmp??????")):
        if not left.is_dir():
            left.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes, folder: int) -> None:
    """Give the file a new content, in a `folder` that is held by `exclusive`."""
    with replacing(path, folder) as partial:
        partial.write_bytes(content)


@contextmanager
def replacing(path: Path, folder: int) -> Iterator[Path]:
    """A file to write beside `path`, which takes its place at the end; nothing is left of it where that fails."""
    # One fixed name per target: what a killed process leaves is overwritten by the next one.
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)  # also a link, which would lead the writer elsewhere
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        there = partial.stat().st_size if partial.is_file() else 0
        partial.unlink(missing_ok=True)
        if (number := _no_room(error)) is not None:
            disk = os.statvfs(path.parent)
            written, free = there / 2**20, disk.f_bavail * disk.f_frsize / 2**20
            told = f"{os.strerror(number)}: {written:.1f} MiB were written, {free:.1f} are free"
            raise OSError(number, told, str(path)) from error
        raise
    os.fsync(folder)  # the new name, too, must survive a loss of power


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _no_room(error: BaseException) -> int | None:
    """The number of an error that says that a file does not fit; safetensors says so in words alone."""
    if isinstance(error, OSError):
        return error.errno if error.errno in NO_ROOM else None
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found and int(found[1]) in NO_ROOM else None


def _plain(value: Any) -> Any:
    """Mappings, sequences, paths and NumPy scalars as what JSON knows."""
    if isinstance(value, FromEnvironment):
        return value.written
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, numpy.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
