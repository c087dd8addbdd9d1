"""Figures 6, 7 and 8 of Spoon et al. (2021) from made-up rows whose changes, errors and averages are worked out by hand."""

import csv
import io
from dataclasses import replace

import pytest

from analog_glue.cli.sweeps import split_flags
from analog_glue.configuration.compose import Composer
from analog_glue.reports.build import build
from analog_glue.reports.figure6 import figure6
from analog_glue.reports.figure7 import figure7
from analog_glue.reports.figure8 import figure8
from analog_glue.reports.grids import GLUE, Grid, as_csv
from analog_glue.reports.published import published_numbers
from tests.reports.test_tables import HOUR, MONTH, chips, row, write


def on_task(task: str, **changes: object) -> dict[str, object]:
    run = f"{task}-minilm-hardware_aware-seed0-0123abcd"
    return {"task": task, "model": "minilm", "metric": GLUE[task], "train_ids": f"{task}-c", "run": run, **changes}


def on_pcm(task: str, lost: float, noise: str = "pcm", **changes: object):
    """Three chips that lose `lost` ± 1 points in a month and half as many in an hour; digital score 90."""
    at = on_task(task, noise=noise, hardware_id=f"of-{noise}", **changes)
    scores = [90 - lost - 1, 90 - lost, 90 - lost + 1]
    return [
        row("digital", 90.0, "hardware_aware", **at),
        *chips([90 - lost / 2] * 3, HOUR, True, "hardware_aware", **at),
        *chips(scores, MONTH, True, "hardware_aware", **at),
    ]


def grid_of(chapter) -> Grid:
    return next(part for _, part in chapter.parts if isinstance(part, Grid))


def lines_of(grid: Grid) -> dict[str, dict[str, str]]:
    return {cells[0]: dict(zip(grid.header, cells, strict=True)) for cells in grid.rows}


def test_figure_6_is_the_change_from_digital_by_noise_and_time():
    rows = [*on_pcm("mrpc", 4.0), *on_pcm("rte", 2.0), *on_pcm("rte", 1.0, "pcm_reduced")]
    lines = lines_of(grid_of(figure6(rows, None, published_numbers())))
    # Three chips with deviation 1: standard error 1/√3 = 0.58.
    assert lines["γ = 1, 1 month"]["MRPC"] == "−4.00 ± 0.58" and lines["γ = 1, 1 h"]["RTE"] == "−1.00 ± 0.00"
    assert lines["γ = 0.5, 1 month"]["RTE"] == "−1.00 ± 0.58" and lines["γ = 0.5, 1 month"]["MRPC"] == "–"
    # Errors of tasks add in variance: √(1/3 + 1/3)/2 = 0.41.
    assert lines["γ = 1, 1 month"]["average"] == "−3.00 ± 0.41 (2 of 8 tasks)"
    published = lines["Spoon 2021: γ = 1, 1 month"]
    assert (published["average"], published["MNLI"], published["RTE"]) == ("−1.29", "−4", "")
    assert lines["Spoon 2021: γ = 0.5, 1 month"]["average"] == "−0.6"


def test_an_average_of_all_tasks_says_nothing_of_their_number():
    rows = [measured for task in GLUE for measured in on_pcm(task, 2.0)]
    chapter = figure6(rows, None, published_numbers())
    assert lines_of(grid_of(chapter))["γ = 1, 1 month"]["average"] == "−2.00 ± 0.20"  # 1/√3/√8
    records = list(csv.DictReader(io.StringIO(as_csv(chapter.records["spoon2021_figure6.csv"]).decode())))
    month = [r for r in records if r["t_seconds"] == "2592000" and r["gamma"] == "1" and r["task"] == "average"]
    assert [(r["origin"], r["value"]) for r in month] == [("measured", "-2"), ("published", "-1.29")]


def test_figure_6_takes_no_other_training_attention_or_task():
    others = [replace(measured, training="digital") for measured in on_pcm("mrpc", 4.0)]
    others += [replace(measured, attention="int8") for measured in on_pcm("mrpc", 4.0)]
    others += [replace(measured, noise="reram") for measured in on_pcm("mrpc", 4.0)]
    others += [replace(measured, compensated=False) for measured in on_pcm("mrpc", 4.0) if measured.stage == "chip"]
    assert figure6(others, None, published_numbers()).parts == []


def with_attention(task: str, attention: str, scales: str, scores: list[float], **changes: object):
    at = on_task(task, attention=attention, attention_scales=scales, hardware_id=f"of-{attention}", **changes)
    return chips(scores, MONTH, True, "hardware_aware", **at)


FLOAT = [80.0, 84.0, 88.0]  # of three chips, deviation 4
TRAINED = {"train_ids": "mrpc-int8", "run": "mrpc-minilm-hardware_aware-seed0-int8abcd", "recipe": "another"}


