"""Noise on the weights during hardware-aware training (Spoon et al. 2021, Sec. 2.2: forward pass only, no drift)."""

from dataclasses import dataclass

from torch import Tensor

from analog_glue.devices.device import Device
from analog_glue.kernels.gaussian import fill_normal
from analog_glue.settings import require

LAWS = ("programming", "relative", "none")


@dataclass(frozen=True)
class WeightNoise:
    """Gaussian noise on normalised weights, drawn anew for every mini-batch.

        programming:  std(w) = scale · σ_prog(|w|) / g_max      a scaled copy of the device's programming noise
        relative:     std    = scale                            of the largest weight that shares the digital scale

    `mirrored` keeps the sign of a weight by reflecting it at zero, as IBM's toolkit does; that pushes small weights outwards
    by 0.8 std on average, so the default is the plain, unbiased form.
    """

    law: str = "programming"
    scale: float = 1.0
    mirrored: bool = False

    def __post_init__(self) -> None:
        require(self.law in LAWS, "training.weight_noise.law", f"be one of {', '.join(LAWS)}", self.law)
        require(self.scale >= 0, "training.weight_noise.scale", "be at least 0", self.scale)

    @property
    def is_on(self) -> bool:
        return self.law != "none" and self.scale > 0

    def add_(self, weights: Tensor, device: Device, key: int) -> Tensor:
        """Add the noise named `key` to normalised weights in [−1, 1], in place."""
        noise = fill_normal(weights.new_empty(weights.shape), key)
        if self.law == "programming":
            noise.mul_(device.programming_spread(weights.abs()))
        noise.mul_(self.scale)
        if self.mirrored:
            sign = weights.sign()
            return weights.abs_().add_(noise.mul_(sign)).abs_().mul_(sign)
        return weights.add_(noise)
