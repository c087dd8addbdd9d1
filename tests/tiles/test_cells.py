"""Several cells to a weight: each with programming, drift and noise of its own, the weight their mean."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from analog_glue.devices.ideal import Ideal
from analog_glue.devices.pcm import PCM, drift_exponent_law, programming_error_std
from analog_glue.devices.reram import ReRAM
from analog_glue.kernels.gaussian import NormalStream
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.nn.weight_noise import WeightNoise
from analog_glue.tiles.crossbar import Crossbar, ProgrammedCrossbar
from analog_glue.verify.nodal import currents
from tests.nn.helpers import programmed, random_linear

BARE = Crossbar(dac_bits=None, adc_bits=None, output_noise=0.0, read_noise=0.0, scale_per="none")
SIZE = 40_000
MONTH = 2_592_000.0


def written(device, cells, ghat=0.5, kernel="reference", count=SIZE):
    weights = torch.full((1, 1, count), ghat)
    return ProgrammedCrossbar.program(weights, device, NormalStream("cells", "programming", kernel=kernel), cells)


@pytest.mark.parametrize("cells", [2, 3, 8])
def test_the_programming_error_of_the_mean_is_that_of_a_cell_over_the_root_of_their_number(cells, kernel):
    array = written(PCM(drift=0.0, drift_spread=0.0, one_over_f=0.0), cells, kernel=kernel)
    weights = array.weights(0.0, NormalStream("cells", "read", kernel=kernel))
    sigma = programming_error_std(torch.tensor(12.5), 25.0).item() / 25 / math.sqrt(cells)
    assert abs(weights.mean() - 0.5) < 5 * sigma / math.sqrt(SIZE)
    assert abs(weights.std() / sigma - 1) < 5 / math.sqrt(2 * SIZE)


@pytest.mark.parametrize("cells", [1, 4])
def test_cells_drift_with_exponents_of_their_own(cells):
    """Of x^−ν with normal ν: mean and variance in closed form, that of the mean of cells a share of it."""
    array = written(PCM(programming=0.0, one_over_f=0.0), cells)
    weights = array.weights(MONTH, NormalStream("cells", "read"))
    mean, spread = (value.item() for value in drift_exponent_law(torch.tensor([0.5])))
    growth = math.log((MONTH + 20) / 20)
    expected = 0.5 * math.exp(-mean * growth + (spread * growth) ** 2 / 2)
    sigma = expected * math.sqrt(math.expm1((spread * growth) ** 2) / cells)
    assert abs(weights.mean() - expected) < 5 * sigma / math.sqrt(SIZE) + 1e-4  # exponents of 16 bits
    assert weights.std().item() == pytest.approx(sigma, rel=0.03)


@pytest.mark.parametrize("device", [PCM(), PCM(idle_noise=True), ReRAM()])
def test_the_mean_is_over_cells_that_are_programmed_one_after_another(device):
    """A cell has its numbers however many come after it; one alone is the array as it always was, to the bit."""
    four, two, one = (written(device, cells, count=512) for cells in (4, 2, 1))
    assert not one.beside and len(four.beside) == 3
    assert torch.equal(four.beside[0].active.error, two.beside[0].active.error)
    assert torch.equal(four.active.error, one.active.error) and not torch.equal(four.active.error, two.beside[0].active.error)
    noise = NormalStream("cells", "read")
    parts = [replace(cell, beside=()).weights(60.0, noise) for cell in (four, *four.beside)]
    together = four.weights(60.0, NormalStream("cells", "read"))
    assert torch.allclose(together, torch.stack(parts).mean(0), atol=1e-6)
    assert torch.equal(parts[0], one.weights(60.0, NormalStream("cells", "read")))


def test_targets_are_kept_once():
    array = written(PCM(), 4, count=16)
    assert all(cell.active.g_target is array.active.g_target and cell.sign is array.sign for cell in array.beside)


def outputs(crossbar, device, x, kernel="reference"):
    model, periphery = nn.Sequential(random_linear(8, 32)), {"0": LayerPeriphery(torch.tensor([4.0]))}
    chip = programmed(model, Hardware(device, crossbar), periphery, kernel=kernel)
    chip.set_time(1.0)
    return chip.ready_to_score(device.drifts)(x)


def test_the_read_noise_of_products_falls_with_the_root_of_the_cells(kernel):
    x = torch.randn(1, 32, generator=torch.Generator().manual_seed(1)).expand(4000, 32)
    quiet = replace(BARE, scale_per="column")
    spreads = {
        cells: outputs(replace(quiet, read_noise=0.0175, cells_per_weight=cells), Ideal(), x, kernel).std(dim=0)
        for cells in (1, 4)
    }
    assert torch.allclose(spreads[1], 2 * spreads[4], rtol=5 * math.sqrt(2 / (2 * 4000)))


def test_more_cells_load_the_wires_more():
    """Against Kirchhoff's equations of the conductances of all cells of a cross-point together."""
    cells, rows, columns, ohm = 3, 24, 16, 2.0
    weights = torch.rand(1, columns, rows, generator=torch.Generator().manual_seed(2))
    crossbar = Crossbar(rows=rows, columns=columns, wire_resistance=ohm, cells_per_weight=cells)
    array = ProgrammedCrossbar.program(weights, Ideal(), NormalStream("cells"), cells)
    grid = crossbar.grid(columns, rows)
    seen = array.weights_behind(1.0, NormalStream("cells"), grid, crossbar, "reference")[0].double().numpy()
    volts = np.random.default_rng(0).uniform(0, 1, (rows, 5))
    exact = currents(weights[0].T.double().numpy() * 25e-6 * cells, volts, ohm, False) / (25e-6 * cells)
    ideal = weights[0].double().numpy() @ volts
    lost, wrong = np.linalg.norm(ideal - exact), np.linalg.norm(seen @ volts - exact)
    assert lost > 0.02 * np.linalg.norm(ideal) and wrong < 0.05 * lost
    alone = currents(weights[0].T.double().numpy() * 25e-6, volts, ohm, False) / 25e-6
    assert np.linalg.norm(ideal - alone) < 0.5 * lost


def test_rounding_hides_beside_less_noise():
    one, four = (Hardware(PCM(), Crossbar(cells_per_weight=cells)) for cells in (1, 4))
    assert four.noise_floor == pytest.approx(one.noise_floor / 2) and one.noise_floor == PCM().noise_floor


def test_training_sees_the_noise_of_the_cells_where_it_is_that_of_the_devices():
    assert WeightNoise().of_cells(4) == WeightNoise(scale=0.5) and WeightNoise().of_cells(1) == WeightNoise()
    own = WeightNoise(law="relative", scale=0.06)
    assert own.of_cells(4) == own


def test_the_polynomial_of_the_wires_knows_one_cell():
    with pytest.raises(ValueError, match="`cells_per_weight` must be 1 where `ir_drop` is on"):
        Crossbar(ir_drop=1.0, cells_per_weight=2)
    with pytest.raises(ValueError, match="`cells_per_weight` must be at least 1"):
        Crossbar(cells_per_weight=0)
