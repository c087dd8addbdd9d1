"""Ablations from rows alone: differences of the same chips, sums beside the whole, three formats and a picture."""

import csv
import io

import pytest

from analog_glue.reports.ablation import ablation_chapter, ablation_grid, ablations_of
from analog_glue.reports.build import build
from analog_glue.reports.sections import pivot
from analog_glue.runs.rows import Measurement, ResultsFile

SECOND, MONTH = 1.0, 2_592_000.0  # [s]


def row(label: str, stage: str = "chip", value: float = 0.0, **changes: object) -> Measurement:
    fields: dict[str, object] = {
        "run": "demo-tiny-digital-seed0", "sweep": f"ablation-pcm-spoon2021-f00d/{label}", "task": "demo", "model": "tiny",
        "training": "digital", "seed": 0, "noise": "pcm", "tile": "spoon2021", "chip": None, "t_seconds": None,
        "compensated": None, "extrapolated": False, "split": "validation", "metric": "accuracy", "headline": True,
        "examples": 500, "train_ids": "w0", "hardware_id": label, "wall_seconds": 1.0, "data": "d0", "recipe": "r0",
    }  # fmt: skip
    return Measurement(**{**fields, "stage": stage, "value": value, "ablation": label, **changes})


def chips(label: str, at_first: list[float], at_last: list[float], compensated: bool = True, **changes: object):
    return [
        row(label, value=value, chip=chip, t_seconds=t, compensated=compensated, stream="torch", **changes)
        for t, values in ((SECOND, at_first), (MONTH, at_last))
        for chip, value in enumerate(values)
    ]


# Spreads of differences that can be worked out by hand: of two chips, half of what they are apart is the standard error.
ROWS = [
    row("none", "digital", 90.0),
    *chips("full", [80.0, 84.0], [70.0, 80.0]),
    *chips("without drift spread", [81.0, 85.0], [78.0, 86.0]),  # + 1 on both chips; + 8 and + 6
    *chips("without adc", [83.0, 89.0], [71.0, 83.0], product="float32"),  # + 3 and + 5; + 1 and + 3
    *chips("only drift spread", [89.0, 89.0], [80.0, 84.0]),
    row("only adc", "ideal_devices", 86.0),
    *chips("only read noise", [88.0, 90.0], [87.0, 91.0], compensated=False),  # never drifts, never compensated
]


@pytest.fixture
def one():
    (found,) = ablations_of(ROWS)
    return found


def test_gains_are_paired_by_chip(one):
    gain = one.gain("drift spread", SECOND, True)
    assert (gain.mean, gain.error, gain.chips) == (1.0, 0.0, 2)  # the chips themselves are 4 apart
    gain = one.gain("drift spread", MONTH, True)
    assert (gain.mean, gain.error) == (7.0, 1.0)
    assert one.gain("adc", SECOND, True).error == 1.0  # another product, the same chips


def test_one_alone_is_compared_with_the_digital_score(one):
    change = one.change("only drift spread", MONTH, True)
    assert (change.mean, change.error) == (-8.0, 2.0)
    for t in (SECOND, MONTH):
        assert (one.change("only adc", t, True).mean, one.change("only adc", t, True).error) == (-4.0, None)  # nothing random
    assert one.change("only read noise", SECOND, True).mean == -1.0


def test_the_sum_stands_beside_the_whole_only_where_every_part_is_measured(one):
    assert one.sum_of_gains(MONTH, True) is None  # nobody left the read noise out
    (whole,) = ablations_of([*ROWS, *chips("without read noise", [80.0, 84.0], [70.0, 81.0])])
    total = whole.sum_of_gains(MONTH, True)
    assert (total.mean, total.error) == (9.5, 0.5)  # 8 + 1 + 0 and 6 + 3 + 1 …
    assert whole.sum_of_changes(SECOND, True).mean == -1.0 - 4.0 - 1.0
    assert whole.change("full", MONTH, True).mean == -15.0


