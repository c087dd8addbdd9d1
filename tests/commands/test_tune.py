"""`tune` on a small model: a checkpoint beside the run, its rows on the same chips, what is refused before all is written."""

import json
import re
import shutil

import pytest
import torch

from analog_glue.cli.main import main
from analog_glue.commands.tune import _link, compared, multiplies
from analog_glue.nn.periphery import LayerPeriphery, periphery_from
from analog_glue.runs.rows import find_rows
from analog_glue.runs.tensors import load_tensors
from tests.tuning.helpers import at_first, bench

pytestmark = pytest.mark.slow

CALIBRATED = ["hardware.calibration.examples=16"]
FEW = [*CALIBRATED, "tune.examples=8", "tune.compared=4", "tune.judged=8", "tune.judges=3"]
SMALL = ["task.train_size=64", "task.validation_size=40", "model.hidden=16", "model.layers=1", "model.heads=2",
         "model.intermediate=24", "model.vocabulary_size=100", "training.max_steps=4"]  # fmt: skip
TILE = ["tile=lammie2024", "tile.rows=16", "tile.columns=16"]
SWEEP = ["evaluation.chips=2", "evaluation.times=[3600]", "evaluation.ideal_devices=false"]


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    words = ["task=demo", "model=tiny", "training=digital", *SMALL, *TILE, *CALIBRATED, f"output_root={root}"]
    assert main(["train", *words, "evaluation.chips=0", "evaluation.ideal_devices=false"]) == 0
    (run,) = (folder for folder in root.iterdir() if folder.name.startswith("demo-"))
    return root, run


@pytest.fixture
def copy(master, tmp_path):
    root, run = master
    shutil.copytree(root, tmp_path / "runs")
    return tmp_path / "runs", tmp_path / "runs" / run.name


def tune(root, run, *words):
    return main(["tune", f"checkpoint={run}", f"output_root={root}", *TILE, *FEW, *SWEEP, *words])


def tuned_of(run):
    (folder,) = run.glob("tuned-*")
    return folder


def test_a_tuned_checkpoint_stands_beside_its_run_and_both_are_scored_on_the_same_chips(copy, capsys):
    root, run = copy
    before = {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()}
    assert tune(root, run) == 0
    said = capsys.readouterr().out
    folder = tuned_of(run)
    assert {name: (run / name).read_bytes() for name in before} == before  # the run is what it was
    assert (folder / "model.safetensors").read_bytes() == before["model.safetensors"]
    tensors, notes = load_tensors(folder / "analog.safetensors")
    layers = periphery_from(tensors)
    assert notes["source"] == "tuned (auto)" and all(layer.input_range.min() > 0 for layer in layers.values())
    record = json.loads((folder / "tuning.json").read_text())
    assert [step["method"] for step in record["steps"]][:3] == ["rescaling", "dac_range", "conductance_range"]
    facts = json.loads((folder / "run.json").read_text())
    assert facts["parent"]["name"] == run.name and facts["name"] == f"{run.name}/{folder.name}" and facts["status"] == "done"
    rows = [row for row in find_rows(root) if row.stage == "chip" and row.headline]
    by_training = {name: [row for row in rows if row.training == name] for name in ("digital", "digital+auto")}
    assert [len(own) for own in by_training.values()] == [2, 2]
    assert {row.chip for row in by_training["digital+auto"]} == {0, 1} and len({row.train_ids for row in rows}) == 2
    assert len({row.hardware_id for row in rows}) == 1  # one hardware, two networks on it
    table = compared(by_training["digital"], by_training["digital+auto"])
    change = sum(b.value - a.value for a, b in zip(*by_training.values(), strict=True)) / 2
    assert f"{change:+.2f} ±" in table and "1 h" in table and table.splitlines()[1] in said
    assert f"checkpoint: {folder}" in said
    # Once more: nothing is tuned or scored again.
    assert tune(root, run) == 0
    said = capsys.readouterr().out
    assert "Tuned already" in said and said.count("Already done") == 2
    assert main(["list", "runs", str(root)]) == 0
    listed = capsys.readouterr().out
    assert f"{folder.name}: a tuned checkpoint" in listed and f"{folder.name}/pcm-lammie2024-" in listed
    assert main(["tables", str(root)]) == 0
    assert "digital training, tuned (auto), compensated" in capsys.readouterr().out
    for name in ("diagnosis.md", "tiles-before.csv", "tiles-after.csv", "after-columns-rms.png"):
        assert (folder / name).stat().st_size > 100


