"""`force=true`: what is asked for is done anew, once, and nothing else is lost; an interrupted call goes on in all it began."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from analog_glue.commands import ablation, deploy
from analog_glue.commands.best_of import Selection
from analog_glue.commands.train import prepare
from analog_glue.devices.pcm import PCM
from analog_glue.runs.folder import BEGUN_BY_FORCE, end_of_force, one_call
from analog_glue.runs.rows import ResultsFile, find_rows
from tests.commands.test_experiment import DIGITAL, MODEL, TASK, TILE, Log, settings, trained


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    root = tmp_path_factory.mktemp("done")
    trained(root, DIGITAL)
    return root


@pytest.fixture
def copy(done, tmp_path):
    shutil.copytree(done, tmp_path / "copy")
    return tmp_path / "copy"


def evaluated(root: Path, **fields: object) -> Log:
    (run,) = root.glob("demo-*")
    log = Log()
    deploy.evaluate(settings(root, checkpoint=str(run), **fields), TASK, PCM(), TILE, log=log)
    return log


def marked(root: Path) -> None:
    """Give every row a time that nothing takes: a row that is measured again loses it."""
    for file in root.rglob("results.csv"):
        rows = [replace(row, wall_seconds=-1.0) for row in ResultsFile(file).rows()]
        file.unlink()
        ResultsFile(file).append(rows)


def measured_anew(root: Path) -> set[tuple[str, object]]:
    return {(row.stage, row.chip) for row in find_rows(root) if row.wall_seconds >= 0}


@pytest.mark.slow
def test_scores_of_chips_that_are_not_asked_for_stay(copy):
    before = find_rows(copy)
    marked(copy)
    evaluated(copy, chips=1, force=True)
    assert measured_anew(copy) == {("digital", None), ("majority", None), ("ideal_devices", None), ("chip", 0)}
    assert {row.identity: row.value for row in find_rows(copy)} == {row.identity: row.value for row in before}
    assert not list(copy.rglob(BEGUN_BY_FORCE))


@pytest.mark.slow
def test_more_chips_in_a_call_that_goes_on_are_done_anew_as_well_and_the_others_not_again(copy, monkeypatch):
    marked(copy)
    with monkeypatch.context() as patch:
        patch.setattr(deploy, "end_of_force", lambda folder: None)  # as if it had been killed just before
        evaluated(copy, chips=1, force=True)
    marked(copy)
    evaluated(copy, chips=2, force=True)
    assert measured_anew(copy) == {("chip", 1)}


@pytest.mark.slow
def test_every_part_of_an_ablation_keeps_the_chips_that_are_not_asked_for(copy):
    (run,) = copy.glob("demo-*")

    def ablated(chips: int, force: bool) -> None:
        asked = settings(copy, checkpoint=str(run), chips=chips, force=force, ablate=True)
        ablation.run(ablation.prepare(asked, TASK, PCM(), TILE), Log())

    ablated(2, False)
    before = {row.identity for row in find_rows(copy)}
    marked(copy)
    ablated(1, True)
    assert ("chip", 0) in measured_anew(copy) and ("chip", 1) not in measured_anew(copy)
    assert {row.identity for row in find_rows(copy)} == before


def selection(root: Path) -> Selection:
    asked = replace(settings(root, force=True), best_of=2)
    return Selection(asked, lambda own: prepare(own, TASK, MODEL, PCM(), TILE, DIGITAL, log=Log()))


@pytest.mark.slow
def test_the_best_of_several_seeds_continues_those_that_this_call_has_done(tmp_path, monkeypatch):
    selection(tmp_path).run(Log())
    marked(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("analog_glue.commands.best_of.note_choice", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        selection(tmp_path).run(Log())
    seeds = {row.seed for row in find_rows(tmp_path) if row.wall_seconds >= 0}
    assert seeds == {0, 1}
    marked(tmp_path)
    log = Log()
    selection(tmp_path).run(log)
    assert not log.says("Training demo")
    assert {stage for stage, _ in measured_anew(tmp_path)} == {"chip"}
    assert not list(tmp_path.rglob(BEGUN_BY_FORCE))
    selection(tmp_path).run(log)
    assert log.says("Training demo")  # the call before came to its end


def test_the_end_of_force_waits_for_the_end_of_the_whole_call(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        (folder / BEGUN_BY_FORCE).write_text(json.dumps({}))
    with pytest.raises(KeyboardInterrupt), one_call():
        end_of_force(folders[0])
        raise KeyboardInterrupt
    assert (folders[0] / BEGUN_BY_FORCE).exists()
    with one_call():
        with one_call():
            end_of_force(folders[0])
        assert (folders[0] / BEGUN_BY_FORCE).exists()
    assert not (folders[0] / BEGUN_BY_FORCE).exists() and (folders[1] / BEGUN_BY_FORCE).exists()
    end_of_force(folders[1])
    assert not (folders[1] / BEGUN_BY_FORCE).exists()
