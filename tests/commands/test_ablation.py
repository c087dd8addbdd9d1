"""`evaluate ablate=true` on a small model: every part once, on the same chips, resumable, and told in a table."""

import re
import shutil
from collections import Counter

import pytest

from analog_glue.cli.main import main
from analog_glue.commands import deploy
from analog_glue.commands.ablation import variants
from analog_glue.devices.ideal import Ideal
from analog_glue.devices.pcm import PCM
from analog_glue.nn.attention import FLOAT32, Attention
from analog_glue.nn.attention_interface import products_of
from analog_glue.nn.hardware import Hardware
from analog_glue.runs.rows import find_rows
from analog_glue.tiles.crossbar import Crossbar

pytestmark = pytest.mark.slow

CALIBRATION = "hardware.calibration.examples=16"
SMALL = ["task.train_size=48", "task.validation_size=40", "model.hidden=16", "model.layers=1", "model.heads=2",
         "model.intermediate=24", "model.vocabulary_size=100", "training.max_steps=4", CALIBRATION]  # fmt: skip
TILE = ["tile.rows=16", "tile.columns=16"]
PARTS = ("programming noise", "mean drift", "drift spread", "1/f noise", "dac", "read noise", "output noise", "adc")
QUIET_TILE = Crossbar(rows=16, columns=16, read_noise=0.0, output_noise=0.0)
QUIET = ("only dac", "only adc")  # no chip differs from another


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    """A trained run, with one chip of the full hardware at one of the times measured by an ordinary sweep; and its ablation."""
    root = tmp_path_factory.mktemp("runs")
    words = ["task=demo", "model=tiny", "training=digital", *SMALL, *TILE, f"output_root={root}"]
    assert main(["train", *words, "evaluation.chips=1", "evaluation.times=[1,60]", "evaluation.ideal_devices=false"]) == 0
    (run,) = (folder for folder in root.iterdir() if folder.name.startswith("demo-"))
    return root, run


def ablate(root, run, *words, chips=2):
    how = [f"evaluation.chips={chips}", "evaluation.times=[1,60,2592000]", CALIBRATION]
    return main(["evaluate", f"checkpoint={run}", f"output_root={root}", "ablate=true", *TILE, *how, *words])


@pytest.fixture
def copy(master, tmp_path):
    root, run = master
    shutil.copytree(root, tmp_path / "runs")
    return tmp_path / "runs", tmp_path / "runs" / run.name


@pytest.fixture(scope="module")
def ablated(master, tmp_path_factory):
    root = tmp_path_factory.mktemp("ablated") / "runs"
    shutil.copytree(master[0], root)
    assert ablate(root, root / master[1].name) == 0
    return root, root / master[1].name


def parts_of(root):
    return [row for row in find_rows(root) if row.ablation]


def values(rows):
    return {(row.ablation, row.stage, row.chip, row.t_seconds): row.value for row in rows}


def test_every_part_is_scored_once_on_the_same_chips_at_the_first_and_the_last_time(ablated):
    rows = parts_of(ablated[0])
    noisy = {"full", *(f"{how} {name}" for how in ("without", "only") for name in PARTS)} - set(QUIET)
    chips = [(label, chip, t) for label in noisy for chip in (0, 1) for t in (1.0, 2_592_000.0)]
    assert Counter((row.ablation, row.chip, row.t_seconds) for row in rows if row.stage == "chip") == Counter(chips)
    others = [(row.ablation, row.stage) for row in rows if row.stage != "chip"]
    assert sorted(others) == sorted([("none", "digital"), *((label, "ideal_devices") for label in QUIET)])
    drifts = {"full", "only mean drift", "only drift spread", *(f"without {name}" for name in PARTS)}
    assert {row.ablation for row in rows if row.compensated} == drifts
    assert len({row.stream for row in rows if row.stage == "chip"}) == 1


