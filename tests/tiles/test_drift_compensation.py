"""Read-outs, and what drift compensation makes of them."""

import math
from dataclasses import replace

import pytest
import torch

from analog_glue.devices.pcm import PCM
from analog_glue.tiles.crossbar import Crossbar, ProgrammedCrossbar
from analog_glue.tiles.drift_compensation import FLOOR, compensation_factor, read_out, target_read_out
from analog_glue.tiles.mapping import (
    normalised,
    weight_scale,
)
from analog_glue.tiles.mvm import mvm
from analog_glue.tiles.one_hot import one_hot_outputs
from analog_glue.tiles.operands import ReadyWeights, Scaling
from tests.tiles.helpers import IDEAL, QUIET, draw, random_layer

SHAPES = [(5, 7), (33, 65), (40, 40)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("crossbar", [IDEAL, QUIET, replace(QUIET, ir_drop=200.0)], ids=["ideal", "converters", "wires"])
def test_one_hot_read_outs_are_products_with_the_identity_bit_for_bit(shape, crossbar, kernel):
    crossbar = replace(crossbar, rows=16, columns=16)
    blocks, grid, by_product = one_hot_products(shape, crossbar, kernel)
    assert torch.equal(one_hot_outputs(blocks, grid, crossbar, 1, kernel), by_product(1))


def one_hot_products(shape, crossbar, kernel):
    weight, _ = random_layer(*shape)
    grid = crossbar.grid(*shape)
    blocks = grid.to_blocks(weight)
    blocks = normalised(blocks, weight_scale(blocks, grid, "column"))
    ready = ReadyWeights.of(blocks, grid, crossbar, "float32", kernel)
    ones = torch.ones(len(grid.row_blocks))
    scaling = Scaling.of(ones, ones.unsqueeze(1).expand(-1, grid.outputs).contiguous(), grid, crossbar)

    def by_product(noise_key):
        """What `mvm` answers to every one-hot input of full scale [row blocks, columns, rows], padded rows left at 0."""
        y, _ = mvm(torch.eye(grid.inputs), ready, scaling, noise_key)
        return grid.to_blocks(y.t())

    return blocks, grid, by_product


def test_one_hot_read_outs_have_the_noise_of_products(kernel):
    crossbar = Crossbar(rows=64, columns=64, adc_bits=16, output_noise=40.0)
    blocks, grid, by_product = one_hot_products((60, 60), crossbar, kernel)
    closed, measured = (
        torch.stack([outputs(key) for key in range(60)]) - blocks
        for outputs in (
            lambda key: one_hot_outputs(blocks, grid, crossbar, key, kernel),
            lambda key: by_product(1000 + key),
        )
    )
    expected = 0.0175**2 * blocks.abs() + (40 * crossbar.adc.lsb) ** 2
    for errors in (closed, measured):
        standardised = errors / expected.sqrt()
        n = standardised.numel()
        assert standardised.std().item() == pytest.approx(1, abs=5 / math.sqrt(2 * n) + 1e-3)
        assert standardised.mean().item() == pytest.approx(0, abs=5 / math.sqrt(n))
        for part in (blocks.abs() < 0.1, blocks.abs() > 0.6):  # of the weights
            part = standardised[part.expand_as(standardised)]
            assert part.std().item() == pytest.approx(1, abs=5 / math.sqrt(2 * len(part)) + 1e-3)


def test_a_read_out_is_the_mean_answer_of_each_tile():
    weight, _ = random_layer(5, 7)
    crossbar = replace(IDEAL, rows=3, columns=2)
    grid = crossbar.grid(5, 7)
    read = read_out(grid.to_blocks(weight), grid, crossbar, 1)
    rows, columns = (0, 3, 5, 7), (0, 2, 4, 5)
    for r in range(3):
        for c in range(3):
            tile = weight[columns[c] : columns[c + 1], rows[r] : rows[r + 1]]
            assert read[r, c].item() == pytest.approx(tile.abs().mean().item(), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "crossbar",
    [
        Crossbar(),
        Crossbar(adc_bits=8),
        Crossbar(output_noise=3.0),
        Crossbar(output_noise=0.0),
        Crossbar(ir_drop=200.0),
        replace(IDEAL, read_noise=0.0175),
        QUIET,
    ],
    ids=["10-bit ADC", "8-bit ADC", "strong output noise", "read noise", "wires", "ideal ADC", "no noise"],
)
@pytest.mark.parametrize("std", [0.25, 0.01])
def test_an_expected_read_out_is_the_mean_of_measured_ones(crossbar, std, kernel):
    crossbar = replace(crossbar, rows=64, columns=64)
    grid = crossbar.grid(100, 90)  # tiles of 45 × 50
    blocks = grid.to_blocks((std * torch.randn(100, 90, generator=draw())).clamp_(-1, 1))
    measured = torch.stack([read_out(blocks, grid, crossbar, key, kernel) for key in range(400)])
    expected = read_out(blocks, grid, crossbar, 0, kernel, "expected")
    # Sampling, and 2·10⁻³ LSB of the closed form.
    tolerance = 5 * measured.std(dim=0) / math.sqrt(len(measured)) + 2e-3 * min(crossbar.adc.lsb, 0.02)
    assert ((measured.mean(dim=0) - expected).abs() <= tolerance).all()


def test_an_empty_tile_is_not_divided_by_zero():
    grid = IDEAL.grid(4, 4)
    read = read_out(torch.zeros(1, 4, 4), grid, IDEAL, 1)
    assert read.item() == pytest.approx(FLOOR)
    assert compensation_factor(read, read).item() == 1


@pytest.mark.parametrize("t", [1.0, 3600.0, 2_592_000.0])
def test_compensation_of_devices_that_only_drift_is_the_exact_factor(t, noise, kernel):
    """All devices with one exponent: S_ref / S_t = ((t + 20 s) / 20 s)^ν, whatever the weights."""
    crossbar = replace(IDEAL, rows=16, columns=16)
    weight, _ = random_layer(33, 65)
    grid = crossbar.grid(33, 65)
    blocks = grid.to_blocks(weight)
    array = ProgrammedCrossbar.program(normalised(blocks, weight_scale(blocks, grid, "column")), PCM(noise_scale=0.0), noise())
    array = replace(array, active=replace(array.active, nu=torch.full_like(blocks, 0.05)))
    at_programming, now = (read_out(array.weights(time, noise()), grid, crossbar, 1, kernel) for time in (0.0, t))
    factor = compensation_factor(at_programming, now)
    assert torch.allclose(factor, torch.full_like(factor, ((t + 20) / 20) ** 0.05), rtol=1e-5)


def test_compensation_of_a_noisy_tile_undoes_its_mean_drift(noise, kernel):
    crossbar = Crossbar(rows=128, columns=128)
    weights = (0.25 * torch.randn(1, 256, 128, generator=draw())).clamp(-1, 1)
    grid = crossbar.grid(256, 128)
    array = ProgrammedCrossbar.program(weights, PCM(), noise())
    reference = read_out(array.weights(0.0, noise(1)), grid, crossbar, 1, kernel)
    now = array.weights(2_592_000.0, noise(2))
    factor = compensation_factor(reference, read_out(now, grid, crossbar, 2, kernel))
    assert factor.shape == (1, 2)  # one per tile
    slope = (now * weights).sum() / weights.square().sum()  # how much of the weights is left
    # The noise floor of the read-out (1/f noise and output noise under the mean of |output|) biases the factor low.
    assert slope.item() < 0.6
    assert 0.93 < (factor * slope).mean().item() < 1.05


def test_factors_towards_the_target_undo_the_loss_of_wires(noise, kernel):
    """Exact devices that do not drift, behind wires: with one factor per column its loss is all that is left between inputs."""
    crossbar = replace(IDEAL, rows=64, columns=64, wire_resistance=10.0)
    weights = (0.3 * torch.randn(1, 64, 64, generator=draw())).clamp(-1, 1)
    grid = crossbar.grid(64, 64)
    array = ProgrammedCrossbar.program(weights, PCM(noise_scale=0.0), noise())
    behind = array.weights_behind(0.0, noise(1), grid, crossbar, kernel)
    lost = 1 - (behind * weights).sum() / weights.square().sum()
    assert lost > 0.05
    left = {}
    for per in ("tile", "column"):
        target = target_read_out(weights, grid, crossbar, per)
        factor = compensation_factor(target, read_out(behind, grid, crossbar, 1, kernel, per=per))
        assert factor.shape == ((1, 1) if per == "tile" else (1, 64))
        restored = behind * factor.reshape(1, -1, 1)
        # What a factor restores is the mean magnitude of what it belongs to, exactly.
        of_whom = (0, 1, 2) if per == "tile" else 2
        assert torch.allclose(restored.abs().sum(dim=of_whom), weights.abs().sum(dim=of_whom), rtol=1e-5)
        left[per] = ((restored - weights).square().sum() / weights.square().sum()).sqrt().item()
    assert left["column"] < left["tile"] < lost / 2


def test_a_target_read_out_knows_no_wires_but_the_noise(kernel):
    """Noise under the mean of |output| is in the target as in what it is divided by: a chip as it should be has factor 1."""
    crossbar = Crossbar(rows=64, columns=64, adc_bits=8, output_noise=2.0)
    grid = crossbar.grid(100, 90)
    blocks = grid.to_blocks((0.01 * torch.randn(100, 90, generator=draw())).clamp_(-1, 1))
    for per in ("tile", "column"):
        target = target_read_out(blocks, grid, replace(crossbar, ir_drop=200.0), per)
        measured = torch.stack([read_out(blocks, grid, crossbar, key, kernel, per=per) for key in range(200)])
        tolerance = 5 * measured.std(dim=0) / math.sqrt(len(measured)) + 2e-3 * min(crossbar.adc.lsb, 0.02)
        assert ((measured.mean(dim=0) - target).abs() <= tolerance).all()
