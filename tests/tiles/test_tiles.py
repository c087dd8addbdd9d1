"""Tiles: how weights lie on them, what converters and wires do to a product, and what compensation takes back."""

import math
from dataclasses import replace

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, BertConfig, RobertaConfig

from analog_glue.configuration.build import as_annotated, build
from analog_glue.configuration.compose import conf_dir
from analog_glue.costs import count_tiles
from analog_glue.devices.ideal import Ideal
from analog_glue.devices.pcm import PCM
from analog_glue.kernels.gaussian import NormalStream
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.placement import Placement
from analog_glue.tiles.converters import ADC, DAC
from analog_glue.tiles.crossbar import Crossbar, ProgrammedCrossbar
from analog_glue.tiles.drift_compensation import FLOOR, compensation_factor, read_out
from analog_glue.tiles.mapping import (
    TileGrid,
    conductances_to_weights,
    even_split,
    normalised,
    weight_scale,
    weights_to_targets,
)
from analog_glue.tiles.mvm import mvm
from analog_glue.tiles.one_hot import one_hot_outputs
from analog_glue.tiles.operands import ReadyWeights, Scaling

IDEAL = Crossbar(dac_bits=None, adc_bits=None, output_noise=0.0, read_noise=0.0)
QUIET = Crossbar(output_noise=0.0, read_noise=0.0)  # converters, no noise
FINE = replace(QUIET, adc_bits=24, adc_bound=100.0)  # an ADC that does not show beside anything else

few = settings(max_examples=40, deadline=None, derandomize=True)
sizes = st.integers(1, 70)
kernels = st.sampled_from(["reference", "compiled"])


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def noise(kernel):
    """The streams of numbers that devices are drawn from, by number."""
    return lambda seed=0: NormalStream("test", seed, kernel=kernel)


def random_layer(outputs, inputs, vectors=6, seed=0):
    weight = torch.randn(outputs, inputs, generator=draw(seed))
    return weight, torch.randn(vectors, inputs, generator=draw(seed + 1))


def on_tiles(weight, x, crossbar, product="float32", input_range=None, noise_key=1, kernel="reference"):
    """The layer's product on ideal devices; input ranges just wide enough unless given."""
    grid = crossbar.grid(*weight.shape)
    blocks = grid.to_blocks(weight)
    scale = weight_scale(blocks, grid, crossbar.scale_per)
    if input_range is None:
        input_range = torch.stack([part.abs().max() for part in x.split(grid.row_blocks, dim=1)]).clamp(min=1e-6)
    ready = ReadyWeights.of(normalised(blocks, scale), grid, crossbar, product, kernel)
    y, _ = mvm(x, ready, Scaling.of(input_range, scale, grid, crossbar), noise_key)
    return y


# --- geometry ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "limit", "parts"),
    [
        (768, 512, (384, 384)),
        (3072, 512, (512,) * 6),
        (1024, 512, (512, 512)),
        (384, 512, (384,)),
        (513, 512, (257, 256)),
        (1537, 512, (385, 384, 384, 384)),
        (2, 512, (2,)),
        (5, 1, (1,) * 5),
    ],
)
def test_a_layer_is_cut_into_the_fewest_parts_of_nearly_equal_size(size, limit, parts):
    assert even_split(size, limit) == parts


@few
@given(st.integers(1, 5000), st.integers(1, 600))
def test_any_split_covers_the_size_with_the_fewest_parts_that_fit(size, limit):
    parts = even_split(size, limit)
    assert sum(parts) == size
    assert len(parts) == math.ceil(size / limit)
    assert max(parts) <= limit
    assert max(parts) - min(parts) <= 1
    assert list(parts) == sorted(parts, reverse=True)


def encoder(config):
    with torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(config)


BERT_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}


@pytest.mark.parametrize(
    ("config", "layers", "tiles"),
    [
        (BertConfig(), 74, 486),
        (RobertaConfig(), 74, 486),
        (BertConfig(**BERT_LARGE), 146, 1158),
        (BertConfig(**MINILM), 38, 62),
    ],
    ids=["bert_base", "roberta_base", "bert_large", "minilm"],
)
def test_published_encoders_take_as_many_tiles_as_published(config, layers, tiles):
    count = count_tiles(Placement.of(encoder(config), Hardware(PCM(), Crossbar())))
    assert (count.layers, count.tiles) == (layers, tiles)


