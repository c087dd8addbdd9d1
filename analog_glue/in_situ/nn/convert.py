"""From a plain model to one whose layers learn in situ, and back.

to_in_situ(model, mode, device, seed, modules)     swaps inside `model`, beginning with its weights
to_torch(model, weights)                           a copy with plain layers, say of extracted weights
"""

import copy
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from analog_glue.in_situ.devices.device import PulsedDevice
from analog_glue.in_situ.kernels.matvec import IO
from analog_glue.in_situ.nn.layers import AnalogArray, InSituConv2d, InSituLayer, InSituLinear, InSituLSTM, arrays_of
from analog_glue.in_situ.nn.learner import Learner, Stream
from analog_glue.nn.names import chosen_by_name

KINDS: dict[type[nn.Module], type[Any]] = {nn.Linear: InSituLinear, nn.Conv2d: InSituConv2d, nn.LSTM: InSituLSTM}


class Converters(Protocol):
    """Of the products of an array, forward and backward."""

    @property
    def forward(self) -> IO: ...
    @property
    def backward(self) -> IO: ...


class Algorithm(Protocol):
    """What a training mode (training/in_situ.py) says about arrays."""

    @property
    def periphery(self) -> Converters: ...
    @property
    def output_scale(self) -> float: ...
    def reused(self, times: int) -> "Algorithm": ...
    def learner(self, device: PulsedDevice, values: np.ndarray, seed: int, number: int) -> Learner: ...


def to_in_situ(
    model: nn.Module, mode: Algorithm, device: PulsedDevice, seed: int, modules: Sequence[str] = ("*",),
    reuse: Mapping[str, int] | None = None,
) -> nn.Module:  # fmt: skip
    """Put the linear, convolutional and LSTM layers of `model` on pulsed devices; returns `model`.

    Weights beyond what a device can hold are clipped to its bounds.

    Args:
        mode: A training mode: `SGDPulsed`, `TikiTaka`, `TTv2`, ….
        modules: Name patterns of the layers, each adding to what the ones before chose, or with "!" taking away.
        reuse: How often a layer's array is used for one sample, by name; modes that read an array after so many samples count
            with it. A layer that is not named is used once.

    Raises:
        UserError: a pattern that matches no such layer, none left, or a layer that no array can do.
    """
    known = {name: module for name, module in model.named_modules() if type(module) in KINDS}
    numbers = count(len(arrays_of(model)))
    for name, layer in chosen_by_name(known, modules, "Argument `modules`", "linear, convolutional or LSTM").items():

        def place(weight: Tensor, name: str = name) -> AnalogArray:
            own, number = mode.reused((reuse or {}).get(name, 1)), next(numbers)
            learner = own.learner(device, weight.double().numpy() / mode.output_scale, seed, number)
            return AnalogArray(
                learner, mode.periphery.forward, mode.periphery.backward, mode.output_scale, Stream.of(seed, number)
            )

        in_situ = KINDS[type(layer)](layer, place).train(layer.training)
        if not name:  # the model is a layer itself
            return in_situ
        model.set_submodule(name, in_situ)
    return model


def to_torch(model: nn.Module, weights: Sequence[np.ndarray] | None = None) -> nn.Module:
    """A copy of `model` with plain layers.

    Args:
        weights: One matrix (outputs, inputs) for each array, in the order of their numbers and in units of the network's
            weights, as extraction writes them. None: what the arrays hold.
    """
    given = [array.weight() for array in arrays_of(model)] if weights is None else weights
    rest = [torch.from_numpy(np.ascontiguousarray(matrix, np.float32)) for matrix in given]
    plain: dict[int, nn.Module] = {}
    for layer in model.modules():
        if isinstance(layer, InSituLayer):
            number = len(arrays_of(layer))
            plain[id(layer)] = layer.digital(rest[:number]).train(layer.training)
            rest = rest[number:]
    return plain.get(id(model)) or copy.deepcopy(model, plain)


def on_arrays(model: nn.Module, learners: Sequence[Learner], forward: IO, stream: Stream) -> nn.Module:
    """A copy of `model` with other arrays and periphery, for scores; it shares all else."""
    shared: dict[int, object] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    for number, (array, learner) in enumerate(zip(arrays_of(model), learners, strict=True)):
        shared[id(array)] = array.on(learner, forward, Stream(stream.k0, stream.k1, np.uint32(number)))
    return copy.deepcopy(model, shared)


class InSituModel:
    """A model with in-situ layers as extraction and averaging see it (`learner.Network`)."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.arrays = model, arrays_of(model)
        first = self.arrays[0]
        self.learners = [array.learner for array in self.arrays]
        self.forward, self.scale, self.stream = first.io, first.scale, first.stream

    def on(self, learners: Sequence[Learner], forward: IO, stream: Stream) -> "InSituModel":
        """See `on_arrays`."""
        return InSituModel(on_arrays(self.model, learners, forward, stream))

    def start_scores(self, step: int) -> None:
        """Name the noise of the scores that follow by `step`, the number of the first product of every array."""
        for array in self.arrays:
            array.tested = step

    def state(self) -> dict[str, np.ndarray]:
        """Of arrays by number, and of other parameters and buffers; writing into these arrays restores it."""
        arrays = {f"{number}.{name}": part for number, array in enumerate(self.arrays) for name, part in array.state().items()}
        others = (*self.model.named_parameters(), *self.model.named_buffers())
        return arrays | {f"model.{name}": tensor.detach().numpy() for name, tensor in others}
