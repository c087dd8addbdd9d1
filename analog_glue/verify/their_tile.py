"""aihwkit's C++ tile with the devices, periphery and pulses of ours, cross-point by cross-point.

The toolkit descends, W ← W − η d ⊗ x, so it gets −d. It is imported where it is used, and why it cannot be says `why_not`.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from analog_glue.in_situ.devices.device import PulsedArray, PulsedDevice, unpacked
from analog_glue.in_situ.devices.linear_step import LinearStep
from analog_glue.in_situ.devices.power_step import PowerStep
from analog_glue.in_situ.devices.symmetric_linear import SymmetricLinear
from analog_glue.in_situ.kernels.matvec import IO
from analog_glue.in_situ.kernels.pulsed import RATE_DOWN, RATE_UP, TARGET_DOWN, TARGET_UP


@dataclass(frozen=True)
class Sending:
    """How an update is sent: a learning rate for inputs and gradients of at most 1, and what is managed."""

    rate: float  # [steps at w = 0]
    managed_length: bool = True
    balanced: bool = True  # update management; without it, the largest gradient is 1 like the largest input


def why_not() -> str | None:
    """Why the toolkit's tile cannot be used here; None where it can."""
    try:
        from aihwkit.simulator.configs import ConstantStepDevice, SingleRPUConfig
        from aihwkit.simulator.tiles import AnalogTile

        owner = AnalogTile(2, 2, SingleRPUConfig(device=ConstantStepDevice()))  # of the memory that weights lie in
        owner.tile.set_learning_rate(0.01)
        owner.tile.update(torch.ones(1, 2), torch.ones(1, 2), False)
    except Exception as error:  # whatever a foreign package raises where it does not fit
        return f"{type(error).__name__}: {error}"
    return None


def their_device(device: PulsedDevice) -> Any:
    from aihwkit.simulator.configs import devices

    both = {"dw_min": device.dw_min, "dw_min_std": device.dw_min_std, "w_max": device.w_max, "w_min": -device.w_max}
    match device:
        case SymmetricLinear():
            return devices.ConstantStepDevice(**both)
        case PowerStep():
            return devices.PowStepDevice(**both)
        case _:
            kind = devices.LinearStepDevice if isinstance(device, LinearStep) else devices.SoftBoundsDevice
            return kind(**both, mult_noise=device.multiplicative_noise)


def _parameters(array: PulsedArray) -> dict[str, np.ndarray]:
    """Parameters of our devices (outputs, inputs) by the toolkit's names."""
    planes = [unpacked(array.devices, i)[:, : array.inputs].astype(np.float64) for i in range(array.devices.shape[2])]
    high, low = planes[-2:] if len(planes) == 6 else (planes[TARGET_UP], planes[TARGET_DOWN])
    bounds = {"max_bound": high, "min_bound": low}
    if array.power:
        return bounds | dict(zip(("dwmin_up", "gamma_up", "dwmin_down", "gamma_down"), planes, strict=False))
    up, down = (1 - 2 ** -planes[rate] for rate in (RATE_UP, RATE_DOWN))  # share of the way to the target
    steps = {"dwmin_up": up * planes[TARGET_UP], "dwmin_down": -down * planes[TARGET_DOWN]}
    return bounds | steps | {"slope_up": -up, "slope_down": down}


class TheirTile:
    """One of the toolkit's tiles with the devices of our arrays."""

    def __init__(self, config: Any, arrays: list[PulsedArray], start: np.ndarray, rate: float) -> None:
        from aihwkit.simulator.tiles import AnalogTile

        self.owner = AnalogTile(*start.shape, config)  # of the memory that the tile's weights lie in
        self.tile = self.owner.tile
        self.names = self.tile.get_hidden_parameter_names()
        suffixes = [""] if len(arrays) == 1 else [f"_{number}" for number in range(len(arrays))]
        ours = {name + end: p for end, array in zip(suffixes, arrays, strict=True) for name, p in _parameters(array).items()}
        values = self.tile.get_hidden_parameters()
        for place, name in zip(values, self.names, strict=True):
            if name in ours:
                place.copy_(torch.from_numpy(ours[name]))
        self.tile.set_hidden_parameters(values)
        self.tile.set_learning_rate(rate)
        self.start = torch.from_numpy(start.astype(np.float32))
        self.reset()

    def reset(self) -> None:
        self.tile.set_weights(self.start)

    def update(self, x: np.ndarray, d: np.ndarray) -> None:
        """W ← W + rate (d ⊗ x) for all samples."""
        self.tile.update(torch.from_numpy(x), torch.from_numpy(-d), False)

    def weights(self) -> np.ndarray:
        return self.tile.get_weights().numpy().copy()

    def hidden(self, name: str) -> np.ndarray:
        return self.tile.get_hidden_parameters()[self.names.index(name)].numpy()


def their_config(device: PulsedDevice, sending: Sending, forward: IO | None = None, backward: IO | None = None) -> Any:
    from aihwkit.simulator.configs import IOParameters, SingleRPUConfig

    return SingleRPUConfig(
        device=their_device(device), update=their_pulses(sending),
        forward=their_io(forward) if forward else IOParameters(), backward=their_io(backward) if backward else IOParameters(),
    )  # fmt: skip


def their_pulses(sending: Sending) -> Any:
    from aihwkit.simulator.configs import UpdateParameters

    return UpdateParameters(desired_bl=31, update_bl_management=sending.managed_length, update_management=sending.balanced)


def their_io(io: IO) -> Any:
    from aihwkit.simulator.configs import IOParameters
    from aihwkit.simulator.parameters.enums import BoundManagementType, NoiseManagementType

    return IOParameters(
        inp_res=1 / io.dac_steps if io.dac_steps else -1.0, out_res=1 / io.adc_steps if io.adc_steps else -1.0,
        out_bound=float(io.bound) if io.bound < math.inf else -1.0, out_noise=io.noise,
        noise_management=NoiseManagementType.ABS_MAX if io.noise_management else NoiseManagementType.NONE,
        bound_management=BoundManagementType.ITERATIVE if io.bound_management else BoundManagementType.NONE,
    )  # fmt: skip
