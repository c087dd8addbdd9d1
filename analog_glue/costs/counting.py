"""How many operations a multiply-add or an element of something is: a convention, which two documents may not share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from analog_glue.costs.operations import KINDS, Work
from analog_glue.errors import require_argument


@dataclass(frozen=True)
class Counting:
    """Operations per unit of each kind of `operations.KINDS`, and whether the head is counted.

    Args:
        analog_product: Of a multiply-add on tiles; 2 where a product and a sum are two operations.
        attention: Of a multiply-add of QKᵀ or PV.
        head: Whether pooler and classifier, which see one vector of a sequence, are counted.
    """

    analog_product: int = 2
    digital_product: int = 2
    attention: int = 2
    embedding: int = 1
    channel_scale: int = 1
    dac_scale: int = 1
    adc_scale: int = 1
    partial_sum: int = 1
    bias: int = 1
    score_scale: int = 1
    position_bias: int = 1
    mask: int = 1
    softmax: int = 1
    residual: int = 1
    layer_norm: int = 1
    activation: int = 1
    tanh: int = 1
    head: bool = True

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name != "head"):
            each = getattr(self, name)
            require_argument(0 <= each <= 1000, name, "lie in 0 … 1000 operations", each)

    def per_unit(self, kind: str) -> int:
        """Operations that one unit of a kind is."""
        return int(getattr(self, "attention" if kind in ("scores", "values") else kind))

    def operations(self, work: Work) -> int:
        """Operations that the work of one sequence is; 0 for what is not counted."""
        counted = self.head or work.part != "head"
        return work.amount * self.per_unit(work.kind) if counted else 0


@dataclass(frozen=True)
class Count:
    """Operations of a batch, by kind and together."""

    by_kind: dict[str, int]
    units: dict[str, int]  # multiply-adds or elements by kind, what is not counted as operations among them

    @property
    def total(self) -> int:
        return sum(self.by_kind.values())

    @property
    def analog(self) -> int:
        """On tiles."""
        return self.by_kind["analog_product"]


def count(work: Iterable[Work], counting: Counting, batch: int = 1) -> Count:
    """Operations of so many sequences."""
    by_kind, units = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)
    for one in work:
        units[one.kind] += batch * one.amount
        by_kind[one.kind] += batch * counting.operations(one)
    return Count(by_kind, units)
