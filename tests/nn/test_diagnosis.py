"""What a tile is said to lose, against closed forms: uniform inputs, Gaussian currents, codes counted by hand."""

import math

import pytest
import torch
from scipy import stats
from torch import nn

from analog_glue.devices.ideal import Ideal
from analog_glue.devices.pcm import PCM
from analog_glue.errors import UserError
from analog_glue.nn.diagnosis import diagnose
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.tiles.crossbar import Crossbar
from tests.nn.helpers import draw, programmed

MONTH = 2_592_000.0  # [s]
PADDING = 1e6  # what stands at padded positions, if one of them counted


class Encoder(nn.Module):
    """Looks vectors up, and puts them through one linear layer, `uses` times."""

    def __init__(self, table, weight, uses=1):
        super().__init__()
        padding = torch.full((1, table.shape[1]), PADDING)
        self.table, self.uses = torch.cat([table, padding]), uses
        self.dense = nn.Linear(weight.shape[1], weight.shape[0])
        self.unused = nn.Linear(weight.shape[1], 2)
        with torch.no_grad():
            self.dense.weight.copy_(weight)

    def forward(self, input_ids, attention_mask):
        return [self.dense(self.table[input_ids]) for _ in range(self.uses)][-1]


def batches_of(count, size=500, padded=0):
    """Every vector of the table once, `size` to a text, each text with so many padded positions behind it."""
    for start in range(0, count, size):
        ids = torch.arange(start, min(start + size, count)).unsqueeze(0)
        mask = torch.ones_like(ids)
        yield {
            "input_ids": nn.functional.pad(ids, (0, padded), value=count),
            "attention_mask": nn.functional.pad(mask, (0, padded)),
        }


def tiles_of(
    table,
    weight,
    tile,
    alpha,
    device=None,
    times=(1.0,),
    kernel="reference",
    uses=1,
    padded=0,
    product="float32",
    names=("dense",),
):
    model = Encoder(table, weight, uses)
    hardware = Hardware(device or Ideal(), tile, names)
    blocks = len(tile.grid(*weight.shape).row_blocks)
    ranges = torch.as_tensor(alpha, dtype=torch.float32).expand(blocks).clone()
    chip = programmed(model, hardware, dict.fromkeys(names, LayerPeriphery(ranges)), chip=-1, kernel=kernel, product=product)
    return diagnose(chip, batches_of(len(table), padded=padded), times), chip


def gaussian(vectors, inputs, seed=0):
    return torch.randn(vectors, inputs, generator=draw(seed))


def within(share, expected, draws):
    """Four standard deviations of a share of so many independent draws."""
    return abs(share - expected) <= 4 * math.sqrt(expected * (1 - expected) / draws) + 1e-12


# --- inputs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "clipped"), [(0.5, 0.5), (0.9, 0.1), (1.0, 0.0)])
def test_uniform_inputs_are_clipped_by_what_lies_beyond_the_range(alpha, clipped):
    table = torch.rand(2000, 16, generator=draw()) * 2 - 1
    (tile,), _ = tiles_of(table, gaussian(3, 16), Crossbar(rows=16), alpha)
    assert within(tile.clipped, clipped, table.numel())
    assert tile.vectors == 2000


def test_every_row_block_has_its_own_range_and_all_its_column_tiles_see_it():
    table = torch.rand(2000, 11, generator=draw()) * 2 - 1  # rows 4 + 4 + 3, columns 3 + 2
    tiles, _ = tiles_of(table, gaussian(5, 11), Crossbar(rows=4, columns=3), [0.25, 0.5, 0.8])
    assert [(t.row_block, t.column_tile, t.rows, t.columns) for t in tiles] == [
        (0, 0, 4, 3), (0, 1, 4, 2), (1, 0, 4, 3), (1, 1, 4, 2), (2, 0, 3, 3), (2, 1, 3, 2),
    ]  # fmt: skip
    for tile, expected in zip(tiles, (0.75, 0.75, 0.5, 0.5, 0.2, 0.2), strict=True):
        assert within(tile.clipped, expected, 2000 * tile.rows)
    assert tiles[0].clipped == tiles[1].clipped


def test_padded_positions_do_not_count(kernel):
    table, weight = gaussian(900, 8), gaussian(4, 8, 1)
    tile = Crossbar(rows=8, adc_bits=6, adc_bound=2.0)
    bare, _ = tiles_of(table, weight, tile, 2.0, kernel=kernel)
    padded, _ = tiles_of(table, weight, tile, 2.0, kernel=kernel, padded=37)
    assert padded == bare and bare[0].vectors == 900 and 0 < bare[0].clipped < 0.1