def test_roberta_fills_its_tiles_as_published():
    count = count_tiles(Placement.of(encoder(RobertaConfig()), Hardware(PCM(), Crossbar())))
    assert count.over_layers == pytest.approx(61.57, abs=0.005)  # the mean over its 74 modules
    assert count.over_tiles == pytest.approx(67.13, abs=0.005)


def test_bert_without_pooler_and_classifier_takes_480_tiles():
    hardware = Hardware(PCM(), Crossbar(), layers=("*", "!*pooler*", "!classifier"))
    assert count_tiles(Placement.of(encoder(BertConfig()), hardware)).tiles == 480


@few
@given(sizes, sizes, st.integers(1, 20), st.integers(1, 20))
def test_weights_come_back_from_their_blocks(outputs, inputs, rows, columns):
    weight, x = random_layer(outputs, inputs)
    grid = TileGrid.of(outputs, inputs, rows, columns)
    blocks = grid.to_blocks(weight)
    assert blocks.shape == (len(grid.row_blocks), outputs, grid.padded_rows)
    assert blocks.is_contiguous()
    assert torch.equal(grid.from_blocks(blocks), weight)
    assert blocks.abs().sum().item() == pytest.approx(weight.abs().sum().item(), rel=1e-4)  # padding is zero
    padded = grid.pad_inputs(x).view(len(x), len(grid.row_blocks), grid.padded_rows)
    assert torch.equal(grid.unpad_inputs(padded), x)
    per_block = torch.arange(float(len(grid.row_blocks)))
    spread = torch.cat([torch.full((rows,), float(block)) for block, rows in enumerate(grid.row_blocks)])
    assert torch.equal(grid.spread_over_rows(per_block), spread)
    assert grid.tiles == len(even_split(inputs, rows)) * len(even_split(outputs, columns))


def test_a_row_block_and_a_column_tile_hold_what_a_slice_of_the_matrix_holds():
    weight, _ = random_layer(5, 7)
    grid = TileGrid.of(5, 7, rows=3, columns=2)  # rows 3 + 2 + 2, columns 2 + 2 + 1
    assert (grid.row_blocks, grid.column_blocks) == ((3, 2, 2), (2, 2, 1))
    assert torch.equal(grid.to_blocks(weight)[1, :, :2], weight[:, 3:5])
    assert not grid.to_blocks(weight)[1, :, 2].any()


@pytest.mark.parametrize("per", ["column", "tile", "none"])
def test_a_full_on_cell_is_the_largest_weight_that_shares_its_scale(per):
    weight, _ = random_layer(5, 7)
    weight[4, 2] = -9.0
    weight[0] = 0
    grid = TileGrid.of(5, 7, rows=3, columns=2)
    scale = weight_scale(grid.to_blocks(weight), grid, per)
    starts = (0, 3, 5, 7)
    columns = {0: (0, 2), 1: (0, 2), 2: (2, 4), 3: (2, 4), 4: (4, 5)}  # output → its column tile
    for block in range(3):
        for output in range(5):
            first, last = (output, output + 1) if per == "column" else columns[output]
            shared = weight[first:last, starts[block] : starts[block + 1]]
            expected = 1.0 if per == "none" or not shared.any() else shared.abs().max().item()
            assert scale[block, output].item() == pytest.approx(expected)
    assert normalised(grid.to_blocks(weight), scale).abs().max() == 1


# --- pairs of devices ----------------------------------------------------------------------------------


def test_a_weight_is_written_into_one_device_of_its_pair(noise):
    weights = torch.tensor([[[0.5, -0.25, 0.0, 1.0, -1.0]]])
    array = ProgrammedCrossbar.program(weights, Ideal(g_max=20.0), noise())
    positive, negative = array.pair(1.0, noise())
    assert positive.flatten().tolist() == [10, 0, 0, 20, 0]
    assert negative.flatten().tolist() == [0, 5, 0, 0, 20]
    assert torch.equal(array.weights(1.0, noise()), weights)


