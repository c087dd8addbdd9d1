"""Runs that version 0.1.0 made are read, tabulated, evaluated, continued and extracted, to the numbers that it gave.

The fixtures are its own: run_of_0_1_0 holds what it made, tables_of_0_1_0 how it tabulated that, continued_by_0_1_0 what it
measured when it went on with a copy (a second chip, a second epoch, its extraction).
"""

import json
import shutil
from pathlib import Path

import pytest

from analog_glue.cli.main import main
from analog_glue.runs.cells import read_cells
from analog_glue.runs.lookup import payload_of
from analog_glue.runs.rows import ResultsFile

FIXTURES = Path(__file__).parents[1] / "fixtures"
COMPUTED = ["runtime.kernel=reference", "runtime.product=float32", "runtime.threads=1"]
DEMO = [
    "train", "task=demo", "task.train_size=96", "task.validation_size=64", "model=tiny", "model.hidden=16", "model.layers=1",
    "model.heads=2", "model.intermediate=32", "model.vocabulary_size=160", "training.batch_size=16",
    "training.learning_rate=0.003", "training.epochs=2", "evaluation.chips=1", "evaluation.times=[1,86400]",
    "evaluation.compensation=[false,true]", *COMPUTED,
]  # fmt: skip
DIGITS = [
    "train", "task=digits", "task.hidden=[8]", "task.train_images=100", "task.test_images=100", "training=ttv2",
]  # fmt: skip
EXAMPLE = 100 / 64  # [points] that one example of the validation set is worth, where another CPU may round otherwise


@pytest.fixture
def old(tmp_path):
    """A copy of what version 0.1.0 made."""
    shutil.copytree(FIXTURES / "run_of_0_1_0", tmp_path / "runs")
    return tmp_path / "runs"


def run_of(root, pattern):
    (folder,) = root.glob(pattern)
    return folder


def folders(root):
    return {path.name for path in root.glob("*-*")} | {path.name for path in root.glob("*/pcm-*")}


