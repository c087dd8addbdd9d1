"""The law of resistive wires against Kirchhoff's equations, closed forms, and the chips that use it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from analog_glue.devices.ideal import Ideal
from analog_glue.devices.pcm import PCM
from analog_glue.kernels.gaussian import NormalStream
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.tiles.crossbar import Crossbar, ProgrammedCrossbar
from analog_glue.tiles.mapping import TileGrid
from analog_glue.tiles.wires import behind_wires, left_of_a_ladder
from analog_glue.verify.nodal import currents
from tests.nn.helpers import programmed

OHM = 0.35


def array(rows, columns, seed=0, dense=True):
    """Conductances [µS]: uniform, or the positive half of weights as a layer has them."""
    rng = np.random.default_rng(seed)
    if dense:
        return rng.uniform(0, 25, (rows, columns))
    weights = rng.normal(0, 1, (rows, columns))
    return np.maximum(weights / np.abs(weights).max(0), 0) * 25


def law(conductances, driven="one_end", kernel="reference"):
    """Conductances [µS] as the ends of the wires see them, of one array [rows, columns]."""
    own = torch.from_numpy(conductances.T.copy()).unsqueeze(0)
    grid = TileGrid.of(conductances.shape[1], conductances.shape[0], *conductances.shape)
    positive, negative = behind_wires((own, torch.zeros_like(own)), grid, OHM, driven=driven, kernel=kernel)
    assert not negative.any()
    return positive[0].numpy().T


def errors(conductances, volts, **how):
    """(loss of the currents, error of the law), each relative to the currents without wires."""
    exact = currents(conductances * 1e-6, volts, OHM, how.get("driven") == "both_ends")
    ideal = conductances.T * 1e-6 @ volts
    ours = law(conductances, **how).T * 1e-6 @ volts
    norm = np.linalg.norm(ideal)
    return np.linalg.norm(ideal - exact) / norm, np.linalg.norm(ours - exact) / norm


def on_chip(linear, tile, device, x):
    """Outputs of a linear layer a second after it was programmed."""
    model = nn.Sequential(linear)
    grid = tile.grid(linear.out_features, linear.in_features)
    periphery = {"0": LayerPeriphery(torch.full((len(grid.row_blocks),), 4.0))}
    chip = programmed(model, Hardware(device, tile), periphery)
    chip.set_time(1.0)
    return chip.ready_to_score(device.drifts)(x)


@pytest.mark.parametrize(("size", "most"), [(16, 3e-4), (64, 0.004), (128, 0.015)])
def test_the_error_is_a_small_part_of_the_loss_whatever_the_inputs(size, most):
    rng = np.random.default_rng(1)
    inputs = {
        "all on": rng.uniform(0, 0.2, (size, 3)),
        "signed": rng.normal(0, 0.05, (size, 3)),
        "few": rng.uniform(0, 0.2, (size, 3)) * (rng.random((size, 3)) < 0.1),
    }
    for volts in inputs.values():
        loss, error = errors(array(size, size), volts)
        assert error < most * loss


def test_the_loss_of_128_rows_and_columns_is_the_published_one():
    loss, _ = errors(array(128, 128), np.random.default_rng(2).uniform(0, 0.2, (128, 4)))
    assert loss == pytest.approx(0.0476, abs=0.001)  # badcrossbar 1.1: 4.76 %


def test_weights_of_a_layer_lose_less_and_the_law_is_nearly_exact():
    loss, error = errors(array(128, 128, dense=False), np.random.default_rng(3).normal(0, 0.05, (128, 4)))
    assert loss < 0.02 and error < 0.003 * loss


def test_rows_that_are_driven_at_both_ends_lose_less():
    volts = np.random.default_rng(4).uniform(0, 0.2, (96, 3))
    one, _ = errors(array(96, 96), volts)
    both, error = errors(array(96, 96), volts, driven="both_ends")
    assert both < 0.8 * one and error < 0.01 * both


def test_one_row_and_one_column_are_exact_but_for_the_segment_across():
    for shape in ((1, 40), (40, 1)):
        for driven in ("one_end", "both_ends"):
            loss, error = errors(array(*shape), np.full((shape[0], 1), 0.2), driven=driven)
            assert loss > 1e-5 and error < 1e-4 * loss  # what is left is the one segment across


def test_a_ladder_of_equal_devices_follows_the_hyperbolic_law():
    n, g, r = 400, 25e-6, OHM
    voltage = left_of_a_ladder(torch.full((1, n), g, dtype=torch.float64), r, False)[0]
    gamma = np.arccosh(1 + g * r / 2)
    k = np.arange(1, n + 1)  # V_k = cosh(γ (n + 1/2 − k)) / cosh(γ (n + 1/2)) of a chain with an open end
    assert np.allclose(voltage, np.cosh(gamma * (n + 0.5 - k)) / np.cosh(gamma * (n + 0.5)), rtol=1e-12)


@pytest.mark.parametrize("pairs", ["two_arrays", "side_by_side"])
@pytest.mark.parametrize("driven", ["one_end", "both_ends"])
def test_both_kernels_agree_on_uneven_tiles(pairs, driven):
    grid = TileGrid.of(11, 15, 4, 5)  # row blocks 4 + 4 + 4 + 3, columns 4 + 4 + 3
    pair = tuple(grid.to_blocks(torch.rand(11, 15) * 25) for _ in range(2))
    one, other = (behind_wires(pair, grid, 50.0, pairs, driven, kernel) for kernel in ("reference", "compiled"))
    for ours, theirs, before in zip(one, other, pair, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-6) and (ours <= before).all() and ours[-1, :, 3].eq(0).all()
        assert (ours < before)[:, :, 0].all()


def test_pairs_side_by_side_are_an_array_of_twice_as_many_columns():
    positive, negative = array(24, 10, 1), array(24, 10, 2)
    together = np.stack([positive, negative], axis=2).reshape(24, 20)
    grid = TileGrid.of(10, 24, 24, 10)
    pair = tuple(torch.from_numpy(part.T.copy()).unsqueeze(0) for part in (positive, negative))
    ours = behind_wires(pair, grid, OHM, "side_by_side")
    expected = law(together)
    for own, place in zip(ours, (0, 1), strict=True):
        assert np.allclose(own[0].numpy().T, expected[:, place::2], rtol=1e-12)


def test_tiles_of_one_layer_lose_each_by_itself():
    whole = torch.rand(12, 20) * 25
    grid = TileGrid.of(12, 20, 10, 6)
    pair = (grid.to_blocks(whole), torch.zeros(2, 12, 10))
    ours, _ = behind_wires(pair, grid, 200.0)
    for block in range(2):
        for tile in range(2):
            rows, columns = slice(10 * block, 10 * block + 10), slice(6 * tile, 6 * tile + 6)
            single = TileGrid.of(6, 10, 10, 6)
            alone = single.to_blocks(whole[columns, rows].contiguous())
            assert torch.equal(behind_wires((alone, torch.zeros_like(alone)), single, 200.0)[0][0], ours[block, columns])


def test_a_chip_without_resistance_is_what_it_was_to_the_bit_and_with_it_loses():
    linear = nn.Linear(64, 48)
    tile = Crossbar(rows=32, columns=32)
    x = torch.randn(8, 64)
    outputs = {}
    for ohm in (0.0, 1e-9, 5.0):
        outputs[ohm] = on_chip(linear, replace(tile, wire_resistance=ohm), PCM(), x)
    assert torch.allclose(outputs[0.0], outputs[1e-9], atol=1e-5)
    assert not torch.allclose(outputs[0.0], outputs[5.0], atol=1e-3)


def test_drifted_devices_lose_less():
    weights = torch.rand(1, 128, 128)
    pcm = PCM(noise_scale=0.0)
    chip = ProgrammedCrossbar.program(weights, pcm, NormalStream(0))
    grid, tile = TileGrid.of(128, 128, 128, 128), Crossbar(rows=128, columns=128, wire_resistance=OHM)
    lost = []
    for t in (0.0, 2_592_000.0):
        before = chip.weights(t, NormalStream(1))
        after = chip.weights_behind(t, NormalStream(1), grid, tile, "compiled")
        lost.append(float(1 - after.sum() / before.sum()))
    assert lost[0] == pytest.approx(0.047, abs=0.003) and lost[1] < 0.8 * lost[0]


def test_two_laws_of_the_same_wires_are_refused():
    with pytest.raises(ValueError, match=r"wire_resistance.*`ir_drop`"):
        Crossbar(ir_drop=1.0, wire_resistance=0.35)


def test_ideal_devices_have_wires_too():
    linear, x = nn.Linear(16, 16), torch.randn(2, 16)
    tile = Crossbar(read_noise=0.0, output_noise=0.0)
    with_wires, without = (on_chip(linear, replace(tile, wire_resistance=ohm), Ideal(), x) for ohm in (200.0, 0.0))
    assert not torch.equal(with_wires, without)
