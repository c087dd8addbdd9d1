"""Every option of every config group composes, builds, explains itself, and is complete."""

import dataclasses
import re
import shlex
import zipfile
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import analog_glue
from analog_glue.configuration.build import as_annotated, build
from analog_glue.configuration.compose import Composer, conf_dir
from analog_glue.configuration.wording import COMPONENTS, GROUPS
from analog_glue.errors import UserError
from analog_glue.settings import RunSettings, typed
from tests.configuration.test_refusals import COMMAND_OF

OPTIONS = [(group, file.stem) for group in COMPONENTS for file in sorted((conf_dir() / group).glob("*.yaml"))]
EXPERIMENTS = sorted(file.stem for file in (conf_dir() / "experiment").glob("*.yaml"))
FILES = sorted(conf_dir().rglob("*.yaml"))


def compose(command: str, *words: str):
    with Composer(command) as composer:
        return composer.compose(list(words))


def test_every_group_has_options():
    assert {group for group, _ in OPTIONS} == set(COMPONENTS)
    assert {folder.name for folder in conf_dir().iterdir() if folder.is_dir()} == {*GROUPS, "hydra"}  # launchers of sweeps


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda name: name)
def test_every_option_composes_and_builds(group, option):
    composed = compose(COMMAND_OF.get(group, "train"), f"{group}={option}")
    component = build(as_annotated(composed.config[group], group), group)
    assert composed.choices[group] == option
    assert type(component).__module__.startswith("analog_glue.")
    assert dataclasses.is_dataclass(component)
    assert component == build(as_annotated(composed.config[group], group), group)  # equal yaml, equal component


@pytest.mark.parametrize(
    "words",
    [
        "task=mrpc model=minilm noise=pcm seed=3 training.max_steps=10 output_root=there tile.adc_bits=null",
        "+experiment=demo task.train_size=64 evaluation.times=[1,60] evaluation.chips=2 seed=1 seed=2",
        "task=mrpc evaluation.times.1=60 tile.adc_bits=null tile.output_noise=2 runtime.device=cpu",
        "task=digits training=ttv2 training.output_scale=2 'hardware.layers=[a,b]' task.train_images=100",
    ],
)
def test_values_are_set_as_hydra_sets_them(words, monkeypatch):
    """Values that are only changed are set on what Hydra composed of the options: twelve times faster than composing anew."""
    ours = compose("train", *shlex.split(words))
    monkeypatch.setattr("analog_glue.configuration.compose._only_changes", lambda *_: False)
    hydras = compose("train", *shlex.split(words))
    assert (ours.settings, ours.choices, ours.folders) == (hydras.settings, hydras.choices, hydras.folders)
    assert repr(ours.config) == repr(hydras.config)  # order and types too


@pytest.mark.slow
@pytest.mark.parametrize("group", ["attention", "noise", "tile"])
def test_every_hardware_option_can_be_put_under_a_finished_run(group):
    for name, option in OPTIONS:
        if name == group:
            composed = compose("evaluate", "checkpoint=some/run", f"{group}={option}")
            assert composed.choices[group] == option
            assert composed.settings.task is None  # it comes with the checkpoint


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_builds(experiment):
    in_situ = "override /training: ttv2" in (conf_dir() / "experiment" / f"{experiment}.yaml").read_text()
    modes = ("chopped_ttv2", "ttv2") if in_situ else ("digital", "hardware_aware")
    for mode in modes:
        composed = compose("train", f"+experiment={experiment}", f"training={mode}")
        assert composed.choices["experiment"] == experiment
        for group in COMPONENTS:
            build(composed.config[group], group)
    assert composed == compose("train", f"experiment={experiment}", f"training={modes[-1]}")


@pytest.mark.slow
def test_what_an_experiment_says_is_still_the_users_to_change():
    composed = compose("train", "+experiment=demo", "evaluation.chips=2", "noise=reram")
    assert composed.settings.evaluation.chips == 2
    assert (composed.choices["noise"], composed.choices["task"]) == ("reram", "demo")


def test_the_defaults_are_the_main_job():
    composed = compose("train")
    assert composed.choices == {
        "task": "mrpc",
        "model": "bert_base",
        "attention": "fp32",
        "noise": "pcm",
        "tile": "spoon2021",
        "device": "soft_bounds",
        "training": "hardware_aware",
        "recipe": "none",
    }
    assert composed.settings.evaluation.chips == 25
    assert composed.settings.evaluation.times == [1, 3600, 86400, 604800, 2592000]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(conf_dir()).as_posix())
def test_every_file_opens_with_what_it_is_and_the_command_that_uses_it(file):
    comments = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comments.append(line)
    comments = [line for line in comments if "@package" not in line]
    assert comments, "no comment at the top"
    assert len(comments[0]) > 20
    if file.name != "base.yaml":
        assert any("analog-glue" in line for line in comments), "no command among the comments at the top"