def test_hardware_of_a_part_is_its_own_and_ordinary_tables_leave_it_out(ablated):
    root, run = ablated
    rows = find_rows(root)
    by_part = {row.ablation: row.hardware_id for row in rows if row.ablation}
    assert len(set(by_part.values())) == len(by_part)
    ordinary = {row.hardware_id for row in rows if not row.ablation}
    assert ordinary == {by_part["full"]}
    folders = {row.sweep.partition("/")[0] for row in rows if row.ablation}
    (below,) = run.glob("ablation-pcm-spoon2021-*")
    assert folders == {below.name}
    assert (below / next(below.glob("without_1_f_noise-*")).name / "run.json").is_file()


def test_what_the_ordinary_sweep_knows_is_taken_over(copy, scored, capsys):
    root, run = copy
    known = {(row.stage, row.chip, row.t_seconds): row.value for row in find_rows(root)}
    assert ablate(root, run, chips=1) == 0
    rows = parts_of(root)
    (digital,) = (row for row in rows if row.ablation == "none")
    assert digital.value == known["digital", None, None]
    assert next(row.value for row in rows if row.ablation == "full") == known["chip", 0, 1.0]
    assert scored["scores"] == len(rows) - 2
    assert "Resuming the ablation: 2 of" in capsys.readouterr().out


def test_a_part_is_the_hardware_that_its_settings_describe(copy, ablated):
    root, run = copy
    how = ["evaluation.chips=2", "evaluation.times=[1,2592000]", CALIBRATION]
    for word, label in (("+noise.one_over_f=0", "without 1/f noise"), ("tile.read_noise=0", "without read noise")):
        assert main(["evaluate", f"checkpoint={run}", f"output_root={root}", *TILE, *how, word]) == 0
        (row, *_) = (row for row in parts_of(ablated[0]) if row.ablation == label)
        chips = [r for r in find_rows(root) if r.hardware_id == row.hardware_id and r.stage == "chip"]
        ours = {(r.chip, r.t_seconds): r.value for r in chips}
        theirs = {(r.chip, r.t_seconds): r.value for r in parts_of(ablated[0]) if r.ablation == label}
        assert ours == theirs and len(ours) == 4


def test_the_same_command_again_measures_nothing_and_prints_the_table(ablated, scored, capsys):
    before = {path: path.read_bytes() for path in ablated[0].rglob("results.csv")}
    assert ablate(*ablated) == 0
    said = capsys.readouterr().out
    assert scored["scores"] == 0 and "Already done:" in said
    assert before == {path: path.read_bytes() for path in ablated[0].rglob("results.csv")}
    for line in ("full hardware", "none (digital)", "sum of the lines", "DAC", "ADC", *PARTS[:4], "read noise", "output noise"):
        assert re.search(rf"^{re.escape(line)} ", said, re.MULTILINE), line


def test_an_interrupted_ablation_goes_on_to_the_same_rows(copy, ablated, scored):
    root, run = copy
    scored["until"] = 7
    assert ablate(root, run) == 130
    scored["until"] = None
    assert ablate(root, run) == 0
    assert values(parts_of(root)) == values(parts_of(ablated[0]))
    assert scored["scores"] == len(parts_of(root)) - 2


def test_another_number_of_chips_changes_no_row(copy, ablated):
    assert ablate(*copy, chips=1) == 0
    one = values(parts_of(copy[0]))
    assert one == {key: value for key, value in values(parts_of(ablated[0])).items() if key[2] != 1}


def test_a_dry_run_counts_the_scores_and_writes_nothing(copy, scored, capsys):
    before = sorted(copy[0].rglob("*"))
    assert ablate(*copy, "dry_run=true") == 0
    said = capsys.readouterr().out
    assert re.search(r"Ablation   63 scores at 1 s and 1 month, of which 61 would be measured", said)
    assert sorted(copy[0].rglob("*")) == before and scored["scores"] == 0


