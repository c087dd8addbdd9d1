"""A training mode and a pulsed device are added as CONTRIBUTING says: one file of the package and one yaml each."""

import json
import re
import shutil
import sys

import pytest

import analog_glue.in_situ.devices
import analog_glue.in_situ.training
from analog_glue.cli.main import main
from analog_glue.configuration.compose import conf_dir

MODE = '''
"""Stochastic gradient descent by the sign of the gradient, in floating point."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from analog_glue.in_situ.devices.device import PulsedDevice
from analog_glue.in_situ.nn.learner import LearnerOnNumbers
from analog_glue.in_situ.training.mode import InSituMode


@dataclass(frozen=True, kw_only=True)
class ByTheSign(InSituMode):
    on_devices: ClassVar[bool] = False

    def learner(self, device: PulsedDevice, values: np.ndarray, seed: int, number: int) -> "BySignLearner":
        return BySignLearner.of(values)


@dataclass(frozen=True)
class BySignLearner(LearnerOnNumbers):
    def update(self, x: np.ndarray, d: np.ndarray, rate: float, step: int) -> None:
        np.add(self.values, np.float32(rate) * np.sign(d[:, : self.outputs].T @ x), out=self.values)

    def state(self) -> dict[str, np.ndarray]:
        return {"c": self.values}
'''
DEVICE = '''
"""Steps of one size up to the bound, and none beyond a trap of the device's own."""

from dataclasses import dataclass

import numpy as np

from analog_glue.errors import require_argument
from analog_glue.in_situ.devices.device import PulsedDevice, Steps, linear_planes


@dataclass(frozen=True, kw_only=True)
class Trapped(PulsedDevice):
    slope: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_argument(0 <= self.slope <= 1, "slope", "lie in [0, 1]", self.slope)

    def planes(self, steps: Steps, random: np.random.Generator) -> np.ndarray:
        return linear_planes(steps, self.slope, self.slope)
'''


@pytest.fixture
def added(tmp_path, monkeypatch):
    """The two files in the package's folders and the two in conf/, as far as this process sees."""
    conf = tmp_path / "conf"
    shutil.copytree(conf_dir(), conf)
    for group, package, text, option, kind in (
        ("training", analog_glue.in_situ.training, MODE, "by_the_sign", "ByTheSign"),
        ("device", analog_glue.in_situ.devices, DEVICE, "trapped", "Trapped"),
    ):
        folder = tmp_path / group
        folder.mkdir()
        (folder / f"{option}.py").write_text(text)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
        target = f"{package.__name__}.{option}"
        (conf / group / f"{option}.yaml").write_text(
            f"# What is added by two files.\n#   analog-glue train {group}={option}\n_target_: {target}.{kind}\n"
            + {"training": "epochs: 3\nlearning_rate: 1.0e-3\n", "device": "slope: 1.0\n"}[group]
        )
        monkeypatch.setitem(sys.modules, target, None)  # so that it is forgotten afterwards
        del sys.modules[target]
    monkeypatch.setattr("analog_glue.configuration.compose.conf_dir", lambda: conf)
    for kept in ("SHIPPED", "SHIPPED_OPTIONS"):
        monkeypatch.setattr(f"analog_glue.configuration.compose.{kept}", {})
    return conf


@pytest.mark.slow
def test_an_added_mode_and_device_are_listed_and_in_the_help(added, capsys):
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    assert "   by_the_sign          What is added by two files." in said
    assert "   trapped              What is added by two files." in said
    assert main(["train", "--help"]) == 0
    said = capsys.readouterr().out
    assert re.search("^  training= +by_the_sign, chopped_ttv2, ", said, re.MULTILINE)
    assert re.search("^  device= [^=]*, trapped$", said, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["training=by_the_sing"], ["`training`", "by_the_sign", "Did you mean `by_the_sign`?"]),
        (["device=traped"], ["`device`", "Did you mean `trapped`?"]),
        (["task=digits", "training=digital"], ["`training`", "by_the_sign, chopped_ttv2, sgd_digital", "but is digital"]),
        (["task=demo", "model=tiny", "training=digital", "device=trapped"], ["`device`", "training=by_the_sign, chopped_ttv2"]),
        (["task=digits", "training=by_the_sign", "noise=reram"], ["`noise`", "training in situ"]),
        (["task=digits", "training=by_the_sign", "training.epochs=0"], ["Setting `training.epochs` must be at least 1"]),
        (["task=digits", "training=by_the_sign", "device.slope=3", "device=trapped"], ["Setting `device.slope` must lie"]),
        (["task=digits", "training=by_the_sign", "training.lerning_rate=3"], ["Did you mean `training.learning_rate`?"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_refusals_know_an_added_mode_and_device(added, capsys, words, parts):
    assert main(["train", *words]) == 2
    said = capsys.readouterr().err
    for part in parts:
        assert part in said


@pytest.mark.slow
@pytest.mark.parametrize("words", [["training=by_the_sign"], ["training=sgd_pulsed", "device=trapped"]], ids=" ".join)
def test_an_added_mode_and_device_train_and_are_extracted(added, tmp_path, capsys, words):
    root = tmp_path / "runs"
    words = ["task=digits", *words, "training.epochs=1", f"output_root={root}"]
    assert main(["train", *words, "dry_run=true"]) == 0
    assert "Nothing was run" in capsys.readouterr().out and not root.exists()
    assert main(["train", *words]) == 0
    (folder,) = root.iterdir()
    assert json.loads((folder / "run.json").read_text())["status"] == "done"
    assert main(["extract", f"checkpoint={folder}", "extract.products=200"]) == 0
    assert list(folder.glob("extraction-*/extracted.safetensors"))


@pytest.mark.slow
def test_a_mode_of_a_users_own_folder_is_found_by_refusals(tmp_path, capsys):
    (tmp_path / "training").mkdir()
    for name, text in (("mine", "defaults:\n  - ttv2\nthreshold: 2.0\n"), ("fine", "defaults:\n  - digital\nepochs: 1\n")):
        (tmp_path / "training" / f"{name}.yaml").write_text(text)
    assert main(["train", "--config-dir", str(tmp_path), "task=digits", "training=fine"]) == 2
    assert "must be one of chopped_ttv2, mine, sgd_digital," in capsys.readouterr().err
