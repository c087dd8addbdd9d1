"""Phase-change memory: programming noise, drift and 1/f noise after Joshi et al. (2020), as Spoon et al. (2021) use it.

    g_prog    = max(0, g_T + γ σ_prog(ĝ) ξ)                                       at programming
    g_drift   = g_prog · ((t + t_c) / t_c)^(−ν),   ν = |μ_ν(ĝ) + σ_ν(ĝ) ξ'|        as time passes
    g(t)      = max(0, g_drift · (1 + γ Q_s(ĝ) √ln((t + t_c + t_read) / (2 t_read)) ξ''))

with ĝ = g_T / g_max, t counted from the end of programming, and ξ, ξ', ξ'' independent standard normal numbers per device
(ξ'' anew at each time that the array is read out, then frozen).

Each of the four can be scaled or taken away, and the numbers drawn for the others stay what they are: factors p on σ_prog,
m on the mean exponent, s on its spread, f on Q_s. With ν = |μ_ν + s σ_ν ξ'| − (1 − m) μ_ν, m = 0 leaves how devices depart from
the mean exponent of their conductance (some then rise), and s = 0 leaves that mean alone. The papers have 1 everywhere.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from analog_glue.devices.device import Device, ProgrammedArray, check_targets, remembered
from analog_glue.errors import require_argument
from analog_glue.kernels.gaussian import NormalStream

# σ_prog(ĝ) = c0 + c1·ĝ + c2·ĝ² [µS] on devices with g_max = 25 µS (Joshi et al. 2020, Fig. 3b).
PROGRAMMING_ERROR_FIT = (0.26348, 1.9650, -1.1731)  # [µS]
G_MAX_OF_FIT = 25.0  # [µS]
DRIFT_MEAN_FIT = (-0.0155, 0.0244, 0.049, 0.1)  # slope in ln ĝ, offset, lower and upper limit
DRIFT_SPREAD_FIT = (-0.0125, -0.0059, 0.008, 0.045)
READ_NOISE_FIT = (0.0088, 0.65, 0.2)  # Q_s = min(0.0088 / ĝ^0.65, 0.2)
T_READ = 250e-9  # [s] duration of a read pulse, the short end of the 1/f integral
GHAT_FLOOR = 1e-7  # keeps ln ĝ finite; the limits of the fits are reached long before


def programming_error_std(g_target: Tensor, g_max: float) -> Tensor:
    """Spread of the conductance reached by iterative programming of a PCM device.

        σ_prog = max(0.26348 + 1.9650 ĝ − 1.1731 ĝ², 0) µS,   ĝ = g_target / g_max

    The printed fit mixes units: ĝ is dimensionless while the coefficients are in µS and hold for g_max = 25 µS. For
    another `g_max` the parabola is scaled by g_max / 25 µS, which keeps the *relative* error; that scaling is an
    assumption, not a measurement.

    Args:
        g_target: Target conductances [µS] in [0, `g_max`], of any shape.
        g_max: Largest conductance the device is programmed to [µS].

    Returns:
        σ_prog [µS], same shape: 0.26 at zero, 1.09 at its peak (ĝ = 0.84) for g_max = 25 µS.

    Source:
        Joshi et al., Nat. Commun. 11, 2473 (2020), Fig. 3b; Spoon et al. (2021), Sec. 2.1.2, multiplies by γ.
    """
    return _relative_programming_std(g_target / g_max).mul_(g_max)


def drift_exponent_law(ghat: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and spread over devices of the drift exponent ν at target `ghat` = g_T / g_max.

    μ_ν = clip(−0.0155 ln ĝ + 0.0244, 0.049, 0.1),  σ_ν = clip(−0.0125 ln ĝ − 0.0059, 0.008, 0.045).
    """
    log_ghat = ghat.clamp(min=GHAT_FLOOR).log_()
    slope, offset, low, high = DRIFT_MEAN_FIT
    mean = (log_ghat * slope).add_(offset).clamp_(low, high)
    slope, offset, low, high = DRIFT_SPREAD_FIT
    spread = log_ghat.mul_(slope).add_(offset).clamp_(low, high)
    return mean, spread


