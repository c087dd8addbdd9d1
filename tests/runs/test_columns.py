"""results.csv of another version: a column that is missing has its recorded default, one that is not known stays."""

import csv
import logging
from dataclasses import fields, replace

import pytest

from analog_glue.runs.recorded import recorded_defaults
from analog_glue.runs.rows import RESULTS_FILE, Measurement, ResultsFile, find_rows, read_rows
from tests.runs.test_rows import DIGITAL, on_chip

NEW = ("data", "recipe", "product", "stream", "attention", "attention_scales", "ablation")


def columns(file: ResultsFile) -> list[dict[str, str]]:
    with file.path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def rewrite(file: ResultsFile, change) -> None:
    rows = [change(row) for row in columns(file)]
    with file.path.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def test_rows_without_the_later_columns_read_as_their_recorded_defaults_and_take_more_rows(tmp_path):
    file = ResultsFile(tmp_path)
    file.append([DIGITAL, on_chip(0)])
    rewrite(file, lambda row: {name: cell for name, cell in row.items() if name not in NEW})
    assert file.rows() == [DIGITAL, on_chip(0)] == find_rows(tmp_path)
    assert read_rows(tmp_path)["stream"].tolist() == ["", ""]
    newer = replace(on_chip(1), data="d0", recipe="r0", product="int8", stream="torch")
    assert file.append([newer]) == 1
    assert file.rows() == [DIGITAL, on_chip(0), newer]


def test_unknown_columns_stay_when_rows_are_added_and_are_reported_once(tmp_path, caplog):
    file = ResultsFile(tmp_path)
    file.append([DIGITAL, on_chip(0)])
    rewrite(file, lambda row: {"colour": f"c{row['chip']}", **row, "smell, or so": "x"})
    with caplog.at_level(logging.WARNING):
        assert file.rows() == [DIGITAL, on_chip(0)]
        file.append([on_chip(1)])
        file.append([on_chip(2)])
    assert [(row["chip"], row["colour"], row["smell, or so"]) for row in columns(file)] == [
        ("", "c", "x"),
        ("0", "c0", "x"),
        ("1", "", ""),
        ("2", "", ""),
    ]
    assert file.unknown_columns() == ("colour", "smell, or so")
    assert len(caplog.messages) == 1 and "colour, smell, or so" in caplog.text


def test_a_column_that_every_version_had_must_be_there(tmp_path):
    file = ResultsFile(tmp_path)
    file.append([DIGITAL])
    rewrite(file, lambda row: {name: cell for name, cell in row.items() if name != "stage"})
    with pytest.raises(ValueError, match="stage must be there"):
        file.rows()


def test_a_chip_scored_with_other_data_or_another_stream_is_another_row(tmp_path):
    file, row = ResultsFile(tmp_path), replace(on_chip(0), data="d0", product="int8", stream="threefry-4x32-13")
    file.append([row])
    others = [replace(row, data="d1"), replace(row, product="float32"), replace(row, stream="torch")]
    assert file.append([row, *others, replace(row, recipe="named otherwise")]) == 3


def test_every_column_with_a_default_has_it_recorded():
    later = {field.name: field.default for field in fields(Measurement) if field.name in NEW}
    assert later == recorded_defaults(RESULTS_FILE), "add the column with its default to the newest section"
