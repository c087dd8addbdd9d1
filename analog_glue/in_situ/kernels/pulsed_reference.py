"""The pulsed update in plain NumPy: one pulse after another, one sample after another. What the kernel is held to."""

import numpy as np

from analog_glue.in_situ.kernels.pulsed import HIGHEST, LONGEST, LOWEST, RATE_DOWN, RATE_UP, SIGN, TARGET_DOWN, TARGET_UP, TRAIN


def train_probabilities(
    x: np.ndarray, d: np.ndarray, rate: float, dw_min: float, longest: int, managed: bool
) -> tuple[np.ndarray, np.ndarray, int]:
    """Probability of a pulse on every line (inputs,), (outputs,), and the number of bits sent.

    c = √(rate / (dw_min · bits)) on both sides (Gokmen & Vlasov 2016), times √(d_max / x_max) on the inputs and the inverse
    on the outputs (update management); with managed length bits = min(longest, ⌈rate · x_max · d_max / dw_min⌉).
    """
    x_max, d_max = np.abs(x).max(), np.abs(d).max()
    wanted = rate * x_max * d_max / dw_min
    if not wanted > 0:
        return np.zeros_like(x), np.zeros_like(d), 0
    bits = min(longest, int(np.ceil(wanted))) if managed else longest
    c = np.sqrt(rate / (dw_min * bits))
    balance = np.sqrt(d_max / x_max)
    return np.minimum(c * balance * np.abs(x), 1), np.minimum(c / balance * np.abs(d), 1), bits


def draw_words(values: np.ndarray, probabilities: np.ndarray, bits: int, random: np.random.Generator) -> np.ndarray:
    """Trains as words: `bits` independent bits of the given probability, and the sign in bit 31."""
    pulses = random.random((*values.shape, bits)) < probabilities[..., None]
    words = (pulses << np.arange(bits)).sum(-1).astype(np.uint32)
    return words | np.where(values < 0, np.uint32(SIGN), np.uint32(0))


def update_sequential(
    weights: np.ndarray,
    devices: np.ndarray,
    words_x: np.ndarray,
    words_d: np.ndarray,
    noise: float,
    multiplicative: bool,
    power: bool,
    random: np.random.Generator,
) -> None:
    """What `kernels.pulsed.update` and `update_power` do, pulse by pulse, in double precision; changes `weights` (float64)."""
    plane = devices.transpose(2, 0, 1, 3).reshape(devices.shape[2], *weights.shape).astype(np.float64)
    if len(plane) == 6:
        highest, lowest = plane[HIGHEST], plane[LOWEST]
    else:
        highest, lowest = plane[TARGET_UP], plane[TARGET_DOWN]
    for x, d in zip(words_x, words_d, strict=True):
        d = d[: len(weights)]
        down = (x[None, :] ^ d[:, None]) > TRAIN
        for bit in range(LONGEST):
            both = ((x[None, :] & d[:, None]) >> np.uint32(bit)) & 1 == 1
            if power:
                size = np.where(down, plane[2], plane[0])
                left = np.where(down, weights - lowest, highest - weights) / np.maximum(highest - lowest, 1e-30)
                moved = size * np.maximum(left, 0) ** np.where(down, plane[3], plane[1])
            else:
                target = np.where(down, plane[TARGET_DOWN], plane[TARGET_UP])
                share = 1 - 2 ** -np.where(down, plane[RATE_DOWN], plane[RATE_UP])
                size = np.abs(target) * share
                moved = np.abs(target - weights) * share
            error = noise * (moved if multiplicative else size) * random.standard_normal(weights.shape)
            after = np.clip(weights + np.where(down, -moved, moved) + error, lowest, highest)
            weights[...] = np.where(both, after, weights)
