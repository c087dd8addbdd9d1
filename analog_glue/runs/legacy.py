"""Runs of version 0.1.0, which are named by another hash and store no payload: how they are found and what they say.

Their id was that of the whole configuration, module paths included: sha256(json.dumps(…, sort_keys=True)), eight digits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from analog_glue.runs.aliases import KEYS, kind_of_target
from analog_glue.runs.fingerprint import canonical
from analog_glue.runs.identity import ID_LENGTH, NO_RESULT, Payload
from analog_glue.runs.model_files import fingerprint_of_weights
from analog_glue.runs.recorded import recorded_sections
from analog_glue.settings import Extract, HardwareSettings

VERSION = "0.1.0"

_MODULES = {  # where the kinds of 0.1.0 were defined
    "PCM": "devices.pcm", "ReRAM": "devices.reram", "Ideal": "devices.ideal", "Crossbar": "tiles.crossbar",
    "PretrainedModel": "models", "TinyModel": "models", "GlueTask": "tasks.glue", "DemoTask": "tasks.demo",
    "Digital": "training.digital", "HardwareAware": "training.hardware_aware", "InputRange": "training.hardware_aware",
    "WeightNoise": "nn.weight_noise", "Drift": "devices.pulsed.drift", "LinearStep": "devices.pulsed.linear_step",
    "PowerStep": "devices.pulsed.power_step", "SoftBounds": "devices.pulsed.soft_bounds",
    "SymmetricLinear": "devices.pulsed.symmetric_linear", "Pulses": "nn.in_situ.learner", "Periphery": "training.in_situ",
    "Digits": "tasks.images", "Mnist": "tasks.images", "MnistLeNet5": "tasks.images", "WarAndPeace": "tasks.war_and_peace",
    "SGDDigital": "training.sgd_digital", "SGDPulsed": "training.sgd_pulsed", "TikiTaka": "training.tiki_taka",
    "TTv2": "training.ttv2", "ChoppedTTv2": "training.chopped_ttv2",
}  # fmt: skip
_LATE = ("read_noise", "read_adc_bits")  # settings that came before the release, and were left out of ids while null
_TRAINS_WITH_HARDWARE = "HardwareAware"
_STREAMS = {"compiled": "threefry-4x32-13", "reference": "torch"}  # on a CPU, by kernel


class _NotThen(Exception):
    """What is asked for could not be asked of version 0.1.0."""


def training_id(
    config: Mapping[str, Any], data: str, seed: int, start: str | None, hardware: HardwareSettings | None, weights: Path | None
) -> str | None:
    """The id that a fine-tuning run had; None where there cannot be one.

    Args:
        config: Resolved configuration of today.
        data: Fingerprint of the data.
        start: The `train_id` that training starts from.
        hardware: None where training does not see it.
        weights: Folder of the model where `model.path` names one.
    """
    try:
        model = _node(config["model"])
        if weights is not None:
            model = {"weights": fingerprint_of_weights(weights), "dropout": model.get("dropout")}
        model.pop("path", None)
        training = _node(config["training"])
        training.pop("save_every", None)
        if start is not None:
            training["start_from"] = start
        identity = {"task": _node(config["task"]), "data": data, "model": model, "training": training, "seed": seed}
        if hardware is not None:
            identity |= {"noise": _node(config["noise"]), "tile": _node(config["tile"]), "hardware": _hardware(hardware)}
    except _NotThen:
        return None
    return _hash(identity)


def hardware_id(config: Mapping[str, Any], hardware: HardwareSettings, chip_seed: int, token_budget: int) -> str | None:
    """The id that a sweep had; None where there cannot be one."""
    try:
        identity = {"noise": _node(config["noise"]), "tile": _node(config["tile"]), "hardware": _hardware(hardware)}
    except _NotThen:
        return None
    return _hash(identity | {"chip_seed": chip_seed, "token_budget": token_budget})


def in_situ_id(chosen: Mapping[str, Any], leave_out: Mapping[str, tuple[str, ...]], data: str, seed: int) -> str | None:
    """The id that an in-situ run had; None where there cannot be one.

    Args:
        chosen: Resolved yaml of the groups that count.
        leave_out: Settings that do not, by group.
    """
    try:
        groups = {group: _without_late(_node(values)) for group, values in chosen.items()}
    except _NotThen:
        return None
    kept = {
        group: {name: value for name, value in values.items() if name not in leave_out.get(group, ())}
        for group, values in groups.items()
    }
    return _hash({**kept, "data": data, "seed": seed})


def array_id(chosen: Extract, seed: int) -> str | None:
    """The id that an extraction from a random array had; None where there cannot be one."""
    try:
        values = _then("Extract", asdict(chosen))
        values["array"] = None if values["array"] is None else _then("RandomArray", values["array"])
    except _NotThen:
        return None
    return _hash({"extract": values, "seed": seed})


def _hash(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:ID_LENGTH]


def _node(node: Any) -> Any:
    """A node of resolved yaml as version 0.1.0 had it."""
    if isinstance(node, list | tuple):
        return [_node(item) for item in node]
    if not isinstance(node, dict) or "_target_" not in node:
        return node
    kind = kind_of_target(node["_target_"])
    if kind not in _MODULES:
        raise _NotThen
    earlier: dict[str, str] = {today: before for before, today in KEYS.get(kind, {}).items()}
    values: dict[str, Any] = {
        earlier[name] if name in earlier else name: _node(value) for name, value in node.items() if name != "_target_"
    }
    return {"_target_": f"analog_glue.{_MODULES[kind]}.{kind}", **_then(kind, values)}


def _then(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    """The fields that there were, and the class variables; raises `_NotThen` where a later one is not at its default."""
    sections = recorded_sections()
    then = sections[VERSION][kind]
    later = {name: value for section in sections.values() for name, value in section.get(kind, {}).items() if name not in then}
    if any(canonical(later[name]) != canonical(value) for name, value in values.items() if name in later):
        raise _NotThen
    return {name: value for name, value in values.items() if name not in later}


def _hardware(hardware: HardwareSettings) -> dict[str, Any]:
    values = _then("HardwareSettings", asdict(hardware))
    return values | {"calibration": _then("Calibration", values["calibration"])}


def _without_late(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_late(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if name not in _LATE or value is not None
    }


def payload_of_record(run: Mapping[str, Any], config: Mapping[str, Any]) -> Payload:
    """What a run of version 0.1.0 says of itself, as far as it does, under the keys of today.

    Args:
        run: Its run.json (of an extraction its extraction.json).
        config: Its run_config.json, of a sweep its config.json; empty for extractions.
    """
    data = {"data": run["data"]["fingerprint"]} if "data" in run else {}
    if run["command"] == "extract":
        chosen = run.get("extract") or {key: run[key] for key in ("inputs", "products", "amplitude", "time") if key in run}
        state = {"state": run["state"]} if "state" in run else {}
        return {**_flat("extract", chosen, "Extract"), "seed": run["seed"], **state, **data}
    hardware = {
        **_flat("noise", config.get("noise")), **_flat("tile", config.get("tile")),
        **_flat("hardware", config.get("hardware"), "HardwareSettings"),
    }  # fmt: skip
    if run["command"] == "sweep":
        used = {name: config["evaluation"][name] for name in ("chip_seed", "token_budget")}
        computed = {f"computation.{name}": run[name] for name in ("product",) if name in run}
        if run.get("kernel") in _STREAMS and run.get("device") == "cpu":
            computed["computation.stream"] = _STREAMS[run["kernel"]]
        return {**hardware, **_flat("evaluation", used, "Evaluation"), "training_run": run["train_id"], **data, **computed}
    groups = ("task", "model", "training") if "evaluation" in config else ("task", "model", "device", "training")
    payload = {key: value for group in groups for key, value in _flat(group, config.get(group)).items()}
    if payload.get("training") == _TRAINS_WITH_HARDWARE:
        payload |= hardware
    return {**payload, "seed": run["seed"], **data}


def _flat(key: str, node: Any, kind: str | None = None) -> Payload:
    """A node of resolved yaml as entries of a payload; of a model its name stays in, since its files are not known."""
    if node is None and kind is None and "." not in key:
        return {}
    if not isinstance(node, Mapping):
        return {key: node}
    kind = kind_of_target(node["_target_"]) if "_target_" in node else kind or _KIND_OF_SETTINGS.get(key)
    left_out = ("_target_", *(NO_RESULT.get(key, ()) if key != "model" else ("short",)))
    flat: Payload = {} if kind is None else {key: kind}
    for name, value in node.items():
        if name not in left_out:
            flat |= _flat(f"{key}.{name}", value)
    return flat


_KIND_OF_SETTINGS = {"hardware.calibration": "Calibration", "extract.array": "RandomArray"}
