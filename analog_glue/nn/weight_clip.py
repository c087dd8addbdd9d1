"""Keeping the weights of a layer within some of their own standard deviations, as hardware-aware training does after a step."""

import numpy as np
from torch import Tensor

from analog_glue.kernels.operation import operation


@operation
def clip_to_spread(weight: Tensor, deviations: float) -> None:
    """Clip `weight` [outputs, inputs] in place to ±`deviations` standard deviations of all its entries."""
    bound = weight.std().mul_(deviations)
    weight.clamp_(-bound, bound)


@clip_to_spread.compiled("cpu")
def _clip_to_spread(weight: Tensor, deviations: float) -> None:
    from analog_glue.kernels.weights import clip, moments, share_columns

    array, columns = weight.numpy(), len(weight)
    sums = np.empty((2, columns))
    share_columns(moments, columns, array, sums)
    total, squares = sums.sum(axis=1)
    around_mean = max(squares - total * total / weight.numel(), 0.0)  # of equal weights it may round to below 0
    spread = np.sqrt(around_mean / (weight.numel() - 1))
    share_columns(clip, columns, array, np.float32(spread) * np.float32(deviations))
