"""Table II and Figure 3 of Lammie et al. (2024) from made-up rows, their configurations read from settings of the runs."""

import csv
import io
import json
from dataclasses import replace

import pytest
import yaml

from analog_glue.cli.sweeps import split_flags
from analog_glue.configuration.compose import Composer, conf_dir
from analog_glue.reports.build import build
from analog_glue.reports.glue import glue_grid
from analog_glue.reports.grids import GLUE, Grid, as_csv
from analog_glue.reports.lammie2024 import NONE, PAPER, configuration_of, lammie2024
from analog_glue.reports.published import published_lines, published_numbers
from analog_glue.reports.sections import pivot
from analog_glue.reports.trainings import Training
from tests.reports.test_tables import HOUR, MONTH, chips, row, write

DEFAULTS = {  # of training=lammie2024, as far as the report reads them
    "seed": 0, "training": "HardwareAware", "training.epochs": 20, "training.max_steps": None, "training.learning_rate": 5e-5,
    "training.weight_clip": 2.0, "training.quantisation": True, "training.input_range.learning_rate": 3e-3,
    "training.output_scale_learning_rate": 1e-3, "training.output_noise": 0.1, "training.weight_noise.law": "relative",
    "training.weight_noise.scale": 0.06, "hardware.calibration.deviations": 3.0,
}  # fmt: skip
FIXED = {"training.input_range.learning_rate": 0.0, "training.output_scale_learning_rate": 0.0}


class Runs:
    """Rows of networks, each with the settings of its training."""

    def __init__(self):
        self.rows, self.settings = [], {}

    def add(self, task, scores, tuning="", t=HOUR, digital=90.0, seed=0, **settings):
        """A network of `task` on as many chips as `scores` at `t`; the same network if it is there."""
        payload = DEFAULTS | {"seed": seed} | settings
        known = {json.dumps(own, sort_keys=True): name for name, own in self.settings.items() if name.startswith(f"{task}-")}
        said = json.dumps(payload | ({"tuning": tuning} if tuning else {}), sort_keys=True)
        run = known.get(said, f"{task}-tiny-lammie2024-seed{seed}-{len(self.settings):08x}")
        self.settings[run] = json.loads(said)
        name = "lammie2024" + (f"+{tuning}" if tuning else "")
        own = {name: value for name, value in payload.items() if name != "seed"}
        recipe = f"{hash(json.dumps([tuning, own], sort_keys=True)):x}"
        at = {"task": task, "metric": GLUE[task], "tile": "lammie2024", "run": run, "train_ids": run[-8:], "recipe": recipe}
        self.rows += chips(scores, t, True, name, seed, **at)
        self.rows += [row("digital", digital, name, seed, **at)] if t == HOUR else []
        return self

    @property
    def chapter(self):
        return lammie2024(self.rows, self.settings, published_numbers())

    def table(self, start="lammie2024_table2"):
        """Cells by name of the column, by the first three cells."""
        grid = next(part for name, part in self.chapter.parts if name.startswith(start) and isinstance(part, Grid))
        return {tuple(cells[:3]): dict(zip(grid.header, cells, strict=True)) for cells in grid.rows}

    @property
    def note(self):
        return next(part for _, part in self.chapter.parts if isinstance(part, Grid)).note


FULL = "clipping, I/O quantised"


def test_a_line_is_a_configuration_of_training_and_tuning():
    runs = Runs().add("mrpc", [80.0, 81.0, 82.0]).add("rte", [60.0, 60.0, 60.0])
    runs.add("mrpc", [70.0, 71.0, 72.0], **FIXED)
    runs.add("mrpc", [75.0, 76.0, 77.0], "lammie2024", **FIXED).add("mrpc", [72.0] * 3, "dac_range", **FIXED)
    runs.add("mrpc", [83.0] * 3, "lammie2024").add("mrpc", [50.0] * 3, "auto", **FIXED)
    runs.add("mrpc", [65.0] * 3, **{**FIXED, "training.weight_clip": None, "training.quantisation": False})
    table = runs.table()
    # Three chips with deviation 1: standard error 1/√3 = 0.58.
    assert table[FULL, "none", "none"]["MRPC"] == "71.00 ± 0.58" and table[FULL, "none", "none"]["RTE"] == "–"
    assert table[FULL, "learned", "learned"]["average"] == "70.50 ± 0.29 (2 of 8 tasks)"
    assert table[FULL, "post-training", "post-training"]["MRPC"] == "76.00 ± 0.58"
    assert table[FULL, "post-training", "none"]["MRPC"] == "72.00 ± 0.00"
    assert table[FULL, "learned, post-training", "learned, post-training"]["MRPC"] == "83.00 ± 0.00"
    assert table[FULL, "auto", "auto"]["MRPC"] == "50.00 ± 0.00"
    assert table["no clipping, I/O not quantised", "none", "none"]["MRPC"] == "65.00 ± 0.00"
    assert table[f"in software: {FULL}", "learned", "learned"]["average"] == "90.00 (2 of 8 tasks)"


