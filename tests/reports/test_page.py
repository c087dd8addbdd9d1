"""The page of `analog-glue report`: its numbers are those of the tables and lead to their runs; names of runs are text."""

import json
import math
import re
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analog_glue.in_situ.reports.chapter import chapter
from analog_glue.reports.contents import contents
from analog_glue.reports.drift import drift_grid
from analog_glue.reports.figures import Bar, BarChart, Chart, Curve, Level, Line, Panel
from analog_glue.reports.grids import Picture
from analog_glue.reports.page.answer import answer
from analog_glue.reports.page.build import build_page, is_number, render
from analog_glue.reports.page.charts import drawing
from analog_glue.reports.page.runs import Index, run_records
from analog_glue.reports.sections import pivot
from analog_glue.runs.rows import ResultsFile
from tests.reports.test_tables import DEMO, HOUR, MONTH, chips, row

RECORDS = Path(__file__).parents[2] / "outputs" / "records"
HOSTILE = "</script><script>window.evil = 1</script><img src=x onerror='window.evil = 2'>\u2028{{ 7 * 7 }}\"'"


class Page(HTMLParser):
    """What a browser would find: elements by name, links with their text, and the content of scripts."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.links, self.scripts, self.attributes = [], [], {}, []
        self._link = self._script = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]
        known = dict(attributes)
        if tag == "a":
            self._link = [known.get("href"), ""]
        elif tag == "script":
            self._script = known.get("id", "")

    def handle_endtag(self, tag):
        if tag == "a":
            self.links.append(tuple(self._link))
            self._link = None
        elif tag == "script":
            self._script = None

    def handle_data(self, data):
        if self._link is not None:
            self._link[1] += data
        elif self._script:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data

    def runs_of(self, link):
        """Names (run, sweep) of what a link leads to."""
        packed = json.loads(self.scripts["data-runs"])
        kind, number = re.fullmatch(r"#(runs?)-(\d+)", link).groups()
        numbers = [int(number)] if kind == "run" else packed["sets"][int(number)]
        return {tuple(packed["runs"][one][:2]) for one in numbers}


@pytest.fixture
def library(monkeypatch):
    """A short script in place of the chart library, which no test without a browser runs."""
    monkeypatch.setattr("analog_glue.reports.page.build.chart_library", lambda: "window.vegaEmbed = null;")


def write_runs(root, rows, **said):
    """A folder with run.json and run_config.json for every network, as a training leaves it, and its sweep's below."""
    for name in sorted({measured.run for measured in rows}):
        own = [measured for measured in rows if measured.run == name]
        folder = root / re.sub(r"\W+", "_", name)
        sweep = folder / "pcm-x"
        sweep.mkdir(parents=True)
        words = ["task=demo", f"training={own[0].training}"]
        facts = {"command": "train", "status": "done", "name": name, "overrides": words, "choices": {}, **said}
        (folder / "run.json").write_text(json.dumps(facts))
        (folder / "run_config.json").write_text(json.dumps({"seed": 0, "training": {"learning_rate": 2e-3, "label": name}}))
        (sweep / "run.json").write_text(json.dumps({"command": "sweep", "status": "done", "trained": name, "overrides": words}))
        (sweep / "config.json").write_text(json.dumps({"tile": {"adc_bits": 6}}))
        ResultsFile(sweep).append(own)
    return root


def page_of(root, out):
    path, left_out = build_page(root, out / "page.html")
    assert not left_out
    return Page(path.read_text(encoding="utf-8"))


def test_the_answer_is_the_best_network_over_time_and_what_made_it_better():
    said = answer(pivot(DEMO)[0])
    assert said.title == "demo with tiny, pcm on spoon2021" and said.best == "hardware-aware training, compensated"
    # Means of 3 chips 1 apart: s/√n = 1/√3. Gains are paired by chip: 80 − 70, 82 − 75, 84 − 71, and 85 − 80, 86 − 82, 87 − 84.
    assert [(fact.label, fact.text) for fact in said.scores] == [
        ("in software", "88.00"), ("after 1 h", "87.00 ± 0.58"), ("after 1 month", "86.00 ± 0.58"),
    ]  # fmt: skip
    assert [fact.text for fact in said.gains] == ["+10.00 ± 1.73", "+4.00 ± 0.58"]
    assert [fact.label for fact in said.gains] == [
        "drift compensation (digital training)", "hardware-aware training instead of digital training (compensated)",
    ]  # fmt: skip
    assert said.when == "1 month" and said.gains[1].sources == {("digital-0", ""), ("hardware_aware-0", "")}


