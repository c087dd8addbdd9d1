"""What `analog-glue COMMAND --help` says: every setting of the command, with what it means, as it can be typed."""

import re
import shlex
from dataclasses import asdict

import pytest

from analog_glue.cli.help import KEY, WIDTH, _settings, explanations, head_of
from analog_glue.configuration.compose import Composer, conf_dir, option_comments, option_files, option_yaml
from analog_glue.configuration.wording import COMPONENTS
from analog_glue.settings import COMMANDS_OF, RUNS, RunSettings, commands_of


def shown_settings(text: str) -> list[str]:
    """The words `key=value` that a help shows, as a shell reads them."""
    below = text.partition("settings, key=value\n")[2].partition("\n\n")[0]
    lines = [line for line in below.splitlines() if not line.startswith(" " * KEY)]
    return [shlex.split(line, comments=True)[0] for line in lines]


@pytest.mark.parametrize("command", RUNS)
def test_help_says_what_a_command_does_and_shows_its_own_settings_alone(run, command):
    answer = run(command, "--help")
    assert answer.code == 0 and answer.err == ""
    title, examples, _ = head_of(conf_dir() / f"{command}.yaml")
    assert " ".join(answer.out.split()).startswith(f"analog-glue {command}: {title}")
    assert all(f"  {example}\n" in answer.out for example in examples) and examples
    assert max(len(line) for line in answer.out.splitlines() if "analog-glue" not in line and "=" not in line) <= WIDTH
    keys = [word.partition("=")[0] for word in shown_settings(answer.out)]
    assert "dry_run" in keys and ("checkpoint" in keys) == (command != "train")
    assert all(command in commands_of(key) for key in keys)
    sections = {key.partition(".")[0] for key in keys}
    assert sections.isdisjoint({"extract", "tune", "specify", "place", "publish"} - {command})


@pytest.mark.parametrize("words", [["train"], ["train", "training=ttv2", "task=digits"], ["tune"], ["factsheet"]], ids=" ".join)
def test_every_setting_can_be_typed_as_it_is_shown_and_is_then_what_it_was(run, words):
    command, *choices = words
    typed = shown_settings(run(*words, "--help").out)
    assert len(typed) > 20
    with Composer(command) as composer:
        assert composer.compose([*choices, *typed]).config == composer.compose(choices).config


def test_help_is_that_of_the_options_that_are_chosen(run):
    in_situ = run("train", "training=ttv2", "task=digits", "--help").out
    assert "  training.transfer_every=2 " in in_situ and "  device.dw_min=" in in_situ
    assert "  training=    " in in_situ and "ttv2*" in in_situ
    assert "tile.adc_bits" not in in_situ and "evaluation.chips" not in in_situ  # such trainings refuse both
    on_pcm = run("train", "tile.adc_bits=6", "--help").out
    assert re.search(r"^  tile\.adc_bits=6 +# null: ideal, no bound$", on_pcm, re.MULTILINE) and "device.dw_min" not in on_pcm
    assert "specify_bert" not in on_pcm and "specify_bert" in run("specify", "--help").out


def test_an_experiment_of_ones_own_needs_no_comment(run, tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
    answer = run("train", "--config-dir", str(tmp_path), "+experiment=mine", "--help")
    assert answer.code == 0 and "mine*" in answer.out and re.search("^  seed=7 ", answer.out, re.MULTILINE)


def test_a_mistyped_setting_is_refused_in_a_help_too(run):
    answer = run("tune", "tile.adc_bitz=6", "--help")
    assert answer.code == 2 and "Did you mean `tile.adc_bits`?" in answer.err


@pytest.mark.parametrize("group", COMPONENTS)
def test_every_setting_of_every_option_is_explained(group):
    """Beside it, beside a section around it, or by the source of a number."""
    files = option_files(group, [conf_dir()])
    for name in files:
        said = option_comments(name, files)
        keys = [key for key, _ in _settings(option_yaml(name, files), said)]
        around = {key: [key[: found.start()] for found in re.finditer(r"\.|$", key)] for key in keys}
        assert [key for key in keys if not any(part in said for part in around[key])] == [], f"conf/{group}/{name}.yaml"


def test_every_setting_of_a_run_is_explained():
    said = explanations(RunSettings)
    keys = [key for key, _ in _settings(asdict(RunSettings()), said)]
    assert [key for key in keys if key not in said] == []
    assert said["evaluation.times"] == "[s] after programming"
    assert said["extract.array.w_max"] == "nominal range of the devices"


OTHERS = {
    "train ablate=true": "`evaluate`",
    "evaluate best_of=2": "`train`",
    "diagnose sequence_length=64": "`place`, `factsheet`",
    "evaluate seed=1": "`train`, `extract`",
    "factsheet force=true": "`train`",
    "factsheet data.root=data": "`train`",
    "place evaluation.also=[reram]": "`train`, `evaluate`",
    "specify evaluation.times=[1]": "`train`",
    "train tune.chips=2": "`tune`",
}


@pytest.mark.parametrize("words", OTHERS)
def test_a_setting_that_would_do_nothing_is_refused(run, words):
    command, word = words.split()
    answer = run(command, word)
    assert answer.code == 2
    said = f"Setting `{word.partition('=')[0]}` must be left out of `{command}`, where it would do nothing."
    assert said in answer.err and OTHERS[words] in answer.err.partition(said)[2]


def test_an_experiment_cannot_set_what_would_do_nothing_either(run, tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nablate: true\n")
    answer = run("train", "--config-dir", str(tmp_path), "+experiment=mine", "dry_run=true")
    assert answer.code == 2 and "Setting `ablate` must be left out of `train`" in answer.err


def test_only_settings_that_exist_belong_to_some_commands():
    with Composer("train") as composer:
        config = composer.compose([]).config
    for key, commands in COMMANDS_OF.items():
        node = config
        for part in key.split("."):
            node = node[part]
        assert set(commands) <= set(RUNS)
