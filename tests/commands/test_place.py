"""`place` on a small model: a planted layer is found, its choices are those of `evaluate` and `factsheet`, and it resumes."""

import json
import math
import re
import shlex
import shutil

import numpy as np
import pytest
import torch

from analog_glue.cli.main import main
from analog_glue.commands import deploy, place
from analog_glue.costs.architectures import PUBLISHED, Architecture
from analog_glue.errors import UserError
from analog_glue.runs.cells import read_cells
from analog_glue.runs.rows import find_rows
from analog_glue.settings import Evaluation, HardwareSettings, Place, RunSettings, typed_list
from analog_glue.tasks.demo import DemoTask

CALIBRATION = "hardware.calibration.examples=16"
SMALL = ["task.train_size=48", "task.validation_size=40", "model.hidden=16", "model.layers=2", "model.heads=2",
         "model.intermediate=24", "model.vocabulary_size=100", "training.max_steps=4", CALIBRATION]  # fmt: skip
TILE = ["tile.rows=16", "tile.columns=16"]
PLANTED = "bert.encoder.layer.1.intermediate.dense"
BLOCKS = 12  # layers in two blocks, beside which stand pooler and classifier


def plan(**asked):
    settings = RunSettings(place=Place(**asked), evaluation=Evaluation(chips=10))
    return settings, Architecture(PUBLISHED["minilm"])


def test_the_finest_grouping_is_taken_whose_scores_fit():
    for most, grouping, scores in ((500, "layer", 471), (470, "block", 151), (151, "block", 151)):
        found = place.Plan.of(*plan(most_scores=most))
        assert (found.grouping, found.most) == (grouping, scores)
    base = place.Plan.of(RunSettings(evaluation=Evaluation(chips=10)), Architecture(PUBLISHED["bert_base"]))
    assert base.grouping == "block" and base.most == 1 + 10 * (1 + 14 + 8)


def test_the_bound_counts_every_way_and_the_control():
    chosen = place.Plan.of(*plan(group="kind", by="both", control=True))
    assert len(chosen.groups) == 8 and chosen.most_sets == 2 * 6  # two to seven groups: one stays on tiles
    assert chosen.most == 1 + 10 * (1 + 2 * 8 + 12)
    assert len(chosen.first) == 17 and len({choice.layers for choice in chosen.first}) == 17


def test_a_bound_that_nothing_fits_is_refused_with_the_number_that_does():
    with pytest.raises(UserError, match=r"`place.most_scores` must be at least 151 for 10 chips × .* but is 150"):
        place.Plan.of(*plan(most_scores=150))
    with pytest.raises(UserError, match=r"at least 471 .* place.group=block takes 151"):
        place.Plan.of(*plan(group="layer", most_scores=470))


def test_layers_that_the_command_leaves_digital_are_in_no_group():
    settings = RunSettings(hardware=HardwareSettings(layers=["*", "!classifier", "!*.layer.0.*"]), place=Place(group="kind"))
    found = place.Plan.of(settings, Architecture(PUBLISHED["minilm"]))
    assert "classifier" not in found.groups and all(len(own) in (1, 5) for own in found.groups.values())
    choice = found.without(["bert.encoder.layer.*.attention.self.key"])
    assert choice.layers[:3] == ("*", "!classifier", "!*.layer.0.*") and len(choice.layers) == 8  # no pattern: 0 is not of it
    for few in (["classifier"], ["*.layer.0.*"]):
        settings = RunSettings(hardware=HardwareSettings(layers=few), place=Place(group="block"))
        with pytest.raises(UserError, match="at least two"):
            place.Plan.of(settings, Architecture(PUBLISHED["minilm"]))


def test_a_choice_is_the_same_in_whatever_order_it_was_found():
    found = place.Plan.of(*plan(group="block"))
    groups = list(found.groups)[:3]
    assert found.without(groups) == found.without(groups[::-1])


def test_a_setting_survives_the_shell():
    word = typed_list("hardware.layers", ["*", "!a.?.b"])
    assert shlex.split(word) == ['hardware.layers=["*","!a.?.b"]'] and word[0] == word[-1] == "'"  # no `!` of history


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    words = ["task=demo", "model=tiny", "training=digital", *SMALL, *TILE, f"output_root={root}"]
    assert main(["train", *words, "evaluation.chips=0", "evaluation.ideal_devices=false"]) == 0
    (run,) = (folder for folder in root.iterdir() if folder.name.startswith("demo-"))
    return root, run


HOW = [*TILE, CALIBRATION, "evaluation.times=[60,2592000]"]


