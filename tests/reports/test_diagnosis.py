"""What a diagnosis tells: layers from their tiles, the worst first, what to do, and one column among thousands in colour."""

import math
from dataclasses import replace

import pytest
import torch

from analog_glue.nn.diagnosis import ColumnDiagnosis, TileDiagnosis
from analog_glue.reports.diagnosis import (
    MOST_LINES,
    TILES_FILE,
    Subject,
    findings,
    layer_grid,
    layer_lines,
    page,
    pictures,
    read_tiles,
    records,
    terminal,
)
from analog_glue.reports.heat_map import MOST_CELLS, HeatMap, heat_figure
from analog_glue.runs.cells import write_cells
from analog_glue.tiles.crossbar import Crossbar

MONTH = 2_592_000.0  # [s]
LOUD = 0.2  # rms code over full scale, far above the noise


def tile(layer="a", row_block=0, column_tile=0, t=1.0, **changes):
    values = {
        "rows": 4, "columns": 2, "vectors": 100, "clipped": 0.0, "saturated": 0.0, "saturated_column": 0.0,
        "rms_code": LOUD, "codes_used": 0.5, "filled": 1.0,
    }  # fmt: skip
    return TileDiagnosis(layer, row_block, column_tile, t=t, **{**values, **changes})


def subject(**crossbar):
    return Subject("mrpc-tiny", "pcm", "mine", Crossbar(**crossbar), -1, True, "64 training examples")


def test_a_layer_is_the_sum_of_its_tiles():
    tiles = [
        tile(row_block=0, rows=6, columns=3, clipped=0.1, saturated=0.2, saturated_column=0.6, rms_code=0.3, filled=0.5),
        tile(row_block=1, rows=4, columns=3, clipped=0.0, saturated=0.1, saturated_column=0.3, rms_code=0.4, codes_used=0.7),
    ]
    (line,) = layer_lines(tiles)
    assert line.tiles == 2
    assert line.clipped == pytest.approx([0.06])  # 10 % of 6 rows, none of 4
    assert line.saturated == pytest.approx([0.15]) and line.saturated_column == [0.6]
    assert line.rms_code == pytest.approx([math.sqrt((0.09 + 0.16) / 2)])
    assert line.codes_used == pytest.approx([0.6]) and line.filled == pytest.approx(0.75)


def test_the_layer_that_loses_most_at_its_worst_time_stands_first_and_one_of_quiet_codes_before_a_loud_one():
    tiles = [
        *(tile("loud", t=t, rms_code=0.3) for t in (1.0, MONTH)),
        *(tile("quiet", t=t, rms_code=0.1) for t in (1.0, MONTH)),
        *(tile("clips", t=t, clipped=0.02) for t in (1.0, MONTH)),
        tile("saturates", t=1.0, saturated=0.03), tile("saturates", t=MONTH),
    ]  # fmt: skip
    assert [line.layer for line in layer_lines(tiles)] == ["saturates", "clips", "quiet", "loud"]
    grid = layer_grid(tiles, subject())
    assert grid.rows[0][3] == "3.000 → 0.000" and grid.rows[1][2] == "2.000"
    assert "1 s → 1 month" in grid.note and "Chip −1, drift compensated" in grid.note


def test_a_tile_without_a_converter_says_so():
    none = dict.fromkeys(("clipped", "saturated", "saturated_column", "rms_code", "codes_used"))
    ideal = subject(dac_bits=None, adc_bits=None, output_noise=0.0)
    (row,) = layer_grid([tile(**none)], ideal).rows
    assert row[2:7] == ["no DAC", *["no ADC"] * 4]
    assert pictures([tile(**none)], ideal) == {}
    assert layer_grid([tile(codes_used=None)], subject(adc_bits=20)).rows[0][6] == "too fine"
    assert "Nothing stands out" in findings([tile(**none)], ideal)[0]


@pytest.mark.parametrize(
    ("changes", "crossbar", "words"),
    [
        ({}, {}, ["Nothing stands out"]),
        ({"saturated_column": 0.2}, {}, ["ADCs saturate", "tile 2/1", "`b`", "20.0 %", "conductance range", "input range"]),
        ({"clipped": 0.05}, {}, ["DACs clip", "row block 2 of `b`", "5.00 %", "`hardware.calibration.percentile`"]),
        ({"rms_code": 0.001}, {}, ["hardly used", "1 of 2 after 1 s", "narrow the input range"]),
        ({"rms_code": 0.001}, {"scale_per": "tile"}, ["hardly used", "tile.scale_per=column"]),
    ],
)
def test_what_stands_out_comes_with_what_to_do(changes, crossbar, words):
    (said,) = findings([tile(), tile("b", row_block=1, **changes)], subject(**crossbar))
    for word in words:
        assert word in said
    assert ("scale_per" in said) == (crossbar == {"scale_per": "tile"})


def test_quiet_is_told_by_the_noise_of_the_adc():
    """1023 codes: full scale is 511 LSB; noise of half an LSB and rounding give √(1/4 + 1/12) = 0.58 LSB, twice that 1.15."""
    just_above, just_below = (tile(rms_code=lsb / 511) for lsb in (1.16, 1.15))
    assert "Nothing" in findings([just_above], subject())[0] and "1.2 LSB" in findings([just_below], subject())[0]
    assert "Nothing" in findings([just_below], subject(output_noise=0.0))[0]


def test_the_terminal_shows_the_worst_layers_and_the_page_all():
    tiles = [tile(f"layer{number}") for number in range(MOST_LINES + 5)]
    assert "5 more layers, which lose less, stand in diagnosis.md" in " ".join(terminal(tiles, subject()).split())
    text = page(tiles, subject(), ["columns-rms"])
    assert text.count("| layer") == MOST_LINES + 6 and "![columns-rms](columns-rms.png)" in text


def test_tiles_are_read_back_as_they_were_written(tmp_path):
    tiles = [tile("a.b", 1, 2, MONTH, saturated=1 / 3, codes_used=None), tile(clipped=1e-9)]
    write_cells(tmp_path / TILES_FILE, records(tiles))
    assert read_tiles(tmp_path) == tiles
    assert read_tiles(tmp_path / "nowhere") == []


def test_pictures_show_saturation_only_where_there_is_any():
    def with_columns(saturated):
        columns = ColumnDiagnosis(torch.tensor([0.0, saturated]), torch.tensor([0.1, 0.2]))
        return [replace(tile(row_block=block), saturated=saturated / 2, by_column=columns) for block in (0, 1)]

    assert set(pictures(with_columns(0.0), subject())) == {"columns-rms"}
    both = pictures(with_columns(0.1), subject())
    assert set(both) == {"columns-saturated", "columns-rms"}
    assert both["columns-rms"].png.startswith(b"\x89PNG") and b"<svg" in both["columns-rms"].svg
    assert pictures(with_columns(0.1), subject()) == both  # the same bytes


def test_a_single_column_among_more_than_a_picture_has_dots_is_never_lost():
    """The column next to one that shows, so that taking every second column would miss one of the two."""

    def drawn(hot):
        row = [0.0] * (2 * MOST_CELLS)
        if hot is not None:
            row[hot] = 0.5
        return heat_figure(HeatMap("t", "n", "x", "s", ["a"], [row], [[]], 1e-4)).png

    assert drawn(100) == drawn(101) != drawn(None)
