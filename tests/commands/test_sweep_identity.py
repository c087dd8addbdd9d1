"""Rows of one file were measured on the same data with the same products and noise; anything else is another sweep."""

import json
from dataclasses import replace

import pytest

from analog_glue.commands.deploy import evaluate, runtime
from analog_glue.commands.train import train
from analog_glue.devices.pcm import PCM
from analog_glue.errors import UserError
from analog_glue.kernels.gaussian import COUNTED
from analog_glue.kernels.integer_product import compiled_is_exact
from analog_glue.runs.rows import ResultsFile, find_rows
from analog_glue.settings import Runtime
from analog_glue.tasks.demo import DemoTask
from analog_glue.tasks.task import RawData, Split
from tests.commands.test_experiment import AWARE, DIGITAL, MODEL, TASK, TILE, Log, settings

REFERENCE = Runtime(kernel="reference", product="float32")


class Flipped(DemoTask):
    """The same reviews with the grades turned round, as another `data.root` may hold them."""

    def load(self, data_root):
        raw = super().load(data_root)

        def turned(split):
            return Split(split.texts, [4 - label for label in split.labels])

        return RawData(turned(raw.train), {name: turned(split) for name, split in raw.validation.items()}, "turned")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return root, train(settings(root, runtime=REFERENCE, chips=1), TASK, MODEL, PCM(), TILE, DIGITAL, log=Log()).run_dir


def scored(root, checkpoint, task=TASK, runtime=REFERENCE, **fields):
    chosen = settings(root, checkpoint=str(checkpoint), runtime=runtime, **({"chips": 1} | fields))
    return evaluate(chosen, task, PCM(), TILE, choices={"noise": "pcm", "tile": "custom"}, log=Log()).run_dir


@pytest.mark.slow
def test_every_row_says_what_it_was_scored_on_and_computed_with(run):
    _, folder = run
    record, rows = json.loads((folder / "run.json").read_text()), ResultsFile(folder).rows()
    assert {row.data for row in rows} == {record["data"]["fingerprint"]}
    assert {(row.product, row.stream) for row in rows if row.stage == "chip"} == {("float32", "torch")}
    assert {(row.product, row.stream) for row in rows if row.stage in ("digital", "majority")} == {("", "")}
    trained = json.loads((folder.parent / "run.json").read_text())
    assert {row.recipe for row in rows} == {trained["recipe"]} and trained["recipe"] != trained["train_id"]
    assert record["results_schema"] == 3
    assert record["identity"]["computation.stream"] == "torch" and record["identity"]["training_run"] == trained["train_id"]


@pytest.mark.slow
def test_other_data_open_another_sweep_and_never_join_a_mean(run, tmp_path):
    root, folder = run
    other = scored(root, folder.parent, Flipped(**vars(TASK)))
    assert other != folder and other.parent == folder.parent
    values = [{row.data for row in ResultsFile(place).rows()} for place in (folder, other)]
    assert len(values[0]) == len(values[1]) == 1 and values[0] != values[1]
    assert scored(root, folder.parent, chips=2) == folder  # one more chip joins the rows of its own data


def test_chips_of_two_kernels_never_share_a_file(run):
    root, folder = run
    compiled = scored(root, folder.parent, runtime=Runtime(kernel="compiled", product="float32"))
    assert compiled != folder
    assert {row.stream for row in ResultsFile(compiled).rows() if row.stage == "chip"} == {COUNTED}
    assert {row.stream for row in ResultsFile(folder).rows() if row.stage == "chip"} == {"torch"}
    same = {row.hardware_id for place in (folder, compiled) for row in ResultsFile(place).rows()}
    assert len(same) == 1  # the physics is the same


def test_what_auto_resolves_to_names_the_sweep_and_not_the_word(run, monkeypatch):
    root, folder = run
    explicit = scored(root, folder.parent, runtime=Runtime(kernel="compiled", product="int8"))
    monkeypatch.setattr(PCM, "noise_floor", 0.0)
    assert scored(root, folder.parent, runtime=Runtime(kernel="compiled")) == explicit
    for name in ("compiled_is_exact", "torch_is_exact"):  # another CPU
        monkeypatch.setattr(f"analog_glue.kernels.integer_product.{name}", lambda rows: False)
    assert scored(root, folder.parent, runtime=Runtime(kernel="compiled")) != explicit
    for product in ("int8", "int8_single"):  # its sums would overflow there
        with pytest.raises(UserError, match=r"`runtime.product` must be auto or float32 here.*wrong sums"):
            scored(root, folder.parent, runtime=Runtime(kernel="compiled", product=product))


