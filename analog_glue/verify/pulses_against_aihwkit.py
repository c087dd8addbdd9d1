"""`analog-glue verify --against aihwkit`: what pulses, products and transfers do to weights, against the toolkit's C++ tile.

The tile gets the parameters of our devices, cross-point by cross-point, and the same weights, inputs and gradients. Then

1. without noise, a sequence of pulses must leave the same weights on both sides, and alternating pulses our symmetry point;
2. with noise, changes by one update must agree in mean (of all devices together, and device by device), in spread, and in how
   devices that share a train of pulses go together;
3. descent on soft bounds with gradients of both signs must end in the same place with the same spread;
4. noisy products must agree in mean and spread, with and without management, forward and transposed;
5. Tiki-Taka and TTv2: without noise the same A, H and C, step by step, with noise the same in mean and spread.

Sampling errors come from the scatter between repeats, since devices of one update share trains. What differs on purpose:

- The toolkit descends, W ← W − η d ⊗ x, so it gets −d. Soft bounds have multiplicative noise there unless told otherwise, and
  its power-step device has no other; its default slopes refer to the mean bound, which the parameters given here replace.
- Where an update wants more pulses than a train has bits, the toolkit lets only the gradient's side saturate, here both do:
  updates here want no more.
- A constant step has a slope of `FLATTEST` here.
- Without update management the toolkit scales both sides alike. Here management is always on, so it is compared where the
  largest input equals the largest gradient, and management does nothing.
- Probabilities of pulses have 7 dithered binary digits here, which adds up to `DITHER` to the variance of changes.
- The toolkit draws its normal numbers from a list of 32,768 that every tile makes once, so tolerances contain the error of the
  lists of `TILES` tiles. It takes no seed: only our numbers are the same in every run.
- Bound management looks at outputs behind the ADC there, before it here: a vector whose largest output lies within half an LSB
  of the bound is repeated on one side alone, which is one or two of 50 at most.
- Half-way codes are rounded to even there, up here. A halved largest input is one, so the DAC has 128 steps in that case.
- The toolkit has no reference devices: A has symmetric steps here, so that its symmetry point is 0 without them.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from analog_glue.in_situ.devices.device import FLATTEST, PulsedArray, PulsedDevice, padded, symmetry_point
from analog_glue.in_situ.devices.linear_step import LinearStep
from analog_glue.in_situ.devices.power_step import PowerStep
from analog_glue.in_situ.devices.soft_bounds import SoftBounds
from analog_glue.in_situ.devices.symmetric_linear import SymmetricLinear
from analog_glue.in_situ.kernels.matvec import BACKWARD, FORWARD, IO, analog_product
from analog_glue.in_situ.nn.learner import Learner, Pulses, Stream
from analog_glue.in_situ.training.mode import Periphery
from analog_glue.in_situ.training.sgd_pulsed import pulse
from analog_glue.in_situ.training.tiki_taka import TikiTaka
from analog_glue.in_situ.training.ttv2 import TTv2
from analog_glue.seeding import key
from analog_glue.verify.check import Check
from analog_glue.verify.their_tile import Sending, TheirTile, their_config, their_device, their_io, their_pulses

SIZE = 64
TILES, REPEATS = 8, 250  # tiles, each with its own list of normal numbers, and samples of each
LIST = 32_768  # normal numbers of a tile
DITHER = 2e-3  # of a variance
ROUNDING = 1e-3  # [steps] in a weight after hundreds of pulses in float32
DEVICE: dict[str, Any] = {"dw_min": 0.01, "dw_min_dtod": 0.2, "dw_min_std": 0.3, "w_max_dtod": 0.1, "up_down_dtod": 0.05}
DEVICES: dict[str, PulsedDevice] = {
    "soft bounds": SoftBounds(**DEVICE),
    "constant step": SymmetricLinear(**DEVICE),
    "soft bounds, mult.": SoftBounds(**DEVICE, multiplicative_noise=True),
    "linear step": LinearStep(**DEVICE),
    "power step": PowerStep(**DEVICE, multiplicative_noise=True),
}


SENDINGS = {
    "managed": Sending(60.0),  # wants 12 pulses of 31
    "31 bits": Sending(60.0, managed_length=False),
    "unbalanced": Sending(12.0, managed_length=False, balanced=False),
    "all bits on": Sending(31.0, balanced=False),  # every device gets 31 pulses
}
COMPARED = [
    *((device, sending) for device in ("soft bounds", "constant step") for sending in SENDINGS),
    *((device, "managed") for device in ("soft bounds, mult.", "linear step", "power step")),
]  # fmt: skip


def pulse_checks(seed: int = 0) -> Iterator[Check]:
    """Compare with aihwkit's tile, which must work here (`why_not`): `measured` is ours, `expected` the toolkit's."""
    with torch.no_grad():
        yield from _without_noise(seed)
        for name, sending in COMPARED:
            yield from _one_update(name, sending, seed)
        yield from _fixed_point(seed)
        yield from _products(seed)
        yield from _transfers(seed)


# --- 1. without noise ------------------------------------------------------------------------------------------------------


def _without_noise(seed: int) -> Iterator[Check]:
    random = np.random.default_rng(key(seed, "pulses without noise"))
    pulses = 300
    for name, noisy in DEVICES.items():
        if noisy.multiplicative_noise and not noisy.power:
            continue  # the same without noise
        device = replace(noisy, dw_min_std=0.0)
        array, start = _started(device, seed)
        tile = TheirTile(their_config(device, Sending(1.0)), [array], start, device.step)
        for step, (x, d) in enumerate(random.choice(np.array([-1, 1], np.float32), (pulses, 2, 1, SIZE))):
            _pulse(array, x, d, device.step, Pulses(), step, seed)
            tile.update(x, d)
        off = np.abs(_weights(array) - tile.weights()).max() / device.dw_min
        slope = pulses * FLATTEST * 2 * device.w_max / device.dw_min if isinstance(device, SymmetricLinear) else 0.0
        yield Check(f"{name}: {pulses} pulses, largest difference", off, 0.0, ROUNDING + slope, "steps")
        if isinstance(device, SymmetricLinear):
            continue  # it has no symmetry point
        one = np.ones((1, SIZE), np.float32)
        for _ in range(3000):  # up and down; the slowest device needs them
            tile.update(one, -one)
            below = tile.weights()
            tile.update(one, one)
        off = np.abs(symmetry_point(array)[:, :SIZE] - (below + tile.weights()) / 2).max() / device.dw_min
        # Bounds of unequal size shift the middle of the last two pulses by up to (r⁺ − r⁻) / (r⁺ + r⁻) of half a step.
        yield Check(f"{name}: symmetry point, largest difference", off, 0.0, 0.5, "steps")


# --- 2. one update ---------------------------------------------------------------------------------------------------------


def _one_update(kind: str, how: str, seed: int) -> Iterator[Check]:
    device, sending = DEVICES[kind], SENDINGS[how]
    random = np.random.default_rng(key(seed, "one update"))
    array, start = _started(device, seed)
    if how == "all bits on":
        x, d = random.choice(np.array([-1, 1], np.float32), (2, 1, SIZE))
    else:
        x, d = random.uniform(-1, 1, (2, 1, SIZE)).astype(np.float32)
        x[0, :2], d[0, :2] = (1, 0), (1, 0)  # the largest, and one that stays
        d *= 0.2 if sending.balanced else 1
    rate = sending.rate * device.step
    pulses = Pulses(managed=sending.managed_length)
    ours = np.empty((TILES * REPEATS, SIZE, SIZE), np.float32)
    for step in range(len(ours)):
        array.weights[:, :SIZE] = start
        _pulse(array, x, d, rate, pulses, step, seed)
        ours[step] = _weights(array) - start
    theirs = np.empty_like(ours)
    for first in range(0, len(ours), REPEATS):
        tile = TheirTile(their_config(device, sending), [array], start, rate)
        for step in range(first, first + REPEATS):
            tile.reset()
            tile.update(x, d)
            theirs[step] = tile.weights() - start

    # In units of steps, and up is where the gradient points.
    mine, other = (changes * (np.sign(d).T * np.sign(x) / device.dw_min) for changes in (ours, theirs))
    # The mean of a list is added with every pulse.
    listed = device.dw_min_std * abs(float(other.mean())) / math.sqrt(TILES * LIST)
    title = f"{kind}, {how}"
    yield _compared(f"{title}: mean", mine.mean((1, 2)), other.mean((1, 2)), "steps", listed)
    # Devices on the diagonal share no train, so their means are independent.
    a, b = (np.diagonal(changes, axis1=1, axis2=2)[:, 1:].astype(np.float64) for changes in (mine, other))
    moves = b.std(0) > 0
    z = (a.mean(0) - b.mean(0))[moves] / np.sqrt((a.var(0) + b.var(0))[moves] / len(a))
    yield Check(f"{title}: device by device", (z**2).mean(), 1.0, 5 * math.sqrt(2 / moves.sum()), "σ²")
    a, b = (changes - changes.mean(0) for changes in (mine, other))
    variance = float((b**2).mean())
    listed, dither = variance * math.sqrt(2 / TILES / LIST), DITHER * variance
    yield _compared(f"{title}: variance", (a**2).mean((1, 2)), (b**2).mean((1, 2)), "", listed, dither)
    if how != "all bits on":  # where chance does not come from trains
        for name, i, j in (("row", 0, 1), ("column", 1, 0)):
            ours, theirs = ((c[:, i:, j:] * c[:, : SIZE - i, : SIZE - j]).mean((1, 2)) for c in (a, b))
            yield _compared(f"{title}: covariance in a {name}", ours, theirs, "", 0, dither)


def _compared(name: str, ours: np.ndarray, theirs: np.ndarray, unit: str, listed: float = 0.0, known: float = 0.0) -> Check:
    """Means over independent repeats; `listed`: standard error by the toolkit's lists, `known`: what may differ anyway."""
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    error = math.sqrt((ours.var(ddof=1) + theirs.var(ddof=1)) / len(ours) + listed**2)
    return Check(name, float(ours.mean()), float(theirs.mean()), 5 * error + known, unit)


