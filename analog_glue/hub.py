"""Files of the Hugging Face hub, or a clear refusal within two seconds.

Data sets and models both come down to a local folder: the one the user names, or the hub's snapshot of a
pinned revision. What is already in the hub's cache is used without any network. Otherwise the hub is asked
once, briefly: `huggingface_hub` 2.4 gives up at once where nobody listens, but waits for minutes on a server
that stays silent, whatever `etag_timeout` says.
"""

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from analog_glue.errors import UserError

ANSWER_WITHIN = 1.2  # [s] for one HEAD request; HF_HUB_ETAG_TIMEOUT, the hub library's own variable, overrides it


def fetch(
    repo: str,
    kind: Literal["model", "dataset"],
    revision: str,
    patterns: Sequence[str],
    complete: Callable[[Path], bool],
    advice: str,
) -> Path:
    """Folder that holds the files of `repo` at `revision` that match `patterns`, downloaded unless in the
    cache.

    Args:
        complete: Whether a folder holds all that is needed. A cache may hold another task's files of the same
            revision, and a download that loses the network falls back on what the cache has.
        advice: What the user can do without the hub: opens with "Set `data.root` …".

    Raises:
        UserError: The hub does not answer or does not have the files; ends with `advice`.
    """
    from huggingface_hub import constants, snapshot_download

    if (cached := in_cache(repo, kind, revision, complete)) is not None:
        return cached
    require_answer(repo, kind, advice)
    try:
        folder = Path(
            snapshot_download(
                repo,
                repo_type=kind,
                revision=revision,
                allow_patterns=list(patterns),
                cache_dir=constants.HF_HUB_CACHE,
                endpoint=constants.ENDPOINT,
            )
        )
    except Exception as error:  # whatever the HTTP library of the day raises; all of it stays chained
        # Behind "not in the cache either" stands what really happened.
        cause = error.__cause__ or error
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0].rstrip(".")
        raise UserError(f"The {kind} {repo} at revision {revision} could not be downloaded: {reason}. {advice}") from error
    if not complete(folder):
        raise UserError(f"The {kind} {repo} at revision {revision} lacks files this program needs. {advice}")
    return folder


def in_cache(repo: str, kind: Literal["model", "dataset"], revision: str, complete: Callable[[Path], bool]) -> Path | None:
    """The hub's cached snapshot of `repo` at `revision`, or None where absent or incomplete. No network."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                repo,
                repo_type=kind,
                revision=revision,
                # No file is asked for, only where the snapshot lies: `complete` knows better what is needed.
                allow_patterns=[],
                cache_dir=constants.HF_HUB_CACHE,
                local_files_only=True,
            )
        )
    except LocalEntryNotFoundError:
        return None
    return folder if complete(folder) else None


def require_answer(repo: str, kind: Literal["model", "dataset"], advice: str) -> None:
    """Raises UserError, ending with `advice`, where the hub does not answer in `ANSWER_WITHIN` seconds."""
    from huggingface_hub import constants

    if (reason := unreachable(constants.ENDPOINT)) is not None:
        raise UserError(f"The {kind} {repo} is not in the Hugging Face cache and {reason}. {advice}")


def unreachable(endpoint: str) -> str | None:
    """Why the hub cannot be used now, or None where it answers. Takes `ANSWER_WITHIN` seconds at most.

    Any HTTP answer counts, an error status too: what is wrong then is better told by the download itself. The
    request runs in a thread because a name server that stays silent ignores socket timeouts.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE forbids the download"
    limit = float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or ANSWER_WITHIN)
    outcome: list[str | None] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=limit).close()
            outcome.append(None)
        except urllib.error.HTTPError:
            outcome.append(None)
        except OSError as error:
            cause = getattr(error, "reason", error)
            # A certificate that this interpreter does not know: the host did answer.
            answered = type(cause).__name__ == "SSLCertVerificationError"
            outcome.append(None if answered else f"{endpoint} cannot be reached ({cause})")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(limit)
    return outcome[0] if outcome else f"{endpoint} did not answer within {limit:g} s"
