"""Noise on the weights in training: its mean, its spread and its independence, of both kernels and every law."""

import math
from dataclasses import dataclass

import pytest
import torch

from analog_glue.devices.ideal import Ideal
from analog_glue.devices.pcm import PCM
from analog_glue.devices.reram import ReRAM
from analog_glue.nn.weight_noise import WeightNoise
from analog_glue.tiles.mapping import TileGrid, normalised

OUTPUTS, INPUTS = 300, 1333
N = OUTPUTS * INPUTS  # a spread is then known to 1/√(2n) = 0.11 %
GRID = TileGrid.of(OUTPUTS, INPUTS, rows=512, columns=512)  # rows 445 + 444 + 444


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def noisy(noise, weight, device, key, kernel):
    """Normalised weights [outputs, inputs] with noise, through a digital scale that differs from cell to cell."""
    if not torch.is_tensor(weight):
        weight = torch.full((OUTPUTS, INPUTS), weight)
    scale = torch.tensor([0.25, 0.5, 2.0]).view(-1, 1) * 2.0 ** torch.arange(-4, 5).repeat(34)[:OUTPUTS]  # exact factors
    blocks = GRID.to_blocks(weight).mul_(scale.unsqueeze(2))
    return GRID.from_blocks(noise.noisy(GRID.from_blocks(blocks), scale, GRID, device, key, kernel))


def pcm(ghat):
    return (0.26348 + 1.9650 * ghat - 1.1731 * ghat**2) / 25


def reram(ghat):
    return (0.348 + 16.030 * ghat - 43.853 * ghat**2 + 45.393 * ghat**3 - 16.815 * ghat**4) / 40


DEVICES = [(PCM(), pcm), (PCM(noise_scale=0.5), lambda ghat: 0.5 * pcm(ghat)), (ReRAM(), reram)]
DEVICE_NAMES = ["pcm", "half of pcm", "reram"]


@pytest.mark.parametrize(("device", "law"), DEVICES, ids=DEVICE_NAMES)
@pytest.mark.parametrize("w", [-1.0, -0.3, 0.0, 0.1, 0.7])
def test_weight_noise_follows_the_programming_noise_and_is_unbiased(w, device, law, kernel):
    weights = noisy(WeightNoise(scale=1.5), w, device, 1, kernel)
    expected = 1.5 * law(abs(w))
    assert weights.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * N))
    assert weights.double().mean().item() == pytest.approx(w, abs=5 * expected / math.sqrt(N) + 1e-7)


@pytest.mark.parametrize(("device", "law"), DEVICES, ids=DEVICE_NAMES)
def test_every_weight_has_the_spread_of_its_own_magnitude(device, law, kernel):
    w = 2 * torch.rand(OUTPUTS, INPUTS, generator=draw()) - 1
    w[torch.rand(OUTPUTS, INPUTS, generator=draw(1)) < 0.1] = 0
    standard = (noisy(WeightNoise(), w, device, 1, kernel) - w) / law(w.abs())
    for low, high in ((0.0, 1e-9), (1e-9, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 1.0)):
        part = standard[(w.abs() >= low) & (w.abs() < high)]
        assert part.std().item() == pytest.approx(1, abs=5 / math.sqrt(2 * len(part)))
        assert part.mean().item() == pytest.approx(0, abs=5 / math.sqrt(len(part)))


