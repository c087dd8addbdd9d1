"""The variance of read noise from a few rows: the formula in float64, and how far it is from the sum over all rows."""

import numpy as np
import pytest
import torch

pytest.importorskip("numba", reason="numba does not import here", exc_type=ImportError)

from analog_glue.kernels.integer_gemm import UNSIGNED
from analog_glue.kernels.integer_product import compiled_is_exact
from analog_glue.kernels.outliers import PART_TAKEN, choose, groups_taken, shares
from analog_glue.kernels.products import make_product
from analog_glue.tiles import operands
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tiles.mvm import mvm
from analog_glue.tiles.operands import ReadyWeights, Scaling

ROWS, COLUMNS, VECTORS, SIZE = 384, 96, 32, 4
TOGETHER = UNSIGNED.group * UNSIGNED.words  # rows that an instruction of this CPU takes


def activations(vectors, inputs, seed=0):
    """As behind a LayerNorm: normal numbers, of a spread per channel that a few channels exceed by far."""
    draw = np.random.default_rng(seed)
    spread = np.exp(0.3 * draw.standard_normal(inputs))
    spread[draw.choice(inputs, max(inputs // 64, 1), replace=False)] *= 12
    return torch.from_numpy((draw.standard_normal((vectors, inputs)) * spread).astype(np.float32))


def weights_of(outputs, inputs, seed=1):
    draw = torch.Generator().manual_seed(seed)
    return (0.25 * torch.randn(outputs, inputs, generator=draw)).clamp(-1, 1)


def by_hand(codes, magnitudes):
    """What the module's equation says, in float64, every row of the chosen groups exactly."""
    (of_columns,), (of_rows,) = shares(magnitudes[None])
    energies = codes.astype(np.float64) ** 2 * of_rows
    chosen, totals = np.empty(groups_taken(-(-codes.shape[1] // TOGETHER)), np.int32), np.empty(len(codes), np.float32)
    choose(codes, of_rows, TOGETHER, totals, chosen)
    assert totals == pytest.approx(energies.sum(axis=1), rel=1e-5)
    rows = (chosen[:, None] * TOGETHER + np.arange(TOGETHER)).ravel()
    rows = rows[rows < codes.shape[1]]
    rest = energies.sum(axis=1) - energies[:, rows].sum(axis=1)
    return codes[:, rows].astype(np.float64) ** 2 @ magnitudes[:, rows].T + np.outer(rest, of_columns), rows


def test_the_groups_chosen_are_those_whose_mean_would_be_most_wrong():
    codes = np.ones((VECTORS, ROWS), np.int8)
    for group in (3, 40, 77):
        codes[:, group * SIZE + 1] = 100
    chosen, totals = np.empty(3, np.int32), np.empty(VECTORS, np.float32)
    choose(codes, np.ones(ROWS, np.float32), SIZE, totals, chosen)
    assert sorted(chosen) == [3, 40, 77]
    assert (totals == ROWS - 3 + 3 * 100**2).all()


@pytest.mark.parametrize("rows", [1, 3, 4, 30, 384])
def test_an_eighth_of_the_groups_is_taken_and_at_least_one(rows):
    groups = -(-rows // SIZE)
    assert 1 <= groups_taken(groups) <= groups / PART_TAKEN + 1


def spread_of_outputs(kind, x, weight, crossbar, draws):
    """Standard deviation of every output over `draws` products, in LSB."""
    grid = crossbar.grid(*weight.shape)
    ready = ReadyWeights.of(grid.to_blocks(weight), grid, crossbar, kind, "compiled")
    ranges, scale = torch.full((1,), 60.0), torch.ones(1, len(weight))
    scaling = Scaling.of(ranges, scale, grid, crossbar)
    outputs = torch.stack([mvm(x, ready, scaling, key)[0] for key in range(draws)])
    return outputs.std(dim=0) / scaling.step[0], ready, scaling


@pytest.mark.slow
def test_the_noise_that_is_drawn_has_the_variance_of_the_formula():
    # Read noise alone, in steps far below it.
    crossbar, draws = Crossbar(output_noise=0.0, read_noise=0.3, adc_bits=16, adc_bound=40.0), 2000
    x, weight = activations(VECTORS, ROWS), weights_of(COLUMNS, ROWS)
    std, ready, scaling = spread_of_outputs("int8_outliers", x, weight, crossbar, draws)
    codes = (x * scaling.per_input).round().clamp(-127, 127).numpy().astype(np.int8)
    product = make_product(weight.unsqueeze(0), "int8_outliers", "compiled")
    expected, rows = by_hand(codes, product.magnitudes[0].numpy())
    in_lsb = crossbar.read_noise / (127 * crossbar.adc.lsb)
    ratio = std.numpy() / (np.sqrt(expected * product.magnitude_scale) * in_lsb)
    if type(ready.product) is type(product):
        pytest.skip("this CPU has no packed products, which alone take outliers")
    # A standard deviation of 2,000 numbers is known to 1/√(2 · 2000); the mean over 3,072 outputs far better.
    assert ratio.mean() == pytest.approx(1, abs=2e-3)
    assert ratio.std() == pytest.approx(1 / np.sqrt(2 * draws), rel=0.1)
    exact = np.sqrt(codes.astype(np.float64) ** 2 @ product.magnitudes[0].numpy().astype(np.float64).T)
    error = np.sqrt(expected) / exact - 1
    assert len(rows) < ROWS / 7
    assert np.sqrt(np.square(error).mean()) < 0.03  # what docs/performance.md gives for real activations
    assert abs(error.mean()) < 0.003


@pytest.mark.slow
@pytest.mark.parametrize(
    ("outputs", "inputs", "rows"), [(1, 1, 512), (2, 3, 512), (50, 100, 48), (96, 384, 512), (49, 1000, 512)]
)
def test_without_read_noise_in_sight_it_is_the_exact_product(outputs, inputs, rows):
    crossbar = Crossbar(rows=rows, output_noise=0.0, read_noise=1e-9)
    x, weight, grid = activations(70, inputs), weights_of(outputs, inputs), crossbar.grid(outputs, inputs)
    scaling = Scaling.of(torch.full((len(grid.row_blocks),), 30.0), torch.ones(len(grid.row_blocks), outputs), grid, crossbar)
    found = [
        mvm(x, ReadyWeights.of(grid.to_blocks(weight), grid, crossbar, kind, "compiled"), scaling, 7)[0]
        for kind in ("int8_single", "int8_outliers")
    ]
    assert torch.equal(*found)


@pytest.mark.slow
def test_it_depends_on_no_thread():
    crossbar, x, weight = Crossbar(), activations(300, ROWS), weights_of(COLUMNS, ROWS)
    grid = crossbar.grid(COLUMNS, ROWS)
    ready = ReadyWeights.of(grid.to_blocks(weight), grid, crossbar, "int8_outliers", "compiled")
    scaling, threads = Scaling.of(torch.full((1,), 60.0), torch.ones(1, COLUMNS), grid, crossbar), torch.get_num_threads()
    found = []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.append(mvm(x, ready, scaling, 7)[0])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_they_are_taken_where_another_product_is_faster(monkeypatch):
    monkeypatch.setattr(operands, "torch_is_faster", lambda rows, columns: True)
    weight, crossbar = weights_of(COLUMNS, ROWS), Crossbar()
    grid = crossbar.grid(COLUMNS, ROWS)
    ready = ReadyWeights.of(grid.to_blocks(weight), grid, crossbar, "int8_outliers", "compiled")
    if not compiled_is_exact(ROWS):
        pytest.skip("this CPU has no packed products, which alone take outliers")
    assert ready.product.estimates_variance


@pytest.mark.parametrize("inputs", [2, 3])
def test_rows_that_are_taken_together_anyway_are_exact(inputs):
    # Fewer rows than an instruction takes: there is nothing left for a mean, nor a dither for what fills up the group.
    crossbar, x, weight = Crossbar(), activations(70, inputs), weights_of(COLUMNS, inputs)
    grid = crossbar.grid(COLUMNS, inputs)
    scaling = Scaling.of(torch.full((1,), 30.0), torch.ones(1, COLUMNS), grid, crossbar)
    found = []
    for kind in ("int8_single", "int8_outliers"):
        ready = ReadyWeights.of(grid.to_blocks(weight), grid, crossbar, kind, "compiled")
        ready.product.dither = torch.cat([ready.product.dither, torch.full((8,), 100.0)])[:inputs]  # what lies behind it counts
        found.append(mvm(x, ready, scaling, 7)[0])
    assert torch.equal(*found)
