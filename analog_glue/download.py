"""Public files by their address: fetched once into the user's cache, and only with the content that we know.

A file is used when its SHA-256 is the expected one, whatever server or mirror it came from. It appears in the cache under its
name only when it is complete; a broken one is fetched again.
"""

import hashlib
import os
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analog_glue.errors import UserError
from analog_glue.hub import unreachable

TIMEOUT = 30.0  # [s] without any byte


@dataclass(frozen=True)
class PublicFile:
    """A file that the network offers.

    Args:
        name: Where it lies in the cache: "folder/file".
        sha256: Of its content.
        addresses: Where to get it, the first that answers.
    """

    name: str
    sha256: str
    addresses: tuple[str, ...]


def cache_folder() -> Path:
    """`analog-glue` in the folder for caches of this user: $XDG_CACHE_HOME, else ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "analog-glue"


def cached(file: PublicFile) -> Path | None:
    """The file in the cache if it is there and whole."""
    path = cache_folder() / file.name
    return path if path.is_file() and _sha256(path.read_bytes()) == file.sha256 else None


def require_available(files: Sequence[PublicFile]) -> None:
    """Raises UserError within some seconds where a file is neither in the cache nor on a server that answers."""
    missing = [file for file in files if cached(file) is None]
    if not missing:
        return
    reasons = []
    for address in missing[0].addresses:
        if (reason := unreachable(address)) is None:
            return
        reasons.append(reason)
    raise _unavailable(missing[0], "; ".join(reasons))


def fetch(file: PublicFile) -> Path:
    """The file in the cache, downloaded if it is not there.

    Raises:
        UserError: no address gives the expected content; names the setting `data.root` and what to do.
    """
    if (path := cached(file)) is not None:
        return path
    reasons = []
    for address in file.addresses:
        print(f"Downloading {address}", file=sys.stderr, flush=True)
        try:
            with urllib.request.urlopen(address, timeout=TIMEOUT) as answer:
                content = answer.read()
        except OSError as error:
            reasons.append(f"{address} gives no answer ({getattr(error, 'reason', error)})")
            continue
        if (found := _sha256(content)) == file.sha256:
            return _keep(cache_folder() / file.name, content)
        reasons.append(f"{address} gives other content (SHA-256 {found[:16]}…, expected {file.sha256[:16]}…)")
    raise _unavailable(file, "; ".join(reasons))


def _keep(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as partial:
        try:
            partial.write(content)
            partial.flush()
            os.fsync(partial.fileno())
            os.replace(partial.name, path)
        except BaseException:
            Path(partial.name).unlink(missing_ok=True)
            raise
    return path


def _unavailable(file: PublicFile, reason: str) -> UserError:
    name = file.name.rpartition("/")[2]
    return UserError(
        f"Setting `data.root` must name a folder with {name} while it cannot be downloaded, but is null: {reason}. "
        f"Fetch it from {file.addresses[0]} on a machine with a network, and name its folder."
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