def test_a_list_of_runs_has_one_line_for_it(ablated, capsys):
    assert main(["list", "runs", str(ablated[0])]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "ablation-" in line)
    assert re.fullmatch(r"  done        ablation-pcm-spoon2021-\w+: \d+ parts of the hardware", line)


def test_tables_render_it(ablated, tmp_path, capsys):
    assert main(["tables", str(ablated[0]), "--out", str(tmp_path)]) == 0
    assert "## Ablation, demo (accuracy, headline): tiny, pcm on spoon2021" in capsys.readouterr().out
    assert (tmp_path / "ablation.csv").is_file()
    assert [path.name for path in tmp_path.glob("ablation-*.png")] == ["ablation-demo-tiny-pcm-spoon2021-digital.png"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (
            ["train", "task=demo", "model=tiny", "ablate=true"],
            ["`ablate`", "must be left out of `train`", "belongs to `evaluate`"],
        ),
        (["extract", "checkpoint=x", "ablate=true"], ["`ablate`", "must be left out of `extract`"]),
        (["evaluate", "noise=ideal", "tile=ideal"], ["`ablate`", "ideal hardware", "noise=pcm"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_it_cannot_do_is_refused_by_name(master, capsys, words, parts):
    root, run = master
    assert (ablate(root, run, *words[1:]) if words[0] == "evaluate" else main(words)) == 2
    said = capsys.readouterr().err
    for part in parts:
        assert part in said


def test_attention_is_a_part_where_it_is_not_float32():
    hardware = Hardware(PCM(), Crossbar())
    labels = [variant.label for variant in variants(hardware, FLOAT32)]
    more = variants(hardware, Attention(bits=8))
    assert {variant.label for variant in more} - set(labels) == {"without attention", "only attention"}
    by_label = {variant.label: variant for variant in more}
    assert by_label["without attention"].hardware == hardware and by_label["without attention"].attention == FLOAT32
    assert by_label["only attention"].stages == ("ideal_devices",)
    assert by_label["without adc"].attention.bits == 8 and by_label["only adc"].attention == FLOAT32
    assert by_label["none"].attention == FLOAT32


def test_an_ablation_with_attention_scores_networks_with_it_and_without(tmp_path, monkeypatch):
    """A part without attention has it in float32, on the same input ranges; the digital network has it so, too."""
    words = ["task=demo", "model=tiny", "training=digital", *SMALL, *TILE, f"output_root={tmp_path}", "evaluation.times=[1]"]
    assert main(["train", *words, "attention=int8", "attention.bits=2", "attention.examples=16", "evaluation.chips=1"]) == 0
    (run,) = (folder for folder in tmp_path.iterdir() if folder.name.startswith("demo-"))
    whole, rounding, ranges = deploy.drift_sweep, [], set()

    def sweep(model, placement, computation, periphery, *more):
        rounding.append({layer.active for layer in products_of(model).values()})
        ranges.add(tuple(float(layer.input_range.sum()) for layer in periphery.values()))
        yield from whole(model, placement, computation, periphery, *more)

    monkeypatch.setattr(deploy, "drift_sweep", sweep)
    how = [f"checkpoint={run}", f"output_root={tmp_path}", *TILE, CALIBRATION, "evaluation.times=[1]", "evaluation.chips=1"]
    assert main(["evaluate", *how, "ablate=true", "tile.read_noise=0", "tile.output_noise=0", "noise=ideal"]) == 0
    rows = [row for row in find_rows(tmp_path) if row.ablation and row.headline]
    precision = {row.ablation: (row.attention, row.attention_scales) for row in rows}
    assert precision["without attention"] == precision["none"] == precision["only dac"] == ("fp32", "")
    assert precision["full"] == precision["only attention"] == precision["without dac"] == ("int2", "learned")
    expected = [{not row.attention.is_float32} for row in variants(Hardware(Ideal(), QUIET_TILE), Attention(bits=2))]
    assert rounding == expected and len(ranges) == 1
