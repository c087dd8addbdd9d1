"""Which layers of a model lie on which tiles: resolved once, for everything that is done with them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn

from analog_glue.devices.device import Device
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.names import chosen_by_name
from analog_glue.tiles.mapping import TileGrid


@dataclass(frozen=True)
class Placement:
    """The layers that `hardware` takes of a model, by name in the model's order, and how each lies on tiles.

    It holds for the model and for every copy of it. A module used several times (ALBERT) is one layer and one array.
    """

    hardware: Hardware
    grids: Mapping[str, TileGrid]

    @classmethod
    def of(cls, model: nn.Module, hardware: Hardware) -> "Placement":
        """
        Raises:
            UserError: a pattern of `hardware.layers` that matches no linear layer of `model`, or none left.
        """
        chosen = chosen_by_name(_linear_layers(model), hardware.layers, "Setting `hardware.layers`", "linear")
        grids = {name: hardware.crossbar.grid(layer.out_features, layer.in_features) for name, layer in chosen.items()}
        return cls(hardware, grids)

    def layers(self, model: nn.Module) -> dict[str, nn.Linear]:
        """The placed layers of `model`."""
        linears = _linear_layers(model)
        return {name: linears[name] for name in self.grids}

    def with_devices(self, device: Device) -> "Placement":
        """The same tiles with other devices."""
        return replace(self, hardware=replace(self.hardware, device=device))


def clipped_weights(model: nn.Module, placement: Placement) -> str:
    """What `tile.scale_per=none` cuts off weights that are not normalised, in words; "" where it cuts nothing."""
    if placement.hardware.crossbar.scale_per != "none":
        return ""
    sizes = [layer.weight.detach().abs() for layer in placement.layers(model).values()]
    beyond, largest = sum(int((size > 1).sum()) for size in sizes), max(float(size.max()) for size in sizes)
    if not beyond:
        return ""
    share = 100 * beyond / sum(size.numel() for size in sizes)
    return (
        f"{beyond:,} weights ({share:.2g} %) are larger than 1, up to {largest:.3g}, and are clipped there: "
        "tile.scale_per=none takes them for normalised; column or tile gives them a digital scale"
    )


def beside_tiles(model: nn.Module) -> str:
    """The matrix products that no tile can take, since they are no `nn.Linear`: "8 Conv1D (99.6 % of …)"; "" without any.

    They are the parameters with two or more dimensions of other modules, by the class of their module (a convolution, a
    matrix of XLNet). Embeddings are looked up, not multiplied, and what is named a bias is added.
    """
    kinds: Counter[str] = Counter()
    weights = {True: 0, False: 0}  # by whether a tile can take them
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            continue
        own = module.named_parameters(recurse=False)
        matrices = [p for name, p in own if p.dim() >= 2 and "bias" not in name and "embed" not in name]
        linear = isinstance(module, nn.Linear)
        weights[linear] += sum(parameter.numel() for parameter in matrices)
        kinds[type(module).__name__] += 0 if linear else len(matrices)
    share = 100 * weights[False] / max(sum(weights.values()), 1)
    named = ", ".join(f"{number} {kind}" for kind, number in kinds.items() if number)
    return f"{named} ({share:.1f} % of the weights of matrix products)" if named else ""


def _linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
