"""A device that keeps what is written: no programming noise, no drift, no read noise."""

from dataclasses import dataclass

import torch
from torch import Tensor

from analog_glue.devices.device import Device, ProgrammedArray, check_targets
from analog_glue.errors import require_argument
from analog_glue.kernels.gaussian import NormalStream


@dataclass(frozen=True)
class Ideal(Device):
    g_max: float = 25.0  # [µS]
    idle_noise: bool = False

    def __post_init__(self) -> None:
        require_argument(self.g_max > 0, "g_max", "be positive [µS]", self.g_max)

    def program(self, g_target: Tensor, noise: NormalStream) -> ProgrammedArray:
        check_targets(g_target, self.g_max)
        return ProgrammedArray(g_target)

    def conductance(self, array: ProgrammedArray, t: float, noise: NormalStream) -> Tensor:
        return array.g_prog

    def programming_spread(self, ghat: Tensor) -> Tensor:
        return torch.zeros_like(ghat)

    @property
    def drifts(self) -> bool:
        return False
