"""Programming and ageing in one compiled pass are the reference with the same normal numbers."""

import math

import pytest
import torch

from analog_glue.devices.ideal import Ideal
from analog_glue.devices.pcm import PCM, read_noise_amplitude
from analog_glue.devices.reram import ReRAM
from analog_glue.kernels.gaussian import PART, NormalStream
from analog_glue.kernels.parallel import run
from analog_glue.tiles.crossbar import Crossbar, ProgrammedCrossbar
from analog_glue.tiles.one_hot import one_hot_sums
from analog_glue.tiles.pairs import aged, written

pytest.importorskip("numba")

DEVICES = {
    "published": PCM(),
    "half the noise": PCM(g_max=80.0, noise_scale=0.5, t_c=60.0),
    "factors": PCM(programming=1.5, drift=0.0, drift_spread=2.0, one_over_f=0.3),
}
ALL = written.by("compiled", "cpu"), aged.by("compiled", "cpu")


def stream(purpose="programming"):
    return NormalStream("pairs", purpose, kernel="compiled")


def weights(columns=700, rows=401):
    """More than one part, no multiple of a row of normal numbers, with zeros, bounds and specks."""
    w = (0.3 * torch.randn(1, columns, rows, generator=torch.Generator().manual_seed(0))).clamp_(-1, 1)
    w.view(-1)[:7] = torch.tensor([1.0, -1.0, 0.0, -0.0, 1e-9, -1e-5, 1e-40])
    assert w.numel() > PART
    return w


@pytest.fixture(params=DEVICES)
def device(request):
    return DEVICES[request.param]


def test_what_is_remembered_is_that_of_the_reference(device):
    program, _ = ALL
    sign, active = program(weights(), device, stream())
    true_sign, true = written(weights(), device, stream())
    assert torch.equal(sign, true_sign)
    assert torch.equal(active.g_target, true.g_target)
    # The one pass rounds where the reference does; a logarithm's last bits reach a float16 in a few of 10⁴ devices.
    torch.testing.assert_close(active.error, true.error, rtol=1e-3, atol=1e-6)
    assert (active.error != true.error).float().mean() < 1e-3
    torch.testing.assert_close(active.nu, true.nu, rtol=1e-3, atol=1e-6)
    assert (active.nu != true.nu).float().mean() < 1e-3


def test_weights_may_lie_in_memory_in_any_order():
    program, _ = ALL
    turned = weights().transpose(1, 2)
    sign, active = program(turned, PCM(), stream())
    true_sign, true = program(turned.contiguous(), PCM(), stream())
    assert torch.equal(sign, true_sign) and torch.equal(active.error, true.error) and torch.equal(active.nu, true.nu)


@pytest.mark.parametrize("t", [0.0, 1.0, 3600.0, 1e8])
def test_aged_weights_are_those_of_the_reference(device, t):
    _, age = ALL
    sign, active = written(weights(), device, stream())
    found = age(device, sign, active, t, stream("1/f")).double()
    expected = aged(device, sign, active, t, stream("1/f")).double()
    # w = d max(1 + A ξ, 0): 10⁻⁶ of d, and 10⁻⁶ of A ξ d, where ξ < 6.
    drifted = active.g_prog.double() / device.g_max * ((t + device.t_c) / device.t_c) ** -active.nu.double()
    amplitude = read_noise_amplitude(active.g_target / device.g_max) * device.accumulated_read_noise(t)
    amplitude = amplitude.double() * device.noise_scale * device.one_over_f
    assert ((found - expected).abs() <= 1e-6 * drifted * (1 + 6 * amplitude)).all()
    assert (found != 0).sum() > 0.5 * found.numel()


def test_threads_and_parts_do_not_matter(device):
    program, age = ALL
    once = program(weights(), device, stream())
    old = age(device, *once, 60.0, stream("1/f"))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        again = program(weights(), device, stream())
        older = age(device, *again, 60.0, stream("1/f"))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(getattr(once[1], name), getattr(again[1], name)) for name in ("g_target", "error", "nu"))
    assert torch.equal(old, older)
    # A layer that ends with the first part has the same devices there.
    first = weights().view(-1)[:PART].clone()
    alone = program(first, device, stream())
    assert torch.equal(alone[1].nu, once[1].nu.view(-1)[:PART])
    assert torch.equal(age(device, *alone, 60.0, stream("1/f")), old.view(-1)[:PART])


@pytest.mark.parametrize("wrong", [1.001, -2.0, math.nan, math.inf])
def test_weights_beyond_a_full_cell_are_refused(wrong):
    w = weights()
    w[0, 500, 3] = wrong
    with pytest.raises(ValueError, match="must lie in"):
        ProgrammedCrossbar.program(w, PCM(), stream())


@pytest.mark.parametrize(
    "other", [Ideal(), ReRAM(), PCM(idle_noise=True), PCM(one_over_f=0.0)], ids=["ideal", "reram", "idle noise", "no 1/f"]
)
def test_what_the_passes_do_not_cover_keeps_its_bits(other):
    array = ProgrammedCrossbar.program(weights(), other, stream())
    sign, active = written(weights(), other, stream())
    assert torch.equal(array.sign, sign) and torch.equal(array.active.g_target, active.g_target)
    found = array.weights(60.0, stream("1/f"))
    if other.idle_noise:
        positive, negative = array.pair(60.0, stream("1/f"))
        assert torch.allclose(found, (positive - negative) / other.g_max, atol=1e-6)
    else:
        assert torch.equal(found, aged(other, array.sign, array.active, 60.0, stream("1/f")))


@pytest.mark.parametrize("shape", [(64, 9), (100, 1537), (700, 601), (30, 5000)], ids=str)
@pytest.mark.parametrize(
    "crossbar", [Crossbar(), Crossbar(read_noise=0.0), Crossbar(output_noise=0.0, read_noise=0.3, adc_bits=6)], ids=str
)
def test_sums_of_codes_are_those_of_the_reference(shape, crossbar):
    grid = crossbar.grid(*shape)
    blocks = grid.to_blocks((0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(1))).clamp_(-1, 1))
    lsb = crossbar.adc.lsb
    found = one_hot_sums.by("compiled", "cpu")(blocks, grid, crossbar, 7, "compiled") / lsb
    expected = one_hot_sums(blocks, grid, crossbar, 7, "compiled") / lsb
    assert torch.allclose(found, found.round(), rtol=1e-6)  # codes
    # A current whose last bits put it on the other side of a half step moves the sum by one; about one in 10⁶ does.
    apart = (found - expected).abs()
    assert apart.max() < 2.5
    assert (apart > 0.5).sum() <= 2 + 1e-5 * blocks.numel()


def test_sums_of_codes_do_not_depend_on_threads():
    crossbar, sums = Crossbar(), one_hot_sums.by("compiled", "cpu")
    grid = crossbar.grid(1500, 1000)
    blocks = grid.to_blocks((0.3 * torch.randn(1500, 1000, generator=torch.Generator().manual_seed(2))).clamp_(-1, 1))
    once = sums(blocks, grid, crossbar, 3, "compiled")
    inside = []
    run(lambda _: inside.append(sums(blocks, grid, crossbar, 3, "compiled")), [0])
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        again = sums(blocks, grid, crossbar, 3, "compiled")
    finally:
        torch.set_num_threads(before)
    assert torch.equal(once, again) and torch.equal(once, inside[0])
