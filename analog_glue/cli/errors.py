"""Exit codes, and how an error is told: a message where the user can mend it, else its trace."""

import errno
import os
import sys
import traceback

from analog_glue.errors import UserError

DONE, FAILED, WRONG = 0, 1, 2  # 128 + its number where a signal ended the command (interruption.py)


def print_wrong(message: str) -> int:
    print(message, file=sys.stderr)
    return WRONG


def report_error(error: Exception) -> int:
    """Print an error, as one message where the user can mend it and else with its trace; its exit code.

    Raises:
        BrokenPipeError: nobody reads any more, so that what is left to do is left (`main` ends quietly).
    """
    if isinstance(error, BrokenPipeError):
        raise error
    told = str(error) if isinstance(error, UserError) else _of_the_disk(error)
    if told and os.environ.get("ANALOG_GLUE_TRACE") != "1":
        print(told, file=sys.stderr)
    else:
        traceback.print_exception(error)
    return WRONG if isinstance(error, UserError) else FAILED


def _of_the_disk(error: Exception) -> str:
    """A file that cannot be written, in words; "" for any other error."""
    about = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EISDIR)
    if not isinstance(error, OSError) or error.errno not in about or error.filename is None:
        return ""
    return (
        f"File {error.filename} cannot be written: {error.strerror}. What was finished before is kept. "
        "Make room or give another `output_root`, and run the same command again."
    )


def first_line(error: Exception) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
