"""`analog-glue verify --against aihwkit`: the same physics as IBM's toolkit, where both claim the same.

1. The laws of the PCM device, by calling the toolkit's own functions with their random numbers replaced by 0 and 1, which
   leaves mean and mean + σ: equal to float rounding.
2. DAC and ADC on the same weights: equal codes. Output noise: equal spread.
3. Whole tiles, programmed, drifted for a day and compensated: the same distribution of factors and errors, tile by tile.
4. Pulsed devices as they are drawn: mean and spread of steps, imbalance and bounds over an array.

What has to be aligned first, because the two differ on purpose:

- The toolkit keeps a programmed tile as weights and splits them into pairs again at every drift, with the largest noisy weight
  as the new g_max. Here the pair that was programmed stays. The comparison gives the toolkit a converter of constant scale.
- The toolkit programs idle devices (target 0) too; ours leave them at 0, its switch `idle_noise` off. The comparison leaves
  them at 0 on both sides, since re-splitting loses the idle device's own drift.
- The toolkit takes Q_s at the programmed conductance, we at the target: second order, part of a tolerance below.
- A mean imbalance `up_down` shrinks one direction there, and here moves both by that share; the comparison leaves it at 0.
- Its torch tile knows no short-term read noise, so that is off; its C++ tile is not used here (it takes no seed, and that of
  1.1.0, the last for Python 3.11, does not start with torch 2.13). What pulses do to devices needs that tile:
  pulses_against_aihwkit.py.
- Compensation survives reprogramming there, and checkpoints are programmed from stale references: every tile is a new layer.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from analog_glue.devices.pcm import PCM, drift_exponent_law, programming_error_std, read_noise_amplitude
from analog_glue.errors import UserError
from analog_glue.in_situ.devices.device import unpacked
from analog_glue.in_situ.devices.soft_bounds import SoftBounds
from analog_glue.in_situ.devices.symmetric_linear import SymmetricLinear
from analog_glue.in_situ.kernels.pulsed import TARGET_DOWN, TARGET_UP
from analog_glue.kernels.gaussian import NormalStream
from analog_glue.seeding import generator, key
from analog_glue.tiles.crossbar import Crossbar, ProgrammedCrossbar
from analog_glue.tiles.drift_compensation import compensation_factor, read_out
from analog_glue.tiles.mapping import TileGrid
from analog_glue.tiles.mvm import mvm
from analog_glue.tiles.operands import ReadyWeights, Scaling
from analog_glue.verify.check import Check

SIZE, TILES, VECTORS = 256, 8, 512
T = 86_400.0  # [s]
OUTPUT_NOISE = 0.04  # [full-on cells]
GHATS = (0.01, 0.1, 0.25, 0.5, 0.75, 1.0)
CROSSBAR = Crossbar(rows=SIZE, columns=SIZE, dac_bits=8, adc_bits=8, output_noise=0.0, read_noise=0.0, scale_per="none")
NOISY = replace(CROSSBAR, output_noise=OUTPUT_NOISE / CROSSBAR.adc.lsb)
SECOND_ORDER = 0.01  # of an error or a factor: Q_s at the programmed conductance instead of the target


def aihwkit_checks(seed: int = 0) -> Iterator[Check]:
    """Compare with the installed aihwkit: `measured` is ours, `expected` the toolkit's.

    Raises:
        UserError: aihwkit cannot be imported.
    """
    try:
        import aihwkit.inference
        import aihwkit.nn
        import aihwkit.simulator.configs  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"Setting `--against aihwkit` needs the package aihwkit, but it cannot be imported ({error}). "
            "Install it with `pip install analog-glue[peer]`."
        ) from error
    return _checks(seed)


def _checks(seed: int) -> Iterator[Check]:
    yield from _laws()
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # the toolkit draws from torch's global generator
        torch.manual_seed(key(seed, "aihwkit"))
        yield from _periphery(seed)
        yield from _tiles(seed)
        yield from _pulsed_devices(seed)


# --- laws ----------------------------------------------------------------------------------------------------------------


def _laws() -> Iterator[Check]:
    from aihwkit.inference import PCMLikeNoiseModel

    model, g_max = PCMLikeNoiseModel(g_max=25.0), 25.0
    target = torch.tensor(GHATS) * g_max
    growth = PCM(g_max=g_max).accumulated_read_noise(T)

    def theirs(law: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of what `law` draws."""
        values = []
        for number in (torch.zeros_like, torch.ones_like):
            with patch("aihwkit.inference.noise.pcm.randn_like", number):
                values.append(law(*arguments))
        return values[0], values[1] - values[0]

    mean_nu, spread_nu = drift_exponent_law(target / g_max)
    no_drift = torch.zeros_like(target)
    their_mean_nu, their_spread_nu = theirs(model.generate_drift_coefficients, target)
    drifted, _ = theirs(model.apply_drift_noise_to_conductance, target, mean_nu, T)
    _, fluctuation = theirs(model.apply_drift_noise_to_conductance, target, no_drift, T)
    laws = (
        ("σ_prog", programming_error_std(target, g_max), theirs(model.apply_programming_noise_to_conductance, target)[1], "µS"),
        ("mean of ν", mean_nu, their_mean_nu, ""),
        ("spread of ν", spread_nu, their_spread_nu, ""),
        ("Q_s", read_noise_amplitude(target / g_max), fluctuation / target / growth, ""),
        ("1/f noise after 1 d", read_noise_amplitude(target / g_max) * growth, fluctuation / target, "of g"),
        ("conductance after 1 d", target * ((T + 20.0) / 20.0) ** -mean_nu, drifted, "µS"),
    )
    for name, ours, other, unit in laws:
        for ghat, measured, expected in zip(GHATS, ours.tolist(), other.tolist(), strict=True):
            # What is drawn comes out as a difference of float32 conductances of up to g_max.
            rounding = 4 * torch.finfo(torch.float32).eps * (g_max if unit == "µS" else 1 / ghat)
            yield Check(f"{name} at ĝ = {ghat}", measured, expected, 1e-5 * abs(expected) + rounding, unit)


