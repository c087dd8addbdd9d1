"""What a network needs beside its weights on chips: learned in training, else calibrated on training examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from analog_glue.configuration.build import as_annotated, build
from analog_glue.errors import UserError
from analog_glue.nn.attention import FLOAT32, Attention
from analog_glue.nn.attention_interface import calibrate, products_of, put_in, take_out
from analog_glue.nn.calibration import calibrate_input_ranges
from analog_glue.nn.convert import to_digital
from analog_glue.nn.periphery import LayerPeriphery, periphery_from
from analog_glue.nn.placement import Placement
from analog_glue.runs.folder import ATTENTION_FILE, PERIPHERY_FILE, checkpoint_config
from analog_glue.runs.tensors import load_tensors
from analog_glue.seeding import generator
from analog_glue.settings import Calibration
from analog_glue.tasks.task import Encoded, evaluation_batches

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def calibration_batches(
    train: Encoded, examples: int, device: torch.device, after: int = 0, token_budget: int = 4096
) -> list[dict[str, Tensor]]:
    """The first `examples` training examples of a fixed order, without their labels; those `after` so many that come before.

    Where there are too few, they are the last ones of the order. A batch holds at most `token_budget` tokens with their
    padding, sorted by length: of few examples a large one is padding for a good part.
    """
    first = max(0, min(after, len(train) - examples))
    ordered = torch.randperm(len(train), generator=generator("calibration examples"))
    chosen = ordered[first : first + examples].tolist()
    subset = replace(
        train,
        input_ids=[train.input_ids[i] for i in chosen],
        token_type_ids=None if train.token_type_ids is None else [train.token_type_ids[i] for i in chosen],
        labels=train.labels[chosen],
    )
    batches = (subset.batch(indices) for indices in evaluation_batches(subset, token_budget))
    return [{name: tensor.to(device) for name, tensor in batch.items() if name != "labels"} for batch in batches]


def calibrated_ranges(model: nn.Module, placement: Placement, train: Encoded, calibration: Calibration) -> dict[str, Tensor]:
    """Input range of every layer on tiles from training examples."""
    batches = calibration_batches(train, calibration.examples, next(model.parameters()).device)
    was_training = model.training
    rule = calibration.percentile, calibration.adc_headroom, calibration.deviations
    ranges = calibrate_input_ranges(model.eval(), placement.layers(model), placement, batches, *rule)
    model.train(was_training)
    return ranges


def calibrate_attention(model: nn.Module, train: Encoded) -> None:
    """Scales of all attention layers of `model` from training examples; nothing where they are of floats."""
    layers = [layer for layer in products_of(model).values() if layer.attention.bits is not None]
    if not layers:
        return
    was_training = model.training
    batches = calibration_batches(train, layers[0].attention.examples, next(model.parameters()).device)
    calibrate(model.eval(), layers, batches)
    model.train(was_training)


def put_in_attention(
    trained_in: Path, model: PreTrainedModel, attention: Attention, train: Encoded, kernel: str, log: Callable[[str], None]
) -> None:
    """Let the trained `model` compute its attention as `attention` says, in place, its scales as `attention_scales` says."""
    take_out(model)
    layers = put_in(model, attention, kernel)
    source = attention_scales(trained_in, attention)
    if source == "learned":
        scales, _ = load_tensors(trained_in / ATTENTION_FILE)
        if scales.keys() != layers.keys():
            raise UserError(
                f"File `{trained_in / ATTENTION_FILE}` must hold the scales of the {len(layers)} attention layers of the "
                f"checkpoint, but has {len(scales)}, of other names. Train again with force=true."
            )
        for name, layer in layers.items():
            layer.set_scales(scales[name])
    elif source:
        log(f"Calibrating the scales of attention in {attention.precision} on {attention.examples} training examples")
        calibrate_attention(model, train)


def attention_scales(trained_in: Path, attention: Attention) -> str:
    """Where the scales of a checkpoint come from: "learned" in training where it had this attention, "calibrated" where it had
    another, "" where there are none.

    Raises:
        UserError: the checkpoint was trained with this attention, but its scales are gone.
    """
    if attention.bits is None:
        return ""
    config = checkpoint_config(trained_in).get("attention")
    trained = FLOAT32 if config is None else build(as_annotated(config, "attention"), "attention")
    if replace(attention, examples=trained.examples, learning_rate=trained.learning_rate) != trained:
        return "calibrated"
    if not (trained_in / ATTENTION_FILE).is_file():
        raise UserError(
            f"Setting `checkpoint` must hold {ATTENTION_FILE}, since its attention was trained in {attention.precision}, "
            f"but {trained_in} has lost it. Train again with force=true, or choose another attention=…"
        )
    return "learned"


def periphery_of(
    trained_in: Path,
    model: nn.Module,
    placement: Placement,
    train: Encoded,
    calibration: Calibration,
    log: Callable[[str], None],
) -> tuple[nn.Module, dict[str, LayerPeriphery], str]:
    """Input ranges and output scales: learned in training where the tiles fit, else calibrated on training batches.

    Also the model that goes with them: learned scales of layers that do not lie on such tiles now are part of its weights.
    """
    grids = placement.grids
    learned: dict[str, LayerPeriphery] = {}
    unfit: dict[str, LayerPeriphery] = {}
    origin = "learned in training"
    if (trained_in / PERIPHERY_FILE).exists():
        tensors, notes = load_tensors(trained_in / PERIPHERY_FILE)
        origin = notes.get("source", origin)
        stored = periphery_from(tensors)
        there = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
        if foreign := sorted(stored.keys() - there):
            raise UserError(
                f"File `{trained_in / PERIPHERY_FILE}` must hold ranges of layers of the checkpoint, but has them of "
                f"{len(foreign)} others, {foreign[0]} for one. It belongs to another network: train again with force=true."
            )
        for name, layer in stored.items():
            fits = name in grids and len(layer.input_range) == len(grids[name].row_blocks)
            (learned if fits else unfit)[name] = layer
    if unfit:
        model = to_digital(model, unfit)
    if len(learned) == len(grids):
        return model, learned, origin
    source = calibration.in_words
    log(f"Calibrating the input ranges of {len(grids) - len(learned)} layers: {source}")
    ranges = calibrated_ranges(model, placement, train, calibration)
    both = {name: learned.get(name) or LayerPeriphery(ranges[name]) for name in grids}
    return model, both, source + (f" (others {origin})" if learned else "")
