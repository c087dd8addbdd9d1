"""What is kept of a run's configuration beside its results."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from typing import Any

from analog_glue.settings import RunSettings


def scalars(settings: RunSettings) -> dict[str, Any]:
    """The typed settings, without the components."""
    groups = ("task", "model", "attention", "noise", "tile", "training", "costs", "reprogramming", "sequence_length", "batch")
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