# --- tiles ---------------------------------------------------------------------------------------------------------------


def _periphery(seed: int) -> Iterator[Check]:
    """The same weights and inputs through both, without devices."""
    weight, x = _weight(seed, 0), _inputs(seed)
    ours, theirs = _ours(weight, x, CROSSBAR, seed), _layer(weight, 0.0)(x)
    lsb = CROSSBAR.adc.lsb
    # Sums in another order differ by 1e-6 of a full-on cell, so about 1e-4 of the outputs land across a rounding threshold.
    other = ((ours - theirs).abs() > lsb / 2).float().mean().item()
    yield Check("DAC and ADC: share of other codes", other, 0.0, 1e-3, "")
    yield Check("DAC and ADC: largest difference", (ours - theirs).abs().max().item() / lsb, 0.0, 1 + 1e-3, "LSB")

    exact = x.clamp(-1, 1) @ weight.t()
    noise = _ours(weight, x, NOISY, seed) - exact, _layer(weight, OUTPUT_NOISE)(x) - exact
    std = [sample.std().item() for sample in noise]
    error = 5 * std[1] / math.sqrt(noise[0].numel())  # each std has a relative error of 1/√(2n), the difference 1/√n
    yield Check("output noise with DAC and ADC: std", std[0], std[1], error, "cells")


def _tiles(seed: int) -> Iterator[Check]:
    x = _inputs(seed)
    ours, theirs = [], []  # (std of the programming error, factor, error in %, error without compensation in %) of each tile
    for tile in range(TILES):
        weight = _weight(seed, tile)
        ours.append(_our_tile(weight, x, key(seed, "aihwkit", tile)))
        theirs.append(_their_tile(weight, x))
    names = (
        ("tile: std of the programming error", "cells"),
        ("tile: compensation factor after 1 d", ""),
        ("tile: error after 1 d, compensated", "%"),
        ("tile: error after 1 d, not compensated", "%"),
    )
    for number, (name, unit) in enumerate(names):
        mine, other = (torch.tensor([row[number] for row in rows], dtype=torch.float64) for rows in (ours, theirs))
        # Same tiles on both sides: what remains is the scatter of the devices drawn, estimated from the paired differences.
        scatter = (mine - other).std().item() / math.sqrt(TILES)
        expected = other.mean().item()
        yield Check(name, mine.mean().item(), expected, 5 * scatter + SECOND_ORDER * expected, unit)


