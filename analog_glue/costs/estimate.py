"""What is asked of a set of cost parameters, and what it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from analog_glue.costs.architectures import Architecture
from analog_glue.costs.counting import Count, Counting, count
from analog_glue.costs.operations import Work, work_of
from analog_glue.costs.sourced import Amount
from analog_glue.costs.tiles import TileMap, tile_map
from analog_glue.errors import require

if TYPE_CHECKING:
    from analog_glue.nn.attention import Attention
    from analog_glue.tiles.crossbar import Crossbar
    from analog_glue.tiles.mapping import TileGrid


LARGEST_BATCH = 1_000_000_000  # sequences


@dataclass(frozen=True)
class Workload:
    """A batch of sequences through a network on its accelerator.

    Args:
        grids: Of the layers on tiles, by name.
        rescaled: Layer → input channels that are multiplied at every token (`tune`).

    Raises:
        UserError: fewer than one token or sequence, more than `LARGEST_BATCH` sequences, or more tokens than the model has
            positions for.
    """

    architecture: Architecture
    crossbar: Crossbar
    grids: Mapping[str, TileGrid]
    attention: Attention
    sequence: int = 32  # tokens of each, padding included
    batch: int = 4  # sequences
    rescaled: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        longest = self.architecture.longest
        require(1 <= self.sequence <= longest, "sequence_length", f"lie in 1 … {longest}, the positions of the model",
                self.sequence)  # fmt: skip
        require(1 <= self.batch <= LARGEST_BATCH, "batch", f"lie in 1 … {LARGEST_BATCH:,}", self.batch)

    @cached_property
    def work(self) -> list[Work]:
        """Of one sequence."""
        return work_of(self.architecture, self.grids, self.sequence, self.rescaled)

    @cached_property
    def tiles(self) -> TileMap:
        return tile_map(self.architecture, self.grids, self.crossbar, self.sequence)

    @property
    def digital_layers(self) -> list[str]:
        """Linear layers that lie on no tile."""
        return [name for name in self.architecture.linears if name not in self.grids]

    def count(self, counting: Counting) -> Count:
        """Operations of the batch."""
        return count(self.work, counting, self.batch)


@dataclass(frozen=True)
class Line:
    """One part of the energy of a batch.

    Args:
        what: In words.
        units: How many there are in the batch, and what one is.
        each: Of one [pJ].
        energy: Of all [µJ].
    """

    what: str
    units: int
    unit: str
    each: Amount
    energy: Amount


@dataclass(frozen=True)
class Estimate:
    """Time, power, energy and area of a batch.

    Args:
        latency: Of the batch [ms].
        power: Averaged over it [W].
        energy: Of the batch [µJ]; of `lines`, what is known.
        area: Of the accelerator [mm²].
        adc_area: Of all ADCs, a part of it [mm²]; None where it is not asked for.
        lines: What the energy is made of; none where a system is given as a whole.
        is_floor: Whether the latency is the least that it can be.
        unpriced: Work that no known value prices, in words.
        remarks: Assumptions, a sentence each.
    """

    latency: Amount
    power: Amount
    energy: Amount
    area: Amount
    adc_area: Amount | None = None
    lines: Sequence[Line] = ()
    is_floor: bool = False
    unpriced: Sequence[str] = ()
    remarks: Sequence[str] = ()


class Costs(ABC):
    """A set of cost parameters: how operations are counted, and what they take."""

    counting: Counting

    @abstractmethod
    def estimate(self, load: Workload) -> Estimate:
        """What a batch takes."""
