"""The accelerator on paper."""

from dataclasses import dataclass

from analog_glue.devices.device import Device
from analog_glue.tiles.crossbar import Crossbar


@dataclass(frozen=True)
class Hardware:
    """Which devices, which tiles, and which layers of a model live on them. Comes from the command, never from a checkpoint.

    `layers` are name patterns (`fnmatch`) of the linear layers put on tiles; a pattern that starts with "!" takes layers out
    again, e.g. ("*", "!classifier*"). `product` is how products are computed: "auto", "int8", "int8_single" or "float32"
    (kernels/products.py); `kernel` what computes all else: "reference" or "compiled".
    `read_out` of the drift compensation: "measured" through the tiles' noise, or "expected" (tiles/drift_compensation.py).
    """

    device: Device
    crossbar: Crossbar
    layers: tuple[str, ...] = ("*",)
    product: str = "float32"
    kernel: str = "reference"
    read_out: str = "measured"