def _started(device: PulsedDevice, seed: int, outputs: int = SIZE, inputs: int = SIZE) -> tuple[PulsedArray, np.ndarray]:
    """An array and its weights (outputs, inputs), spread over the half of its range."""
    array = device.draw(outputs, inputs, seed, "pulses against aihwkit")
    random = np.random.default_rng(key(seed, "weights against aihwkit"))
    array.write(random.uniform(-device.w_max / 2, device.w_max / 2, (outputs, inputs)))
    return array, _weights(array)


def _weights(array: PulsedArray) -> np.ndarray:
    return array.weights[:, : array.inputs].copy()


def _pulse(array: PulsedArray, x: np.ndarray, d: np.ndarray, rate: float, pulses: Pulses, step: int, seed: int) -> None:
    pulse(array, padded(x), padded(d), rate, pulses, step, Stream.of(seed, 0))


# --- 3. descent ------------------------------------------------------------------------------------------------------------


def _fixed_point(seed: int) -> Iterator[Check]:
    """Single pulses, up with probability 0.7, until the asymmetry of soft bounds holds them up."""
    device, count = DEVICES["soft bounds"], 4096
    array, start = _started(device, seed, count, 1)
    tile = TheirTile(their_config(device, Sending(1.0)), [array], start, device.dw_min)
    random = np.random.default_rng(key(seed, "descent"))
    mine, other = (np.where(random.random((400, count)) < 0.7, 1, -1).astype(np.float32) for _ in range(2))
    x = np.ones((400, 1), np.float32)
    _pulse(array, x, mine, device.dw_min, Pulses(), 0, seed)
    tile.update(x, other)
    ours, theirs = _weights(array)[:, 0], tile.weights()[:, 0]
    yield _compared("soft bounds, 70 % of pulses up: where it ends", ours, theirs, "")
    ours, theirs = ((ends - ends.mean()) ** 2 for ends in (ours, theirs))
    yield _compared("soft bounds, 70 % of pulses up: variance there", ours, theirs, "")


