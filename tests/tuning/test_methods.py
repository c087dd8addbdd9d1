"""Methods against closed forms, exhaustive search and the unchanged network."""

import numpy as np
import pytest
import torch

from analog_glue.errors import UserError, WrongArgument
from analog_glue.kernels.gaussian import NormalStream
from analog_glue.nn.convert import program
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.tiles.converters import DAC
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tuning.auto import Auto, is_better, told
from analog_glue.tuning.conductance_range import ConductanceRange
from analog_glue.tuning.dac_range import DacRange, smallest_l1_range
from analog_glue.tuning.lammie2024 import Lammie2024
from analog_glue.tuning.method import Choice, Step, Tuned, Tuning, best_for_network
from analog_glue.tuning.rescaling import Rescaling, percentile, scales
from tests.tuning.helpers import NOTHING, OUTLIER, QUIET, TILE, at_first, bench, network, outputs, pcm_bench

METHODS = [DacRange(), ConductanceRange(), Rescaling(), Lammie2024(), Auto()]
FFN = "bert.encoder.layer.0.intermediate.dense"
QUERY = "bert.encoder.layer.0.attention.self.query"


def seen_by(own, periphery, first=0, count=8):
    found = {}
    own.observe(periphery, own.examples(first, count), lambda name, x: found.setdefault(name, []).append(x))
    return {name: torch.cat(parts) for name, parts in found.items()}


# Input ranges


@pytest.mark.parametrize("k", [100.0, 99.5, 90.0])
def test_one_percentile_is_that_of_the_sizes_of_all_inputs(k):
    own = bench(NOTHING)
    found = DacRange(percentiles=(k,)).tune(own, at_first(own), print)
    x = seen_by(own, at_first(own))[FFN].abs()
    for block, part in enumerate(x.split((12, 12), dim=1)):
        values = np.sort(part.flatten().numpy())
        wanted = values[len(values) - 1 - int(len(values) * (1 - k / 100))]
        assert found.periphery[FFN].input_range[block].item() == pytest.approx(wanted, rel=1e-6)
    assert found.steps[0].choices[FFN] == Choice("max" if k == 100 else f"{k:g} %")


def test_max_and_moving_std_are_what_they_say():
    own = bench(NOTHING)
    x = seen_by(own, at_first(own))[FFN]
    largest = DacRange("max").tune(own, at_first(own), print).periphery[FFN].input_range
    assert torch.equal(largest, torch.stack([part.abs().max() for part in x.split((12, 12), dim=1)]))
    moving = DacRange("moving_std", deviations=2.0).tune(own, at_first(own), print)
    parts = []
    own.observe(at_first(own), own.examples(0, 8), lambda name, x: parts.append(x) if name == FFN else None)
    wanted = torch.zeros(2)
    for number, part in enumerate(parts):
        now = 2.0 * torch.stack([block.std() for block in part.split((12, 12), dim=1)])
        wanted = now if number == 0 else 0.99 * wanted + 0.01 * now
    assert torch.allclose(moving.periphery[FFN].input_range, wanted) and moving.steps[0].words() == "2 std"


@pytest.mark.parametrize("bits", [3, 5, 8])
def test_the_l1_rule_finds_what_an_exhaustive_search_finds(bits):
    """Normal values: the fewer steps there are, the more of the tail is given up."""
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    dac = DAC(bits)

    def loss(alpha):
        codes = (x / alpha * dac.full_scale).round().clamp(-dac.full_scale, dac.full_scale)
        return float((x - codes * alpha / dac.full_scale).abs().mean())

    least = min(loss(alpha) for alpha in torch.linspace(0.5, float(x.abs().max()), 400).tolist())
    assert loss(float(smallest_l1_range(x, dac))) < 1.01 * least


