"""The bench: which layers share inputs, which chips and examples are looked at, what a comparison measures."""

import torch
from transformers import AlbertConfig, AlbertForSequenceClassification

from analog_glue.nn.convert import program
from analog_glue.nn.diagnosis import diagnose
from analog_glue.nn.periphery import LayerPeriphery, periphery_from, periphery_tensors
from tests.tuning.helpers import LENGTH, NOTHING, QUIET, VOCABULARY, at_first, bench, network, outputs, pcm_bench


def test_queries_keys_and_values_share_an_input_and_the_attention_output_follows_them():
    own = bench()
    layer = "bert.encoder.layer.0."
    groups = own.shared
    assert groups[0] == [f"{layer}attention.self.{name}" for name in ("query", "key", "value")]
    assert [name for group in groups for name in group].__len__() == len(own.layers) and all(groups)
    assert own.attention_outputs == {f"bert.encoder.layer.{n}.attention.output.dense" for n in (0, 1)}


def test_a_layer_that_is_used_several_times_stands_for_itself():
    torch.manual_seed(0)
    sizes = {"embedding_size": 16, "hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 40, "num_hidden_layers": 2}
    model = AlbertForSequenceClassification(AlbertConfig(vocab_size=VOCABULARY, max_position_embeddings=LENGTH, **sizes)).eval()
    groups = bench(model=model).shared
    assert [group for group in groups if len(group) > 1] == [] and len(groups) == len(bench(model=model).layers)


def test_no_chip_of_a_sweep_is_looked_at():
    """Chip 0 of the bench is not chip 0 of a sweep, nor is any other one of it."""
    own = pcm_bench(QUIET)
    periphery = at_first(own)
    vectors = torch.eye(24)

    def answer(chip):
        layer = chip.layers["classifier"]
        chip.set_time(1.0)
        chip.ready_to_score(False)
        return layer(vectors)

    seen = [answer(own.chip(periphery, number)) for number in range(own.chips + own.judges)]
    reported = [answer(program(own.model, own.placement, own.computation, periphery, chip)) for chip in range(8)]
    for one in seen:
        assert not any(torch.equal(one, other) for other in reported)


def test_products_and_outputs_are_exact_on_tiles_without_any_error():
    own = bench(NOTHING)
    periphery = at_first(own)
    vectors = own.inputs(periphery)
    for name in own.layers:
        assert own.comparison(name, vectors[name]).error(periphery[name]) < 1e-11
    assert own.judged_errors(periphery).max() < 1e-10


def test_the_error_of_a_product_is_that_of_its_converters():
    """Rounding to steps of α/127 at the inputs and of 1 LSB at the outputs: uniform errors of variance step²/12."""
    own = bench(QUIET)
    name = "bert.encoder.layer.0.intermediate.dense"
    layer, alpha = own.layers[name], 4.0
    vectors = torch.empty(1000, 24).uniform_(-alpha, alpha, generator=torch.Generator().manual_seed(3))
    periphery = LayerPeriphery(torch.full((2,), alpha))
    weight_range = own.weight_range(name, periphery)  # [row blocks, outputs]
    lsb = own.placement.hardware.crossbar.adc.lsb * alpha * weight_range
    weight = layer.weight.detach()
    of_dac = (weight.square().sum(dim=1) * (alpha / 127) ** 2 / 12).mean()
    of_adc = (lsb.square() / 12).sum(dim=0).mean()
    power = (vectors @ weight.t()).square().mean()
    measured = own.comparison(name, vectors).error(periphery)
    # 40,000 outputs whose errors are nearly independent; the rest is that few inputs are not quite uniform within a step.
    assert abs(measured * float(power) / float(of_dac + of_adc) - 1) < 0.05


def test_a_comparison_programs_only_when_devices_change():
    own, name = pcm_bench(), "classifier"
    comparison = own.comparison(name, torch.randn(20, 24, generator=torch.Generator().manual_seed(0)))
    periphery = LayerPeriphery(torch.tensor([1.0, 1.0]))
    first = comparison.error(periphery)
    layers = comparison._on_chips(periphery)
    wider = LayerPeriphery(torch.tensor([9.0, 9.0]))
    assert comparison.error(wider) != first and comparison._on_chips(wider) is layers
    assert comparison.error(periphery) == first
    other = LayerPeriphery(torch.tensor([1.0, 1.0]), weight_range=torch.full((2, 2), 5.0))
    comparison.error(other)
    assert comparison._on_chips(other) is not layers


def test_a_periphery_is_stored_and_read_back():
    full = LayerPeriphery(torch.rand(2), torch.rand(2, 3), torch.rand(2, 3), torch.rand(5))
    stored = periphery_tensors({"a.b": full, "c": LayerPeriphery(torch.rand(1))})
    assert set(stored) == {"a.b.input_range", "a.b.output_scale", "a.b.weight_range", "a.b.input_scale", "c.input_range"}
    read = periphery_from(stored)
    assert read["a.b"] == full and read["c"].weight_range is None


def test_padding_is_not_looked_at():
    own = bench()
    counted = {}
    own.observe(at_first(own), own.examples(0, 4), lambda name, x: counted.update({name: counted.get(name, 0) + len(x)}))
    assert counted["bert.encoder.layer.0.intermediate.dense"] == 4 * LENGTH - (0 + 1 + 2 + 3)
    assert outputs(own, at_first(own)).shape == (8, 2) and network().training is False


def test_a_diagnosis_counts_clipped_inputs_where_a_scale_of_inputs_has_acted():
    """Scaled down by a thousand, inputs that exceed their range fit into it: what is clipped is what the DAC sees."""
    own = bench(QUIET)
    plain = at_first(own, 0.5)
    scaled = {
        name: LayerPeriphery(layer.input_range, input_scale=torch.full((own.grid(name).inputs,), 1000.0))
        for name, layer in plain.items()
    }
    clipped = [
        max(tile.clipped for tile in diagnose(own.chip(periphery, 0), own.examples(0, 2), [1.0]))
        for periphery in (plain, scaled)
    ]
    assert clipped[0] > 0.2 and clipped[1] == 0
