"""Linear step: steps change linearly with the weight, each device with slopes of its own, until a hard bound.

    f⁺(w) = 1 − γ⁺ w / b⁺,   f⁻(w) = 1 − γ⁻ w / b⁻,   γ± = slope_up, slope_down · (1 + slope_dtod ξ)

Slope 1 is the soft-bounds device, 0 the symmetric linear one, a negative slope a step that grows towards the bound.
"""

from dataclasses import dataclass

import numpy as np

from analog_glue.errors import require_argument
from analog_glue.in_situ.devices.device import PulsedDevice, Steps, linear_planes


@dataclass(frozen=True, kw_only=True)
class LinearStep(PulsedDevice):
    """See the module's equation."""

    slope_up: float = 0.5
    slope_down: float = 0.5
    slope_dtod: float = 0.05  # relative spread of each slope

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("slope_up", "slope_down"):
            require_argument(-1 <= getattr(self, name) <= 1, name, "lie in [−1, 1]", getattr(self, name))
        require_argument(self.slope_dtod >= 0, "slope_dtod", "be at least 0", self.slope_dtod)

    def planes(self, steps: Steps, random: np.random.Generator) -> np.ndarray:
        def slope(mean: float) -> np.ndarray:
            return mean * (1 + self.slope_dtod * random.standard_normal(steps.up.shape))

        planes = linear_planes(steps, slope(self.slope_up), slope(self.slope_down))
        return np.concatenate([planes, [steps.highest, steps.lowest]])
