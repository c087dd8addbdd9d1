"""Tables are group-bys over rows: means and errors worked out by hand, the same bytes every time."""

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from scipy import stats

from analog_glue.reports.build import build
from analog_glue.reports.drift import drift_table, panel_of
from analog_glue.reports.figures import Curve, Level, Panel, drift_figure, time_label
from analog_glue.reports.grids import GLUE, Grid, as_csv, as_markdown
from analog_glue.reports.missing import missing_commands
from analog_glue.reports.published import published_numbers
from analog_glue.reports.sections import Training, Variant, pivot
from analog_glue.reports.statistics import summarise
from analog_glue.runs.rows import Measurement, ResultsFile

HOUR, MONTH = 3600.0, 2_592_000.0  # [s]
A = Variant(Training("digital", ""), False)
B = Variant(Training("digital", ""), True)
C = Variant(Training("hardware_aware", ""), True)


def row(stage: str, value: float, training: str = "digital", seed: int = 0, **changes: object) -> Measurement:
    fields = {
        "run": f"{training}-{seed}",
        "sweep": "",
        "task": "demo",
        "model": "tiny",
        "noise": "pcm",
        "tile": "spoon2021",
        "chip": None,
        "t_seconds": None,
        "compensated": None,
        "extrapolated": False,
        "split": "validation",
        "metric": "accuracy",
        "headline": True,
        "examples": 500,
        "train_ids": f"{changes.get('task', 'demo')}-{training}-{seed}",
        "hardware_id": "c0ffee11",
        "wall_seconds": 2.0,
    }
    return Measurement(**{**fields, **changes}, stage=stage, value=value, training=training, seed=seed)


def chips(values: list[float], t: float, compensated: bool, training: str, seed: int = 0, **changes: object):
    at = {"t_seconds": t, "compensated": compensated, **changes}
    return [row("chip", value, training, seed, chip=chip, **at) for chip, value in enumerate(values)]


# Means, deviations and paired deviations that can be worked out by hand (see the tests).
DEMO = [
    row("digital", 90.0),
    row("majority", 20.0),
    row("ideal_devices", 89.0),
    row("digital", 88.0, "hardware_aware"),
    row("majority", 20.0, "hardware_aware"),
    row("ideal_devices", 87.5, "hardware_aware"),
    *chips([86.0, 88.0, 90.0], HOUR, False, "digital"),
    *chips([88.0, 88.0, 88.0], HOUR, True, "digital"),
    *chips([86.0, 87.0, 88.0], HOUR, True, "hardware_aware"),
    *chips([70.0, 75.0, 71.0], MONTH, False, "digital"),
    *chips([80.0, 82.0, 84.0], MONTH, True, "digital"),
    *chips([85.0, 86.0, 87.0], MONTH, True, "hardware_aware"),
]


def write(root: Path, rows: list[Measurement]) -> Path:
    """One file per trained network, as the runs write them."""
    for name in sorted({measured.train_ids for measured in rows}):
        ResultsFile(root / name).append(measured for measured in rows if measured.train_ids == name)
    return root


def test_errors_over_chips_are_those_of_the_mean():
    found = summarise({0: {0: 80.0, 1: 82.0, 2: 84.0}})
    # Mean 82, sample deviation 2, three chips.
    assert (found.mean, found.seeds, found.chips) == (82.0, 1, 3)
    assert found.error == found.error_chips == pytest.approx(2 / math.sqrt(3))
    scores = numpy.random.default_rng(0).normal(85, 3, 25)
    assert summarise({7: dict(enumerate(scores))}).error == pytest.approx(stats.sem(scores))


def test_with_several_seeds_a_network_is_the_repeat_not_a_chip():
    found = summarise({0: {0: 80.0, 1: 82.0, 2: 84.0}, 1: {0: 84.0, 1: 86.0, 2: 88.0}})
    # Seed means 82 and 86: mean 84, deviation 2√2, two seeds. Chips alone: √(4/3 + 4/3)/2.
    assert (found.mean, found.seeds, found.chips) == (84.0, 2, 3)
    assert found.error == pytest.approx(2.0)
    assert found.error_chips == pytest.approx(math.sqrt(8 / 3) / 2)
    # A seed with more chips does not weigh more.
    uneven = summarise({0: {0: 80.0}, 1: {0: 84.0, 1: 86.0, 2: 88.0}})
    assert (uneven.mean, uneven.chips, uneven.most_chips, uneven.error_chips) == (83.0, 1, 3, None)


