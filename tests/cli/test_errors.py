"""Exit code 2 with one message, or 1 with a trace: the class of the error decides, wherever it was raised."""

import json

import numpy as np
import pytest

import analog_glue.tasks
from analog_glue.cli import main as cli
from analog_glue.cli.errors import first_line, report_error
from analog_glue.errors import UserError, WrongArgument

WORDS = ["train", "task=demo", "model=tiny"]


def raised_by(action):
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def refuse(error):
    """Raises `error` on a line that begins with `raise`, in a file of the package."""
    exec(compile("raise error", cli.__file__, "exec"), {"error": error})


@pytest.fixture
def failing(monkeypatch):
    """A command `train` that meets an error of the test's choice when it is about to begin."""

    def fail(action):
        monkeypatch.setattr("analog_glue.commands.train.prepare", lambda *arguments, **options: action())

    return fail


@pytest.mark.parametrize(
    "action",
    [
        lambda: np.zeros(3) + np.zeros(4),
        lambda: int("a slip"),
        lambda: open("/nowhere/at/all"),
        lambda: json.loads("{"),
        lambda: refuse(ValueError("a slip of ours")),
        lambda: refuse(FileNotFoundError("a slip of ours")),
        lambda: refuse(ImportError("a slip of ours")),
    ],
    ids=["numpy", "python", "file", "json", "ValueError", "FileNotFoundError", "ImportError"],
)
def test_an_error_that_is_no_message_keeps_its_trace_and_ends_with_1(failing, capsys, action):
    error = raised_by(action)
    failing(action)
    assert cli.main(WORDS) == 1
    said = capsys.readouterr().err
    assert said.startswith("Traceback") and type(error).__name__ in said and str(error).strip() in said
    assert first_line(error) == f"{type(error).__name__}: {str(error).strip()}"


@pytest.mark.parametrize(
    "error", [UserError("Setting `a.b` must be 1, but is 2."), WrongArgument("n", "be 1", 2)], ids=lambda error: str(error)
)
def test_a_message_is_told_alone_and_ends_with_2(failing, capsys, monkeypatch, error):
    failing(lambda: refuse(error))
    assert cli.main(WORDS) == 2
    assert capsys.readouterr().err == f"{error}\n"
    assert first_line(error) == str(error)
    monkeypatch.setenv("ANALOG_GLUE_TRACE", "1")
    assert cli.main(WORDS) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.slow
def test_a_package_that_a_component_needs_and_that_is_not_there_is_a_message(tmp_path, monkeypatch, capsys):
    (tmp_path / "needy.py").write_text("import package_that_nobody_has\n")
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "needy.yaml").write_text("_target_: analog_glue.tasks.needy.Needy\n")
    monkeypatch.setattr(analog_glue.tasks, "__path__", [*analog_glue.tasks.__path__, str(tmp_path)])
    assert cli.main(["train", "--config-dir", str(tmp_path), "task=needy"]) == 2
    assert "`task` needs the package package_that_nobody_has" in capsys.readouterr().err


def test_an_error_without_words_is_told_by_its_name(capsys):
    assert first_line(RuntimeError()) == "RuntimeError: RuntimeError"
    assert report_error(RuntimeError("first\nsecond")) == 1
    assert first_line(RuntimeError("first\nsecond")) == "RuntimeError: first"


def test_data_and_a_model_that_are_both_missing_are_named_in_one_message(tmp_path, capsys):
    words = ["task=mrpc", f"data.root={tmp_path}", f"model.path={tmp_path / 'none'}", f"output_root={tmp_path / 'outputs'}"]
    assert cli.main(["train", *words]) == 2
    told = capsys.readouterr().err
    assert "Setting `data.root` must" in told and "Setting `model.path` must" in told
