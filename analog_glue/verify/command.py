"""`analog-glue verify`: is the physics right on this machine?

Groups of checks, each printed with what was measured, what is expected, the tolerance, and a verdict:

1. the laws of the PCM device (σ_prog, mean and spread of ν, Q_s, accumulated 1/f noise) against their closed forms, with
   tolerances of five sampling errors;
2. the error of whole tiles (programming, drift, compensation, periphery) in one fixed set-up against reference values that
   two independent simulations of the published equations agree on;
3. resistive wires: Kirchhoff's equations against another solver, and the law that tiles use against them;
4. products of integers against those of 64 bits, on the codes and weights that are worst for them;
5. with `--against badcrossbar`, wires against that solver itself;
6. with `--against aihwkit`, the laws and the tile product against IBM's toolkit, in distribution; and what pulses, products
   and transfers of in-situ training do, where its C++ tile works.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from analog_glue.devices.device import Device, remembered
from analog_glue.devices.ideal import Ideal
from analog_glue.devices.pcm import PCM
from analog_glue.errors import require
from analog_glue.kernels.backend import choose_kernel
from analog_glue.kernels.gaussian import NormalStream
from analog_glue.kernels.products import choose_product
from analog_glue.seeding import generator, key
from analog_glue.tiles.crossbar import Crossbar, ProgrammedCrossbar
from analog_glue.tiles.drift_compensation import compensation_factor, read_out
from analog_glue.tiles.mapping import TileGrid, normalised, weight_scale
from analog_glue.tiles.mvm import mvm
from analog_glue.tiles.operands import ReadyWeights, Scaling
from analog_glue.verify.check import Check
from analog_glue.verify.exactness import exactness_checks
from analog_glue.verify.wires import wire_checks

TIMES = {"1 s": 1.0, "1 h": 3600.0, "1 d": 86_400.0, "1 w": 604_800.0, "30 d": 2_592_000.0}  # [s]


DEVICES_PER_LAW = 200_000
PEERS = ("aihwkit", "badcrossbar")


def device_law_checks(seed: int = 0, devices: int = DEVICES_PER_LAW, kernel: str = "reference") -> Iterator[Check]:
    """Sample `devices` devices at each of several targets; tolerances are five sampling errors of each estimate."""
    pcm = PCM()
    for ghat in (0.1, 0.25, 0.5, 0.75, 1.0):
        target = torch.full((devices,), ghat * pcm.g_max)
        array = pcm.program(target, NormalStream(seed, "verify", ghat, kernel=kernel))
        # The closed forms are written out once more here, so that a wrong constant of the device cannot excuse itself.
        expected = 0.26348 + 1.9650 * ghat - 1.1731 * ghat**2
        yield _std_check(f"σ_prog at ĝ = {ghat}", array.g_prog - target, expected, "µS")
        mean = min(max(-0.0155 * math.log(ghat) + 0.0244, 0.049), 0.1)
        spread = min(max(-0.0125 * math.log(ghat) - 0.0059, 0.008), 0.045)
        nu = remembered(array.nu, "drift exponents")
        yield Check(f"mean of ν at ĝ = {ghat}", nu.mean().item(), *_folded_mean(mean, spread, devices), "")
        yield _std_check(f"spread of ν at ĝ = {ghat}", nu, _folded_std(mean, spread), "")
        # Without programming noise and drift what is left is the 1/f noise alone.
        clean = replace(array, error=None, nu=torch.zeros_like(target))
        for label, t in (("1 s", 1.0), ("30 d", 2_592_000.0)):
            relative = pcm.conductance(clean, t, NormalStream(seed, "verify 1/f", ghat, t, kernel=kernel)) / target - 1
            q_s = _q_s(ghat)
            growth = math.sqrt(math.log((t + 20.0 + 250e-9) / (2 * 250e-9)))
            if t == 1.0:
                error = 5 * q_s / math.sqrt(2 * devices)
                yield Check(f"Q_s at ĝ = {ghat}", relative.std().item() / growth, q_s, error, "")
            yield _std_check(f"1/f noise at ĝ = {ghat} after {label}", relative, q_s * growth, "of g")


def _std_check(name: str, sample: Tensor, expected: float, unit: str) -> Check:
    return Check(name, sample.std().item(), expected, 5 * expected / math.sqrt(2 * len(sample)), unit)


def _q_s(ghat: float) -> float:
    return min(0.0088 / max(ghat**0.65, 1e-3), 0.2)


def _folded_mean(mean: float, std: float, count: int) -> tuple[float, float]:
    """Mean of |N(mean, std)| and five standard errors of its estimate."""
    z = mean / std
    folded = std * math.sqrt(2 / math.pi) * math.exp(-z * z / 2) + mean * math.erf(z / math.sqrt(2))
    return folded, 5 * _folded_std(mean, std) / math.sqrt(count)


def _folded_std(mean: float, std: float) -> float:
    z = mean / std
    folded = std * math.sqrt(2 / math.pi) * math.exp(-z * z / 2) + mean * math.erf(z / math.sqrt(2))
    return math.sqrt(mean**2 + std**2 - folded**2)


# No DAC, and an ADC so fine and wide that it has no effect (but counts the output noise in its LSB).
BARE = Crossbar(dac_bits=None, adc_bits=24, adc_bound=1000.0, output_noise=0.0, read_noise=0.0, scale_per="none")


def _with_output_noise(crossbar: Crossbar, std: float) -> Crossbar:
    """`crossbar` with an output noise of `std` full-on cells."""
    return replace(crossbar, output_noise=std / crossbar.adc.lsb)


ACCEPTANCE_TILE = _with_output_noise(Crossbar(dac_bits=8, adc_bits=8, read_noise=0.0175, scale_per="none"), 0.04)


class _WithoutReadNoise(PCM):
    """PCM whose 1/f noise is off while programming noise and drift stay: only the acceptance table asks for it."""

    def accumulated_read_noise(self, t: float) -> float:
        return 0.0


@dataclass(frozen=True)
class TileSetup:
    """One row of the acceptance table: relative error [%] of a product at the five times."""

    name: str
    device: Device
    crossbar: Crossbar
    expected: tuple[float, ...]  # [%] at TIMES
    compensated: bool = True


TILE_SETUPS = (
    TileSetup("γ = 1, compensated", PCM(), ACCEPTANCE_TILE, (13.5, 15.3, 17.3, 18.6, 19.8)),
    TileSetup("γ = 0.5, compensated", PCM(noise_scale=0.5), ACCEPTANCE_TILE, (7.5, 9.8, 12.3, 14.0, 15.4)),
    TileSetup("γ = 1, not compensated", PCM(), ACCEPTANCE_TILE, (13.5, 25.6, 35.7, 41.3, 45.2), compensated=False),
    TileSetup("scale per column", PCM(), replace(ACCEPTANCE_TILE, scale_per="column"), (11.8, 13.5, 15.2, 16.5, 17.5)),
    TileSetup("noise on idle devices", PCM(idle_noise=True), ACCEPTANCE_TILE, (14.0, 15.7, 17.6, 19.0, 20.1)),
    TileSetup("no 1/f noise", _WithoutReadNoise(), ACCEPTANCE_TILE, (10.6, 12.2, 14.2, 15.6, 16.8)),
    TileSetup("no short-term read noise", PCM(), replace(ACCEPTANCE_TILE, read_noise=0.0), (13.1, 15.0, 16.9, 18.3, 19.4)),
)


PERIPHERY_SETUPS = (
    ("periphery alone", ACCEPTANCE_TILE, 3.77),
    ("DAC alone", replace(BARE, dac_bits=8), 0.39),
    ("ADC alone", replace(BARE, adc_bits=8, adc_bound=10.0), 1.01),
    ("output noise alone", _with_output_noise(BARE, 0.04), 1.76),
    ("short-term read noise alone", replace(BARE, read_noise=0.0175), 3.15),
    ("periphery of Spoon et al. alone", replace(ACCEPTANCE_TILE, adc_bits=10, output_noise=0.5), 3.22),
)


TILE_TOLERANCE = 0.3  # [%] points; the spread over tiles is 0.08


PERIPHERY_TOLERANCE = 0.05  # [%] points


def tile_error(
    setup: TileSetup, times: list[float], product: str, kernel: str, seed: int = 0, vectors: int = 1024
) -> list[float]:
    """‖y − xW‖ / ‖xW‖ [%] at each time, on four tiles of 512 × 512.

    w = clip(0.246 ξ, −1, 1); x uniform in (−1, 1), each entry zero with probability 1/2, input range 1.
    """
    rows, columns, tiles = 512, 512, 4
    draw = generator(seed, "verify tile")
    weight = torch.empty(tiles * columns, rows).normal_(generator=draw).mul_(0.246).clamp_(-1, 1)
    x = torch.rand(vectors, rows, generator=draw).mul_(2).sub_(1)
    x.mul_(torch.rand(vectors, rows, generator=draw) < 0.5)
    exact = x @ weight.t()

    def noise(*purpose: str | float) -> NormalStream:
        return NormalStream(seed, "verify", *purpose, kernel=kernel)

    grid = TileGrid.of(tiles * columns, rows, rows, columns)
    blocks = grid.to_blocks(weight)
    scale = weight_scale(blocks, grid, setup.crossbar.scale_per)
    device = setup.device
    array = ProgrammedCrossbar.program(normalised(blocks, scale), device, noise("programming"))

    at_programming = array.weights(0.0, noise("reference"))
    reference = read_out(at_programming, grid, setup.crossbar, key(seed, "verify reference read-out"), kernel)
    errors = []
    for t in times:
        now = array.weights(t, noise("1/f", t))
        digital_scale = scale
        if setup.compensated and device.drifts:
            outputs = read_out(now, grid, setup.crossbar, key(seed, "verify read-out", t), kernel)
            digital_scale = scale * grid.spread_over_columns(compensation_factor(reference, outputs))
        chosen = choose_product(product, "cpu", device.noise_floor, kernel, setup.crossbar.rows)
        ready = ReadyWeights.of(now, grid, setup.crossbar, chosen, kernel)
        scaling = Scaling.of(torch.ones(1), digital_scale, grid, setup.crossbar)
        y, _ = mvm(x, ready, scaling, key(seed, "verify read", t))
        errors.append(100 * ((y - exact).norm() / exact.norm()).item())
    return errors


def tile_checks(product: str, kernel: str, seed: int = 0) -> Iterator[Check]:
    for setup in TILE_SETUPS:
        errors = tile_error(setup, list(TIMES.values()), product, kernel, seed)
        for label, measured, expected in zip(TIMES, errors, setup.expected, strict=True):
            yield Check(f"tile error, {setup.name}, {label}", measured, expected, TILE_TOLERANCE, "%")
    for name, crossbar, expected in PERIPHERY_SETUPS:
        setup = TileSetup(name, Ideal(), crossbar, (), compensated=False)
        measured = tile_error(setup, [1.0], product, kernel, seed)[0]
        yield Check(f"ideal devices, {name}", measured, expected, PERIPHERY_TOLERANCE, "%")


def main(against: str | None = None, quick: bool = False) -> int:
    """The command: 0 when every check holds, else 1."""
    return 0 if run(against=against, quick=quick) else 1


def run(against: str | None = None, product: str = "auto", seed: int = 0, quick: bool = False, log: Any = print) -> bool:
    """Run and print all checks; True when every one holds.

    Args:
        against: "aihwkit" or "badcrossbar" adds the comparison with it, as it is installed.
        product: Which product the tiles are computed with (`runtime.product`).
        quick: Sample 20,000 instead of 200,000 devices per law (the tolerances widen with it).

    Raises:
        UserError: unknown `against`, or that package is not installed.
    """
    kernel = choose_kernel("auto", "cpu")
    devices = 20_000 if quick else DEVICES_PER_LAW
    groups = [
        ("Laws of the PCM device (tolerance: five sampling errors)", device_law_checks(seed, devices, kernel)),
        ("Whole tiles, plain float32 (expected: two independent simulations)", tile_checks("float32", "reference", seed)),
        (f"Whole tiles as runs compute them: {kernel} kernel, {product} product", tile_checks(product, kernel, seed)),
        ("Wires (expected: badcrossbar; of the law at most a tenth of the loss)", wire_checks(kernel, seed)),
        ("Exactness of integer products with extreme codes (of sums that differ)", exactness_checks(kernel)),
    ]
    left_out = None
    require(against in (None, *PEERS), "--against", f"be one of {', '.join(PEERS)}", against)
    if against == "badcrossbar":
        from analog_glue.verify.against_badcrossbar import badcrossbar_checks

        groups.append(("Wires against badcrossbar", badcrossbar_checks(kernel, seed)))
    if against == "aihwkit":
        from analog_glue.verify.against_aihwkit import aihwkit_checks
        from analog_glue.verify.pulses_against_aihwkit import pulse_checks
        from analog_glue.verify.their_tile import why_not

        groups.append(("Against aihwkit, in distribution", aihwkit_checks(seed)))
        left_out = why_not()
        if left_out is None:
            groups.append(("In-situ training against aihwkit's C++ tile, in distribution", pulse_checks(seed)))
    total = failed = 0
    for title, checks in groups:
        log(f"\n{title}")
        log(f"  {'check':<52} {'measured':>10} {'expected':>10} {'tolerance':>10}")
        for check in checks:
            total += 1
            failed += not check.holds
            verdict = "ok" if check.holds else "OFF"
            numbers = f"{check.measured:>10.4g} {check.expected:>10.4g} {check.tolerance:>10.2g}"
            log(f"  {check.name:<52} {numbers}  {check.unit:<4} {verdict}")
    if left_out is not None:
        log(f"\nIn-situ training is not compared: aihwkit's C++ tile does not work here ({left_out}).")
    log(f"\n{total - failed} of {total} checks hold.")
    return failed == 0
