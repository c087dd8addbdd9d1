"""The active devices of differential pairs: weights are written into them, and read as what they have become.

Compiled, phase-change memory takes one pass each (kernels/phase_change.py) with the normal numbers of the reference; where it
draws none, and for other devices, the reference computes.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analog_glue.devices import pcm
from analog_glue.devices.device import Device, ProgrammedArray, check_targets, remembered
from analog_glue.kernels.gaussian import PART, NormalStream, key_words
from analog_glue.kernels.operation import operation
from analog_glue.kernels.parallel import run
from analog_glue.tiles.mapping import conductances_to_weights, weights_to_targets


@operation
def written(weights: Tensor, device: Device, noise: NormalStream) -> tuple[Tensor, ProgrammedArray]:
    """Normalised weights of any shape, in [−1, 1] → their signs (int8) and the active devices, programmed.

    Raises:
        ValueError: weights outside [−1, 1].
    """
    targets = weights_to_targets(weights, device.g_max)
    return targets.sign, device.program(targets.g_active, noise)


@operation
def aged(device: Device, sign: Tensor, active: ProgrammedArray, t: float, noise: NormalStream) -> Tensor:
    """Normalised weights at `t` [s] after programming of pairs whose idle devices stay at 0."""
    return conductances_to_weights(device.conductance(active, t, noise), None, sign, device.g_max)


@written.compiled("cpu")
def _written(weights: Tensor, device: Device, noise: NormalStream) -> tuple[Tensor, ProgrammedArray]:
    if not isinstance(device, pcm.PCM) or device.idle_noise or weights.dtype != torch.float32:
        return written(weights, device, noise)
    from analog_glue.kernels.phase_change import program

    weights = weights.contiguous()
    g_target, sign = torch.empty_like(weights), torch.empty_like(weights, dtype=torch.int8)
    error, nu = (torch.empty_like(weights, dtype=torch.float16) for _ in range(2))
    error_fit = [c / pcm.G_MAX_OF_FIT for c in pcm.PROGRAMMING_ERROR_FIT]
    law = (
        *_floats(device.g_max, pcm.GHAT_FLOOR),
        _floats(*error_fit),
        *_floats(device.noise_scale * device.programming * device.g_max),
        _floats(*pcm.DRIFT_MEAN_FIT),
        _floats(*pcm.DRIFT_SPREAD_FIT),
        *_floats(device.drift_spread, 1 - device.drift),
        (*key_words(noise.next_key()), *key_words(noise.next_key())),
    )
    largest = _in_parts(program, [weights], law, [g_target, sign, error, nu])
    if not all(of_part <= 1 for of_part in largest):  # nor is a NaN
        check_targets(g_target, device.g_max)
    return sign, ProgrammedArray(g_target, error, nu)


@aged.compiled("cpu")
def _aged(device: Device, sign: Tensor, active: ProgrammedArray, t: float, noise: NormalStream) -> Tensor:
    fluctuates = isinstance(device, pcm.PCM) and device.noise_scale * device.one_over_f > 0
    if not fluctuates or active.error is None or active.error.dtype != torch.float16:
        return aged(device, sign, active, t, noise)
    from analog_glue.kernels.phase_change import age

    assert isinstance(device, pcm.PCM)
    weights = torch.empty_like(active.g_target)
    growth = device.noise_scale * device.one_over_f * device.accumulated_read_noise(t)
    law = (
        *_floats(device.g_max, pcm.GHAT_FLOOR, math.log((t + device.t_c) / device.t_c)),
        _floats(*pcm.READ_NOISE_FIT),
        *_floats(growth),
        *key_words(noise.next_key()),
    )
    remember = [active.g_target, sign, active.error, remembered(active.nu, "drift exponents")]
    _in_parts(age, remember, law, [weights])
    return weights


def _floats(*numbers: float) -> tuple[np.float32, ...]:
    return tuple(np.float32(number) for number in numbers)


def _in_parts(kernel: Any, read: Sequence[Tensor], law: tuple[Any, ...], write: Sequence[Tensor]) -> list[Any]:
    """What `kernel` returns of every part; every core takes one after another."""
    before, after = ([_flat(tensor) for tensor in tensors] for tensors in (read, write))
    size, results = read[0].numel(), []
    run(lambda first: results.append(kernel(*before, *law, *after, first, min(first + PART, size))), range(0, size, PART))
    return results


def _flat(tensor: Tensor) -> np.ndarray:
    halves = tensor.dtype == torch.float16
    return (tensor.view(torch.int16) if halves else tensor).view(-1).numpy()
