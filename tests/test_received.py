"""What comes from others, a configuration, a run or a model, runs no code and writes nowhere else."""

import json

import pytest

from analog_glue.cli.main import main
from analog_glue.configuration.compose import Composer
from analog_glue.errors import UserError
from analog_glue.models import load_checkpoint_model
from analog_glue.runs.files import write_text_atomic
from analog_glue.runs.folder import read_run, working_in

DEMO = ["task=demo", "model=tiny"]
CODE = {
    "callbacks": "callbacks: {own: {_target_: builtins.print}}",
    "launcher": "launcher: {_target_: builtins.print}",
    "sweeper": "sweeper: {_target_: builtins.print}",
    "handlers": "job_logging: {handlers: {own: {class: logging.NullHandler}}}",
    "environment": "job: {env_set: {ANALOG_GLUE_TEST: set}}",
}


@pytest.mark.parametrize("said", CODE.values(), ids=CODE)
def test_an_experiment_of_somebody_else_makes_hydra_build_nothing(tmp_path, said):
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "theirs.yaml").write_text(f"# @package _global_\nhydra:\n  {said}\n")
    with Composer("train", str(tmp_path / "conf")) as composer, pytest.raises(UserError, match=r"Setting `hydra\."):
        composer.compose([*DEMO, "+experiment=theirs"])


@pytest.mark.parametrize(
    "word",
    [
        "+hydra.callbacks={own: {_target_: builtins.print}}",
        "hydra.launcher._target_=builtins.print",
        "hydra.sweeper._target_=builtins.print",
    ],
)
def test_nor_does_a_word_of_the_command_line_even_in_a_sweep(tmp_path, capsys, word):
    assert main(["train", "-m", *DEMO, "seed=0,1", word, f"output_root={tmp_path}"]) == 2
    assert "Setting `hydra." in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../elsewhere", "/elsewhere", "a/b/c", "a/..", "", None])
def test_a_run_whose_name_leads_elsewhere_is_refused(tmp_path, name):
    (tmp_path / "run_config.json").write_text("{}")
    (tmp_path / "run.json").write_text(json.dumps({"status": "done", "name": name}))
    with pytest.raises(UserError, match="`name` is"):
        read_run(tmp_path, "checkpoint")


def test_links_in_a_run_are_not_written_through(tmp_path):
    run, theirs = tmp_path / "run", tmp_path / "theirs"
    run.mkdir()
    theirs.write_text("precious")
    (run / ".lock").symlink_to(theirs)
    with pytest.raises(UserError, match="is a link elsewhere"), working_in(run):
        pass
    for name in (".results.csv.partial", "results.csv"):
        (run / name).symlink_to(theirs)
    write_text_atomic(run / "results.csv", "ours")
    assert theirs.read_text() == "precious" and (run / "results.csv").read_text() == "ours"
    assert not (run / "results.csv").is_symlink()


def test_a_model_that_names_code_of_its_own_is_refused_at_once(tmp_path):
    for name, said in {
        "config.json": {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config", "AutoModel": "theirs.Model"}},
        "tokenizer.json": {},
    }.items():
        (tmp_path / name).write_text(json.dumps(said))
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "theirs.py").write_text("raise SystemExit('run')")
    with pytest.raises(UserError, match=r"code of its own: `auto_map` in config.json, model_type theirs"):
        load_checkpoint_model(tmp_path)