def test_published_averages_stand_beside_ours_measured_or_not():
    runs = Runs().add("mrpc", [72.0] * 3, "conductance_range", **FIXED).add("mrpc", [71.0] * 3, "dac_range")
    beside = {name: cells["Lammie 2024"] for name, cells in runs.table().items()}
    both = "learned, post-training"
    assert beside == {
        (FULL, "none", "none"): "76.3",
        (FULL, "none", "post-training"): "80.9 … 81.7",
        (FULL, "post-training", "post-training"): "81.6",
        (FULL, "learned", "learned"): "81.7",
        (FULL, both, "learned"): "",
        (FULL, both, both): "82.6",
    }
    software = Runs().add("mrpc", [70.0]).table()[f"in software: {FULL}", "learned", "learned"]
    assert software["Lammie 2024"] == "85.9"
    assert "arXiv 2401.09859" in runs.note


def test_an_average_of_all_tasks_says_nothing_of_their_number():
    runs = Runs()
    for task in GLUE:
        runs.add(task, [79.0, 80.0, 81.0])
    assert runs.table()[FULL, "learned", "learned"]["average"] == "80.00 ± 0.20"  # 1/√3/√8
    records = list(csv.DictReader(io.StringIO(as_csv(runs.chapter.records["lammie2024_table2.csv"]).decode())))
    averages = [r for r in records if r["task"] == "average" and r["hardware"] == "analog"]
    assert [(r["origin"], r["value"]) for r in averages][:2] == [("measured", "80"), ("published", "76.3")]
    assert len(averages) == 7 and all(r["source"] for r in averages[1:])


def test_seeds_are_averaged_and_other_trainings_of_a_configuration_stand_apart():
    runs = (
        Runs().add("mrpc", [80.0, 80.0]).add("mrpc", [84.0, 84.0], seed=1).add("mrpc", [60.0, 60.0], **{"training.epochs": 3})
    )
    table = runs.table()
    assert table[f"{FULL} [epochs 20]", "learned", "learned"]["MRPC"] == "82.00 ± 2.00"
    assert table[f"{FULL} [epochs 3]", "learned", "learned"]["MRPC"] == "60.00 ± 0.00"
    assert "Not as in the paper: epochs 3 instead of 20 (in 1 of 3 networks)." in runs.note


def test_only_such_networks_on_such_tiles_make_the_table():
    others = [replace(one, tile="spoon2021") for one in Runs().add("mrpc", [80.0]).rows]
    others += [replace(one, training="hardware_aware") for one in Runs().add("mrpc", [80.0]).rows]
    others += [replace(one, attention="int8") for one in Runs().add("mrpc", [80.0]).rows]
    others += [replace(one, task="demo") for one in Runs().add("mrpc", [80.0]).rows]
    runs = Runs().add("mrpc", [80.0])
    assert lammie2024(others, runs.settings, published_numbers()).parts == []
    assert lammie2024(runs.rows, None, published_numbers()).parts == []  # nothing is known of the trainings
    runs.rows += [replace(one, run="elsewhere", train_ids="e") for one in runs.rows]
    assert "1 network(s) are left out, since the settings" in runs.note


def test_what_is_not_compensated_is_not_shown():
    runs = Runs().add("mrpc", [80.0])
    runs.rows += [replace(one, compensated=False, value=10.0) for one in runs.rows if one.stage == "chip"]
    assert runs.table()[FULL, "learned", "learned"]["MRPC"] == "80.00"


