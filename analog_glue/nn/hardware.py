"""The accelerator on paper."""

import math
from dataclasses import dataclass, replace
from typing import Any

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

    @property
    def non_idealities(self) -> tuple[str, ...]:
        """Of devices and periphery, by name."""
        return (*self.device.non_idealities, *self.crossbar.non_idealities)

    def without(self, name: str) -> "Hardware":
        """The same with one of its `non_idealities` taken away."""
        device: Any = self.device  # every concrete one is a dataclass
        if name in device.non_idealities:
            return replace(self, device=replace(device, **device.non_idealities[name]))
        return replace(self, crossbar=replace(self.crossbar, **self.crossbar.non_idealities[name]))

    def only(self, name: str) -> "Hardware":
        """The same with all but one of its `non_idealities` taken away; for a name that is none of them, with all."""
        bare = self
        for other in self.non_idealities:
            bare = bare if other == name else bare.without(other)
        return bare

    @property
    def noise_floor(self) -> float:
        """The smallest programming error of any weight, of the largest: what may be rounded away without being noticed."""
        return self.device.noise_floor / math.sqrt(self.crossbar.cells_per_weight)

    @property
    def is_deterministic(self) -> bool:
        """Whether all chips give the same outputs at all times."""
        return not self.device.non_idealities and not self.crossbar.is_noisy
