"""What every method of tuning does: from one periphery to another, and what it chose for each layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from analog_glue.errors import UserError, require_argument
from analog_glue.kernels.parallel import run
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tuning.bench import Bench, Periphery


@dataclass(frozen=True)
class Choice:
    """What was chosen for one layer, and its relative squared error of a product before and after; None: not compared."""

    chosen: str
    before: float | None = None
    after: float | None = None


@dataclass(frozen=True)
class Step:
    """One method at work, as tuning.json has it."""

    method: str
    choices: Mapping[str, Choice]  # by layer
    compared: Mapping[str, float] | None = None  # squared error of the network's outputs, by setting of all layers
    kept: bool = True
    logit_errors: tuple[list[float], list[float]] | None = None  # before and after, by chip; None: not judged
    seconds: float = 0.0

    def record(self) -> dict[str, Any]:
        return asdict(self)

    def words(self) -> str:
        """How often each choice was made: "99.995 %: 30, max: 7"."""
        counts = Counter(choice.chosen for choice in self.choices.values())
        return ", ".join(f"{chosen} ({count})" if len(counts) > 1 else chosen for chosen, count in counts.most_common())


@dataclass(frozen=True)
class Tuned:
    periphery: dict[str, LayerPeriphery]
    steps: list[Step] = field(default_factory=list)


class Tuning(ABC):
    """A method. Its fields are its settings; a new one is one file and one yaml in conf/tuning."""

    name: ClassVar[str]
    sections: ClassVar[tuple[str, ...]] = ()  # of the configuration, beside those of `tune`

    @abstractmethod
    def check(self, crossbar: Crossbar) -> None:
        """Raises UserError where tiles lack what the method tunes."""

    @abstractmethod
    def tune(self, bench: Bench, periphery: Periphery, log: Callable[[str], None]) -> Tuned:
        """The periphery of every layer after this method, and what it did. `periphery` stays what it is."""


def each_layer(bench: Bench, names: list[str], tune: Callable[[str], tuple[LayerPeriphery, Choice]], method: str) -> Tuned:
    """`tune` of every layer of `names`, several at a time, in their order."""
    found: dict[str, tuple[LayerPeriphery, Choice]] = {}

    def work(name: str) -> None:
        found[name] = tune(name)

    run(work, names, next(bench.model.parameters()).device)
    return Tuned({name: found[name][0] for name in names}, [Step(method, {name: found[name][1] for name in names})])


OBJECTIVES = ("network", "layer")


def require_objective(objective: str) -> None:
    require_argument(objective in OBJECTIVES, "objective", f"be one of {', '.join(OBJECTIVES)}", objective)


def best_for_network(bench: Bench, before: Periphery, candidates: Mapping[str, Periphery], method: str) -> Tuned:
    """One setting for all layers: that whose outputs of the network have the smallest error; `before` where none is better.

    Candidates that differ in nothing are looked at once, under the first of their names.
    """
    apart: dict[str, Periphery] = {"as before": before}
    for label, candidate in candidates.items():
        if not any(_equal(candidate, other) for other in apart.values()):
            apart[label] = candidate
    errors = {label: bench.compared_error(candidate) for label, candidate in apart.items()}
    chosen = min(errors, key=lambda label: errors[label])
    return Tuned(dict(apart[chosen]), [Step(method, {name: Choice(chosen) for name in before}, compared=errors)])


def _equal(one: Periphery, other: Periphery) -> bool:
    def alike(first: Tensor | None, second: Tensor | None) -> bool:
        return first is second or (first is not None and second is not None and torch.equal(first, second))

    return all(
        alike(getattr(one[name], field.name), getattr(other[name], field.name))
        for name in one
        for field in fields(LayerPeriphery)
    )


def best(
    bench: Bench, name: str, vectors: Any, before: LayerPeriphery, candidates: Mapping[str, LayerPeriphery]
) -> tuple[LayerPeriphery, Choice]:
    """The candidate with the smallest error of the layer's products; `before` where none has a smaller one."""
    comparison = bench.comparison(name, vectors)
    at_first = comparison.error(before)
    errors = {label: comparison.error(candidate) for label, candidate in candidates.items()}
    chosen = min(errors, key=lambda label: errors[label])
    if errors[chosen] >= at_first:
        return before, Choice("as before", at_first, at_first)
    return candidates[chosen], Choice(chosen, at_first, errors[chosen])


def require_converter(there: bool, name: str, what: str, setting: str) -> None:
    """Raises UserError where a tile lacks the converter whose range is to be tuned."""
    if not there:
        raise UserError(
            f"Setting `{setting}` must not be null for tuning={name}, which tunes {what}, but is. "
            "Choose a tile with that converter, tile=lammie2024 for one, or another tuning."
        )
