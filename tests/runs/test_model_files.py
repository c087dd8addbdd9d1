"""A model counts by its weights, its architecture and its tokenizer; where it lies and what it is called do not count."""

import json
import shutil

import pytest

from analog_glue.commands.train import train
from analog_glue.devices.pcm import PCM
from analog_glue.models import PretrainedModel, TinyModel, load_checkpoint_model, save_model
from analog_glue.runs import legacy
from analog_glue.runs.configuration import config_of
from analog_glue.runs.folder import RUN_FILE
from analog_glue.runs.model_files import model_entries, same_network
from analog_glue.settings import Calibration, Evaluation, HardwareSettings, RunSettings
from analog_glue.tasks.demo import DemoTask
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.training.digital import Digital

TASK = DemoTask(train_size=32, validation_size=20)
TINY = TinyModel(hidden=16, layers=1, heads=2, intermediate=24, vocabulary_size=80, dropout=0.0)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "encoder"
    loaded = TINY.load(TASK.num_labels, 0, texts=TASK.load(None).train.texts)
    save_model(loaded.model, loaded.tokenizer, folder)
    return folder


@pytest.fixture
def other(encoder, tmp_path):
    """A copy of the encoder, to be changed."""
    return shutil.copytree(encoder, tmp_path / "elsewhere")


def rewrite(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def another_head_count(folder):
    rewrite(folder / "config.json", num_attention_heads=4)


def another_case(folder):
    rewrite(folder / "tokenizer_config.json", do_lower_case=False)


def another_vocabulary(folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    words = [word for word in tokenizer["model"]["vocab"] if not word.startswith("[")][:2]
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary[words[0]], vocabulary[words[1]] = vocabulary[words[1]], vocabulary[words[0]]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


CHANGES = [another_head_count, another_case, another_vocabulary]


def run(root, folder, **changed):
    settings = RunSettings(
        output_root=str(root),
        evaluation=Evaluation(chips=0, ideal_devices=False),
        hardware=HardwareSettings(calibration=Calibration(examples=8)),
    )
    model = PretrainedModel("x/y", "main", "mine", path=str(folder), **changed)
    said = []
    summary = train(
        settings, TASK, model, PCM(), Crossbar(rows=16, columns=16), Digital(epochs=1, max_steps=1), log=said.append
    )
    return summary.run_dir.parent, said


def test_where_a_model_lies_and_what_it_is_called_do_not_count(encoder, other):
    rewrite(other / "config.json", _name_or_path="someone/else", transformers_version="9.9", dtype="bfloat16")
    rewrite(other / "tokenizer_config.json", name_or_path="someone/else")
    assert model_entries(other) == model_entries(encoder)


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_the_same_weights_with_another_architecture_or_tokenizer_are_another_run(encoder, other, tmp_path, change):
    first, _ = run(tmp_path / "runs", encoder)
    change(other)
    second, said = run(tmp_path / "runs", other)
    assert first != second and not any("already" in line for line in said)
    again, said = run(tmp_path / "runs", encoder)
    assert again == first and any("already" in line for line in said)


@pytest.mark.slow
def test_the_difference_is_named_when_training_starts_anew(encoder, other, tmp_path):
    first, _ = run(tmp_path / "runs", encoder)
    another_head_count(other)
    _, said = run(tmp_path / "runs", other)
    assert f"Not the run {first.name}: `model.architecture.num_attention_heads`: it has 2, you ask for 4" in said


@pytest.mark.parametrize("change", [another_head_count, another_vocabulary])
def test_a_checkpoint_fits_the_model_it_came_from_alone(encoder, other, tmp_path, change):
    made, _ = run(tmp_path / "runs", encoder)
    assert same_network(made, encoder, None)
    change(other)
    assert not same_network(made, other, None)


@pytest.mark.slow
def test_dropout_that_was_set_is_no_other_architecture(encoder, tmp_path):
    made, _ = run(tmp_path / "runs", encoder, dropout=0.3)
    assert load_checkpoint_model(made).model.config.hidden_dropout_prob == 0.3
    assert same_network(made, encoder, 0.3) and not same_network(made, encoder, None)


@pytest.mark.slow
def test_an_old_run_is_found_only_for_the_network_that_it_trained(encoder, other, tmp_path):
    root = tmp_path / "runs"
    made, _ = run(root, encoder)
    model = PretrainedModel("x/y", "main", "mine", path=str(encoder))
    config = config_of(task=TASK, model=model, training=Digital(epochs=1, max_steps=1))
    data = TASK.load(None).fingerprint
    old = made.rename(root / f"{made.name[:-8]}{legacy.training_id(config, data, 0, None, None, encoder)}")
    record = json.loads((old / RUN_FILE).read_text())
    record.pop("identity")
    (old / RUN_FILE).write_text(json.dumps(record | {"name": old.name, "train_id": old.name[-8:]}))
    found, said = run(root, encoder)
    assert found == old and any("Training was done already" in line for line in said)
    another_head_count(other)
    new, said = run(root, other)
    assert new != old
    assert any("`model.architecture.num_attention_heads`: it has 2, you ask for 4" in line for line in said)
