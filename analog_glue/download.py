"""Public files by their address: fetched once into the user's cache, and only with the content that we know.

pooch downloads them. Added here: several addresses for one file, and refusals that name the setting. A file is used when its
SHA-256 is the expected one, whatever server or mirror it came from. It appears in the cache under its name only when it is
complete; a broken one is fetched again.
"""

import logging
import sys
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
    """`analog-glue` in the folder for caches of this user: $XDG_CACHE_HOME, else ~/.cache (macOS: ~/Library/Caches)."""
    import pooch

    return Path(pooch.os_cache("analog-glue"))


def cached(file: PublicFile) -> Path | None:
    """The file in the cache if it is there and whole."""
    import pooch

    path = cache_folder() / file.name
    return path if path.is_file() and pooch.file_hash(str(path)) == file.sha256 else None


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
    import pooch

    if (path := cached(file)) is not None:
        return path
    # Files that are packed themselves must arrive as they lie on the server.
    downloader = pooch.HTTPDownloader(timeout=TIMEOUT, headers={"Accept-Encoding": "identity"})
    pooch.get_logger().setLevel(logging.WARNING)  # the line below says as much
    reasons = []
    for address in file.addresses:
        print(f"Downloading {address}", file=sys.stderr, flush=True)
        try:
            return Path(pooch.retrieve(address, f"sha256:{file.sha256}", file.name, cache_folder(), downloader=downloader))
        except OSError as error:  # those of the HTTP library are, too
            reasons.append(f"{address} gives no answer ({_root(error)})")
        except ValueError:  # pooch deleted what it got
            reasons.append(f"{address} gives other content (SHA-256 is not {file.sha256[:16]}…)")
    raise _unavailable(file, "; ".join(reasons))


def _root(error: BaseException) -> str:
    """What the operating system or the server said, without the layers of the HTTP library around it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error)


def _unavailable(file: PublicFile, reason: str) -> UserError:
    name = file.name.rpartition("/")[2]
    return UserError(
        f"Setting `data.root` must name a folder with {name} while it cannot be downloaded, but is null: {reason}. "
        f"Fetch it from {file.addresses[0]} on a machine with a network, and name its folder."
    )