def _weight(seed: int, tile: int) -> Tensor:
    """Normalised weights [SIZE, SIZE]; the largest is 1, because the toolkit takes the largest as a full-on cell."""
    weight = torch.empty(SIZE, SIZE).normal_(generator=generator(seed, "aihwkit weight", tile)).mul_(0.246).clamp_(-1, 1)
    weight[0, 0] = 1.0
    return weight


def _inputs(seed: int) -> Tensor:
    return torch.rand(VECTORS, SIZE, generator=generator(seed, "aihwkit inputs")).mul_(2.4).sub_(1.2)  # some of them clipped


def _ours(weights: Tensor, x: Tensor, crossbar: Crossbar, noise: int, factor: float = 1.0) -> Tensor:
    grid = TileGrid.of(SIZE, SIZE, SIZE, SIZE)
    full_range, scale = torch.ones(1), torch.full((1, SIZE), factor)
    ready = ReadyWeights.of(weights.unsqueeze(0), grid, crossbar, "float32")
    return mvm(x, ready, Scaling.of(full_range, scale, grid, crossbar), key(noise, "product"))[0]


def _our_tile(weight: Tensor, x: Tensor, tile_key: int) -> tuple[float, float, float, float]:
    grid, device = TileGrid.of(SIZE, SIZE, SIZE, SIZE), PCM()
    array = ProgrammedCrossbar.program(weight.unsqueeze(0), device, NormalStream(tile_key, "programming"))
    programmed = array.active.g_prog * array.sign / device.g_max
    right_after = array.weights(0.0, NormalStream(tile_key, "reference"))
    now = array.weights(T, NormalStream(tile_key, "1/f"))
    reference, later = (read_out(w, grid, NOISY, key(tile_key, name)) for name, w in (("at 0", right_after), ("at t", now)))
    factor = compensation_factor(reference, later).item()
    return _summary(weight, x, programmed[0], factor, _ours(now[0], x, NOISY, tile_key))


def _their_tile(weight: Tensor, x: Tensor) -> tuple[float, float, float, float]:
    layer = _layer(weight, OUTPUT_NOISE)
    tile = next(layer.analog_tiles())
    tile.program_weights(from_reference=False)
    programmed = tile.programmed_weights.clone()
    tile.drift_weights(T)
    factor = float(tile.alpha)
    return _summary(weight, x, programmed, factor, layer(x) / factor)


def _summary(weight: Tensor, x: Tensor, programmed: Tensor, factor: float, raw: Tensor) -> tuple[float, float, float, float]:
    exact = x.clamp(-1, 1) @ weight.t()
    errors = [100 * ((y - exact).norm() / exact.norm()).item() for y in (raw * factor, raw)]
    return (programmed - weight).std().item(), factor, *errors


