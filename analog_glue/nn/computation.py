"""How an accelerator on paper is computed on this machine: no physics, but numbers that rows depend on."""

import math
from dataclasses import dataclass, replace

from analog_glue.kernels.backend import choose_kernel
from analog_glue.kernels.gaussian import stream_name
from analog_glue.kernels.products import WEIGHT_DIGITS, choose_product, hides_rounding
from analog_glue.nn.hardware import Hardware
from analog_glue.tiles.operands import possible_product


@dataclass(frozen=True)
class Computation:
    """Settings of the run and abilities of the machine, resolved once: nothing in here is "auto".

    `kernel` computes what surrounds the products: "reference" or "compiled" (kernels/backend.py). A product
    (kernels/products.py) is the `coarse` one where the error of the weights, whose standard deviation is at least
    `noise_floor` in units of the largest weight, hides rounding to 8 bits; elsewhere it is the `fine` one.
    """

    kernel: str = "reference"
    fine: str = "float32"
    coarse: str = "float32"
    read_out: str = "measured"  # of the drift compensation, or "expected" (tiles/drift_compensation.py)
    reference: str = "programmed"  # of the drift compensation, or "target"
    factor_per: str = "tile"  # of the drift compensation, or "column"
    where: str = "cpu"  # or "cuda": where torch computes
    noise_floor: float = 0.0

    @classmethod
    def resolved(
        cls,
        hardware: Hardware,
        where: str,
        kernel: str = "auto",
        product: str = "auto",
        read_out: str = "measured",
        reference: str = "programmed",
        factor_per: str = "tile",
    ) -> "Computation":
        """What the settings `runtime.kernel` and `runtime.product` mean here for chips of `hardware`; those of the drift
        compensation (`hardware.read_out` …) are kept beside them.

        Raises:
            UserError: compiled kernels are demanded and do not work here.
        """
        kernel = choose_kernel(kernel, where)
        fine, coarse = (
            possible_product(choose_product(product, where, noise, kernel, hardware.crossbar.rows), hardware.crossbar)
            for noise in (0.0, math.inf)
        )
        return cls(kernel, fine, coarse, read_out, reference, factor_per, where, hardware.noise_floor)

    def beside_noise(self, noise_floor: float) -> "Computation":
        """The same for weights that have another noise: of training, or of other devices."""
        return replace(self, noise_floor=noise_floor)

    @property
    def product(self) -> str:
        """The product of weights beside noise of `noise_floor`, one of `WEIGHT_DIGITS`."""
        return self.coarse if hides_rounding(self.noise_floor) else self.fine

    @property
    def weight_digits(self) -> int:
        """Binary digits of a weight in that product."""
        return WEIGHT_DIGITS[self.product]

    @property
    def stream(self) -> str:
        """Which random numbers a key stands for: chips of one stream are the same chips, those of another are others."""
        return stream_name(self.kernel, self.where)
