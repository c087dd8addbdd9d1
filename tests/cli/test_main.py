"""The command line as its user meets it: what it says, how quickly, and with which exit code."""

import io
import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from analog_glue.cli.main import main
from analog_glue.cli.sweeps import _sweep_folder
from analog_glue.commands.summary import RunSummary

HEAVY = ("torch", "transformers", "datasets", "pandas", "matplotlib", "sklearn")


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """Stand-in for the command `train`: notes every job instead of running it; fails for seed 13."""
    noted = []

    def prepare(settings, task, model, device, tile, mode, config, choices, overrides, attention):
        return SimpleNamespace(**locals(), folder=tmp_path / "run")

    def run(job):
        noted.append(job)
        if job.settings.seed == 13:
            raise RuntimeError("the thirteenth run fails")
        if job.settings.seed == 14:
            raise KeyboardInterrupt
        return RunSummary(job.folder, f"table of seed {job.settings.seed}", ("go on",))

    monkeypatch.setattr("analog_glue.commands.train.prepare", prepare)
    monkeypatch.setattr("analog_glue.commands.train.run", run)
    return noted


def fresh(code: str, **environment: str) -> subprocess.CompletedProcess:
    """Run Python code in a new interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def command_line(*words: str) -> str:
    """Code that runs a command line and then names the heavy packages that it had to import."""
    return (
        f"import sys; from analog_glue.cli.main import main; code = main({list(words)!r}); "
        f"print('HEAVY', [m for m in {HEAVY} if m in sys.modules]); sys.exit(code)"
    )


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]], ids=repr)
def test_help_names_every_command_and_gives_examples(run, words):
    answer = run(*words)
    assert answer.code == 0
    for name in (
        "train",
        "evaluate",
        "tune",
        "diagnose",
        "specify",
        "place",
        "factsheet",
        "publish",
        "extract",
        "tables",
        "report",
        "list",
        "verify",
    ):
        assert re.search(rf"^  {name} ", answer.out, re.MULTILINE)
    assert "analog-glue train task=mrpc noise=pcm" in answer.out
    assert max(len(line) for line in answer.out.splitlines()) <= 110


@pytest.mark.slow
def test_help_imports_nothing_heavy():
    answer = fresh(command_line("--help"))
    assert answer.returncode == 0
    assert "HEAVY []" in answer.stdout


def test_version(run):
    assert re.fullmatch(r"analog-glue \d+\.\d+\.\d+(\.dev\d+)?\n", run("--version").out)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["evaluate", "diagnose", "specify", "place", "publish", "extract"])
def test_what_a_command_takes_is_shown_without_the_checkpoint_that_it_needs(run, command):
    answer = run(command, "--cfg", "job")
    assert answer.code == 0 and answer.err == ""
    assert "checkpoint: null\n" in answer.out and "  products: 10000\n" in answer.out
    assert "gokmen_figure3" not in answer.out  # no options of groups that come with the checkpoint


@pytest.mark.slow
def test_cfg_prints_the_configuration_that_would_run_with_flags_on_either_side(run):
    one = run("train", "task=rte", "--cfg", "job", "seed=3")
    assert one.code == 0
    assert "\nseed: 3\n" in f"\n{one.out}"
    assert "name: rte" in one.out
    assert one.out == run("train", "--cfg=job", "task=rte", "seed=3").out


MISTAKES = {
    "noise.g_maxx=3": ["`noise.g_maxx`", "g_max, noise_scale", "Did you mean `noise.g_max`?"],
    "nois=pcm": ["`nois`", "Groups: task, model, attention, noise, tile, device, training", "Did you mean `noise`?"],
    "evaluation.chip=3": ["`evaluation.chip`", "chips, times", "Did you mean `evaluation.chips`?"],
    "extract.product=3": ["`extract.product`", "Did you mean `extract.products`?"],  # rather than runtime.product
    "extract.kernel=3": ["`extract.kernel`", "Did you mean `runtime.kernel`?"],
    "chips=3": ["`chips`", "Did you mean `evaluation.chips`?"],
    "evaluatoin.chips=3": ["`evaluatoin.chips`", "Did you mean `evaluation.chips`?"],
    "noise=pmc": ["`noise`", "ideal, pcm, pcm_reduced, reram", "`pmc`", "Did you mean `pcm`?"],
    "task=mprc": ["`task`", "cola, demo, digits, mnist, mnist_lenet5, mnli, mrpc", "Did you mean `mrpc`?"],
    "noise=[pcm,reram]": ["`noise`", "ideal, pcm"],
    "noise=null": ["`noise`", "ideal, pcm", "`null`"],
    "~noise": ["`noise`", "ideal, pcm", "deleted"],
    "~seed": ["`seed`", "cannot be deleted"],
    "+experiment=dmo": ["`experiment`", "demo, digits_in_situ", "Did you mean `demo`?"],
    "seed=abc": ["`seed`", "an integer", "'abc'"],
    "seed=1.5": ["`seed`", "an integer", "1.5"],
    "seed=null": ["`seed`", "an integer", "null"],
    "+seed=1": ["`seed`", "seed=1"],
    "dry_run=maybe": ["`dry_run`", "true or false", "'maybe'"],
    "noise.g_max=abc": ["`noise.g_max`", "a number", "'abc'"],
    "noise.idle_noise=3": ["`noise.idle_noise`", "true or false", "3"],
    "evaluation=3": ["`evaluation`", "chips, times", "3"],
    "evaluation.chips=-1": ["`evaluation.chips`", "at least", "-1"],
    "evaluation.times=3": ["`evaluation.times`", "a list such as [", "3"],
    "evaluation.times=[1,a]": ["`evaluation.times`", "a list such as ["],
    "evaluation.times=1,3600": ["`evaluation.times`", "several: 1,3600", "-m", "evaluation.times=[1,3600]"],
    "noise=pcm,reram": ["`noise`", "several: pcm,reram", "-m"],
    "runtime.device=gpu": ["`runtime.device`", "auto, cpu or cuda", "'gpu'"],
    "foo": ["`foo`", "key=value"],
    "noise.g_max=[1,": ["`noise.g_max=[1,`", "Lists are written"],
    "--multi": ["--multi", "Did you mean --multirun?"],
    "--cfg=jobs": ["--cfg", "job, hydra, all", "`jobs`"],
    "--config-dir=nowhere": ["--config-dir", "`nowhere`"],
    "hydra.nothing=1": ["hydra.nothing"],
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_by_one_message_with_the_key_and_what_is_allowed(run, mistake):
    answer = run("train", mistake)
    assert answer.code == 2
    assert answer.out == ""
    assert len(answer.err.splitlines()) == 1
    assert "Traceback" not in answer.err
    for part in MISTAKES[mistake]:
        assert part in answer.err


def test_every_mistake_of_a_command_is_named_at_once(run):
    answer = run("train", "noise=pmc", "seed=abc", "evaluation.chip=3", "foo")
    assert answer.code == 2
    assert len(answer.err.splitlines()) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [["train", "noise.g_maxx=3"], ["train", "seed=abc"], ["train", "-m", "noise=pcm,pmc"], ["trian"]],
    ids=str,
)
def test_a_mistake_is_answered_before_anything_heavy_is_imported(words):
    answer = fresh(command_line(*words))
    assert answer.returncode == 2
    assert "HEAVY []" in answer.stdout


@pytest.mark.slow
def test_a_value_that_a_component_refuses_is_answered_in_the_same_way(run):
    answer = run("train", "task=demo", "model=tiny", "noise.g_max=-3")
    assert answer.code == 2
    assert "`noise.g_max`" in answer.err
    assert len(answer.err.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["training=ttv2", "task=digits", "tile.adc_bits=4"], ["`tile.adc_bits`", "training.periphery", "extract"]),
        (["training=ttv2", "task=digits", "noise=reram"], ["`noise`", "device=…", "evaluate … noise=pcm"]),
        (["training=ttv2", "task=digits", "model=tiny"], ["`model`"]),
        (["training=ttv2", "task=demo", "model=tiny", "evaluation.chips=2"], ["`evaluation.chips`"]),
        (
            ["task=demo", "model=tiny", "device=ecram"],
            ["`device`", "training=chopped_ttv2, sgd_digital,"],
        ),
        (["training=sgd_pulsed", "task=digits", "training.periphery.read_noise=0.1"], ["read_noise`", "tiki_taka"]),
        (["task=digits"], ["`training`", "hardware_aware", "`analog-glue train task=digits training=ttv2`"]),
    ],
)
def test_what_this_kind_of_training_has_not_is_refused_instead_of_ignored(run, words, parts):
    answer = run("train", *words, "dry_run=true")
    assert answer.code == 2
    for part in parts:
        assert part in answer.err


@pytest.mark.slow
def test_a_sweep_with_a_setting_that_a_job_has_not_runs_no_job(run, tmp_path):
    answer = run("train", "-m", "task=demo", "model=tiny", "training=digital,ttv2", "noise=pcm", f"output_root={tmp_path}")
    assert answer.code == 2 and "`noise`" in answer.err
    assert not list(tmp_path.iterdir())


def test_a_dry_run_of_a_sweep_describes_every_job_and_writes_nothing(run, calls, tmp_path, monkeypatch):
    def describe(job):
        if job.settings.seed == 13:
            raise RuntimeError("the thirteenth run has no description")
        return f"seed {job.settings.seed} would run"

    monkeypatch.setattr("analog_glue.commands.dry_run.describe", describe)
    root = tmp_path / "runs"
    answer = run("train", "-m", "task=demo", "model=tiny", "seed=1,13,2", "dry_run=true", f"output_root={root}")
    assert answer.code == 1 and "the thirteenth run has no description" in answer.err
    assert [line for line in answer.out.splitlines() if "would run" in line] == ["seed 1 would run", "seed 2 would run"]
    assert "[3/3] " in answer.out and "records" not in answer.out and "tables" not in answer.out
    assert calls == [] and not root.exists()


@pytest.mark.slow
def test_missing_data_is_named_with_the_setting_before_torch_is_imported():
    answer = fresh(command_line("train", "task=mrpc", "data.root=/nowhere"))
    assert answer.returncode == 2
    assert "`data.root`" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert "'torch'" not in answer.stdout


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (
            ["trian"],
            [
                "`trian`",
                "train, evaluate, tune, diagnose, specify, place, factsheet, publish, extract, tables, report, list, verify",
                "Did you mean `train`?",
            ],
        ),
        (["task=mrpc"], ["`task=mrpc`", "analog-glue train task=mrpc"]),
        (["evaluate"], ["`checkpoint`", "must name the folder"]),
        (["evaluate", "checkpoint=nowhere"], ["`checkpoint`", "`nowhere`"]),
        (["diagnose"], ["`checkpoint`", "must name the folder"]),
        (["diagnose", "checkpoint=nowhere"], ["`checkpoint`", "`nowhere`"]),
        (["place"], ["`checkpoint`", "must name the folder"]),
        (["publish", "folder=x"], ["`checkpoint`", "must name the folder"]),
        (["publish", "x", "checkpoint=nowhere"], ["`checkpoint`", "`nowhere`"]),
        (["publish", "noise=pcm", "checkpoint=x"], ["`noise`", "Everything comes with the checkpoint"]),
        (["report", "nowhere"], ["`nowhere`"]),
        (["report", "--foo"], ["--foo", "--help"]),
        (["extract"], ["`checkpoint`", "must name the folder"]),
        (["extract", "checkpoint=nowhere"], ["`checkpoint`", "`nowhere`"]),
        (["extract", "checkpoint=tests"], ["`checkpoint`", "an in-situ run", "'tests'"]),
        (["extract", "task=rte", "checkpoint=x"], ["`task`", "comes with the checkpoint"]),
        (["extract", "checkpoint=x", "extract.inputs=sine"], ["`extract.inputs`", "uniform or one_hot", "'sine'"]),
        (["evaluate", "model=tiny", "checkpoint=x"], ["`model`", "noise, tile", "come with the checkpoint"]),
        (["train", "-m", "--cfg", "job"], ["--cfg", "-m"]),
        (["tables", "--foo"], ["--foo", "--help"]),
        (["list", "foo"], ["foo", "options", "runs"]),
        (["list", "run"], ["`analog-glue list`", "`analog-glue list runs FOLDER`", "`run`", "Did you mean `runs`?"]),
        (["extract", "checkpoint=outputs/a-…"], ["`checkpoint`", "`outputs/a-…`", "the rest", "analog-glue list runs"]),
        (["evaluate", "checkpoint=outputs/a-..."], ["`checkpoint`", "`outputs/a-...`", "the rest", "analog-glue list runs"]),
        (["list", "runs", "nowhere"], ["`nowhere`"]),
        (["tables", "nowhere"], ["`nowhere`"]),
        (["verify", "--against", "nothing"], ["aihwkit"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_other_wrong_input(run, words, parts):
    answer = run(*words)
    assert answer.code == 2
    assert len(answer.err.splitlines()) == 1
    for part in parts:
        assert part in answer.err


@pytest.mark.slow
def test_a_job_gets_its_components_and_says_what_to_do_next(run, calls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = run("train", "+experiment=demo", "training=digital", "noise.g_max=20", "seed=2")
    assert answer.code == 0, answer.err
    (call,) = calls
    assert type(call.task).__name__ == "DemoTask"
    assert type(call.device).__name__ == "PCM"
    assert call.device.g_max == 20.0
    assert repr(call.config["noise"]["g_max"]) == "20.0"  # as the class has it, whatever was typed
    assert call.settings.seed == 2
    assert call.choices["model"] == "tiny"
    assert call.overrides == ["experiment=demo", "training=digital", "noise.g_max=20", "seed=2"]
    assert "table of seed 2" in answer.out
    assert "next: go on" in answer.out
    assert list(tmp_path.iterdir()) == []  # no folder or file of Hydra's


@pytest.mark.slow
def test_a_sweep_numbers_its_jobs_and_survives_one_that_fails(run, calls, tmp_path):
    answer = run("train", "task=demo", "-m", "model=tiny", "seed=1,13,2", f"output_root={tmp_path}")
    assert answer.code == 1
    assert [call.settings.seed for call in calls] == [1, 13, 2]
    for line in (
        "[1/3] ",
        "[2/3] ",
        "[3/3] ",
        "2 done, 1 failed",
        "[2] failed: RuntimeError: the thirteenth",
    ):
        assert line in answer.out
    assert f"again: analog-glue train task=demo model=tiny seed=13 output_root={tmp_path}" in answer.out
    assert "RuntimeError: the thirteenth run fails" in answer.err  # with its trace
    (folder,) = (tmp_path / "sweeps").iterdir()
    assert sorted(file.name for file in folder.iterdir()) == [
        "job_0.json",
        "job_1.json",
        "job_2.json",
        "sweep.json",
    ]
    assert json.loads((folder / "job_1.json").read_text())["status"] == "failed"


@pytest.mark.slow
def test_a_sweep_in_which_all_is_well_ends_with_0(run, calls, tmp_path):
    answer = run("train", "-m", "+experiment=demo", "training=digital,hardware_aware", f"output_root={tmp_path}")
    assert answer.code == 0
    assert "2 done\n" in answer.out
    assert [type(call.mode).__name__ for call in calls] == ["Digital", "HardwareAware"]


@pytest.mark.slow
def test_one_bad_value_in_a_sweep_stops_it_before_its_first_job(run, calls, tmp_path):
    answer = run("train", "-m", "task=demo", "model=tiny", "noise.g_max=3,-3", f"output_root={tmp_path}")
    assert answer.code == 2
    assert "`noise.g_max`" in answer.err
    assert calls == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_setting_that_only_some_options_have_is_refused_for_the_others(run, calls):
    answer = run("train", "-m", "task=demo", "model=tiny", "noise=pcm,reram", "noise.t_c=20")
    assert answer.code == 2
    assert "`noise.t_c`" in answer.err
    assert calls == []


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_the_sweep_says_what_is_left(run, calls, tmp_path):
    answer = run("train", "-m", "task=demo", "model=tiny", "seed=1,14,2", f"output_root={tmp_path}")
    assert answer.code == 130
    assert [call.settings.seed for call in calls] == [1, 14]
    assert "1 done, 1 interrupted, 1 not run" in answer.out
    assert run("train", "task=demo", "model=tiny", "seed=14").code == 130


def test_a_failure_keeps_its_trace_and_ends_with_1(run, calls):
    answer = run("train", "task=demo", "model=tiny", "seed=13")
    assert answer.code == 1
    assert "Traceback" in answer.err


def test_an_output_folder_that_cannot_be_made_is_named(run, calls, tmp_path):
    (tmp_path / "file").write_text("")
    answer = run("train", "-m", "task=demo", "model=tiny", "seed=1,2", f"output_root={tmp_path / 'file'}")
    assert answer.code == 2
    assert "`output_root`" in answer.err


def test_an_encoding_without_some_of_the_signs_gets_others(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["--help"]) == 0
    stream.flush()
    assert b"usage: analog-glue COMMAND [key=value ?]" in stream.buffer.getvalue()


def test_the_next_sweep_removes_what_a_killed_one_left_beside_its_records(tmp_path):
    killed = tmp_path / "sweeps" / "2026-01-01_00-00-00"
    killed.mkdir(parents=True)
    for name in ("sweep.json", "job_0.json", ".job_1.json.partial", "multirun.yaml"):
        (killed / name).write_text("{}")
    _sweep_folder(tmp_path / "sweeps", "train", [["seed=0"], ["seed=1"]])
    assert sorted(file.name for file in killed.iterdir()) == ["job_0.json", "sweep.json"]


def test_a_sweep_whose_reader_has_gone_ends_at_once_without_a_trace(tmp_path):
    words = ["train", "-m", "task=demo", "model=tiny", "seed=0,1", "dry_run=true", f"output_root={tmp_path}"]
    gone = fresh(
        "import sys; from analog_glue.cli import main, sweeps\n"
        "def run_job(*_): raise BrokenPipeError\n"
        f"sweeps.run_job = run_job; sys.exit(main.main({words!r}))"
    )
    assert gone.returncode == 0 and "Traceback" not in gone.stderr and "2/2" not in gone.stdout
