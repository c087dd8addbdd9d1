"""Recipes: settings of training that come with the task, within what is published, below what the user says."""

import pytest

from analog_glue.configuration.compose import Composer, conf_dir
from analog_glue.reports.grids import GLUE


def compose(*words: str):
    with Composer("train") as composer:
        return composer.compose(words)


@pytest.mark.slow
@pytest.mark.parametrize("task", GLUE)
def test_a_recipe_sets_what_its_task_is_trained_with_within_the_published_range(task):
    for mode in ("digital", "hardware_aware"):
        composed = compose("recipe=spoon2021", f"task={task}", f"training={mode}")
        training = composed.config["training"]
        assert 5e-5 <= training["learning_rate"] <= 1.5e-4
        assert training["batch_size"] in (16, 32) and training["epochs"] in (3, 5, 10)
        assert composed.settings.evaluation.chips == (5 if task == "qqp" else 25)
    assert training["weight_noise"]["scale"] == 1.0 and training["weight_clip"] in (2.0, 2.5, 3.0)


def test_every_task_of_glue_has_one_and_no_other():
    files = {file.stem for file in (conf_dir() / "recipe" / "of_task").glob("*.yaml")}
    assert files == {f"spoon2021_{task}" for task in GLUE}


@pytest.mark.slow
def test_what_is_measured_in_the_records_is_trained_as_before():
    for task in ("mrpc", "stsb"):
        for mode in ("digital", "hardware_aware"):
            plain, by_recipe = (compose(f"task={task}", f"training={mode}", f"recipe={r}") for r in ("none", "spoon2021"))
            assert plain.config == by_recipe.config


@pytest.mark.slow
def test_the_user_and_an_experiment_go_before_a_recipe():
    assert compose("recipe=spoon2021", "task=rte", "training.epochs=2").config["training"]["epochs"] == 2
    assert compose("experiment=demo", "recipe=spoon2021", "task=rte").config["training"]["epochs"] == 9
    composed = compose("experiment=spoon2021_figure6", "task=rte")
    assert composed.config["training"]["epochs"] == 10 and composed.choices["recipe"] == "spoon2021"


@pytest.mark.slow
def test_experiments_have_the_times_of_the_paper():
    month = 2_592_000.0  # [s]
    assert compose("experiment=spoon2021_figure8", "attention=int6").settings.evaluation.times == [month]
    for figure in (5, 6):
        settings = compose(f"experiment=spoon2021_figure{figure}").settings
        assert settings.evaluation.times == [1.0, 3600.0, 86_400.0, 604_800.0, month] and settings.evaluation.chips == 25
