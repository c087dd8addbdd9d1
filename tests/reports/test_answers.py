"""Answers of `specify` and `place` come back from their file as they were, and stand in `tables` and `report`."""

import json
import math

import pytest

from analog_glue.reports.answers import ANSWER_FILE, answers, write_answer
from analog_glue.reports.figures import BarChart, Chart, Level, Line
from analog_glue.reports.grids import ANY, Chapter, Grid, Picture

SOURCES = {(0, ANY): frozenset({("run", "specify/one"), ("run", "specify/two")}), (1, 1): frozenset({("run", "")})}
GRID = Grid("Which?", "A note.", ["knob", "borne"], [["noise", "1.2"], ["bits", "none"]], ["a legend"], SOURCES)
LINES = [Line("mean", [1.0, 2.0], [80.0, math.nan], [0.5, None]), Line("borne", [1.0], [80.0], [None], joined=False)]
LEVELS = [Level("digital", 90.0, dotted=True, told="90")]
CHART = Chart("noise", "factor", "F1 [points]", LINES, LEVELS, log_x=True, ticks=[1.0, 2.0])
PICTURE = Picture("Which device", [CHART], "± 1 standard error")


def kept(folder, label="specify-run"):
    folder.mkdir(parents=True)
    write_answer(folder, Chapter([("knobs", GRID), ("picture", PICTURE)]), label)
    return folder / ANSWER_FILE


def test_tables_and_pictures_come_back_as_they_were(tmp_path):
    kept(tmp_path / "run" / "answer-1")
    kept(tmp_path / "run" / "answer-0", "place-run")
    place, specify = answers(tmp_path)
    assert [label for label, _ in place.parts] == ["place-run-knobs", "place-run-picture"]
    (_, grid), (_, picture) = specify.parts
    assert grid == GRID
    assert picture.title == PICTURE.title and picture.note == PICTURE.note and picture.head is None
    (chart,) = picture.charts
    assert math.isnan(chart.lines[0].y[1]) and chart.lines[0].y[0] == 80.0
    assert chart.lines[1] == LINES[1] and chart.levels == CHART.levels and chart.ticks == [1.0, 2.0] and chart.log_x
    assert picture.draw().png == PICTURE.draw().png


def test_answers_of_records_below_are_left_out(tmp_path):
    kept(tmp_path / "records" / "one")
    assert answers(tmp_path) == [] and len(answers(tmp_path / "records" / "one")) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda said: said["parts"][0]["rows"][0].append("one too many"),
        lambda said: said["parts"][0].update(title=None),
        lambda said: said["parts"][1]["charts"][0].pop("lines"),
        lambda said: said["parts"][1].update(label="../../elsewhere"),
        lambda said: said["parts"][1].update(label="a/b"),
        lambda said: said.update(parts=3),
    ],
)
def test_a_spoiled_answer_is_named_and_the_others_are_shown(tmp_path, spoil):
    kept(tmp_path / "good")
    file = kept(tmp_path / "spoiled")
    said = json.loads(file.read_text())
    spoil(said)
    file.write_text(json.dumps(said))
    left_out = []
    assert len(answers(tmp_path, left_out)) == 1
    (why,) = left_out
    assert str(file) in why


def test_pictures_of_other_kinds_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(TypeError, match="pictures of lines alone"):
        write_answer(tmp_path, Chapter([("bars", Picture("", [BarChart("", "", [], [])], ""))]), "x")
    assert not list(tmp_path.iterdir())