def test_the_table_has_a_line_for_each_the_costliest_first(one):
    grid = ablation_grid(one, True)
    assert [cells[0] for cells in grid.rows] == [
        "full hardware", "drift spread", "ADC", "read noise", "sum of the lines", "none (digital)"
    ]  # fmt: skip
    lines = {cells[0]: cells[1:] for cells in grid.rows}
    assert grid.header[1:5] == ["1 s: left out", "− full", "1 s: alone", "− digital"]
    assert lines["drift spread"][:4] == ["83.00", "+1.00 ± 0.00", "89.00", "−1.00 ± 0.00"]
    assert lines["drift spread"][4:] == ["82.00", "+7.00 ± 1.00", "82.00", "−8.00 ± 2.00"]
    assert lines["ADC"][:4] == ["86.00", "+4.00 ± 1.00", "86.00", "−4.00"]
    assert lines["read noise"][:4] == ["–", "–", "89.00", "−1.00 ± 1.00"]
    assert lines["full hardware"][:4] == ["82.00", "", "", "−8.00 ± 2.00"]
    assert lines["none (digital)"][:4] == ["", "+8.00 ± 2.00", "90.00", ""]


def test_seeds_are_averaged_and_other_hardware_of_the_same_names_is_another_table():
    def changed(row, **fields):
        return Measurement(**{**vars(row), **fields})

    second = [changed(r, run="demo-tiny-digital-seed1", seed=1, train_ids="w1", value=r.value + 2.0) for r in ROWS]
    (both,) = ablations_of([*ROWS, *second])
    assert (both.gain("adc", SECOND, True).seeds, both.gain("adc", SECOND, True).mean) == (2, 4.0)
    elsewhere = [changed(r, sweep=r.sweep.replace("f00d", "beef"), hardware_id=f"9-bit {r.hardware_id}") for r in ROWS]
    found = ablations_of([*ROWS, *elsewhere])
    assert len(found) == 2 and len({one.title for one in found}) == 2


def test_without_compensation_is_a_table_of_its_own():
    rows = [*ROWS, *chips("full", [60.0, 64.0], [50.0, 54.0], compensated=False)]
    (one,) = ablations_of(rows)
    assert one.compensations == [False, True]
    assert one.statistic("full", MONTH, False).mean == 52.0 and one.statistic("full", MONTH, True).mean == 75.0
    assert one.change("only read noise", MONTH, False).mean == one.change("only read noise", MONTH, True).mean


def test_an_ablation_that_lacks_the_full_hardware_is_no_table_yet():
    assert ablations_of([r for r in ROWS if r.ablation != "full"]) == []
    assert ablation_chapter([]) is None


def test_tables_write_it_in_every_format_and_draw_it(tmp_path):
    for label in {r.ablation for r in ROWS}:
        ResultsFile(tmp_path / "runs" / label).append(r for r in ROWS if r.ablation == label)
    first, again = build(tmp_path / "runs", tmp_path / "a"), build(tmp_path / "runs", tmp_path / "b")
    assert [path.read_bytes() for path in first.paths] == [path.read_bytes() for path in again.paths]
    name = "ablation-demo-tiny-pcm-spoon2021-digital"
    assert f"![Ablation, demo (accuracy, headline): tiny, pcm on spoon2021, digital training]({name}.png)" in first.markdown
    assert (tmp_path / "a" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    latex = (tmp_path / "a" / "tables.tex").read_text()
    assert rf"\label{{tab:{name}}}" in latex and r"ADC & 86.00 & +4.00 $\pm$ 1.00 & 86.00 & $-$4.00 &" in latex
    records = list(csv.DictReader(io.StringIO((tmp_path / "a" / "ablation.csv").read_text())))
    (record,) = (r for r in records if r["ablation"] == "without adc" and r["t_seconds"] == "1")
    assert (record["mean"], record["gain"], record["gain_standard_error"]) == ("86", "4", "1")
    (record,) = (r for r in records if r["ablation"] == "only adc" and r["t_seconds"] == "1")
    assert (record["change"], record["change_standard_error"]) == ("-4", "")
    assert pivot(ROWS) == ([], [])  # and no other table counts them
