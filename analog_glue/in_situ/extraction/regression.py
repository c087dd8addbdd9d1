"""Weights out of an analog array by regression: random inputs through the noisy product, then least squares.

    Ŵ = Y Xᵀ (X Xᵀ)⁻¹                                   (Gokmen 2021, Eq. 4)

The sums X Xᵀ and Y Xᵀ are collected product by product; the inputs come from a seed, so a host needs to store neither. For
inputs uniform in ±a, variance a²/3, and outputs with noise of standard deviation sd_y the error of a weight is

    sd_W = √3 · sd_y / (a √(N − n − 1))

after N products with n inputs: least squares with random inputs has the mean inverse 3 I / (a² (N − n − 1)). An output beyond
the ADC's range is cut off, which pulls all weights of its row towards zero and shows up in no residual as what it is. Hence
a is the largest amplitude at which the ADC does not saturate (`unsaturated_amplitude`), 1 at most.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from analog_glue.errors import require_argument
from analog_glue.in_situ.kernels.lanes import LANES
from analog_glue.in_situ.kernels.matvec import IO, READ, all_rows, analog_product, transpose
from analog_glue.in_situ.kernels.rows import analog_row
from analog_glue.in_situ.nn.learner import Stream, zeros

CHUNK = 256  # products between two additions to the sums
SMALLEST_AMPLITUDE = 2.0**-5  # [of the DAC's range] below which no input is scaled: few codes are left


@dataclass
class Regression:
    """The sums of a least-squares problem with `inputs` unknowns for each of `outputs` rows; grows with every product."""

    outputs: int
    inputs: int
    xx: np.ndarray = field(init=False)  # X Xᵀ (inputs, inputs)
    yx: np.ndarray = field(init=False)  # Y Xᵀ (outputs, inputs)
    yy: np.ndarray = field(init=False)  # Σ y² (outputs,)
    products: int = 0
    amplitude: float = 1.0  # of the inputs; only kept here

    def __post_init__(self) -> None:
        self.xx = np.zeros((self.inputs, self.inputs))
        self.yx = np.zeros((self.outputs, self.inputs))
        self.yy = np.zeros(self.outputs)

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        """Take in inputs (products, inputs) and what came out (products, outputs)."""
        x, y = x.astype(np.float64), y.astype(np.float64)
        self.xx += x.T @ x
        self.yx += y.T @ x
        self.yy += (y * y).sum(0)
        self.products += len(x)

    def apply(self, weights: np.ndarray, x: np.ndarray, io: IO, first: int, stream: Stream) -> None:
        """Send inputs `x`, numbers `first` … of `stream`, through an array, and take in what comes out; see `products`."""
        self.add(quantised(x, io), products(weights, self.inputs, x, io, first, stream))

    def state(self) -> dict[str, np.ndarray]:
        """The sums by name, as `load` takes them."""
        numbers = {"products": np.array([self.products]), "amplitude": np.array([self.amplitude])}
        return {"xx": self.xx, "yx": self.yx, "yy": self.yy, **numbers}

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Inverse of `state`."""
        self.xx[...], self.yx[...], self.yy[...] = state["xx"], state["yx"], state["yy"]
        self.products, self.amplitude = int(state["products"][0]), float(state["amplitude"][0])

    def weights(self) -> np.ndarray:
        """Ŵ (outputs, inputs).

        Raises:
            WrongArgument: fewer products than unknowns.
        """
        enough = self.products >= self.inputs
        must = f"be at least the number of inputs, {self.inputs}"
        require_argument(enough, "products", must, self.products, "Apply more random inputs.")
        return np.linalg.solve(self.xx, self.yx.T).T

    def output_noise(self) -> float:
        """sd_y, from what the fit leaves unexplained; nan without products to spare."""
        spare = self.products - self.inputs
        if spare <= 0:
            return math.nan
        unexplained = self.yy.sum() - (self.weights() * self.yx).sum()
        return math.sqrt(max(unexplained, 0) / (spare * self.outputs))

    def weight_error(self) -> float:
        """Estimated standard deviation of Ŵ's error, sd_y √(tr (X Xᵀ)⁻¹ / n); nan without products to spare."""
        sd_y = self.output_noise()
        return sd_y if math.isnan(sd_y) else sd_y * math.sqrt(np.trace(np.linalg.inv(self.xx)) / self.inputs)


def expected_error(output_noise: float, products: int, inputs: int, amplitude: float = 1.0) -> float:
    """sd_W of the module's law for inputs uniform in ±`amplitude`; nan for `products` ≤ `inputs` + 1."""
    spare = products - inputs - 1
    return math.sqrt(3) * output_noise / (amplitude * math.sqrt(spare)) if spare > 0 else math.nan


