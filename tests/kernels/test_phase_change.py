"""The parts of the compiled passes over phase-change memory: short logarithms, powers and 16-bit floats."""

import numpy as np
import pytest

pytest.importorskip("numba")

from numba import njit

from analog_glue.kernels import phase_change
from analog_glue.kernels.jit import FAST


def over(part):
    """A part of kernels as a function of arrays, compiled as kernels are."""

    def loop(x, out):
        for i in range(x.shape[0]):
            out[i] = part(x[i])

    return njit(fastmath=FAST, error_model="numpy")(loop)


def test_logarithms_are_those_of_double_precision():
    x = np.concatenate([np.geomspace(1e-7, 1, 100_001), np.linspace(0.5, 1.5, 100_001)]).astype(np.float32)
    found = np.empty_like(x)
    over(phase_change.log2)(x, found)
    exact = np.log2(x.astype(np.float64))
    assert (abs(found - exact) / np.maximum(abs(exact), 1)).max() < 3e-7  # fit 2·10⁻⁷, rounding 6·10⁻⁸
    near = abs(exact) < 1  # also relative to itself
    assert (abs(found - exact)[near] <= 4e-7 * abs(exact)[near]).all()


def test_powers_are_those_of_double_precision():
    x = np.concatenate([np.linspace(-30, 2, 200_001), [0.0, -0.0, -500.0, 500.0]]).astype(np.float32)
    found = np.empty_like(x)
    over(phase_change.exp2)(x, found)
    exact = np.exp2(np.clip(x.astype(np.float64), -126, 127))
    assert (abs(found - exact) / exact).max() < 3e-7
    assert (found[-4:-2] == 1).all()


def test_halves_are_rounded_to_nearest_even_and_come_back():
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    kept = halves.astype(np.float32)
    middles = (kept[1:] + kept[:-1]) / 2  # ties, of neighbours in order of their bits
    random = np.random.default_rng(0).normal(0, 1, 100_000) * np.geomspace(1e-9, 1e6, 100_000)
    x = np.concatenate([kept, middles, random, np.nextafter(middles, np.float32(0))]).astype(np.float32)
    bits = np.empty(x.shape, np.int16)
    over(phase_change.half_of)(x, bits)
    with np.errstate(over="ignore"):
        assert (bits == x.astype(np.float16).view(np.int16)).all()
    back = np.empty_like(kept)
    over(phase_change.of_half)(halves.view(np.int16), back)
    assert (back.view(np.int32) == kept.view(np.int32)).all()