def test_a_range_is_searched_where_the_first_one_is_bad_and_kept_where_it_is_best():
    """Objective layer: what is chosen for a layer has the smallest measured error of all candidates."""
    own = bench(QUIET)
    before = at_first(own, 0.05)  # clips nearly everything
    found = DacRange(objective="layer").tune(own, before, print)
    choice = found.steps[0].choices[FFN]
    assert choice.after < 0.1 * choice.before and "as before" not in choice.chosen
    again = DacRange(objective="layer").tune(own, found.periphery, print)
    assert own.judged_errors(again.periphery).mean() <= 1.2 * own.judged_errors(found.periphery).mean()


def test_of_several_settings_the_outputs_of_the_network_decide():
    own = bench(QUIET)
    good, bad = at_first(own, 6.0), at_first(own, 0.05)
    found = best_for_network(own, bad, {"narrow": at_first(own, 0.05), "wide": good, "wide, too": at_first(own, 6.0)}, "x")
    assert found.periphery[FFN] is good[FFN] and {choice.chosen for choice in found.steps[0].choices.values()} == {"wide"}
    assert set(found.steps[0].compared) == {"as before", "wide"}  # equals are looked at once
    found = best_for_network(own, good, {"narrow": bad}, "x")
    assert found.periphery[FFN] is good[FFN] and found.steps[0].words() == "as before"


# Conductance ranges


def test_a_column_is_lowered_until_its_predicted_current_fits_or_raised_as_far_as_devices_go():
    own = bench(QUIET)
    before = at_first(own, 1.0)
    number = 2.0
    found = ConductanceRange((2,), (number,)).tune(own, before, print).periphery[FFN]
    x = seen_by(own, before, count=2)[FFN].clamp(-1, 1)
    weight = own.layers[FFN].weight.detach()
    raised = lowered = 0
    for block, rows in enumerate((slice(0, 12), slice(12, 24))):
        for tile in (slice(0, 14), slice(14, 27), slice(27, 40)):
            w = weight[tile, rows]
            scale = w.abs().max()
            currents = (x[:, rows] @ w.t() / scale).abs()
            peak = currents.mean(dim=0) + number * currents.std(dim=0, correction=0)
            g = w.abs().amax(dim=1) / scale  # of the column's largest weight under one scale per tile, in units of g_max
            wanted = torch.minimum(torch.ones(()), g * 10.0 / peak)
            assert torch.allclose(w.abs().amax(dim=1) / found.weight_range[block, tile], wanted, rtol=1e-5)
            raised += int((wanted > g * 1.001).sum())
            lowered += int((wanted < g * 0.999).sum())
    assert raised > 0
    # No current of these inputs reaches ±10 cells here; a bound of 2 is reached.
    low = bench(Crossbar(rows=16, columns=16, adc_bits=8, adc_bound=2.0, output_noise=0.0, read_noise=0.0, scale_per="tile"))
    found = ConductanceRange((2,), (number,)).tune(low, before, print).periphery[FFN]
    filled = low.blocks(FFN, before[FFN]).abs().amax(dim=2) / found.weight_range
    assert lowered == 0 and float(filled.min()) < 1 and float(filled.max()) <= 1 + 1e-6


def test_without_converters_and_noise_a_conductance_range_changes_nothing():
    own = bench(NOTHING)
    plain = at_first(own)
    tuned = {
        name: LayerPeriphery(layer.input_range, weight_range=1.7 * own.weight_range(name, layer))
        for name, layer in plain.items()
    }
    assert torch.allclose(outputs(own, tuned), outputs(own, plain), rtol=1e-5, atol=1e-6)


def test_a_programmed_column_scale_survives_programming():
    """On a tile that would scale every column by itself the stored range holds: the largest cell is what it says."""
    own = bench(Crossbar(rows=16, columns=16, scale_per="column", output_noise=0.0, read_noise=0.0))
    name = "classifier"
    wanted = 4 * own.layers[name].weight.detach().abs().max() * torch.ones(2, 2)
    chip = program(own.model, own.placement, own.computation, at_first(own) | {
        name: LayerPeriphery(torch.ones(2), weight_range=wanted)}, 0)  # fmt: skip
    largest = chip.layers[name]._array.weights(0.0, NormalStream("unused")).abs().amax(dim=2)
    blocks = own.placement.grids[name].to_blocks(own.layers[name].weight.detach())
    assert torch.allclose(largest, blocks.abs().amax(dim=2) / wanted) and float(largest.max()) <= 0.25 + 1e-6