def test_one_chip_or_an_undefined_score_has_no_error():
    assert summarise({0: {0: 80.0}}).error is None
    undefined = summarise({0: {0: 80.0, 1: float("nan")}})
    assert math.isnan(undefined.mean) and undefined.error is None
    assert summarise({}) is None and summarise({0: {}}) is None


def test_differences_are_paired_by_chip_and_seed():
    (section,), _ = pivot(DEMO)
    gained = section.difference(B, A, MONTH)
    # Differences 10, 7, 13: mean 10, deviation 3. Unpaired errors would give 1.91.
    assert (gained.mean, gained.chips) == (10.0, 3)
    assert gained.error == pytest.approx(3 / math.sqrt(3))
    # C − B: 5, 4, 3.
    assert section.difference(C, B, MONTH).error == pytest.approx(1 / math.sqrt(3))
    paired = stats.ttest_rel([85.0, 86.0, 87.0], [80.0, 82.0, 84.0])
    found = section.difference(C, B, MONTH)
    assert found.mean / found.error == pytest.approx(paired.statistic)
    assert section.pairs() == [(B, A), (C, B)]


def test_differences_take_only_chips_and_seeds_that_both_have():
    more = [
        *chips([60.0, 60.0, 60.0, 99.0], MONTH, True, "digital", seed=1),
        *chips([63.0, 65.0], MONTH, True, "hardware_aware", seed=1),
        *chips([10.0], MONTH, True, "hardware_aware", seed=2),
    ]
    (section,), _ = pivot([*DEMO, *more])
    found = section.difference(C, B, MONTH)
    # Seed 0: mean of 5, 4, 3; seed 1: mean of 3, 5; seed 2 has no partner.
    assert (found.mean, found.error, found.seeds, found.chips, found.most_chips) == (4.0, 0.0, 2, 2, 3)


def test_changes_are_from_the_digital_score_of_the_same_network():
    second = [row("digital", 80.0, seed=1), *chips([70.0, 72.0, 74.0], MONTH, True, "digital", seed=1)]
    (section,), _ = pivot([*DEMO, *second])
    change = section.change(B, MONTH)
    # 82 − 90 and 72 − 80; the networks differ by 10 points, their losses do not.
    assert (change.mean, change.error, change.seeds) == (-8.0, 0.0, 2)
    assert section.statistic(B, MONTH).error == pytest.approx(5.0)


def test_networks_that_differ_in_more_than_the_seed_are_not_averaged():
    first = [replace(r, train_ids=f"{r.training[0]}1234567890") for r in DEMO]
    other = {"train_ids": "h2-other-rate", "run": "rate-2e-4"}
    more = [
        row("digital", 50.0, "hardware_aware", **other),
        *chips([40.0] * 3, MONTH, True, "hardware_aware", **other),
    ]
    (section,), remarks = pivot([*first, *more])
    found = {v.training.recipe: section.statistic(v, MONTH).mean for v in section.variants if v.letter == "C"}
    assert found == {"h1234567": 86.0, "h2-other": 40.0}
    assert len(section.pairs()) == 3  # B − A, and either C − B
    assert section.change(Variant(Training("hardware_aware", "h2-other"), True), MONTH).mean == -10.0
    assert "several hardware-aware trainings of the same seed" in remarks[0]
    assert "C2: hardware-aware training [h2-other], compensated" in drift_table([*first, *more])


def test_another_hardware_of_the_same_name_is_another_table():
    halved = [replace(r, hardware_id="half", value=99.0) for r in DEMO if r.stage == "chip"]
    sections, _ = pivot([*DEMO, *halved])
    assert [s.hardware for s in sections] == ["c0ffee11", "half"]
    assert sections[0].statistic(B, MONTH).mean == 82.0
    assert sections[1].statistic(B, MONTH).mean == 99.0
    assert sections[1].change(B, MONTH).mean == 9.0  # the digital score does not depend on the hardware


def test_a_digital_score_takes_the_colour_of_its_compensated_curve_and_stays_grey_for_digital_training():
    section = pivot([*DEMO, *chips([60.0], MONTH, False, "hardware_aware")])[0][0]
    likes = {level.label: level.like for level in panel_of(section).levels}
    assert likes["hardware-aware training, digital score"] == "C: hardware-aware training, compensated"
    assert likes["digital training, digital score"] == ""