@few
@given(st.integers(0, 1000), st.sampled_from([1.0, 25.0, 40.0]))
def test_conductances_turn_back_into_weights(seed, g_max):
    weights = (2 * torch.rand(2, 5, 3, generator=draw(seed)) - 1) * (torch.rand(2, 5, 3, generator=draw(seed + 1)) > 0.2)
    targets = weights_to_targets(weights, g_max)
    assert (targets.g_active >= 0).all()
    assert (targets.g_active <= g_max).all()
    for idle in (None, torch.zeros_like(weights)):
        back = conductances_to_weights(targets.g_active.clone(), idle, targets.sign, g_max)
        assert torch.allclose(back, weights, atol=1e-6)


@pytest.mark.parametrize("idle_noise", [False, True])
def test_weights_are_the_difference_of_the_pair(idle_noise, noise):
    weights = (2 * torch.rand(2, 5, 300, generator=draw()) - 1) * (torch.rand(2, 5, 300, generator=draw(1)) > 0.2)
    array = ProgrammedCrossbar.program(weights, PCM(idle_noise=idle_noise), noise())
    positive, negative = array.pair(3600.0, noise(1))
    assert torch.allclose(array.weights(3600.0, noise(1)), (positive - negative) / 25, atol=1e-6)
    assert not torch.equal(array.weights(3600.0, noise(1)), weights)


def test_both_devices_of_a_pair_have_a_history_of_their_own(noise):
    weights = torch.full((1, 100, 300), 0.5)
    array = ProgrammedCrossbar.program(weights, PCM(idle_noise=True), noise())
    assert (array.active.g_prog - 12.5).std() > 0.5
    assert array.idle.g_prog.max() > 0
    nus = torch.stack([array.active.nu.flatten(), array.idle.nu.flatten()]).float()
    assert nus[0].mean().item() == pytest.approx(0.049, abs=5e-4)
    assert nus[1].mean().item() == pytest.approx(0.1, abs=3e-3)  # the upper limit of the law, at zero; |ν| adds 0.4 %
    assert abs(torch.corrcoef(nus)[0, 1]) < 5 / math.sqrt(nus.shape[1])
    # Each ages by its own exponent: what the pair shows is not the drift of the difference.
    quiet = ProgrammedCrossbar(
        PCM(noise_scale=0.0), array.sign, array.active, replace(array.idle, error=torch.full_like(weights, 5.0))
    )
    expected = array.active.g_prog * 2 ** -array.active.nu.float() - 5 * 2 ** -array.idle.nu.float()
    assert torch.allclose(quiet.weights(20.0, noise()), expected / 25, atol=1e-6)


def test_idle_devices_without_noise_leave_zero_weights_at_zero(noise):
    weights = torch.zeros(1, 4, 5)
    assert not ProgrammedCrossbar.program(weights, PCM(), noise()).weights(3600.0, noise()).any()
    assert ProgrammedCrossbar.program(weights, PCM(idle_noise=True), noise()).weights(3600.0, noise()).any()


# --- converters ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 6, 8, 10])
def test_a_dac_has_two_to_the_bits_minus_two_steps_across_its_range(bits):
    per_input = torch.tensor(DAC(bits).full_scale / 2.0)
    codes = DAC(bits).codes(torch.linspace(-3, 3, 100_001).unsqueeze(0), per_input)
    assert codes.unique().numel() == 2**bits - 2 + 1  # 254 steps for 8 bits have 255 ends
    assert (codes.min(), codes.max()) == (-(2 ** (bits - 1) - 1), 2 ** (bits - 1) - 1)
    assert DAC(bits).codes(torch.zeros(1, 1), per_input) == 0


@few
@given(st.floats(0.01, 100), st.integers(2, 16))
def test_converting_twice_is_converting_once(input_range, bits):
    dac, adc = DAC(bits), ADC(bits, 10.0)
    x = 3 * input_range * torch.randn(4, 50, generator=draw())
    per_input = torch.tensor(dac.full_scale / input_range)
    codes = dac.codes(x, per_input)
    assert torch.equal(dac.codes(codes / per_input, per_input), codes)
    converted = adc.convert_(x / adc.lsb)
    assert torch.equal(adc.convert_(converted.clone()), converted)
    assert converted.abs().max() <= adc.full_scale