def test_less_is_better_where_the_score_is_a_cross_entropy():
    rows = [*chips([1.5, 1.6], HOUR, True, "digital", metric="cross_entropy")]
    rows += chips([1.2, 1.3], HOUR, True, "hardware_aware", metric="cross_entropy")
    said = answer(pivot(rows)[0])
    assert said.best.startswith("hardware-aware") and said.scores[-1].text == "1.250 ± 0.050"


def test_a_task_of_glue_answers_before_one_made_on_the_spot():
    of_glue = [*chips([70.0, 71.0], HOUR, True, "digital", task="mrpc", metric="f1")]
    assert answer(pivot([*DEMO, *of_glue])[0]).title.startswith("MRPC")
    assert answer(pivot([row("digital", 90.0)])[0]) is None  # on no chip


def test_what_was_scored_most_answers_before_what_was_compared_most_and_the_page_says_so(tmp_path, library):
    at = {"task": "mrpc", "metric": "f1"}
    compared = [*chips([70.0, 71.0], MONTH, True, "digital", **at), *chips([72.0, 73.0], MONTH, True, "hardware_aware", **at)]
    scored = [*chips([74.0, 75.0], HOUR, True, "digital", task="rte"), *chips([74.0, 73.0], MONTH, True, "digital", task="rte")]
    said = answer(pivot([*compared, *scored])[0])
    assert said.title.startswith("RTE")  # 2 chips at 2 times, where the other has them at one
    assert said.why == "It stands first because it was scored most: 2 chips × 1 training seed × 2 times."
    assert answer(pivot([*compared, *scored, *DEMO])[0]).why.startswith(
        "It stands first because it was scored most of the tasks of"
    )
    assert answer(pivot(DEMO)[0]).why == ""
    path, _ = build_page(write_runs(tmp_path / "runs", [*compared, *scored]), tmp_path / "page.html")
    assert said.why in path.read_text(encoding="utf-8")


def test_the_best_of_every_task_says_of_what_before_its_numbers():
    grid = answer(pivot([row("digital", 90.0), *chips([80.0, 82.0], HOUR, True, "digital", sweep="pcm-x")])[0]).grid
    assert grid.header == ["", "best", "in software", "1 h", "change"]
    assert grid.rows[0][1:] == ["digital training, compensated", "90.00", "81.00 ± 1.00", "−9.00"]
    assert [grid.sources_of(0, column) for column in (2, 3)] == [{("digital-0", "")}, {("digital-0", "pcm-x")}]


def test_every_number_of_a_table_leads_to_the_run_and_sweep_that_it_is_of(tmp_path, library):
    page = page_of(write_runs(tmp_path / "runs", [of_sweep(measured) for measured in DEMO]), tmp_path)
    (section,) = pivot([of_sweep(measured) for measured in DEMO])[0]
    grid = drift_grid(section)
    by_text = {}
    for link, text in page.links:
        by_text.setdefault(text, set()).add(link)
    for column, runs in {
        1: {"digital-0"},
        2: {"digital-0"},
        3: {"hardware_aware-0"},
        4: {"digital-0", "hardware_aware-0"},
    }.items():
        for cells in grid.rows[2:4]:  # after an hour, after a month
            if is_number(cells[column]) and column != 4:
                found = [page.runs_of(link) for link in by_text[cells[column]]]
                wanted = {(run, name) for run in runs for name in ("", "pcm-x")}
                assert wanted in found, (cells[column], found)


def of_sweep(measured):
    """As the sweep below its run wrote it."""
    return replace(measured, sweep="pcm-x")


def test_a_run_is_told_with_its_command_and_every_setting(tmp_path):
    write_runs(tmp_path, DEMO[:1], versions={"torch": "2.13.0"}, seed=3)
    trained, sweep = run_records(tmp_path, [])
    assert trained.command == "analog-glue train task=demo training=digital"
    assert trained.configuration == {"seed": "0", "training.learning_rate": "0.002", "training.label": "digital-0"}
    assert trained.facts == {"torch": "2.13.0", "seed": "3"}
    assert sweep.source == ("digital-0", "pcm-x") and sweep.configuration == {"tile.adc_bits": "6"}
    packed = Index.of([trained, sweep]).packed()
    told = [dict(zip(packed["keys"], chosen, strict=True)) for *_, chosen in packed["runs"]]
    assert packed["values"][told[1]["tile.adc_bits"]] == "6" and told[0]["tile.adc_bits"] == -1