def test_figure_8_is_paired_by_chip():
    rows = [
        *with_attention("mrpc", "fp32", "", FLOAT, recipe="one"),
        *with_attention("mrpc", "int8", "calibrated", [79.0, 82.0, 85.0], recipe="one"),
        *with_attention("mrpc", "int8", "learned", [80.0, 85.0, 90.0], **TRAINED),
        *with_attention("mrpc", "int6", "calibrated", [70.0, 74.0], recipe="one"),
    ]
    lines = lines_of(grid_of(figure8(rows)))
    # Differences 1, 2, 3 have deviation 1, though the chips differ by 4; two chips of INT6 are paired with their own.
    assert lines["INT8, post-training, change"]["MRPC"] == "−2.00 ± 0.58"
    assert lines["INT8, retrained, change"]["MRPC"] == "+1.00 ± 0.58"
    assert lines["INT6, post-training, change"]["MRPC"] == "−10.00 ± 0.00"
    assert lines["INT6, post-training, change"]["average"] == "−10.00 ± 0.00 (1 of 8 tasks)"
    assert lines["FP32, score"]["MRPC"] == "84.00 ± 2.31"
    assert set(lines["Spoon 2021: INT6, retrained, change"].values()) == {"Spoon 2021: INT6, retrained, change", ""}


def test_figure_8_pairs_seeds_with_their_own():
    other = {"seed": 1, "train_ids": "mrpc-c1", "run": "mrpc-minilm-hardware_aware-seed1-0123abcd"}
    rows = [
        *with_attention("mrpc", "fp32", "", FLOAT),
        *with_attention("mrpc", "fp32", "", [60.0, 60.0, 60.0], **other),
        *with_attention("mrpc", "int8", "calibrated", [59.0, 59.0, 59.0], **other),
    ]
    assert lines_of(grid_of(figure8(rows)))["INT8, post-training, change"]["MRPC"] == "−1.00 ± 0.00"


def test_figure_8_needs_another_attention_than_float32():
    assert figure8(with_attention("mrpc", "fp32", "", FLOAT)).parts == []


@pytest.mark.slow
def test_what_the_figures_lack_stands_there_as_a_command_that_is_understood():
    rows = [*on_pcm("mrpc", 4.0), *with_attention("mrpc", "int8", "calibrated", [85.0, 86.0, 87.0])]
    said = [*figure6(rows, None, published_numbers()).missing, *figure8(rows).missing]
    assert any(
        line.startswith("Figure 6, γ = 0.5, MRPC: `analog-glue evaluate checkpoint=outputs/mrpc-minilm") for line in said
    )
    assert any(line.startswith("Figure 8, INT6, retrained, RTE, MRPC") and "attention=int6" in line for line in said)
    assert not any(line.startswith("Figure 8, INT8, post-training, MRPC") for line in said)
    commands = [line.partition("`")[2].partition("`")[0].split()[1:] for line in said]
    for command, *words in (words for words in commands if "checkpoint=…" not in words):
        with Composer(command) as composer:
            for word in split_flags(words)[1]:
                choices = word.partition("=")[2]
                one = word if "[" in choices else word.split(",")[0]
                composer.compose([one])  # which refuses what is wrong


@pytest.mark.slow
def test_the_figures_are_written_in_five_formats(tmp_path):
    rows = [*on_pcm("mrpc", 4.0), *with_attention("mrpc", "int8", "learned", [85.0, 86.0, 87.0], **TRAINED)]
    report = build(write(tmp_path, rows))
    names = {path.name for path in report.paths}
    for name in ("spoon2021_figure6-minilm-spoon2021", "spoon2021_figure8-minilm-pcm-spoon2021"):
        assert {f"{name}.png", f"{name}.svg", f"{name.partition('-')[0]}.csv"} <= names
        assert f"]({name}.png)" in report.markdown
        assert f"tab:{name}" in (tmp_path / "tables" / "tables.tex").read_text()


def test_figure_7_stands_beside_networks_of_glue_on_pcm_alone():
    chapter = figure7(on_pcm("mrpc", 1.0))
    shares = lines_of(grid_of(chapter))
    assert shares["128 tokens"]["bert_base"] == "2.70 %" and shares["128 tokens"]["Spoon 2021"] == "about 5 %"
    # MiniLM is half as wide: 2·S·384 over 2·S·384 + 12·384².
    assert shares["128 tokens"]["minilm"] == f"{100 * 256 / (256 + 12 * 384):.2f} %"
    energy = lines_of(next(part for name, part in chapter.parts if name == "spoon2021_figure7-energy"))
    assert [(energy[name]["less energy"], energy[name]["origin"]) for name in ("INT6", "INT8", "INT10")] == [
        ("11.3×", "published"), ("7.1×", "derived"), ("4.9×", "derived"),
    ]  # fmt: skip
    others = [replace(measured, noise="reram") for measured in on_pcm("mrpc", 1.0)]
    others += [replace(measured, training="ttv2") for measured in on_pcm("mrpc", 1.0)]
    assert figure7(others).parts == []


def test_figure_8_says_where_training_differed_in_more_than_attention():
    rows = [
        *with_attention("mrpc", "fp32", "", FLOAT, recipe="one"),
        *with_attention("mrpc", "int8", "learned", FLOAT, **TRAINED),
    ]
    digital = {"attention": "Attention", "seed": 0, "training.epochs": 3}
    names = [rows[0].run, TRAINED["run"]]
    alike = dict(zip(names, [digital, {**digital, "attention.bits": 8}], strict=True))
    assert "was also trained" not in grid_of(figure8(rows, alike)).note
    longer = dict(zip(names, [digital, {**digital, "attention.bits": 8, "training.epochs": 5}], strict=True))
    assert "INT8, retrained was also trained with another training.epochs than FP32." in grid_of(figure8(rows, longer)).note
