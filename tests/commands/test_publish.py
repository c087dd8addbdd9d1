"""`publish`: a folder that any reader of the hub loads to the same bits, and that `evaluate` scores as the run itself."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from analog_glue.cli.main import main
from analog_glue.commands import publish as command
from analog_glue.models import load_checkpoint_model
from analog_glue.runs.rows import ResultsFile, find_rows
from analog_glue.runs.tensors import load_tensors
from analog_glue.settings import Publish, RunSettings

pytestmark = pytest.mark.slow

SMALL = ["task=demo", "model=tiny", "task.train_size=64", "task.validation_size=40", "model.hidden=16", "model.layers=1",
         "model.heads=2", "model.intermediate=24", "model.vocabulary_size=100", "training.max_steps=4",
         "hardware.calibration.examples=16"]  # fmt: skip
TILE = ["tile=lammie2024", "tile.rows=16", "tile.columns=16"]
SWEEP = ["evaluation.chips=2", "evaluation.times=[1,2592000]", "evaluation.compensation=[false,true]"]
TUNE = ["tuning=rescaling", "tuning.strengths=[0.5]", "tune.examples=8", "tune.compared=4", "tune.judged=8", "tune.judges=3"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Name → run: digital, hardware-aware, and one of rescaled channels; each scored on two chips."""
    root = tmp_path_factory.mktemp("runs")
    for training in (["training=digital"], ["training=hardware_aware", "training.digital_epochs=0"]):
        assert main(["train", *SMALL, *training, *TILE, *SWEEP, f"output_root={root}"]) == 0
    runs = {name: next(root.glob(f"demo-tiny-{name}-*")) for name in ("digital", "hardware_aware")}
    words = [f"checkpoint={runs['digital']}", *TILE, *TUNE, *SWEEP, "hardware.calibration.examples=16", f"output_root={root}"]
    assert main(["tune", *words]) == 0
    (tuned,) = runs["digital"].glob("tuned-*")
    scales = [name for name in load_tensors(tuned / "analog.safetensors")[0] if name.endswith("input_scale")]
    assert scales, "no channel was rescaled"
    return runs | {"tuned": tuned}


@pytest.fixture(params=["digital", "hardware_aware", "tuned"])
def run(request, made, tmp_path):
    """A copy of a run, and where to publish it."""
    return shutil.copytree(made[request.param], tmp_path / "runs" / made[request.param].name)


@pytest.fixture
def digital(made, tmp_path):
    return shutil.copytree(made["digital"], tmp_path / "runs" / made["digital"].name)


def publish(run, folder, *words):
    return main(["publish", f"checkpoint={run}", f"folder={folder}", f"output_root={run.parent}", *words])


def scores(root):
    """Of every row all that says what was measured, and the score."""
    return {(*row.identity, row.run, row.recipe, row.value) for row in find_rows(root)}


