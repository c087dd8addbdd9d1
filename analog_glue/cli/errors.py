"""Exit codes, and how an error is told: a message where the user can mend it, else its trace."""

import os
import sys
import traceback

from analog_glue.errors import UserError

DONE, FAILED, WRONG = 0, 1, 2  # 128 + its number where a signal ended the command (interruption.py)


def print_wrong(message: str) -> int:
    print(message, file=sys.stderr)
    return WRONG


def report_error(error: Exception) -> int:
    """Print an error, as one message where the user can mend it and else with its trace; its exit code."""
    told = isinstance(error, UserError)
    if told and os.environ.get("ANALOG_GLUE_TRACE") != "1":
        print(error, file=sys.stderr)
    else:
        traceback.print_exception(error)
    return WRONG if told else FAILED


def first_line(error: Exception) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
