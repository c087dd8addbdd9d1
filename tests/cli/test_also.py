"""`evaluation.also`: one command scores the same weights on chips of several kinds."""

import json

import pytest

from analog_glue.runs.rows import find_rows

DEMO = ["task=demo", "model=tiny", "training=digital", "training.max_steps=2", "evaluation.chips=1", "evaluation.times=[1]"]


@pytest.mark.slow
def test_chips_of_every_kind_carry_the_same_weights_and_are_those_of_evaluate(run, tmp_path):
    answer = run("train", *DEMO, "evaluation.also=[pcm_reduced]", f"output_root={tmp_path}")
    assert answer.code == 0
    rows = find_rows(tmp_path)
    (trained,) = {row.run for row in rows}
    assert {(row.noise, row.chip) for row in rows if row.stage == "chip"} == {("pcm", 0), ("pcm_reduced", 0)}
    (below,) = (tmp_path / trained).glob("pcm_reduced-*")
    assert json.loads((below / "config.json").read_text())["noise"]["noise_scale"] == 0.5
    again = run("evaluate", f"checkpoint={tmp_path / trained}", "noise=pcm_reduced", *DEMO[4:], f"output_root={tmp_path}")
    assert again.code == 0 and f"Already done: {below}" in again.out
    once_more = run("train", *DEMO, "evaluation.also=[pcm_reduced]", f"output_root={tmp_path}")
    assert once_more.code == 0 and f"Already done: {below}" in once_more.out
    assert find_rows(tmp_path) == rows


@pytest.mark.slow
def test_the_network_that_was_chosen_among_seeds_goes_on_all_of_them(run, tmp_path):
    answer = run("train", *DEMO, "best_of=2", "evaluation.also=[ideal]", f"output_root={tmp_path}")
    assert answer.code == 0
    on_chips = {(row.noise, row.seed) for row in find_rows(tmp_path) if row.stage == "chip"}
    assert {noise for noise, _ in on_chips} == {"pcm", "ideal"} and len(on_chips) == 2 and len({s for _, s in on_chips}) == 1


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["train", *DEMO, "evaluation.also=[pcm_reducd]"], ["Group `noise`", "pcm_reducd", "Did you mean `pcm_reduced`?"]),
        (["train", *DEMO, "evaluation.also=[pcm]"], ["evaluation.also", "noise=pcm", "scored anyway"]),
        (["train", *DEMO, "evaluation.also=[ideal,ideal]"], ["evaluation.also", "once"]),
        (["train", "task=digits", "training=ttv2", "evaluation.also=[ideal]"], ["`evaluation", "left out"]),
    ],
    ids=["unknown", "chosen", "twice", "in situ"],
)
def test_what_cannot_be_scored_too_is_said_before_training(run, tmp_path, words, parts):
    answer = run(*words, f"output_root={tmp_path}")
    assert answer.code == 2 and all(part in answer.err for part in parts)
    assert not list(tmp_path.iterdir())


def test_a_dry_run_says_what_comes_afterwards(run, tmp_path):
    answer = run("train", *DEMO, "evaluation.also=[pcm_reduced,ideal]", "dry_run=true", f"output_root={tmp_path}")
    assert answer.code == 0 and "noise=pcm_reduced, ideal" in answer.out