def test_its_fixture_is_small_and_says_nothing_of_where_it_was_made():
    files = [file for file in (FIXTURES / "run_of_0_1_0").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 300_000
    assert not any("output_root=/" in file.read_text() for file in files if file.suffix == ".json")


@pytest.mark.slow
def test_it_is_tabulated_to_the_same_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    assert main(["tables", str(FIXTURES / "run_of_0_1_0"), "--out", str(tmp_path)]) == 0
    for expected in (FIXTURES / "tables_of_0_1_0").glob("*.csv"):
        assert (tmp_path / expected.name).read_bytes() == expected.read_bytes(), expected.name


@pytest.mark.slow
@pytest.mark.parametrize("training", ["digital", "hardware_aware"])
def test_the_same_command_finds_it_done(old, training, capsys, monkeypatch):
    monkeypatch.setattr("analog_glue.commands.train.fit", None)
    monkeypatch.setattr("analog_glue.commands.deploy.drift_sweep", None)
    before = folders(old), {file: file.read_bytes() for file in old.rglob("*.*") if file.is_file()}
    assert main([*DEMO, f"training={training}", f"output_root={old}"]) == 0
    said = capsys.readouterr().out
    assert "Training was done already" in said and "Already done" in said
    assert before == (folders(old), {file: file.read_bytes() for file in before[1]})


@pytest.mark.slow
@pytest.mark.parametrize("training", ["digital", "hardware_aware"])
def test_another_chip_joins_its_sweep_with_the_scores_that_it_would_have_had(old, training):
    run = run_of(old, f"demo-tiny-{training}-*")
    sweep = run_of(run, "pcm-*")
    before = ResultsFile(sweep).rows()
    words = ["evaluation.chips=2", "evaluation.times=[1,86400]", "evaluation.compensation=[false,true]", *COMPUTED]
    assert main(["evaluate", f"checkpoint={run}", "noise=pcm", *words, f"output_root={old}"]) == 0
    assert run_of(run, "pcm-*") == sweep
    rows = ResultsFile(sweep).rows()
    assert rows[: len(before)] == before
    expected = ResultsFile(FIXTURES / "continued_by_0_1_0" / f"results_{training}.csv").rows()
    assert [(row.chip, row.t_seconds, row.compensated) for row in rows] == [
        (row.chip, row.t_seconds, row.compensated) for row in expected
    ]
    assert [row.value for row in rows] == pytest.approx([row.value for row in expected], abs=EXAMPLE)
    assert len({(row.hardware_id, row.train_ids, row.data, row.recipe) for row in rows}) == 1
    assert {(row.stream, row.product) for row in rows[len(before) :]} == {("torch", "float32")}
    record = json.loads((sweep / "run.json").read_text())
    assert record["results_schema"] == 3 and record["identity"]["noise"] == "PCM"
    again = [f"checkpoint={run}", "noise=pcm", *words, f"output_root={old}", "evaluation.chips=3"]
    assert main(["evaluate", *again]) == 0  # found again by its payload, with the id of its rows
    assert run_of(run, "pcm-*") == sweep
    assert {row.chip for row in ResultsFile(sweep).rows() if row.stage == "chip"} == {0, 1, 2}
    assert len({row.hardware_id for row in ResultsFile(sweep).rows()}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("other", ["runtime.kernel=compiled", "noise.g_max=20", "tile.adc_bits=8"])
def test_a_sweep_of_another_kernel_or_hardware_is_another_folder(old, other):
    run = run_of(old, "demo-tiny-digital-*")
    words = ["evaluation.chips=1", "evaluation.times=[1]", *COMPUTED, other, f"output_root={old}"]
    before = ResultsFile(run_of(run, "pcm-*")).path.read_bytes()
    assert main(["evaluate", f"checkpoint={run}", "noise=pcm", *words]) == 0
    assert len(list(run.glob("pcm-*"))) == 2
    assert ResultsFile(run / "pcm-spoon2021-af4b40d6").path.read_bytes() == before


@pytest.mark.slow
def test_an_in_situ_run_goes_on_as_it_would_have_gone_on_and_is_extracted(old):
    run = run_of(old, "digits-*")
    assert main([*DIGITS, "training.epochs=2", f"output_root={old}"]) == 0
    assert main([*DIGITS, "training.epochs=2", f"output_root={old}"]) == 0  # and is found again
    assert run_of(old, "digits-*") == run
    expected = FIXTURES / "continued_by_0_1_0"
    curves = [read_cells(folder / "learning_curve.csv") for folder in (run, expected)]
    for name in ("train_loss", "cross_entropy"):
        own, before = ([float(row[name]) for row in curve] for curve in curves)
        assert own == pytest.approx(before, rel=1e-6)
    assert main(["extract", f"checkpoint={run}", "extract.products=500", f"output_root={old}"]) == 0
    own, before = (
        json.loads(file.read_text())
        for file in (run / "extraction-uniform-500-seed0" / "extraction.json", expected / "extraction.json")
    )
    for name, scores in before["scores"].items():
        assert own["scores"][name]["cross_entropy"] == pytest.approx(scores["cross_entropy"], rel=1e-6), name
    assert own["identity"]["extract.products"] == 500 and own["identity"]["state"] == own["state"]


def test_what_was_extracted_before_is_not_extracted_again(old, capsys):
    assert main(["extract", f"checkpoint={run_of(old, 'digits-*')}", "extract.products=500", f"output_root={old}"]) == 0
    assert "Extracted already" in capsys.readouterr().out


def test_an_extraction_from_a_random_array_is_found_done(old, capsys):
    array = ["extract.products=40", "extract.array.outputs=8", "extract.array.inputs=8"]
    assert main(["extract", "+experiment=gokmen_figure6", *array, f"output_root={old}"]) == 0
    assert "Already done" in capsys.readouterr().out


@pytest.mark.slow
def test_a_setting_that_it_had_not_makes_another_run(old, capsys):
    words = ["training=digital", "training.epochs=3", f"output_root={old}"]
    assert main([*DEMO, *words]) == 0
    said = capsys.readouterr().out
    assert "Not the run demo-tiny-digital-seed0-60e467be: `training.epochs`: it has 2, you ask for 3" in said
    assert len(list(old.glob("demo-tiny-digital-*"))) == 2


def test_its_records_say_what_they_were_under_the_keys_of_today(old):
    trained = payload_of(run_of(old, "demo-tiny-hardware_aware-*"))
    assert trained["training"] == "HardwareAware" and trained["training.epochs"] == 2 and trained["noise"] == "PCM"
    assert trained["model.hidden"] == 16 and trained["seed"] == 0 and trained["data"] == "a44f0d9c4e3b346c"
    digital = payload_of(run_of(old, "demo-tiny-digital-*"))
    assert "noise" not in digital
    swept = payload_of(run_of(old, "demo-tiny-digital-*/pcm-*"))
    assert swept["tile.adc_bits"] == 10 and swept["training_run"] == "60e467be"
    assert swept["computation.product"] == "float32" and swept["computation.stream"] == "torch"
    in_situ = payload_of(run_of(old, "digits-*"))
    assert in_situ["device"] == "SoftBounds" and in_situ["training.periphery.dac_bits"] == 7
    assert payload_of(run_of(old, "digits-*/extraction-*"))["extract.products"] == 500
    assert payload_of(run_of(old, "random_array-*"))["extract.array.outputs"] == 8
