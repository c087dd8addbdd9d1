"""Soft bounds: steps shrink linearly to zero at the bound, so that repeated pulses approach it exponentially.

    f⁺(w) = 1 − w / b⁺,   f⁻(w) = 1 − w / b⁻

The asymmetric part of the update is G(w) = w / b for b⁺ = −b⁻ = b: stochastic gradient descent on it is pulled to the
symmetry point, w = 0, by its own noise. The "exponentially saturating" device of Gokmen & Haensch (2020) and Gokmen (2021).
"""

from dataclasses import dataclass

import numpy as np

from analog_glue.in_situ.devices.device import PulsedDevice, Steps, linear_planes


@dataclass(frozen=True, kw_only=True)
class SoftBounds(PulsedDevice):
    """See the module's equation."""

    def planes(self, steps: Steps, random: np.random.Generator) -> np.ndarray:
        return linear_planes(steps, 1.0, 1.0)
