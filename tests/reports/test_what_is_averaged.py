"""Only what differs in its seed or its chip alone is averaged, and only scores of the same noise are paired."""

import json
from dataclasses import replace

import pytest

from analog_glue.reports.build import build
from analog_glue.reports.drift import drift_grid, drift_table
from analog_glue.reports.missing import missing_commands
from analog_glue.reports.sections import Training, Variant, pivot
from analog_glue.runs.rows import Measurement, ResultsFile
from tests.reports.test_tables import DEMO, HOUR, A, B, C, chips, row

COMPILED = {"stream": "threefry-4x32-13", "product": "int8_single"}
REFERENCE = {"stream": "torch", "product": "float32"}


# --- Pairs ---------------------------------------------------------------------------------------------------


def test_only_chips_of_one_stream_are_paired_and_the_note_says_how_many_are_not():
    rows = [
        *chips([80.0, 82.0, 84.0], HOUR, True, "digital", **COMPILED),
        *chips([85.0, 86.0, 87.0, 99.0], HOUR, True, "hardware_aware", **REFERENCE),
        *chips([81.0], HOUR, True, "hardware_aware", **COMPILED),
    ]
    (section,), _ = pivot(rows)
    found = section.difference(C, B, HOUR)
    assert (found.mean, found.chips, found.error) == (1.0, 1, None)
    # Chips 0, 1 and 2 of the reference have no partner; chip 3 is not there on the other side at all.
    left_out, streams = section.unpaired(C, B)
    assert left_out == 3 and streams == {("torch", "float32"), ("threefry-4x32-13", "int8_single")}
    note = drift_grid(section).note
    assert "3 chip(s) left out of C − B: their noise comes from different streams" in note
    assert "(threefry-4x32-13 int8_single and torch float32)" in note and "`runtime.kernel` and `runtime.product`" in note


def test_a_chip_of_two_streams_counts_as_two_in_a_mean():
    rows = [row("chip", value, chip=0, t_seconds=HOUR, compensated=True, **of)
            for value, of in ((80.0, COMPILED), (84.0, REFERENCE))]  # fmt: skip
    (section,), _ = pivot(rows)
    found = section.statistic(B, HOUR)
    assert (found.mean, found.chips, found.error) == (82.0, 2, pytest.approx(2.0))


def test_a_chip_multiplied_in_two_ways_is_one_chip_and_each_way_is_paired_with_its_like():
    int8 = COMPILED | {"product": "int8"}
    rows = [
        *chips([80.0, 82.0], HOUR, True, "digital", **COMPILED), *chips([81.0, 83.0], HOUR, True, "digital", **int8),
        *chips([85.0], HOUR, True, "hardware_aware", **COMPILED), *chips([88.0], HOUR, True, "hardware_aware", **int8),
    ]  # fmt: skip
    (section,), _ = pivot(rows)
    found, paired = section.statistic(B, HOUR), section.difference(C, B, HOUR)
    assert (found.mean, found.chips, found.error) == (81.5, 2, pytest.approx(1.0))  # of 80.5 and 82.5
    assert (paired.mean, paired.chips) == (6.0, 1)  # of 5 and 7


@pytest.mark.parametrize("other", [{"product": "int8"}, {"stream": "torch"}, {"stream": "", "product": ""}])
def test_a_chip_of_another_product_or_an_unknown_stream_is_no_partner(other):
    rows = [*chips([80.0], HOUR, False, "digital", **COMPILED), *chips([85.0], HOUR, True, "digital", **{**COMPILED, **other})]
    (section,), _ = pivot(rows)
    assert section.difference(B, A, HOUR) is None and section.unpaired(B, A)[0] == 1


def test_rows_older_than_the_stream_are_paired_with_each_other_and_the_note_is_as_ever():
    (section,), _ = pivot(DEMO)
    assert section.difference(C, B, HOUR).chips == 3 and "left out" not in drift_grid(section).note


def test_a_second_stream_asks_for_no_more_chips_of_the_others():
    again = [replace(r, **REFERENCE) for r in DEMO if r.stage == "chip" and r.training == "digital"]
    assert missing_commands(pivot([*DEMO, *again])[0]) == []


# --- Data ----------------------------------------------------------------------------------------------------


def of_data(data: str, shift: float, rows: list[Measurement] = DEMO) -> list[Measurement]:
    return [replace(r, data=data, sweep=f"pcm-{data}", value=r.value + shift) for r in rows]


FILMS, FLIPPED = "f11m5000aaaa", "f11pped0bbbb"


