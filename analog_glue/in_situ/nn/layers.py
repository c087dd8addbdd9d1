"""Layers of torch whose weights live on pulsed devices: `Linear`, `Conv2d` and `LSTM` with the calls and shapes of torch.nn.

    y = scale · W (x, 1)          analog, noisy, behind the converters of the periphery
    ∂L/∂x = scale · Wᵀ ∂L/∂y      the same array, transposed
    W ← W + η (d ⊗ x)             d = −∂L/∂y: recorded by the backward pass, applied by `InSituOptimizer.step`

The rows of a batch, the patches of a picture (weight reuse) and the steps of a sequence are products one after another, and one
rank-1 update after another in the same order. Biases are a column of the array whose input is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, Self, overload

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from analog_glue.errors import UserError
from analog_glue.in_situ.kernels.lanes import LANES
from analog_glue.in_situ.kernels.matvec import BACKWARD, FORWARD, IO, transpose
from analog_glue.in_situ.kernels.rows import analog_row, analog_rows
from analog_glue.in_situ.nn.learner import Learner, Stream


class Layout(Protocol):
    """How the inputs of a layer become inputs of its array."""

    def rows(self, x: np.ndarray, width: int) -> np.ndarray:
        """float32 (rows, width): one product each, with the 1 of the bias, zeros where the array has no input."""

    def back(self, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The transpose: gradients of rows (rows, array inputs) as a gradient of the layer's input of that shape."""