# --- 4. products -----------------------------------------------------------------------------------------------------------


def _products(seed: int) -> Iterator[Check]:
    device = DEVICES["constant step"]
    array, weights = _started(device, seed)
    x = np.random.default_rng(key(seed, "inputs of products")).uniform(-0.5, 0.5, (50, SIZE)).astype(np.float32)
    periphery = Periphery()
    forward, backward = periphery.forward, periphery.backward
    largest = float(np.abs(weights @ x[0]).max())
    low = largest / float(np.abs(x[0]).max()) / 1.5  # so that the largest output passes after one halving
    cases: tuple[tuple[str, IO, bool], ...] = (
        ("product", forward, False),
        ("product, repeated", forward._replace(bound=low, dac_steps=128.0), False),
        ("product, unmanaged, clipped", periphery.single._replace(bound=largest / 1.5), False),
        ("product, transposed", backward, True),
    )
    for name, io, transposed in cases:
        ours = _our_product(weights, io, transposed, seed)
        quiet = io._replace(noise=0.0)
        a, b = _our_product(weights, quiet, transposed, seed)(x), _their_product(array, weights, quiet, transposed)(x)
        other = float((np.abs(a - b) > 0.1 * io.bound / io.adc_steps * np.abs(x).max(1, keepdims=True)).mean())
        # Sums in another order differ by 10⁻⁶, against steps of 10⁻²: one of 10⁴ outputs may get another code.
        tolerance = 2e-3 + (2 / len(x) if io.bound == low else 0)
        yield Check(f"{name}: other codes", other, 0.0, tolerance, "")

        same = np.repeat(x[:1], REPEATS, axis=0)
        exact = x[0] @ weights if transposed else weights @ x[0]
        mine = ours(np.repeat(x[:1], TILES * REPEATS, axis=0))
        their = np.concatenate([_their_product(array, weights, io, transposed)(same) for _ in range(TILES)])
        listed = float(their.std(0).mean() * abs(exact.sum()) / (exact @ exact)) / math.sqrt(TILES * LIST)
        gains = [y @ exact / (exact @ exact) for y in (mine, their)]
        yield _compared(f"{name}: gain", gains[0], gains[1], "", listed)
        a, b = (y - y.mean(0) for y in (mine, their))
        listed = float((b**2).mean()) * math.sqrt(2 / TILES / LIST)
        yield _compared(f"{name}: variance", (a**2).mean(1), (b**2).mean(1), "", listed)


