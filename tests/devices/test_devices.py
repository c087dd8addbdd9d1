"""Devices: a contract that every option of conf/noise keeps, and the laws of each against other people's numbers."""

import inspect
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from analog_glue.configuration.build import as_annotated, build
from analog_glue.configuration.compose import conf_dir
from analog_glue.devices.device import Device, ProgrammedArray
from analog_glue.devices.ideal import Ideal
from analog_glue.devices.pcm import PCM, drift_exponent_law, programming_error_std
from analog_glue.devices.reram import ReRAM
from analog_glue.kernels.gaussian import NormalStream

N_DEVICES = 200_000  # a spread is then known to 1/√(2n) = 0.16 %
SAMPLING = 5 / math.sqrt(2 * N_DEVICES)
MONTH = 2_592_000.0  # [s]
TIMES = (0.0, 1.0, 3600.0, 86_400.0, 604_800.0, MONTH, 3e8)  # [s]

OPTIONS = {file.stem: file for file in sorted((conf_dir() / "noise").glob("*.yaml"))}


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def noise(kernel):
    """The streams of numbers that devices are drawn from, by number."""
    return lambda seed=0: NormalStream("test", seed, kernel=kernel)


# --- the contract --------------------------------------------------------------------------------------


def device_of(option):
    return build(as_annotated(yaml.safe_load(OPTIONS[option].read_text(encoding="utf-8")), "noise"), "noise")


@pytest.fixture(params=OPTIONS)
def device(request):
    return device_of(request.param)


@pytest.fixture
def targets(device):
    """[µS] 7 × 11 × 13 targets over the whole range, its ends included, a tenth of them idle."""
    g = torch.rand(7, 11, 13, generator=draw(3))
    g[g < 0.1] = 0
    g[0, 0, 0] = 1
    return g * device.g_max


def test_there_are_devices_with_and_without_drift():
    assert {device_of(option).drifts for option in OPTIONS} == {True, False}


def test_a_device_is_an_interface_or_final(device):
    assert type(device).__mro__[1:3] == (Device, Device.__mro__[1])
    assert inspect.isabstract(Device)


@pytest.mark.parametrize("t", TIMES)
def test_conductances_keep_shape_and_type_and_are_never_negative(device, targets, t, noise):
    array = device.program(targets, noise())
    g = device.conductance(array, t, noise(1))
    for tensor in (array.g_prog, g):
        assert (tensor.shape, tensor.dtype) == (targets.shape, torch.float32)
        assert tensor.isfinite().all()
        assert (tensor >= 0).all()


@pytest.mark.parametrize("t", [0.0, 1.0, MONTH])
def test_the_same_stream_gives_the_same_chip_and_another_one_another(device, targets, t, noise):
    def conductances(seed):
        return device.conductance(device.program(targets, noise(seed)), t, noise(seed + 10))

    assert torch.equal(conductances(0), conductances(0))
    if not isinstance(device, Ideal):
        assert not torch.equal(conductances(0), conductances(1))


def test_programming_remembers_its_targets_and_leaves_them_alone(device, targets, noise):
    before = targets.clone()
    array = device.program(targets, noise())
    assert torch.equal(targets, before)
    assert torch.equal(array.g_target, before)


def test_reading_changes_nothing_and_answers_with_a_new_tensor(device, targets, noise):
    compact = device.program(targets, noise())
    kept = {name: value for name, value in vars(compact).items() if value is not None}
    for array in (compact, ProgrammedArray(**{name: value.float() for name, value in kept.items()})):
        before = {name: getattr(array, name).clone() for name in kept}
        device.conductance(array, 3600.0, noise(1)).fill_(-1)
        for t in (MONTH, 1.0):  # in any order
            device.conductance(array, t, noise(1)).fill_(-1)
        for name, value in before.items():
            assert torch.equal(getattr(array, name), value), name


def test_time_runs_over_a_chip_not_through_its_noise(device, targets, noise):
    """An earlier reading does not change a later one."""
    array = device.program(targets, noise())
    alone = device.conductance(array, MONTH, noise(1))
    device.conductance(array, 1.0, noise(2))
    assert torch.equal(device.conductance(array, MONTH, noise(1)), alone)


