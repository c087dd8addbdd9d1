"""The interface of a pulsed device: one pulse up or down moves the weight w by a step that depends on w.

    up    w ← w + d⁺ f⁺(w) + σ d⁺ ξ          down    w ← w − d⁻ f⁻(w) + σ d⁻ ξ          then clipped to [b⁻, b⁺]

with ξ a new standard normal number for every pulse (multiplicative noise: the step times 1 + σ ξ). Every cross-point has its
own d± and b±, drawn once:

    d± = dw_min |1 + dw_min_dtod ξ ± (up_down + up_down_dtod ξ')|,   b± = ±w_max (1 + w_max_dtod ξ±)

Concrete devices choose f±. Weights are pure numbers; on ±0.6 a step of 0.001 makes the usual 1,200 states.
Sources: Gokmen & Vlasov, Front. Neurosci. 10, 333 (2016); Gokmen & Haensch (2020); Gokmen (2021).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from analog_glue.errors import require_argument
from analog_glue.in_situ.devices.drift import Drift
from analog_glue.in_situ.kernels.lanes import LANES
from analog_glue.in_situ.kernels.pulsed import HIGHEST, LOWEST, RATE_DOWN, RATE_UP, TARGET_DOWN, TARGET_UP
from analog_glue.seeding import key

SMALLEST_BOUND = 0.05  # of `w_max`: devices drawn with a smaller range get this one
STEEPEST = 0.95  # of the way to the bound: the largest share that one pulse may move a device
FLATTEST = 1e-6  # a step is constant if its slope is less than this


@dataclass(frozen=True)
class Steps:
    """What every cross-point draws; all arrays (outputs, inputs), in units of the weight."""

    up: np.ndarray  # d⁺
    down: np.ndarray  # d⁻
    highest: np.ndarray  # b⁺ > 0
    lowest: np.ndarray  # b⁻ < 0


@dataclass(frozen=True)
class PulsedArray:
    """An array of devices: parameters that never change, and weights that every update changes in place.

    `weights` and `reference` are float32 (outputs, padded inputs); the padding never moves. `devices` is
    (outputs, padded inputs / 16, planes, 16), see `kernels.pulsed.update`.
    """

    weights: np.ndarray
    reference: np.ndarray  # what a read subtracts: the weights of the reference devices
    devices: np.ndarray
    inputs: int
    step: float  # mean of one pulse at w = 0
    noise: float  # σ
    multiplicative: bool
    power: bool  # whether `devices` are those of `kernels.pulsed.update_power`
    highest_rate: float  # largest log2(1/q) of any device and direction; infinite where steps are not linear in w
    kept: Callable[[float], np.ndarray | float]  # the share of `values` that is left after a time [s] without pulses

    @property
    def outputs(self) -> int:
        return len(self.weights)

    @property
    def values(self) -> np.ndarray:
        """What the array stands for, (outputs, inputs), as a new array."""
        return (self.weights - self.reference)[:, : self.inputs]

    @property
    def gentle_to(self) -> float:
        """Up to how many pulses the short way of `kernels.pulsed.update` may be taken; 0: never."""
        soft = not self.power and not self.multiplicative and self.devices.shape[2] == 4
        return 1 / self.highest_rate if soft else 0.0

    def write(self, values: np.ndarray) -> None:
        """Set the weights to `values` (outputs, inputs), clipped to what each device can hold."""
        planes = self.devices.shape[2]
        high, low = (HIGHEST, LOWEST) if planes == 6 else (TARGET_UP, TARGET_DOWN)
        wanted = padded(values.astype(np.float32)) + self.reference
        self.weights[...] = np.clip(wanted, unpacked(self.devices, low), unpacked(self.devices, high))

    def age(self, t: float) -> None:
        """Let the devices drift from the last pulse to `t` [s] after it."""
        self.weights[:, : self.inputs] = self.reference[:, : self.inputs] + self.values * self.kept(t)


@dataclass(frozen=True, kw_only=True)
class PulsedDevice(ABC):
    """One kind of pulsed device. Concrete devices are frozen dataclasses whose fields are the keys of their yaml."""

    dw_min: float = 0.001  # mean step of one pulse at w = 0 (power steps: at the far bound)
    dw_min_dtod: float = 0.3  # relative spread of the step from device to device
    dw_min_std: float = 0.3  # σ: noise of one pulse in units of the device's own step
    w_max: float = 0.6  # mean bound
    w_max_dtod: float = 0.3  # relative spread of each bound
    up_down: float = 0.0  # mean imbalance: up steps larger, down steps smaller by this share
    up_down_dtod: float = 0.01  # its spread from device to device
    multiplicative_noise: bool = False  # whether a step scales its noise, too
    drift: Drift = field(default_factory=Drift)  # after training

    def __post_init__(self) -> None:
        require_argument(self.w_max > 0, "w_max", "be positive", self.w_max)
        require_argument(0 < self.dw_min < self.w_max, "dw_min", f"lie between 0 and `w_max` = {self.w_max:g}", self.dw_min)
        for name in ("dw_min_dtod", "dw_min_std", "w_max_dtod", "up_down_dtod"):
            require_argument(getattr(self, name) >= 0, name, "be at least 0", getattr(self, name))
        require_argument(abs(self.up_down) < 1, "up_down", "lie in (−1, 1)", self.up_down)

    @property
    def step(self) -> float:
        """Mean step of one pulse at w = 0, in which learning rates and thresholds are counted."""
        return self.dw_min

    @property
    def states(self) -> float:
        """Number of such steps from bound to bound."""
        return 2 * self.w_max / self.step

    def with_states(self, states: float) -> "PulsedDevice":
        """The same device with another step: `states` of them on its range."""
        return replace(self, dw_min=self.dw_min / self.step * 2 * self.w_max / states)

    def draw(self, outputs: int, inputs: int, seed: int, name: str) -> PulsedArray:
        """Make an array of devices, all at weight 0; the same seed and name give the same devices."""
        random = np.random.Generator(np.random.Philox(key(seed, "pulsed devices", name)))
        steps = self._steps(random, (outputs, inputs))
        devices = packed(self.planes(steps, random))
        shape = (outputs, devices.shape[1] * LANES)
        return PulsedArray(
            aligned(np.zeros(shape, np.float32)), aligned(np.zeros(shape, np.float32)), devices, inputs, self.step,
            self.dw_min_std, self.multiplicative_noise, self.power,
            float("inf") if self.power else float(devices[:, :, [RATE_UP, RATE_DOWN]].max()),
            partial(self.drift.kept, shape=(outputs, inputs), seed=seed, name=name),
        )  # fmt: skip

    @abstractmethod
    def planes(self, steps: Steps, random: np.random.Generator) -> np.ndarray:
        """Parameters of the kernel (planes, outputs, inputs)."""

    @property
    def power(self) -> bool:
        """Whether steps depend on w otherwise than linearly."""
        return False

    def _steps(self, random: np.random.Generator, shape: tuple[int, int]) -> Steps:
        def spread() -> np.ndarray:
            return random.standard_normal(shape)

        size = 1 + self.dw_min_dtod * spread()
        imbalance = self.up_down + self.up_down_dtod * spread()
        bounds = [self.w_max * np.maximum(1 + self.w_max_dtod * spread(), SMALLEST_BOUND) for _ in range(2)]
        return Steps(self.dw_min * np.abs(size + imbalance), self.dw_min * np.abs(size - imbalance), bounds[0], -bounds[1])


def linear_planes(steps: Steps, slope_up: np.ndarray | float, slope_down: np.ndarray | float) -> np.ndarray:
    """Target and rate of both directions for steps d (1 − slope w / b): slope 1 stops at the bound, 0 is constant.

    Steps too large or too flat for the kernel are made smaller or steeper; a bound that is a target stays where it is.
    """
    planes = []
    for step, bound, slope in ((steps.up, steps.highest, slope_up), (steps.down, steps.lowest, slope_down)):
        share = step / np.abs(bound) * slope  # of the way to the target, moved by one pulse
        share = np.where(np.abs(share) < FLATTEST, FLATTEST, np.minimum(share, STEEPEST))
        target = np.where(np.equal(slope, 1), bound, np.sign(bound) * step / share)
        planes += [target, -np.log2(1 - share)]
    return np.stack(planes)


def symmetry_point(array: PulsedArray) -> np.ndarray:
    """Weights (outputs, padded inputs) at which a mean step up and a mean step down are of one size.

    With steps r (b − w) towards the target b of a direction, w* = (r⁺ b⁺ + r⁻ b⁻) / (r⁺ + r⁻), which is
    (a⁺ − a⁻) / (a⁺/b⁺ + a⁻/|b⁻|) in steps a = r |b| at w = 0 (Kim et al., arXiv 1907.10228).
    """
    planes = [unpacked(array.devices, plane).astype(np.float64) for plane in range(array.devices.shape[2])]
    if array.power:
        (a_up, gamma_up, a_down, gamma_down), (highest, lowest) = planes[:4], planes[4:]
        low, high, width = lowest, highest, np.maximum(highest - lowest, 1e-30)
        for _ in range(40):  # halvings: the step up falls and the step down grows with w
            w = (low + high) / 2
            too_high = a_up * ((highest - w) / width) ** gamma_up < a_down * ((w - lowest) / width) ** gamma_down
            low, high = np.where(too_high, low, w), np.where(too_high, w, high)
        return low
    r_up, r_down = (1 - 2.0 ** -planes[rate] for rate in (RATE_UP, RATE_DOWN))
    w = (r_up * planes[TARGET_UP] + r_down * planes[TARGET_DOWN]) / np.maximum(r_up + r_down, 1e-30)
    if len(planes) == 6:
        return np.clip(w, planes[LOWEST], planes[HIGHEST])
    return w


def padded(rows: np.ndarray) -> np.ndarray:
    """`rows` (…, inputs) with zeros up to a multiple of `LANES`, aligned for vector instructions."""
    missing = -rows.shape[-1] % LANES
    return aligned(np.concatenate([rows, np.zeros((*rows.shape[:-1], missing), rows.dtype)], axis=-1))


def packed(planes: np.ndarray) -> np.ndarray:
    """(planes, outputs, inputs) → (outputs, inputs / 16, planes, 16), as the kernel reads them."""
    full = padded(planes.astype(np.float32))
    number, outputs, inputs = full.shape
    return aligned(full.reshape(number, outputs, inputs // LANES, LANES).transpose(1, 2, 0, 3))


def unpacked(devices: np.ndarray, plane: int) -> np.ndarray:
    """One plane of parameters as (outputs, padded inputs)."""
    return devices[:, :, plane].reshape(len(devices), -1)


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy that begins at a multiple of 64 bytes, as vectors of 16 numbers like it."""
    buffer = np.empty(array.nbytes + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    copy = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