def test_figure_3_is_rte_over_time_or_where_it_is_absent_mrpc():
    runs = Runs().add("mrpc", [80.0]).add("mrpc", [75.0], t=MONTH).add("rte", [60.0])
    at = runs.table("lammie2024_figure3")[f"A: {FULL}", "learned", "learned"]
    assert (at["1 h"], at["1 month"]) == ("80.00", "75.00")
    runs.add("rte", [55.0], t=MONTH).add("rte", [50.0], "dac_range", t=MONTH)
    found = runs.table("lammie2024_figure3")
    assert found[f"A: {FULL}", "learned", "learned"]["1 month"] == "55.00"
    assert found[f"B: {FULL}", "learned, post-training", "learned"]["1 h"] == "–"
    only = Runs().add("rte", [60.0])
    assert [name for name, _ in only.chapter.parts if "figure3" in name] == []  # an hour alone is no curve


def test_what_is_missing_stands_there_with_its_command():
    runs = Runs().add("mrpc", [70.0], **FIXED)
    said = runs.chapter.missing
    tuned = next(
        line for line in said if line.startswith("Table II, input range post-training, conductance range post-training")
    )
    assert f"analog-glue tune checkpoint=outputs/{runs.rows[0].run} noise=pcm tile=lammie2024 tuning=lammie2024" in tuned
    trained = next(line for line in said if line.startswith("Table II, input range none"))
    assert "RTE, STS-B, CoLA" in trained and "MRPC" not in trained
    assert "-m +experiment=lammie2024_table2 task=rte,stsb,cola,sst2,qnli,qqp,mnli model=tiny" in trained
    assert trained.endswith("training.input_range.learning_rate=0 training.output_scale_learning_rate=0`")
    shorter = Runs().add("mrpc", [70.0], **{"training.epochs": 3}).chapter.missing
    assert all("training.epochs=3" in line for line in shorter if "analog-glue train" in line)
    assert any(line.startswith("Figure 3, input range none") and "+experiment=lammie2024_figure3" in line for line in said)


@pytest.mark.slow
def test_commands_of_training_are_understood_and_make_the_configuration_they_stand_beside():
    runs = Runs().add("mrpc", [70.0], **{**FIXED, "training.weight_clip": None, "training.quantisation": False})
    commands = [line.partition("`")[2].partition("`")[0].split()[1:] for line in runs.chapter.missing]
    trains = [words for command, *words in commands if command == "train"]
    assert len(trains) > 4
    with Composer("train") as composer:
        for words in trains:
            one = [w.removeprefix("+").split(",")[0] for w in split_flags(words)[1]]
            composer.compose(one)  # which refuses what is wrong
    (own,) = [words for words in trains if "training.weight_clip=null" in words and "task=" in " ".join(words)]
    with Composer("train") as composer:
        composed = composer.compose([w.removeprefix("+").split(",")[0] for w in split_flags(own)[1]])
    chosen = composed.config["training"]
    payload = {"training.weight_clip": chosen["weight_clip"], "training.quantisation": chosen["quantisation"]}
    payload |= {"training.input_range.learning_rate": chosen["input_range"]["learning_rate"]}
    payload |= {"training.output_scale_learning_rate": chosen["output_scale_learning_rate"]}
    assert configuration_of(payload, "") == NONE._replace(unclipped=True, unquantised=True)


def test_the_preset_is_what_the_report_holds_for_the_paper():
    training = yaml.safe_load((conf_dir() / "training" / "lammie2024.yaml").read_text())
    experiment = yaml.safe_load((conf_dir() / "experiment" / "lammie2024_table2.yaml").read_text())
    for key, wanted in PAPER.items():
        node = {"training": training, "hardware": experiment["hardware"]}
        for name in key.split("."):
            node = node[name]
        assert node == wanted, key


@pytest.mark.slow
def test_table_and_figure_are_written_in_five_formats(tmp_path):
    runs = Runs().add("mrpc", [70.0, 71.0]).add("mrpc", [65.0, 66.0], t=MONTH).add("mrpc", [68.0, 69.0], "auto")
    write(tmp_path, runs.rows)
    for name, payload in runs.settings.items():
        command = "tune" if "tuning" in payload else "train"
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"command": command, "name": name, "identity": payload}))
    report = build(tmp_path)
    names = {path.name for path in report.paths}
    figure = "lammie2024_figure3-tiny-pcm"
    assert {f"{figure}.png", f"{figure}.svg", "lammie2024_figure3.csv", "lammie2024_table2.csv"} <= names
    assert f"]({figure}.png)" in report.markdown and "input range" in report.markdown
    latex = (tmp_path / "tables" / "tables.tex").read_text()
    assert f"tab:{figure}" in latex and "tab:lammie2024_table2-tiny-pcm" in latex
    assert "| clipping, I/O quantised" in report.markdown and "learned, auto" in report.markdown


