"""A path that begins with `~` means the home folder, wherever a user types one."""

import json

import pytest

from analog_glue.cli.main import main
from analog_glue.cli.sweeps import split_flags
from analog_glue.configuration.wording import plain
from analog_glue.models import PretrainedModel
from analog_glue.settings import Data, RunSettings
from analog_glue.training.digital import Digital


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder, and another one that commands are typed in."""
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path / "home"
    assert list((tmp_path / "here").iterdir()) == []  # nothing called ~


def test_settings_and_components_hold_the_folder_itself(home):
    settings = RunSettings(output_root="~/runs", checkpoint="~/runs/a", data=Data(root="~/data"))
    assert (settings.output_root, settings.checkpoint, settings.data.root) == (
        f"{home}/runs", f"{home}/runs/a", f"{home}/data",
    )  # fmt: skip
    assert PretrainedModel("x/y", "main", "mine", path="~/models/m").path == f"{home}/models/m"
    assert Digital(start_from="~/runs/a").start_from == f"{home}/runs/a"
    assert RunSettings().checkpoint is None and Digital().start_from is None


def test_folders_without_a_tilde_stay_as_they_are_typed(home):
    assert RunSettings(output_root="a~/b").output_root == "a~/b"


def test_the_folder_of_configurations_may_lie_at_home(home):
    for words in (["--config-dir", "~/conf"], ["--config-dir=~/conf"]):
        assert split_flags(words) == (["--config-dir", f"{home}/conf"], [])


def test_the_words_of_a_command_may_say_it(home):
    assert plain("output_root=~/runs") == "output_root='~/runs'"
    assert plain("training.start_from=~/a,b,~") == "training.start_from='~/a',b,'~'"
    for word in ("output_root=a~/b", "seed=0,1", "~model", "task.labels=[~,b]"):
        assert plain(word) == word


DIGITS = [
    "task=digits",
    "task.hidden=[4]",
    "task.train_images=20",
    "task.test_images=20",
    "training=sgd_pulsed",
    "training.epochs=1",
]


@pytest.mark.slow
def test_a_run_is_made_listed_and_tabulated_at_home(home, capsys, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    assert main(["train", *DIGITS, "output_root=~/runs"]) == 0
    (run,) = (home / "runs").glob("digits-*")
    assert main(["extract", f"checkpoint=~/runs/{run.name}", "extract.products=100", "output_root=~/runs"]) == 0
    assert len(list(run.glob("extraction-*"))) == 1
    capsys.readouterr()
    assert main(["list", "runs", "~/runs"]) == 0 and run.name in capsys.readouterr().out
    assert main(["tables", "~/runs", "--out", "~/tables"]) == 0 and (home / "tables" / "tables.md").is_file()
    assert main(["list", "runs", "--difference", f"~/runs/{run.name}", f"~/runs/{run.name}"]) == 0


@pytest.mark.slow
def test_the_records_of_a_sweep_of_jobs_lie_beside_its_runs(home):
    assert main(["train", "-m", *DIGITS, "seed=0,1", "output_root=~/runs"]) == 0
    (sweep,) = (home / "runs" / "sweeps").iterdir()
    assert json.loads((sweep / "job_1.json").read_text())["status"] == "done"


@pytest.mark.slow
def test_data_and_models_at_home_are_looked_for_at_home(home, capsys):
    assert main(["train", "task=sst2", "model=minilm", "data.root=~/data", "training=digital"]) == 2
    assert str(home / "data") in capsys.readouterr().err
    assert main(["train", "task=demo", "model=minilm", "model.path=~/m", "training=digital"]) == 2
    assert str(home / "m") in capsys.readouterr().err