def test_relative_weight_noise_is_the_same_for_every_weight(kernel):
    w = torch.linspace(-1, 1, N).view(OUTPUTS, INPUTS)
    error = noisy(WeightNoise(law="relative", scale=0.06), w, PCM(), 1, kernel) - w
    for part in error.view(-1).split(N // 4):
        assert part.std().item() == pytest.approx(0.06, rel=5 / math.sqrt(2 * len(part)))


@pytest.mark.slow
@pytest.mark.parametrize("law", ["programming", "relative"])
@pytest.mark.parametrize("device", [PCM(), ReRAM(), Ideal()], ids=["pcm", "reram", "ideal"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_both_kernels_draw_from_the_same_distribution(law, device, mirrored):
    """Kolmogorov and Smirnov: two samples of n, of one distribution, differ by 2.5 √(2/n) once in 10⁵ times."""
    noise = WeightNoise(law=law, scale=0.05 if law == "relative" else 2.0, mirrored=mirrored)
    w = (0.05 * torch.randn(OUTPUTS, INPUTS, generator=draw())).clamp_(-1, 1)
    one, other = (noisy(noise, w, device, 7, kernel).view(-1) for kernel in ("reference", "compiled"))
    if noise.floor(device) == 0:
        assert torch.equal(one, other)  # devices without noise
        return
    if not mirrored:  # which would push both samples in the direction of the weight
        assert abs(torch.corrcoef(torch.stack([one - w.view(-1), other - w.view(-1)]))[0, 1]) < 5 / math.sqrt(N)
    for first, second in ((one, other), (one - w.view(-1), other - w.view(-1))):
        points = first.sort().values
        ranks = torch.searchsorted(second.sort().values, points, right=True)
        assert (ranks - torch.arange(1, N + 1)).abs().max() / N < 2.5 * math.sqrt(2 / N)


@dataclass(frozen=True)
class Square(PCM):
    """A device whose spread is no polynomial."""

    def programming_spread(self, ghat):
        return ghat.sqrt().mul_(0.1)


def test_a_spread_that_is_no_polynomial_is_met_too(kernel):
    weights = noisy(WeightNoise(scale=2.0), -0.25, Square(), 1, kernel)
    assert weights.std().item() == pytest.approx(0.1, rel=5 / math.sqrt(2 * N))


def test_mirrored_noise_pushes_small_weights_outwards_by_four_fifths_of_its_spread(kernel):
    mirrored = WeightNoise(mirrored=True)
    for w in (1e-6, -1e-6):
        weights = noisy(mirrored, w, PCM(), 1, kernel)
        spread = 0.26348 / 25
        assert weights.mean().item() == pytest.approx(math.copysign(math.sqrt(2 / math.pi) * spread, w), rel=0.01)
        assert (weights * w >= 0).all()  # the sign is kept
    far = noisy(mirrored, 0.5, PCM(), 1, kernel)
    assert far.mean().item() == pytest.approx(0.5, abs=5 * 0.0381 / math.sqrt(N))
    assert not noisy(mirrored, 0.0, PCM(), 1, kernel).any()


def test_mirroring_changes_the_sign_of_the_noise_of_some_weights_and_nothing_else(kernel):
    w = 2 * torch.rand(OUTPUTS, INPUTS, generator=draw()) - 1
    plain, mirrored = (noisy(WeightNoise(mirrored=on), w, PCM(), 1, kernel) for on in (False, True))
    assert (plain * w < 0).any()
    assert (mirrored * w >= 0).all()
    assert torch.equal(mirrored.abs(), plain.abs())


def test_the_key_names_the_noise_and_keys_rows_and_columns_are_independent(kernel):
    def drawn(key):
        return noisy(WeightNoise(law="relative"), 0.0, PCM(), key, kernel)

    one = drawn(1)
    assert torch.equal(one, drawn(1))
    bound = 5 / math.sqrt(N)
    for other in (drawn(2), drawn(1 + 2**32)):
        assert (one * other).mean().abs() < bound
    for lag in (1, 2, 3, 4, 111, 112, 444):  # within a row, in which four numbers come from one counter
        assert (one[:, lag:] * one[:, :-lag]).mean().abs() < bound * math.sqrt(INPUTS / (INPUTS - lag)), lag
    for lag in (1, 2, 64):
        assert (one[lag:] * one[:-lag]).mean().abs() < bound * 1.2, lag
    first, second, third = one.split(GRID.row_blocks, dim=1)
    assert (first[:, :444] * second).mean().abs() < 5 / math.sqrt(OUTPUTS * 444)
    assert (second * third).mean().abs() < 5 / math.sqrt(OUTPUTS * 444)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (5, 2), (17, 33)], ids=str)
@pytest.mark.parametrize("mirrored", [False, True])
def test_layers_of_any_shape_get_noise_on_every_weight_and_keep_their_own(shape, mirrored, kernel):
    grid = TileGrid.of(*shape, rows=4, columns=4)
    weight = torch.randn(shape, generator=draw())
    before = weight.clone()
    scale = grid.to_blocks(weight).abs().amax(dim=2)
    weights = WeightNoise(mirrored=mirrored).noisy(weight, scale, grid, PCM(), 1, kernel)
    assert weights.shape == (len(grid.row_blocks), shape[0], grid.padded_rows)
    difference = grid.from_blocks(weights) - grid.from_blocks(normalised(grid.to_blocks(weight), scale))
    assert (difference != 0).all()
    assert (difference.abs() < 6 * pcm(0.84)).all()
    assert torch.equal(weight, before)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("device", [PCM(), ReRAM()], ids=["pcm", "reram"])
def test_integers_drawn_again_are_the_weights_rounded_to_the_last_bit(mirrored, device, kernel):
    noise, weight = WeightNoise(mirrored=mirrored), torch.randn(OUTPUTS, INPUTS, generator=draw())
    scale = GRID.to_blocks(weight).abs().amax(dim=2)
    weights = noise.noisy(weight, scale, GRID, device, 5, kernel)
    unit = weights.abs().max().item() / 127
    integers = noise.noisy_integers(weight, scale, GRID, device, 5, unit, kernel)
    assert integers.dtype == torch.int8
    assert torch.equal(integers, GRID.from_blocks(weights.mul(1 / unit).round().to(torch.int8)))
    assert integers.abs().max() == 127


@pytest.mark.parametrize("noise", [WeightNoise(law="none"), WeightNoise(scale=0.0)])
def test_weight_noise_can_be_off(noise):
    assert not noise.is_on
    assert noise.floor(PCM()) == 0


@pytest.mark.parametrize(
    ("noise", "device", "floor"),
    [
        (WeightNoise(scale=1.5), PCM(), 1.5 * pcm(0.0)),
        (WeightNoise(), ReRAM(), reram(0.0)),
        (WeightNoise(), Ideal(), 0.0),
        (WeightNoise(law="relative", scale=0.06), Ideal(), 0.06),
    ],
)
def test_the_floor_is_the_spread_of_the_quietest_weight(noise, device, floor):
    assert noise.floor(device) == pytest.approx(floor, rel=1e-5)


@pytest.mark.parametrize(("fields", "found"), [({"law": "gaussian"}, "'gaussian'"), ({"scale": -1.0}, "-1.0")])
def test_weight_noise_of_no_meaning_is_refused(fields, found):
    with pytest.raises(ValueError, match=rf"Argument `{next(iter(fields))}` must .* but is {found}"):
        WeightNoise(**fields)
