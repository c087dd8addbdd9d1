"""The plan of the measured record can be run as it stands, and the runner goes on where it stopped."""

import importlib.util
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from analog_glue.cli.main import main
from analog_glue.configuration.compose import Composer
from analog_glue.settings import Specify
from tests.test_documentation import LOOK_FOR_FILES, on_paper_runs, what_is_wrong

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
__all__ = ["on_paper_runs"]  # a fixture


def load(name: str):
    specification = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


SHORT = {field.name for field in fields(Specify)}  # typed without `specify.`
plan = load("record_plan")
record = load("record")


def as_composed(command: str, word: str, run: Path) -> str:
    """The word with a run that is there for the network that it names, by its full key."""
    if command == "specify" and word.partition("=")[0] in SHORT:
        return f"specify.{word}"
    return word.partition("{")[0] + f"'{run}'" if "{" in word else word


@pytest.mark.slow
@pytest.mark.parametrize("name", plan.RECORDS)
def test_every_command_of_the_plan_can_be_composed_and_built(name, on_paper_runs, monkeypatch):
    for file in LOOK_FOR_FILES:
        monkeypatch.setattr(file, lambda self, *_: None)
    found = {}
    for command in ("train", "evaluate", "tune", "specify", "place", "extract"):
        with Composer(command) as composer:
            for step in plan.RECORDS[name]():
                if step.words[0] == command:
                    kind = "in situ" if command == "extract" else "pcm"
                    words = [as_composed(command, word, on_paper_runs[kind]) for word in step.words]
                    found[step.name] = what_is_wrong(composer, words)
    assert found and {name: message for name, message in found.items() if message} == {}


def test_a_step_follows_the_one_that_trains_its_network_and_takes_time():
    for name in plan.RECORDS:
        before: dict[str, plan.Step] = {}
        for step in plan.steps([name]):
            assert all(before[need].words[0] == "train" for need in step.needs), step.name
            assert 10 < step.seconds < 8 * 3600
            before[step.name] = step
    together = plan.steps(list(plan.RECORDS))
    assert len({step.name for step in together}) == len(together) == len({step.words for step in together})


def tiny(name: str, *words: str) -> object:
    return plan.Step(name, words, 1.0)


TRAIN = (
    "train", "task=demo", "model=tiny", "task.train_size=64", "task.validation_size=32", "training.epochs=1",
    "training=digital", "evaluation.chips=0",
)  # fmt: skip


def test_what_failed_is_tried_again_and_what_is_done_is_not(tmp_path, monkeypatch, capsys):
    sweep = ("noise=pcm", "evaluation.chips=2", "evaluation.times=[1]")
    steps = [
        tiny("network", *TRAIN),
        tiny("wrong", *TRAIN, "noise.noise_scale=-1"),
        tiny("scored on it", "evaluate", "checkpoint={wrong}", *sweep),
        tiny("scored", "evaluate", "checkpoint={network}", *sweep),
        tiny(
            "specified", "specify", "checkpoint={network}", *sweep[:2], "time=60", "keep=50", "looks=1", "knobs=[programming]"
        ),
        tiny("placed", "place", "checkpoint={network}", *sweep, "place.group=kind", "place.sets=1"),
    ]
    maker = record.Maker(tmp_path, steps)
    maker.work()
    assert [maker.is_done(step.name) for step in steps] == [True, False, False, True, True, True]
    assert "wrong FAILED with exit status 2" in capsys.readouterr().out
    assert "noise.noise_scale" in maker.log(steps[1]).read_text()
    called = []
    again = record.Maker(tmp_path, steps)
    monkeypatch.setattr(again, "call", lambda step: (called.append(step.name), again.failed.add(step.name)))
    again.running = set()
    monkeypatch.setattr(again, "waits", lambda: False)
    again.work()
    assert called == ["wrong"]

    copy = tmp_path / "record"
    logs = [maker.log(steps[0]), maker.log(steps[3])]
    count = record.collect(logs, maker.folder / "outputs", copy)
    places = [file.relative_to(copy).parts[1:] for file in copy.rglob("*") if file.is_file()]
    of_run = {parts[0] for parts in places if len(parts) == 1}
    of_sweep = {parts[1] for parts in places if len(parts) == 2}
    assert count == len(places) == 6 and of_run == {"run.json", "run_config.json"}
    assert of_sweep == {"run.json", "config.json", "results.csv", "input_ranges.json"}
    answers = tmp_path / "answers"
    record.collect([maker.log(step) for step in (steps[0], *steps[4:])], maker.folder / "outputs", answers)
    found = {file.name for file in answers.rglob("*") if file.is_file()}
    assert {"answer.json", "specification.md", "knobs.png", "placement.md", "front.csv", "front.png", "results.csv"} <= found
    assert not {name for name in found if name.endswith((".safetensors", ".svg"))}
    assert main(["tables", str(copy)]) == 0
    assert main(["tables", str(answers)]) == 0
    assert {file.name[:5] for file in (answers / "tables").glob("*picture.png")} == {"place", "speci"}