def test_evaluate_takes_the_tuned_ranges_to_other_hardware_of_the_same_tiles(copy, capsys):
    root, run = copy
    assert tune(root, run, "tuning=conductance_range", "evaluation.chips=0") == 0
    folder = tuned_of(run)
    capsys.readouterr()
    words = [f"checkpoint={folder}", f"output_root={root}", "noise=pcm_reduced", *TILE, *CALIBRATED, *SWEEP]
    assert main(["evaluate", *words]) == 0
    assert "Calibrating" not in capsys.readouterr().out
    (sweep,) = folder.glob("pcm_reduced-*")
    used = json.loads((sweep / "input_ranges.json").read_text())
    stored = periphery_from(load_tensors(folder / "analog.safetensors")[0])
    assert used["source"] == "tuned (conductance_range)"
    assert used["input_ranges"] == {name: layer.input_range.tolist() for name, layer in stored.items()}
    # Tiles of another size: other row blocks, so ranges are calibrated anew, and that is said.
    assert main(["evaluate", *words[:3], "tile=lammie2024", "tile.rows=8", *CALIBRATED, *SWEEP]) == 0
    assert "Calibrating the input ranges" in capsys.readouterr().out


def test_the_same_chips_give_the_same_scores_through_evaluate(copy):
    """What `tune` reports before it tunes is what `evaluate` reports of the run."""
    root, run = copy
    assert main(["evaluate", f"checkpoint={run}", f"output_root={root}", *TILE, *CALIBRATED, *SWEEP]) == 0
    first = {row.identity: row.value for row in find_rows(root)}
    assert tune(root, run, "tuning=rescaling") == 0
    now = {row.identity: row.value for row in find_rows(root) if row.training == "digital"}
    assert now == first


def test_a_run_killed_while_tuning_is_tuned_from_the_beginning(copy, monkeypatch):
    root, run = copy

    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("analog_glue.commands.tune._save", stop)
        assert tune(root, run, "tuning=dac_range") == 130
    folder = tuned_of(run)
    assert not (folder / "analog.safetensors").exists()
    assert json.loads((folder / "run.json").read_text())["status"] == "running"
    assert tune(root, run, "tuning=dac_range") == 0
    assert json.loads((folder / "run.json").read_text())["status"] == "done"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tile.adc_bits=null", "tile.output_noise=0", "tuning=conductance_range"], "`tile.adc_bits` must not be null for"),
        (["tile.dac_bits=null"], "`tile.dac_bits` must not be null for tuning="),
        (["tuning=dac_range", "tuning.percentiles=[101]"], "`tuning.percentiles` must hold numbers in (0, 100]"),
        (["tune.examples=0"], "`tune.examples` must be at least 1, but is 0"),
        (["tune.examples=60"], "must add up to at most 64, the training examples, but are 60 + 4 + 8"),
        (["tuning=best"], "tuning"),
    ],
)  # fmt: skip
def test_what_cannot_be_tuned_is_one_message_and_nothing_is_written(words, said, copy, capsys):
    root, run = copy
    assert tune(root, run, *words) == 2
    assert said in capsys.readouterr().err and not list(run.glob("tuned-*"))


def test_a_tuned_checkpoint_is_not_tuned_again(copy, capsys):
    root, run = copy
    assert tune(root, run, "tuning=dac_range", "evaluation.chips=0") == 0
    assert tune(root, tuned_of(run)) == 2
    assert f"is one that was tuned already. Tune its run anew, with another tuning or hardware: checkpoint={run}" in (
        capsys.readouterr().err
    )


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(copy, capsys):
    root, run = copy
    assert tune(root, run, "dry_run=true") == 0
    said = capsys.readouterr().out
    assert re.search(r"Tuning     auto: ranges from 8 training examples, compared on 4 others and 1 chip of 1 h", said)
    assert not list(run.glob("tuned-*"))


def test_ranges_of_another_network_are_refused(copy, capsys):
    """A checkpoint whose analog.safetensors speaks of layers that its model has not, of a version that lists no files."""
    from analog_glue.runs.files import read_json, write_json_atomic
    from analog_glue.runs.tensors import save_tensors

    root, run = copy
    write_json_atomic(run / "run.json", {key: value for key, value in read_json(run / "run.json").items() if key != "files"})
    save_tensors(run / "analog.safetensors", {"bert.encoder.layer.7.output.dense.input_range": torch.ones(1)})
    assert tune(root, run) == 2
    assert "must hold ranges of layers of the checkpoint" in capsys.readouterr().err and not list(run.glob("tuned-*/run.json"))


def test_multiplies_of_a_scale_are_one_an_input_and_none_where_it_folds():
    own = bench()
    plain = at_first(own)
    scaled = {
        name: LayerPeriphery(layer.input_range, input_scale=torch.ones(own.grid(name).inputs)) for name, layer in plain.items()
    }
    counted = multiplies(own, scaled)
    layer = "bert.encoder.layer.0."
    assert counted[f"{layer}attention.self.query"] == 24 and f"{layer}attention.self.key" not in counted  # shared
    assert counted[f"{layer}attention.output.dense"] == 0 and counted[f"{layer}output.dense"] == 40
    assert multiplies(own, plain) == {}


def test_a_file_that_is_linked_again_leaves_no_other_name(tmp_path):
    (tmp_path / "weights").write_text("1")
    for content in ("1", "1", "2"):
        (tmp_path / "weights").write_text(content)
        _link(tmp_path / "weights", tmp_path / "tuned")
        assert sorted(file.name for file in tmp_path.iterdir()) == ["tuned", "weights"]
        assert (tmp_path / "tuned").read_text() == content
