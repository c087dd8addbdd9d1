"""The drift sweep: which points it measures, and that no point depends on which others were asked for."""

import math

import numpy as np
import pytest
import torch

from analog_glue.devices.ideal import Ideal
from analog_glue.devices.pcm import PCM
from analog_glue.devices.reram import ReRAM
from analog_glue.evaluation import Point, Sentences, drift_sweep, points, score
from analog_glue.models import TinyModel
from analog_glue.nn.computation import Computation
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.nn.placement import Placement
from analog_glue.settings import Evaluation
from analog_glue.tasks.demo import DemoTask
from analog_glue.tasks.task import encode
from analog_glue.tiles.crossbar import Crossbar

TASK = DemoTask(train_size=60, validation_size=150)


class ToTheLastBit(DemoTask):
    """Scores the sum of the outputs, which the slightest change of a chip moves."""

    def score(self, split, logits, labels):
        return {"accuracy": float(logits.astype(np.float64).sum())}


SENSITIVE = ToTheLastBit(train_size=60, validation_size=150)
TILE = Crossbar(rows=16, columns=16)
PERFECT = Crossbar(rows=16, columns=16, dac_bits=None, adc_bits=None, output_noise=0.0, read_noise=0.0)


@pytest.fixture(scope="module")
def network():
    """A random network whose answers are spread over all ratings, its data, and ranges for its layers."""
    raw = TASK.load(None)
    tiny = TinyModel(hidden=16, layers=1, heads=2, intermediate=24, vocabulary_size=100, dropout=0.0)
    loaded = tiny.load(5, 0, raw.train.texts)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(12)
    validation = {name: encode(split, loaded.tokenizer, 32, 5) for name, split in raw.validation.items()}
    grids = Placement.of(loaded.model, Hardware(PCM(), TILE)).grids
    periphery = {name: LayerPeriphery(torch.full((len(grid.row_blocks),), 6.0)) for name, grid in grids.items()}
    return loaded.model, raw, validation, periphery


def sweep(network, device=None, tile=TILE, measured=lambda point: False, task=SENSITIVE, **evaluation):
    model, raw, validation, periphery = network
    settings = Evaluation(**({"chips": 2, "times": [1.0, 3600.0], "compensation": [False, True]} | evaluation))
    workload = Sentences(task, raw, validation, settings.token_budget)
    placement = Placement.of(model, Hardware(device or PCM(), tile))
    scored = drift_sweep(model, placement, Computation(), periphery, workload, settings, measured)
    return {one.point: one for one in scored}


def values(scored):
    return {point: [s.value for s in one.scores] for point, one in scored.items()}


@pytest.fixture(scope="module")
def everything(network):
    return sweep(network, chips=3, times=[1.0, 3600.0, 2_592_000.0])


@pytest.mark.slow
def test_a_sweep_measures_every_point_once_and_in_order(everything):
    expected = [Point("digital"), Point("majority"), Point("ideal_devices")]
    for chip in range(3):
        for t in (1.0, 3600.0, 2_592_000.0):
            expected += [Point("chip", chip, t, False), Point("chip", chip, t, True)]
    assert list(everything) == expected
    assert all(one.seconds >= 0 and not one.extrapolated for one in everything.values())


def test_the_measured_scores_tell_chips_and_times_apart(everything):
    """Without this, the tests below would hold for a sweep that measures nothing."""
    chips = [tuple(one) for point, one in values(everything).items() if point.stage == "chip"]
    assert len(set(chips)) == len(chips) == 18


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked",
    [
        {"chips": 1},
        {"chips": 3, "times": [2_592_000.0]},
        {"chips": 2, "times": [2_592_000.0, 1.0]},
        {"chips": 2, "times": [3600, 3600, 1], "compensation": [True]},
        {"chips": 0, "ideal_devices": False},
    ],
    ids=str,
)
def test_what_else_is_asked_for_changes_no_score(network, everything, asked):
    fewer = values(sweep(network, **asked))
    assert fewer == {point: values(everything)[point] for point in fewer}
    assert len(fewer) == len(points(Evaluation(**({"times": [1.0, 3600.0], "compensation": [False, True]} | asked)), True))


@pytest.mark.slow
def test_points_that_are_known_are_not_measured_and_change_no_other(network, everything):
    known = [point for index, point in enumerate(everything) if index % 3 != 1]
    rest = sweep(network, chips=3, times=[1.0, 3600.0, 2_592_000.0], measured=known.__contains__)
    assert set(rest) == set(everything) - set(known)
    assert values(rest) == {point: values(everything)[point] for point in rest}


def test_nothing_is_programmed_when_everything_is_known(network, monkeypatch):
    def program(*arguments, **options):
        raise AssertionError("programmed a chip")

    monkeypatch.setattr("analog_glue.evaluation.program", program)
    assert sweep(network, measured=lambda point: True) == {}


def test_every_score_is_handed_over_before_the_next_is_measured(network):
    model, raw, validation, periphery = network
    evaluation = Evaluation(chips=1000, times=[1.0], compensation=[True])
    placement, workload = Placement.of(model, Hardware(PCM(), TILE)), Sentences(TASK, raw, validation, 4096)
    rows = drift_sweep(model, placement, Computation(), periphery, workload, evaluation)
    assert [next(rows).point.stage for _ in range(4)] == ["digital", "majority", "ideal_devices", "chip"]


