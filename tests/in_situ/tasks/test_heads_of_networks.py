"""Features and runs of a head belong to one network: equal weights under another number of heads are another encoder."""

from dataclasses import replace

import pytest

from analog_glue.in_situ.commands.train import train_in_situ
from analog_glue.in_situ.devices.soft_bounds import SoftBounds
from analog_glue.in_situ.tasks.heads import HeadTask
from analog_glue.in_situ.training.sgd_pulsed import SGDPulsed
from analog_glue.models import TinyModel, save_model
from analog_glue.runs.files import read_json
from analog_glue.settings import RunSettings
from analog_glue.tasks.demo import DemoTask
from tests.runs.test_model_files import PretrainedModel, another_head_count

TASK = DemoTask(train_size=24, validation_size=16)
TINY = TinyModel(hidden=16, layers=1, heads=2, intermediate=24, vocabulary_size=80, dropout=0.0)


def trained(root, model, said=None, seed=0):
    task = HeadTask(TASK, model, root / "features")
    log = (lambda _: None) if said is None else said.append
    return train_in_situ(
        RunSettings(seed=seed, output_root=str(root)), task, SoftBounds(), SGDPulsed(epochs=1), log=log
    ).run_dir


@pytest.mark.slow
def test_an_encoder_with_other_heads_has_features_and_runs_of_its_own(tmp_path):
    loaded = TINY.load(TASK.num_labels, 0, texts=TASK.load(None).train.texts)
    folders = [tmp_path / name for name in ("two", "four")]
    for folder in folders:
        save_model(loaded.model, loaded.tokenizer, folder)
    another_head_count(folders[1])
    two, four = (PretrainedModel("x/y", "main", "mine", path=str(folder)) for folder in folders)
    runs, said = tmp_path / "runs", []
    assert trained(runs, two) != trained(runs, four, said)
    assert any("`model.architecture.num_attention_heads`: it has 2, you ask for 4" in line for line in said)
    assert len(list((runs / "features").iterdir())) == 2
    assert trained(runs, replace(two, short="renamed")) == trained(runs, two)


@pytest.mark.slow
def test_seeds_share_their_recipe_although_the_seed_draws_the_encoder(tmp_path):
    records = [read_json(trained(tmp_path, TINY, seed=seed) / "run.json") for seed in (0, 1)]
    assert records[0]["data"]["fingerprint"] != records[1]["data"]["fingerprint"]
    assert records[0]["recipe"] == records[1]["recipe"] and records[0]["train_id"] != records[1]["train_id"]