def test_a_layer_used_several_times_is_seen_at_every_use():
    (once,), _ = tiles_of(gaussian(300, 8), gaussian(4, 8, 1), Crossbar(rows=8), 2.0)
    (thrice,), _ = tiles_of(gaussian(300, 8), gaussian(4, 8, 1), Crossbar(rows=8), 2.0, uses=3)
    assert thrice.vectors == 3 * once.vectors and thrice.clipped == once.clipped
    assert thrice.rms_code == pytest.approx(once.rms_code, rel=0.01)
    assert thrice.rms_code != once.rms_code  # the noise of every use is its own


# --- outputs -------------------------------------------------------------------------------------------------------------

BITS = 7
FULL_SCALE = 2 ** (BITS - 1) - 1
WEIGHT = torch.tensor([[0.6, 0.3, -0.2, 0.1], [1.0, -1.0, 0.5, 0.9], [0.1, 0.0, 0.05, 0.0]])
VECTORS = 40_000


def laws_of(sigma):
    """Share of saturated outputs and mean square code of Gaussian currents of σ [LSB]: P(c) from the normal distribution."""
    saturated = math.erfc((FULL_SCALE - 0.5) / (sigma * math.sqrt(2)))
    normal = stats.norm(scale=sigma)
    inside = sum(c**2 * (normal.cdf(c + 0.5) - normal.cdf(c - 0.5)) for c in range(-FULL_SCALE + 1, FULL_SCALE))
    return saturated, inside + FULL_SCALE**2 * saturated


@pytest.mark.parametrize("output_noise", [0.0, 4.0])  # [LSB]
def test_gaussian_currents_saturate_and_fill_the_adc_as_the_normal_law_says(output_noise, kernel):
    tile = Crossbar(
        dac_bits=None, adc_bits=BITS, adc_bound=1.5, read_noise=0.0, output_noise=output_noise, scale_per="none", rows=4
    )
    (found,), _ = tiles_of(gaussian(VECTORS, 4), WEIGHT, tile, 1.0, kernel=kernel)
    lsb = 2 * 1.5 / (2**BITS - 2)
    squares = []
    for column, weights in enumerate(WEIGHT):
        sigma = math.hypot(weights.norm().item() / lsb, output_noise)
        saturated, square = laws_of(sigma)
        assert within(found.by_column.saturated[column].item(), saturated, VECTORS)
        rms = found.by_column.rms_code[column].item() * FULL_SCALE
        assert rms == pytest.approx(math.sqrt(square), rel=4 / math.sqrt(2 * VECTORS))
        squares.append(square)
    shares = [laws_of(math.hypot(weights.norm().item() / lsb, output_noise))[0] for weights in WEIGHT]
    assert found.saturated == pytest.approx(sum(shares) / 3, abs=0.005) and shares[1] > 0.3
    assert found.saturated_column == found.by_column.saturated[1].item()
    assert found.rms_code == pytest.approx(math.sqrt(sum(squares) / 3) / FULL_SCALE, rel=0.01)
    assert found.clipped is None


def test_the_codes_that_occurred_are_counted_once_for_all_columns_of_a_tile():
    """One row, weights of 1, −1 and 0.5 and inputs of 0, 2, 4 steps: codes 0, ±2, ±4, 1, 2, of 127."""
    tile = Crossbar(
        rows=1, columns=3, dac_bits=None, adc_bits=BITS, adc_bound=63.0, read_noise=0.0, output_noise=0.0, scale_per="none"
    )
    table = torch.tensor([[0.0], [2.0], [4.0]]).repeat(5, 1)
    (found,), _ = tiles_of(table, torch.tensor([[1.0], [-1.0], [0.5]]), tile, 1.0)
    assert found.codes_used == pytest.approx(6 / 127)
    squares = [(0 + 4 + 16) / 3, (0 + 4 + 16) / 3, (0 + 1 + 4) / 3]
    assert found.rms_code == pytest.approx(math.sqrt(sum(squares) / 3) / 63)
    assert found.saturated == 0


@pytest.mark.parametrize(
    ("current", "saturated"), [(62.0, 0), (62.4, 0), (62.6, 1), (63.0, 1), (900.0, 1), (-62.4, 0), (-63.0, 1)]
)
def test_an_output_saturates_from_half_a_step_below_the_bound(current, saturated):
    tile = Crossbar(
        rows=1, dac_bits=None, adc_bits=BITS, adc_bound=63.0, read_noise=0.0, output_noise=0.0, scale_per="none"
    )  # an LSB is a full-on cell
    (found,), _ = tiles_of(torch.full((10, 1), current), torch.ones(1, 1), tile, 1.0)
    assert found.saturated == saturated


