"""Accuracy against cost: which points nobody beats, and what is priced of rows."""

import json
import random
import shutil
from pathlib import Path

import pytest

from analog_glue.cli.reading import priced
from analog_glue.costs.architectures import ENCODERS, PUBLISHED
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


def copied(tmp_path, change):
    """The record with the configuration of every sweep changed in place, by a function of it."""
    root = tmp_path / "runs"
    shutil.copytree(FIGURE8, root, ignore=shutil.ignore_patterns("tables"))
    for file in root.glob("*/*/config.json"):
        config = json.loads(file.read_text())
        change(config)
        file.write_text(json.dumps(config))
    return root


def few_bits(config):
    return ((config.get("attention") or {}).get("bits") or 32) < 6


def test_devices_of_one_name_with_other_settings_are_not_compared(tmp_path):
    def change(config):
        config["noise"]["noise_scale"] = 0.25 if few_bits(config) else 1.0

    made = chapter_of(copied(tmp_path, change))
    (whole,) = chapter_of(FIGURE8).records.values()
    attention = sorted(sorted({record["attention"] for record in records}) for records in made.records.values())
    assert attention == [["fp32", "int10", "int6", "int6 smooth", "int8"], ["int4", "int4 smooth", "int5", "int5 smooth"]]
    assert sum(len(records) for records in made.records.values()) == len(whole)
    titles = {part.title for _, part in made.parts}
    assert {"noise_scale=0.25" in title for title in titles} == {True, False}
    assert len(titles) == 2 and all("noise_scale=" in title for title in titles)


def test_settings_that_no_name_says_stand_in_the_row(tmp_path):
    root = copied(tmp_path, lambda config: None)
    first = sorted(root.glob("*1ee25072/pcm-*"))[0]
    other = first.with_name("pcm-spoon2021-wires")
    shutil.copytree(first, other)
    config = json.loads((other / "config.json").read_text())
    config["tile"]["wire_resistance"] = 0.35
    (other / "config.json").write_text(json.dumps(config))
    hardware_id = json.loads((first / "run.json").read_text())["hardware_id"]
    rows = (other / "results.csv").read_text()
    assert hardware_id in rows
    (other / "results.csv").write_text(rows.replace(hardware_id, "0" * 8))
    (records,) = chapter_of(root).records.values()
    words = [(record["network"], record["attention"], record["tile"], record["digital_layers"]) for record in records]
    assert len(set(words)) == len(words)
    assert [tile for _, _, tile, _ in words if "tile.wire_resistance=0.35" in tile]


def test_no_tile_is_cheaper_for_a_price_that_is_known_of_another_alone(tmp_path):
    def change(config):
        if few_bits(config):
            config["tile"] |= {"rows": 256, "columns": 256}

    made = chapter_of(copied(tmp_path, change))
    (records,) = made.records.values()
    (whole,) = chapter_of(FIGURE8).records.values()
    before = {(record["network"], record["attention"]): record["energy_high_uj"] for record in whole}
    # As many conversions each, no longer at 70 % of 10 nJ over 512 columns.
    less = [
        before[record["network"], record["attention"]] - record["energy_high_uj"]
        for record in records
        if record["tile"].endswith("512 × 512")
    ]
    assert len(less) > 4 and min(less) > 30 and max(less) - min(less) < 1e-9
    # int5 on tiles of 256 × 256 takes more than int6 on those of 512 × 512, since four tiles convert more than one.
    energy = {record["attention"]: record["energy_high_uj"] for record in records}
    assert energy["int5"] > energy["int6"]
    assert "left out here of all energies" in next(part.note for _, part in made.parts if hasattr(part, "note"))
    whole_note = next(part.note for _, part in chapter_of(FIGURE8).parts if hasattr(part, "note"))
    assert "left out here" not in whole_note


def test_a_network_is_priced_by_the_architecture_of_its_own_run(tmp_path):
    root = copied(tmp_path, lambda config: None)
    file = next(root.glob("*1ee25072/run.json"))
    run = json.loads(file.read_text())
    small = PUBLISHED["minilm"] | {"num_hidden_layers": 2}
    run["identity"] = (run.get("identity") or {}) | {f"model.architecture.{key}": value for key, value in small.items()}
    file.write_text(json.dumps(run))
    other = {name for name, _ in find_measured(root).settings.items()}
    assert json.loads(file.read_text())["name"] in other
    (records,) = chapter_of(root).records.values()
    (whole,) = chapter_of(FIGURE8).records.values()
    assert {record["operations"] for record in whole} & {record["operations"] for record in records}
    assert min(record["operations"] for record in records) < 0.5 * min(record["operations"] for record in whole)
