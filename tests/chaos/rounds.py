"""Rounds of trials: a command is killed up to three times, run to its end, and held to the undisturbed one."""

import argparse
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.chaos.commands import COMMANDS, Command
from tests.chaos.kept import contents, finished, names, steps, writes_a_checkpoint
from tests.chaos.operations import Plan
from tests.chaos.processes import Ended, launch, warm

KINDS = ("moment", "operation", "write")  # of kills: at any moment, before a file operation, in the middle of a write
ROOM = (0, 4096, 65536, 2**20)  # [bytes] that are left on a full disk
SIZE = 256  # [MiB] of the disk
RARE = 2  # of four turns, the one in which processes are started anew: each imports everything for itself
SHORT = ("train, digital", "train in situ", "evaluate", "tables")


@dataclass
class Trial:
    """What was done to a command, and what came of it."""

    command: str
    number: int
    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    checkpoint: int = 0  # kills while weights or a state were being written
    full: int = 0
    lost: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)  # what was said otherwise than in one message

    @property
    def faults(self) -> list[str]:
        return [*self.lost, *self.differs, *self.left, *self.told]


class Subject:
    """A command with what it goes on from, and with what it makes undisturbed."""

    def __init__(self, command: Command, scratch: Path) -> None:
        self.command, self.scratch = command, scratch
        self.root, self.base = scratch / "runs", scratch / f"base-{COMMANDS.index(command)}"

    def words(self) -> list[str]:
        return self._typed(self.command.words)

    def _typed(self, line: str) -> list[str]:
        words = shlex.split(line)
        for place, word in enumerate(words):
            if word.startswith("checkpoint=") and "*" in word:
                (folder,) = (f for f in self.scratch.glob(word.partition("=")[2]) if f.is_dir())
                words[place] = f"checkpoint={folder.relative_to(self.scratch)}"
        return words if words[0] in ("tables", "report") else [*words, "output_root=runs"]

    def begin(self) -> None:
        """Only what the command goes on from is there."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.base, self.root, symlinks=True)

    @cached_property
    def undisturbed(self) -> tuple[Ended, dict[str, Any], set[str], int]:
        """How it ends, what there is then, all paths, and the size of the largest file; made at the second call."""
        shutil.rmtree(self.base, ignore_errors=True)
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        for line in self.command.before:
            self.run(self._typed(line))
        shutil.copytree(self.root, self.base)
        self.begin()
        if self.command.processes == 1:
            warm(self.words(), self.scratch)
        self.begin()
        ended = self.run(self.words())
        largest = max(file.stat().st_size for file in self.root.rglob("*") if file.is_file())
        return ended, contents(self.root), names(self.root), largest

    def run(self, words: list[str]) -> Ended:
        ended = launch(words, self.scratch, Plan(str(self.root)))
        if ended.code:
            raise RuntimeError(f"{shlex.join(words)} ended with {ended.code}:\n{ended.output}")
        return ended


def killed(subject: Subject, number: int, draw: random.Random, kinds: tuple[str, ...] = KINDS) -> Trial:
    """One trial of kills."""
    trial = Trial(subject.command.name, number)
    undisturbed, _, _, largest = subject.undisturbed
    subject.begin()
    base = finished(subject.root)
    known: set[tuple[str, str]] = set() if subject.command.force else base
    for _ in range(draw.randint(1, 3)):
        kind = draw.choice(kinds)
        at, moment = draw.randint(1, max(1, undisturbed.operations)), draw.uniform(0, undisturbed.seconds)
        room = int(largest ** draw.uniform(0.3, 1))
        plan = Plan(str(subject.root), 0 if kind == "moment" else at, kind, room)
        ended = launch(subject.words(), subject.scratch, plan, moment if kind == "moment" else None, draw)
        if ended.code >= 0 and (ended.code == 0 or subject.command.processes == 1):
            if ended.code:
                trial.told.append(f"ended with {ended.code} after {kind}: {ended.output[-300:]}")
            known = kept_until_its_end(subject, trial, known) if ended.code == 0 else known
            break
        trial.kills[kind] += 1
        trial.checkpoint += writes_a_checkpoint(subject.root)
        known |= finished(subject.root) - (base if subject.command.force else set())
    goes_on(subject, trial, known)
    return trial


def lost(subject: Subject, known: set[tuple[str, str]]) -> list[str]:
    """What was finished and is not there any more."""
    return [f"{Path(path).relative_to(subject.scratch)}: {said}" for path, said in sorted(known - finished(subject.root))]


def kept_until_its_end(subject: Subject, trial: Trial, known: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """What the next call has to keep after one that came to its end: nothing of what it is to do again by force."""
    if not subject.command.force:
        return known
    trial.lost += lost(subject, known)
    return set()


def full(subject: Subject, number: int, draw: random.Random, disk: bool) -> Trial:
    """One trial of a disk that becomes full before a file operation.

    Args:
        disk: Whether `scratch` is a small disk of its own; else no file may grow.
    """
    trial = Trial(subject.command.name, number)
    undisturbed = subject.undisturbed[0]
    subject.begin()
    base = finished(subject.root)
    ballast = subject.scratch / "ballast"
    at, room = draw.randint(1, undisturbed.operations), draw.choice(ROOM)
    plan = Plan(str(subject.root), at, "disk" if disk else "file", room, str(ballast))
    ended = launch(subject.words(), subject.scratch, plan)
    ballast.unlink(missing_ok=True)
    known = (set() if subject.command.force else base) | (finished(subject.root) - base)
    if ended.code:
        trial.full = 1
        if ended.code not in (1, 2) or "Traceback" in ended.output or "cannot be written" not in ended.output:
            trial.told.append(f"a full disk before operation {at} ended with {ended.code}: {ended.output[-1500:]}")
    else:
        known = kept_until_its_end(subject, trial, known)
    goes_on(subject, trial, known)
    return trial


def goes_on(subject: Subject, trial: Trial, known: set[tuple[str, str]]) -> None:
    """Run the command to its end, and note what is lost, is other, or is too much."""
    _, expected, paths, _ = subject.undisturbed
    resumed = steps(subject.root)
    ended = launch(subject.words(), subject.scratch, Plan(str(subject.root)))
    if ended.code:
        trial.told.append(f"the same command again ended with {ended.code}: {ended.output[-1500:]}")
    trial.lost += lost(subject, known)
    trial.lost += [f"not said: {line}" for line in resumed if line not in ended.output]
    there = contents(subject.root)
    trial.differs += sorted(name for name, bits in expected.items() if there.get(name) != bits)
    trial.left += sorted(names(subject.root) - paths)


@contextmanager
def scratch_disk() -> Iterator[tuple[Path, bool]]:
    """(a folder, whether it is a small disk of its own), gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}m", "tmpfs", str(folder)]
    mounted = shutil.which("mount") is not None and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield folder, mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)
        shutil.rmtree(folder)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="of the journal, by which a round goes on, and of the table")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--full", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="a few kills of a few commands")
    parser.add_argument("--only", help="of the commands, those whose name contains this")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    from tests.chaos.table import CPU, table

    journal = given.folder / "journal.jsonl"
    trials = [Trial(**json.loads(line)) for line in journal.read_text().splitlines()] if journal.exists() else []
    commands = [command for command in COMMANDS if not given.short or command.name in SHORT]
    commands = [command for command in commands if not given.only or given.only in command.name]
    _import_everything()
    with scratch_disk() as (scratch, mounted), journal.open("a") as notes:
        subjects = {command: Subject(command, scratch) for command in commands}
        number = len(trials)
        while True:
            kills, disks = sum(sum(trial.kills.values()) for trial in trials), sum(trial.full for trial in trials)
            if kills >= given.kills and disks >= given.full:
                break
            fills = kills >= given.kills or (disks < given.full and number % 4 == 3)
            command = commands[(number // 4 if fills else number) % len(commands)]
            if command.processes > 1 and number % 4 != RARE:
                command = commands[0]
            draw = random.Random(f"{given.seed} {number}")
            trial = full(subjects[command], number, draw, mounted) if fills else killed(subjects[command], number, draw)
            trials.append(trial)
            notes.write(json.dumps(asdict(trial)) + "\n")
            notes.flush()
            number += 1
            print(f"{number:4} {kills:4} kills {disks:3} full  {command.name}: {trial.faults or 'as undisturbed'}", flush=True)
    told = table(trials, mounted, f"{CPU()}")
    (given.folder / "table.md").write_text(told)
    print(told)
    return int(any(trial.faults for trial in trials))


def _import_everything() -> None:
    """What commands import when they need it: every process that is forked from here has it."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parent / "worker"), str(Path(__file__).resolve().parents[2])]
    )
    import matplotlib.backends.backend_agg  # noqa: F401

    sys.stdout.flush()
