"""File operations of a process, counted as they come, and what happens to it before the n-th of them."""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

VARIABLE = "CHAOS_PLAN"  # of the environment, by which processes that a command starts get theirs (worker/sitecustomize.py)
CHANGING = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Plan:
    """What happens to a process.

    Args:
        root: Folder whose operations count.
        at: Which of them, from 1; 0: none, they are only counted.
        kind: "operation": SIGKILL before it. "write": the first later file that grows beyond `room` ends the process, in the
            middle of the write. "disk": from then on there is `room` left. "file": from then on no file may be larger.
        room: [bytes]
        ballast: File that fills a disk.
    """

    root: str
    at: int = 0
    kind: str = "operation"
    room: int = 0
    ballast: str = ""

    def text(self) -> str:
        return json.dumps(asdict(self))

    def happen(self) -> None:
        if self.kind == "operation":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.kind == "disk":
            fill(Path(self.ballast), self.room)
        else:
            if self.kind == "write":  # Python ignores the signal, and gets an error instead
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.room, resource.RLIM_INFINITY))


def fill(ballast: Path, room: int) -> None:
    """Leave so many bytes free on the disk of a file."""
    disk = os.statvfs(ballast.parent)
    taken = disk.f_bavail * disk.f_frsize - room
    if taken > 0:
        descriptor = os.open(ballast, os.O_CREAT | os.O_WRONLY)
        os.posix_fallocate(descriptor, 0, taken)
        os.close(descriptor)


def install(plan: Plan) -> Callable[[], int]:
    """Count operations of this process from now on, and let the plan happen; returns what counts them."""
    count, inside = 0, False

    def note() -> None:
        nonlocal count, inside
        if inside:
            return
        count += 1
        if count == plan.at:
            inside = True
            plan.happen()
            inside = False

    def heard(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            counts = isinstance(flags, int) and flags & WRITING and below(path)
        else:
            counts = event in CHANGING and (below(arguments[0]) or (event == "os.remove" and arguments[1] != -1))
        if counts:
            note()

    def below(path: object) -> bool:
        return isinstance(path, str | bytes | os.PathLike) and os.path.abspath(os.fsdecode(path)).startswith(plan.root)

    def fsync(descriptor: int) -> None:  # the interpreter does not tell of it
        note()
        real_fsync(descriptor)

    real_fsync, os.fsync = os.fsync, fsync
    if (tensors := sys.modules.get("safetensors.torch")) is not None:  # what writes weights is compiled, and tells nothing
        real_write = tensors.serialize_file

        def write(*arguments: object, **named: object) -> None:
            note()
            real_write(*arguments, **named)

        tensors.serialize_file = write
    sys.addaudithook(heard)
    return lambda: count
