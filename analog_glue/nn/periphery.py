"""What stands around a layer's tiles and is learned, calibrated or tuned: ranges of the DACs and of the columns, and scales."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from torch import Tensor


@dataclass(frozen=True)
class LayerPeriphery:
    """The numbers beside a layer's tiles. What is None is as the tile has it by itself.

    With all of them the output i of a layer is, x̂ = x / input_scale and ŵ = w · input_scale / weight_range,

        y_i = Σ_r output_scale[r, i] · weight_range[r, i] · α_r · ADC( DAC(x̂ / α_r) · ŵᵀ ) + bias_i
    """

    input_range: Tensor  # α [row blocks]: the largest |x̂| that the DACs tell apart
    output_scale: Tensor | None = None  # [row blocks, outputs]; None: 1 everywhere
    weight_range: Tensor | None = None  # [row blocks, outputs] the weight that is a full-on cell; None: by `Crossbar.scale_per`
    input_scale: Tensor | None = None  # [inputs], positive: divides inputs before the DAC, multiplies the weights; None: 1


def periphery_tensors(periphery: Mapping[str, LayerPeriphery]) -> dict[str, Tensor]:
    """As they are stored: "<layer>.<field>"; what is None is left out."""
    return {
        f"{name}.{field.name}": value
        for name, layer in periphery.items()
        for field in fields(layer)
        if (value := getattr(layer, field.name)) is not None
    }


def periphery_from(tensors: Mapping[str, Tensor]) -> dict[str, LayerPeriphery]:
    """Inverse of `periphery_tensors`."""
    layers: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, field = key.rpartition(".")
        layers.setdefault(name, {})[field] = value
    return {name: LayerPeriphery(**layers[name]) for name in sorted(layers)}
