"""The accelerator on paper."""

from dataclasses import dataclass

from analog_glue.devices.device import Device
from analog_glue.tiles.crossbar import Crossbar


@dataclass(frozen=True)
class Hardware:
    """Which devices, which tiles, and which layers of a model live on them. Comes from the command, never from a checkpoint.

    `layers` are name patterns (`fnmatch`) of the linear layers put on tiles; a pattern that starts with "!" takes layers out
    again, e.g. ("*", "!classifier*"). How all of this is computed is a `Computation`, where it meets a model a `Placement`.
    """

    device: Device
    crossbar: Crossbar
    layers: tuple[str, ...] = ("*",)
