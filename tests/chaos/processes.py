"""Commands as processes: forked from one that has everything imported, killed, and waited for with all that they started."""

import contextlib
import gc
import io
import os
import random
import re
import select
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from analog_glue.cli.main import main
from tests.chaos.operations import VARIABLE, Plan, install

LONGEST = 1800.0  # [s] after which a process hangs


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, or the signal that killed it as a negative one."""

    code: int
    output: str  # with what it said of errors
    seconds: float
    operations: int


def launch(
    words: list[str], scratch: Path, plan: Plan, kill_after: float | None = None, draw: random.Random | None = None
) -> Ended:
    """Run a command line in `scratch` and wait until it, and every process that it started, is gone.

    Args:
        kill_after: [s] until SIGKILL; of several processes one that `draw` draws. None: no such kill.

    Raises:
        RuntimeError: It hangs.
    """
    reads, writes = os.pipe()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _child(words, scratch, plan, writes)
    os.close(writes)
    said, killed = bytearray(), kill_after is None
    while True:
        passed = time.monotonic() - started
        if not killed and kill_after is not None and passed >= kill_after:
            killed = True
            with contextlib.suppress(ProcessLookupError):
                os.kill((draw or random).choice(_group(pid)), signal.SIGKILL)
        wait = 1.0 if killed or kill_after is None else max(0.0, kill_after - passed)
        if select.select([reads], [], [], wait)[0]:
            if not (part := os.read(reads, 1 << 16)):
                break
            said += part
        if passed > LONGEST:
            os.killpg(pid, signal.SIGKILL)
            raise RuntimeError(f"{' '.join(words)} hangs:\n{said.decode()}")
    _, status = os.waitpid(pid, 0)
    os.close(reads)
    text, _, rest = said.decode(errors="replace").rpartition("\0")
    count = re.match(r"\d*", rest)[0] if text else ""  # behind it stands what processes say that outlive this one
    return Ended(os.waitstatus_to_exitcode(status), text + rest[len(count) :], time.monotonic() - started, int(count or 0))


def warm(words: list[str], scratch: Path) -> None:
    """Run a command line here: what is forked from now on has the same imported, compiled and composed."""
    torch.set_num_threads(1)  # threads do not survive a fork …
    tqdm.monitor_interval = 0  # … nor does the one that looks after progress bars
    with contextlib.chdir(scratch), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(sys.stdout):
        code = main(words)
    if code or threading.active_count() > 1:
        raise RuntimeError(f"{' '.join(words)} ended with {code}, and threads {threading.enumerate()}")
    gc.collect()
    gc.freeze()  # the command collects garbage, and would walk through all of it


def _child(words: list[str], scratch: Path, plan: Plan, writes: int) -> None:
    code = 70
    try:
        os.setpgid(0, 0)
        os.chdir(scratch)
        os.dup2(writes, 1)
        os.dup2(writes, 2)
        os.close(writes)
        sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", buffering=1, closefd=False) for number in (1, 2))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if plan.at:
            os.environ[VARIABLE] = plan.text()
        count = install(plan)
        code = main(words)
        sys.stdout.write(f"\0{count()}")
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _group(pid: int) -> list[int]:
    """The process and those that it started."""
    found = [pid]
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                state, _, group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(group) == pid and state != "Z" and int(folder.name) != pid:
                    found.append(int(folder.name))
    return found
