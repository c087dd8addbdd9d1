"""`analog-glue specify` on a small model: bounded, resumable, on the same chips, and told in a table and pictures."""

import csv
import json
import re
import shutil
from statistics import fmean

import pytest

from analog_glue.cli.main import main
from analog_glue.commands import deploy
from analog_glue.runs.rows import ResultsFile, find_rows

pytestmark = pytest.mark.slow

CALIBRATION = "hardware.calibration.examples=16"
SMALL = ["task.train_size=96", "task.validation_size=60", "model.hidden=16", "model.layers=1", "model.heads=2",
         "model.intermediate=24", "model.vocabulary_size=100", "training.epochs=2", "training.batch_size=8",
         "training.learning_rate=5e-3"]  # fmt: skip
HARDWARE = ["tile.rows=16", "tile.columns=16", CALIBRATION]
MONTH = "time=2592000"
QUESTION = ["keep=90", MONTH, "knobs=[programming,adc_bits]", "looks=3"]


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    """A trained run, with one chip of the hardware at the time measured by an ordinary sweep."""
    root = tmp_path_factory.mktemp("runs")
    words = ["task=demo", "model=tiny", "training=digital", *SMALL, *HARDWARE, f"output_root={root}"]
    assert main(["train", *words, "evaluation.chips=1", "evaluation.times=[2592000]", "evaluation.ideal_devices=false"]) == 0
    (run,) = (folder for folder in root.iterdir() if folder.name.startswith("demo-"))
    return root, run


def specify(root, run, *words, chips=3):
    return main(["specify", f"checkpoint={run}", f"output_root={root}", *HARDWARE, f"evaluation.chips={chips}", *words])


@pytest.fixture
def copy(master, tmp_path):
    root, run = master
    shutil.copytree(root, tmp_path / "runs")
    return tmp_path / "runs", tmp_path / "runs" / run.name


@pytest.fixture(scope="module")
def specified(master, tmp_path_factory):
    root = tmp_path_factory.mktemp("specified") / "runs"
    shutil.copytree(master[0], root)
    assert specify(root, root / master[1].name, *QUESTION) == 0
    return root, root / master[1].name


def below(run):
    (folder,) = run.glob("specify-pcm-spoon2021-*")
    return folder