def test_weights_trained_in_situ_are_tables_of_their_own_and_ask_for_no_other_training():
    nats = {"task": "war_and_peace", "model": "soft_bounds", "metric": "cross_entropy"}
    rows = [row("digital", 1.5, "ttv2_averaged", **nats), *chips([1.6, 1.602], HOUR, True, "ttv2_averaged", **nats)]
    sections, _ = pivot([*DEMO, *rows])
    assert not any("war_and_peace" in command or "ttv2" in command for command in missing_commands(sections))
    assert "1.601 ± 0.001 (+0.101)" in drift_table(rows)


@pytest.mark.slow
def test_a_measurement_in_two_files_counts_once(tmp_path):
    ResultsFile(tmp_path / "a").append(DEMO)
    ResultsFile(tmp_path / "b").append(DEMO)
    assert build(tmp_path).markdown == build(write(tmp_path / "once", DEMO)).markdown
    ResultsFile(tmp_path / "c").append([replace(DEMO[0], value=11.0)])
    assert "1 row(s) repeat a measurement with another score" in build(tmp_path).markdown


MARKDOWN = """\
## demo (accuracy, headline): tiny, pcm on spoon2021

- A: digital training, not compensated
- B: digital training, compensated
- C: hardware-aware training, compensated

|                |                     A |                    B |                    C |         B − A |        C − B |
|----------------|----------------------:|---------------------:|---------------------:|--------------:|-------------:|
| digital        |                 90.00 |                90.00 |                88.00 |               |              |
| ideal devices  |                 89.00 |                89.00 |                87.50 |               |              |
| 1 h            |  88.00 ± 1.15 (−2.00) | 88.00 ± 0.00 (−2.00) | 87.00 ± 0.58 (−1.00) |  +0.00 ± 1.15 | −1.00 ± 0.58 |
| 1 month        | 72.00 ± 1.53 (−18.00) | 82.00 ± 1.15 (−8.00) | 86.00 ± 0.58 (−2.00) | +10.00 ± 1.73 | +4.00 ± 0.58 |
| majority class |                 20.00 |                20.00 |                20.00 |               |              |
| training seeds |                     1 |                    1 |                    1 |             1 |            1 |
| chips per seed |                     3 |                    3 |                    3 |             3 |            3 |
"""

LATEX = r"""
\label{tab:drift-demo-validation-accuracy-tiny-pcm-spoon2021}
\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%
\begin{tabular}{lrrrrr}
\toprule
 & A & B & C & B $-$ A & C $-$ B \\
\midrule
digital & 90.00 & 90.00 & 88.00 &  &  \\
ideal devices & 89.00 & 89.00 & 87.50 &  &  \\
1 h & 88.00 $\pm$ 1.15 ($-$2.00) & 88.00 $\pm$ 0.00 ($-$2.00) & 87.00 $\pm$ 0.58 ($-$1.00) & +0.00 $\pm$ 1.15 & $-$1.00 $\pm$ 0.58 \\
1 month & 72.00 $\pm$ 1.53 ($-$18.00) & 82.00 $\pm$ 1.15 ($-$8.00) & 86.00 $\pm$ 0.58 ($-$2.00) & +10.00 $\pm$ 1.73 & +4.00 $\pm$ 0.58 \\
majority class & 20.00 & 20.00 & 20.00 &  &  \\
training seeds & 1 & 1 & 1 & 1 & 1 \\
chips per seed & 3 & 3 & 3 & 3 & 3 \\
\bottomrule
\end{tabular}}
\end{table}
"""  # noqa: E501


@pytest.mark.slow
def test_the_tables_read_as_they_should(tmp_path):
    report = build(write(tmp_path, DEMO))
    names = [
        "differences.csv",
        "drift-tiny-pcm-spoon2021.png",
        "drift-tiny-pcm-spoon2021.svg",
        "drift.csv",
        "tables.md",
        "tables.tex",
    ]
    assert report.paths == [tmp_path / "tables" / name for name in names]
    assert MARKDOWN in report.markdown
    assert report.markdown == (tmp_path / "tables" / "tables.md").read_text(encoding="utf-8")
    assert "## Missing" not in report.markdown and "GLUE" not in report.markdown
    assert LATEX in (tmp_path / "tables" / "tables.tex").read_text(encoding="utf-8")
    lines = (tmp_path / "tables" / "drift.csv").read_text(encoding="utf-8").splitlines()
    assert lines[2].startswith("tiny,pcm,spoon2021,c0ffee11,demo,validation,accuracy,true,A,digital,,false,2592000,")
    assert lines[2].endswith("false,72,1.527525,1.527525,1,3,3,90,-18,1.527525,89,20,500,2")
    text = drift_table(DEMO)
    assert "1 month         72.00 ± 1.53 (−18.00)  82.00 ± 1.15 (−8.00)" in text
    assert max(map(len, text.splitlines())) <= 110


