"""Progress without a terminal: lines now and then, with what is left."""

import re
import sys

import pytest

from analog_glue import progress
from analog_glue.progress import Progress, duration


@pytest.fixture
def clock(monkeypatch):
    """The time, which only tests move."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_says_how_far_how_fast_and_how_long_but_not_more_often_than_every_half_minute(clock):
    lines: list[str] = []
    with Progress("epoch 1/2", 10_000, "char", done=1_000, log=lines.append) as work:
        for _ in range(700):  # 10 a second, for 70 seconds
            clock[0] += 0.1
            work.update(1)
    assert lines == ["  epoch 1/2: 13 %, 10 chars/s, 15 min left", "  epoch 1/2: 16 %, 10 chars/s, 14 min left"]


def test_the_pace_is_that_of_this_process_and_not_of_what_was_done_before(clock):
    lines: list[str] = []
    with Progress("work", 200, "image", done=100, log=lines.append) as work:
        clock[0] += 50
        work.update(50)
    assert lines == ["  work: 75 %, 1 images/s, 50 s left"]


def test_the_pace_of_slow_work_is_said_in_seconds(clock):
    lines: list[str] = []
    with Progress("drift sweep", 3, "score", log=lines.append) as work:
        clock[0] += 40
        work.update(1)
    assert lines == ["  drift sweep: 33 %, 40.0 s for each score, 80 s left"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.12, "0.1 s"), (9.96, "10 s"), (99.4, "99 s"), (170, "3 min"), (5_940, "99 min"), (7_500, "2 h 5 min")],
)
def test_times_are_said_in_words(seconds, words):
    assert duration(seconds) == words


def test_a_terminal_gets_a_bar_instead_of_lines(clock, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    lines: list[str] = []
    with Progress("work", 100, "image", log=lines.append) as work:
        clock[0] += 100
        work.update(50)
    assert lines == [] and re.search(r"work: +50%", capsys.readouterr().err)


def test_a_note_is_asked_for_only_where_it_is_shown(clock):
    lines: list[str] = []
    asked: list[float] = []

    def loss() -> str:
        asked.append(clock[0])
        return "loss 0.5000"

    with Progress("training", 100, "step", log=lines.append) as work:
        for _ in range(5):
            clock[0] += 10
            work.update(1, loss)
    assert lines == ["  training: 4 %, loss 0.5000, 10.0 s for each step, 16 min left"] and asked == [40.0]


def test_what_is_said_stands_on_a_line_of_its_own_above_the_bar(clock, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with Progress("training", 100, "step", log=lambda text: print(text, file=sys.stderr)) as work:
        work._bar.mininterval = 0
        for _ in range(2):
            work.update(1, lambda: "loss 0.5000")
        work.say("epoch 1: loss 0.6")
    said = capsys.readouterr().err
    # The bar is wiped (spaces over it, back to the start of the line), the line is written, the bar is drawn again below it.
    assert re.search(r"\r +\repoch 1: loss 0\.6\n\rtraining: +2%.*loss 0\.5000", said), repr(said)


def test_only_one_of_several_processes_draws_a_bar(clock, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    lines: list[str] = []
    with Progress("training", 100, "step", log=lines.append, shown=False) as work:
        clock[0] += 40
        work.update(50)
    assert capsys.readouterr().err == "" and len(lines) == 1  # whose `log` leaves the lines out, too
