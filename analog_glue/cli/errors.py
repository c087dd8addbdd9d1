"""Exit codes, and how an error is told: a message where the user can mend it, else its trace."""

import linecache
import os
import sys
import traceback
from pathlib import Path

import analog_glue

DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130


def print_wrong(message: str) -> int:
    print(message, file=sys.stderr)
    return WRONG


def report_error(error: Exception) -> int:
    """Print an error, as one message where the user can mend it and else with its trace; its exit code."""
    if os.environ.get("ANALOG_GLUE_TRACE") == "1" or not _is_message(error):
        traceback.print_exception(error)
    else:
        print(error, file=sys.stderr)
    return WRONG if _is_message(error) else FAILED


def _is_message(error: Exception) -> bool:
    """Whether an error is a message to the user: a ValueError, or a missing file or package, that this
    package raises itself. What other code raises, or Python for a slip of ours, keeps its trace.
    """
    from_package = str(Path(analog_glue.__file__).parent)
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or not isinstance(error, ValueError | OSError | ImportError):
        return False
    last = frames[-1]
    line = linecache.getline(last.filename, last.lineno or 0).strip()
    return last.filename.startswith(from_package) and line.startswith("raise ")


def first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0] if _is_message(error) else f"{type(error).__name__}: {text.splitlines()[0]}"