@pytest.mark.parametrize("wrong", [-1e-3, 1.001, float("nan"), float("inf")])
def test_targets_out_of_range_are_refused(device, wrong, noise):
    targets = torch.full((4,), 0.5 * device.g_max)
    targets[2] = wrong * device.g_max
    with pytest.raises(ValueError, match=r"`g_target` must lie in \[0, `g_max`\] = \[0, \d+\] µS, but spans"):
        device.program(targets, noise())


def test_targets_at_the_ends_of_the_range_and_empty_arrays_are_fine(device, noise):
    device.program(torch.tensor([0.0, device.g_max]), noise())
    assert device.conductance(device.program(torch.empty(0), noise()), 1.0, noise()).shape == (0,)


@pytest.mark.parametrize("t", TIMES)
def test_idle_devices_stay_at_exactly_zero(device, targets, t, noise):
    array = device.program(targets, noise())
    idle = targets == 0
    assert idle.any()
    assert not array.g_prog[idle].any()
    assert not device.conductance(array, t, noise(1))[idle].any()


def test_with_idle_noise_idle_devices_are_programmed_like_the_others(device, noise):
    device = replace(device, idle_noise=True)
    zeros = torch.zeros(N_DEVICES)
    array = device.program(zeros, noise())
    expected = device.programming_spread(torch.zeros(1)).item() * device.g_max
    # Half of them would have come out negative, and are 0: the mean of max(0, ξ) is 1/√(2π), its variance below 1/2.
    assert array.g_prog.mean().item() == pytest.approx(expected / math.sqrt(2 * math.pi), abs=4 * expected / N_DEVICES**0.5)
    assert (device.conductance(array, 1.0, noise(1)) > 0).any() == (expected > 0)


@pytest.mark.parametrize("ghat", [0.2, 0.6, 1.0])
def test_the_spread_that_training_imitates_is_the_one_of_programming(device, ghat, noise):
    targets = torch.full((N_DEVICES,), ghat * device.g_max)
    error = device.program(targets, noise()).g_prog - targets
    expected = device.programming_spread(torch.tensor([ghat])).item() * device.g_max
    assert error.std().item() == pytest.approx(expected, rel=2 * SAMPLING)  # 2: for what a clip at zero takes away
    assert error.mean().item() == pytest.approx(0, abs=2 * expected * 5 / math.sqrt(N_DEVICES))


@pytest.mark.parametrize(
    ("device", "floor"),
    [
        (PCM(), 0.26348 / 25),  # both at zero, where the laws start
        (PCM(noise_scale=0.5), 0.26348 / 50),
        (ReRAM(), 0.348 / 40),
        (Ideal(), 0.0),
    ],
)
def test_the_floor_of_the_noise_is_the_spread_of_the_quietest_target(device, floor):
    assert device.noise_floor == pytest.approx(floor, rel=1e-5)
    assert (device.programming_spread(torch.rand(1000, generator=draw())) >= device.noise_floor).all()


@pytest.mark.parametrize("key", ["g_max", "noise_scale", "t_c"])
def test_values_that_mean_nothing_are_refused_by_their_full_key(device, key):
    if hasattr(device, key):
        with pytest.raises(ValueError, match=f"Argument `{key}` must be .*, but is -1"):
            replace(device, **{key: -1})


def test_another_g_max_keeps_every_relative_number(device, targets, noise):
    wider = replace(device, g_max=4 * device.g_max)
    for t in (1.0, MONTH):
        g = device.conductance(device.program(targets, noise()), t, noise(1))
        scaled = wider.conductance(wider.program(4 * targets, noise()), t, noise(1))
        assert torch.allclose(scaled, 4 * g, rtol=1e-5)


# --- ideal ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", TIMES)
def test_ideal_devices_keep_what_is_written(t, noise):
    targets = 25 * torch.rand(100, generator=draw())
    device = Ideal(g_max=25.0)
    assert torch.equal(device.conductance(device.program(targets, noise(1)), t, noise(2)), targets)


