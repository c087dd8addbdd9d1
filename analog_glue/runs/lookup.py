"""Which folder a run lives in: the one of its id, or one of version 0.1.0 that holds the same run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analog_glue.errors import UserError
from analog_glue.runs.files import read_json
from analog_glue.runs.folder import CONFIG_FILE, CONFIG_FILE_OF_RUN, EXTRACTION_FILE, RUN_FILE
from analog_glue.runs.identity import Identity, Payload, differences
from analog_glue.runs.legacy import payload_of_record
from analog_glue.runs.model_files import architecture_entries


@dataclass(frozen=True)
class Found:
    """The folder of a run, which need not exist yet."""

    folder: Path
    id: str  # in its name

    @property
    def name(self) -> str:
        return self.folder.name


def find_run(
    root: Path, stem: str, identity: Identity, legacy_id: str | None, fits: Callable[[Path, dict[str, Any]], bool]
) -> Found:
    """The folder `<root>/<stem>-<id>` of a run.

    Args:
        legacy_id: The id that version 0.1.0 gave the same request; None where it gave none.
        fits: Whether a folder of that id, with its run.json, holds the same run as far as its name does not say.

    Raises:
        UserError: the folder holds another run.
    """
    own = Found(root / f"{stem}-{identity.id}", identity.id)
    there = read_json(own.folder / RUN_FILE)
    if "identity" in there and (differs := differences(there["identity"], identity.payload)):
        raise UserError(
            f"Folder `{own.folder}` must hold the run that is asked for, but holds another. "
            f"{'; '.join(one.in_words() for one in differs)}. Move the folder away, or choose another `output_root`."
        )
    if there or legacy_id is None:
        return own
    old = root / f"{stem}-{legacy_id}"
    record = read_json(old / RUN_FILE)
    if "identity" in record:  # continued or made anew by this version, in the folder that it had
        same = not differences(record["identity"], identity.payload)
    else:
        same = bool(record) and fits(old, record)
    return Found(old, legacy_id) if same else own


def nearest_run(root: Path, stem: str, identity: Identity) -> str:
    """One line that names the run below `root` that differs least from the one asked for, and how; empty without any.

    Args:
        stem: How the folders' names begin.
    """
    folders = [file.parent for file in sorted(root.glob(f"{stem}-*/{RUN_FILE}"))]
    compared = [(differences(payload, identity.payload), folder) for folder in folders if (payload := payload_of(folder))]
    if not compared:
        return ""
    differs, folder = min(compared, key=lambda pair: (len(pair[0]), pair[1].name))
    if not differs:
        return f"Another run with the same settings as far as it says: {folder.name}"
    told = sorted(differs, key=lambda one: None in (one.first, one.second))[:3]  # what both say comes first
    more = f"; and {len(differs) - 3} more" if len(differs) > 3 else ""
    return f"Not the run {folder.name}: {'; '.join(one.in_words('it has') for one in told)}{more}"


def payload_of(folder: Path) -> Payload | None:
    """What determined the run, sweep or extraction in `folder`; None where there is none, or its record is not whole."""
    record = read_json(folder / RUN_FILE) or read_json(folder / EXTRACTION_FILE)
    if "identity" in record:
        payload: Payload | Any = record["identity"]
        return payload if isinstance(payload, dict) else None
    try:
        if record["command"] != "train":
            return payload_of_record(record, read_json(folder / CONFIG_FILE))
        network = architecture_entries(read_json(folder / CONFIG_FILE))  # of the checkpoint, as the library wrote it
        return network | payload_of_record(record, read_json(folder / CONFIG_FILE_OF_RUN))
    except KeyError:
        return None