@pytest.mark.parametrize("bits", [8, 10])
def test_every_row_block_has_its_own_input_range(kernel, bits):
    crossbar = replace(QUIET, rows=2, dac_bits=bits)
    grid = crossbar.grid(1, 4)
    ready = ReadyWeights.of(torch.ones(2, 1, 2), grid, crossbar, "int8", kernel)
    scaling = Scaling.of(torch.tensor([1.0, 4.0]), torch.ones(2, 1), grid, crossbar)
    y, codes = mvm(torch.tensor([[1.0, -1.0, 1.0, 1.0], [9.0, 9.0, -9.0, 0.0]]), ready, scaling, 1)
    full, quarter = 2 ** (bits - 1) - 1, round((2 ** (bits - 1) - 1) / 4)
    assert codes.tolist() == [[full, -full, quarter, quarter], [full, full, -full, 0]]
    assert codes.dtype == (torch.int8 if bits == 8 else torch.float32)
    lsb = crossbar.adc.lsb
    assert y.flatten().tolist() == pytest.approx([2 * quarter / full * 4, 2 - 4], abs=(1 + 4) * lsb / 2)


@pytest.mark.parametrize(("bits", "lsb"), [(10, 0.01957), (8, 0.0787)])
def test_a_step_of_the_adc_is_as_large_as_published(bits, lsb):
    assert ADC(bits, 10.0).lsb == pytest.approx(lsb, rel=1e-3)


def test_the_output_noise_of_the_presets_is_as_large_as_published():
    def full_on_cells(option):
        file = conf_dir() / "tile" / f"{option}.yaml"
        crossbar = build(as_annotated(yaml.safe_load(file.read_text(encoding="utf-8")), "tile"), "tile")
        return crossbar.output_noise * crossbar.adc.lsb

    assert full_on_cells("spoon2021") == pytest.approx(0.00978, abs=1e-5)
    assert full_on_cells("factsheet") == pytest.approx(0.04, abs=1e-4)


@pytest.mark.parametrize("bits", [8, 10])
def test_an_adc_rounds_to_its_steps_and_clips_at_its_bound(bits):
    adc = ADC(bits, 10.0)
    currents = torch.linspace(-15, 15, 30_001)
    read = adc.convert_(currents / adc.lsb) * adc.lsb
    assert read.abs().max().item() == pytest.approx(10.0, rel=1e-6)
    inside = currents.abs() < 10
    assert (read - currents)[inside].abs().max().item() == pytest.approx(adc.lsb / 2, rel=1e-3)
    assert (read[~inside].abs() == read.abs().max()).all()
    clipping = adc.clipping(adc.convert_(currents / adc.lsb))
    assert torch.equal(clipping[currents.abs() < 10 - adc.lsb], torch.zeros_like(clipping[currents.abs() < 10 - adc.lsb]))
    assert torch.equal(clipping[currents.abs() >= 10].float(), currents[currents.abs() >= 10].sign())


def test_ideal_converters_pass_what_they_get():
    x = 100 * torch.randn(3, 4, generator=draw())
    assert torch.equal(ADC(None, 10.0).convert_(x.clone()), x)
    assert torch.equal(DAC(None).codes(x, torch.tensor(1.0)), x)
    assert DAC(None).full_scale == ADC(None, 10.0).lsb == 1


def test_a_layer_clips_at_the_bound_of_every_tile_not_of_their_sum(kernel):
    weight, x = torch.ones(1, 60), torch.ones(1, 60)
    crossbar = replace(QUIET, rows=20, columns=20)  # three tiles; each would answer 20 full-on cells
    assert on_tiles(weight, x, crossbar, kernel=kernel).item() == pytest.approx(30, rel=1e-6)
    assert on_tiles(weight, x, replace(crossbar, rows=60), kernel=kernel).item() == pytest.approx(10, rel=1e-6)


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"rows": 0}, "tile.rows"),
        ({"adc_bits": 1}, "tile.adc_bits"),
        ({"dac_bits": 25}, "tile.dac_bits"),
        ({"adc_bound": 0.0}, "tile.adc_bound"),
        ({"read_noise": -0.1}, "tile.read_noise"),
        ({"adc_bits": None}, "tile.output_noise"),
        ({"scale_per": "row"}, "tile.scale_per"),
    ],
)
def test_tiles_that_cannot_be_are_refused_by_their_full_key(fields, key):
    with pytest.raises(ValueError, match=f"Setting `{key}` must"):
        Crossbar(**fields)


# --- products ------------------------------------------------------------------------------------------


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


# --- noise ---------------------------------------------------------------------------------------------

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


# --- IR drop -------------------------------------------------------------------------------------------


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


# --- read-out and drift compensation -------------------------------------------------------------------

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
