"""How far the read noise of `runtime.product=int8_outliers` is from that of all rows, on a network's own activations."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from analog_glue.nn.calibration import observe
from analog_glue.nn.convert import Chip


@dataclass(frozen=True)
class SpreadError:
    """Relative errors of the standard deviation of the noise that is drawn at the outputs of a layer: read and output noise."""

    layer: str
    rms: float
    mean: float


@torch.no_grad()
def spread_errors(chip: Chip, batches: Iterable[dict[str, Tensor]], compensated: bool = True) -> list[SpreadError]:
    """Run `batches` through a chip that has its time; layers whose variance is exact are left out.

    Args:
        batches: Keyword arguments of the model; padded positions (attention_mask 0) do not count.
    """
    seen: dict[str, list[Tensor]] = {}

    def see(name: str, vectors: Tensor) -> None:
        errors = chip.layers[name].spread_error(vectors)
        if errors is not None:
            seen.setdefault(name, []).append(errors.flatten())

    observe(chip.ready_to_score(compensated), chip.layers, batches, see)
    together = {name: torch.cat(parts) for name, parts in seen.items()}
    return [SpreadError(name, errors.square().mean().sqrt().item(), errors.mean().item()) for name, errors in together.items()]


def in_words(errors: list[SpreadError]) -> str:
    """One line about all layers."""
    if not errors:
        return "Read noise: the variance of every layer is exact here."
    rms = (sum(one.rms**2 for one in errors) / len(errors)) ** 0.5
    mean, worst = sum(one.mean for one in errors) / len(errors), max(errors, key=lambda one: one.rms)
    return (
        f"Read noise from outliers: σ of the noise at an output is off by {100 * rms:.1f} % rms over layers, "
        f"{100 * mean:+.2f} % in the mean; most in {worst.layer}, by {100 * worst.rms:.1f} % rms."
    )