@dataclass(frozen=True)
class Vectors:
    """Every vector (…, `inputs`) is a row."""

    inputs: int
    bias: bool

    def rows(self, x: np.ndarray, width: int) -> np.ndarray:
        rows = np.zeros((x.size // self.inputs, width), np.float32)
        rows[:, : self.inputs] = x.reshape(-1, self.inputs)
        if self.bias:
            rows[:, self.inputs] = 1
        return rows

    def back(self, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return rows[:, : self.inputs].reshape(shape)


Pair = tuple[int, int]


@dataclass(frozen=True)
class Patches:
    """Every patch of pictures (pictures, channels, height, width) is a row."""

    channels: int
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    bias: bool

    @property
    def inputs(self) -> int:
        return self.channels * self.kernel[0] * self.kernel[1]

    def positions(self, height: int, width: int) -> Pair:
        """How often the kernel fits: height and width of the output."""
        down, across = (
            (size + 2 * self.padding[i] - self.dilation[i] * (self.kernel[i] - 1) - 1) // self.stride[i] + 1
            for i, size in enumerate((height, width))
        )
        return down, across

    def rows(self, x: np.ndarray, width: int) -> np.ndarray:
        patches = F.unfold(torch.from_numpy(x), self.kernel, self.dilation, self.padding, self.stride).mT
        rows = np.zeros((patches.shape[0] * patches.shape[1], width), np.float32)
        rows[:, : self.inputs] = patches.flatten(0, 1).numpy()
        if self.bias:
            rows[:, self.inputs] = 1
        return rows

    def back(self, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        patches = torch.from_numpy(rows[:, : self.inputs]).view(shape[0], -1, self.inputs).mT
        return F.fold(patches, shape[2:], self.kernel, self.dilation, self.padding, self.stride).numpy()


class AnalogArray(nn.Module):
    """One weight matrix (outputs, inputs) on devices: products for autograd, and what its next update needs.

    While training, noise is named by the number of the product since training began; in eval mode by `tested`, the number of
    the product since somebody set it, from a stream of its own.
    """

    def __init__(self, learner: Learner, forward: IO, backward: IO, scale: float, stream: Stream) -> None:
        """
        Args:
            forward, backward: Converters and noise of the products.
            scale: Digital factor behind the array: the network's weights are `scale` times those of the devices.
        """
        super().__init__()
        self.learner, self.io, self.io_back, self.scale, self.stream = learner, forward, backward, scale, stream
        self.counts = np.zeros(2, np.int64)  # products and updates while training
        self.tested = 0
        self.records: list[tuple[int, np.ndarray, np.ndarray]] = []  # number of the first row, x, d
        # Makes autograd call the backward pass also where the layer's input needs no gradient.
        self._anchor = torch.zeros((), requires_grad=True)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """Outputs (rows, outputs) for the inputs that `layout` makes of `x`."""
        return _Product.apply(x, self._anchor, self, layout)

    def weight(self) -> np.ndarray:
        """The network's weights, float32 (outputs, inputs), a copy."""
        return self.learner.weights()[:, : self.learner.inputs] * np.float32(self.scale)

    def on(self, learner: Learner, forward: IO, stream: Stream) -> Self:
        """The same place in the network with another array, to score it."""
        return type(self)(learner, forward, self.io_back, self.scale, stream).train(self.training)

    def learn(self, rate: float) -> None:
        """Apply the recorded updates in the order of their products; `rate` is that of the network's weights."""
        if not self.records:
            return
        records = sorted(self.records, key=lambda record: record[0])
        x, d = records[0][1:] if len(records) == 1 else (np.concatenate(part) for part in list(zip(*records, strict=True))[1:])
        self.learner.update(x, d, rate / self.scale, int(self.counts[1]))
        self.counts[1] += len(x)
        self.records.clear()

    def state(self) -> dict[str, np.ndarray]:
        """Everything that changes while training, by name; writing into these arrays restores it."""
        return {**self.learner.state(), "counts": self.counts}

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name, array in self.state().items():
            destination[prefix + name] = torch.from_numpy(array)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, metadata: Any, strict: bool, missing: list[str], *others: Any
    ) -> None:
        for name, array in self.state().items():
            if prefix + name in state_dict:
                array[...] = state_dict[prefix + name].numpy()
            else:
                missing.append(prefix + name)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor, array: AnalogArray, layout: Layout) -> Tensor:
        learner, stream = array.learner, array.stream if array.training else array.stream.for_tests()
        weights, inputs = learner.weights(), learner.inputs
        rows = layout.rows(np.ascontiguousarray(x.detach().numpy(), np.float32), weights.shape[1])
        first = int(array.counts[0]) if array.training else array.tested
        out = np.empty((len(rows), learner.outputs), np.float32)
        names = (FORWARD, first, stream.array, stream.k0, stream.k1)
        if len(rows) == 1:  # no transposed copy of the weights pays
            analog_row(out, weights, rows, inputs, array.io, array.scale, *names)
        else:
            turned = np.zeros((inputs, _padded(learner.outputs)), np.float32)
            transpose(turned, weights[:, :inputs])
            analog_rows(out, turned, rows, inputs, array.io, array.scale, *names)
        if array.training:
            array.counts[0] += len(rows)
        else:
            array.tested += len(rows)
        ctx.array, ctx.layout, ctx.record, ctx.stream, ctx.shape = array, layout, (first, rows), stream, tuple(x.shape)
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, None]:
        array, stream, (first, rows) = ctx.array, ctx.stream, ctx.record
        learner = array.learner
        d = np.zeros((len(rows), _padded(learner.outputs)), np.float32)
        np.negative(gradient.numpy(), out=d[:, : learner.outputs])
        if array.training:
            array.records.append((first, rows, d))
        if not ctx.needs_input_grad[0]:
            return None, None, None, None
        out = np.empty((len(rows), learner.inputs), np.float32)
        analog_rows(
            out, learner.weights(), d, learner.outputs, array.io_back, -array.scale, BACKWARD, first, stream.array, stream.k0,
            stream.k1,
        )  # fmt: skip
        return torch.from_numpy(ctx.layout.back(out, ctx.shape)), None, None, None


def _padded(number: int) -> int:
    return -(-number // LANES) * LANES


# Puts a weight matrix (outputs, inputs) of a network on an array.
Place = Callable[[Tensor], AnalogArray]


class InSituLinear(nn.Module):
    """`torch.nn.Linear` in situ; its array is outputs × (inputs + 1)."""

    def __init__(self, linear: nn.Linear, place: Place) -> None:
        """Begins with the weights of `linear`."""
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._layout = Vectors(linear.in_features, linear.bias is not None)
        self.array = place(_with_bias(linear.weight, linear.bias))

    def forward(self, x: Tensor) -> Tensor:
        return self.array(x, self._layout).view(*x.shape[:-1], self.out_features)

    def digital(self, weights: list[Tensor]) -> nn.Linear:
        """The plain layer with the weights of an array (outputs, inputs + 1)."""
        layer = nn.Linear(self.in_features, self.out_features, self._layout.bias)
        return _filled(layer, weights[0])


class InSituConv2d(nn.Module):
    """`torch.nn.Conv2d` in situ; its array is output channels × (input channels · kernel + 1), used once for every patch."""

    def __init__(self, conv: nn.Conv2d, place: Place) -> None:
        """Begins with the weights of `conv`.

        Raises:
            UserError: groups, or padding that is not so many zeros.
        """
        super().__init__()
        if conv.groups != 1 or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise UserError(
                "Argument `conv` must have one group and a number of zeros as padding, but has groups "
                f"{conv.groups}, padding {conv.padding!r} of {conv.padding_mode}. Leave it out by `modules`."
            )
        self.in_channels, self.out_channels = conv.in_channels, conv.out_channels
        self._layout = Patches(
            conv.in_channels, _pair(conv.kernel_size), _pair(conv.stride), _pair(conv.padding), _pair(conv.dilation),
            conv.bias is not None,
        )  # fmt: skip
        self.array = place(_with_bias(conv.weight.flatten(1), conv.bias))

    def forward(self, x: Tensor) -> Tensor:
        pictures = x if x.dim() == 4 else x[None]
        down, across = self._layout.positions(*pictures.shape[2:])
        y = self.array(pictures, self._layout).view(len(pictures), down, across, self.out_channels).permute(0, 3, 1, 2)
        return y if x.dim() == 4 else y[0]

    def digital(self, weights: list[Tensor]) -> nn.Conv2d:
        """The plain layer with the weights of an array (output channels, input channels · kernel + 1)."""
        at = self._layout
        layer = nn.Conv2d(self.in_channels, self.out_channels, at.kernel, at.stride, at.padding, at.dilation, bias=at.bias)
        return _filled(layer, weights[0])


class InSituLSTM(nn.Module):
    """`torch.nn.LSTM` in situ; every layer is one array 4·hidden × (hidden + inputs + 1), gates i, f, g, o.

    The two biases of torch's LSTM are one column. Arrays differ from those of nn/in_situ/lstm.py in the order of columns only.
    """

    def __init__(self, lstm: nn.LSTM, place: Place) -> None:
        """Begins with the weights of `lstm`.

        Raises:
            UserError: it is bidirectional, projects its outputs or has dropout.
        """
        super().__init__()
        if lstm.bidirectional or lstm.proj_size or lstm.dropout:
            raise UserError(
                "Argument `lstm` must go in one direction, without projections and dropout, but has bidirectional = "
                f"{lstm.bidirectional}, proj_size = {lstm.proj_size}, dropout = {lstm.dropout}. Leave it out by `modules`."
            )
        self.input_size, self.hidden_size, self.num_layers = lstm.input_size, lstm.hidden_size, lstm.num_layers
        self.batch_first, self.bias = lstm.batch_first, lstm.bias
        self.arrays = nn.ModuleList()
        for number in range(lstm.num_layers):
            hh, ih = (getattr(lstm, f"weight_{name}_l{number}") for name in ("hh", "ih"))
            bias = getattr(lstm, f"bias_hh_l{number}") + getattr(lstm, f"bias_ih_l{number}") if lstm.bias else None
            self.arrays.append(place(_with_bias(torch.cat([hh, ih], 1), bias)))

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        batched = x.dim() == 3
        steps = (x if not self.batch_first else x.transpose(0, 1)) if batched else x[:, None]  # (time, batch, inputs)
        if state is None:
            zeros = x.new_zeros(self.num_layers, steps.shape[1], self.hidden_size)
            state = (zeros, zeros)
        elif not batched:
            state = (state[0][:, None], state[1][:, None])
        h, c = list(state[0].unbind(0)), list(state[1].unbind(0))
        outputs = []
        for below in steps.unbind(0):
            for number, array in enumerate(self.arrays):
                layout = Vectors(self.hidden_size + below.shape[1], self.bias)
                i, f, g, o = array(torch.cat([h[number], below], 1), layout).chunk(4, 1)
                c[number] = torch.sigmoid(f) * c[number] + torch.sigmoid(i) * torch.tanh(g)
                h[number] = below = torch.sigmoid(o) * torch.tanh(c[number])
            outputs.append(below)
        y, last_h, last_c = torch.stack(outputs), torch.stack(h), torch.stack(c)
        if not batched:
            return y[:, 0], (last_h[:, 0], last_c[:, 0])
        return (y.transpose(0, 1) if self.batch_first else y), (last_h, last_c)

    def digital(self, weights: list[Tensor]) -> nn.LSTM:
        """The plain layers with the weights of arrays (4·hidden, hidden + inputs + 1); the second bias is 0."""
        layer = nn.LSTM(self.input_size, self.hidden_size, self.num_layers, self.bias, self.batch_first)
        with torch.no_grad():
            for number, weight in enumerate(weights):
                end = weight.shape[1] - self.bias
                getattr(layer, f"weight_hh_l{number}").copy_(weight[:, : self.hidden_size])
                getattr(layer, f"weight_ih_l{number}").copy_(weight[:, self.hidden_size : end])
                if self.bias:
                    getattr(layer, f"bias_ih_l{number}").copy_(weight[:, end])
                    getattr(layer, f"bias_hh_l{number}").zero_()
        return layer


InSituLayer = InSituLinear | InSituConv2d | InSituLSTM


def arrays_of(model: nn.Module) -> list[AnalogArray]:
    """The arrays of a model in its order, which is that of their numbers."""
    return [module for module in model.modules() if isinstance(module, AnalogArray)]


class InSituOptimizer(torch.optim.SGD):
    """Applies what the backward passes recorded to the arrays of a model, and plain gradient descent to its other parameters.

    The learning rate is that of the network's weights; schedulers of torch work on it.
    """

    def __init__(self, model: nn.Module, lr: float) -> None:
        self._arrays = arrays_of(model)
        super().__init__([*model.parameters(), *(array._anchor for array in self._arrays)], lr)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One rank-1 update after another for every product since the last step or `zero_grad`."""
        loss = super().step(closure)
        for array in self._arrays:
            array.learn(self.param_groups[0]["lr"])
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Also forgets what the backward passes recorded."""
        super().zero_grad(set_to_none)
        for array in self._arrays:
            array.records.clear()


def _with_bias(weight: Tensor, bias: Tensor | None) -> Tensor:
    return weight.detach() if bias is None else torch.cat([weight, bias[:, None]], 1).detach()


def _filled(layer: Any, weight: Tensor) -> Any:
    with torch.no_grad():
        inputs = layer.weight[0].numel()
        layer.weight.copy_(weight[:, :inputs].view_as(layer.weight))
        if layer.bias is not None:
            layer.bias.copy_(weight[:, inputs])
    return layer


def _pair(numbers: Iterable[int]) -> Pair:
    vertical, horizontal = numbers
    return int(vertical), int(horizontal)