def placing(root, run, *words, chips=2):
    return main(["place", f"checkpoint={run}", f"output_root={root}", *HOW, f"evaluation.chips={chips}", *words])


@pytest.fixture
def copy(master, tmp_path):
    root, run = master
    shutil.copytree(root, tmp_path / "runs")
    return tmp_path / "runs", tmp_path / "runs" / run.name


class Close:
    """A network whose layer `PLANTED` has a weight in every column that is 100 times the others and meets inputs of exactly 0.

    So the digital network does not know of it, while on tiles the others take a hundredth of the conductances. Its score is
    how close logits are to digital ones [%]: it moves with any error, though the network has learned little.
    """

    def __init__(self, monkeypatch):
        self.digital = None
        whole = deploy.load_checkpoint_model

        def load(folder):
            loaded = whole(folder)
            model = dict(loaded.model.named_modules())
            with torch.no_grad():
                before = model["bert.encoder.layer.1.attention.output.LayerNorm"]
                before.weight[0] = before.bias[0] = 0.0
                weight = model[PLANTED].weight
                weight[:, 0] = 100 * weight[:, 1:].abs().max()
            return loaded

        monkeypatch.setattr(deploy, "load_checkpoint_model", load)
        monkeypatch.setattr(DemoTask, "score", lambda task, split, logits, labels: {"accuracy": self.score(logits)})

    def score(self, logits):
        if self.digital is None:  # the first score of all is the digital one
            self.digital = logits
        return 100 * (1 - np.linalg.norm(logits - self.digital) / np.linalg.norm(self.digital))


@pytest.fixture(scope="module")
def planted(master, tmp_path_factory):
    root = tmp_path_factory.mktemp("planted") / "runs"
    shutil.copytree(master[0], root)
    run = root / master[1].name
    for ordinary in run.glob("pcm-*"):  # which knows another digital score
        shutil.rmtree(ordinary)
    with pytest.MonkeyPatch.context() as patch:
        Close(patch)
        words = ["place.by=both", "place.sets=3", "place.control=true", 'hardware.layers=["*.layer.*"]']
        assert placing(root, run, *words, chips=3) == 0
    (below,) = run.glob("placement-*")
    return root, run, below


def of_groups(below, stem="layer-both-bottom_up"):
    return {line["group"]: line for line in read_cells(below / stem / "groups.csv")}


@pytest.mark.slow
def test_the_layer_that_is_planted_gains_and_loses_most(planted):
    found = of_groups(planted[2])
    assert len(found) == BLOCKS
    for what in ("gain", "loss"):
        own = found.pop(PLANTED)
        value, error = float(own[what]), float(own[f"{what}_standard_error"])
        second = max(float(line[what]) for line in found.values())
        assert value > second + 5 * error and value > 1, what
        found[PLANTED] = own


@pytest.mark.slow
def test_taking_it_off_is_on_the_front_and_beats_sets_chosen_by_energy_alone(planted):
    lines = read_cells(planted[2] / "layer-both-bottom_up" / "front.csv")
    (alone,) = (line for line in lines if line["role"] == "one" and line["digital_groups"] == PLANTED)
    assert alone["unbeaten"] == "true" and alone["digital_layers"] == "3"
    sets = {role: [line for line in lines if line["role"] == role] for role in ("greedy", "control")}
    assert 1 <= len(sets["greedy"]) <= 3 and 1 <= len(sets["control"]) <= 3
    best = max(float(line["score"]) for line in sets["greedy"] if PLANTED in line["digital_groups"].split())
    cheap = [line for line in sets["control"] if PLANTED not in line["digital_groups"].split()]
    assert cheap and all(float(line["score"]) < best for line in cheap)
    on_front = [line for line in lines if line["unbeaten"] == "true"]
    on_front.sort(key=lambda line: float(line["energy_high_uj"]))
    assert [float(line["score"]) for line in on_front] == sorted(float(line["score"]) for line in on_front)
    assert (
        lines[-1]["role"] == "digital" and float(lines[-1]["score"]) == 100.0 and lines[-1]["digital_layers"] == str(BLOCKS + 2)
    )