def test_the_typed_settings_are_what_composes():
    composed = compose("train", "seed=3", "runtime.device=cpu", "evaluation.times=[1,60]")
    assert isinstance(composed.settings, RunSettings)
    assert composed.settings.seed == 3
    assert composed.settings.evaluation.times == [1.0, 60.0]
    assert OmegaConf.create(composed.config) is not None  # plain, resolved values only
    assert "hydra" not in composed.config


@pytest.mark.slow
def test_25_and_25_point_0_are_one_configuration():
    one = as_annotated(compose("train", "noise.g_max=25").config["noise"], "noise")
    other = as_annotated(compose("train", "noise.g_max=25.0").config["noise"], "noise")
    assert repr(one) == repr(other)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "analog_glue.cli.main.os.system",  # reached through a module of ours, and not ours
        "analog_glue.cli.main.Path",
        "analog_glue.cli.main.main",  # ours, but no class
        "analog_glue.nothing.Here",
        "analog_gluey.Thing",
        "",
        None,
    ],
)
def test_a_configuration_can_run_no_foreign_code(target):
    with pytest.raises(UserError, match=r"`noise\._target_` must name a class of analog_glue"):
        build({"_target_": target}, "noise")


def test_a_component_names_the_argument_it_does_not_know():
    node = compose("train").config["noise"]
    with pytest.raises(UserError, match=r"no setting `noise\.g_maxx`.*`noise\.g_max`"):
        build({**node, "g_maxx": 3.0}, "noise")


def test_lists_of_components_become_tuples():
    assert build({"a": [1, [2, 3]], "b": "x"}, "anything") == {"a": (1, (2, 3)), "b": "x"}


def test_a_users_own_folder_of_options_stands_beside_ours(tmp_path):
    (tmp_path / "noise").mkdir()
    text = (conf_dir() / "noise" / "pcm.yaml").read_text(encoding="utf-8")
    (tmp_path / "noise" / "mine.yaml").write_text(re.sub(r"g_max: \S+", "g_max: 20.0", text), encoding="utf-8")
    with Composer("train", str(tmp_path)) as composer:
        assert {"mine", "pcm"} <= set(composer.options("noise"))
        composed = composer.compose(["noise=mine"])
    assert composed.config["noise"]["g_max"] == 20.0


def test_an_installed_package_reads_the_same_files_as_a_checkout():
    """conf/ is inside an installed wheel and beside the package of a checkout."""
    package = Path(analog_glue.__file__).parent
    assert conf_dir() in (package / "conf", package.parent / "conf")
    assert (conf_dir() / "train.yaml").is_file()


@pytest.mark.slow
def test_the_wheel_holds_the_configuration(tmp_path):
    pytest.importorskip("hatchling")
    from hatchling.builders.wheel import WheelBuilder

    root = Path(analog_glue.__file__).parents[1]
    if not (root / "pyproject.toml").is_file():
        pytest.skip("the tests run on an installed package, not on a checkout")
    wheel = next(WheelBuilder(str(root)).build(directory=str(tmp_path), versions=["standard"]))
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"analog_glue/conf/{file.relative_to(conf_dir()).as_posix()}" for file in FILES}
    assert expected <= names
    assert {"analog_glue/py.typed", "analog_glue/reports/published.csv", "analog_glue/in_situ/reports/published.csv"} <= names


@pytest.mark.parametrize(
    "value", ["outputs/a-b_c", "/a b", "it's", "a\\'b", "/x\\", "a,b", "a=b", "$HOME", "(x)", "a'b\"c", "ä", "[a]"]
)
def test_a_setting_as_it_is_printed_comes_through_the_shell_and_hydra(value):
    (word,) = shlex.split(typed("checkpoint", value))
    with Composer("train") as composer:
        assert composer.parse(word).value() == value


@pytest.mark.parametrize("word", ["noise.g_max=inf", "evaluation.times=[1,inf]", "training.learning_rate=nan"])
def test_numbers_are_finite(word):
    with Composer("train") as composer, pytest.raises(UserError, match=word.partition("=")[0] + "` must be a finite number"):
        composer.compose(["task=demo", "model=tiny", word])


@pytest.mark.parametrize("key", ["seed", "evaluation.chip_seed"])
def test_seeds_are_no_less_than_0(key):
    with Composer("train") as composer, pytest.raises(UserError, match=f"`{key}` must be at least 0"):
        composer.compose(["task=demo", "model=tiny", f"{key}=-1"])


def test_a_variable_of_the_environment_that_is_not_set_is_named(monkeypatch):
    monkeypatch.delenv("NOWHERE", raising=False)
    with Composer("train") as composer, pytest.raises(UserError, match=r"`data.root` must be a value.*'NOWHERE' not found"):
        composer.compose(["task=demo", "model=tiny", "data.root=${oc.env:NOWHERE}"])


def test_a_range_that_is_none_is_blamed_itself_and_not_the_step_in_it():
    with pytest.raises(UserError, match=r"device\.w_max` must be positive"):
        build({"_target_": "analog_glue.in_situ.devices.soft_bounds.SoftBounds", "w_max": -1.0}, "device")
