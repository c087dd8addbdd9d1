"""The compiled product beside the reference: the same bits where there is no noise, the same law where there is."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analog_glue.devices.pcm import PCM
from analog_glue.kernels.gaussian import NormalStream
from analog_glue.kernels.products import MARGIN
from analog_glue.tiles.crossbar import Crossbar, ProgrammedCrossbar
from analog_glue.tiles.mvm import FEW_VECTORS, mvm
from analog_glue.tiles.operands import ClippedOutputs, ReadyWeights, Scaling

KERNELS = ("reference", "compiled")
QUIET = Crossbar(output_noise=0.0, read_noise=0.0)
NOISY = Crossbar(rows=40, read_noise=0.05, output_noise=0.8)


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def layer(outputs, inputs, vectors, crossbar, with_bias, seed=0):
    """Normalised weights [row blocks, outputs, rows], inputs of which some lie beyond their range, and a scaling."""
    grid = crossbar.grid(outputs, inputs)
    weights = grid.to_blocks((0.3 * torch.randn(outputs, inputs, generator=draw(seed))).clamp_(-1, 1))
    ranges = 1 + torch.rand(len(grid.row_blocks), generator=draw(seed + 1))
    scales = 0.1 + torch.rand(len(grid.row_blocks), outputs, generator=draw(seed + 2))
    bias = torch.randn(outputs, generator=draw(seed + 3)) if with_bias else None
    x = 0.8 * torch.randn(vectors, inputs, generator=draw(seed + 4))
    return grid, weights, x, Scaling.of(ranges, scales, grid, crossbar, bias)


def answers(kernel, outputs, inputs, vectors, crossbar, product, with_bias=True, seed=0, noise_key=1):
    """Output, DAC codes, places of clipped ADC outputs in ascending order, and their signs."""
    grid, weights, x, scaling = layer(outputs, inputs, vectors, crossbar, with_bias, seed)
    clipped = ClippedOutputs()
    y, codes = mvm(x, ReadyWeights.of(weights, grid, crossbar, product, kernel), scaling, noise_key, clipped)
    places, signs = clipped.gathered(torch.device("cpu"))
    order = places.argsort()
    return y, codes, places[order], signs[order]


# --- without noise -------------------------------------------------------------------------------------


def assert_same_bits(*arguments):
    reference, compiled = (answers(kernel, *arguments) for kernel in KERNELS)
    for what, one, other in zip(("outputs", "codes", "places", "signs"), reference, compiled, strict=True):
        assert one.dtype == other.dtype, what
        assert torch.equal(one, other), what
    return reference


LAYERS = {
    "outputs": st.integers(1, 200),
    "inputs": st.integers(1, 700),
    "rows": st.integers(7, 512),
    "adc_bits": st.sampled_from([4, 8, 10, None]),
    "adc_bound": st.sampled_from([10.0, 0.7]),
    "with_bias": st.booleans(),
    "seed": st.integers(0, 100),
}


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    vectors=st.integers(1, 130),
    dac_bits=st.sampled_from([4, 6, 8]),
    product=st.sampled_from(["int8", "int8_single"]),
    **LAYERS,
)
def test_integer_products_give_the_same_bits(
    outputs, inputs, vectors, rows, dac_bits, adc_bits, adc_bound, product, with_bias, seed
):
    crossbar = replace(QUIET, rows=rows, dac_bits=dac_bits, adc_bits=adc_bits, adc_bound=adc_bound)
    assert_same_bits(outputs, inputs, vectors, crossbar, product, with_bias, seed)


SHAPES = [(1, 1, 1), (3, 5, 2), (33, 17, 31), (48, 513, 33), (97, 700, 130), (200, 300, 65)]  # outputs, inputs, vectors


@pytest.mark.parametrize("product", ["int8", "int8_single"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("adc_bits", [4, 10, None])
@pytest.mark.parametrize("unlike", ["compiled_is_exact", "torch_is_faster"])
def test_cpus_without_an_instruction_or_with_matrix_units_get_the_same_bits(shape, product, adc_bits, unlike, monkeypatch):
    crossbar = replace(QUIET, rows=170, adc_bits=adc_bits, adc_bound=0.7)
    fast = assert_same_bits(*shape, crossbar, product)
    noisy = answers("compiled", *shape, replace(NOISY, rows=170), product)
    answer = unlike == "torch_is_faster"
    monkeypatch.setattr(f"analog_glue.tiles.operands.{unlike}", lambda *shape: answer)
    for one, other in zip(fast, assert_same_bits(*shape, crossbar, product), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(noisy, answers("compiled", *shape, replace(NOISY, rows=170), product), strict=True):
        assert torch.equal(one, other)  # with noise too


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True)
@given(vectors=st.integers(1, FEW_VECTORS), dac_bits=st.sampled_from([4, 8, 12, None]), **LAYERS)
def test_float_products_of_as_many_vectors_at_a_time_give_the_same_bits(
    outputs, inputs, vectors, rows, dac_bits, adc_bits, adc_bound, with_bias, seed
):
    """A float sum depends on its order, which a library may choose by the number of vectors; up to 32 go in one piece."""
    crossbar = replace(QUIET, rows=rows, dac_bits=dac_bits, adc_bits=adc_bits, adc_bound=adc_bound)
    assert_same_bits(outputs, inputs, vectors, crossbar, "float32", with_bias, seed)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    vectors=st.integers(1, FEW_VECTORS),
    dac_bits=st.sampled_from([4, 8, 12, None]),
    product=st.sampled_from(["int8", "int8_single", "float32"]),
    ir_drop=st.sampled_from([1.0, 40.0]),
    **LAYERS,
)
def test_wires_lose_the_same_bits(
    outputs, inputs, vectors, rows, dac_bits, adc_bits, adc_bound, product, ir_drop, with_bias, seed
):
    crossbar = replace(QUIET, rows=rows, dac_bits=dac_bits, adc_bits=adc_bits, adc_bound=adc_bound, ir_drop=ir_drop)
    assert_same_bits(outputs, inputs, vectors, crossbar, product, with_bias, seed)


@pytest.mark.parametrize("product", ["int8", "int8_single"])
def test_what_integer_products_sum_up_behind_wires_is_what_float_ones_do(product):
    """Currents and variances, to the bit, of every code beside every largest one: squares are rounded by that."""
    from analog_glue.tiles.compiled_mvm import _float_sums, _sums

    crossbar = replace(NOISY, rows=512, ir_drop=1.0)
    grid, weights, _, scaling = layer(3, 512, 1, crossbar, False)
    wanted = torch.tensor([[largest, *[code] * 511] for largest in range(1, 128) for code in range(largest)])
    ready = ReadyWeights.of(weights, grid, crossbar, product, "compiled")
    found = []
    for sums in (_sums, _float_sums):
        codes = torch.empty_like(wanted, dtype=torch.int8)
        own = sums(wanted / scaling.per_input, ready, scaling, codes)
        found.append((own.currents.clone(), own.variances.clone()))
        assert torch.equal(codes, wanted)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("product", ["int8", "int8_single", "float32"])
@pytest.mark.parametrize("ir_drop", [0.0, 1.0])
@pytest.mark.parametrize("dac_bits", [8, 12, None])
def test_however_many_vectors_there_are_sums_differ_by_their_rounding_alone(dac_bits, ir_drop, product):
    crossbar = replace(QUIET, rows=200, dac_bits=dac_bits, adc_bits=None, ir_drop=ir_drop)
    reference, compiled = (answers(kernel, 150, 700, 301, crossbar, product)[0] for kernel in KERNELS)
    bound = 700**0.5 * 2**-23 * 8  # the sums are of 700 terms below 8; their roundings are independent
    assert (reference - compiled).abs().max() <= bound


def test_bits_are_compared_where_all_kinds_of_clipping_occur():
    crossbar = replace(QUIET, rows=200, adc_bound=0.7)
    _, codes, places, signs = assert_same_bits(150, 700, 130, crossbar, "int8")
    assert 0.02 < (codes.abs() == 127).float().mean() < 0.5
    assert 1000 < len(places) < 0.9 * 4 * 130 * 150
    assert signs.unique().tolist() == [-1, 1]
    assert len(places.unique()) == len(places)


def test_clipped_outputs_are_those_at_the_bound(kernel):
    """A single row block without bias: an output is its code times the step."""
    crossbar = replace(QUIET, adc_bound=0.7, rows=512)
    grid, _, _, scaling = layer(30, 200, 50, crossbar, False)
    y, _, places, signs = answers(kernel, 30, 200, 50, crossbar, "int8", False)
    codes = (y / scaling.step).round()
    at_bound = (codes.abs() == 511).flatten().nonzero().squeeze(1)
    assert len(at_bound) > 100
    assert torch.equal(places, at_bound)
    assert torch.equal(signs, codes.flatten()[places].sign())
    assert len(grid.row_blocks) == 1


@pytest.mark.parametrize("product", ["int8", "float32"])
def test_inputs_in_any_layout_and_mode_are_left_as_they_are(kernel, product):
    crossbar = replace(QUIET, rows=20)
    grid, weights, x, scaling = layer(10, 50, 40, crossbar, True)
    ready = ReadyWeights.of(weights, grid, crossbar, product, kernel)
    expected, _ = mvm(x, ready, scaling, 1)
    before = x.clone()
    assert torch.equal(mvm(x.t().contiguous().t(), ready, scaling, 1)[0], expected)
    assert torch.equal(mvm(x.repeat(1, 2)[:, :50], ready, scaling, 1)[0], expected)
    with torch.inference_mode():
        assert torch.equal(mvm(x.clone(), ready, scaling, 1)[0], expected)
    assert torch.equal(mvm(x, ready, scaling, 1)[0], expected)  # and after inference mode
    assert torch.equal(x, before)


@pytest.mark.parametrize("product", ["int8", "float32"])
def test_no_vectors_give_no_outputs(kernel, product):
    y, codes, places, _ = answers(kernel, 10, 50, 0, NOISY, product)
    assert (y.shape, codes.shape, places.shape) == ((0, 10), (0, 50), (0,))


# --- with noise ----------------------------------------------------------------------------------------

N_VECTORS = 20_000  # a variance is then known to √(2/n) = 1 %
INPUTS, OUTPUTS = 75, 12  # row blocks of 38 and 37


def repeated(crossbar, product, kernel, scale, noise_key=5):
    """[N_VECTORS, OUTPUTS] answers to the same vector; weights and inputs are multiples of 1/127, so all products are exact.

    Returns the weights and the input as well, in double precision: [row blocks, outputs, rows], [row blocks, rows].
    """
    grid = crossbar.grid(OUTPUTS, INPUTS)
    size = torch.arange(1, OUTPUTS + 1).view(-1, 1) / OUTPUTS  # columns of different currents
    weight = (torch.randint(-100, 101, (OUTPUTS, INPUTS), generator=draw()) * size).round()
    weight[-1, 0] = 127
    x = torch.randint(-127, 128, (1, INPUTS), generator=draw(1)).float() / 127
    weights = grid.to_blocks(weight / 127)
    ready = ReadyWeights.of(weights, grid, crossbar, product, kernel)
    y, _ = mvm(x.expand(N_VECTORS, -1), ready, Scaling.of(torch.ones(2), scale, grid, crossbar), noise_key)
    return y, weights.double(), grid.pad_inputs(x).view(2, -1).double()


def law(crossbar, weights, x, scale):
    """Mean and variance of every output. The ADC adds LSB²/12 once the noise in front of it spans a step."""
    lsb = crossbar.adc.lsb
    current = torch.einsum("bcr,br->bc", weights, x)
    variance = crossbar.read_noise**2 * torch.einsum("bcr,br->bc", weights.abs(), x.square())
    variance += (crossbar.output_noise * lsb) ** 2 + (lsb**2 / 12 if crossbar.adc_bits is not None else 0)
    return (scale * current).sum(dim=0), (scale.square() * variance).sum(dim=0)


@pytest.mark.parametrize("product", ["int8", "int8_single", "float32"])
@pytest.mark.parametrize(
    "crossbar",
    [
        NOISY,
        replace(NOISY, read_noise=0.006),
        replace(NOISY, read_noise=0.0),
        replace(NOISY, read_noise=0.2, output_noise=0.0),
        replace(NOISY, adc_bits=None, output_noise=0.0),
        replace(NOISY, dac_bits=12),
    ],
    ids=["strong read noise", "both alike", "output noise", "read noise", "ideal ADC", "float codes"],
)
def test_outputs_have_the_mean_and_the_variance_of_the_law(kernel, product, crossbar):
    scale = 0.5 + torch.rand(2, OUTPUTS, generator=draw(2))
    y, weights, x = repeated(crossbar, product, kernel, scale)
    mean, variance = law(crossbar, weights, x, scale.double())
    # Five sampling errors; integer squares are dithered, which moves a standard deviation by up to 2 % over 38 rows.
    dithered = 0.04 if product != "float32" and crossbar.dac_bits == 8 and crossbar.read_noise > 0 else 0
    ratio = y.double().var(dim=0) / variance
    assert (ratio - 1).abs().max() < 5 * math.sqrt(2 / N_VECTORS) + dithered
    assert abs(ratio.mean() - 1) < 5 * math.sqrt(2 / N_VECTORS / OUTPUTS) + dithered / 2
    halves = 1e-3 if crossbar.dac_bits == 12 else 0  # what is left of a multiple of 1/127 after rounding to 12 bits
    assert ((y.double().mean(dim=0) - mean).abs() <= 5 * (variance / N_VECTORS).sqrt() + 1e-5 + halves).all()
    # A normal distribution: third and fourth moments; steps of an ADC take 1/120 LSB⁴ from the fourth.
    standard = (y.double() - y.double().mean(dim=0)) / y.double().std(dim=0)
    n = standard.numel()
    assert abs(standard.pow(3).mean().item()) < 5 * math.sqrt(6 / n)
    assert standard.pow(4).mean().item() == pytest.approx(3, abs=5 * math.sqrt(24 / n) + 0.02)


@pytest.mark.slow
def test_columns_vectors_row_blocks_and_keys_have_noise_of_their_own(kernel):
    def noise(block, key):
        """The noise of one row block: the other's digital scale is 0."""
        scale = torch.zeros(2, OUTPUTS)
        scale[block] = 1
        y, _, _ = repeated(NOISY, "int8", kernel, scale, key)
        return (y - y.mean(dim=0)) / y.std(dim=0)

    one = noise(0, 1)
    assert torch.equal(one, noise(0, 1))
    bound = 5 / math.sqrt(N_VECTORS)
    assert (torch.corrcoef(one.t()) - torch.eye(OUTPUTS)).abs().max() < bound
    for lag in (1, 2, 3, 4, 32, 64, 256):
        assert (one[lag:] * one[:-lag]).mean(dim=0).abs().max() < bound, lag
        shifted = (one[lag:].unsqueeze(2) * one[:-lag].unsqueeze(1)).mean(dim=0)  # every column with every other
        assert shifted.abs().max() < bound, lag
    for other in (noise(1, 1), noise(0, 2), noise(0, 1 + 2**32), noise(1, 2)):
        assert (one.unsqueeze(2) * other.unsqueeze(1)).mean(dim=0).abs().max() < bound


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


