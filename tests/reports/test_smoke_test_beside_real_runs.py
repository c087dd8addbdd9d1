"""A smoke test and two real runs in one folder, made and tabulated by the command line."""

import re

import pytest

from analog_glue.cli.main import main

TINY = [
    "task=demo", "model=tiny", "model.hidden=16", "model.heads=2", "model.layers=1", "training=digital", "task.train_size=64",
    "task.validation_size=50", "evaluation.chips=1", "evaluation.times=[1]", "evaluation.ideal_devices=false",
]  # fmt: skip


@pytest.mark.slow
def test_a_smoke_test_is_averaged_with_nothing_and_its_line_says_what_differs(tmp_path, capsys):
    for seed, steps in ((9, 1), (0, 2), (1, 2)):
        assert main(["train", *TINY, f"seed={seed}", f"training.max_steps={steps}", f"output_root={tmp_path}"]) == 0
    capsys.readouterr()
    assert main(["tables", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    legend = [line for line in lines if line.startswith("- ")]
    assert [re.search(r"\[(.*)\]", line).group(1) for line in legend] == ["max_steps 1", "max_steps 2"]
    seeds = next(line for line in lines if line.startswith("| training seeds"))
    assert [cell.strip() for cell in seeds.strip("|").split("|")][1:] == ["1", "2"]