def read_noise_amplitude(ghat: Tensor) -> Tensor:
    """Q_s = min(0.0088 / ĝ^0.65, 0.2): strength of the 1/f noise relative to the conductance (dimensionless).

    The papers write Q_s over the *target*; so does this. (The IBM toolkit evaluates it at the programmed conductance;
    the difference is second order.)
    """
    scale, exponent, limit = READ_NOISE_FIT
    return ghat.pow(exponent).clamp_(min=1e-3).reciprocal_().mul_(scale).clamp_(max=limit)


@dataclass(frozen=True)
class PCM(Device):
    """See the module's equations. `noise_scale` is γ: it multiplies programming and 1/f noise, never the drift."""

    g_max: float = 25.0  # [µS]
    noise_scale: float = 1.0
    t_c: float = 20.0  # [s] from the programming pulse to the first read; drift counts from here
    idle_noise: bool = False
    programming: float = 1.0  # p, beside γ: factor on the programming noise
    drift: float = 1.0  # m: factor on the mean drift exponent
    drift_spread: float = 1.0  # s: factor on its spread over devices
    one_over_f: float = 1.0  # f, beside γ: factor on the 1/f noise

    def __post_init__(self) -> None:
        require_argument(self.g_max > 0, "g_max", "be positive [µS]", self.g_max)
        require_argument(self.noise_scale >= 0, "noise_scale", "be at least 0", self.noise_scale)
        require_argument(self.t_c > 0, "t_c", "be positive [s]", self.t_c)
        for name in ("programming", "drift", "drift_spread", "one_over_f"):
            require_argument(getattr(self, name) >= 0, name, "be at least 0", getattr(self, name))

    def program(self, g_target: Tensor, noise: NormalStream) -> ProgrammedArray:
        check_targets(g_target, self.g_max)
        ghat = g_target / self.g_max
        error = noise.like(ghat).mul_(_relative_programming_std(ghat)).mul_(self._programming_scale * self.g_max)
        mean, spread = drift_exponent_law(ghat)
        nu = torch.addcmul(mean, spread, noise.like(ghat), value=self.drift_spread).abs_()
        if self.drift != 1:
            nu.sub_(mean, alpha=1 - self.drift)
        if not self.idle_noise:
            error.mul_(g_target != 0)
        return ProgrammedArray(g_target, error.half(), nu.half())

    def conductance(self, array: ProgrammedArray, t: float, noise: NormalStream) -> Tensor:
        nu = remembered(array.nu, "drift exponents")
        g = nu.to(torch.float32, copy=True).mul_(-math.log((t + self.t_c) / self.t_c))
        g.exp_().mul_(array.g_prog)
        if self.noise_scale * self.one_over_f == 0:
            return g
        fluctuation = noise.like(g).mul_(read_noise_amplitude(array.g_target / self.g_max))
        fluctuation.mul_(self.noise_scale * self.one_over_f * self.accumulated_read_noise(t)).add_(1)
        return g.mul_(fluctuation).clamp_(min=0)

    def accumulated_read_noise(self, t: float) -> float:
        """√ ln((t + t_c + t_read) / (2 t_read)): growth of the 1/f noise with the time span it is integrated over."""
        return math.sqrt(math.log((t + self.t_c + T_READ) / (2 * T_READ)))

    def programming_spread(self, ghat: Tensor) -> Tensor:
        return _relative_programming_std(ghat).mul_(self._programming_scale)

    @property
    def _programming_scale(self) -> float:
        return self.noise_scale * self.programming

    @property
    def drifts(self) -> bool:
        """A spread alone counts: conductances that grow outweigh those that decay by as much."""
        return self.drift > 0 or self.drift_spread > 0

    @property
    def non_idealities(self) -> Mapping[str, Mapping[str, float]]:
        parts = {
            "programming noise": ("programming", self._programming_scale),
            "mean drift": ("drift", self.drift),
            "drift spread": ("drift_spread", self.drift_spread),
            "1/f noise": ("one_over_f", self.noise_scale * self.one_over_f),
        }
        return {name: {field: 0.0} for name, (field, strength) in parts.items() if strength > 0}


def _relative_programming_std(ghat: Tensor) -> Tensor:
    c0, c1, c2 = (c / G_MAX_OF_FIT for c in PROGRAMMING_ERROR_FIT)
    return (ghat * c2).add_(c1).mul_(ghat).add_(c0).clamp_(min=0)
