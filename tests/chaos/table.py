"""The figures of a round as a table in Markdown."""

from pathlib import Path

from tests.chaos.rounds import Trial


def table(trials: list[Trial], disk: bool, where: str) -> str:
    """One line for each command, and their sum."""
    head = (
        "| command | trials | killed at any moment | before a file operation | within a write | of these: in a checkpoint | "
        "full disks | lost | not bit-equal | files left over | not told in a message |"
    )
    lines = [head, "|" + " --- |" * head.count(" | ") + " --- |"]
    for name in [*dict.fromkeys(trial.command for trial in trials), "all"]:
        own = [trial for trial in trials if name in (trial.command, "all")]
        kills = [sum(trial.kills[kind] for trial in own) for kind in ("moment", "operation", "write")]
        counts = [len(own), *kills, sum(trial.checkpoint for trial in own), sum(trial.full for trial in own)]
        faults = [sum(bool(getattr(trial, kind)) for trial in own) for kind in ("lost", "differs", "left", "told")]
        lines.append(f"| {name} | " + " | ".join(map(str, counts + faults)) + " |")
    kind = "a disk of its own (tmpfs)" if disk else "a limit on the size of a file"
    return "\n".join([*lines, "", f"{where}; full disks: {kind}."]) + "\n"


def CPU() -> str:
    """Of this machine."""
    said = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in said if line.startswith("model name")]
    return f"{len(names)} × {names[0]}"
