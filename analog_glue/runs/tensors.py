"""Resumable state of a training run: safetensors with its bookkeeping inside, written atomically."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from analog_glue.runs.files import exclusive, replacing
from analog_glue.runs.spoiled import told_if_spoiled


def save_tensors(path: Path, tensors: dict[str, Tensor], notes: dict[str, Any] | None = None) -> None:
    """Write `tensors` (and JSON-able `notes`) so that a reader sees the old file or the new one, never a part."""
    kept = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with exclusive(path.parent) as folder, replacing(path, folder) as partial:
        save_file(kept, partial, metadata={"notes": json.dumps(notes or {})})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_tensors` wrote.

    Raises:
        UserError: The file is not whole, or another.
    """
    with told_if_spoiled(path):
        try:
            with safe_open(path, framework="pt") as file:
                notes = json.loads((file.metadata() or {}).get("notes", "{}"))
                return {name: file.get_tensor(name) for name in file.keys()}, notes
        except SafetensorError as error:
            raise ValueError(str(error)) from None


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state, one tensor per parameter and moment."""
    states = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{name}": torch.as_tensor(value) for index, state in states.items() for name, value in state.items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Inverse of `optimizer_tensors`; learning rates and options stay those of `optimizer`."""
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            states.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