def test_rows_of_other_data_are_another_section_with_its_own_digital_and_majority_score():
    sections, _ = pivot([*of_data(FILMS, 0.0), *of_data(FLIPPED, -15.0)])
    assert [s.data_title for s in sections] == ["data f11m5000", "data f11pped0"]
    films, flipped = sections
    assert films.statistic(B, HOUR).mean == 88.0 and flipped.statistic(B, HOUR).mean == 73.0
    assert (films.majority, flipped.majority) == (20.0, 5.0)
    assert films.change(B, HOUR).mean == flipped.change(B, HOUR).mean == -2.0
    assert "demo (accuracy, headline), data f11pped0: tiny" in drift_table([*of_data(FILMS, 0.0), *of_data(FLIPPED, 0.0)])


def test_one_data_is_not_told():
    assert drift_table(of_data(FILMS, 0.0)) == drift_table(DEMO)


def test_another_model_on_its_own_data_is_told_by_its_name():
    sections, _ = pivot([*of_data(FILMS, 0.0), *of_data(FLIPPED, 0.0, [replace(r, model="minilm") for r in DEMO])])
    assert [s.data_title for s in sections] == ["", ""] and [s.majority for s in sections] == [20.0, 20.0]


def test_rows_of_another_number_of_examples_are_of_other_data_even_where_no_fingerprint_tells():
    sections, _ = pivot([*DEMO, *(replace(r, examples=50, value=r.value / 2) for r in DEMO)])
    assert [(s.examples, s.statistic(B, HOUR).mean) for s in sections] == [(500, 88.0), (50, 44.0)]
    assert sections[1].data_title == "50 examples, not recorded which"


def test_chips_added_to_an_older_sweep_stay_in_its_table_and_are_paired_among_themselves():
    added = [chips([90.0] * 4, HOUR, compensated, "digital", **COMPILED)[3] for compensated in (True, False)]
    (section,), _ = pivot([*DEMO, *added])
    assert section.statistic(B, HOUR).chips == 4 and section.difference(B, A, HOUR).chips == 4
    assert section.unpaired(B, A)[0] == 0


@pytest.mark.slow
def test_an_older_sweep_takes_its_data_from_the_file_beside_its_rows(tmp_path):
    for name, fingerprint, rows in (("old", FILMS, DEMO), ("new", "", of_data(FLIPPED, -10.0))):
        ResultsFile(tmp_path / name).append(rows)
        (tmp_path / name / "run.json").write_text(json.dumps({"command": "sweep", "data": {"fingerprint": fingerprint}}))
    text = build(tmp_path).markdown
    assert "data f11m5000: tiny" in text and "data f11pped0: tiny" in text


@pytest.mark.slow
def test_tables_and_files_of_several_data_are_told_apart(tmp_path):
    rows = [replace(r, task="mrpc", metric="f1") for r in DEMO]
    ResultsFile(tmp_path / "one").append(of_data(FILMS, 0.0, rows))
    ResultsFile(tmp_path / "two").append(of_data(FLIPPED, -10.0, rows))
    report = build(tmp_path)
    titles = [line for line in report.markdown.splitlines() if line.startswith("## GLUE")]
    assert titles == [
        "## GLUE at 1 month: tiny, pcm on spoon2021 (MRPC: data f11m5000)",
        "## GLUE at 1 month: tiny, pcm on spoon2021 (MRPC: data f11pped0)",
    ]
    pictures = [path.name for path in report.paths if path.suffix == ".png" and path.name.startswith("drift")]
    assert pictures == ["drift-tiny-pcm-spoon2021-data_f11m5000.png", "drift-tiny-pcm-spoon2021-data_f11pped0.png"]
    for name in ("drift.csv", "differences.csv"):
        lines = (tmp_path / "tables" / name).read_text(encoding="utf-8").splitlines()
        assert lines[0].endswith(",data") and {line.rpartition(",")[2] for line in lines[1:]} == {FILMS, FLIPPED}
    written = (tmp_path / "tables" / "tables.tex").read_text().splitlines()
    labels = [line for line in written if line.startswith(r"\label") and "figure" not in line]
    assert len(labels) == len(set(labels)) == 4


# --- Seeds ---------------------------------------------------------------------------------------------------

SMOKE: dict[str, object] = {
    "training.max_steps": 1,
    "training.learning_rate": 2e-5,
    "task.max_length": 128,
    "model.weights": "a" * 64,
}
REAL = SMOKE | {"training.max_steps": None}


def trained(seed: int, recipe: str, score: float, **changes: object) -> Measurement:
    named = {"run": f"demo-{recipe}-{seed}", "train_ids": f"{recipe}{seed}", "recipe": recipe}
    return row("digital", score, seed=seed, **{**named, **changes})


