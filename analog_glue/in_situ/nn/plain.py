"""Plain torch networks that hold the weights of arrays trained in situ, for digital scores and for chips of another kind.

A weight matrix (outputs, inputs) becomes one linear layer; its bias column becomes the layer's bias, which is digital wherever
the layer lies on tiles. A convolution is the linear layer of its patches, one vector each.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from analog_glue.errors import UserError

State = list[tuple[Tensor, Tensor]]  # output and cell (streams, hidden) of every layer


class CharacterLSTM(nn.Module):
    """The LSTM of in_situ/nn/lstm.py: a linear layer (last output, input from below) → gates i, f, g, o for every layer."""

    def __init__(self, weights: Sequence[np.ndarray]) -> None:
        """Args: weights: (4·hidden, hidden + 1 + inputs) of every layer, then (symbols, hidden + 1) of the decoder."""
        super().__init__()
        self.symbols, self.hidden = weights[-1].shape[0], weights[-1].shape[1] - 1
        self.layers = nn.ModuleList(_linear(array, self.hidden) for array in weights[:-1])
        self.decoder = _linear(weights[-1], self.hidden)

    def empty(self, streams: int, device: str = "cpu") -> State:
        """The state at the beginning of a text."""
        zeros = torch.zeros(streams, self.hidden, device=device)
        return [(zeros, zeros) for _ in self.layers]

    def forward(self, text: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits (streams, steps, symbols) of what follows every symbol of `text` (streams, steps), and the state then."""
        state, outputs = list(state), []
        for x in nn.functional.one_hot(text, self.symbols).float().unbind(1):
            for number, layer in enumerate(self.layers):
                h, c = state[number]
                i, f, g, o = layer(torch.cat([h, x], 1)).chunk(4, 1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                x = torch.sigmoid(o) * torch.tanh(c)
                state[number] = (x, c)
            outputs.append(self.decoder(x))
        return torch.stack(outputs, 1), state


def perceptron(weights: Sequence[np.ndarray]) -> nn.Sequential:
    """The network of in_situ/nn/perceptron.py: linear layers of arrays (outputs, inputs + 1), sigmoids between."""
    layers: list[nn.Module] = []
    for array in weights:
        layers += [nn.Sigmoid()] * bool(layers) + [_linear(array, array.shape[1] - 1)]
    return nn.Sequential(*layers)


class Convolution(nn.Module):
    """The `torch.nn.Conv2d` of one group and zero padding as a linear layer on patches."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        if isinstance(conv.padding, str):
            raise UserError(f"Argument `conv` must pad with a number of zeros, but pads {conv.padding!r}. Write the number.")
        self.kernel, self.stride, self.padding, self.dilation = conv.kernel_size, conv.stride, conv.padding, conv.dilation
        weight = conv.weight.detach().flatten(1)
        bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach()
        self.linear = _linear(torch.cat([weight, bias[:, None]], 1).numpy(), weight.shape[1])

    def forward(self, x: Tensor) -> Tensor:
        patches = nn.functional.unfold(x, self.kernel, self.dilation, self.padding, self.stride)
        y = self.linear(patches.transpose(1, 2)).transpose(1, 2)
        down, across = (
            (x.shape[2 + i] + 2 * self.padding[i] - self.dilation[i] * (self.kernel[i] - 1) - 1) // self.stride[i] + 1
            for i in range(2)
        )
        return y.view(len(x), -1, down, across)


def on_linear_layers(model: nn.Module) -> nn.Module:
    """A copy of `model` whose convolutions are linear layers, which alone go on tiles."""
    return copy.deepcopy(
        model, {id(module): Convolution(module) for module in model.modules() if isinstance(module, nn.Conv2d)}
    )


def _linear(array: np.ndarray, bias: int) -> nn.Linear:
    """The layer of an array (outputs, inputs + 1) whose column number `bias` is the bias."""
    layer = nn.Linear(array.shape[1] - 1, array.shape[0])
    values = torch.as_tensor(array, dtype=torch.float32)
    with torch.no_grad():
        layer.weight.copy_(torch.cat([values[:, :bias], values[:, bias + 1 :]], 1))
        layer.bias.copy_(values[:, bias])
    return layer.requires_grad_(False)