@pytest.mark.slow
def test_rows_say_what_they_are_of_and_ordinary_tables_leave_them_out(by_kind, tmp_path, capsys):
    root, _, below = by_kind
    rows = [row for row in find_rows(root) if row.ablation]
    assert {row.sweep.partition("/")[0] for row in rows} == {below.name}
    assert all(row.ablation.startswith("layers ") for row in rows)
    assert {(row.chip, row.t_seconds, row.compensated) for row in rows if row.stage == "chip"} == {
        (chip, 2_592_000.0, True) for chip in range(2)
    }
    by_choice = {(row.ablation, row.hardware_id) for row in rows}
    assert len({label for label, _ in by_choice}) == len({id_ for _, id_ in by_choice}) == len(by_choice)
    ordinary = [row.hardware_id for row in find_rows(root) if not row.ablation]  # of the training: digital and majority
    capsys.readouterr()
    assert main(["tables", str(root), "--out", str(tmp_path)]) == 0
    assert "Ablation" not in capsys.readouterr().out and len(set(ordinary)) == 1
    assert main(["list", "runs", str(root)]) == 0
    assert re.search(rf"done +{below.name}: {len(by_choice)} choices of layers on tiles", capsys.readouterr().out)


@pytest.fixture(scope="module")
def by_kind(master, tmp_path_factory):
    """Without anything planted."""
    root = tmp_path_factory.mktemp("kinds") / "runs"
    shutil.copytree(master[0], root)
    run = root / master[1].name
    assert placing(root, run, "place.group=kind", "place.sets=2") == 0
    (below,) = run.glob("placement-*")
    return root, run, below


def scores(rows):
    return {(row.chip, row.t_seconds, row.compensated, row.split, row.metric): row.value for row in rows if row.stage == "chip"}


@pytest.mark.slow
def test_a_setting_that_is_pasted_gives_the_same_rows_and_the_same_energy(by_kind, tmp_path):
    root, run = tmp_path / "runs", tmp_path / "runs" / by_kind[1].name
    shutil.copytree(by_kind[0], root)
    lines = read_cells(by_kind[2] / "kind-alone_off-bottom_up" / "front.csv")
    chosen = [line for line in lines if line["setting"]]
    assert len(chosen) >= 1 + 8 and {line["role"] for line in chosen} >= {"full", "one"}
    several = [line for line in chosen if line["role"] == "greedy"]
    for line in [chosen[0], chosen[2], *several[:1]]:
        (word,) = shlex.split(line["setting"])
        where = [f"checkpoint={run}", f"output_root={root}", *TILE]
        assert main(["evaluate", *where, CALIBRATION, "evaluation.times=[2592000]", "evaluation.chips=2", word]) == 0
        label = f"layers {' '.join(json.loads(word.partition('=')[2]))}"
        ours = [row for row in find_rows(root) if row.ablation == label]
        theirs = [row for row in find_rows(root) if not row.ablation and row.hardware_id == ours[0].hardware_id]
        assert scores(ours) == scores(theirs) and len(scores(ours)) == 2
        assert main(["factsheet", *where[:2], "noise=pcm", "tile=spoon2021", *TILE, word, "costs=bottom_up"]) == 0
        sheets = sorted(run.glob("factsheet/*/factsheet.json"), key=lambda file: file.stat().st_mtime)
        energy = json.loads(sheets[-1].read_text())["costs"]["estimate"]["energy"]
        for end in ("low", "high"):
            assert float(line[f"energy_{end}_uj"]) == pytest.approx(energy[end] / 4, abs=1e-6)  # csv files have six decimals


@pytest.mark.slow
def test_what_an_ordinary_sweep_knows_is_taken_over(copy, by_kind, scored):
    root, run = copy
    where = [f"checkpoint={run}", f"output_root={root}", *HOW]
    assert main(["evaluate", *where, "evaluation.chips=1"]) == 0
    assert main(["evaluate", *where, "evaluation.chips=1", 'hardware.layers=["*","!classifier"]']) == 0
    scored["scores"] = 0
    assert placing(root, run, "place.group=kind", "place.sets=2") == 0
    placed = [row for row in find_rows(root) if row.ablation]
    assert scored["scores"] == len(placed) - 3  # one chip of either, and the digital score
    assert by_label(placed) == by_label(row for row in find_rows(by_kind[0]) if row.ablation)


def by_label(rows):
    return {(row.ablation, row.stage, row.chip, row.t_seconds): row.value for row in rows}