def test_a_plain_reader_gets_the_same_logits_to_the_bit(run, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = tmp_path / "out" / "my folder"
    assert main(["publish", f"checkpoint={run}", str(folder)]) == 0  # the folder as a word alone
    theirs = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokens = AutoTokenizer.from_pretrained(folder)("the battery is very good .", return_tensors="pt")
    ours = load_checkpoint_model(run)
    with torch.no_grad():
        assert torch.equal(theirs(**tokens).logits, ours.model(**tokens).logits)
    assert theirs.config.id2label == ours.model.config.id2label


def test_evaluate_takes_the_folder_and_gives_the_rows_of_the_run(run, tmp_path):
    folder = tmp_path / "published"
    assert publish(run, folder) == 0
    out = tmp_path / "elsewhere"
    words = [*TILE, *SWEEP, "hardware.calibration.examples=16", f"output_root={out}"]
    assert main(["evaluate", f"checkpoint={folder}", *words]) == 0
    name = json.loads((run / "run.json").read_text())["name"]
    wanted = {row for row in scores(run) if row[-3] == name}
    assert scores(out) == wanted and len(wanted) > 10


def test_the_card_is_read_back_with_every_score_that_was_measured(run, tmp_path):
    from huggingface_hub import ModelCard

    folder = tmp_path / "published"
    assert publish(run, folder, "license=mit") == 0
    found = ModelCard.load(folder / "README.md").data
    assert (found.license, found.language, found.pipeline_tag) == ("mit", "en", "text-classification")
    rows = [row for row in find_rows(run) if row.run == json.loads((run / "run.json").read_text())["name"]]
    times = {(row.t_seconds, row.compensated) for row in rows if row.stage == "chip"}
    on_chips = [one for one in found.eval_results if one.metric_args and "seconds_after_programming" in one.metric_args]
    assert len(times) == len(on_chips) == 4 and len({one.metric_name for one in found.eval_results}) == len(found.eval_results)
    for one in on_chips:
        at = one.metric_args["seconds_after_programming"], one.metric_args["drift_compensated"]
        own = [row.value for row in rows if row.stage == "chip" and (row.t_seconds, row.compensated) == at]
        assert type(one.metric_value) is float and one.metric_value == pytest.approx(sum(own) / len(own) / 100, abs=1e-6)
        assert one.metric_args["chips"] == 2 and ("1 month" in one.metric_name) == (at[0] == 2_592_000)
    (software,) = [one for one in found.eval_results if one.metric_name.endswith("in software")]
    (digital,) = {row.value for row in rows if row.stage == "digital"}
    assert software.metric_value == pytest.approx(digital / 100, abs=1e-6)


def test_the_folder_holds_what_was_learned_and_no_place_of_this_machine(run, tmp_path):
    folder = tmp_path / "published"
    assert publish(run, folder) == 0
    files = {file.name for file in folder.iterdir()}
    kept = {name for name in ("analog.safetensors", "tuning.json") if (run / name).exists()}
    assert {"README.md", "run.json", "run_config.json", "model.safetensors", "tokenizer.json", *kept} <= files
    assert not [name for name in files if name.startswith(".")] and "results.csv" not in files
    for name in ("README.md", "run.json", "run_config.json"):
        assert str(tmp_path) not in (folder / name).read_text() and "/runs" not in (folder / name).read_text()
    card = (folder / "README.md").read_text()
    assert all(f"**{name}**" in card for name in files - {"README.md"})


def test_a_file_that_was_changed_after_publishing_is_refused(digital, tmp_path, capsys):
    folder = tmp_path / "published"
    assert publish(digital, folder) == 0
    (folder / "tokenizer_config.json").write_text("{}")
    assert main(["evaluate", f"checkpoint={folder}", *TILE, f"output_root={tmp_path}"]) == 2
    assert "tokenizer_config.json is another" in capsys.readouterr().err


def test_without_a_sweep_the_card_says_what_measures_it(digital, tmp_path, capsys):
    for sweep in digital.glob("*/results.csv"):
        kept = [row for row in ResultsFile(sweep).rows() if row.stage == "digital"]
        sweep.unlink()
        ResultsFile(sweep).append(kept)
    folder = tmp_path / "published"
    assert publish(digital, folder) == 0
    told = "analog-glue evaluate checkpoint=FOLDER noise=pcm tile=lammie2024 tile.rows=16 tile.columns=16"
    told += " hardware.calibration.examples=16"
    card, said = (folder / "README.md").read_text(), capsys.readouterr().out
    assert f"no chip yet. This measures it, and publishing it again fills the card:\n\n```bash\n{told}\n" in card
    assert f"next: {told.replace('FOLDER', str(digital))}" in said


def test_the_command_of_the_card_measures_the_chips_that_the_card_has_scores_of(digital, tmp_path, capsys):
    from huggingface_hub import ModelCard

    folder = tmp_path / "published"
    assert publish(digital, folder) == 0
    words = "noise=pcm tile=lammie2024 tile.rows=16 tile.columns=16 hardware.calibration.examples=16"
    command_of_card = f"analog-glue evaluate checkpoint=FOLDER {words}"
    card, here = ModelCard.load(folder / "README.md"), command_of_card.replace("FOLDER", str(folder))
    assert f"\n{command_of_card}\n" in card.text and f"next: {here}   #" in capsys.readouterr().out
    named = {one.metric_args["tile"] for one in card.data.eval_results if "tile" in (one.metric_args or {})}
    assert named == {"lammie2024 tile.rows=16 tile.columns=16 hardware.calibration.examples=16"}
    sweep = ["evaluation.chips=1", "evaluation.times=[1]", f"output_root={tmp_path / 'new'}"]
    assert main([*here.split()[1:], *sweep]) == 0
    hardware = {row.hardware_id for row in find_rows(digital) if row.stage == "chip"}
    assert {row.hardware_id for row in find_rows(tmp_path / "new") if row.stage == "chip"} == hardware and len(hardware) == 1


def test_an_unknown_licence_is_called_unknown_and_that_of_a_known_parent_is_named(digital, tmp_path):
    from huggingface_hub import ModelCard

    assert publish(digital, tmp_path / "a") == 0
    assert ModelCard.load(tmp_path / "a" / "README.md").data.license == "unknown"  # made on the spot
    config = json.loads((digital / "run_config.json").read_text())
    config["model"] |= {"name": "FacebookAI/roberta-base", "path": "/home/somebody/roberta"}
    config["task"]["name"] = "mrpc"
    (digital / "run_config.json").write_text(json.dumps(config))
    facts = json.loads((digital / "run.json").read_text())
    del facts["files"]  # of a run older than the list
    (digital / "run.json").write_text(json.dumps(facts))
    assert publish(digital, tmp_path / "b") == 0
    card = ModelCard.load(tmp_path / "b" / "README.md")
    assert (card.data.license, card.data.base_model) == ("mit", "FacebookAI/roberta-base")
    assert card.data.datasets == ["nyu-mll/glue"] and "not compared" in card.text
    assert "somebody" not in (tmp_path / "b" / "run_config.json").read_text()
    assert publish(tmp_path / "b", tmp_path / "c") == 0  # what no hub vouches for stays so
    assert "not compared" in (tmp_path / "c" / "README.md").read_text()
    assert publish(tmp_path / "a", tmp_path / "d") == 0 and "not compared" not in (tmp_path / "d" / "README.md").read_text()


def test_the_card_of_a_task_that_is_made_on_the_spot_says_so(digital, tmp_path):
    from huggingface_hub import ModelCard

    assert publish(digital, tmp_path / "published") == 0
    card = ModelCard.load(tmp_path / "published" / "README.md")
    reviews = "star ratings of synthetic product reviews"
    assert f"A network for {reviews} that is to be put on crossbars" in card.text
    assert f"- **Task**: {reviews}: 0 stars, 1 star, 2 stars, 3 stars, 4 stars\n" in card.text
    assert "- **Data**: grammar of analog_glue.tasks.demo, 3 aspects\n" in card.text
    assert not [line for line in card.text.splitlines() if line.startswith("- ") and line.rstrip().endswith(":")]
    assert {(one.dataset_type, one.dataset_name) for one in card.data.eval_results} == {("synthetic", reviews)}


def test_a_run_that_names_no_task_has_a_card_without_empty_lines(digital, tmp_path):
    facts = json.loads((digital / "run.json").read_text())
    del facts["files"], facts["choices"]["task"], facts["data"]["source"]
    (digital / "run.json").write_text(json.dumps(facts))
    assert publish(digital, tmp_path / "published") == 0
    card = (tmp_path / "published" / "README.md").read_text()
    assert "A network that is" in card and "**Data**" not in card and "**Task**" not in card


def test_the_card_says_what_the_factsheet_answers_first(digital, tmp_path, capsys):
    assert main(["factsheet", f"checkpoint={digital}", "costs=bottom_up", f"output_root={digital.parent}"]) == 0
    said = [line.strip().split("  ", 1) for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert len(said) > 8 and publish(digital, tmp_path / "published") == 0
    card = (tmp_path / "published" / "README.md").read_text().replace("\\", "")
    for name, text in said:
        assert f"- **{name}**: {text.strip()}" in card


def test_names_from_a_run_are_no_markup_of_the_card(digital, tmp_path):
    from huggingface_hub import ModelCard

    facts = json.loads((digital / "run.json").read_text())
    evil = "<script>x</script>\n---\nlicense: mit"
    del facts["files"]
    facts["choices"]["training"] = evil
    (digital / "run.json").write_text(json.dumps(facts))
    assert publish(digital, tmp_path / "published") == 0
    card = ModelCard.load(tmp_path / "published" / "README.md")
    assert card.data.license == "unknown" and "<script" not in card.text


def test_the_same_command_again_finds_it_there_and_new_scores_need_force(digital, tmp_path, capsys):
    folder = tmp_path / "published"
    assert publish(digital, folder) == 0
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert publish(digital, folder) == 0
    assert "Already there" in capsys.readouterr().out
    words = [*TILE, *SWEEP[1:], "evaluation.chips=3", "hardware.calibration.examples=16", f"output_root={digital.parent}"]
    assert main(["evaluate", f"checkpoint={digital}", *words]) == 0
    assert publish(digital, folder) == 2
    assert "force=true" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert publish(digital, folder, "force=true") == 0
    assert "mean of 3 chips" in (folder / "README.md").read_text()
    assert [entry.name for entry in tmp_path.iterdir() if "published" in entry.name] == ["published"]


@pytest.mark.parametrize("name", ["copyfile", "replace"])
def test_an_interrupted_publication_leaves_nothing_that_looks_like_one(digital, tmp_path, monkeypatch, name):
    folder, module = tmp_path / "out" / "published", {"copyfile": command.shutil, "replace": command.os}[name]
    real = getattr(module, name)

    def stop(source, target):
        if name == "copyfile" or str(target) == str(folder.resolve()):
            raise KeyboardInterrupt
        return real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(module, name, stop)
        assert publish(digital, folder) == 130
    assert not folder.exists() and not list(folder.parent.iterdir())
    left = folder.parent / f".published.xyz{command.SUFFIX}"  # of one that was killed
    (left / command.NEW).mkdir(parents=True)
    (left / command.MARK).write_text("published")
    (folder.parent / f".published.abc{command.SUFFIX}").mkdir()  # killed before its mark
    assert publish(digital, folder) == 0 and [entry.name for entry in folder.parent.iterdir()] == ["published"]


def test_what_others_keep_beside_the_place_stays(digital, tmp_path):
    kept = [tmp_path / name for name in (".published.old/thesis.tex", ".published.partial/thesis.tex", ".thesis.partial")]
    other = tmp_path / f".published.b.xyz{command.SUFFIX}" / command.MARK  # of a call that publishes into `published.b`
    for file in (*kept, other):
        file.parent.mkdir(exist_ok=True)
        file.write_text("published.b")
    assert publish(digital, tmp_path / "published") == 0 and publish(digital, tmp_path / "published", "force=true") == 0
    assert all(file.read_text() == "published.b" for file in (*kept, other))


def test_what_was_there_comes_back_where_the_new_one_cannot_come_in(digital, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "published"
    assert publish(digital, folder) == 0
    before, real = {file.name: file.read_bytes() for file in folder.iterdir()}, command.os.replace

    def stop(source, target):
        if str(target) == str(folder) and source.name == command.NEW:
            raise OSError(16, "Device or resource busy", str(target))
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(command.os, "replace", stop)
        assert publish(digital, folder, "license=mit", "force=true") == 2
    assert "Device or resource busy" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    left = tmp_path / f".published.xyz{command.SUFFIX}"  # of a call that was killed between its two moves
    left.mkdir()
    (left / command.MARK).write_text("published")
    folder.rename(left / command.OLD)
    assert publish(digital, folder, "license=mit") == 2 and not left.exists()
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_of_several_at_once_one_writes_and_the_others_find_it_there(digital, tmp_path):
    folder, said = tmp_path / "published", []
    chosen = Publish(folder=str(folder))
    job = command.prepare(RunSettings(checkpoint=str(digital), output_root=str(digital.parent), publish=chosen))
    with ThreadPoolExecutor(4) as pool:  # a lock of one descriptor holds against every other, also of the same process
        list(pool.map(lambda _: command.run(job, said.append), range(4)))
    assert said == [f"Already there: {folder}"] * 3
    assert [entry.name for entry in tmp_path.iterdir() if "published" in entry.name] == ["published"]
    assert command.prepare(job.settings).there


@pytest.mark.parametrize("words", [[], ["force=true"], ["license=mit", "force=true"]])
def test_files_of_others_in_the_folder_are_named_and_stay(words, digital, tmp_path, capsys):
    folder = tmp_path / "published"
    assert publish(digital, folder) == 0
    (folder / "thesis.tex").write_text("years")
    assert publish(digital, folder, *words) == 2
    assert "thesis.tex" in capsys.readouterr().err and (folder / "thesis.tex").read_text() == "years"


def below_a_file(tmp_path):
    (tmp_path / "file").touch()
    return tmp_path / "file" / "sub"


def a_link_onto_itself(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "link")
    return tmp_path / "link"


@pytest.mark.parametrize(
    ("place", "dry"),
    [
        (below_a_file, True),
        (below_a_file, False),
        (a_link_onto_itself, True),
        (a_link_onto_itself, False),
        (lambda tmp_path: tmp_path / ("a" * 300), True),
        (lambda tmp_path: "/proc/published", False),  # there nobody makes a folder
    ],
)
def test_a_place_that_can_be_none_is_one_message(place, dry, digital, tmp_path, capsys):
    assert publish(digital, place(tmp_path), *["dry_run=true"] * dry) == 2
    said = capsys.readouterr().err
    assert said.startswith("Setting `publish.folder` must be") and len(said.splitlines()) == 1


def spoil_nothing(run, tmp_path):
    return run, tmp_path / "new"


def in_a_full_folder(run, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    return run, tmp_path / "full"


def in_the_run(run, tmp_path):
    return run, run / "published"


def of_no_run(run, tmp_path):
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty", tmp_path / "new"


def of_a_run_in_situ(run, tmp_path):
    (run / "learning_curve.csv").touch()
    return run, tmp_path / "new"


def without_weights(run, tmp_path):
    facts = json.loads((run / "run.json").read_text())
    del facts["files"]
    (run / "run.json").write_text(json.dumps(facts))
    (run / "model.safetensors").unlink()
    return run, tmp_path / "new"


@pytest.mark.parametrize(
    ("spoil", "words", "said"),
    [
        (in_a_full_folder, [], "`publish.folder` must be a new or an empty folder"),
        (in_a_full_folder, ["force=true"], "Name another folder"),  # force replaces a publication, nothing else
        (in_the_run, [], "`publish.folder` must lie outside of the run"),
        (of_no_run, [], "`checkpoint` must be the folder of a finished training run"),
        (of_a_run_in_situ, [], "was trained in situ"),
        (without_weights, [], "It lacks model.safetensors"),
        (spoil_nothing, ["push=true"], "`publish.repo` must be OWNER/NAME"),
        (spoil_nothing, ["push=true", "repo=name"], "`publish.repo` must be OWNER/NAME"),
        (spoil_nothing, ["push=true", "repo=../..", "dry_run=true"], "`publish.repo` must be OWNER/NAME"),
        (spoil_nothing, ["push=true", "repo=owner/na--me", "dry_run=true"], "`publish.repo` must be OWNER/NAME"),
        (spoil_nothing, ["license='mit\nlicense: gpl'"], "`publish.license` must be a licence's name on one line"),
        (spoil_nothing, ["license=' '"], "`publish.license` must be a licence's name on one line"),
        (spoil_nothing, ["push=true", "repo=owner/name"], "`publish.push` must be false without a token"),
        (spoil_nothing, ["repo=owner/name"], "`publish.repo` must be left out without push=true"),
        (spoil_nothing, ["evaluation.also=[reram]"], "`evaluation.also`"),
    ],
)
def test_what_cannot_be_published_is_one_message_and_nothing_is_written(
    spoil, words, said, digital, tmp_path, capsys, monkeypatch, offline
):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    run, folder = spoil(digital, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert publish(run, folder, *words) == 2
    assert said in capsys.readouterr().err and sorted(tmp_path.rglob("*")) == before


def test_the_folder_may_be_the_empty_one_that_one_stands_in_or_a_link(digital, tmp_path, monkeypatch):
    for name in ("here", "linked"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "linked")
    monkeypatch.chdir(tmp_path / "here")
    assert publish(digital, ".") == 0 and (tmp_path / "here" / "README.md").is_file()
    assert publish(digital, tmp_path / "link") == 0 and (tmp_path / "linked" / "README.md").is_file()


def test_the_folder_must_be_named(digital, capsys):
    assert main(["publish", f"checkpoint={digital}"]) == 2
    assert "Write folder=my_folder" in capsys.readouterr().err


def test_a_dry_run_says_what_it_would_write_and_writes_nothing(digital, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))
    assert publish(digital, tmp_path / "new", "dry_run=true") == 0
    said = capsys.readouterr().out
    assert "model.safetensors" in said and "2 chips at 2 times" in said and sorted(tmp_path.rglob("*")) == before


def test_it_is_sent_to_the_hub_only_when_asked_and_is_private(digital, tmp_path, hub_that_takes, capsys):
    folder = tmp_path / "published"
    assert publish(digital, folder) == 0
    assert hub_that_takes == [] and "push=true repo=OWNER/NAME" in capsys.readouterr().out
    assert publish(digital, folder, "push=true", "repo=somebody/tiny", "dry_run=true") == 0
    assert not hub_that_takes.repositories
    assert publish(digital, folder, "push=true", "repo=somebody/tiny") == 0  # what is there already is sent
    there = hub_that_takes.repositories["somebody/tiny"]
    assert there["private"] is True and set(hub_that_takes.tokens) == {"Bearer hf_of_a_test"}
    assert there["files"] == {file.name: file.read_bytes() for file in folder.iterdir()}
    assert "hf_of_a_test" not in capsys.readouterr().out


def test_what_comes_into_the_folder_later_is_not_sent(digital, tmp_path, hub_that_takes):
    folder = tmp_path / "published"
    chosen = Publish(folder=str(folder), push=True, repo="somebody/tiny")
    job = command.prepare(RunSettings(checkpoint=str(digital), output_root=str(digital.parent), publish=chosen))
    command._write(job)
    (folder / "passwords.txt").touch()
    command._push(job)
    assert set(hub_that_takes.repositories["somebody/tiny"]["files"]) == {*job.subject.files, "README.md"}


def test_what_everybody_can_read_must_be_said(digital, tmp_path, hub_that_takes, capsys):
    hub_that_takes.repositories["somebody/tiny"] = {"private": False, "files": {}}
    assert publish(digital, tmp_path / "published", "push=true", "repo=somebody/tiny") == 2
    assert "private=false" in capsys.readouterr().err and not (tmp_path / "published").exists()
    assert publish(digital, tmp_path / "published", "push=true", "repo=somebody/tiny", "private=false") == 0
    assert publish(digital, tmp_path / "other", "push=true", "repo=somebody/new", "private=false") == 0
    assert hub_that_takes.repositories["somebody/new"]["private"] is False


def test_a_hub_that_refuses_is_told_and_the_folder_can_be_sent_later(digital, tmp_path, hub_that_takes, capsys):
    hub_that_takes.refuses = True
    assert publish(digital, tmp_path / "published", "push=true", "repo=somebody/tiny") == 2
    assert "`publish.repo` must name a repository that this token may write" in capsys.readouterr().err
    hub_that_takes.refuses = False
    assert publish(digital, tmp_path / "published", "push=true", "repo=somebody/tiny") == 0
    assert "README.md" in hub_that_takes.repositories["somebody/tiny"]["files"]


def test_a_hub_that_cannot_be_reached_is_told_before_anything_is_written(digital, tmp_path, offline, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    assert publish(digital, tmp_path / "published", "push=true", "repo=somebody/tiny") == 2
    assert "cannot be reached" in capsys.readouterr().err and not (tmp_path / "published").exists()


def test_every_model_of_the_hub_that_can_be_chosen_has_a_licence():
    import yaml

    from analog_glue.configuration.compose import conf_dir
    from analog_glue.reports.card import LICENSES

    options = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in (conf_dir() / "model").glob("*.yaml")]
    assert {option["name"] for option in options if "name" in option} == LICENSES.keys()
