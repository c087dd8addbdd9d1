"""What several of these tests build and compare with."""

from dataclasses import dataclass


@dataclass
class Answer:
    code: int
    out: str
    err: str
