"""Figure 6 of Gokmen (2021): the error of weights extracted from a random array is that of least squares."""

import csv
import json
import math

import numpy as np
import pytest

from analog_glue.cli.main import main
from analog_glue.in_situ.commands.extract_array import looks, measure, random_weights
from analog_glue.settings import Extract, RandomArray

LSB = 24 / 510  # of the 9-bit ADC on ±12
SD_Y = math.hypot(0.06, LSB / math.sqrt(12))


def rows_of(folder):
    with (folder / "extraction_error.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_ten_thousand_products_reach_the_published_error_of_512_by_512(seed):
    last = list(measure(Extract(products=10_000), RandomArray(), seed))[-1]
    law = math.sqrt(3) * SD_Y / math.sqrt(10_000 - 512 - 1) / 0.6
    # 262,144 weights: their common factor fluctuates by 1/√(2 · 9,488 · 512); quantisation is no normal noise: 1 %.
    assert last["error"] == pytest.approx(law, rel=0.01) == pytest.approx(last["law"], rel=1e-6)
    assert last["error"] == pytest.approx(0.002, abs=0.0003)  # Gokmen (2021), Figure 6, to the digit it is given with
    assert last["estimated_error"] == pytest.approx(last["error"], rel=0.01)


def test_near_the_number_of_inputs_the_law_of_least_squares_holds_and_one_over_root_n_does_not():
    first = next(measure(Extract(products=128 * 4), RandomArray(outputs=256, inputs=128), 0))
    assert first["products"] == 160
    plain = math.sqrt(3) * SD_Y / math.sqrt(160) / 0.6
    # E[1/χ²]-like spread over the one set of inputs: relative standard deviation near 1/√(2 · 31).
    assert first["error"] == pytest.approx(first["law"], rel=0.4)
    assert first["error"] > 1.6 * plain


def test_one_hot_reads_average_down_with_their_number_and_stay_far_behind():
    array = RandomArray(outputs=256, inputs=64)
    found = {row["products"]: row for row in measure(Extract(products=640, inputs="one_hot"), array, 0)}
    assert sorted(found) == [64, 128, 192, 320, 640]
    for number, row in found.items():
        law = SD_Y * math.sqrt(64 / number) / 0.6
        assert row["error"] == pytest.approx(law, rel=5 / math.sqrt(2 * 256 * 64)) == pytest.approx(row["law"], rel=1e-6)
    assert found[64]["estimated_error"] is None  # one read tells nothing of its own noise


def test_a_look_does_not_change_what_is_found_later():
    few, many = (list(measure(Extract(products=number), RandomArray(64, 32), 3))[-1] for number in (320, 640))
    at_320 = next(row for row in measure(Extract(products=640), RandomArray(64, 32), 3) if row["products"] == 320)
    assert few == at_320 and many["products"] == 640


def test_weights_are_normal_and_clipped_to_the_range():
    values = random_weights(RandomArray(weight_std=0.5), 0) / 0.6
    assert np.abs(values).max() <= 1 + 1e-6
    inside = values[np.abs(values) < 0.5]  # one standard deviation: 68.27 %
    assert inside.size / values.size == pytest.approx(0.6827, abs=5 * math.sqrt(0.68 * 0.32 / values.size))


def test_looks_end_with_all_products_and_never_lie_at_or_below_the_number_of_inputs():
    assert looks(10_000, 512, whole=False) == [640, 768, 1024, 1536, 2560, 5120, 10_000]
    assert looks(1100, 512, whole=True) == [512, 1024] and looks(5, 512, whole=True) == [512]


@pytest.mark.slow
def test_the_command_writes_rows_once_and_tables_draws_them(tmp_path, capsys):
    words = ["+experiment=gokmen_figure6", "extract.array.outputs=32", "extract.array.inputs=24", "extract.products=240"]
    assert main(["extract", *words, f"output_root={tmp_path}"]) == 0
    (folder,) = (f for f in tmp_path.iterdir() if f.name.startswith("random_array-32x24-uniform-seed0-"))
    first = (folder / "extraction_error.csv").read_bytes()
    assert json.loads((folder / "run.json").read_text())["extract"]["array"]["weight_std"] == 0.3333333
    assert main(["extract", *words, f"output_root={tmp_path}"]) == 0
    assert "Already done" in capsys.readouterr().out and (folder / "extraction_error.csv").read_bytes() == first
    assert [int(row["products"]) for row in rows_of(folder)] == [30, 36, 48, 72, 120, 240]
    assert main(["tables", str(tmp_path)]) == 0
    assert (tmp_path / "tables" / "figure6.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "+experiment=gokmen_figure6"], "Setting `extract.array` must be null, except for `extract`"),
        (["extract", "+experiment=gokmen_figure6", "extract.products=100"], "`extract.products` must be at least inputs + 2"),
        (["extract", "+experiment=gokmen_figure6", "extract.array.inputs=0"], "`extract.array.inputs` must be at least 1"),
        (["extract", "+experiment=gokmen_figure3", "checkpoint=x"], "`experiment` must be one that is made for `extract`"),
    ],
)
def test_what_cannot_be_is_refused(words, said, capsys):
    assert main(words) == 2
    assert said in capsys.readouterr().err