def test_latex_holds_no_character_that_breaks_it(tmp_path):
    build(write(tmp_path, [replace(r, task="50%_of {all} & #1 ~^\\") for r in DEMO]))
    text = (tmp_path / "tables" / "tables.tex").read_text(encoding="utf-8")
    assert r"50\%\_of \{all\} \& \#1 \textasciitilde{}\textasciicircum{}\textbackslash{}" in text
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert text.isascii()


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def glue_rows(tasks: list[str], seeds: tuple[int, ...] = (0,)) -> list[Measurement]:
    rows = []
    for i, task in enumerate(tasks):
        about = {"task": task, "metric": GLUE[task], "model": "bert_base"}
        for seed in seeds:
            for training, digital in (("digital", 80.0 + i), ("hardware_aware", 79.0 + i)):
                rows.append(row("digital", digital, training, seed, **about))
                rows.append(row("majority", 50.0, training, seed, **about))
                gains = (digital - 10.0, digital - 2.0 - seed)
                for compensated, score in zip((False, True), gains, strict=True):
                    values = [score - 1.0, score, score + 1.0]
                    rows += chips(values, MONTH, compensated, training, seed, **about)
    return rows


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    """A folder of runs, all eight tasks of GLUE and the demo, with its tables."""
    root = write(tmp_path_factory.mktemp("outputs"), [*DEMO, *glue_rows(list(GLUE))])
    build(root)
    return root


@pytest.mark.slow
def test_the_same_rows_give_the_same_bytes_whatever_the_folders_are_called(outputs, tmp_path):
    before = everything(outputs / "tables")
    report = build(outputs)
    assert everything(outputs / "tables") == before
    assert sorted(path.name for path in report.paths) == list(before)
    # All rows in one file, in another order, beside things that nobody may open.
    other = tmp_path / "renamed"
    ResultsFile(other / "qqp-bert_large-seed=7").append([*DEMO, *glue_rows(list(GLUE))][::-1])
    (other / "qqp-bert_large-seed=7" / "run.json").write_text("not json")
    (other / "qqp-bert_large-seed=7" / "model.safetensors").write_bytes(b"no weights")
    # Another process with another order of sets.
    code = "import sys; from analog_glue.reports.build import build; build(*sys.argv[1:])"
    code += "; assert not sys.modules.get('torch')"
    source = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": source}
    command = [sys.executable, "-c", code, str(other), str(tmp_path / "elsewhere")]
    subprocess.run(command, check=True, env=environment)
    assert everything(tmp_path / "elsewhere") == before
    assert not (other / "tables").exists()


def test_no_rows_is_an_answer_not_a_trace(tmp_path):
    with pytest.raises(ValueError, match=r"`root` must hold a results\.csv .* but `.*` has none"):
        build(tmp_path)


