"""What a command leaves to say."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunSummary:
    """Where the results are, and the table for the terminal."""

    run_dir: Path
    table: str
    next_steps: tuple[str, ...] = ()
    holds: str = "rows"  # what there is in `run_dir`: rows | run | written
