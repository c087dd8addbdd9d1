"""Power step: steps shrink with a power of the distance to the bound.

    f⁺(w) = ((b⁺ − w) / (b⁺ − b⁻))^γ⁺,   f⁻(w) = ((w − b⁻) / (b⁺ − b⁻))^γ⁻,   γ± = gamma_up, gamma_down · (1 + gamma_dtod ξ)

So dw_min is the mean step at the far bound, as in aihwkit; at w = 0 it is 2^−γ of that, which is what learning rates count.
γ = 1 is the soft-bounds device of half the dw_min. No closed form for several pulses is known, so the kernel goes
pulse by pulse: exact, and several times slower than the other devices.
"""

from dataclasses import dataclass

import numpy as np

from analog_glue.errors import require_argument
from analog_glue.in_situ.devices.device import PulsedDevice, Steps


@dataclass(frozen=True, kw_only=True)
class PowerStep(PulsedDevice):
    """See the module's equation."""

    gamma_up: float = 1.0
    gamma_down: float = 1.0
    gamma_dtod: float = 0.1  # relative spread of each exponent

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("gamma_up", "gamma_down", "gamma_dtod"):
            require_argument(getattr(self, name) >= 0, name, "be at least 0", getattr(self, name))

    @property
    def step(self) -> float:
        return self.dw_min * 0.5 ** ((self.gamma_up + self.gamma_down) / 2)

    @property
    def power(self) -> bool:
        return True

    def planes(self, steps: Steps, random: np.random.Generator) -> np.ndarray:
        def gamma(mean: float) -> np.ndarray:
            return np.maximum(mean * (1 + self.gamma_dtod * random.standard_normal(steps.up.shape)), 0)

        up, down = gamma(self.gamma_up), gamma(self.gamma_down)
        return np.stack([steps.up, up, steps.down, down, steps.highest, steps.lowest])
