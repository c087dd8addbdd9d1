"""What stands around a layer's tiles and is learned or calibrated: input ranges and output scales."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LayerPeriphery:
    """The digital numbers beside a layer's tiles: `input_range` α [row blocks], `output_scale` [row blocks, outputs]."""

    input_range: Tensor
    output_scale: Tensor | None = None  # None: 1 everywhere
