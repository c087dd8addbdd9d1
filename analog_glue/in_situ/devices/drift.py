"""Drift of pulsed devices after training: what an array stands for decays to its reference by a power law.

    w(t) − r = (w(0) − r) · (t / t0)^−ν    for t > t0 after the last pulse, else w(0)

with the weight r of the reference device (0 for arrays without one) and an exponent ν ≥ 0 of every cross-point, drawn once.
The law is that of resistive memories; values for devices that are trained in situ depend on the technology, so the default is
none. Nothing drifts while an array learns: its pulses come far more often than t0.
"""

from dataclasses import dataclass

import numpy as np

from analog_glue.errors import require_argument
from analog_glue.seeding import key


@dataclass(frozen=True, kw_only=True)
class Drift:
    """See the module's equation."""

    nu: float = 0.0  # mean exponent ν; 0: none
    nu_dtod: float = 0.0  # relative spread of ν from device to device
    t0: float = 1.0  # [s] from which it counts

    def __post_init__(self) -> None:
        require_argument(self.nu >= 0, "nu", "be at least 0", self.nu)
        require_argument(self.nu_dtod >= 0, "nu_dtod", "be at least 0", self.nu_dtod)
        require_argument(self.t0 > 0, "t0", "be positive [s]", self.t0)

    def kept(self, t: float, shape: tuple[int, int], seed: int, name: str) -> np.ndarray | float:
        """The share of w − r that is left at `t` [s] for devices (outputs, inputs) of that seed and name."""
        if self.nu == 0 or t <= self.t0:
            return 1.0
        random = np.random.Generator(np.random.Philox(key(seed, "drift of pulsed devices", name)))
        nu = self.nu * np.maximum(1 + self.nu_dtod * random.standard_normal(shape), 0)
        return (t / self.t0) ** -nu