def random_inputs(first: int, count: int, inputs: int, amplitude: float, stream: Stream) -> np.ndarray:
    """Inputs number `first` … of a stream, float32 (count, inputs), uniform in ±`amplitude`.

    Number i does not depend on what was drawn before it when `first` and `count` are multiples of `CHUNK`.
    """
    parts = []
    for chunk in range(first // CHUNK, -(-(first + count) // CHUNK)):
        key = [int(stream.k0) << 32 | int(stream.k1), int(stream.array) << 32 | chunk]
        random = np.random.Generator(np.random.Philox(key=key))
        parts.append(random.uniform(-amplitude, amplitude, (CHUNK, inputs)).astype(np.float32))
    return np.concatenate(parts)[first % CHUNK :][:count]


def quantised(x: np.ndarray, io: IO) -> np.ndarray:
    """What the DAC makes of inputs in [−1, 1] without noise management: what a regression should use as X."""
    if not io.dac_steps:
        return x
    half = np.float32(io.dac_steps / 2)
    return np.floor(np.clip(x, -1, 1) * half + np.float32(0.5)) / half


def products(weights: np.ndarray, inputs: int, x: np.ndarray, io: IO, first: int, stream: Stream) -> np.ndarray:
    """Outputs (products, outputs) of the analog array `weights` (outputs, padded inputs) for inputs `x` (products, inputs)."""
    outputs = len(weights)
    if len(x) == 1:  # no transposed copy pays
        y = np.empty((1, outputs), np.float32)
        analog_row(y, weights, x, inputs, io, 1.0, READ + 1, first, stream.array, stream.k0, stream.k1)
        return y
    turned = zeros(inputs, -(-outputs // LANES) * LANES)
    transpose(turned, weights[:, :inputs])
    y = np.empty((len(x), outputs), np.float32)
    rows, codes = all_rows(inputs), np.empty(inputs, np.float32)
    normals = np.empty(-(-outputs // 128) * 128, np.float32)
    for i in range(len(x)):
        names = (READ + 1, first + i, stream.array, stream.k0, stream.k1)
        analog_product(y[i], turned, x[i], rows, inputs, io, 1.0, *names, codes, normals)
    return y


def unsaturated_amplitude(weights: np.ndarray, inputs: int, io: IO, stream: Stream) -> float:
    """The largest of 1, 1/√2, 1/2, … at which none of the first `CHUNK` random products reaches the last code of the ADC."""
    io, amplitude = io._replace(noise_management=False, bound_management=False), 1.0
    last_code = io.bound - (io.bound / io.adc_steps if io.adc_steps else 0)
    while amplitude > SMALLEST_AMPLITUDE:
        x = random_inputs(0, CHUNK, inputs, amplitude, stream)
        if np.abs(products(weights, inputs, x, io, 0, stream)).max() < last_code:
            break
        amplitude /= math.sqrt(2)
    return amplitude


def extract(
    weights: np.ndarray, inputs: int, io: IO, number: int, stream: Stream, amplitude: float | None = None,
    done: Callable[[int], None] = lambda _: None,
) -> Regression:  # fmt: skip
    """Apply `number` random inputs to an array and collect the sums.

    Args:
        weights: float32 (outputs, padded inputs).
        io: Converters and noise of one product; noise and bound management are not used.
        amplitude: Largest input; None: `unsaturated_amplitude`.
        done: Called with a number of products after them.
    """
    io = io._replace(noise_management=False, bound_management=False)
    sums = Regression(len(weights), inputs)
    amplitude = sums.amplitude = amplitude or unsaturated_amplitude(weights, inputs, io, stream)
    for first in range(0, number, CHUNK):
        x = random_inputs(first, min(CHUNK, number - first), inputs, amplitude, stream)
        sums.apply(weights, x, io, first, stream)
        done(len(x))
    return sums


def extract_one_hot(
    weights: np.ndarray, inputs: int, io: IO, repeats: int, stream: Stream, done: Callable[[int], None] = lambda _: None
) -> Regression:
    """Read every column `repeats` times: for comparison, it uses little of the ADC's range.

    The sums are those of single columns: Ŵ is the mean of the reads, and its error sd_y / √`repeats`. `done` as in `extract`.
    """
    io = io._replace(noise_management=False, bound_management=False)
    x, sums = np.eye(inputs, dtype=np.float32), Regression(len(weights), inputs)
    for repeat in range(repeats):
        sums.add(x, products(weights, inputs, x, io, repeat * inputs, stream))
        done(inputs)
    return sums