def test_seeds_are_averaged_only_where_nothing_else_differs_and_another_line_says_what_does(tmp_path):
    runs = [(trained(9, "5m0ce00d", 50.0), SMOKE), (trained(0, "12ea1a6e", 90.0), REAL), (trained(1, "12ea1a6e", 92.0), REAL)]
    for measured, settings in runs:
        folder = tmp_path / measured.run
        ResultsFile(folder / "pcm").append([measured])
        run = {"command": "train", "name": measured.run, "identity": settings | {"seed": measured.seed}}
        (folder / "run.json").write_text(json.dumps(run))
    report = build(tmp_path).markdown
    header, digital, seeds = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in report.splitlines()
        if line.startswith(("|    ", "| digital", "| training seeds"))
    )
    assert header[1:] == ["digital training [max_steps 1]", "digital training [max_steps null]"]
    assert digital[1:] == ["50.00", "91.00 ± 1.00"] and seeds[1:] == ["1", "2"]


def lines_of(*runs: tuple[Measurement, dict[str, object]]) -> set[str]:
    (section,), _ = pivot([measured for measured, _ in runs], {measured.run: settings for measured, settings in runs})
    return {training.recipe for training in section.digital}


def test_what_the_seed_draws_does_not_tell_trainings_apart():
    drawn = [SMOKE | {"seed": seed, "data": f"{seed}" * 16} for seed in (0, 1)]
    faster = REAL | {"seed": 0, "data": "0" * 16}
    found = lines_of((trained(0, "aa", 1.0), drawn[0]), (trained(1, "aa", 2.0), drawn[1]), (trained(0, "bb", 3.0), faster))
    assert found == {"max_steps 1", "max_steps null"}


def test_two_settings_of_one_name_are_told_with_their_full_keys():
    one, other = {"noise.g_max": 25.0, "tile.g_max": 1.0}, {"noise.g_max": 20.0, "tile.g_max": 2.0}
    found = lines_of((trained(0, "aa", 1.0), one), (trained(0, "bb", 2.0), other))
    assert found == {"noise.g_max 25.0, tile.g_max 1.0", "noise.g_max 20.0, tile.g_max 2.0"}


def test_many_settings_that_differ_are_told_in_short_with_the_hash_that_tells_them_apart():
    one, other = ({f"training.s{number}": number + plus for number in range(6)} for plus in (0, 10))
    third = other | {"training.s5": 99}
    found = lines_of((trained(0, "a" * 16, 1.0), one), (trained(0, "b" * 16, 2.0), other), (trained(0, "c" * 16, 3.0), third))
    start = "s0 10, s1 11, s2 12, s3 13, 2 more"
    assert found == {"s0 0, s1 1, s2 2, s3 3, 2 more", f"{start}, bbbbbbbb", f"{start}, cccccccc"}


def test_trainings_whose_settings_are_not_at_hand_are_told_apart_by_their_hash_and_a_remark_says_so():
    rows = [trained(0, "12ea1a6e00", 90.0), trained(1, "5m0ce00d00", 50.0)]
    (section,), remarks = pivot(rows)
    assert {training.title for training in section.digital} == {"digital training [12ea1a6e]", "digital training [5m0ce00d]"}
    assert "settings are not at hand" in remarks[0]


def test_rows_older_than_the_recipe_are_a_line_of_their_own():
    (section,), _ = pivot([trained(0, "", 80.0), trained(1, "12ea1a6e", 90.0)])
    assert {training.recipe for training in section.digital} == {"settings not recorded", "12ea1a6e"}


def test_the_same_training_twice_is_two_lines_not_two_chips():
    rows = [trained(0, "12ea1a6e", 80.0, train_ids="first"), trained(0, "12ea1a6e", 90.0, train_ids="second")]
    (section,), remarks = pivot(rows)
    assert {training.recipe for training in section.digital} == {"first", "second"}
    assert "of the same seed" in remarks[0]


def test_lines_of_one_recipe_are_compared_with_the_digital_training_that_is_alone():
    told = {"run-c": SMOKE, "run-d": REAL}
    rows = [r for r in DEMO if r.training == "digital"]
    for name, recipe in (("run-c", "cc"), ("run-d", "dd")):
        about = {"run": name, "train_ids": name, "recipe": recipe}
        rows += chips([86.0, 87.0, 88.0], HOUR, True, "hardware_aware", **about)
    (section,), _ = pivot(rows, told)
    smoke = Variant(Training("hardware_aware", "max_steps 1"), True)
    assert (smoke, B) in section.pairs() and section.difference(smoke, B, HOUR).mean == -1.0