@pytest.mark.parametrize(
    ("said", "command"),
    [
        ({"command": "sweep", "overrides": ["task=mrpc", "noise=pcm"]}, "analog-glue train task=mrpc noise=pcm"),
        ({"command": "sweep", "overrides": ["checkpoint=a b"]}, "analog-glue evaluate 'checkpoint=a b'"),
        ({"command": "sweep", "overrides": ["checkpoint=a"], "choices": {"tuning": "auto"}}, "analog-glue tune checkpoint=a"),
        ({"command": "tune", "overrides": ["checkpoint=a"]}, "analog-glue tune checkpoint=a"),
        ({"command": "train", "overrides": ["experiment=demo"]}, "analog-glue train +experiment=demo"),
        ({"command": "extract"}, "not recorded"),
    ],
)
def test_the_command_of_a_run_is_the_one_that_was_typed(tmp_path, said, command):
    (tmp_path / "run.json").write_text(json.dumps({"trained": "x"} | said))
    assert [record.command for record in run_records(tmp_path, [])] == [command]


def test_sweeps_are_named_as_their_rows_name_them(tmp_path):
    for below in ("run/pcm-1", "run/ablation-1/without adc", "run/tuned-1/pcm-1"):
        (tmp_path / below).mkdir(parents=True)
        trained = "run/tuned-1" if "tuned" in below else "run"
        (tmp_path / below / "run.json").write_text(json.dumps({"command": "sweep", "trained": trained}))
    assert {record.source for record in run_records(tmp_path, [])} == {
        ("run", "pcm-1"), ("run", "ablation-1/without adc"), ("run/tuned-1", "pcm-1"),
    }  # fmt: skip


def test_names_from_a_run_are_text_wherever_they_stand(tmp_path, library):
    named = [with_names(measured) for measured in DEMO]
    page = page_of(write_runs(tmp_path / "runs", named, versions={"torch": HOSTILE}), tmp_path)
    plain = page_of(write_runs(tmp_path / "plain", DEMO), tmp_path)
    assert sorted(page.elements) == sorted(plain.elements)  # as many of each: none came from a name
    assert "img" not in page.elements and "49" not in [text for _, text in page.links]
    assert all(not name.startswith("on") for _, name, _ in page.attributes)
    packed = json.loads(page.scripts["data-runs"])
    assert HOSTILE + "digital" in {run[0] for run in packed["runs"]} and HOSTILE + "digital" in packed["values"]
    assert all(sign not in page.scripts[name] for name in ("data-runs", "data-charts") for sign in "<>&\u2028\u2029")


def with_names(measured):
    """Of somebody who means harm."""
    return replace(
        measured, run=HOSTILE + measured.training, sweep="pcm-x", noise=HOSTILE, task=HOSTILE, model=HOSTILE, tile=HOSTILE
    )


def test_half_a_sign_in_a_name_stops_no_page(tmp_path, library):
    write_runs(tmp_path / "runs", DEMO[:1])
    file = tmp_path / "runs" / "digital_0" / "run.json"
    file.write_text(file.read_text().replace('"done"', '"\\ud800"'))
    assert page_of(tmp_path / "runs", tmp_path).elements


def test_nothing_is_loaded_from_anywhere(tmp_path, library):
    page = page_of(RECORDS / "demo", tmp_path)
    assert not {"link", "img", "iframe", "object", "embed", "base"} & set(page.elements)
    assert not [one for one in page.attributes if one[1] == "src" or (one[1] == "href" and not one[2].startswith("#"))]
    (policy,) = [value for tag, name, value in page.attributes if (tag, name) == ("meta", "content") and "default-src" in value]
    assert policy.startswith("default-src 'none'") and "http" not in policy


def test_the_same_rows_give_the_same_bytes(tmp_path, library):
    copies = [shutil.copytree(RECORDS / "demo", tmp_path / name) for name in ("a", "b")]
    first, second = (build_page(copy)[0].read_bytes() for copy in copies)
    assert first == second and copies[0] / "report.html" in copies[0].iterdir()