# Rescaling


def test_scales_are_the_formula_up_to_a_common_factor():
    x, w = torch.tensor([4.0, 1.0, 0.0, 9.0]), torch.tensor([0.25, 4.0, 1.0, 0.0])
    found = scales(x, w, 0.5)
    assert found[0] / found[1] == pytest.approx((4 / 0.25) ** 0.5 / (1 / 4.0) ** 0.5)
    assert found[2] == found[3] == 1 and (found[0] * found[1]).item() == pytest.approx(1.0)  # unused; geometric mean 1
    assert scales(x, w, 1.0)[0] / scales(x, w, 1.0)[1] == pytest.approx(4.0)
    assert percentile(torch.arange(1000.0), 99.0) == 989 and percentile(torch.arange(1000.0), 100.0) == 999


@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_rescaling_changes_nothing_in_digital_floats(strength):
    """Through the code that programs it, on tiles without any error: outputs as without, to 1e-5 of the largest."""
    own = bench(NOTHING)
    plain = at_first(own)
    candidates = {}
    seen = seen_by(own, plain)
    for group in own.shared:
        own_of = Rescaling((strength,))._candidates(own, group, plain, seen[group[0]])
        candidates |= own_of[f"λ = {strength:g}"]
    moved = max(float(layer.input_scale.max() / layer.input_scale.min()) for layer in candidates.values())
    ours, theirs = outputs(own, candidates), outputs(own, plain)
    assert moved > 3 and torch.allclose(ours, theirs, rtol=0, atol=1e-5 * float(theirs.abs().max()))
    query, key = (candidates[f"bert.encoder.layer.0.attention.self.{name}"] for name in ("query", "key"))
    assert query.input_scale is key.input_scale


