"""The interface of a memory device for inference: programmed once, read at any later time. µS and seconds."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from analog_glue.kernels.gaussian import NormalStream


@dataclass(frozen=True)
class ProgrammedArray:
    """What an array of devices remembers of its programming; all tensors have the array's shape.

    What was drawn is kept as float16, good to 5·10⁻⁴ of itself, and is None where a device's physics does not use it.
    An error of 1 µS moves by 5·10⁻⁴ µS, a conductance by 10⁻³ at most.
    """

    g_target: Tensor  # [µS]
    error: Tensor | None = None  # [µS] of programming, before the clip at 0, float16; overshoot beyond g_max happens
    nu: Tensor | None = None  # drift exponent, float16
    residual: Tensor | None = None  # a standard normal number that follows a device through time, float16

    @property
    def g_prog(self) -> Tensor:
        """Conductances [µS] right after programming, float32, as a new tensor."""
        if self.error is None:
            return self.g_target.clone()
        return self.error.to(torch.float32, copy=True).add_(self.g_target).clamp_(min=0)


def remembered(field: Tensor | None, what: str) -> Tensor:
    """A field of a `ProgrammedArray` that other kinds of devices leave out: `what` it is."""
    if field is None:
        raise TypeError(f"Argument `array` must hold {what}, but was programmed with devices that have none.")
    return field


class Device(ABC):
    """One kind of memory device. Concrete devices are frozen dataclasses whose fields are the keys of their yaml.

    A device with target 0 is *idle* (left in RESET): it stays exactly 0 unless `idle_noise` is on.
    """

    g_max: float  # [µS] conductance that stands for the largest weight
    idle_noise: bool  # whether devices with target 0 are programmed, drift and fluctuate like the others

    @abstractmethod
    def program(self, g_target: Tensor, noise: NormalStream) -> ProgrammedArray:
        """Write the target conductances [µS], each in [0, `g_max`], once.

        Raises:
            ValueError: targets outside [0, `g_max`].
        """

    @abstractmethod
    def conductance(self, array: ProgrammedArray, t: float, noise: NormalStream) -> Tensor:
        """Conductances [µS] at `t` [s] after programming, never negative, as a new tensor.

        One call is one frozen state of the array: what fluctuates slowly (1/f noise) is drawn here, once.
        `t` = 0 is the state right after programming, where the drift compensation takes its reference.
        """

    @abstractmethod
    def programming_spread(self, ghat: Tensor) -> Tensor:
        """Standard deviation of the conductance right after programming in units of `g_max`, at target `ghat` ∈ [0, 1]."""

    @property
    def noise_floor(self) -> float:
        """The smallest `programming_spread` of any target: what the simulation may round away without being noticed."""
        return self.programming_spread(torch.linspace(0, 1, 1025)).min().item()

    @property
    @abstractmethod
    def drifts(self) -> bool:
        """Whether conductances decay on average, so that drift compensation has something to compensate."""

    @property
    def non_idealities(self) -> Mapping[str, Mapping[str, float]]:
        """What makes this device less than ideal: name → the fields, with their values, that take it away.

        Only what it has as it is set. Without one of them a device draws the same numbers for all the others, and without any
        it keeps what is written.
        """
        return {}

    @property
    def fitted_until(self) -> float:
        """Last time [s] that the measurements behind the model cover; later scores are marked `extrapolated`."""
        return float("inf")


def check_targets(g_target: Tensor, g_max: float) -> None:
    """Raise ValueError unless all targets lie in [0, `g_max`] (up to rounding)."""
    if g_target.numel() == 0:
        return
    low, high = (extreme.item() for extreme in torch.aminmax(g_target))
    if not (low >= 0 and high <= g_max * (1 + 1e-5)):
        raise ValueError(
            f"Argument `g_target` must lie in [0, `g_max`] = [0, {g_max:g}] µS, but spans [{low:g}, {high:g}] µS. "
            "Normalise the weights with `weights_to_targets`, or raise `g_max`."
        )
