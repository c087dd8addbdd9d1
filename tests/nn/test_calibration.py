"""Input ranges from data: the exact percentile of |x| of each row block, padding left out."""

import numpy as np
import pytest
import torch
from torch import nn

from analog_glue.devices.ideal import Ideal
from analog_glue.nn.calibration import SMALLEST_RANGE, calibrate_input_ranges
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.placement import Placement
from analog_glue.settings import Calibration
from analog_glue.tiles.crossbar import Crossbar


class Encoder(nn.Module):
    """A linear layer on every token, called `uses` times, and one on the first token (as a pooler)."""

    def __init__(self, table, uses=1):
        super().__init__()
        self.table, self.uses = table, uses
        self.dense = nn.Linear(table.shape[1], 2)
        self.pooler = nn.Linear(table.shape[1], 2)
        self.unused = nn.Linear(table.shape[1], 2)

    def forward(self, input_ids, attention_mask):
        x = self.table[input_ids]
        for use in range(self.uses):
            self.dense(x * 10.0**-use)
        return self.pooler(x[:, 0])


INPUTS = 11
TILE = Crossbar(rows=4, columns=8)  # rows 4 + 4 + 3


def batches_of(lengths, size, seed=0):
    """Token ids with a mask; what is beyond the mask points to rows of enormous values."""
    draw = torch.Generator().manual_seed(seed)
    for start in range(0, len(lengths), size):
        part = torch.tensor(lengths[start : start + size])
        mask = torch.arange(int(part.max())) < part.unsqueeze(1)
        ids = torch.randint(0, 900, mask.shape, generator=draw)
        yield {"input_ids": torch.where(mask, ids, 950), "attention_mask": mask.long()}


@pytest.fixture
def table():
    values = torch.randn(1000, INPUTS, generator=torch.Generator().manual_seed(5))
    values[:, 4:8] *= 3.0  # the second row block
    values[900:] = 1e6
    return values


def calibrated(model, batches, percentile, names=("dense", "pooler"), tile=TILE, adc_headroom=False):
    placement = Placement.of(model, Hardware(Ideal(), tile, names))
    return calibrate_input_ranges(model, placement.layers(model), placement, batches, percentile, adc_headroom)


def percentile_of(values, percentile):
    """The smallest value that at least `percentile` % do not exceed."""
    return np.quantile(values.abs().double().numpy(), percentile / 100, method="inverted_cdf")


# Over 97 vectors a row block of 4 has 388 values, one of 3 has 291: none of these shares is a whole number of them.
@pytest.mark.parametrize("percentile", [50.1, 90.3, 99.3, 99.995, 100.0])
@pytest.mark.parametrize("size", [3, 20])
def test_the_range_is_the_percentile_of_what_each_row_block_sees_without_padding(table, percentile, size):
    lengths = [9, 3, 7, 1, 12, 5, 8, 2, 6, 10, 4, 11, 3, 7, 9]
    assert sum(lengths) == 97
    model = Encoder(table)
    batches = list(batches_of(lengths, size))
    ranges = calibrated(model, batches, percentile)
    for name, first_only in (("dense", False), ("pooler", True)):
        seen = torch.cat(
            [table[b["input_ids"][:, 0] if first_only else b["input_ids"][b["attention_mask"].bool()]] for b in batches]
        )
        assert seen.max() < 100
        expected = [percentile_of(part, percentile) for part in seen.split([4, 4, 3], dim=1)]
        assert ranges[name].tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("percentile", [50.1, 90.3, 99.3])
def test_a_layer_used_several_times_has_the_percentile_of_all_its_uses(table, percentile):
    batches = list(batches_of([9, 3, 7, 1, 12, 5], size=2))
    seen = torch.cat([table[b["input_ids"][b["attention_mask"].bool()]] for b in batches])
    seen = torch.cat([seen, 0.1 * seen, 0.01 * seen])
    ranges = calibrated(Encoder(table, uses=3), batches, percentile)["dense"]
    expected = [percentile_of(part, percentile) for part in seen.split([4, 4, 3], dim=1)]
    assert ranges.tolist() == pytest.approx(expected, rel=1e-5)


def test_inputs_of_zero_leave_a_positive_range():
    ranges = calibrated(Encoder(torch.zeros(1000, INPUTS)), batches_of([3, 4], size=2), 99.995)
    assert ranges["dense"].tolist() == pytest.approx([SMALLEST_RANGE] * 3)


def test_a_layer_that_is_never_called_is_refused(table):
    with pytest.raises(ValueError, match=r"never called by the model; take it out with `hardware\.layers`"):
        calibrated(Encoder(table), batches_of([3], size=1), 99.0, names=("dense", "unused"))