def _our_product(weights: np.ndarray, io: IO, transposed: bool, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    matrix, stream, rows = padded(weights), Stream.of(seed, 0), np.arange(SIZE)
    codes, normals = np.empty(SIZE, np.float32), np.empty(128, np.float32)

    def product(x: np.ndarray) -> np.ndarray:
        out = np.empty_like(x)
        for step in range(len(x)):
            analog_product(
                out[step], matrix, x[step], rows, SIZE, io, 1.0, BACKWARD if transposed else FORWARD, step, stream.array,
                stream.k0, stream.k1, codes, normals, not transposed,
            )  # fmt: skip
        return out

    return product


def _their_product(array: PulsedArray, weights: np.ndarray, io: IO, transposed: bool) -> Callable[[np.ndarray], np.ndarray]:
    tile = TheirTile(their_config(DEVICES["constant step"], Sending(1.0), io, io), [array], weights, 0.0)

    def product(x: np.ndarray) -> np.ndarray:
        return (tile.tile.backward if transposed else tile.tile.forward)(torch.from_numpy(x), False).numpy()

    return product


# --- 5. transfers ----------------------------------------------------------------------------------------------------------

OUTPUTS, INPUTS, UPDATES, RUNS = 16, 8, 400, 200
SYMMETRIC = SoftBounds(dw_min=0.01, up_down_dtod=0.0, w_max_dtod=0.0)
QUIET = Periphery(
    dac_bits=0, adc_bits=0, output_bound=math.inf, output_noise=0.0, noise_management=False, bound_management=False
)


def _transfers(seed: int) -> Iterator[Check]:
    random = np.random.default_rng(key(seed, "transfers"))
    start = random.uniform(-0.3, 0.3, (OUTPUTS, INPUTS)).astype(np.float32)
    # Gradients that keep their signs on average, so that A charges and C moves.
    sizes, gradients = random.uniform(0.3, 1, (UPDATES, INPUTS)), random.normal(0.3, 0.5, (UPDATES, OUTPUTS))
    x, d = (sizes * random.choice([-1, 1], INPUTS)).astype(np.float32), gradients.astype(np.float32)

    quiet = replace(SYMMETRIC, dw_min_std=0.0)
    mode: TTv2 | TikiTaka = TTv2(transfer_rate=0.05, threshold=0.8, periphery=QUIET)
    learner = mode.learner(quiet, start, seed, 0)
    tile = _their_transfer(mode, learner, quiet, start, quiet.dw_min)
    learner.update(padded(np.sign(x)), padded(np.sign(d)), quiet.dw_min, 0)
    tile.update(np.sign(x), np.sign(d))
    yield Check("TTv2 without noise: share of C that moved", float((_weights(learner.c) != start).mean()), 1.0, 0.1, "")
    for name, ours, theirs in zip("AHC", _state(learner), _their_state(tile, mode), strict=True):
        off = float(np.abs(ours - theirs).max()) / quiet.dw_min
        yield Check(f"TTv2 without noise, {UPDATES} updates: {name}", off, 0.0, ROUNDING, "steps")

    for title, mode in (
        ("TTv2", TTv2(transfer_rate=0.05, threshold=0.8)),
        ("Tiki-Taka", TikiTaka(transfer_rate=0.03)),
    ):
        rate = 5 * SYMMETRIC.dw_min
        our_runs: list[list[np.ndarray]] = []
        their_runs: list[list[np.ndarray]] = []
        learner = mode.learner(SYMMETRIC, start, seed, 0)
        for run in range(RUNS):
            learner = replace(learner, stream=Stream.of(seed, run))
            learner.a.weights[...] = learner.a.reference
            learner.c.write(start)
            learner.state().get("h", np.empty(0))[...] = 0
            learner.update(padded(x), padded(d), rate, 0)
            our_runs.append(_state(learner))
            tile = _their_transfer(mode, learner, SYMMETRIC, start, rate)
            tile.update(x, d)
            their_runs.append(_their_state(tile, mode))
        for number, name in enumerate("AHC" if isinstance(mode, TTv2) else "AC"):
            up = np.sign(d.mean(0))[:, None] * np.sign(x[0])
            a, b = (np.stack([run[number] for run in runs]) * up / SYMMETRIC.dw_min for runs in (our_runs, their_runs))
            yield _compared(f"{title}, {UPDATES} updates: mean of {name}", a.mean((1, 2)), b.mean((1, 2)), "steps")
            a, b = (((runs - runs.mean(0)) ** 2).mean((1, 2)) for runs in (a, b))
            yield _compared(f"{title}, {UPDATES} updates: variance of {name}", a, b, "")


def _their_transfer(mode: TTv2 | TikiTaka, learner: Any, device: PulsedDevice, start: np.ndarray, rate: float) -> TheirTile:
    from aihwkit.simulator.configs import UnitCellRPUConfig, UpdateParameters, compounds

    both = {
        "unit_cell_devices": [their_device(device), their_device(device)], "transfer_every": mode.transfer_every,
        "units_in_mbatch": False, "transfer_lr": mode.transfer_rate, "scale_transfer_lr": False,
        "transfer_forward": their_io(mode.periphery.single),
    }  # fmt: skip
    if isinstance(mode, TTv2):
        compound = compounds.BufferedTransferCompound(**both, thres_scale=mode.threshold, momentum=mode.momentum)
    else:
        trains = UpdateParameters(desired_bl=mode.pulses.longest, update_bl_management=False, update_management=False)
        compound = compounds.TransferCompound(**both, transfer_update=trains)
    config = UnitCellRPUConfig(device=compound, update=their_pulses(Sending(1.0)))
    return TheirTile(config, [learner.a, learner.c], start, rate)


def _state(learner: Learner) -> list[np.ndarray]:
    """A, H where there is one, C."""
    state = learner.state()
    return [state[name][:, :INPUTS].copy() for name in ("a", "h", "c") if name in state]


def _their_state(tile: TheirTile, mode: TTv2 | TikiTaka) -> list[np.ndarray]:
    h = [tile.hidden("buffered_FP_weight_0")] if isinstance(mode, TTv2) else []
    return [tile.hidden("hidden_weights_0"), *h, tile.weights()]
