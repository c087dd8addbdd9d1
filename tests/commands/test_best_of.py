"""`best_of`: every seed is trained and scored digitally, the best on validation alone goes on chips, nothing is done twice."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from analog_glue.commands.best_of import Selection, best, validation_score
from analog_glue.commands.train import prepare
from analog_glue.devices.pcm import PCM
from analog_glue.reports.build import build
from analog_glue.reports.drift import drift_grid
from analog_glue.reports.sections import pivot
from analog_glue.runs.files import read_json
from analog_glue.runs.rows import find_rows
from tests.commands.test_experiment import DIGITAL, MODEL, TASK, TILE, Log, settings


def selection(root: Path, **fields: object) -> Selection:
    asked = replace(settings(root, **fields), best_of=3)
    return Selection(asked, lambda own: prepare(own, TASK, MODEL, PCM(), TILE, DIGITAL, log=Log()))


@pytest.fixture(scope="module")
def selected(tmp_path_factory):
    root = tmp_path_factory.mktemp("selected")
    return root, selection(root, seed=4).run(Log())


def runs(root: Path) -> dict[int, Path]:
    return {read_json(file)["seed"]: file.parent for file in root.glob("*/run.json")}


@pytest.mark.slow
def test_the_best_of_the_seeds_on_validation_is_the_only_one_on_chips(selected):
    root, summary = selected
    scores = {seed: validation_score(folder, "accuracy") for seed, folder in runs(root).items()}
    assert sorted(scores) == [4, 5, 6]
    chosen = max(sorted(scores), key=scores.get)
    rows = find_rows(root)
    assert {row.seed for row in rows if row.stage == "chip"} == {chosen}
    assert {row.seed for row in rows if row.stage == "digital"} == {4, 5, 6}
    assert sum(row.stage == "chip" for row in rows) == 2 * 2 * 2  # chips × times × with and without compensation
    assert f"seed {chosen} with {scores[chosen]:.2f}" in summary.table
    assert summary.run_dir.parent == runs(root)[chosen]


@pytest.mark.slow
def test_which_network_was_chosen_and_among_which_stands_in_run_json(selected):
    root, _ = selected
    notes = {seed: read_json(folder / "run.json")["selected_of"] for seed, folder in runs(root).items()}
    assert [note["chosen"] for note in notes.values()].count(True) == 1
    assert all(note["scores"].keys() == {"4", "5", "6"} and note["metric"] == "accuracy" for note in notes.values())
    chosen = next(seed for seed, note in notes.items() if note["chosen"])
    assert notes[chosen]["scores"][str(chosen)] == max(notes[chosen]["scores"].values())


@pytest.mark.slow
def test_the_same_command_again_does_nothing_new(selected, monkeypatch):
    root, first = selected
    files = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def refuse(*arguments, **options):
        raise AssertionError("trained or measured something")

    monkeypatch.setattr("analog_glue.commands.train.fit", refuse)
    monkeypatch.setattr("analog_glue.commands.deploy.drift_sweep", refuse)
    assert selection(root, seed=4).run(Log()) == first
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == files


@pytest.mark.slow
def test_tables_show_the_chosen_network_and_the_mean_over_the_seeds(selected, tmp_path):
    root, _ = selected
    rows = find_rows(root)
    (section,) = (section for section in pivot(rows)[0] if section.headline)
    lines = {cells[0]: cells[1] for cells in drift_grid(section).rows}
    chosen = {row.seed for row in rows if row.stage == "chip"}
    digital = {row.seed: row.value for row in rows if row.stage == "digital" and row.headline}
    assert lines["digital"].startswith(f"{sum(digital.values()) / 3:.2f} ±")
    assert lines["digital, seed on chips"] == f"{digital[chosen.pop()]:.2f}"
    assert "One network of several is on chips" in build(root, tmp_path).markdown


def test_equal_scores_leave_the_first_seed_and_undefined_ones_are_never_better():
    assert best({3: 80.0, 4: 85.0, 5: 85.0}) == 4
    assert best({0: math.nan, 1: 2.0}) == 1 and best({0: math.nan, 1: math.nan}) == 0
