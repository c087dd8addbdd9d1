"""Noise on the weights during hardware-aware training (Spoon et al. 2021, Sec. 2.2: forward pass only, no drift)."""

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from analog_glue.devices.device import Device
from analog_glue.errors import require_argument
from analog_glue.kernels.gaussian import fill_normal, key_words
from analog_glue.kernels.operation import operation
from analog_glue.tiles.mapping import TileGrid, normalised

LAWS = ("programming", "relative", "none")


@dataclass(frozen=True)
class WeightNoise:
    """Gaussian noise on normalised weights, drawn anew for every mini-batch.

        programming:  std(w) = scale · σ_prog(|w|) / g_max      a scaled copy of the device's programming noise
        relative:     std    = scale                            of the largest weight that shares the digital scale

    `mirrored` keeps the sign of a weight by reflecting it at zero, as IBM's toolkit does; that pushes small weights outwards
    by 0.8 std on average, so the default is the plain, unbiased form.
    """

    law: str = "programming"
    scale: float = 1.0
    mirrored: bool = False

    def __post_init__(self) -> None:
        require_argument(self.law in LAWS, "law", f"be one of {', '.join(LAWS)}", self.law)
        require_argument(self.scale >= 0, "scale", "be at least 0", self.scale)

    @property
    def is_on(self) -> bool:
        return self.law != "none" and self.scale > 0

    def of_cells(self, cells: int) -> "WeightNoise":
        """Of weights that are the mean of so many cells; `relative` noise is a choice of training and stays what it is."""
        return replace(self, scale=self.scale / math.sqrt(cells)) if self.law == "programming" else self

    def spread(self, magnitude: Tensor, device: Device) -> Tensor:
        """Standard deviation of the noise on weights of `magnitude` in [0, 1], of the same shape."""
        spread = device.programming_spread(magnitude) if self.law == "programming" else torch.ones_like(magnitude)
        return spread.mul_(self.scale)

    def floor(self, device: Device) -> float:
        """The smallest spread of any weight; 0 when the noise is off."""
        return _floor(self, device) if self.is_on else 0.0

    def noisy(
        self, weight: Tensor, scale: Tensor, grid: TileGrid, device: Device, key: int, kernel: str = "reference"
    ) -> Tensor:
        """Normalised weights of a layer with the noise named `key`; always the same for the same arguments.

        Args:
            weight: [outputs, inputs], in real units.
            scale: [row blocks, outputs], what becomes 1.

        Returns:
            [row blocks, outputs, rows], in units of a full-on cell; padded rows are without meaning.
        """
        return _noisy.by(kernel, weight.device)(weight, scale, grid, self, device, key)

    def noisy_integers(
        self, weight: Tensor, scale: Tensor, grid: TileGrid, device: Device, key: int, rounding: float, kernel: str
    ) -> Tensor:
        """The same weights as multiples of `rounding`: int8 [outputs, inputs]."""
        return _noisy_integers.by(kernel, weight.device)(weight, scale, grid, self, device, key, rounding)

    def add_(self, weights: Tensor, device: Device, key: int) -> Tensor:
        """Add the noise named `key` to normalised weights in [−1, 1], in place."""
        noise = fill_normal(weights.new_empty(weights.shape), key).mul_(self.spread(weights.abs(), device))
        if self.mirrored:
            sign = weights.sign()
            return weights.abs_().add_(noise.mul_(sign)).abs_().mul_(sign)
        return weights.add_(noise)


@operation
def _noisy(weight: Tensor, scale: Tensor, grid: TileGrid, noise: WeightNoise, device: Device, key: int) -> Tensor:
    return noise.add_(normalised(grid.to_blocks(weight), scale), device, key)


@_noisy.compiled("cpu")
def _noisy_by_numba(weight: Tensor, scale: Tensor, grid: TileGrid, noise: WeightNoise, device: Device, key: int) -> Tensor:
    from analog_glue.kernels.weights import noisy, share_columns

    polynomial = _polynomial(noise, device)
    if polynomial is None:
        return _noisy(weight, scale, grid, noise, device, key)
    blocks = torch.empty(len(grid.row_blocks), grid.outputs, grid.padded_rows)
    arrays = weight.numpy(), scale.numpy(), np.array(grid.row_blocks), polynomial
    share_columns(noisy, grid.outputs, *arrays, noise.mirrored, *key_words(key), blocks.numpy())
    return blocks


@operation
def _noisy_integers(
    weight: Tensor, scale: Tensor, grid: TileGrid, noise: WeightNoise, device: Device, key: int, rounding: float
) -> Tensor:
    return grid.from_blocks(rounded(_noisy(weight, scale, grid, noise, device, key), rounding))


@_noisy_integers.compiled("cpu")
def _noisy_integers_by_numba(
    weight: Tensor, scale: Tensor, grid: TileGrid, noise: WeightNoise, device: Device, key: int, rounding: float
) -> Tensor:
    from analog_glue.kernels.weights import noisy_integers, share_columns

    polynomial = _polynomial(noise, device)
    if polynomial is None:
        return _noisy_integers(weight, scale, grid, noise, device, key, rounding)
    integers = torch.empty(weight.shape, dtype=torch.int8)
    arrays = weight.numpy(), scale.numpy(), np.array(grid.row_blocks), polynomial
    words, per_unit = key_words(key), np.float32(1 / rounding)
    share_columns(noisy_integers, grid.outputs, *arrays, noise.mirrored, *words, per_unit, integers.numpy())
    return integers


def rounded(blocks: Tensor, rounding: float) -> Tensor:
    """Weights as multiples of `rounding`, int8 of the same shape; overwrites them."""
    return blocks.mul_(1 / rounding).round_().to(torch.int8)


@_noisy.compiled("cuda")
def _noisy_by_triton(weight: Tensor, scale: Tensor, grid: TileGrid, noise: WeightNoise, device: Device, key: int) -> Tensor:
    from analog_glue.kernels.triton_weights import noisy

    polynomial = _polynomial(noise, device)
    if polynomial is None:
        return _noisy(weight, scale, grid, noise, device, key)
    return noisy(weight, scale, grid.row_blocks, tuple(polynomial.tolist()), noise.mirrored, key)


@cache  # asked for by every layer at every step
def _floor(noise: WeightNoise, device: Device) -> float:
    return noise.spread(torch.linspace(0, 1, 1025), device).min().item()


@cache
def _polynomial(noise: WeightNoise, device: Device) -> np.ndarray | None:
    """The spread as a polynomial of fourth degree in the magnitude, or None if it is none."""
    magnitude = torch.linspace(0, 1, 1025)
    spread = noise.spread(magnitude, device).double().numpy()
    coefficients = np.polynomial.Polynomial.fit(magnitude.double().numpy(), spread, 4, domain=[0, 1], window=[0, 1]).coef
    fitted = np.polynomial.polynomial.polyval(magnitude.double().numpy(), coefficients)
    return coefficients.astype(np.float32) if np.abs(fitted - spread).max() < 1e-6 else None
