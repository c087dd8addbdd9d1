"""One comparison of a simulated quantity with what it must be."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One judged number. `tolerance` is absolute, in the unit of the numbers."""

    name: str
    measured: float
    expected: float
    tolerance: float
    unit: str

    @property
    def holds(self) -> bool:
        return abs(self.measured - self.expected) <= self.tolerance