# The float product's own sums may depend on the number of vectors; behind the steps of an ADC that is not seen.
@pytest.mark.parametrize("product", ["int8", "int8_single", "float32"])
def test_the_noise_of_a_vector_depends_on_its_position_alone(product, threads):
    crossbar = replace(NOISY, rows=30)
    grid, weights, x, scaling = layer(50, 75, 1000, crossbar, True)
    ready = ReadyWeights.of(weights, grid, crossbar, product, "compiled")
    whole, _ = mvm(x, ready, scaling, 3)
    for vectors in (1, 2, 15, 31, 32, 33, 500, 999):
        assert torch.equal(mvm(x[:vectors], ready, scaling, 3)[0], whole[:vectors]), vectors
    for number in (1, 2, 5):
        threads(number)
        clipped = ClippedOutputs()
        assert torch.equal(mvm(x, ready, scaling, 3, clipped)[0], whole), number
        assert torch.equal(mvm(x[:137], ready, scaling, 3)[0], whole[:137]), number
        places, _ = clipped.gathered(torch.device("cpu"))
        if number == 1:
            expected = places
        assert torch.equal(places.sort().values, expected.sort().values)


@pytest.mark.parametrize("number", [1, 2, 5])
def test_the_reference_too_does_not_depend_on_the_number_of_threads(number, threads):
    outcome = answers("reference", 50, 75, 1000, NOISY, "float32")
    threads(number)
    for one, other in zip(outcome, answers("reference", 50, 75, 1000, NOISY, "float32"), strict=True):
        assert torch.equal(one, other)


