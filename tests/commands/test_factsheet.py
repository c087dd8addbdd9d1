"""The command `factsheet`: of records, trained, tuned and foreign networks, of an architecture alone, and what it refuses."""

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
    assert "Setting `batch` must be left at 4 here, but is 8. It belongs to `analog-glue factsheet`." in capsys.readouterr().err


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
