"""The two sets of cost parameters: the published sheet comes out of one, closed forms and their bands out of the other."""

import copy

import pytest
from omegaconf import OmegaConf

from analog_glue.configuration.build import as_annotated, build
from analog_glue.configuration.compose import conf_dir
from analog_glue.costs.architectures import PUBLISHED, Architecture
from analog_glue.costs.bottom_up import DAY, DECADE
from analog_glue.costs.estimate import Workload
from analog_glue.costs.integers import integer_energy, integer_energy_gain
from analog_glue.costs.operations import KINDS
from analog_glue.costs.sourced import Sourced, band, total, unknown
from analog_glue.errors import UserError
from analog_glue.nn.attention import Attention
from analog_glue.nn.names import chosen_by_name
from analog_glue.tiles.crossbar import Crossbar


def node_of(option):
    return OmegaConf.to_container(OmegaConf.load(conf_dir() / "costs" / f"{option}.yaml"))


def costs_of(option, **changed):
    return build(as_annotated({**node_of(option), **changed}, "costs"), "costs")


def load_of(option="bert_base", patterns=("*",), crossbar=None, **fields):
    architecture, crossbar = Architecture(PUBLISHED[option]), crossbar or Crossbar(adc_bits=8)
    layers = chosen_by_name(architecture.linears, patterns, "Setting `hardware.layers`", "linear")
    grids = {name: crossbar.grid(layer.outputs, layer.inputs) for name, layer in layers.items()}
    return Workload(architecture, crossbar, grids, fields.pop("attention", Attention()), **fields)


# --- the published sheet -------------------------------------------------------------------------------------------------


def test_the_published_sheet_comes_out_of_the_count():
    costs, load = costs_of("factsheet2022"), load_of()
    counted, estimate = load.count(costs.counting), costs.estimate(load)
    assert round(counted.total / 1e9, 2) == 21.84
    assert round(counted.analog / 1e9, 2) == 21.74
    assert (estimate.latency.low, estimate.power.low, estimate.area.low) == (0.19395, 3.13, 780.4)
    assert {estimate.latency.origin, estimate.power.origin, estimate.area.origin} == {"given"}
    joules = 1e-6 * estimate.energy.low
    assert round(load.batch / joules) == 6589  # inferences a second and watt
    assert round(counted.total / joules / 1e12, 1) == 36.0  # TOPS/W
    assert load.tiles.tiles == 486


def test_no_other_convention_of_counting_gives_the_published_total():
    for changed in ({"attention": 2}, {"analog_product": 1}, {"dac_scale": 1, "adc_scale": 1, "partial_sum": 1}):
        counting = node_of("factsheet2022")["counting"] | changed
        assert round(load_of().count(costs_of("factsheet2022", counting=counting).counting).total / 1e9, 2) != 21.84
    counting = node_of("factsheet2022")["counting"] | {"head": True}
    assert round(load_of().count(costs_of("factsheet2022", counting=counting).counting).analog / 1e9, 2) == 21.75