# --- phase-change memory -------------------------------------------------------------------------------


def programmed(noise, ghat, seed=0, **fields):
    device = PCM(**fields)
    targets = torch.full((N_DEVICES,), ghat * device.g_max)
    return device, device.program(targets, noise(seed))


@pytest.mark.parametrize("g_target", [5.0, 12.5, 21.0, 25.0])  # [µS]
def test_programming_error_spreads_as_the_measured_parabola(g_target, noise):
    _, array = programmed(noise, g_target / 25)
    error = array.g_prog - g_target
    # An independent fit of the same measurement (CrossSim reads Joshi 2020, Fig. 3b, in µS).
    measured = 0.28638599 + 0.07585724 * g_target - 0.00178767 * g_target**2
    assert error.std().item() == pytest.approx(measured, rel=0.03)  # fits differ by 1.9 %, sampling 5 × 0.16 %
    assert abs(error.mean().item()) < 5 * measured / N_DEVICES**0.5


# ĝ, σ_prog [µS], mean and spread of ν, Q_s, then σ of the 1/f noise over the drifted conductance at 1 s … 30 d: the laws
# of Joshi et al. (2020) evaluated by hand, to the digits given.
BY_HAND = [
    (0.10, 0.4482, 0.0601, 0.0229, 0.03931, (0.165, 0.187, 0.200, 0.207, 0.213)),
    (0.25, 0.6814, 0.0490, 0.0114, 0.02167, (0.091, 0.103, 0.110, 0.114, 0.117)),
    (0.50, 0.9527, 0.0490, 0.0080, 0.01381, (0.058, 0.066, 0.070, 0.073, 0.075)),
    (0.75, 1.0774, 0.0490, 0.0080, 0.01061, (0.044, 0.051, 0.054, 0.056, 0.057)),
    (1.00, 1.0554, 0.0490, 0.0080, 0.00880, (0.037, 0.042, 0.045, 0.046, 0.048)),
]


@pytest.mark.parametrize(("ghat", "spread", "nu_mean", "nu_spread", "q_s", "one_over_f"), BY_HAND)
def test_programming_and_drift_follow_the_laws(ghat, spread, nu_mean, nu_spread, q_s, one_over_f, noise):
    _, array = programmed(noise, ghat)
    assert programming_error_std(torch.tensor([ghat * 25]), 25.0).item() == pytest.approx(spread, abs=5e-5)
    assert (array.g_prog - array.g_target).std().item() == pytest.approx(spread, rel=SAMPLING, abs=5e-5)
    # Taking |ν| of a normal number with its zero 2.6 standard deviations away (ĝ = 0.1) adds 0.1 % to the mean and takes 0.7 %
    # off the spread (Leone et al. 1961); what is left is half a digit, and sampling.
    away = nu_mean / nu_spread
    beyond = 2 * (nu_spread * math.exp(-(away**2) / 2) / math.sqrt(2 * math.pi) - nu_mean * math.erfc(away / 2**0.5) / 2)
    mean = nu_mean + beyond
    std = math.sqrt(nu_mean**2 + nu_spread**2 - mean**2)
    assert array.nu.double().mean().item() == pytest.approx(mean, abs=5e-5 + 5 * nu_spread / N_DEVICES**0.5)
    assert array.nu.double().std().item() == pytest.approx(std, rel=SAMPLING, abs=5e-5)
    assert (array.nu >= 0).all()


