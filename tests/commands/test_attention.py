"""Attention in integers from training to rows: stored with the run, used again, calibrated where it is another."""

import json
import shutil

import pytest
from safetensors.numpy import load_file
from transformers import AutoModelForSequenceClassification

from analog_glue.cli.main import main
from analog_glue.commands.deploy import evaluate
from analog_glue.commands.train import train
from analog_glue.devices.pcm import PCM
from analog_glue.errors import UserError
from analog_glue.nn.attention import FLOAT32, Attention
from analog_glue.runs.files import read_json, write_json_atomic
from analog_glue.runs.folder import ATTENTION_FILE
from analog_glue.runs.rows import ResultsFile
from tests.commands.test_experiment import AWARE, DIGITAL, MODEL, TASK, TILE, Log, settings

pytestmark = pytest.mark.slow
INT6 = Attention(bits=6, examples=16)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return root, train(settings(root, chips=1), TASK, MODEL, PCM(), TILE, AWARE, attention=INT6, log=Log()).run_dir


def scored(root, run, attention, **fields):
    asked = settings(root, checkpoint=str(run.parent), **({"chips": 1} | fields))
    return evaluate(
        asked, TASK, PCM(), TILE, choices={"noise": "pcm", "tile": "custom"}, attention=attention, log=Log()
    ).run_dir


def test_a_run_keeps_its_scales_and_its_rows_name_the_precision(run):
    _, folder = run
    rows = ResultsFile(folder).rows()
    assert {(row.attention, row.attention_scales) for row in rows} == {("int6", "learned")}
    learned = load_file(folder.parent / ATTENTION_FILE)
    assert len(learned) == 1 and all(scales.shape == (4,) and (scales > 0).all() for scales in learned.values())
    kept = json.loads((folder / "attention_scales.json").read_text())
    (scales,) = kept["scales"].values()
    assert kept["source"] == "learned" and scales["q"] == pytest.approx(float(next(iter(learned.values()))[0]))
    assert json.loads((folder.parent / "run.json").read_text())["identity"]["attention.bits"] == 6


def test_the_checkpoint_is_a_plain_one_for_any_reader(run):
    model, report = AutoModelForSequenceClassification.from_pretrained(run[1].parent, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and model.config._attn_implementation == "sdpa"


def test_the_same_attention_finds_its_scores_and_another_opens_another_sweep(run):
    root, folder = run
    assert scored(root, folder, INT6) == folder
    other = scored(root, folder, Attention(bits=4, examples=16))
    plain = scored(root, folder, FLOAT32)
    assert len({folder, other, plain}) == 3
    sources = [{(row.attention, row.attention_scales) for row in ResultsFile(one).rows()} for one in (other, plain)]
    assert sources == [{("int4", "calibrated")}, {("fp32", "")}]
    assert not (plain / "attention_scales.json").exists()


def test_another_chip_later_has_the_scores_that_it_would_have_had(run, tmp_path):
    root, folder = run
    together = train(settings(tmp_path, chips=2), TASK, MODEL, PCM(), TILE, AWARE, attention=INT6, log=Log()).run_dir
    assert scored(root, folder, INT6, chips=2) == folder

    def values(one):
        return sorted((row.stage, str(row.chip), str(row.t_seconds), str(row.compensated), row.metric, row.value)
                      for row in ResultsFile(one).rows())  # fmt: skip

    assert values(folder) == values(together)


def test_lost_scales_are_said_and_not_calibrated_anew(run, tmp_path):
    copied = tmp_path / run[1].parent.name
    shutil.copytree(run[1].parent, copied)
    (copied / ATTENTION_FILE).unlink()
    with pytest.raises(UserError, match=r"attention\.safetensors is gone"):
        scored(tmp_path, copied / "any", INT6)
    facts = read_json(copied / "run.json")
    write_json_atomic(copied / "run.json", {name: value for name, value in facts.items() if name != "files"})  # an older run
    with pytest.raises(UserError, match=r"`checkpoint` must hold attention\.safetensors.*trained in int6"):
        scored(tmp_path, copied / "any", INT6)
    assert scored(tmp_path, copied / "any", Attention(bits=5, examples=16)).is_dir()  # whose scales are calibrated


def test_digital_training_learns_with_the_rounding_too(tmp_path):
    int3 = Attention(bits=3, examples=16)

    def trained(attention):
        return train(settings(tmp_path, chips=0), TASK, MODEL, PCM(), TILE, DIGITAL, attention=attention, log=Log()).run_dir

    plain, rounded = trained(FLOAT32), trained(int3)
    records = [json.loads((folder.parent / "run.json").read_text()) for folder in (plain, rounded)]
    losses = [record["history"]["epochs"][0]["loss"] for record in records]
    assert plain.parent != rounded.parent and losses[0] != losses[1]


def test_evaluate_takes_the_attention_of_the_checkpoint(tmp_path, capsys):
    words = ["+experiment=demo", "task.train_size=64", "task.validation_size=32", "training.epochs=1", "evaluation.chips=1",
             "evaluation.times=[1]", "training=digital", f"output_root={tmp_path}"]  # fmt: skip
    assert main(["train", *words, "attention=int8", "attention.bits=5"]) == 0
    (folder,) = (path for path in tmp_path.iterdir() if path.name.startswith("demo-"))
    hardware = [
        f"checkpoint={folder}",
        "tile=factsheet",
        "evaluation.chips=1",
        "evaluation.times=[1]",
        f"output_root={tmp_path}",
    ]
    assert main(["evaluate", *hardware]) == 0
    assert main(["evaluate", *hardware, "attention=fp32"]) == 0
    found = {row.attention: row.attention_scales for path in folder.glob("*/results.csv") for row in ResultsFile(path).rows()}
    assert found == {"int5": "learned", "fp32": ""}
    capsys.readouterr()
    assert main(["tables", str(tmp_path)]) == 0
    assert "attention in int5" in capsys.readouterr().out
