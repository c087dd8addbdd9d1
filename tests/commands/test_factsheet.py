"""The command `factsheet`: of records, trained, tuned and foreign networks, of an architecture alone, and what it refuses."""

import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analog_glue.cli.main import main
from analog_glue.costs.architectures import PUBLISHED

RECORDS = Path(__file__).resolve().parents[2] / "outputs" / "records"
MINILM = "spoon2021_figure5_minilm/mrpc-minilm-digital-seed0-104b76fe"  # of version 0.1.0
MPNET = "mpnet_base/stsb-mpnet_base-digital-seed0-6fb24642"
INT = "spoon2021_figure8_minilm/mrpc-minilm-hardware_aware-seed0-1ee25072"  # with nine sweeps, by precision of attention
HEADINGS = [
    "Overview", "Purpose", "Model architecture", "Parameters and inference attributes", "Training methodology",
    "Inference methodology", "Training data", "Characteristics of the training hardware and of the inference hardware",
    "Test data", "Performance metrics", "Limits of use", "Beside the published FactSheet",
]  # fmt: skip


@pytest.fixture
def record(tmp_path):
    """Copy a run of a record, without what other tests may have written."""

    def copied(name: str) -> Path:
        folder = tmp_path / Path(name).name
        shutil.copytree(RECORDS / name, folder, ignore=shutil.ignore_patterns("factsheet"))
        return folder

    return copied


@pytest.fixture
def sheet(capsys, tmp_path):
    """Run the command; what it wrote and said."""

    def made(*words: str, code: int = 0):
        assert main(["factsheet", f"output_root={tmp_path / 'outputs'}", *words]) == code
        out, err = capsys.readouterr()
        if code:
            return err
        folder = Path(re.findall(r"^FactSheet: (/.*)$", out, re.MULTILINE)[-1])
        texts = {ending: (folder / f"factsheet.{ending}").read_text() for ending in ("md", "json", "html")}
        return folder, out, json.loads(texts["json"]), texts

    return made


def facts(part):
    """Name → fact of a part and what stands below it."""
    found = {fact["name"]: fact for fact in part["facts"]}
    for inner in part["parts"]:
        found |= facts(inner)
    return found


def part(data, key):
    return next(one for one in data["parts"] if one["key"] == key)