def test_calibration_leaves_no_hook_and_no_change_behind(table):
    model = Encoder(table)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    calibrated(model, batches_of([3, 4], size=2), 99.0)
    assert not model.dense._forward_pre_hooks
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# --- room for the currents -----------------------------------------------------------------------------


def test_a_range_is_widened_until_the_currents_fit_the_adc():
    """Forty rows of full-scale inputs on full-on cells give 40 full-on cells, four times what the ADC reads."""
    model = Encoder(torch.full((1000, 40), 0.5))
    with torch.no_grad():
        model.dense.weight.fill_(0.1)
        model.pooler.weight.copy_(torch.tensor([0.1, -0.1]).repeat(20).expand(2, 40))  # currents that cancel
    tile = Crossbar(rows=40, columns=8)
    fitted = calibrated(model, batches_of([9, 9], size=2), 100.0, tile=tile, adc_headroom=True)
    assert fitted["dense"].item() == pytest.approx(4 * 0.5, rel=1e-5)
    assert fitted["pooler"].item() == pytest.approx(0.5)
    without_adc = Crossbar(rows=40, adc_bits=None, output_noise=0.0)
    for options in ({"tile": tile}, {"tile": without_adc, "adc_headroom": True}):
        tight = calibrated(model, batches_of([9, 9], size=2), 100.0, **options)
        assert tight["dense"].item() == pytest.approx(0.5)


def test_after_widening_hardly_an_output_saturates(table):
    torch.manual_seed(0)
    model = Encoder(table)
    batches = list(batches_of([9, 3, 7, 1, 12, 5] * 10, size=20))
    tile = Crossbar(rows=4, columns=8, adc_bound=0.8)
    seen = torch.cat([table[b["input_ids"][b["attention_mask"].bool()]] for b in batches])

    def saturated(ranges):
        """Largest share of saturated outputs of any column of any row block."""
        shares = []
        for alpha, x, w in zip(ranges, seen.split([4, 4, 3], 1), model.dense.weight.detach().split([4, 4, 3], 1), strict=True):
            currents = (x / alpha).clamp(-1, 1) @ (w / w.abs().amax(dim=1, keepdim=True)).t()
            shares.append((currents.abs() > 0.8).float().mean(dim=0).max().item())
        return max(shares)

    assert saturated(calibrated(model, batches, 99.0, tile=tile)["dense"]) > 0.05
    assert saturated(calibrated(model, batches, 99.0, tile=tile, adc_headroom=True)["dense"]) <= 0.015  # 1 % of a batch


@pytest.mark.parametrize("size", [3, 20])
def test_a_range_may_be_so_many_standard_deviations_of_what_its_row_block_sees(table, size):
    table[:, 8:] += 5.0  # a mean is no deviation
    model, lengths = Encoder(table, uses=2), [7, 1, 9, 4, 12, 3, 8, 5, 2, 10, 6, 11]
    batches = list(batches_of(lengths, size))
    placement = Placement.of(model, Hardware(Ideal(), TILE, ("dense", "pooler")))
    ranges = calibrate_input_ranges(model, placement.layers(model), placement, batches, 99.0, False, deviations=3.0)
    tokens = torch.cat([batch["input_ids"][batch["attention_mask"].bool()] for batch in batches])
    first = torch.cat([batch["input_ids"][:, 0] for batch in batches])
    for name, seen in (("dense", torch.cat([table[tokens], table[tokens] * 0.1])), ("pooler", table[first])):
        for block, part in enumerate(seen.double().split([4, 4, 3], dim=1)):
            assert ranges[name][block].item() == pytest.approx(3 * np.std(part.numpy()), rel=1e-6)


def test_deviations_are_widened_for_the_adc_as_a_percentile_is(table):
    model, batches = Encoder(table), list(batches_of([9, 5, 12], 3))
    narrow = Crossbar(rows=4, columns=8, adc_bound=0.5)
    placement = Placement.of(model, Hardware(Ideal(), narrow, ("dense", "pooler")))
    rule = model, placement.layers(model), placement, batches, 99.0
    alone, widened = (calibrate_input_ranges(*rule, headroom, deviations=3.0) for headroom in (False, True))
    assert all(torch.all(widened[name] >= alone[name]) for name in alone) and (widened["dense"] > alone["dense"]).any()


@pytest.mark.parametrize("deviations", [0.0, -1.0])
def test_deviations_are_positive(deviations):
    with pytest.raises(ValueError, match=r"hardware\.calibration\.deviations"):
        Calibration(deviations=deviations)


def test_a_calibration_says_its_rule():
    assert Calibration().in_words == "99.995 % of |x| of 256 training examples"
    assert Calibration(deviations=3.0, examples=800).in_words == "3 standard deviations of x of 800 training examples"