def glue_line(markdown: str, start: str) -> list[str]:
    line = next(line for line in markdown.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_glue_stands_beside_the_published_numbers(outputs):
    markdown = (outputs / "tables" / "tables.md").read_text(encoding="utf-8")
    # Tasks score 78 … 85 ± 1/√3 (deviation 1, three chips); the mean of eight independent ones ± 1/√24.
    assert glue_line(markdown, "B: digital") == [
        *(f"{78 + i}.00 ± 0.58" for i in range(8)),
        "81.50 ± 0.20",
    ]
    changes = [line for line in markdown.splitlines() if line.startswith("| … change from digital")]
    assert "−2.00 ± 0.20" in changes[2]
    assert glue_line(markdown, "digital training, digital score")[-1] == "83.50"
    assert glue_line(markdown, "always the majority")[-1] == "50.00"
    analog = ["64.00", "88.62", "84.52", "55.65", "91.03", "89.01", "89.63", "82.12", "80.57"]
    assert glue_line(markdown, "BERT-base analog") == analog
    assert glue_line(markdown, "… C − digital [") == [""] * 7 + ["−4", "−1.29"]
    assert glue_line(markdown, "Spoon 2021: C at 1 month [") == [""] * 9
    assert "[2] IBM Analog AI BERT FactSheet" in markdown
    assert "## Missing" not in markdown


@pytest.mark.slow
def test_an_average_takes_all_eight_tasks(tmp_path):
    report = build(write(tmp_path, glue_rows(["rte", "mrpc"])))
    assert glue_line(report.markdown, "B: digital") == ["78.00 ± 0.58", "79.00 ± 0.58", *["–"] * 7]
    assert "takes all of them (2 here)" in report.markdown


def test_every_published_number_has_its_source_and_averages_recompute():
    numbers = published_numbers()
    assert all(number.source and number.label for number in numbers)
    lines = {}
    for number in numbers:
        lines.setdefault(number.line, {})[number.task] = number
    # FactSheet: as printed 81.23 and 80.57; dev set of the CLaF report: 82.90.
    for line, average in (
        ("factsheet_digital", 81.225),
        ("factsheet_analog", 80.5725),
        ("bert_base_validation", 82.9),
    ):
        scores = [lines[line][task].value for task in GLUE]
        assert sum(scores) / 8 == pytest.approx(average, abs=5e-3)
        assert lines[line]["average"].value == pytest.approx(average, abs=6e-3)
    for task, change in lines["factsheet_change"].items():
        digital, analog = lines["factsheet_digital"][task].value, lines["factsheet_analog"][task].value
        assert change.value == pytest.approx(analog - digital, abs=0.011)
    spoon = lines["spoon2021_change"]
    assert [n.text for n in spoon.values()] == [""] * 7 + ["−4", "−1.29"]
    assert all(number.value is None for number in lines["spoon2021_analog"].values())
    assert {n.metric for n in numbers if n.task == "mrpc" and not n.line.startswith("rasch2023_mrpc")} == {"f1"}


def test_what_is_missing_is_named_with_the_command_that_makes_it():
    rows = [r for r in glue_rows(list(GLUE), seeds=(0, 1)) if r.task in ("rte", "mrpc")]
    rows = [r for r in rows if not (r.task == "mrpc" and r.training == "hardware_aware" and r.seed == 1)]
    rows = [r for r in rows if not (r.task == "rte" and r.training == "digital" and r.compensated is False)]
    common = "model=bert_base noise=pcm tile=spoon2021"
    tail = "evaluation.chips=3 evaluation.times=[2592000]"
    others = "stsb,cola,sst2,qnli,qqp,mnli"
    assert sorted(missing_commands(pivot(rows)[0])) == sorted(
        [
            f"analog-glue train -m task=rte,{others} {common} training=digital seed=0,1 "
            f"evaluation.compensation=[true,false] {tail}",
            f"analog-glue train -m task={others} {common} training=hardware_aware seed=0,1 {tail}",
            f"analog-glue train task=mrpc {common} training=hardware_aware seed=1 {tail}",
        ]
    )
    # Fewer chips than the other variants have is missing too; devices without drift need no compensation.
    fewer = [r for r in DEMO if not (r.training == "hardware_aware" and r.chip == 2)]
    (command,) = missing_commands(pivot(fewer)[0])
    assert "training=hardware_aware seed=0" in command and "evaluation.chips=3" in command
    uncompensated = [replace(r, noise="reram") for r in DEMO if r.compensated is not True]
    (command,) = missing_commands(pivot(uncompensated)[0])
    assert "noise=reram" in command and "training=hardware_aware" in command and "compensation" not in command


def test_times_beyond_the_measurements_are_marked():
    marked = drift_table([replace(r, extrapolated=r.t_seconds == MONTH) for r in DEMO])
    assert re.search(r"^1 month\*", marked, re.MULTILINE)
    assert "* beyond the measurements behind the device model" in " ".join(marked.split())


def test_networks_on_no_chip_yet_are_listed():
    text = drift_table([r for r in DEMO if r.stage == "digital"])
    assert "digital training" in text and "90.00" in text and "88.00" in text


def test_both_splits_of_mnli_are_tables_of_their_own(tmp_path):
    matched = [replace(r, split="validation_matched") for r in glue_rows(["mnli"])]
    off = {"split": "validation_mismatched", "metric": "accuracy_mismatched", "headline": False}
    sections, _ = pivot([*matched, *(replace(r, value=r.value - 5, **off) for r in matched)])
    assert [(s.score.split, s.headline) for s in sections] == [
        ("validation_matched", True),
        ("validation_mismatched", False),
    ]
    assert sections[1].change(B, MONTH).mean == sections[0].change(B, MONTH).mean == -2.0


@pytest.mark.parametrize(
    ("seconds", "label"),
    [
        (1.0, "1 s"),
        (20.0, "20 s"),
        (90.0, "90 s"),
        (600.0, "10 min"),
        (3600.0, "1 h"),
        (86_400.0, "1 day"),
        (172_800.0, "2 days"),
        (604_800.0, "1 week"),
        (2_592_000.0, "1 month"),
        (31_536_000.0, "1 year"),
        (0.5, "0.5 s"),
    ],
)
def test_times_are_labelled_as_people_say_them(seconds, label):
    assert time_label(seconds) == label


@pytest.mark.slow
@pytest.mark.parametrize("panels", [1, 5])
def test_figures_are_png_and_svg_with_fixed_bytes(panels):
    times, undefined = [1.0, HOUR, MONTH], float("nan")
    curves = [
        Curve("A: a", "A", times, [90.0, 80.0, 70.0], [0.1, None, 0.3]),
        Curve("D: one point", "D", [HOUR], [75.0], [None]),
        Curve("E: undefined", "E", times, [undefined] * 3, [None] * 3),
    ]
    drawn = [Panel(f"task {i}", "accuracy", curves, [Level("digital", 91.0)]) for i in range(panels)]
    first = drift_figure(drawn, "title", "note")
    assert first.png.startswith(b"\x89PNG") and b"Matplotlib" not in first.png
    assert first.svg.startswith(b"<?xml") and b"dc:date" not in first.svg
    if panels == 1:
        assert drift_figure(drawn, "title", "note") == first


def test_labels_of_the_times_do_not_touch(monkeypatch):
    from matplotlib.axes import Axes

    drawn = []
    original = Axes.set_xticks
    monkeypatch.setattr(Axes, "set_xticks", lambda axes, *a, **k: drawn.append((axes, original(axes, *a, **k))))
    times = [1.0, 3600.0, 86_400.0, 604_800.0, 2_592_000.0]
    panel = Panel("MRPC", "F1", [Curve("A: a", "A", times, [5.0] * 5, [1.0] * 5)], [])
    drift_figure([panel] * 2, "title", "note")
    assert len(drawn) == 2
    for axes, _ in drawn:
        labels = axes.get_xticklabels()
        assert [label.get_text().strip() for label in labels] == list(map(time_label, times))
        boxes = [label.get_window_extent() for label in labels]
        for label, box in zip(labels, boxes, strict=True):
            if label.get_text().startswith("\n"):
                box.y1 = (box.y0 + box.y1) / 2  # an empty line touches nothing
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_the_csv_files_hold_plain_numbers_for_other_programs(outputs):
    for name in ("drift.csv", "differences.csv"):
        text = (outputs / "tables" / name).read_text(encoding="utf-8")
        assert text.isascii()
    import pandas

    frame = pandas.read_csv(outputs / "tables" / "drift.csv")
    demo = frame[(frame.task == "demo") & (frame.curve == "C") & (frame.t_seconds == MONTH)]
    assert json.loads(demo[["mean", "digital", "change"]].to_json(orient="values")) == [[86.0, 88.0, -2.0]]
    glue = pandas.read_csv(outputs / "tables" / "glue.csv")
    average = glue[(glue.origin == "measured") & (glue.task == "average") & (glue.kind == "score")]
    assert average[average.label == B.title].value.tolist() == [81.5]
    assert set(glue[glue.origin == "published"].source.isna()) == {False}


def test_names_of_others_are_no_html_end_no_cell_and_are_no_formula():
    grid = Grid("a <b>title</b>", "p < 0.05, <script>x</script>", ["", "a|b"], [["<img src=x>", "1 < 2"]], legend=["<i>"])
    said = as_markdown(grid)
    assert "&lt;img src=x>" in said and "&lt;script>" in said and "&lt;i>" in said and "&lt;b>title" in said
    assert r"a\|b" in said and "1 < 2" in said and "p < 0.05" in said
    names = ["=1+1", "+x", "-x", "@x", "\tx", "plain", -1.5]
    rows = as_csv([{"name": name} for name in names]).decode().splitlines()[1:]
    assert rows == ["'=1+1", "'+x", "'-x", "'@x", "'\tx", "plain", "-1.5"]