# --- 8-bit weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.0, 1.0, 2_592_000.0])
@pytest.mark.parametrize("std", [0.246, 0.02], ids=["like a network", "all near zero"])
def test_on_phase_change_devices_weights_of_8_bits_hardly_add_to_the_error(kernel, t, std):
    """Rounding is independent of programming, so errors add in square: √(1 + (rounding / spread)²), 1.04 at most."""
    crossbar, chips = replace(QUIET, rows=256, adc_bits=24, adc_bound=100.0), 6
    grid = crossbar.grid(128, 256)
    weights = grid.to_blocks((std * torch.randn(128, 256, generator=draw())).clamp_(-1, 1))
    weights[0, 0, 0] = 1  # a full-on cell, beside which the others are small
    x = 2 * torch.rand(200, 256, generator=draw(1)) - 1
    scaling = Scaling.of(torch.ones(1), torch.ones(1, 128), grid, crossbar)
    exact, _ = mvm(x, ReadyWeights.of(weights, grid, crossbar, "float32", kernel), scaling, 1)
    squares = dict.fromkeys(("float32", "int8", "int8_single"), 0.0)
    for chip in range(chips):
        noise = [NormalStream(chip, purpose, kernel=kernel) for purpose in ("programming", "1/f")]
        on_chip = ProgrammedCrossbar.program(weights, PCM(), noise[0]).weights(t, noise[1])
        for product in squares:
            y, _ = mvm(x, ReadyWeights.of(on_chip, grid, crossbar, product, kernel), scaling, 1)
            squares[product] += (y - exact).square().sum().item()
    ratio = math.sqrt(squares["int8_single"] / squares["float32"])
    assert abs(math.sqrt(squares["int8"] / squares["float32"]) - 1) < 1e-3
    assert 1 < ratio < (1.03 if std == 0.246 else math.sqrt(1 + 1 / MARGIN**2))
