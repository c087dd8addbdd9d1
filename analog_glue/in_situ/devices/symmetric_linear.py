"""The ideal pulsed device: steps of one size up and down everywhere, until a hard bound.

    f⁺(w) = f⁻(w) = 1,   d⁺ = d⁻

Its update has no asymmetric part, so stochastic gradient descent works on it as in software, up to noise and resolution.
"""

from dataclasses import dataclass

import numpy as np

from analog_glue.in_situ.devices.device import PulsedDevice, Steps, linear_planes


@dataclass(frozen=True, kw_only=True)
class SymmetricLinear(PulsedDevice):
    """See the module's equation. A mean or spread of `up_down` other than 0 makes it less than symmetric."""

    up_down_dtod: float = 0.0

    def planes(self, steps: Steps, random: np.random.Generator) -> np.ndarray:
        return np.concatenate([linear_planes(steps, 0.0, 0.0), [steps.highest, steps.lowest]])