def looks_of(folder):
    with (folder / "specification.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def answers(run):
    return sorted(below(run).glob("answer-*"))


def turned(root):
    return [row for row in find_rows(root) if row.ablation]


def test_the_answer_is_what_its_rows_say_within_the_bound_that_a_dry_run_names(copy, scored, capsys):
    root, run = copy
    before = sorted(root.rglob("*"))
    assert specify(root, run, *QUESTION, "dry_run=true") == 0
    said = capsys.readouterr().out
    most = int(re.search(r"at most (\d+) scores, in", said)[1])
    assert most == 1 + (4 + 4) * 3 and re.search(r"^ +4 looks: programming$", said, re.MULTILINE)
    assert re.search(r"[\d.]+ s each as measured so far", said)
    assert sorted(root.rglob("*")) == before and scored["scores"] == 0

    assert specify(root, run, *QUESTION) == 0
    said = capsys.readouterr().out
    # the digital score and one chip of the hardware as it is are known by the ordinary sweep
    assert scored["scores"] == len({(r.ablation, r.stage, r.chip) for r in turned(root)}) - 2 <= most
    assert {(row.t_seconds, row.compensated) for row in turned(root) if row.stage == "chip"} == {(2_592_000.0, True)}
    (folder,) = answers(run)
    files = {file.name for file in folder.iterdir()}
    wanted = {"specification.md", "specification.csv", "specification.json", "answer.json", "knobs.png", "knobs.svg"}
    assert wanted <= files
    digital = next(row.value for row in turned(root) if row.stage == "digital")
    record = json.loads((folder / "specification.json").read_text())
    assert record["digital"] == digital and record["threshold"] == pytest.approx(0.9 * digital)
    by_label = {}
    for row in turned(root):
        by_label.setdefault(row.ablation, []).append(row.value)
    for look in looks_of(folder):
        value = float(look["value"])
        label = f"adc_bits {value:g}" if look["knob"] == "adc_bits" else f"programming × {value:g}"
        label = "as it is" if label in ("programming × 1", "adc_bits 10") else label
        assert float(look["mean"]) == pytest.approx(fmean(by_label[label]), abs=1e-6)
        assert look["borne"] == str(float(look["lower_bound"]) >= record["threshold"]).lower()
    assert f"specification: {folder}" in said and re.search(r"^programming +programming=1 ", said, re.MULTILINE)
    assert re.search(r"^next: analog-glue specify .*specify\.check_chips=25", said, re.MULTILINE)


def test_the_same_question_again_measures_nothing_and_others_read_what_is_known(specified, scored, capsys):
    root, run = specified
    rows = {path: path.read_bytes() for path in root.rglob("results.csv")}
    assert specify(root, run, *QUESTION) == 0
    assert scored["scores"] == 0 and rows == {path: path.read_bytes() for path in root.rglob("results.csv")}
    assert re.search(r"^programming +programming=1 ", capsys.readouterr().out, re.MULTILINE)
    known = {look["value"] for folder in answers(run) for look in looks_of(folder) if look["knob"] == "programming"}

    assert specify(root, run, *QUESTION[:2], "knobs=[programming]", "looks=4") == 0
    asked = {look["value"] for folder in answers(run) for look in looks_of(folder) if look["knob"] == "programming"}
    assert scored["scores"] == 3 * len(asked - known)  # of a longer bisection only what is new
    assert specify(root, run, *QUESTION[1:2], "keep=0.001", "knobs=[programming]", "looks=1") == 0
    assert len(answers(run)) == 3 and scored["scores"] == 3 * len(asked - known)  # what must be kept changes no row


def test_an_interrupted_search_goes_on_to_the_same_rows(copy, specified, scored):
    root, run = copy
    scored["until"] = 5
    assert specify(root, run, *QUESTION) == 130
    scored["until"] = None
    assert specify(root, run, *QUESTION) == 0

    def values(where):
        own = [row for path in below(where).glob("*/results.csv") for row in ResultsFile(path).rows()]
        return {(row.ablation, row.stage, row.chip): row.value for row in own}

    ours, theirs = values(run), values(specified[1])
    assert ours.items() <= theirs.items() and scored["scores"] == len(ours) - 2


def test_a_setting_is_the_hardware_that_its_words_describe(copy):
    root, run = copy
    assert specify(root, run, "keep=90", MONTH, "knobs=[programming]", "looks=1", "largest=4") == 0
    words = ["evaluation.chips=3", "evaluation.times=[2592000]"]
    assert main(["evaluate", f"checkpoint={run}", f"output_root={root}", *HARDWARE, *words]) == 0
    ordinary = {row.chip: row.value for row in find_rows(root) if row.stage == "chip" and not row.ablation}
    assert {row.chip: row.value for row in turned(root) if row.ablation == "as it is" and row.stage == "chip"} == ordinary


def test_pairs_give_a_map_and_fresh_chips_are_others(copy, scored, capsys):
    root, run = copy
    words = ["keep=70", MONTH, "knobs=[adc_bits]", "pairs=[[programming,adc_bits]]", "looks=2", "lines=3", "check_chips=4"]
    assert specify(root, run, *words) == 0
    (folder,) = answers(run)
    assert {"map-programming-adc_bits.png", "map-programming-adc_bits.svg"} <= {file.name for file in folder.iterdir()}
    said = capsys.readouterr().out
    assert "adc_bits borne beside programming" in said and "fresh chips" in said
    rows = looks_of(folder)
    on_map = [row for row in rows if row["beside"] == "programming"]
    assert len({row["beside_value"] for row in on_map}) == 3 and len(on_map) <= 3 * 4
    (answered,) = (row for row in rows if row["answered"] == "true" and not row["beside"])
    (fresh,) = (row for row in rows if row["fresh"] == "true")
    assert fresh["value"] == answered["value"] and fresh["chips"] == "4"
    label = "as it is" if float(fresh["value"]) == 10 else f"adc_bits {float(fresh['value']):g}"
    own = {row.chip for row in turned(root) if row.ablation == label and row.stage == "chip"}
    assert own == set(range(7))
    most = 1 + (4 + 3 * 4) * 3 + 4
    assert scored["scores"] <= most


def test_hardware_without_noise_is_scored_once(copy, scored):
    root, run = copy
    words = ["noise=ideal", "tile.read_noise=0", "tile.output_noise=0", "keep=90", MONTH, "knobs=[adc_bits]"]
    assert specify(root, run, *words) == 0
    assert {row.stage for row in turned(root)} == {"digital", "ideal_devices"}
    assert scored["scores"] <= 4


def test_tables_gain_the_answer_alone_and_a_list_of_runs_has_one_line(specified, master, tmp_path, capsys):
    def tables(root, name):
        assert main(["tables", str(root), "--out", str(tmp_path / name)]) == 0
        return (tmp_path / name / "tables.md").read_text()

    root, run = specified
    own, found = (tables(where, name).strip().split("\n\n") for where, name in ((master[0], "before"), (root, "after")))
    assert [part for part in found if part in own] == own
    told = [part for part in found if part not in own and not part.startswith("![")]
    assert "\n\n".join(told) == "\n\n".join((folder / "specification.md").read_text().strip() for folder in answers(run))
    assert main(["report", str(root), "--out", str(tmp_path / "report.html")]) == 0
    assert "<h2>Specification, " in (tmp_path / "report.html").read_text()
    capsys.readouterr()
    assert main(["list", "runs", str(specified[0])]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "specify-" in line)
    assert re.fullmatch(r"  done        specify-pcm-spoon2021-\w+: \d+ settings of the hardware", line)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["keep=0", MONTH], ["`specify.keep`", "(0, 100]", "0"]),
        (["keep=101", MONTH], ["`specify.keep`", "101"]),
        (["keep=99"], ["`specify.time`", "time=2592000"]),
        (["time=-1"], ["`specify.time`", "positive"]),
        ([MONTH, "evaluation.chips=1"], ["`evaluation.chips`", "at least 2"]),
        ([MONTH, "evaluation.compensation=[false,true]"], ["`evaluation.compensation`", "[true] or [false]"]),
        ([MONTH, "knobs=[g_max]"], ["`specify.knobs`", "relative to g_max"]),
        ([MONTH, "knobs=[ir_drop]"], ["`specify.knobs`", "programming", "0 or ideal"]),
        ([MONTH, "pairs=[[programming]]"], ["`specify.pairs`", "two different"]),
        ([MONTH, "pairs=[[programming,drift2]]"], ["`specify.pairs`", "'drift2'"]),
        ([MONTH, "confidence=1"], ["`specify.confidence`", "[0.5, 1)"]),
        ([MONTH, "check_chips=1"], ["`specify.check_chips`"]),
        ([MONTH, "noise=ideal", "tile=ideal"], ["noise=pcm"]),
        ([MONTH, "ablate=true"], ["`ablate`", "must be left out of `specify`"]),
        ([MONTH, "model=tiny"], ["`model`", "come with the checkpoint"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_cannot_be_asked_is_refused_before_anything_is_loaded(master, monkeypatch, capsys, words, parts):
    def never(*arguments):
        raise AssertionError("something was loaded")

    monkeypatch.setattr(deploy, "load_checkpoint_model", never)
    root, run = master
    assert main(["specify", f"checkpoint={run}", f"output_root={root}", *HARDWARE, *words]) == 2
    said = capsys.readouterr().err
    for part in parts:
        assert part in said


def test_weights_trained_in_situ_are_refused(tmp_path, capsys):
    (tmp_path / "learning_curve.csv").touch()
    assert main(["specify", f"checkpoint={tmp_path}", MONTH]) == 2
    assert "`checkpoint` must be the folder of a run of training=digital" in capsys.readouterr().err