class Page(HTMLParser):
    """What a browser would load or run, and the tags that were left open."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.loaded = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "href") and not value.startswith(("data:", "#"))]
        if tag not in ("meta", "br", "img", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


# --- a record, which has no weights ---------------------------------------------------------------------------------------


def test_a_record_has_all_headings_in_all_three_documents(record, sheet):
    folder, out, data, texts = sheet(f"checkpoint={record(MINILM)}", "costs=bottom_up")
    assert [one["heading"] for one in data["parts"]] == HEADINGS
    assert re.findall(r"^## \d+\. (.*)$", texts["md"], re.MULTILINE) == HEADINGS
    page = Page(texts["html"])
    assert page.open == [] and page.loaded == [] and not {"script", "link", "iframe", "object"} & set(page.tags)
    assert page.tags.count("h2") == len(HEADINGS) and page.tags.count("img") == 1
    assert (
        folder.parts[-3:] == (Path(MINILM).name, "factsheet", "costs=bottom_up") and f"next: see {folder}/factsheet.html" in out
    )


def test_it_says_what_the_run_and_its_rows_say(record, sheet):
    _, _, data, _ = sheet(f"checkpoint={record(MPNET)}")
    assert (data["model"], data["task"]) == ("mpnet_base", "stsb") and data["costs"]["parameters"] == 109_487_233
    said = facts(part(data, "training"))
    assert said["training.max_steps"]["value"] == 60 and said["training.learning_rate"]["value"] == 5e-5
    by_stage = {(one["stage"], one["t_seconds"]): one for one in data["scores"] if one["headline"]}
    assert round(by_stage["digital", None]["mean"], 2) == 72.04
    assert round(by_stage["chip", 2592000.0]["mean"], 2) == 23.47 and by_stage["chip", 2592000.0]["chips"] == 2
    assert data["reprogramming"]["last_mean"] is None and data["reprogramming"]["digital"] == pytest.approx(72.04, abs=0.005)
    assert facts(part(data, "machines"))["CPU"]["text"] == "AMD EPYC"
    assert data["costs"]["tiles"] == 486


def test_the_published_numbers_are_not_taken_for_another_model(record, sheet):
    _, _, data, _ = sheet(f"checkpoint={record(MPNET)}")
    latency = facts(part(data, "costs"))["Latency of the batch"]
    assert latency["text"] == "unknown" and "the model is bert_base" in latency["source"]


def test_attention_chooses_among_the_sweeps_of_a_run(record, sheet):
    folder = record(INT)
    for words, precision in ((["attention=int6"], "int6"), (["attention=fp32"], "fp32"), ([], None)):
        _, _, data, _ = sheet(f"checkpoint={folder}", "costs=bottom_up", *words)
        if precision:
            assert data["hardware"].endswith(f"attention in {precision}")
        assert any(one["stage"] == "chip" for one in data["scores"])
    assert "Also scored on: " in "".join(part(data, "performance")["text"])


def test_hardware_that_was_not_scored_leaves_accuracy_empty_and_says_what_fills_it(record, sheet):
    _, out, data, _ = sheet(f"checkpoint={record(MINILM)}", "tile=lammie2024")
    assert {one["stage"] for one in data["scores"]} == {"digital", "majority"} and data["reprogramming"] is None
    command = re.search(r"next: (analog-glue evaluate .*?)   #", out)[1]
    assert "tile=lammie2024" in command and Path(MINILM).name in command
    assert command in part(data, "performance")["text"][0]


def another_sweep(folder: Path, name: str, **changed) -> Path:
    """A copy of a sweep of the run on hardware that differs in some settings, by group, and in nothing else."""
    first = sorted(folder.glob("pcm-*"))[0]
    other = folder / name
    shutil.copytree(first, other)
    config = json.loads((other / "config.json").read_text())
    for group, values in changed.items():
        config[group] = (config.get(group) or {}) | values
    (other / "config.json").write_text(json.dumps(config))
    rows = list(csv.DictReader(io.StringIO((other / "results.csv").read_text())))
    with (other / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        value = {"value": "12.5"}  # by which it is known
        writer.writerows(row | {"hardware_id": name} | (value if row["stage"] == "chip" else {}) for row in rows)
    return other


def chip_means(data):
    return {one["mean"] for one in data["scores"] if one["stage"] == "chip" and one["headline"]}


def test_settings_of_the_hardware_that_were_typed_choose(record, sheet):
    folder = record(MINILM)
    another_sweep(folder, "pcm-target", hardware={"reference": "target"})
    for words, mine in (
        (["hardware.reference=target"], True),
        (["hardware.reference=programmed"], False),
        (["hardware.calibration.percentile=99.995", "hardware.reference=target"], True),
    ):
        _, _, data, _ = sheet(f"checkpoint={folder}", *words)
        assert (chip_means(data) == {12.5}) == mine and chip_means(data), words
    _, out, data, _ = sheet(f"checkpoint={folder}", "hardware.read_out=expected")
    assert not chip_means(data) and re.search(r"next: analog-glue evaluate .*hardware\.read_out=expected", out)


def test_hardware_of_the_same_names_is_told_apart(record, sheet):
    folder = record(MINILM)
    another_sweep(folder, "pcm-wires", tile={"wire_resistance": 0.35})
    another_sweep(folder, "pcm-gain", noise={"noise_scale": 0.25})
    said = "".join(part(sheet(f"checkpoint={folder}")[2], "performance")["text"])
    lines = said.partition("Also scored on: ")[2].partition(". noise=…")[0].split("; ")
    assert len(lines) == len(set(lines)) == 2
    said += "".join(part(sheet(f"checkpoint={folder}")[2], "inference")["text"])
    assert "tile.wire_resistance=0.35" in said and "noise.noise_scale=0.25" in said


def test_printed_commands_say_all_that_was_typed(record, sheet):
    words = ["tile=spoon2021", "tile.rows=100", "hardware.layers=[*]"]
    _, out, _, _ = sheet(f"checkpoint={record(MINILM)}", *words)
    assert re.search(r"analog-glue evaluate .* tile=spoon2021 tile\.rows=100 'hardware\.layers=\[\*\]' noise=pcm ", out)
    _, out, _, _ = sheet("model=bert_base", "tile=factsheet", "task=stsb")
    assert re.search(r"analog-glue train model=bert_base tile=factsheet task=stsb noise=pcm ", out)
    _, out, _, _ = sheet("model=bert_base", "noise=reram")
    assert "analog-glue train task=mrpc model=bert_base noise=reram " in out


def test_sheets_of_other_settings_do_not_replace_each_other(record, sheet, capsys):
    folder = record(MINILM)
    words = [
        [], ["sequence_length=64"], ["batch=1"], ["costs=bottom_up"], ["costs=bottom_up", "costs.age=86400"], ["tile=ideal"],
        ["hardware.layers=['*','!*layer.0.*']"], ["hardware.layers=['*','!*layer.1.*']"],
    ]  # fmt: skip
    places = [sheet(f"checkpoint={folder}", *own)[0] for own in words]
    assert len(set(places)) == len(words) and places[0] == folder / "factsheet"
    assert sheet(f"checkpoint={folder}", "batch=4", "costs=factsheet2022", "sequence_length=32")[0] == places[0]
    assert (
        sheet(f"checkpoint={folder}", "costs.scale=true", "batch=1")[0]
        == sheet(f"checkpoint={folder}", "batch=1", "costs.scale=true")[0]
    )
    told = [json.loads((place / "factsheet.json").read_text())["costs"]["sequence_length"] for place in places]
    assert told[:2] == [32, 64]


def test_one_chip_or_an_undefined_score_is_unknown_and_no_failure(record, sheet):
    folder = record(MINILM)
    sweep = sorted(folder.glob("pcm-*"))[0]
    whole = list(csv.DictReader(io.StringIO((sweep / "results.csv").read_text())))

    def with_rows(rows):
        with (sweep / "results.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, whole[0].keys())
            writer.writeheader()
            writer.writerows(rows)
        return sheet(f"checkpoint={folder}")

    _, out, data, texts = with_rows(row for row in whole if row["chip"] in ("", "0"))
    assert "(1 chip)" in out and "(1 chips)" not in texts["md"] + texts["html"]
    said = facts(part(data, "performance"))
    for name in ("Mean of chips", "Mean of chips, before any failure", "A single chip", "Chips for a single chip"):
        assert (said[name]["text"], said[name]["value"], said[name]["origin"]) == ("unknown", None, "unknown"), name
    assert "does not hold at" not in texts["md"] and "mean unknown, a single chip unknown" in out
    _, out, data, texts = with_rows(row | ({"value": "nan"} if row["stage"] == "chip" else {}) for row in whole)
    assert facts(part(data, "performance"))["Mean of chips"]["text"] == "unknown"
    assert "undefined after" in out and "nan" not in re.findall(r"[a-z]+", texts["md"] + out)


def test_operations_multiply_out_and_small_numbers_keep_their_digits(record, sheet):
    _, _, data, _ = sheet("model=bert_base", "tile=factsheet")
    (table,) = [one for one in part(data, "costs")["parts"][0]["tables"] if one["title"] == "Operations by kind"]
    numbers = [[int(cell.replace(",", "")) for cell in cells[1:]] for cells in table["rows"][:-1]]
    assert all(counted * each == operations for _, counted, each, operations in numbers)
    assert any(counted < number for number, counted, _, _ in numbers)  # the head is left out
    assert facts(part(data, "costs"))["Operations of 4 sequences of 32 tokens"]["text"] == "21.8409 billion"
    _, out, _, _ = sheet("model=tiny", "batch=1", "sequence_length=8")
    assert re.search(r"operations of 1 × 8 tokens +\d+\.\d\d million, \d+\.\d\d million on tiles", out)


def test_a_sweep_that_does_not_say_its_hardware_is_refused(record, sheet):
    folder = record(MINILM)
    sweep = sorted(folder.glob("pcm-*"))[0]
    (sweep / "config.json").unlink()
    assert f"Folder `{sweep}` must hold config.json" in sheet(f"checkpoint={folder}", code=2)


@pytest.mark.parametrize("text", ["", "just text", "value: 1\n"], ids=["empty", "text", "no class"])
def test_a_cost_file_without_values_is_refused(sheet, tmp_path, text):
    (tmp_path / "costs").mkdir()
    (tmp_path / "costs" / "mine.yaml").write_text(text)
    err = sheet("--config-dir", str(tmp_path), "model=minilm", "costs=mine", code=2)
    assert err.startswith("Group `costs` must be a file with a `_target_` and its values, but mine has none.")


def test_a_tuned_checkpoint_counts_its_rescaled_channels(record, sheet):
    run = record("tuning_minilm/mrpc-minilm-digital-seed0-02da39da")
    tuned = next(run.glob("tuned-auto-pcm-spoon2021-*"))
    _, _, data, _ = sheet(f"checkpoint={tuned}", "costs=bottom_up")
    multiplied = json.loads((tuned / "tuning.json").read_text())["multiplies_per_token"]
    head = ("bert.pooler.dense", "classifier")
    a_token = sum(number for name, number in multiplied.items() if name not in head)
    once = sum(number for name, number in multiplied.items() if name in head)
    assert data["costs"]["units_by_kind"]["channel_scale"] == 4 * (32 * a_token + once) > 0
    assert any("tuned afterwards" in text for text in part(data, "training")["text"])
    assert any(one["stage"] == "chip" for one in data["scores"])


def test_length_and_batch_are_counted_exactly(record, sheet):
    folder = record(MINILM)
    short, long = (
        sheet(f"checkpoint={folder}", "costs=bottom_up", *words)[2]["costs"]
        for words in (["sequence_length=16", "batch=1"], ["sequence_length=32", "batch=2"])
    )
    head = 384 * 384 + 384 * 2
    assert long["units_by_kind"]["analog_product"] - 2 * head == 4 * (short["units_by_kind"]["analog_product"] - head)
    assert long["units_by_kind"]["scores"] == 8 * short["units_by_kind"]["scores"]


def test_names_of_a_run_are_escaped(record, sheet):
    folder = record(MINILM)
    config = json.loads((folder / "run_config.json").read_text())
    run = json.loads((folder / "run.json").read_text())
    run["data"]["source"] = "</td><script>alert(2)</script>"
    run["hardware"]["cpu"] = "<img src=x onerror=alert(3)>"
    (folder / "run.json").write_text(json.dumps(run))
    config["training"]["select_by"] = "<script>alert(1)</script>"
    (folder / "run_config.json").write_text(json.dumps(config))
    _, _, data, texts = sheet(f"checkpoint={folder}")
    assert "<script" not in texts["html"] and "<img src=x" not in texts["html"] and "<script" not in texts["md"]
    assert facts(part(data, "training_data"))["Source"]["value"] == "</td><script>alert(2)</script>"
    assert Page(texts["html"]).open == []


# --- an architecture alone ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", PUBLISHED)
def test_an_architecture_needs_no_download(sheet, option, monkeypatch):
    monkeypatch.setattr("analog_glue.hub.in_cache", lambda *_: None)
    monkeypatch.setattr("analog_glue.hub.unreachable", lambda *_: pytest.fail("the hub was asked"))
    folder, out, data, _ = sheet(f"model={option}")
    assert data["scores"] == [] and data["run"] is None and "no run was named" in part(data, "performance")["text"][0]
    assert data["costs"]["tiles"] > 0 and folder.parts[-2:] == ("factsheets", option)
    assert f"next: analog-glue train task=mrpc model={option} noise=pcm" in out


def test_the_sheet_of_bert_base_is_the_published_one(sheet):
    _, _, data, texts = sheet("model=bert_base", "tile=factsheet")
    lines = {cells[0]: cells for cells in part(data, "published")["tables"][0]["rows"]}
    for name in ("operations", "of which on tiles", "average power", "effective area"):
        assert lines[name][1] == lines[name][2] and lines[name][3] == "", name
    assert lines["energy efficiency"][2] == "6,589 inferences/s/W"
    assert round(facts(part(data, "costs"))["Operations for an energy"]["value"], 1) == 36.0  # TOPS/W
    assert lines["execution time"][2] == "0.19395 ms"
    assert all(cells[1] == cells[2] or cells[3] for cells in lines.values()), "a difference without its reason"
    assert "0.19395 ms (given;" in texts["md"]


def test_a_model_made_on_the_spot_has_no_vocabulary_yet(sheet):
    _, _, data, _ = sheet("model=tiny")
    assert facts(part(data, "costs"))["Parameters"]["text"] == "unknown" and data["costs"]["tiles"] > 0


def test_a_local_folder_needs_its_config_alone(sheet, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(json.dumps(PUBLISHED["distilbert"]))
    _, _, data, _ = sheet("model=distilbert", f"model.path={tmp_path / 'mine'}", "task=stsb")
    assert facts(part(data, "architecture"))["Sizes from"]["text"].endswith("mine/config.json")
    assert facts(part(data, "architecture"))["Outputs of the head"]["value"] == 1


def test_a_foreign_folder_that_was_not_evaluated_says_how(sheet, tmp_path):
    (tmp_path / "theirs").mkdir()
    config = PUBLISHED["roberta_base"] | {"id2label": {"0": "a", "1": "b", "2": "c"}}
    (tmp_path / "theirs" / "config.json").write_text(json.dumps(config))
    _, out, data, _ = sheet(f"checkpoint={tmp_path / 'theirs'}", "task=mnli")
    assert data["costs"]["parameters"] == 124_647_939  # of transformers' module with three classes
    assert re.search(r"next: analog-glue evaluate checkpoint=.*theirs task=mnli noise=pcm", out)


# --- what a dry run and mistakes say --------------------------------------------------------------------------------------


def test_a_dry_run_writes_nothing(record, capsys):
    folder = record(MINILM)
    before = sorted(folder.rglob("*"))
    assert main(["factsheet", f"checkpoint={folder}", "dry_run=true"]) == 0
    out = capsys.readouterr().out
    assert "Dry run: nothing is written." in out and "62 of 512 × 512 for 38 layers" in out and "Nothing was run." in out
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "Setting `checkpoint` must name the folder of a run, or `model` a model"),
        (["checkpoint=nowhere"], "Setting `checkpoint` must be the folder of a run, but `nowhere` is none."),
        (["model=minilm", "sequence_length=513"], "Setting `sequence_length` must lie in 1 … 512"),
        (["model=roberta_base", "sequence_length=514"], "Setting `sequence_length` must lie in 1 … 512"),
        (["model=minilm", "batch=0"], "Setting `batch` must be at least 1, but is 0."),
        (["model=minilm", f"batch={10**24}"], "Setting `batch` must lie in 1 … 1,000,000,000, but is 1000"),
        (["model=minilm", "costs=bottom_up", "costs.supply.value=1e200"], "`costs.supply.value` must be null (unknown), 0, or"),
        (["model=minilm", "seed=3"], "Setting `seed` must be left out of `factsheet`"),
        (["model=minilm", "evaluation.chips=3"], "Setting `evaluation.chips` must be left out of `factsheet`"),
        (["model=minilm", "sequence_length=0"], "Setting `sequence_length` must be at least 1"),
        (["model=minilm", "costs.power.source=null"], "Setting `costs.power.source` must be text"),
        (["model=minilm", "costs=bottom_up", "costs.moving.isaac.source=''"], "`costs.moving.isaac.source` must be text"),
        (["model=minilm", "costs=bottom_up", "costs.age=1"], "Setting `costs.age` must be null or lie in"),
        (["model=minilm", "costs=bottom"], "Group `costs` must be one of bottom_up, factsheet2022"),
        (["model=minilm", "hardware.layers=[nothing]"], "'nothing' matches none"),
        (["model=minilm", "reprogramming.share=1"], "Setting `reprogramming.share` must lie between 0 and 1"),
        (["model=minilm", "training=digital"], "Command `factsheet` has no group `training`"),
    ],
    ids=str,
)  # fmt: skip
def test_mistakes_are_told(sheet, words, told):
    assert told in sheet(*words, code=2)


def test_layers_of_an_unknown_kind_are_refused_by_name(sheet, tmp_path):
    (tmp_path / "gpt").mkdir()
    (tmp_path / "gpt" / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_embd": 768}))
    err = sheet(f"checkpoint={tmp_path / 'gpt'}", code=2)
    assert "layers are known (bert, roberta, mpnet, albert, distilbert), but is of gpt2" in err


def test_a_run_knows_its_model_and_task(record, sheet):
    folder = record(MINILM)
    assert "Setting `model` must be left out" in sheet(f"checkpoint={folder}", "model=minilm", code=2)
    assert "Setting `task` must be left out" in sheet(f"checkpoint={folder}", "task=mrpc", code=2)


def test_what_was_trained_in_situ_is_refused(sheet):
    run = next((RECORDS / "gokmen2021").glob("*-ttv2-*"))
    assert "trained in situ" in sheet(f"checkpoint={run}", code=2)


def test_other_commands_refuse_what_belongs_to_the_sheet(capsys):
    assert main(["train", "task=demo", "model=tiny", "batch=8", "dry_run=true"]) == 2
    assert "Setting `batch` must be left out of `train`" in capsys.readouterr().err


# --- runs of today, which are trained here --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with weights and a sweep, made in seconds."""
    root = tmp_path_factory.mktemp("outputs")
    words = ["task=demo", "task.train_size=192", "task.validation_size=32", "model=tiny", "training.max_steps=20"]
    sweep = ["noise=pcm", "evaluation.chips=3", "evaluation.times=[1,86400]", "hardware.calibration.examples=16"]
    assert main(["train", *words, "training=digital", *sweep, f"output_root={root}"]) == 0
    return next(root.glob("demo-tiny-*"))