def test_every_table_and_picture_of_tables_is_there(library):
    root = RECORDS / "gokmen2021"
    made = chapter(root)
    page = Page(render(contents(root, made), Index.of(run_records(root, [])), [], ""))
    drawn = sum(len(part.charts) for _, part in made.parts if isinstance(part, Picture))
    there = [value for _, name, value in page.attributes if name == "data-chart"]
    assert len(there) >= drawn > 5 and len(json.loads(page.scripts["data-charts"])) == len(there)
    tables = sum(not isinstance(part, Picture) for _, part in made.parts)
    assert page.elements.count("table") >= tables > 5


def test_runs_that_cannot_be_read_are_named_on_the_page_and_by_the_command(tmp_path, library, capsys):
    from analog_glue.cli.main import main

    write_runs(tmp_path, DEMO)
    (tmp_path / "digital_0" / "pcm-x" / "results.csv").write_text("run,task\nbroken")
    (tmp_path / "hardware_aware_0" / "run.json").write_text(
        json.dumps({"command": "sweep", "overrides": ["x"], "choices": 5, "checkpoint": 1})
    )
    assert main(["report", str(tmp_path)]) == 1
    told, page = capsys.readouterr().err, (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "left out" in told and "results.csv" in told and "results.csv" in page and "Left out" in page
    assert main(["report", str(tmp_path / "nothing")]) == 2


def test_a_folder_to_write_to_is_refused_before_any_work(tmp_path, monkeypatch, capsys):
    from analog_glue.cli.main import main

    monkeypatch.setattr("analog_glue.reports.page.build.build_page", lambda *_: pytest.fail("worked for nothing"))
    assert main(["report", str(RECORDS / "demo"), "--out", str(tmp_path)]) == 2
    assert f"Flag --out must name the file to write, but `{tmp_path}` is a folder" in capsys.readouterr().err


def test_the_package_of_the_chart_library_is_named_where_it_is_missing(tmp_path, monkeypatch, capsys):
    from analog_glue.cli.main import main

    monkeypatch.setitem(sys.modules, "vl_convert", None)
    write_runs(tmp_path, DEMO)
    assert main(["report", str(tmp_path)]) == 2
    assert "pip install analog-glue[report]" in capsys.readouterr().err and not (tmp_path / "report.html").exists()


PICTURES = {
    "over time": Panel(
        "MRPC", "F1 [points]",
        [
            Curve("B: x", "B", [1.0, HOUR, MONTH], [80.0, 79.0, math.nan], [0.5, None, None]),
            Curve("C", "C", [1.0], [85.0], [0.2]),
        ],
        [Level("digital", 86.0, like="C"), Level("majority", 81.0, dotted=True), Level("undefined", math.nan)],
    ),
    "lines": Chart(
        "test", "epoch", "loss [nats]",
        [
            Line("a", [1, 2], [3.0, 2.0], [0.1, None]),
            Line("a", [2], [1.0], [None], joined=False),
            Line("law", [1, 2], [2, 1], [], law=True),
        ],
        [Level("floor", 1.0)], log_y=True,
    ),
    "levels alone": Panel("RTE", "accuracy [points]", [Curve("C", "C", [], [], [])], [Level("digital", 60.0)]),
    "bars": BarChart(
        "after 1 s", "costs [points]", ["dac", "adc"],
        [Bar("left out", [1.0, None], [0.1, None]), Bar("alone", [2.0, 0.5], [None, 0.1])],
    ),
}  # fmt: skip
POINTS, RULES = (
    {"over time": 3, "lines": 3, "levels alone": 0, "bars": 0},
    {"over time": 2 + 2, "lines": 1 + 1, "levels alone": 1, "bars": 2},
)


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_draws_every_finite_point_with_its_error_and_every_level(name):
    import vl_convert

    drawn = drawing(Picture("title", [PICTURES[name]], "note"))
    ((_, specification),) = drawn.charts
    labels = specification.pop("labels")
    assert set(labels) == {key.label for key in drawn.keys}
    for part in (specification, *specification["layer"]):
        for one in part.get("data", {}).get("values", []):
            one["l"] = labels[one["k"]]
    svg = vl_convert.vegalite_to_svg(specification | {"width": 300})  # the library itself judges and draws it
    assert svg.count('aria-roledescription="point"') == POINTS[name]
    assert svg.count('aria-roledescription="rule mark"') == RULES[name]
    assert svg.count('aria-roledescription="bar"') == (3 if name == "bars" else 0)
    assert "80 ± 0.5 F1 [points]" in svg or name != "over time"