@pytest.mark.parametrize(
    ("kernel", "tile"),
    [("reference", {}), ("compiled", {"read_noise": 0.0}), ("compiled", {"ir_drop": 0.5})],
    ids=str,
)
def test_rows_never_name_an_estimate_that_was_not_made(tmp_path, kernel, tile):
    chosen = settings(tmp_path, runtime=Runtime(kernel=kernel, product="int8_outliers", device="cpu"))
    with pytest.raises(UserError, match=r"`runtime.product` must be auto or int8_single here.*outliers"):
        runtime(chosen, PCM(), replace(TILE, **tile))


@pytest.mark.slow
def test_hardware_aware_weights_of_two_streams_are_two_runs_and_digital_ones_are_one(tmp_path):
    def trained(mode, kernel):
        chosen = settings(tmp_path, runtime=Runtime(kernel=kernel, product="float32"), chips=0, ideal_devices=False)
        return train(chosen, TASK, MODEL, PCM(), TILE, mode, log=Log()).run_dir.parent

    assert trained(replace(AWARE, digital_epochs=0, max_steps=2), "reference") != trained(
        replace(AWARE, digital_epochs=0, max_steps=2), "compiled"
    )
    assert trained(DIGITAL, "reference") == trained(DIGITAL, "compiled")


@pytest.mark.slow
def test_seeds_share_their_recipe_and_other_settings_do_not(tmp_path):
    def recipe(seed=0, mode=DIGITAL):
        chosen = settings(tmp_path, seed=seed, chips=0, ideal_devices=False)
        folder = train(chosen, TASK, MODEL, PCM(), TILE, mode, log=Log()).run_dir
        return {row.recipe for row in find_rows(folder)}

    assert recipe(0) == recipe(1) != recipe(0, replace(DIGITAL, learning_rate=2e-2))


def test_a_folder_that_holds_another_run_is_refused_by_name_of_what_differs(run):
    root, folder = run
    record = json.loads((folder / "run.json").read_text())
    changed = {**record, "identity": {**record["identity"], "tile.adc_bits": 5}}
    (folder / "run.json").write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=r"`tile\.adc_bits`: this run has 5, you ask for 10"):
        scored(root, folder.parent)
    (folder / "run.json").write_text(json.dumps(record))


@pytest.mark.slow
@pytest.mark.skipif(not compiled_is_exact(TILE.rows), reason="this CPU has no product of its own for integers")
def test_read_noise_from_outliers_is_another_sweep_and_says_how_far_it_is_off(run):
    root, folder = run
    said, places = Log(), []
    for product in ("int8_outliers", "int8_single"):
        chosen = settings(root, checkpoint=str(folder.parent), runtime=Runtime(kernel="compiled", product=product), chips=1)
        places.append(evaluate(chosen, TASK, PCM(), TILE, choices={"noise": "pcm", "tile": "custom"}, log=said).run_dir)
    lines = [line for line in said if line.startswith("Read noise from outliers: σ of the noise")]
    assert len(lines) == 1 and " % rms over layers, " in lines[0]
    assert places[0] != places[1]
    products = [{row.product for row in ResultsFile(place).rows() if row.stage == "chip"} for place in places]
    assert products == [{"int8_outliers"}, {"int8_single"}]


@pytest.mark.parametrize(
    ("kernel", "tile"), [("reference", {}), ("compiled", {"ir_drop": 1.0}), ("compiled", {"dac_bits": None})]
)
def test_read_noise_from_outliers_is_refused_where_nothing_would_take_it(run, kernel, tile):
    root, folder = run
    chosen = settings(root, checkpoint=str(folder.parent), runtime=Runtime(kernel=kernel, product="int8_outliers"), chips=1)
    with pytest.raises(UserError, match=r"`runtime.product` must be auto or int8_single here, but is 'int8_outliers'"):
        evaluate(chosen, TASK, PCM(), replace(TILE, **tile), choices={"noise": "pcm", "tile": "custom"}, log=Log())