@pytest.mark.parametrize(("ghat", "spread", "nu_mean", "nu_spread", "q_s", "one_over_f"), BY_HAND)
def test_one_over_f_noise_follows_the_law(ghat, spread, nu_mean, nu_spread, q_s, one_over_f, noise):
    device, array = programmed(noise, ghat)
    for t, expected in zip((1.0, 3600.0, 86_400.0, 604_800.0, MONTH), one_over_f, strict=True):
        drifted = array.g_prog * ((t + 20) / 20) ** -array.nu.float()
        relative = device.conductance(array, t, noise(1)) / drifted - 1
        assert relative.std().item() == pytest.approx(expected, abs=5e-4 + SAMPLING * expected)
        assert relative.mean().item() == pytest.approx(0, abs=5 * expected / N_DEVICES**0.5)
        growth = math.sqrt(math.log((t + 20 + 250e-9) / 500e-9))
        assert relative.std().item() / growth == pytest.approx(q_s, abs=5e-6 + SAMPLING * q_s)


@pytest.mark.parametrize(("ghat", "nu", "q_s"), [(1e-3, 0.1, 0.2), (1e-6, 0.1, 0.2)])
def test_small_conductances_meet_the_limits_of_the_fits(ghat, nu, q_s, noise):
    device, array = programmed(noise, ghat, noise_scale=0.01)
    spread = 0.045
    folded = nu * math.erf(nu / spread / math.sqrt(2)) + spread * math.sqrt(2 / math.pi) * math.exp(-((nu / spread) ** 2) / 2)
    assert array.nu.double().mean().item() == pytest.approx(folded, abs=5 * spread / N_DEVICES**0.5)
    exact = replace(array, error=None, nu=torch.zeros_like(array.nu))
    relative = device.conductance(exact, 1.0, noise(1)) / array.g_target - 1
    assert relative.std().item() == pytest.approx(0.01 * q_s * math.sqrt(math.log(21 / 500e-9)), rel=SAMPLING)


def test_the_three_errors_of_a_device_are_independent(noise):
    device, array = programmed(noise, 0.5)
    drifted = array.g_prog * (3620 / 20) ** -array.nu.float()
    fluctuation = device.conductance(array, 3600.0, noise(1)) / drifted
    later = device.conductance(array, 86_400.0, noise(2)) / (array.g_prog * (86_420 / 20) ** -array.nu.float())
    correlation = torch.corrcoef(torch.stack([array.g_prog, array.nu.float(), fluctuation, later])) - torch.eye(4)
    assert correlation.abs().max() < 5 / N_DEVICES**0.5


def test_noise_scale_scales_programming_and_one_over_f_noise_but_not_drift(noise):
    full, array = programmed(noise, 0.5)
    half, quieter = programmed(noise, 0.5, noise_scale=0.5)
    target = array.g_target
    assert torch.allclose(quieter.error, 0.5 * array.error, atol=1e-7)  # float16 rounds alike but near its smallest number
    assert torch.equal(quieter.nu, array.nu)
    one = full.conductance(replace(array, error=None), MONTH, noise(1))
    other = half.conductance(replace(array, error=None), MONTH, noise(1))
    drifted = target * ((MONTH + 20) / 20) ** -array.nu.float()
    assert torch.allclose(other - drifted, 0.5 * (one - drifted), atol=2e-5)


def test_without_noise_what_is_left_is_drift_from_the_first_read_on(noise):
    device, array = programmed(noise, 0.5, noise_scale=0.0)
    assert torch.equal(array.g_prog, array.g_target)
    assert torch.equal(device.conductance(array, 0.0, noise()), array.g_target)
    # t_c = 20 s is the first read: after another 20 s the clock has doubled, after 180 s it shows ten times as much.
    for t, ratio in ((20.0, 2.0), (180.0, 10.0), (1980.0, 100.0)):
        expected = array.g_target.double() * ratio ** -array.nu.double()
        assert torch.allclose(device.conductance(array, t, noise()).double(), expected, rtol=1e-6)


def test_another_first_read_stretches_the_clock(noise):
    early, array = programmed(noise, 0.5, noise_scale=0.0)
    late = replace(early, t_c=40.0)
    assert torch.allclose(late.conductance(array, 7200.0, noise()), early.conductance(array, 3600.0, noise()), rtol=1e-6)


