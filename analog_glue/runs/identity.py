"""What determines a run."""

import hashlib
import json
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from analog_glue.settings import RunSettings


def short_hash(identity: Any) -> str:
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def model_identity(config: dict[str, Any]) -> dict[str, Any]:
    """A local folder counts by its weights, not by its path."""
    identity = {name: value for name, value in config.items() if name != "path"}
    path = config.get("path")
    if path is not None:
        weights = Path(path) / "model.safetensors"
        identity = {"weights": hashlib.sha256(weights.read_bytes()).hexdigest(), "dropout": config.get("dropout")}
    return identity


def training_identity(config: dict[str, Any], start: dict[str, Any] | None) -> dict[str, Any]:
    """`save_every` changes no bit; a starting point counts by its own identity."""
    identity = {name: value for name, value in config.items() if name != "save_every"}
    if start is not None:
        identity["start_from"] = start["train_id"]
    return identity


def scalars(settings: RunSettings) -> dict[str, Any]:
    groups = ("task", "model", "noise", "tile", "training")
    return {name: value for name, value in asdict(settings).items() if name not in groups}


def config_of(**components: Any) -> dict[str, Any]:
    """What the yaml of each component would say."""

    def node(component: Any) -> Any:
        if not is_dataclass(component):
            return component
        target = f"{type(component).__module__}.{type(component).__qualname__}"
        values = {name: node(getattr(component, name)) for name in component.__dataclass_fields__}
        return {"_target_": target} | values

    return {group: node(component) for group, component in components.items()}
