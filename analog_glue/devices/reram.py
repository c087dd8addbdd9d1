"""Filamentary ReRAM after the measurements of Wan et al. (2022): a spread around the target that grows with time.

    g(t) = max(0, g_T + σ(ĝ, t) ξ),   σ(ĝ, t) = Σ_i c_i(t) ĝ^i  [µS],   ĝ = g_T / g_max

There is no mean drift and no 1/f term in these measurements, hence no drift compensation. ξ is drawn once per device
and kept, so a device that came out high stays high, and asking for more times changes no earlier score.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from analog_glue.devices.device import Device, ProgrammedArray, check_targets, remembered
from analog_glue.errors import require_argument
from analog_glue.kernels.gaussian import NormalStream

# Coefficients c_0 … c_4 [µS] at three times after programming, on devices with g_max = 40 µS
# (Wan et al., Nature 608, 504 (2022), as fitted in aihwkit 1.2.0).
G_MAX_OF_FIT = 40.0  # [µS]
SPREAD_FIT = {
    1.0: (0.348, 16.030, -43.853, 45.393, -16.815),
    86_400.0: (0.701, 22.086, -50.773, 47.095, -16.458),
    172_800.0: (0.782, 20.274, -43.507, 37.062, -11.934),
}  # time [s] → coefficients [µS]


def spread_coefficients(t: float) -> tuple[float, ...]:
    """c_0 … c_4 [µS] at `t` [s]: interpolated in ln t between the fitted times, held constant outside them.

    The interpolation is our choice; nothing was measured between the three times.
    """
    times = sorted(SPREAD_FIT)
    t = min(max(t, times[0]), times[-1])
    after = next(i for i, time in enumerate(times) if t <= time)
    if after == 0:
        return SPREAD_FIT[times[0]]
    start, end = times[after - 1], times[after]
    share = math.log(t / start) / math.log(end / start)
    return tuple(a + share * (b - a) for a, b in zip(SPREAD_FIT[start], SPREAD_FIT[end], strict=True))


@dataclass(frozen=True)
class ReRAM(Device):
    """See the module's equation. For a `g_max` other than 40 µS the spread is scaled with it (relative error kept)."""

    g_max: float = 40.0  # [µS]
    noise_scale: float = 1.0  # multiplies σ
    idle_noise: bool = False

    def __post_init__(self) -> None:
        require_argument(self.g_max > 0, "g_max", "be positive [µS]", self.g_max)
        require_argument(self.noise_scale >= 0, "noise_scale", "be at least 0", self.noise_scale)

    def program(self, g_target: Tensor, noise: NormalStream) -> ProgrammedArray:
        check_targets(g_target, self.g_max)
        residual = noise.like(g_target).half()
        if not self.idle_noise:
            residual.mul_(g_target != 0)
        error = self._spread(g_target, residual, t=0.0).sub_(g_target).half()
        return ProgrammedArray(g_target, error, residual=residual)

    def conductance(self, array: ProgrammedArray, t: float, noise: NormalStream) -> Tensor:
        return self._spread(array.g_target, remembered(array.residual, "the place of every device in the spread"), t)

    def programming_spread(self, ghat: Tensor) -> Tensor:
        return self._relative_std(ghat, t=0.0)

    @property
    def drifts(self) -> bool:
        return False

    @property
    def non_idealities(self) -> Mapping[str, Mapping[str, float]]:
        """One law from programming on: its growth with time is part of it."""
        return {"conductance spread": {"noise_scale": 0.0}} if self.noise_scale > 0 else {}

    @property
    def fitted_until(self) -> float:
        return max(SPREAD_FIT)

    def _spread(self, g_target: Tensor, residual: Tensor, t: float) -> Tensor:
        std = self._relative_std(g_target / self.g_max, t)
        return std.mul_(residual).mul_(self.g_max).add_(g_target).clamp_(min=0)

    def _relative_std(self, ghat: Tensor, t: float) -> Tensor:
        std = torch.zeros_like(ghat)
        for coefficient in reversed(spread_coefficients(t)):
            std.mul_(ghat).add_(coefficient)
        return std.clamp_(min=0).mul_(self.noise_scale / G_MAX_OF_FIT)