@pytest.mark.parametrize(
    ("load", "why"),
    [
        (load_of("minilm"), "the model is bert_base"),
        (load_of("roberta_base"), "the model is bert_base"),
        (load_of(sequence=128), "sequences have 32 tokens"),
        (load_of(batch=1), "4 sequences are computed together"),
        (load_of(crossbar=Crossbar(rows=256, columns=256)), "tiles are of 512 × 512"),
        (load_of(crossbar=Crossbar(cells_per_weight=2)), "a weight has one pair of devices"),
        (load_of(patterns=("*", "!*layer.0.*")), "all layers of the encoder lie on tiles"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_given_is_of_that_system_alone(load, why):
    estimate = costs_of("factsheet2022").estimate(load)
    for amount in (estimate.latency, estimate.power, estimate.energy, estimate.area):
        assert not amount.known and why in amount.low_source


def test_the_head_may_lie_elsewhere():
    assert costs_of("factsheet2022").estimate(load_of(patterns=("*", "!*pooler*", "!classifier"))).latency.origin == "given"


def test_scaling_is_one_assumption_and_says_so():
    costs = costs_of("factsheet2022", scale=True)
    twice = costs.estimate(load_of(batch=8))
    assert twice.latency.low == pytest.approx(2 * 0.19395) and twice.power.low == pytest.approx(3.13)
    assert twice.area.low == pytest.approx(780.4)
    small = costs.estimate(load_of("distilbert"))  # half the layers
    assert small.latency.low == pytest.approx(0.19395 / 2)
    assert small.energy.low == pytest.approx(607.0635 / 2, rel=0.001)  # of the embeddings there are as many
    assert {small.latency.origin, small.power.origin, small.area.origin} == {"scaled"}
    assert "nobody measured" in small.remarks[0]
    assert costs.estimate(load_of()).remarks == ()


# --- from components -----------------------------------------------------------------------------------------------------


def line(estimate, what):
    return next(one for one in estimate.lines if one.what.startswith(what))


def test_conversions_and_products_are_those_of_the_tiles():
    load = load_of()
    estimate, layers = costs_of("bottom_up").estimate(load), load.tiles.layers
    assert line(estimate, "arrays").units == 4 * sum(one.inputs * one.outputs * one.vectors for one in layers)
    assert line(estimate, "DACs").units == 4 * sum(one.dac_conversions for one in layers)
    assert line(estimate, "ADCs").units == 4 * sum(one.adc_conversions for one in layers)
    for one in estimate.lines:
        if one.energy.known:
            assert one.energy.low == pytest.approx(one.units * one.each.low * 1e-6)
    assert estimate.energy.low == pytest.approx(sum(one.energy.low for one in estimate.lines if one.energy.known))


def test_an_adc_is_a_band_of_three_sources():
    adc = costs_of("bottom_up").adc_energy(8)
    assert adc.low == pytest.approx(0.362, abs=0.0005) and "hwcomponents-adc" in adc.low_source
    assert adc.high == pytest.approx(0.7 * 10_000 / 512) and "Singh" in adc.high_source
    narrow = costs_of("bottom_up").adc_energy(8, 256, 256)  # the measured share is of a tile of 512 × 512
    assert narrow.high == pytest.approx(0.554, abs=0.0005) and "ZigZag" in narrow.high_source


def test_the_rate_belongs_to_the_adc():
    slow = costs_of("bottom_up").adc_energy(10, 256, 256)
    fast = costs_of("bottom_up", adc_rate={"value": 1e9, "source": "a test"}).adc_energy(10, 256, 256)
    assert slow.low == pytest.approx(0.700, abs=0.0005)
    assert fast.high == pytest.approx(2.948, abs=0.0005) and fast.low == pytest.approx(1.311, abs=0.0005)


def test_the_array_is_a_share_of_the_published_tile():
    array = costs_of("bottom_up").array_energy()
    assert array.low * 512 * 512 == pytest.approx(0.15 * 5243) and array.high * 512 * 512 == pytest.approx(0.2 * 10_000)


def test_every_cell_of_a_weight_takes_the_energy_of_the_array_and_converters_see_one_current():
    one, three = (costs_of("bottom_up").estimate(load_of(crossbar=Crossbar(cells_per_weight=cells))) for cells in (1, 3))
    for end in ("low", "high"):
        of_both = [getattr(line(estimate, "arrays").energy, end) for estimate in (one, three)]
        assert of_both[1] == pytest.approx(3 * of_both[0])
    assert line(one, "ADCs") == line(three, "ADCs") and one.latency == three.latency
    assert not three.area.known and "one pair" in three.area.low_source


def test_attention_is_priced_by_its_precision():
    costs = costs_of("bottom_up")
    each = {
        name: line(costs.estimate(load_of(attention=attention)), "attention").each
        for name, attention in (
            ("fp32", Attention()), ("bf16", Attention(dtype="bf16")), ("int10", Attention(10)), ("int8", Attention(8)),
            ("int6", Attention(6)),
        )
    }  # fmt: skip
    assert [each[name].high for name in each] == sorted((one.high for one in each.values()), reverse=True)
    assert each["int8"].high == integer_energy(8) and each["int8"].low == pytest.approx(0.139 * integer_energy(8))
    assert each["bf16"].high / each["int6"].high == pytest.approx(11.3, rel=0.04)  # Spoon et al. (2021), published


def test_what_no_source_prices_is_unknown_and_said():
    estimate = costs_of("bottom_up").estimate(load_of())
    assert not line(estimate, "softmax").energy.known and not estimate.power.known
    assert [text.partition(":")[0] for text in estimate.unpriced] == ["softmax", "layer norm", "activation and tanh"]
    ideal = costs_of("bottom_up").estimate(load_of(crossbar=Crossbar(adc_bits=None, output_noise=0.0)))
    assert not line(ideal, "ADCs").energy.known and "ideal ADC" in "".join(ideal.unpriced)


def test_the_band_of_bert_base_holds_the_published_energy_and_time():
    # Independent of each other: components of the literature, and what IBM's sheet gives for the chip.
    estimate = costs_of("bottom_up").estimate(load_of())
    assert estimate.energy.low < 607.06 < estimate.energy.high
    assert estimate.latency.low < 0.19395 < estimate.latency.high
    assert estimate.area.low == pytest.approx(486 * 1.2025)


def test_drift_lowers_the_energy_of_analog_products_alone():
    fresh, day, decade = (costs_of("bottom_up", age=age).estimate(load_of()) for age in (None, DAY, DECADE))
    for part in ("arrays", "DACs", "ADCs"):
        assert line(fresh, part).energy.low / line(day, part).energy.low == pytest.approx(1.03)
        assert line(fresh, part).energy.high / line(decade, part).energy.high == pytest.approx(1.15)
    assert line(fresh, "attention") == line(decade, "attention")
    with pytest.raises(UserError, match=r"`costs.age` must be null or lie in"):
        costs_of("bottom_up", age=3600.0)


def test_fewer_layers_on_tiles_take_more_digital_energy():
    estimate = costs_of("bottom_up").estimate(load_of(patterns=("*", "!*layer.0.*")))
    beside = line(estimate, "layers beside the tiles")
    assert beside.units == 4 * 32 * (4 * 768**2 + 2 * 768 * 3072)
    assert beside.energy.high > line(estimate, "arrays").energy.high / 12


# --- values and their sources --------------------------------------------------------------------------------------------


def refused(option, change):
    node = copy.deepcopy(node_of(option))
    change(node)
    with pytest.raises(UserError) as error:
        build(as_annotated(node, "costs"), "costs")
    return str(error.value)


def test_a_value_without_a_source_is_refused_by_its_key():
    told = refused("bottom_up", lambda node: node["tile_energy"]["burr2023"].pop("source"))
    assert told.startswith("Setting `costs.tile_energy.burr2023.source` must be text that says where the value comes from")
    told = refused("factsheet2022", lambda node: node["power"].update(source="  "))
    assert told.startswith("Setting `costs.power.source` must be text")
    told = refused("bottom_up", lambda node: node.update(dac=0.3))
    assert told.startswith("Setting `costs.dac` must hold a value and its source, but is 0.3.")
    told = refused("bottom_up", lambda node: node["dac"].update(value=-1.0))
    assert told.startswith("Setting `costs.dac.value` must be null (unknown), 0, or a number in 1e-30 … 1e+30")
    told = refused("bottom_up", lambda node: node["dac"].update(value=True))
    assert told.startswith("Setting `costs.dac.value`")


def test_every_value_that_ships_has_a_source_of_some_length():
    def sources(node):
        for value in node.values():
            if isinstance(value, dict) and "value" in value:
                yield value
            elif isinstance(value, dict):
                yield from sources(value)

    found = [one for option in ("factsheet2022", "bottom_up") for one in sources(node_of(option))]
    assert len(found) > 30 and all(len(one["source"]) > 15 for one in found)


def test_an_unknown_value_takes_its_part_out_of_the_sum():
    gone = costs_of("bottom_up", dac={"value": None, "source": "a test"}, supply={"value": None, "source": "no supply"})
    estimate = gone.estimate(load_of())
    assert "DACs: " in "".join(estimate.unpriced)
    assert line(estimate, "ADCs").each.high == pytest.approx(0.7 * 10_000 / 512)


def test_bands_and_sums():
    one = band([Sourced(3.0, "b"), Sourced(None, "c"), Sourced(1.0, "a")], "pJ")
    assert (one.low, one.high, one.low_source, one.high_source) == (1.0, 3.0, "a", "b")
    assert one.middle == pytest.approx(3**0.5)
    assert not band([Sourced(None, "nobody knows")], "pJ").known
    assert total([one, unknown("pJ", "x"), one], "pJ").high == 6.0
    assert not total([unknown("pJ", "x")], "pJ").known and not unknown("pJ", "x").times(3).known


def test_counting_knows_every_kind():
    counting = costs_of("bottom_up").counting
    assert {counting.per_unit(kind) for kind in KINDS} == {1, 2}


@pytest.mark.parametrize(
    ("fields", "told"),
    [({"sequence": 513}, "`sequence_length` must lie in 1 … 512, the positions of the model"),
     ({"batch": 0}, "`batch` must lie in 1"), ({"batch": 10**24}, "`batch` must lie in 1"),
         ({"sequence": 0}, "`sequence_length`")],
)  # fmt: skip
def test_what_cannot_be_computed_is_refused(fields, told):
    with pytest.raises(UserError, match=told):
        load_of(**fields)


def test_energy_of_integers_follows_the_published_6_bits():
    assert integer_energy(8) == pytest.approx(0.2 + 0.072, rel=0.01)  # Horowitz's INT8 product, and 22 bits of an adder
    assert integer_energy_gain(6) == 11.3
    assert integer_energy_gain(8) == pytest.approx(7.1, abs=0.05)
    assert integer_energy_gain(10) == pytest.approx(4.9, abs=0.05)
    assert 2.0 / integer_energy(6) == pytest.approx(11.3, rel=0.04)  # the law itself, without the published number
