"""A file of a run that is cut off or foreign: what goes on from the run names it in one message."""

import shutil
from pathlib import Path

import pytest

from analog_glue.cli.main import main

SMALL = [
    "task=demo", "task.train_size=32", "task.validation_size=16", "model=tiny", "model.hidden=16", "model.heads=2",
    "model.intermediate=16", "runtime.kernel=reference", "hardware.calibration.examples=8",
]  # fmt: skip
CHIP = ["evaluation.chips=1", "evaluation.times=[1]", "runtime.kernel=reference", "hardware.calibration.examples=8"]
TUNED = ["tuning=dac_range", "tune.examples=8", "tune.compared=4", "tune.judged=4", *CHIP]
DIGITS = ["task=digits", "task.train_images=60", "device=soft_bounds", "training=ttv2", "training.epochs=2"]
SPOIL = {
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "no text": lambda file: file.write_bytes(bytes(range(256))),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    assert main(["train", *SMALL, "training=digital", "training.max_steps=1", *CHIP, f"output_root={root}"]) == 0
    (run,) = root.glob("demo-*")
    assert main(["tune", f"checkpoint={run}", *TUNED, f"output_root={root}"]) == 0
    assert main(["train", *DIGITS, f"output_root={root}"]) == 0
    (run,) = root.glob("digits-*")
    assert main(["extract", f"checkpoint={run}", "extract.products=200", "extract.prune=[0.5]"]) == 0
    (extraction,) = run.glob("extraction-*")
    assert main(["evaluate", f"checkpoint={extraction}", *CHIP, f"output_root={root}"]) == 0
    return root


AGAIN = {  # command and the pattern of what it goes on from → patterns of files that it reads
    ("evaluate", "demo-*"): ("pcm-*/results.csv", "run.json", "run_config.json", "config.json", "model.safetensors"),
    ("tune", "demo-*"): ("pcm-*/results.csv", "run.json", "run_config.json", "tuned-*/run.json", "tuned-*/analog.safetensors"),
    ("diagnose", "demo-*"): ("run.json", "run_config.json", "tokenizer.json"),
    ("extract", "digits-*"): ("run.json", "run_config.json", "training_state.safetensors", "extraction-*/extraction.json"),
    ("train", "digits-*"): ("run.json", "training_state.safetensors", "learning_curve.csv"),
    ("evaluate", "digits-*/extraction-*"): (
        "extracted-*/pcm-*/results.csv", "extracted.safetensors", "extraction.json", "../run.json", "../run_config.json",
    ),
}  # fmt: skip
CASES = [(*command, file, "cut") for command, files in AGAIN.items() for file in files]
CASES += [
    ("evaluate", "demo-*", file, how) for file in ("pcm-*/results.csv", "run_config.json") for how in ("no text", "a folder")
]


@pytest.mark.slow
@pytest.mark.parametrize(("command", "checkpoint", "file", "how"), CASES, ids=["-".join(case) for case in CASES])
def test_it_is_named_in_one_message(runs, tmp_path, run, command, checkpoint, file, how):
    root = Path(shutil.copytree(runs, tmp_path / "runs"))
    (folder,) = (found for found in root.glob(checkpoint) if found.is_dir())
    (spoilt,) = folder.glob(file) if ".." not in file else [folder / file]
    SPOIL[how](spoilt)
    more = {"tune": TUNED, "extract": ["extract.products=200"], "diagnose": ["runtime.kernel=reference"]}.get(command, CHIP)
    where = [] if command == "extract" else [f"output_root={root}"]
    words = [*DIGITS] if command == "train" else [f"checkpoint={folder}", *more]
    answer = run(command, *words, *where)
    assert "Traceback" not in answer.err and answer.code in (0, 2), answer.err[-3000:]
    if answer.code:
        assert spoilt.name in answer.err or str(folder.resolve()) in answer.err, answer.err
        assert len(answer.err.strip().splitlines()) == 1, answer.err
