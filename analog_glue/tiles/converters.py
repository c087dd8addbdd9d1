"""DAC and ADC: symmetric uniform quantisers with 2^bits − 2 steps across their range, so that zero is a code.

Their gradients (straight through the rounding, none through what is clipped) are written out in `nn.linear`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DAC:
    """Drives a row with a pulse whose width is the code. `bits` None: inputs pass as they are, unclipped."""

    bits: int | None

    @property
    def full_scale(self) -> float:
        """The largest code, 2^(bits−1) − 1 (127 for 8 bits): the input range itself."""
        return 1.0 if self.bits is None else 2.0 ** (self.bits - 1) - 1

    def codes(self, x: Tensor, per_input: Tensor) -> Tensor:
        """round(x · per_input), clipped to ±full_scale: integers as floats, a new tensor.

        Args:
            x: [vectors, inputs].
            per_input: Codes per unit of x, full_scale / input range; [inputs] or one number.
        """
        codes = x * per_input
        if self.bits is None:
            return codes
        return codes.round_().clamp_(-self.full_scale, self.full_scale)


@dataclass(frozen=True)
class ADC:
    """Reads a column. `bits` None: currents pass as they are, unclipped, and the unit is a full-on cell."""

    bits: int | None
    bound: float  # largest current, in units of one full-on cell driven by a full-scale input

    @property
    def lsb(self) -> float:
        """One step, in units of a full-on cell driven by a full-scale input: 2 · bound / (2^bits − 2)."""
        return 1.0 if self.bits is None else 2 * self.bound / (2**self.bits - 2)

    def convert_(self, current: Tensor) -> Tensor:
        """Round and clip currents given in LSB, in place."""
        if self.bits is None:
            return current
        return current.round_().clamp_(-self.full_scale, self.full_scale)

    def clipping(self, converted: Tensor) -> Tensor:
        """−1, 0 or +1 (int8): whether converted currents [LSB] sit at a bound."""
        return (converted / self.full_scale).to(torch.int8)  # the cast cuts towards zero

    @property
    def full_scale(self) -> float:
        """The largest code, 2^(bits−1) − 1; 0 of an ideal ADC, which has none."""
        return 0.0 if self.bits is None else 2.0 ** (self.bits - 1) - 1
