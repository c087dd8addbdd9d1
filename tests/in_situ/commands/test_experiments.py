"""Every experiment of Gokmen (2021) runs from its commands: a dry run, a few characters for real, extraction, tables."""

import numpy as np
import pytest

from analog_glue.cli.main import main
from analog_glue.in_situ.reports.records import find_runs

SMALL = ["task.layers=1", "task.hidden=16", "task.sequence=20", "task.test_characters=60"]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A text of 12 letters, each of which follows from the one before more often than not."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    letters = [0]
    for jump in random.random(1100) < 0.3:
        letters.append(int(random.integers(12)) if jump else (letters[-1] + 1) % 12)
    (folder / "warpeace_input.txt").write_bytes(bytes(65 + letter for letter in letters))
    return folder


@pytest.fixture(autouse=True)
def few_test_characters(monkeypatch):
    monkeypatch.setattr("analog_glue.in_situ.tasks.war_and_peace.TEST_CHARACTERS", 300)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["figure3", "figure4", "figure5", "table1", "table2", "table3"])
def test_an_experiment_runs_dry_and_for_real(experiment, text, tmp_path, capsys):
    words = [f"+experiment=gokmen_{experiment}", f"data.root={text}", f"output_root={tmp_path}", *SMALL]
    assert main(["train", *words, "dry_run=true"]) == 0
    assert "Nothing was run" in capsys.readouterr().out and not list(tmp_path.iterdir())
    averaging = ["training.average_epochs=1", "training.average_products=60"] if "table" in experiment else []
    assert main(["train", *words, "training.epochs=2", *averaging]) == 0
    (run,) = find_runs(tmp_path)
    assert [row["epoch"] for row in run.curve] == [1, 2] and run.curve[-1]["whole_test_set"] == 1
    assert 0 < run.curve[-1]["cross_entropy"] < 2 * np.log(12)


@pytest.mark.slow
def test_tables_2_and_3_come_from_one_run_of_their_commands(text, tmp_path, capsys):
    words = ["+experiment=gokmen_table2", f"data.root={text}", f"output_root={tmp_path}", *SMALL]
    more = ["training.epochs=2", "training.average_epochs=1", "training.average_products=60", "training.statistics_every=4"]
    assert main(["train", *words, *more]) == 0
    (folder,) = tmp_path.iterdir()
    change = ["extract.products=300", "extract.prune=[0,0.5]", "extract.perturb=[1]", "extract.draws=2"]
    assert main(["extract", f"checkpoint={folder}", *change]) == 0
    capsys.readouterr()
    assert main(["tables", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "## Table 1" in out and "## Table 2" in out and "## Table 3" in out
    assert "averaged (by 60 products), mean over spread" in out and "averaged (by 60 products), spread" in out
    for done in ("Table 1, Model-III", "Table 2:", "Table 3:"):
        assert f"- {done}" not in out
    assert "- Table 1, Model-I:" in out and "experiment=gokmen_table1 device=model_i," in out


@pytest.mark.slow
def test_figure_4_is_a_sweep_of_the_command_line(text, tmp_path, capsys):
    words = ["+experiment=gokmen_figure4", f"data.root={text}", f"output_root={tmp_path}", *SMALL, "training.epochs=1"]
    assert main(["train", "-m", *words, "device.dw_min=0.02,0.1", "training=sgd_pulsed,ttv2"]) == 0
    capsys.readouterr()
    assert main(["tables", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "## Figure 4: states of a device" in out and "12 states" in out
    assert (tmp_path / "tables" / "figure4.png").is_file()


@pytest.mark.slow
def test_the_noise_of_reads_is_an_axis_of_figure_4(text, tmp_path, capsys):
    words = ["+experiment=gokmen_figure4", f"data.root={text}", f"output_root={tmp_path}", *SMALL, "training.epochs=1"]
    axis = ["training.periphery.read_noise=0.006,0.06", "training=tiki_taka"]
    assert main(["train", "-m", *words, *axis]) == 0
    capsys.readouterr()
    assert main(["tables", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "## Figure 4: noise of reads of A" in out and "- Figure 4, noise of reads" not in out