@pytest.mark.parametrize("ghat", [0.05, 0.5])
def test_compact_exponents_move_a_conductance_by_no_more_than_their_rounding(ghat, noise):
    device, array = programmed(noise, ghat, noise_scale=0.0)
    mean, spread = drift_exponent_law(torch.tensor([ghat]))
    stream = noise()
    stream.like(array.g_target)  # the programming error
    exact = (mean + spread * stream.like(array.g_target)).abs().double()
    rounding = exact * 2**-11 + 2**-24  # of a float16
    assert ((array.nu.double() - exact).abs() <= rounding).all()
    decades = math.log((MONTH + 20) / 20)
    expected = array.g_target.double() * (-exact * decades).exp()
    moved = device.conductance(array, MONTH, noise(1)).double() / expected - 1
    assert (moved.abs() <= 1.01 * rounding * decades + 1e-6).all()


def test_devices_overshoot_the_largest_target(noise):
    _, array = programmed(noise, 1.0)
    assert (array.g_prog > 25.0).float().mean().item() == pytest.approx(0.5, abs=5 * 0.5 / N_DEVICES**0.5)


# --- resistive memory ----------------------------------------------------------------------------------

WAN = {
    1.0: (0.348, 16.030, -43.853, 45.393, -16.815),
    86_400.0: (0.701, 22.086, -50.773, 47.095, -16.458),
    172_800.0: (0.782, 20.274, -43.507, 37.062, -11.934),
}  # time [s] → coefficients [µS] over powers of ĝ, g_max = 40 µS (Wan et al. 2022 in the fit of aihwkit 1.2.0)


def reram_error(noise, ghat, t, **fields):
    device = ReRAM(**fields)
    targets = torch.full((N_DEVICES,), ghat * device.g_max)
    return device.conductance(device.program(targets, noise()), t, noise(1)) - targets


@pytest.mark.parametrize("ghat", [0.3, 0.6, 0.85])
@pytest.mark.parametrize("t", WAN)
def test_resistive_devices_spread_as_measured(t, ghat, noise):
    error = reram_error(noise, ghat, t)
    assert error.std().item() == pytest.approx(np.polyval(WAN[t][::-1], ghat), rel=SAMPLING)
    assert error.mean().item() == pytest.approx(0, abs=5 * error.std().item() / N_DEVICES**0.5)


@pytest.mark.parametrize(("start", "end"), [(1.0, 86_400.0), (86_400.0, 172_800.0)])
def test_between_the_measured_times_the_spread_grows_with_the_logarithm_of_time(start, end, noise):
    middle = math.sqrt(start * end)  # half-way in ln t
    halfway = (np.polyval(WAN[start][::-1], 0.5) + np.polyval(WAN[end][::-1], 0.5)) / 2
    assert reram_error(noise, 0.5, middle).std().item() == pytest.approx(halfway, rel=SAMPLING)


def test_outside_the_measured_times_the_spread_is_held(noise):
    assert torch.equal(reram_error(noise, 0.5, 0.0), reram_error(noise, 0.5, 1.0))
    assert torch.equal(reram_error(noise, 0.5, MONTH), reram_error(noise, 0.5, 172_800.0))
    assert ReRAM().fitted_until == 172_800.0


def test_a_resistive_device_that_came_out_high_stays_high(noise):
    at_once, later = reram_error(noise, 0.5, 1.0), reram_error(noise, 0.5, 86_400.0)
    ratio = np.polyval(WAN[86_400.0][::-1], 0.5) / np.polyval(WAN[1.0][::-1], 0.5)
    assert torch.allclose(later, at_once * ratio, atol=1e-4)


def test_noise_scale_multiplies_the_spread_of_resistive_devices(noise):
    assert torch.allclose(reram_error(noise, 0.5, 1.0, noise_scale=0.5), 0.5 * reram_error(noise, 0.5, 1.0), atol=5e-6)


def test_resistive_devices_do_not_drift_and_phase_change_devices_do(noise):
    assert PCM().drifts
    assert not ReRAM().drifts
    assert PCM().fitted_until == math.inf
    error = reram_error(noise, 0.5, MONTH)
    assert abs(error.mean().item()) < 5 * error.std().item() / N_DEVICES**0.5