def test_the_same_chips_differ_by_their_seed(network, everything):
    other = values(sweep(network, chips=1, chip_seed=1))
    same = {point: values(everything)[point] for point in other}
    assert other[Point("digital")] == same[Point("digital")]
    assert other[Point("chip", 0, 1.0, True)] != same[Point("chip", 0, 1.0, True)]


@pytest.mark.parametrize(("device", "compensated"), [(PCM(), [False, True]), (ReRAM(), [False]), (Ideal(), [False])])
def test_devices_without_drift_are_never_compensated(network, device, compensated):
    for wanted in ([True], [False, True]):
        asked = points(Evaluation(chips=1, times=[1.0], compensation=wanted), device.drifts)
        assert [point.compensated for point in asked if point.chip == 0] == ([c for c in compensated if c in wanted] or [False])
    rows = sweep(network, device, chips=1, times=[1.0])
    assert Point("chip", 0, 1.0, False) in rows


def test_times_beyond_the_measured_ones_are_marked(network):
    rows = sweep(network, ReRAM(), chips=1, times=[86_400.0, 172_800.0, 172_801.0])
    assert {point.t: one.extrapolated for point, one in rows.items() if point.stage == "chip"} == {
        86_400.0: False,
        172_800.0: False,
        172_801.0: True,
    }


def test_perfect_hardware_scores_like_the_digital_network(network):
    rows = values(sweep(network, Ideal(), PERFECT, task=TASK, chips=1))
    digital = rows.pop(Point("digital"))
    rows.pop(Point("majority"))
    assert len(rows) == 3
    assert all(value == digital for value in rows.values())


def test_ideal_devices_keep_the_periphery(network):
    """A tile whose ADC clips everything: what is lost is lost without any device's doing."""
    coarse = Crossbar(rows=16, columns=16, adc_bits=3, adc_bound=0.05, output_noise=0.0)
    rows = values(sweep(network, PCM(), coarse, task=TASK, chips=0))
    assert rows[Point("ideal_devices")] != rows[Point("digital")]
    finest = values(sweep(network, PCM(), PERFECT, task=TASK, chips=0))
    assert finest[Point("ideal_devices")] == finest[Point("digital")]


def test_the_majority_row_is_the_share_of_the_commonest_training_answer(network):
    _, raw, _, _ = network
    commonest = np.bincount(raw.train.labels).argmax()
    share = 100 * np.mean(np.array(raw.validation["validation"].labels) == commonest)
    assert values(sweep(network, task=TASK, chips=0))[Point("majority")] == pytest.approx([share])


@pytest.mark.parametrize("token_budget", [1, 100, 10**6])
def test_batching_does_not_change_a_digital_score(network, token_budget):
    model, _, validation, _ = network
    one = score(model, TASK, validation, token_budget)
    assert [s.value for s in one] == values(sweep(network, task=TASK, chips=0))[Point("digital")]
    assert (one[0].split, one[0].metric, one[0].examples) == ("validation", "accuracy", 150)


def test_a_sweep_leaves_the_master_weights_alone(network):
    model = network[0]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modules = [type(module) for module in model.modules()]
    sweep(network, chips=1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [type(module) for module in model.modules()] == modules
    assert not model._forward_pre_hooks


@pytest.mark.slow
def test_drift_costs_and_compensation_helps(network, everything):
    """On the share of answers that agree with the digital network's: 3 chips at one month against one second."""
    model, raw, validation, periphery = network

    class Agreement(DemoTask):
        def score(self, split, logits, labels):
            return {"accuracy": 100 * float((logits.argmax(1) == reference).mean())}

    encoded = validation["validation"]
    with torch.no_grad():
        batch = encoded.batch(list(range(len(encoded))))
        batch.pop("labels")
        reference = model(**batch).logits.argmax(1).numpy()
    task = Agreement(train_size=60, validation_size=150)
    evaluation = Evaluation(chips=3, times=[1.0, 2_592_000.0], compensation=[False, True])
    agreement = {}
    placement, workload = Placement.of(model, Hardware(PCM(), TILE)), Sentences(task, raw, validation, 4096)
    for one in drift_sweep(model, placement, Computation(), periphery, workload, evaluation):
        if one.point.chip is not None:
            agreement.setdefault((one.point.t, one.point.compensated), []).append(one.scores[0].value)
    mean = {key: sum(scores) / 3 for key, scores in agreement.items()}
    assert mean[1.0, True] > 60
    sampling = 100 * math.sqrt(0.25 / 450)
    assert mean[2_592_000.0, True] > mean[2_592_000.0, False] + sampling
    assert mean[2_592_000.0, False] < mean[1.0, False] - sampling


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"chips": -1}, "chips"),
        ({"times": []}, "times"),
        ({"times": [0.0]}, "times"),
        ({"compensation": []}, "compensation"),
        ({"token_budget": 0}, "token_budget"),
    ],
)
def test_sweeps_of_no_meaning_are_refused_by_their_full_key(fields, key):
    with pytest.raises(ValueError, match=f"Setting `evaluation.{key}` must"):
        Evaluation(**fields)
