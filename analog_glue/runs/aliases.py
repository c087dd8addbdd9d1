"""Names that classes and their settings had before: yaml files and stored runs go on saying them.

A class that moves or is renamed gets a line in `MOVED`; a renamed class in `RECORDED`, too, so that identities stay what
they were; a renamed setting in `KEYS`.
"""

from __future__ import annotations

from typing import Any

_IN_SITU = "analog_glue.in_situ"

MOVED = {  # path that stored configurations say → path of today
    "analog_glue.devices.pulsed.drift.Drift": f"{_IN_SITU}.devices.drift.Drift",
    "analog_glue.devices.pulsed.linear_step.LinearStep": f"{_IN_SITU}.devices.linear_step.LinearStep",
    "analog_glue.devices.pulsed.power_step.PowerStep": f"{_IN_SITU}.devices.power_step.PowerStep",
    "analog_glue.devices.pulsed.soft_bounds.SoftBounds": f"{_IN_SITU}.devices.soft_bounds.SoftBounds",
    "analog_glue.devices.pulsed.symmetric_linear.SymmetricLinear": f"{_IN_SITU}.devices.symmetric_linear.SymmetricLinear",
    "analog_glue.nn.in_situ.learner.Pulses": f"{_IN_SITU}.nn.learner.Pulses",
    "analog_glue.tasks.images.Digits": f"{_IN_SITU}.tasks.images.Digits",
    "analog_glue.tasks.images.Mnist": f"{_IN_SITU}.tasks.images.Mnist",
    "analog_glue.tasks.images.MnistLeNet5": f"{_IN_SITU}.tasks.images.MnistLeNet5",
    "analog_glue.tasks.war_and_peace.WarAndPeace": f"{_IN_SITU}.tasks.war_and_peace.WarAndPeace",
    "analog_glue.training.chopped_ttv2.ChoppedTTv2": f"{_IN_SITU}.training.chopped_ttv2.ChoppedTTv2",
    "analog_glue.training.in_situ.Periphery": f"{_IN_SITU}.training.mode.Periphery",
    "analog_glue.training.sgd_digital.SGDDigital": f"{_IN_SITU}.training.sgd_digital.SGDDigital",
    "analog_glue.training.sgd_pulsed.SGDPulsed": f"{_IN_SITU}.training.sgd_pulsed.SGDPulsed",
    "analog_glue.training.tiki_taka.TikiTaka": f"{_IN_SITU}.training.tiki_taka.TikiTaka",
    "analog_glue.training.ttv2.TTv2": f"{_IN_SITU}.training.ttv2.TTv2",
}

RECORDED: dict[str, str] = {}  # class name of today → the name it was recorded under, which identities keep

KEYS: dict[str, dict[str, str]] = {}  # recorded class name → {key that stored configurations say: key of today}


def recorded_name(class_name: str) -> str:
    """The stable name of a component's kind."""
    return RECORDED.get(class_name, class_name)


def kind_of_target(target: str) -> str:
    """The recorded kind that a `_target_` of any age names."""
    return recorded_name(MOVED.get(target, target).rpartition(".")[2])


def as_of_today(node: Any) -> Any:
    """A node of resolved yaml with the class and the keys of today, its parts likewise."""
    if isinstance(node, list):
        return [as_of_today(item) for item in node]
    if not isinstance(node, dict):
        return node
    target = node.get("_target_")
    keys = KEYS.get(kind_of_target(str(target)), {}) if target is not None else {}
    today = {keys.get(name, name): as_of_today(value) for name, value in node.items()}
    return today if target is None else today | {"_target_": MOVED.get(str(target), target)}
