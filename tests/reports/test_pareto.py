"""Accuracy against cost: which points nobody beats, and what is priced of rows."""

import json
import random
import shutil
from pathlib import Path

import pytest

from analog_glue.cli.reading import priced
from analog_glue.costs.architectures import ENCODERS
from analog_glue.reports.build import build
from analog_glue.reports.measured import find_measured
from analog_glue.reports.pareto import accuracy_against_cost, unbeaten
from analog_glue.reports.sections import pivot

RECORDS = Path(__file__).resolve().parents[2] / "outputs" / "records"
FIGURE8 = RECORDS / "spoon2021_figure8_minilm"


def test_the_front_by_hand():
    points = [(80.0, (1.0,)), (81.0, (2.0,)), (80.5, (3.0,)), (79.0, (0.5,)), (81.0, (2.5,))]
    assert unbeaten(points) == [True, True, False, True, False]
    assert unbeaten([(80.0, (1.0,)), (80.0, (1.0,))]) == [True, True]  # neither beats the other
    assert unbeaten([(80.0, (1.0, 4.0)), (80.0, (2.0, 3.0))]) == [True, True]  # bands that cross
    assert unbeaten([]) == []


def test_every_point_that_is_beaten_is_beaten_by_one_that_is_not():
    draw = random.Random(0)
    for _ in range(50):
        points = [(draw.randint(0, 9), (draw.randint(0, 9), draw.randint(0, 9))) for _ in range(12)]
        alone = unbeaten(points)
        best = [point for point, own in zip(points, alone, strict=True) if own]
        assert best
        for (score, costs), own in zip(points, alone, strict=True):
            by_better = any(s >= score and all(a <= b for a, b in zip(c, costs, strict=True)) for s, c in best)
            assert by_better  # itself where it is on the front
            assert own or any((s, c) != (score, costs) and s >= score for s, c in best)


def chapter_of(root):
    measured = find_measured(root)
    return accuracy_against_cost(pivot(measured.rows, measured.settings)[0], measured, priced())


def test_attention_in_fewer_bits_takes_less_and_the_front_is_marked():
    made = chapter_of(FIGURE8)
    (records,) = made.records.values()
    energy = {record["attention"]: record["energy_high_uj"] for record in records}
    assert energy["int4"] < energy["int5"] < energy["int6"] < energy["int8"] < energy["int10"] < energy["fp32"]
    assert energy["int6"] == energy["int6 smooth"]
    assert {record["t_seconds"] for record in records} == {2592000.0}
    best = [(record["score"], record["energy_high_uj"]) for record in records if record["unbeaten"]]
    assert best and sorted(best) == sorted(best, key=lambda point: point[1])  # on the front more accuracy costs more
    # Only attention differs: 2 · 6 layers · 128² · 384 multiply-adds, 4.6 pJ of floats against those of 8 bits.
    multiply_adds = ENCODERS["minilm"].scores(128) + ENCODERS["minilm"].values(128)
    assert energy["fp32"] - energy["int8"] == pytest.approx(multiply_adds * 1e-6 * (4.6 - 0.2710), rel=1e-3)


def test_one_hardware_makes_no_chapter_and_no_prices_none():
    assert not chapter_of(RECORDS / "spoon2021_figure5_minilm").parts
    measured = find_measured(FIGURE8)
    assert not accuracy_against_cost(pivot(measured.rows, measured.settings)[0], measured, None).parts


def test_an_adc_without_a_price_leaves_operations_to_compare(tmp_path):
    root = tmp_path / "runs"
    shutil.copytree(FIGURE8, root)
    shutil.rmtree(root / "tables")
    for file in root.glob("*/*/config.json"):
        config = json.loads(file.read_text())
        config["tile"] |= {"adc_bits": None, "output_noise": 0.0}
        file.write_text(json.dumps(config))
    made = chapter_of(root)
    (records,) = made.records.values()
    assert {record["energy_low_uj"] for record in records} == {None} and all(record["operations"] for record in records)
    scores = [record["score"] for record in records]
    assert [record["unbeaten"] for record in records] == [score == max(scores) for score in scores]  # they all take as many
    text = build(root, tmp_path / "tables", None, priced()).markdown
    assert "operations, since the energy of some is unknown" in text and (tmp_path / "tables" / "tables.tex").is_file()


def test_layers_beside_the_tiles_are_counted(tmp_path):
    root = tmp_path / "runs"
    shutil.copytree(FIGURE8, root)
    for file in root.glob("*/*/config.json"):
        config = json.loads(file.read_text())
        config["hardware"]["layers"] = ["*", "!*layer.0.*"]
        file.write_text(json.dumps(config))
    (records,) = chapter_of(root).records.values()
    (whole,) = chapter_of(FIGURE8).records.values()
    assert {record["digital_layers"] for record in records} == {6}
    assert min(r["energy_low_uj"] for r in records) > min(r["energy_low_uj"] for r in whole)