@pytest.mark.slow
def test_a_trained_run_has_its_own_sizes_and_every_number_of_its_rows(trained, sheet):
    _, _, data, _ = sheet(f"checkpoint={trained}", "costs=bottom_up", "sequence_length=16", f"output_root={trained.parent}")
    run = json.loads((trained / "run.json").read_text())
    assert data["costs"]["parameters"] == run["model"]["parameters"]
    assert facts(part(data, "architecture"))["Sizes from"]["text"] == "config.json of the run"
    assert len([one for one in data["scores"] if one["stage"] == "chip" and one["headline"]]) == 2
    assert [point["t"] for point in data["reprogramming"]["points"]] == [1.0, 86400.0]
    assert data["reprogramming"]["points"][0]["chips"] == 3


@pytest.mark.slow
def test_a_foreign_network_that_was_evaluated_is_found_by_its_folder(trained, sheet, tmp_path, capsys):
    folder, root = tmp_path / "their model", tmp_path / "outputs"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(trained / name, folder / name)
    words = ["task=demo", "noise=pcm", "evaluation.chips=2", "evaluation.times=[1]", "hardware.calibration.examples=16"]
    assert main(["evaluate", f"checkpoint='{folder}'", *words, "evaluation.ideal_devices=false", f"output_root={root}"]) == 0
    capsys.readouterr()
    where, _, data, _ = sheet(f"checkpoint='{folder}'", "task=demo")
    assert where.parent.parent == root and where.name == "factsheet"
    assert any(one["stage"] == "chip" and one["chips"] == 2 for one in data["scores"])
    assert any("fine-tuned elsewhere" in text for text in part(data, "training")["text"])
