"""Experiments of Lammie et al. (2024): all eight tasks from files in GLUE's columns, every configuration of the table."""

import itertools
import json
import re
from collections import Counter

import pytest
from transformers import RobertaConfig

from analog_glue.cli.main import main
from analog_glue.configuration.build import as_annotated, build
from analog_glue.configuration.compose import Composer, conf_dir
from analog_glue.reports.grids import GLUE
from analog_glue.reports.lammie2024 import TUNINGS, Configuration, configuration_of
from analog_glue.runs.identity import resolved
from analog_glue.runs.rows import find_rows
from tests.tasks.test_tasks import LAYOUTS, write

TABLE = (conf_dir() / "experiment" / "lammie2024_table2.yaml").read_text()
SMALL = [  # a network and an effort for tests
    "model=tiny", "model.hidden=32", "model.layers=1", "model.heads=2", "model.intermediate=64", "training.max_steps=2",
    "training.batch_size=4", "evaluation.chips=2", "hardware.calibration.examples=8", "evaluation.ideal_devices=false",
]  # fmt: skip


def composed(*words: str):
    with Composer("train") as composer:
        return composer.compose(words)


@pytest.mark.slow
@pytest.mark.parametrize("task", GLUE)
def test_the_experiment_runs_on_every_task_from_files_in_its_columns(task, tmp_path, no_network):
    data = write(tmp_path / "data", task, LAYOUTS[0])
    root = tmp_path / "outputs"
    words = ["train", "+experiment=lammie2024_table2", f"task={task}", f"data.root='{data}'", f"output_root='{root}'", *SMALL]
    assert main(words) == 0
    rows = [row for row in find_rows(root) if row.stage == "chip" and row.headline]
    assert Counter((row.task, row.training, row.tile, row.t_seconds) for row in rows) == {
        (task, "lammie2024", "lammie2024", 3600.0): 2
    }
    assert main(["tables", str(root)]) == 0
    assert (root / "tables" / "lammie2024_table2.csv").is_file()


@pytest.mark.parametrize("name", ["lammie2024_table2", "lammie2024_figure3"])
def test_an_experiment_is_the_network_the_tiles_and_the_training_of_the_paper(name):
    found = composed(f"experiment={name}")
    choices = {group: found.choices[group] for group in ("model", "noise", "tile", "training")}
    assert choices == {"model": "roberta_base", "noise": "pcm", "tile": "lammie2024", "training": "lammie2024"}
    evaluation, calibration = found.settings.evaluation, found.settings.hardware.calibration
    times = [3600.0] if name.endswith("table2") else [1.0, 3600.0, 86_400.0, 604_800.0, 2_592_000.0]
    assert (evaluation.chips, evaluation.times, evaluation.compensation) == (10, times, [True])
    assert (calibration.deviations, calibration.adc_headroom) == (3.0, True)
    assert name.endswith("table2") or found.choices["task"] == "rte"


@pytest.mark.slow
def test_the_commands_of_the_experiment_are_the_whole_table():
    (every,) = re.findall(r"analog-glue train .*training\.weight_clip=.*", TABLE)
    axes = [word.split("=", 1) for word in every.split() if word.startswith("training.")]
    found = set()
    for values in itertools.product(*(values.split(",") for _, values in axes)):
        words = [f"{key}={value}" for (key, _), value in zip(axes, values, strict=True)]
        config = as_annotated(composed("experiment=lammie2024_table2", *words).config["training"], "training")
        found.add(configuration_of(resolved("training", build(config, "training")), ""))
    assert found == {Configuration(*parts) for parts in itertools.product((False, True), repeat=4)}
    tunings = set(re.findall(r"analog-glue tune .* tuning=(\w+)", TABLE))
    assert tunings == {name for name, does in TUNINGS.items() if "post-training" in does}


@pytest.mark.slow
def test_a_roberta_of_random_weights_goes_the_whole_way(tmp_path, no_network, word_tokenizer):
    data = write(tmp_path / "data", "rte", LAYOUTS[0])
    from transformers import RobertaForSequenceClassification

    model = tmp_path / "roberta"
    texts = [(f"train sentence{i} number {n} speaks .",) for i in (1, 2) for n in range(12)]
    tokenizer = word_tokenizer(texts)
    small = RobertaConfig(
        vocab_size=len(tokenizer) + 2, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=140,
    )  # fmt: skip
    RobertaForSequenceClassification(small).save_pretrained(model)
    tokenizer.save_pretrained(model)
    root = tmp_path / "outputs"
    words = [word for word in SMALL if not word.startswith("model")] + [f"model.path='{model}'"]
    assert main(["train", "+experiment=lammie2024_figure3", f"data.root='{data}'", f"output_root='{root}'", *words]) == 0
    assert {row.t_seconds for row in find_rows(root) if row.stage == "chip"} == {1.0, 3600.0, 86_400.0, 604_800.0, 2_592_000.0}
    (run,) = [json.loads(file.read_text()) for file in root.glob("*/run.json")]
    assert run["identity"]["training.output_noise"] == 0.1 and run["identity"]["hardware.calibration.deviations"] == 3.0
    # Both ranges tuned after training, with the calibration of the experiment: rows of the same hardware.
    (trained,) = (file.parent for file in root.glob("*/run.json"))
    same = [word for word in words if word.split("=")[0].startswith(("evaluation", "hardware"))]
    same += ["hardware.calibration.deviations=3", "evaluation.times=[3600]"]
    few = ["tune.examples=6", "tune.compared=3", "tune.judged=3", "tile=lammie2024", "tuning=lammie2024"]
    assert main(["tune", f"checkpoint='{trained}'", f"data.root='{data}'", f"output_root='{root}'", *few, *same]) == 0
    rows = [row for row in find_rows(root) if row.stage == "chip" and row.t_seconds == 3600]
    assert {row.training for row in rows} == {"lammie2024", "lammie2024+lammie2024"}
