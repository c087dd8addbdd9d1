"""A whole model on tiles: named noise, master weights that stay, chips that are an index, layers that are chosen."""

import copy

import pytest
import torch
from torch import nn
from transformers import AlbertConfig, AlbertForSequenceClassification, BertConfig, BertForSequenceClassification

from analog_glue.devices.ideal import Ideal
from analog_glue.devices.pcm import PCM
from analog_glue.nn.computation import Computation
from analog_glue.nn.convert import fold_output_scales, learned_periphery, to_analog, to_digital
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.linear import AnalogLinear
from analog_glue.nn.noise_clock import NoiseClock
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.nn.placement import Placement, clipped_weights
from analog_glue.nn.weight_noise import WeightNoise
from analog_glue.seeding import key
from analog_glue.tiles.crossbar import Crossbar
from tests.nn.helpers import IDEAL, NO_NOISE, NOISY, assert_unchanged, draw, programmed, random_linear, state_of


@pytest.fixture
def bert():
    """Two layers, 13 linear modules, odd sizes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=40, hidden_size=18, num_hidden_layers=2, num_attention_heads=2, intermediate_size=27, num_labels=3,
            max_position_embeddings=16, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1, initializer_range=0.3,
        )  # fmt: skip
        return BertForSequenceClassification(config).eval()


@pytest.fixture
def batch():
    ids = torch.randint(5, 40, (5, 9), generator=draw(2))
    mask = torch.arange(9) < torch.tensor([9, 7, 9, 3, 5]).unsqueeze(1)
    return {"input_ids": ids, "attention_mask": mask.long(), "labels": torch.tensor([0, 1, 2, 0, 1])}


def ranges_for(model, hardware, value=4.0):
    grids = Placement.of(model, hardware).grids
    return {name: LayerPeriphery(torch.full((len(grid.row_blocks),), value)) for name, grid in grids.items()}


def on_tiles(model, hardware, weight_noise=NO_NOISE, clock=None, kernel="reference", product="float32"):
    """`model` swapped in place, on tiles, with ranges of 4."""
    computation = Computation.resolved(hardware, "cpu", kernel, product)
    to_analog(model, Placement.of(model, hardware), computation, weight_noise, clock or NoiseClock(0))
    for layer in model.modules():
        if isinstance(layer, AnalogLinear):
            layer.input_range = torch.full_like(layer.input_range, 4.0)
            layer.on_tiles = True
    return model


def test_the_same_step_has_the_same_noise_and_another_one_another(bert, batch, kernel):
    clock = NoiseClock()
    on_tiles(bert, Hardware(PCM(), NOISY), WeightNoise(), clock, kernel=kernel)

    def logits(*stream):
        clock.start(*stream)
        torch.manual_seed(0)  # dropout
        return bert.train()(**batch).logits.detach()

    first = logits(0, "training", 5)
    logits(0, "training", 6)
    assert torch.equal(logits(0, "training", 5), first)
    assert not torch.equal(logits(0, "training", 6), first)
    clock.start(0, "training", 5)
    torch.manual_seed(0)
    one, two = bert(**batch).logits, bert(**batch).logits  # two forward passes of one step, as in gradient accumulation
    assert torch.equal(one, first)
    assert not torch.equal(one, two)


def test_every_layer_has_noise_of_its_own(bert):
    clock = NoiseClock(0)
    names = [name for name, _ in bert.named_modules()]
    purposes = [(name, purpose, use) for name in names for purpose in ("weight noise", "product noise") for use in (0, 1)]
    assert len({clock.key(*what) for what in purposes}) == len(purposes)


@pytest.mark.slow
@pytest.mark.parametrize("product", ["float32", "int8", "int8_single"])
def test_gradient_checkpointing_does_not_change_a_bit(bert, batch, product, kernel):
    gradients = []
    for checkpointing in (False, True):
        model = copy.deepcopy(bert)
        clock = NoiseClock()
        on_tiles(model, Hardware(PCM(), NOISY), WeightNoise(), clock, product=product, kernel=kernel)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        clock.start(0, "training", 3)
        torch.manual_seed(0)  # dropout
        loss = model.train()(**batch).loss
        loss.backward()
        gradients.append({"loss": loss.detach()} | {n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert len(gradients[0]) > 40
    for name, gradient in gradients[0].items():
        assert torch.equal(gradients[1][name], gradient), name


def test_a_layer_used_several_times_is_one_array_with_noise_of_its_own_at_every_use():
    config = AlbertConfig(
        vocab_size=40, hidden_size=18, embedding_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=27,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.3,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        albert = AlbertForSequenceClassification(config).eval()
    # Embedding projection, four of attention, two feed-forward, pooler, classifier.
    assert len(Placement.of(albert, Hardware(PCM(), NOISY)).grids) == 9
    hardware = Hardware(PCM(), NOISY)
    clock = NoiseClock(0)
    seen = []

    def keys_of_a_pass(model, layers):
        uses = []
        shared = next(layer for name, layer in layers.items() if name.endswith("ffn"))
        original, module_clock = shared.clock.key, shared.clock

        def noted(name, purpose, use=0):
            if purpose == "product noise":
                uses.append(original(name, purpose, use))
            return original(name, purpose, use)

        module_clock.key = noted
        model(input_ids=torch.ones(1, 3, dtype=torch.long))
        del module_clock.key
        return uses

    chip = programmed(albert, hardware, ranges_for(albert, hardware), chip=0)
    assert len(chip.layers) == 9
    chip.set_time(1.0)
    on_tiles(albert, hardware, NO_NOISE, clock)
    analog_of = {name: layer for name, layer in albert.named_modules() if isinstance(layer, AnalogLinear)}
    for model, layers, restart in (
        (albert, analog_of, lambda: clock.start(0)),
        (chip.model, chip.layers, lambda: chip.ready_to_score(False)),
    ):
        restart()
        seen = keys_of_a_pass(model, layers)
        assert len(seen) == 6 * 3 + 3  # six layers of the group run three times; every product has a key
        assert len(set(seen)) == len(seen)
        assert not set(keys_of_a_pass(model, layers)) & set(seen)  # the next pass has new ones
        restart()
        assert keys_of_a_pass(model, layers) == seen  # and a new start the same


def test_master_weights_survive_training_passes_evaluation_and_chips(bert, batch, kernel):
    before = state_of(bert)
    hardware = Hardware(PCM(), NOISY)
    chip = programmed(bert, hardware, ranges_for(bert, hardware), chip=0, kernel=kernel)
    for t in (1.0, 3600.0):
        chip.set_time(t)
        for compensated in (False, True):
            chip.ready_to_score(compensated)(**batch)
    to_digital(bert, ranges_for(bert, hardware))(**batch)
    assert_unchanged(bert, before)
    on_tiles(bert, hardware, WeightNoise(), kernel=kernel)
    before = state_of(bert)
    bert.train()(**batch).loss.backward()
    bert.eval()(**batch)
    assert_unchanged(bert, before)


def test_names_of_parameters_are_those_of_the_plain_model(bert):
    names = set(dict(bert.named_parameters()))
    hardware = Hardware(PCM(), NOISY)
    on_tiles(bert, hardware)
    added = set(dict(bert.named_parameters())) - names
    assert names <= set(dict(bert.named_parameters()))
    assert {name.rpartition(".")[2] for name in added} == {"log_input_range", "output_scale"}


def test_loading_b_after_a_evaluates_b(bert, batch, kernel):
    hardware = Hardware(PCM(), NOISY)
    periphery = ranges_for(bert, hardware)
    other = copy.deepcopy(bert)
    with torch.no_grad():
        for index, parameter in enumerate(other.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw(index)))

    def logits(model):
        chip = programmed(model, hardware, periphery, chip=0, kernel=kernel)
        chip.set_time(1.0)
        return chip.ready_to_score(True)(**batch).logits

    a, b = logits(bert), logits(other)
    assert not torch.equal(a, b)
    bert.load_state_dict(other.state_dict())
    assert torch.equal(logits(bert), b)


def test_a_score_without_a_time_is_impossible(bert, batch):
    hardware = Hardware(PCM(), NOISY)
    chip = programmed(bert, hardware, ranges_for(bert, hardware), chip=0)
    with pytest.raises(RuntimeError, match="Call `set_time`"):
        chip.ready_to_score(False)
    with pytest.raises(RuntimeError, match="was programmed, but no time was set"):
        chip.model(**batch)


def test_a_chip_on_ideal_tiles_and_devices_is_the_digital_model(bert, batch, kernel):
    hardware = Hardware(Ideal(), IDEAL)
    chip = programmed(bert, hardware, ranges_for(bert, hardware), chip=0, kernel=kernel)
    chip.set_time(2_592_000.0)
    assert torch.allclose(chip.ready_to_score(False)(**batch).logits, bert(**batch).logits, atol=1e-5)


@pytest.mark.slow
def test_another_chip_is_another_chip_and_the_same_one_the_same(bert, batch, kernel):
    hardware = Hardware(PCM(), IDEAL)

    def logits(chip, chip_seed=0):
        chip = programmed(bert, hardware, ranges_for(bert, hardware), chip, chip_seed, kernel=kernel)
        chip.set_time(3600.0)
        return chip.ready_to_score(True)(**batch).logits

    assert torch.equal(logits(1), logits(1))
    assert not torch.equal(logits(1), logits(2))
    assert not torch.equal(logits(1), logits(1, chip_seed=1))


@pytest.mark.slow
def test_the_times_a_chip_has_seen_do_not_change_it(bert, batch, kernel):
    hardware = Hardware(PCM(), NOISY)
    logits = []
    for times in ((3600.0,), (1.0, 60.0, 3600.0), (2_592_000.0, 3600.0)):
        chip = programmed(bert, hardware, ranges_for(bert, hardware), chip=0, kernel=kernel)
        for t in times:
            chip.set_time(t)
            chip.ready_to_score(False)(**batch)
        logits.append(chip.ready_to_score(True)(**batch).logits)
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])
    chip.set_time(60.0)
    assert not torch.equal(chip.ready_to_score(True)(**batch).logits, logits[0])


def test_variants_share_the_random_devices_of_a_chip(bert, kernel):
    """Paired chips: what differs between two networks on chip 3 is not the luck of its devices."""
    hardware = Hardware(PCM(), NOISY)
    other = copy.deepcopy(bert)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(-0.5)

    def luck(model):
        layer = programmed(model, hardware, ranges_for(model, hardware), chip=3, kernel=kernel).layers["bert.pooler.dense"]
        array = layer._array.active
        sigma = 0.26348 + 1.9650 * array.g_target / 25 - 1.1731 * (array.g_target / 25) ** 2
        active = (array.g_prog > 0) & (array.g_target > 0)
        return (array.g_prog - array.g_target) / sigma, active, array.g_target

    (one, active, targets), (two, also_active, other_targets) = luck(bert), luck(other)
    both = active & also_active
    assert both.sum() > 250
    assert torch.allclose(one[both], two[both], atol=1e-4)
    # The same weights up to a factor have the same targets; different ones would share ξ alone.
    assert torch.allclose(targets, other_targets, atol=1e-4)


def test_different_weights_share_the_random_numbers_of_a_chip(kernel):
    hardware = Hardware(PCM(), Crossbar(rows=64, columns=64))
    luck = []
    for seed in (0, 1):
        model = nn.Sequential(random_linear(50, 60, seed))
        layer = programmed(model, hardware, {"0": LayerPeriphery(torch.ones(1))}, chip=3, kernel=kernel).layers["0"]
        array = layer._array.active
        ghat = array.g_target / 25
        xi = (array.g_prog - array.g_target) / (0.26348 + 1.9650 * ghat - 1.1731 * ghat**2)
        luck.append(torch.where(ghat > 0.2, xi, torch.nan))
    both = ~luck[0].isnan() & ~luck[1].isnan()
    assert both.sum() > 500
    assert torch.allclose(luck[0][both], luck[1][both], rtol=1e-3, atol=1e-4)  # errors are kept as float16


def test_one_over_f_noise_is_new_at_every_time_and_frozen_in_between(kernel):
    """Weights read through one-hot inputs of an ideal periphery, less what programming and drift made of them."""
    model = nn.Sequential(nn.Linear(40, 40, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(0.5 + 0.5 * torch.rand(40, 40, generator=draw(1)))
    one_tile = Crossbar(**{**vars(IDEAL), "rows": 40, "columns": 40})
    chip = programmed(model, Hardware(PCM(), one_tile), {"0": LayerPeriphery(torch.ones(1))}, chip=0, kernel=kernel)

    def weights(t):
        chip.set_time(t)
        read = [chip.ready_to_score(False)(torch.eye(40)) for _ in range(2)]
        assert torch.equal(*read)
        return read[0]

    array = chip.layers["0"]._array.active
    drifted = array.g_prog * (21 / 20) ** -array.nu.float()
    scale = model[0].weight.abs().amax(dim=1, keepdim=True)
    noise = [weights(t).t() / scale * 25 / drifted[0] - 1 for t in (1.0, 1.0 + 1e-6)]  # no time for drift in between
    for one in noise:
        assert 0.03 < one.std() < 0.06  # 3.7 % on a full-on cell, 5.8 % on half of one
    assert abs(torch.corrcoef(torch.stack([one.flatten() for one in noise]))[0, 1]) < 5 / 40


def test_compensation_is_one_factor_and_shares_the_noise_of_the_reads(kernel):
    hardware = Hardware(PCM(), Crossbar(rows=64, columns=64))
    model = nn.Sequential(random_linear(50, 60))
    x = torch.randn(20, 60, generator=draw(1))
    chip = programmed(model, hardware, {"0": LayerPeriphery(torch.full((1,), 4.0))}, chip=0, kernel=kernel)
    chip.set_time(86_400.0)
    raw = chip.ready_to_score(False)(x) - model[0].bias
    compensated = chip.ready_to_score(True)(x) - model[0].bias
    factor = chip.layers["0"].compensation
    assert factor.shape == (1, 1)
    assert 1.2 < factor.item() < 1.7  # about ((86420 s) / 20 s)^0.05, less the noise floor of the read-out
    assert torch.allclose(compensated, factor * raw, atol=1e-4)
    assert torch.equal(chip.ready_to_score(False)(x) - model[0].bias, raw)  # scoring again reads the same noise
    assert not torch.equal(chip.model(x) - model[0].bias, raw)  # the next vectors do not


@pytest.mark.parametrize("per, shape", [("tile", (1, 1)), ("column", (1, 50))])
def test_compensation_towards_the_target_restores_what_wires_take(kernel, per, shape):
    """Without noise, right after programming: the outputs of all columns are those on paper again, but for their spread."""
    quiet = Crossbar(rows=64, columns=64, adc_bits=16, output_noise=0.0, read_noise=0.0, wire_resistance=5.0)
    hardware = Hardware(PCM(noise_scale=0.0), quiet)
    model = nn.Sequential(random_linear(50, 60))
    x = torch.randn(200, 60, generator=draw(1))
    exact = model(x).detach() - model[0].bias
    left = {}
    for reference in ("programmed", "target"):
        ranges = {"0": LayerPeriphery(torch.full((1,), 4.0))}
        chip = programmed(model, hardware, ranges, kernel=kernel, reference=reference, factor_per=per)
        chip.set_time(1e-3)
        assert chip.layers["0"].compensation.shape == shape
        y = chip.ready_to_score(True)(x) - model[0].bias
        left[reference] = 1 - ((y * exact).sum() / exact.square().sum()).item()
    assert left["programmed"] > 0.03  # the reference is read through the same wires
    assert abs(left["target"]) < left["programmed"] / 5


def test_devices_that_do_not_drift_have_no_compensation(bert, batch, kernel):
    hardware = Hardware(Ideal(), NOISY)
    chip = programmed(bert, hardware, ranges_for(bert, hardware), chip=0, kernel=kernel)
    chip.set_time(3600.0)
    assert torch.equal(chip.ready_to_score(True)(**batch).logits, chip.ready_to_score(False)(**batch).logits)


def learn_scales(model):
    for index, layer in enumerate(model.modules()):
        if isinstance(layer, AnalogLinear):
            with torch.no_grad():
                layer.output_scale.copy_(0.5 + torch.rand(layer.output_scale.shape, generator=draw(index)))


@pytest.mark.parametrize("scale_per", ["column", "tile"])
def test_folding_learned_scales_leaves_the_analog_output_as_it_is(bert, batch, scale_per, kernel):
    crossbar = Crossbar(**{**vars(IDEAL), "scale_per": scale_per, "adc_bits": 24, "read_noise": 0.0175})
    clock = NoiseClock()
    on_tiles(bert, Hardware(PCM(), crossbar), WeightNoise(), clock, kernel=kernel)
    learn_scales(bert)

    def logits():
        clock.start(1)
        return bert(**batch).logits

    before, weights = logits(), state_of(bert)
    fold_output_scales(bert)
    assert torch.allclose(logits(), before, atol=1e-4)
    folded = [layer.output_scale for layer in bert.modules() if isinstance(layer, AnalogLinear)]
    assert all((scale == 1).all() for scale in folded) == (scale_per == "column")
    if scale_per == "tile":
        assert_unchanged(bert, weights)


def test_what_was_learned_beside_the_weights_is_known_by_layer(bert):
    on_tiles(bert, Hardware(PCM(), NOISY))
    learn_scales(bert)
    periphery = learned_periphery(bert)
    layers = Placement.of(bert, Hardware(PCM(), NOISY)).layers(bert)
    assert periphery.keys() == layers.keys()
    for name, layer in layers.items():
        assert torch.equal(periphery[name].output_scale, layer.output_scale)
        assert periphery[name].input_range.tolist() == pytest.approx([4.0] * len(layer.grid.row_blocks))


def test_the_digital_model_has_the_learned_scales_in_its_weights(bert, batch, kernel):
    """A chip without any error answers like it, for scales that could not be folded."""
    crossbar = Crossbar(**{**vars(IDEAL), "scale_per": "tile"})
    hardware = Hardware(Ideal(), crossbar)
    periphery = {
        name: LayerPeriphery(p.input_range, 0.5 + torch.rand(len(p.input_range), grid.outputs, generator=draw(7)))
        for (name, p), grid in zip(ranges_for(bert, hardware).items(), Placement.of(bert, hardware).grids.values(), strict=True)
    }
    before = state_of(bert)
    chip = programmed(bert, hardware, periphery, chip=0, kernel=kernel)
    chip.set_time(1.0)
    digital = to_digital(bert, periphery)
    assert torch.allclose(chip.ready_to_score(False)(**batch).logits, digital(**batch).logits, atol=1e-5)
    assert not torch.allclose(digital(**batch).logits, bert(**batch).logits, atol=1e-3)
    assert_unchanged(bert, before)


@pytest.mark.parametrize(
    ("patterns", "count"),
    [
        (("*",), 14),
        (("*", "!classifier"), 13),
        (("*.query", "*.key"), 4),
        (("*attention*", "!*.output.dense"), 6),
        (("classifier", "*", "!bert*"), 1),
        (("*", "!*", "classifier"), 1),
    ],
)
def test_patterns_choose_layers_from_left_to_right(bert, patterns, count):
    hardware = Hardware(Ideal(), NOISY, patterns)
    layers = Placement.of(bert, hardware).layers(bert)
    assert len(layers) == count
    chip = programmed(bert, hardware, ranges_for(bert, hardware), chip=0)
    assert list(chip.layers) == list(layers)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (("*", "!decoder"), r"`hardware.layers` must name linear layers, but '!decoder' matches none. The model's linear"),
        (("bert.embeddings*",), r"'bert.embeddings\*' matches none"),
        (("*", "!*"), r"`hardware.layers` must leave at least one layer, but \['\*', '!\*'\] leaves none"),
    ],
)
def test_patterns_that_choose_nothing_are_refused(bert, patterns, message):
    with pytest.raises(ValueError, match=message):
        Placement.of(bert, Hardware(PCM(), NOISY, patterns))


def test_layers_left_out_stay_digital(bert, batch):
    hardware = Hardware(PCM(), NOISY, ("*", "!classifier"))
    chip = programmed(bert, hardware, ranges_for(bert, hardware), chip=0)
    assert chip.model.classifier is bert.classifier  # not even copied
    assert chip.model.bert.pooler.dense is not bert.bert.pooler.dense


def test_a_clock_names_seed_step_pass_layer_purpose_and_use():
    clock = NoiseClock()
    clock.start(1, "training", 7)
    clock.tick()
    assert clock.key("layer", "noise", 2) == key(1, "training", 7, 0, "layer", "noise", 2)


def test_weights_that_a_tile_without_scales_cuts_off_are_told():
    model = nn.Sequential(nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.5, -1.0, 1.5, 0.0], [0.0, 0.0, -4.0, 1.0]]))

    def told(**fields):
        return clipped_weights(model, Placement.of(model, Hardware(PCM(), Crossbar(rows=4, columns=4, **fields))))

    assert told(scale_per="none").startswith("2 weights (25 %) are larger than 1, up to 4, and are clipped")
    assert told(scale_per="column") == told(scale_per="tile") == ""
