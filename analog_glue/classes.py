"""A classification head meets a task by the names of their classes, not by the order in which each lists them.

A head trained elsewhere may call its first output POSITIVE where the task's first class is `negative`; taken by position it
would be wrong on every example, and nothing would show it before the score does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel

UNNAMED = re.compile(r"label_\d+", re.IGNORECASE)  # what transformers calls a class that nobody named


def name_classes(config: PreTrainedConfig, classes: Sequence[str]) -> None:
    """Write the task's classes into a configuration, where pipelines and other programs look for them.

    Args:
        classes: In the order of the outputs; none for regression, which changes nothing.
    """
    if classes:
        config.id2label = dict(enumerate(classes))
        config.label2id = {name: index for index, name in enumerate(classes)}


def output_layer(model: PreTrainedModel) -> tuple[str, nn.Linear] | None:
    """The last layer of the head, by its name; None where it is no linear layer of `num_labels` outputs."""
    from torch import nn

    encoder = model.base_model_prefix + "."
    layers = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith(encoder) and module.out_features == model.config.num_labels
    ]
    return layers[-1] if layers else None


def fit_head(model: PreTrainedModel, theirs: Mapping[int, str], classes: Sequence[str]) -> tuple[str, bool]:
    """Bring the outputs of a head that was read from a file into the order of the task's classes, in place.

    Args:
        theirs: Names of the file's classes by output.
        classes: Those of the task, in its order; none for regression, which has one output and no order.

    Returns:
        What to tell the user, "" where there is nothing to tell, and whether the head fits: a head that tells other classes
        apart does not.
    """
    import torch

    names = [theirs[index] for index in sorted(theirs)]
    found = output_layer(model)
    if not classes or found is None:
        return "", True
    ours = ", ".join(classes)
    if all(UNNAMED.fullmatch(name) for name in names):
        return f"its head is kept; it does not name its classes, so they are taken to be {ours} in this order", True
    place = {_plain(name): index for index, name in enumerate(names)}
    if place.keys() != {_plain(name) for name in classes}:
        return f"its head is drawn anew: it tells {', '.join(names)} apart, but the task {ours}", False
    order = [place[_plain(name)] for name in classes]
    if order == sorted(order):
        return "", True
    layer = found[1]
    with torch.no_grad():
        for parameter in (layer.weight, layer.bias):
            if parameter is not None:
                parameter.copy_(parameter[order].clone())
    return f"its head is kept, its outputs brought from the order {', '.join(names)} into that of the task: {ours}", True


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().casefold())
