"""The read-out of the drift compensation: measured through the tile's noise, or the mean over that noise."""

import math

import pytest
import torch

from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tiles.drift_compensation import expected_magnitudes, read_out
from analog_glue.tiles.one_hot import one_hot_outputs

READ_OUTS = 40
NOISY = Crossbar()
COARSE = Crossbar(adc_bits=6)
IDEAL_ADC = Crossbar(adc_bits=None, output_noise=0.0)
MUCH_READ_NOISE = Crossbar(read_noise=0.3)  # so that it turns signs around; at 0.0175 hardly any
READ_NOISE_ALONE = Crossbar(adc_bits=None, output_noise=0.0, read_noise=0.3)
FINEST_ADC = Crossbar(adc_bits=24, adc_bound=512.0, output_noise=160.0)  # instead of the one of `NOISY`
QUIET = Crossbar(output_noise=0.0, read_noise=0.0)


def tile(scale, rows=200, columns=64):
    draw = torch.Generator().manual_seed(0)
    return (scale * torch.randn(1, columns, rows, generator=draw)).clamp(-1, 1)


@pytest.mark.parametrize(
    "crossbar",
    [NOISY, COARSE, IDEAL_ADC, MUCH_READ_NOISE, READ_NOISE_ALONE, FINEST_ADC],
    ids=["10 bits", "6 bits", "ideal ADC", "much read noise", "read noise alone", "finest ADC"],
)
@pytest.mark.parametrize("scale", [0.3, 0.05, 0.01])  # down to weights far below an LSB, where the noise floor is everything
def test_the_expected_read_out_is_the_mean_of_measured_ones(crossbar, scale):
    blocks, grid = tile(scale), crossbar.grid(64, 200)
    measured = torch.stack([read_out(blocks, grid, crossbar, key) for key in range(READ_OUTS)])
    expected = read_out(blocks, grid, crossbar, 0, how="expected")
    error = measured.std() / math.sqrt(READ_OUTS)
    # Five sampling errors, and what interpolating the table costs.
    assert abs(expected.item() - measured.mean().item()) < 5 * error.item() + 2e-4 * expected.item()


def test_without_noise_the_expected_read_out_is_the_measured_one():
    blocks, grid = tile(0.2), QUIET.grid(64, 200)
    assert torch.equal(read_out(blocks, grid, QUIET, 0, how="expected"), read_out(blocks, grid, QUIET, 1))


@pytest.mark.parametrize("weight", [0.0, 0.004, 0.03, 0.5])
def test_the_expected_magnitude_of_a_cell_is_the_mean_of_its_codes(weight):
    blocks, grid = torch.full((1, 100, 100), weight), NOISY.grid(100, 100)
    outputs = one_hot_outputs(blocks, grid, NOISY, 3).abs()
    expected = expected_magnitudes(blocks, grid, NOISY)
    assert expected.min() == expected.max()
    error = outputs.std().item() / outputs.numel() ** 0.5
    assert outputs.mean().item() == pytest.approx(expected[0, 0, 0].item(), abs=5 * error + 1e-4 * NOISY.adc.lsb)


def test_rows_that_pad_a_block_answer_nothing():
    grid = NOISY.grid(7, 601)  # 301 + 300 rows
    blocks = torch.ones(2, 7, 301)
    expected = expected_magnitudes(blocks, grid, NOISY)
    assert not expected[1, :, 300:].any()
    assert expected[0, :, 300:].all()