def _layer(weight: Tensor, output_noise: float) -> Any:
    """A new layer of the toolkit's on one tile with the periphery of `CROSSBAR`."""
    from aihwkit.inference import GlobalDriftCompensation, PCMLikeNoiseModel
    from aihwkit.inference.converter.conductance import SinglePairConductanceConverter
    from aihwkit.nn import AnalogLinear
    from aihwkit.simulator.configs import TorchInferenceRPUConfig
    from aihwkit.simulator.parameters.enums import BoundManagementType, NoiseManagementType

    class ConstantScale(SinglePairConductanceConverter):
        """A weight of 1 is g_max, whatever the largest weight of the tile is."""

        def convert_to_conductances(self, weights: Tensor) -> tuple[list[Tensor], dict]:
            scaled = weights * self.g_max
            return [scaled.clamp(min=0.0), (-scaled).clamp(min=0.0)], {"scale_ratio": self.g_max}

    class IdleDevicesStayIdle(PCMLikeNoiseModel):
        def apply_programming_noise_to_conductance(self, g_target: Tensor) -> Tensor:
            return super().apply_programming_noise_to_conductance(g_target) * (g_target > 0)

    config = TorchInferenceRPUConfig(
        noise_model=IdleDevicesStayIdle(g_converter=ConstantScale(g_max=25.0)),
        drift_compensation=GlobalDriftCompensation(),
    )
    io = config.forward
    io.inp_bound, io.inp_res = 1.0, 1 / (2 * CROSSBAR.dac.full_scale)
    io.out_bound, io.out_res = CROSSBAR.adc_bound, 1 / (2 * CROSSBAR.adc.full_scale)
    io.out_noise, io.out_noise_std, io.w_noise, io.inp_noise = output_noise, 0.0, 0.0, 0.0
    io.noise_management, io.bound_management = NoiseManagementType.NONE, BoundManagementType.NONE
    io.nm_thres = 0.0
    config.pre_post.input_range.enable = False
    config.mapping.weight_scaling_omega = 0.0  # weights go onto the tile as they are
    config.mapping.weight_scaling_columnwise = False
    config.mapping.learn_out_scaling = False
    layer = AnalogLinear(SIZE, SIZE, bias=False, rpu_config=config)
    layer.set_weights(weight)
    return layer.eval()


# --- pulsed devices ------------------------------------------------------------------------------------------------------


def _pulsed_devices(seed: int) -> Iterator[Check]:
    """Steps and bounds over an array, drawn by both with the defaults of `PulsedDevice`."""
    from aihwkit.simulator.configs import ConstantStepDevice, SingleRPUConfig, SoftBoundsDevice
    from aihwkit.simulator.tiles import AnalogTile

    for device, kind in ((SoftBounds(), SoftBoundsDevice), (SymmetricLinear(up_down_dtod=0.01), ConstantStepDevice)):
        other = kind(
            dw_min=device.dw_min, dw_min_dtod=device.dw_min_dtod, up_down_dtod=device.up_down_dtod, w_max=device.w_max,
            w_min=-device.w_max, w_max_dtod=device.w_max_dtod, w_min_dtod=device.w_max_dtod,
            construction_seed=key(seed, "aihwkit devices") % 2**31,
        )  # fmt: skip
        tile = AnalogTile(SIZE, SIZE, SingleRPUConfig(device=other)).tile
        drawn = dict(zip(tile.get_hidden_parameter_names(), tile.get_hidden_parameters().double(), strict=True))
        theirs = _spreads(*(drawn[name] for name in ("dwmin_up", "dwmin_down", "max_bound", "min_bound")))
        array = device.draw(SIZE, SIZE, seed, "aihwkit")
        planes = [torch.from_numpy(unpacked(array.devices, i)).double() for i in range(array.devices.shape[2])]
        steps = [planes[target].abs() * (1 - 2 ** -planes[target + 1]) for target in (TARGET_UP, TARGET_DOWN)]
        ours = _spreads(*steps, *(planes[-2:] if len(planes) == 6 else (planes[TARGET_UP], planes[TARGET_DOWN])))
        for name, (mean, std) in theirs.items():
            error = 5 * std / SIZE  # 5 σ of the difference: a mean has std √(2/n), a std half of it
            yield Check(f"{kind.__name__}, {name}: mean", ours[name][0], mean, math.sqrt(2) * error, "")
            yield Check(f"{kind.__name__}, {name}: spread", ours[name][1], std, error, "")


def _spreads(up: Tensor, down: Tensor, highest: Tensor, lowest: Tensor) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation over the devices."""
    values = {"step": (up + down) / 2, "imbalance of the step": (up - down) / 2, "upper bound": highest, "lower bound": lowest}
    return {name: (value.mean().item(), value.std().item()) for name, value in values.items()}