def test_a_tuned_network_is_named_as_one_and_paired_with_its_own():
    assert Training("hardware_aware+lammie2024", "").title == "hardware-aware training, tuned (lammie2024)"
    assert Training("digital+auto", "epochs 3").title == "digital training, tuned (auto) [epochs 3]"
    assert Training("hardware_aware", "").title == "hardware-aware training"
    at = {"task": "mrpc", "metric": "f1"}
    rows = [
        *chips([70.0, 72.0], HOUR, True, "digital", **at),
        *chips([75.0, 79.0], HOUR, True, "digital+auto", run="digital-0/tuned-auto-x", **at),
        *chips([80.0, 80.0], HOUR, True, "hardware_aware", **at),
        *chips([81.0, 82.0], HOUR, True, "hardware_aware+auto", run="hardware_aware-0/tuned-auto-x", **at),
    ]
    (section,), _ = pivot(rows)
    names = {(one.training.name, other.training.name) for one, other in section.pairs()}
    assert names == {
        ("digital+auto", "digital"), ("hardware_aware", "digital"), ("hardware_aware+auto", "hardware_aware"),
    }  # fmt: skip
    titles = [cells[0] for cells in glue_grid({"mrpc": section}, published_numbers()).rows]
    assert "digital training, tuned (auto), compensated" in titles and "C: hardware-aware training, compensated" in titles


def test_a_tuned_network_is_compared_with_no_training_but_its_own():
    own, other, tuned = "demo-60", "demo-160", "demo-60/tuned-auto-x"
    rows = [*chips([75.0, 79.0], HOUR, True, "digital+auto", run=tuned, train_ids=tuned, recipe="tuned")]
    for name in (own, other):
        rows += chips([70.0, 72.0], HOUR, True, "digital", run=name, train_ids=name, recipe=name)
    rows += chips([80.0, 80.0], HOUR, True, "hardware_aware")
    (section,), _ = pivot(rows, {own: {"training.max_steps": "60"}, other: {"training.max_steps": "160"}, tuned: {}})
    paired = {tuple((variant.training.name, variant.training.recipe) for variant in pair) for pair in section.pairs()}
    short, long = ("digital", "max_steps 60"), ("digital", "max_steps 160")
    trained = ("hardware_aware", "")
    assert paired == {(("digital+auto", ""), short), (trained, short), (trained, long)}


def test_the_hardware_that_ranges_were_tuned_for_is_said_only_where_two_share_a_table():
    def tuned(bits, epochs, on):
        run = f"run-{epochs}/tuned-auto-{bits}"
        settings[run] = {"training.epochs": epochs, "tuned.tile.adc_bits": bits, "tuned.run": f"run-{epochs}"}
        return [
            *chips([75.0, 79.0], HOUR, True, "digital+auto", run=run, train_ids=run, recipe=run, hardware_id=on, tile=on),
            row("digital", 90.0, "digital+auto", run=run, train_ids=run, recipe=run, hardware_id=on, tile=on),
        ]

    settings = {}
    one, other = tuned("8", "3", "coarse"), tuned("10", "3", "fine")
    apart, _ = pivot([*one, *other], settings)
    assert [{variant.title for variant in section.cells} for section in apart] == [
        {"digital training, tuned (auto), compensated"}
    ] * 2
    assert all(len(section.digital) == 1 for section in apart)  # both are one network

    beside = tuned("6", "3", "fine")  # for other tiles, and yet tried on these
    coarse, fine = pivot([*one, *other, *beside], settings)[0]
    assert {variant.training.recipe for variant in fine.cells} == {"adc_bits 10", "adc_bits 6"}
    assert {variant.training.recipe for variant in coarse.cells} == {""}

    shorter = tuned("10", "1", "fine")  # of another network
    coarse, fine = pivot([*one, *shorter], settings)[0]
    recipes = {variant.training.recipe for section in (coarse, fine) for variant in section.cells}
    assert recipes == {"epochs 3", "epochs 1"}


def test_averages_whose_metrics_are_not_stated_stand_in_no_table_of_glue():
    lines = {line[0].line for line in published_lines(published_numbers())}
    assert "rasch2023_analog" in lines and not any(name.startswith("lammie2024") for name in lines)