@pytest.mark.slow
def test_an_interrupted_search_goes_on_to_the_same_files(copy, by_kind, scored, capsys):
    root, run = copy
    words = ["place.group=kind", "place.sets=2"]
    scored["until"] = 7
    assert placing(root, run, *words) == 130
    scored["until"] = None
    assert placing(root, run, *words) == 0
    rows = [row for row in find_rows(root) if row.ablation]
    assert by_label(rows) == by_label(row for row in find_rows(by_kind[0]) if row.ablation)
    (below,) = run.glob("placement-*")
    theirs = {file.name: file.read_text() for file in by_kind[2].glob("kind-*/*.csv")}
    assert {file.name: file.read_text() for file in below.glob("kind-*/*.csv")} == theirs and len(theirs) == 2
    measured = scored["scores"]
    assert measured == len(rows) - 1  # the digital score was known from the training
    capsys.readouterr()
    assert placing(root, run, *words) == 0
    said = capsys.readouterr().out
    assert scored["scores"] == measured and "Already done: each kind alone" in said
    for command in re.findall(r"^next: analog-glue (.*?)(?:   #.*)?$", said, re.MULTILINE):
        assert main([*shlex.split(command), "dry_run=true"]) == 0, command


@pytest.mark.slow
def test_no_more_is_scored_than_was_said(copy, scored, capsys):
    root, run = copy
    before = sorted(root.rglob("*"))
    assert placing(root, run, "place.group=block", "dry_run=true") == 0
    said = capsys.readouterr().out
    (most,) = re.findall(r"at most (\d+) scores \(place.most_scores=500\), 1 of them known", said)
    assert "Time       not known before a first score" in said and sorted(root.rglob("*")) == before
    assert int(most) == 1 + 2 * (1 + 4 + 2)  # two blocks, pooler and classifier; sets of two and three of the four
    assert placing(root, run, "place.group=block") == 0
    assert scored["scores"] <= int(most) - 1 and scored["scores"] >= 2 * 5
    assert placing(root, run, "dry_run=true") == 0
    assert re.search(r"Time       about .* by \d+\.\d s a score", capsys.readouterr().out)


@pytest.mark.slow
def test_learned_ranges_are_taken_as_evaluate_takes_them(tmp_path):
    """Of a network that learned its ranges, layers beside the tiles have their learned scales in the weights."""
    words = ["task=demo", "model=tiny", "training=hardware_aware", "training.digital_epochs=0", *SMALL, *TILE]
    assert main(["train", *words, "evaluation.chips=0", "evaluation.ideal_devices=false", f"output_root={tmp_path}"]) == 0
    (run,) = tmp_path.glob("demo-*")
    assert (run / "analog.safetensors").is_file()
    assert placing(tmp_path, run, "place.group=block", "place.sets=0") == 0
    word = 'hardware.layers=["*","!bert.encoder.layer.1.*"]'
    where = [f"checkpoint={run}", f"output_root={tmp_path}", *TILE, CALIBRATION]
    assert main(["evaluate", *where, "evaluation.times=[2592000]", "evaluation.chips=2", word]) == 0
    ours = [row for row in find_rows(tmp_path) if row.ablation == "layers * !bert.encoder.layer.1.*"]
    theirs = [row for row in find_rows(tmp_path) if not row.ablation and row.hardware_id == ours[0].hardware_id]
    assert scores(ours) == scores(theirs) and len(scores(ours)) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["place.group=row"], ["`place.group`", "auto, layer, block, kind", "'row'"]),
        (["place.by=alone"], ["`place.by`", "alone_off, alone_on, both"]),
        (["place.sets=-1"], ["`place.sets`", "at least 0"]),
        (["place.most_scores=9"], ["`place.most_scores`", "must be at least 15 for 2 chips", "is 9"]),
        (["evaluation.chips=0"], ["`evaluation.chips`", "at least 1"]),
        (["noise=ideal", "tile=ideal"], ["ideal", "noise=pcm"]),
        (['hardware.layers=["classifier"]'], ["`hardware.layers`", "at least two layers"]),
        (['hardware.layers=["*","!clasifier"]'], ["`hardware.layers`", "'!clasifier' matches none"]),
        (["sequence_length=4096"], ["`sequence_length`", "positions of the model"]),
        (["evaluation.also=[reram]"], ["`evaluation.also`"]),
        (["ablate=true"], ["`ablate`", "must be left out of `place`"]),
        (["model=minilm"], ["no group `model`", "with the checkpoint"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_cannot_be_is_said_before_anything_is_loaded(master, monkeypatch, capsys, words, parts):
    monkeypatch.setattr(deploy, "prepare", lambda *_: pytest.fail("data and weights are loaded"))
    assert placing(*master, *words) == 2
    said = capsys.readouterr().err
    for part in parts:
        assert part in said, said


def test_no_undefined_score_is_taken_for_a_gain():
    found = place.Plan.of(*plan(group="kind"))
    judged = [place.Judged(group, 1, 1.0, {0: math.nan}, {}, 1.0) for group in found.groups]
    assert place._sets(found, judged) == {}