def test_the_scale_of_an_attention_output_folds_into_the_values():
    """What lets its multiplies count as none: V's rows and bias over s, the output's columns times s."""
    model, folded = network(), network()
    s = torch.empty(24).uniform_(0.2, 5.0, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for layer in folded.bert.encoder.layer:
            layer.attention.self.value.weight.div_(s.unsqueeze(1))
            layer.attention.self.value.bias.div_(s)
            layer.attention.output.dense.weight.mul_(s)
        batch = bench().examples(0, 1)[0]
        assert torch.allclose(folded(**batch).logits, model(**batch).logits, rtol=1e-5, atol=1e-6)


def test_an_outlier_channel_is_moved_into_the_devices():
    own = bench(QUIET)
    before = DacRange("max").tune(own, at_first(own), print).periphery
    found = Rescaling(objective="layer").tune(own, before, print)
    choice, scale = found.steps[0].choices[QUERY], found.periphery[QUERY].input_scale
    assert choice.after < 0.7 * choice.before and int(scale.argmax()) == OUTLIER
    assert own.judged_errors(found.periphery).mean() < own.judged_errors(before).mean()


# All


def test_auto_keeps_a_step_only_where_the_error_falls_by_two_standard_errors():
    one = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert is_better(one, one - torch.tensor([0.1, 0.2, 0.1, 0.2]), 2.0)  # paired: the chips' spread does not matter
    assert not is_better(one, one - torch.tensor([2.0, -1.0, 1.0, -1.0]), 2.0) and not is_better(one, one, 2.0)
    own, said = pcm_bench(), []
    before = DacRange("max").tune(own, at_first(own), print).periphery
    found = Auto(passes=2).tune(own, before, said.append)
    methods = ["rescaling", "dac_range", "conductance_range"] * 2  # by the network's outputs, then by the layers' products
    # Something was kept: the others are tried on it, too.
    tried = [step.method for step in found.steps]
    assert tried == (methods * 2)[: len(tried)] and len(tried) > 6 and len(said) == len(tried)
    last = max(number for number, step in enumerate(found.steps) if step.kept)
    assert len(tried) in (last + 6, 12)
    error = torch.tensor(found.steps[0].logit_errors[0])
    for step in found.steps:
        first, after = map(torch.tensor, step.logit_errors)
        lost = len(after) < own.judges  # looked at no further
        assert torch.equal(first, error[: len(after)]) and (not lost or (bool((after >= first).all()) and not step.kept))
        assert lost or step.kept == is_better(first, after, 2.0)
        error = after if step.kept else error
    assert any(step.kept for step in found.steps)
    assert torch.equal(own.judged_errors(found.periphery), error)
    once = Auto().tune(own, before, print)
    assert [step.words() for step in once.steps] == [step.words() for step in found.steps[:6]]


def test_a_step_that_is_worse_on_the_first_judges_is_looked_at_no_further():
    own = pcm_bench()
    before = at_first(own)
    whole = own.judged_errors(before)
    assert len(whole) == own.judges > 2
    for than, looked_at in ((whole / 2, 2), (whole * 2, own.judges), (torch.cat([whole[:1] / 2, whole[1:] * 2]), own.judges)):
        assert torch.equal(own.judged_errors(before, than=than), whole[:looked_at])


@pytest.mark.parametrize(
    ("after", "kept", "said"),
    [
        (2.0, True, "3 → 2, kept"),
        (2.0, False, "3 → 2, not kept (gain below 1.5 standard errors)"),
        (4.0, False, "3 → 4, not kept"),
    ],
)
def test_a_step_that_gained_too_little_says_that_it_did(after, kept, said):
    step = Step("dac_range", {}, kept=kept, logit_errors=([3.0, 3.0], [after, after]))
    assert told(step, 1.5).endswith(f"squared error of the outputs {said}")


class _Spoils(Tuning):
    name = "spoils"

    def check(self, crossbar):
        pass

    def tune(self, bench, periphery, log):
        worse = {name: LayerPeriphery(layer.input_range * 0.01) for name, layer in periphery.items()}
        return Tuned(worse, [Step(self.name, {name: Choice("a hundredth") for name in worse})])


def test_auto_drops_a_step_that_harms():
    own = bench(QUIET)
    before = DacRange("max").tune(own, at_first(own), print).periphery
    found = Auto(rescaling=_Spoils(), dac_range=_Spoils(), conductance_range=_Spoils()).tune(own, before, print)
    assert not any(step.kept for step in found.steps) and found.periphery[FFN] is before[FFN] and len(found.steps) == 3


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_method_leaves_what_it_is_given_as_it_is(method):
    own = pcm_bench()
    weights = {name: value.clone() for name, value in own.model.state_dict().items()}
    before = at_first(own)
    kept = dict(before)
    method.tune(own, before, lambda said: None)
    assert all(before[name] is kept[name] for name in kept) and all(
        torch.equal(value, weights[name]) for name, value in own.model.state_dict().items()
    )


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_tiles_without_the_converter_are_refused_by_name(method):
    setting = "tile.adc_bits" if method.name == "conductance_range" else "tile.dac_bits"
    with pytest.raises(UserError, match=f"Setting `{setting}` must not be null for tuning="):
        method.check(NOTHING)
    assert method.check(TILE) is None


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: DacRange(percentiles=(0.0,)), "percentiles"), (lambda: DacRange(percentiles=(100.1,)), "percentiles"),
        (lambda: DacRange(percentiles=()), "percentiles"), (lambda: DacRange("median"), "rule"),
        (lambda: DacRange(deviations=0), "deviations"), (lambda: DacRange(objective="x"), "objective"),
        (lambda: ConductanceRange(()), "sequences"), (lambda: ConductanceRange((0,)), "sequences"),
        (lambda: ConductanceRange((2,), (-1.0,)), "deviations"), (lambda: Rescaling((1.5,)), "strengths"),
        (lambda: Rescaling(percentile=0), "percentile"), (lambda: Auto(margin=-1), "margin"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_are_refused(make, key):
    with pytest.raises(WrongArgument, match=key):
        make()