NOISELESS = {"read_noise": 0.0, "output_noise": 0.0}


@pytest.mark.parametrize("tile", [{}, {"ir_drop": 1.0}, {"scale_per": "tile", "dac_bits": 6}], ids=str)
@pytest.mark.parametrize("product", ["int8", "float32"])
def test_the_codes_looked_at_are_those_of_the_forward_pass(tile, product, kernel):
    """Without noise, codes times what an LSB is worth, summed over the row blocks, are the output of the layer."""
    weight, x = gaussian(13, 27, 1), gaussian(70, 27)
    crossbar = Crossbar(rows=10, columns=8, **NOISELESS, **tile)
    _, chip = tiles_of(x, weight, crossbar, 2.0, PCM(), kernel=kernel, product=product)
    layer = chip.layers["dense"]
    _, codes = layer.codes(x, "test")
    scale = layer._scaling[True]
    assert torch.allclose((codes * scale.step.unsqueeze(1)).sum(dim=0) + layer.bias, layer(x), rtol=1e-5, atol=1e-5)


# --- conductances, time, what is not there -------------------------------------------------------------------------------


def test_columns_fill_the_range_as_far_as_their_largest_weight():
    weight = gaussian(6, 9, 3)
    shared = Crossbar(rows=5, columns=4, scale_per="tile")  # rows 5 + 4, columns 3 + 3
    tiles, _ = tiles_of(gaussian(20, 9), weight, shared, 3.0, PCM())
    parts = [part.abs() for rows in weight.split([5, 4], dim=1) for part in rows.split([3, 3], dim=0)]
    expected = [(part.amax(dim=1) / part.max()).mean().item() for part in parts]
    assert [tile.filled for tile in tiles] == pytest.approx(expected, rel=1e-6)
    assert max(expected) < 1
    alone, _ = tiles_of(gaussian(20, 9), weight, Crossbar(rows=5, columns=4), 3.0, PCM())
    assert [tile.filled for tile in alone] == pytest.approx([1.0] * 4)


def test_drift_weakens_the_currents_and_not_the_inputs():
    how = (gaussian(500, 64), gaussian(32, 64, 1), Crossbar(rows=64, **NOISELESS), 2.5, PCM())
    (first, last), _ = tiles_of(*how, times=(1.0, MONTH))
    assert (first.t, last.t) == (1.0, MONTH)
    # (t/t_c)^−ν from 20 s on with a mean ν between 0.049 and 0.1 (Joshi 2020): 0.31 … 0.56, up to the spread of 500 × 32 sums
    assert 0.3 < last.rms_code / first.rms_code < 0.6
    assert last.clipped == first.clipped and last.filled == first.filled


def test_what_is_not_there_has_no_numbers():
    without_adc = Crossbar(rows=8, adc_bits=None, output_noise=0.0)
    (tile,), _ = tiles_of(gaussian(50, 8), gaussian(4, 8), without_adc, 1.0)
    assert (tile.saturated, tile.saturated_column, tile.rms_code, tile.codes_used, tile.by_column) == (None,) * 5
    assert tile.clipped > 0
    (fine,), _ = tiles_of(gaussian(50, 8), gaussian(4, 8), Crossbar(rows=8, adc_bits=20, output_noise=0.0), 1.0)
    assert fine.codes_used is None and fine.rms_code > 0


def test_a_layer_that_is_never_called_is_refused():
    with pytest.raises(UserError, match=r"`unused` must be called by the model.*hardware\.layers"):
        tiles_of(gaussian(50, 8), gaussian(4, 8), Crossbar(rows=8), 1.0, names=("dense", "unused"))


def test_a_look_changes_nothing_that_the_chip_answers(kernel):
    batch = next(batches_of(100))
    _, chip = tiles_of(gaussian(100, 8), gaussian(4, 8, 1), Crossbar(rows=8), 2.0, PCM(), times=(60.0,), kernel=kernel)
    chip.set_time(1.0)
    before = chip.ready_to_score(True)(**batch)
    looked = [diagnose(chip, [batch], [1.0]) for _ in range(2)]
    assert looked[0] == looked[1]
    assert torch.equal(chip.ready_to_score(True)(**batch), before)
    assert not chip.layers["dense"]._forward_pre_hooks
