"""The folder of a run: names of its files, whether it is done, who works in it, and how that is written down."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any

from analog_glue.errors import UserError
from analog_glue.runs.files import exclusive, read_json, write_json_atomic
from analog_glue.runs.spoiled import read_record

RUN_FILE = "run.json"  # provenance, identity and status
CONFIG_FILE = "config.json"  # of a sweep: its resolved configuration
CONFIG_FILE_OF_RUN = "run_config.json"  # of a training run, whose config.json is the model's own
EXTRACTION_FILE = "extraction.json"  # instead of run.json, of weights that were read out of arrays
ATTENTION_FILE = "attention.safetensors"  # learned scales of integer attention, beside model.safetensors
PERIPHERY_FILE = "analog.safetensors"  # learned or tuned ranges and scales, beside model.safetensors
TUNING_FILE = "tuning.json"  # of a tuned checkpoint: what was chosen, and what it changed
STATE, BEST = "state.safetensors", "best.safetensors"  # of a training run that goes on
KEPT = "records"  # folder of measured runs that came with the source
BEGUN_BY_FORCE = ".forced"  # there from the beginning of a call with force=true to its end
LOCK = ".lock"  # held by every process that works on a run; the lock is gone when the process is


def checkpoint_config(folder: Path | str) -> dict[str, Any]:
    """The resolved configuration that a finished training run was started with.

    Raises:
        UserError: `folder` holds no finished training run, or its configuration is not whole.
    """
    read_run(Path(folder), "checkpoint")
    return read_record(Path(folder) / CONFIG_FILE_OF_RUN)


def is_done(folder: Path) -> bool:
    """Whether run.json says so."""
    return bool(read_json(folder / RUN_FILE).get("status") == "done")


def read_run(folder: Path, setting: str) -> dict[str, Any]:
    """run.json of a finished training run.

    Raises:
        UserError: `folder` holds none.
    """
    if not is_done(folder) or not (folder / CONFIG_FILE_OF_RUN).exists():
        raise UserError(
            f"Setting `{setting}` must be the folder of a finished training run (with {RUN_FILE}), but is "
            f"{str(folder)!r}. `analog-glue list runs` shows them."
        )
    run = read_json(folder / RUN_FILE)
    name = run.get("name")
    # Sweeps go below it in `output_root`; the name of a tuned checkpoint has two parts.
    parts = Path(name).parts if isinstance(name, str) else ()
    if not 1 <= len(parts) <= 2 or ".." in parts or Path(*parts).is_absolute():
        raise UserError(
            f"File `{folder / RUN_FILE}` must name its run by one word, but `name` is {name!r}, which would write "
            f"elsewhere. Write the folder's own name there: {folder.name}."
        )
    return run


def forget(folder: Path) -> None:
    """Remove what an earlier run of the same identity left, for `force=true`; nothing else in the folder."""
    for name in (STATE, BEST, RUN_FILE, "results.csv"):
        (folder / name).unlink(missing_ok=True)


def starts_over(folder: Path, force: bool) -> bool:
    """Whether `force=true` begins anew here: not where it did so already and was interrupted before its end."""
    return force and not (folder / BEGUN_BY_FORCE).exists()


def begin_by_force(folder: Path, force: bool, forgets: Callable[[Path], None] = forget) -> None:
    """With `force`, forget what an earlier run left, once: until `end_of_force`, the same call continues what it began."""
    if starts_over(folder, force):
        forgets(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / BEGUN_BY_FORCE).touch()


def end_of_force(folder: Path) -> None:
    """The call that `begin_by_force` began has come to its end here: the next one with `force` begins anew."""
    if (waiting := _ENDED.get()) is None:
        (folder / BEGUN_BY_FORCE).unlink(missing_ok=True)
    else:
        waiting.append(folder)


_ENDED: ContextVar[list[Path] | None] = ContextVar("folders whose end of force waits for that of the call", default=None)


@contextmanager
def one_call() -> Iterator[None]:
    """Several folders are worked on by one call: `end_of_force` of each waits for the end of all.

    So a call with `force` that was interrupted continues in every folder, also where it was done already. One call inside
    another is a part of it.
    """
    if _ENDED.get() is not None:
        yield
        return
    folders: list[Path] = []
    token = _ENDED.set(folders)
    try:
        yield
    finally:
        _ENDED.reset(token)
    for folder in folders:
        end_of_force(folder)


def files_of_runs(root: Path | str, name: str) -> list[Path]:
    """Files called `name` at or below `root`, sorted; not those of a folder `records` below it, which came with the source.

    Folders behind links count, too, each once.
    """
    found: list[Path] = []
    seen: set[Path] = set()  # folders by where they really are: a link to one above would be walked for ever
    for folder, below, files in os.walk(root, followlinks=True):
        real = Path(folder).resolve()
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(own for own in below if own != KEPT)
        found += [Path(folder) / name] if name in files else []
    return sorted(found)


@contextmanager
def recorded(
    folder: Path, facts: Mapping[str, Any], configs: Mapping[str, Any] | None = None, write: bool = True, force: bool = False
) -> Iterator[dict[str, Any]]:
    """Write down that a run goes on, and at the end that it is done; where it fails it stays as one that went on.

    Args:
        facts: Provenance and identity, for run.json.
        configs: File name → content of what is kept beside run.json.
        write: False writes nothing, for a process that only helps and for a run that is done.
        force: First forget what an earlier run left, see `begin_by_force`.

    Yields:
        A dictionary for what came out of the run, which run.json holds when it is done.
    """
    outcome: dict[str, Any] = {}
    if not write:
        yield outcome
        return
    begin_by_force(folder, force)
    for name, content in (configs or {}).items():
        write_json_atomic(folder / name, content)
    write_json_atomic(folder / RUN_FILE, {**facts, "status": "running"})
    yield outcome
    write_json_atomic(folder / RUN_FILE, {**facts, "status": "done", **outcome})


@contextmanager
def working_in(folder: Path, alone: bool = False) -> Iterator[None]:
    """Hold a run's folder while it is worked on, so that `status_of` knows a run that goes on from one that was killed.

    Args:
        alone: Whether no other process may work in the folder at the same time. What a killed one left half written is removed.

    Raises:
        UserError: `alone`, and another process works in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _opened(folder / LOCK) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
        except BlockingIOError:
            raise UserError(
                f"Folder {folder} must be free, but another process is working in it. "
                "Wait for that one, or give this one another `output_root`."
            ) from None
        except OSError:
            pass  # some network file systems know no locks
        if alone:
            with exclusive(folder):  # which removes what a killed process left half written
                pass
        yield


def _opened(lock: Path) -> IO[str]:
    """The file to lock, whose content is nothing; one that is a link belongs to somebody else and is not followed.

    Raises:
        UserError: It is a link.
    """
    try:
        return os.fdopen(os.open(lock, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o644), "r+")
    except OSError as error:
        if not lock.is_symlink():
            raise
        raise UserError(
            f"File `{lock}` must be a file of the run's folder, but is a link elsewhere. Remove it ({error.strerror})."
        ) from None


def status_of(folder: Path) -> str:
    """What run.json says, but "interrupted" for a run that was going on and that no process works on any more."""
    status = str(read_json(folder / RUN_FILE).get("status", "unknown"))
    if status != "running":
        return status
    try:
        with (folder / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "running"
    except FileNotFoundError:
        return "interrupted"
    except OSError:
        return "running"  # as far as can be known
    return "interrupted"
