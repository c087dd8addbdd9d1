"""Products of tiles: a matrix product where nothing disturbs it, and noise and losses on wires by their laws."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tiles.mapping import (
    even_split,
)
from analog_glue.tiles.mvm import mvm
from analog_glue.tiles.operands import ReadyWeights, Scaling
from tests.tiles.helpers import IDEAL, QUIET, draw, few, on_tiles, random_layer, sizes

FINE = replace(QUIET, adc_bits=24, adc_bound=100.0)  # an ADC that does not show beside anything else


kernels = st.sampled_from(["reference", "compiled"])


@few
@given(sizes, sizes, st.integers(1, 24), st.integers(1, 24), st.sampled_from(["column", "tile"]), kernels)
def test_an_ideal_tile_is_a_matrix_product(outputs, inputs, rows, columns, per, kernel):
    weight, x = random_layer(outputs, inputs)
    y = on_tiles(weight, x, replace(IDEAL, rows=rows, columns=columns, scale_per=per), kernel=kernel)
    expected = torch.nn.functional.linear(x.double(), weight.double())
    bound = 6e-7 * torch.nn.functional.linear(x.abs(), weight.abs()).max()  # five roundings of 2⁻²³ per term
    assert (y - expected).abs().max() <= bound


@few
@given(sizes, sizes, st.integers(1, 24), st.integers(1, 24), st.sampled_from(["float32", "int8", "int8_single"]), kernels)
def test_converters_cost_half_a_step_at_most(outputs, inputs, rows, columns, product, kernel):
    weight, x = random_layer(outputs, inputs)
    crossbar = replace(QUIET, rows=rows, columns=columns)
    y = on_tiles(weight, x, crossbar, product, kernel=kernel)
    # Per row block: half a step of the DAC on every input, half a step of the ADC, half a step of the integer weights.
    step = {"float32": 0.0, "int8": 1 / 16_256, "int8_single": 1 / 127}[product]
    bound = torch.zeros(6, outputs)
    for part, values in zip(weight.split(even_split(inputs, rows), 1), x.split(even_split(inputs, rows), 1), strict=True):
        input_range, largest = values.abs().max(), part.abs().amax(dim=1)
        bound += part.abs().sum(dim=1) * input_range / 254
        bound += largest * input_range * 10 / 1022 * 1.001
        bound += largest * input_range * len(part[0]) * step / 2 * 1.001 + 1e-5
    assert ((y - x @ weight.t()).abs() <= bound).all()


@pytest.mark.parametrize("shape", [(5, 7), (33, 65), (384, 768), (1, 384)])
def test_float_and_integer_products_agree(shape, kernel):
    weight, x = random_layer(*shape, vectors=40)
    crossbar = replace(FINE, rows=256, columns=256)
    both = [on_tiles(weight, x, crossbar, kind, kernel=kernel) for kind in ("float32", "int8")]
    # Weights are rounded to 2⁻¹⁵ of the largest of the layer's normalised ones: √(Σ x² / 12) steps of it.
    step = weight.abs().max() / 16_256
    assert (both[0] - both[1]).abs().max() <= 6 * step * x.square().sum(dim=1).max().div(12).sqrt() + 2e-5
    noisy = replace(Crossbar(), rows=256, columns=256)
    both = [on_tiles(weight, x, noisy, kind, kernel=kernel) for kind in ("float32", "int8")]
    if weight.numel() > 1000:
        difference, noise = (both[0] - both[1]).std(), (both[0] - x @ weight.t()).std()
        assert difference < 0.3 * noise  # the same noise on both, up to a step of the ADC


@pytest.mark.parametrize("vectors", [1, 63, 64, 65, 1500])
def test_vectors_are_independent_of_how_many_there_are(vectors, monkeypatch, kernel):
    monkeypatch.setattr("analog_glue.tiles.mvm.VECTORS", 64)  # chunks of 64 vectors
    weight, x = random_layer(10, 20, vectors=1500)
    ranges = torch.tensor([2.0, 3.0])

    def product(crossbar, x):
        return on_tiles(weight, x, replace(crossbar, rows=10, columns=10), input_range=ranges, kernel=kernel)

    whole = product(QUIET, x)
    assert torch.equal(product(QUIET, x[:vectors]), whole[:vectors])
    residual = product(Crossbar(), x) - whole
    chunks = residual[:1472].view(23, 640)
    assert (torch.corrcoef(chunks) - torch.eye(23)).abs().max() < 5 / math.sqrt(640)  # every chunk has its own noise


def test_the_key_of_a_product_names_its_noise(kernel):
    weight, x = random_layer(10, 20)
    one, same, other = (on_tiles(weight, x, Crossbar(), noise_key=key, kernel=kernel) for key in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


N_VECTORS = 20_000  # a variance is then known to √(2/n) = 1 %


def repeated(crossbar, product, kernel, columns=6, rows=64):
    """`N_VECTORS` times the same product, in full-on cells, and the exact one: what differs is noise."""
    weights = 2 * torch.rand(1, columns, rows, generator=draw()) - 1
    weights.mul_(torch.arange(1, columns + 1).view(1, -1, 1) / columns)  # columns of different currents
    x = 2 * torch.rand(1, rows, generator=draw(1)) - 1
    grid = crossbar.grid(columns, rows)
    ready = ReadyWeights.of(weights, grid, crossbar, product, kernel)
    scaling = Scaling.of(torch.ones(1), torch.ones(1, columns), grid, crossbar)
    y, codes = mvm(x.expand(N_VECTORS, -1), ready, scaling, 5)
    return y, weights[0], codes[0] / crossbar.dac.full_scale


@pytest.mark.parametrize("product", ["float32", "int8"])
def test_short_term_read_noise_grows_with_the_current(product, kernel):
    y, weights, x = repeated(replace(FINE, read_noise=0.0175), product, kernel)
    expected = 0.0175**2 * (weights.abs() @ x.square())
    # Sampling: five times √(2/n); 8-bit weights and squares: one step of 127 over 64 rows.
    assert torch.allclose(y.var(dim=0), expected, rtol=0.05 + (0.03 if product == "int8" else 0))
    assert torch.allclose(y.mean(dim=0), weights @ x, atol=5 * (expected.max().item() / N_VECTORS) ** 0.5 + 1e-3)


@pytest.mark.parametrize("product", ["float32", "int8"])
def test_output_noise_is_counted_in_steps_of_the_adc(product, kernel):
    y, weights, x = repeated(replace(QUIET, output_noise=0.5), product, kernel)
    lsb = 20 / 1022
    # The exact variance of a rounded normal number around each column's current, in LSB.
    for column, current in enumerate((weights @ x / lsb).tolist()):
        codes = range(math.floor(current) - 8, math.floor(current) + 9)
        chance = [(math.erf((k + 0.5 - current) * 2**0.5) - math.erf((k - 0.5 - current) * 2**0.5)) / 2 for k in codes]
        mean = sum(p * k for p, k in zip(chance, codes, strict=True))
        variance = sum(p * (k - mean) ** 2 for p, k in zip(chance, codes, strict=True))
        measured = y[:, column] / lsb
        assert measured.var().item() == pytest.approx(variance, rel=0.05)
        assert measured.mean().item() == pytest.approx(mean, abs=5 * (variance / N_VECTORS) ** 0.5 + 0.02)


def test_the_two_noises_of_a_product_add_in_variance(kernel):
    both = replace(FINE, output_noise=2000.0, read_noise=0.0175)
    y, weights, x = repeated(both, "float32", kernel)
    expected = 0.0175**2 * (weights.abs() @ x.square()) + (2000 * both.adc.lsb) ** 2
    assert torch.allclose(y.var(dim=0), expected, rtol=0.05)
    correlation = torch.corrcoef(y.t()) - torch.eye(len(weights))
    assert correlation.abs().max() < 5 / math.sqrt(N_VECTORS)  # columns are independent
    assert abs(torch.corrcoef(torch.stack([y[1:, 0], y[:-1, 0]]))[0, 1]) < 5 / math.sqrt(N_VECTORS)  # and vectors


@pytest.mark.parametrize("product", ["float32", "int8"])
@pytest.mark.parametrize("strength", [1.0, 300.0])
def test_wires_lose_what_the_formula_of_the_toolkit_says(strength, product, kernel):
    outputs, inputs = 4, 50
    crossbar = replace(FINE, rows=20, columns=20, ir_drop=strength, scale_per="none")  # rows 17 + 17 + 16
    weight = 2 * torch.rand(outputs, inputs, generator=draw()) - 1
    x = 2 * torch.rand(3, inputs, generator=draw(1)) - 1
    y = on_tiles(weight, x, crossbar, product, input_range=torch.ones(3), kernel=kernel)

    conductance = (1 / 0.35) / 5e-6
    w = weight.double().tolist()
    x_read = (x.double() * 127).round().div(127).tolist()  # what the DAC drives
    for v in range(3):
        for i in range(outputs):
            total, start = 0.0, 0
            for n in (17, 17, 16):
                load = sum(abs(w[i][start + j]) * abs(x_read[v][start + j]) for j in range(n))
                a = load * n / conductance
                s = a * (0.05 * a * a - 0.2 * a + 0.5)
                exact = sum(w[i][start + j] * x_read[v][start + j] for j in range(n))
                lost = sum(w[i][start + j] * x_read[v][start + j] * (1 - (1 - j / n) ** 2) for j in range(n))
                total += exact - strength * s * lost
                start += n
            assert y[v, i].item() == pytest.approx(total, abs=1.5e-3 if product == "int8" else 1e-4)


def test_the_loss_on_wires_is_seen(kernel):
    weight, x = torch.ones(1, 512), torch.full((1, 512), 0.01)
    fine = replace(FINE, adc_bound=1000.0)
    lossy, exact = (on_tiles(weight, x, replace(fine, ir_drop=drop), kernel=kernel).item() for drop in (1.0, 0.0))
    # Every cell full on and every row at full scale: a = 512 · 512 · 0.35 Ω · 5 µS = 0.459, and 1 − (1 − j/n)² is 2/3 on
    # average (1/2n less for counting from 0).
    a = 512 * 512 * 0.35 * 5e-6
    assert 1 - lossy / exact == pytest.approx(a * (0.05 * a**2 - 0.2 * a + 0.5) * (2 / 3 - 1 / 1024), rel=1e-3)
