"""Voltage along many wires, compiled: see `tiles.wires.left_of_a_ladder`."""

import numpy as np

from analog_glue.kernels.jit import exact


@exact
def ladder(conductances, segment, both_ends, voltage, first, last):
    """Wires `first` to `last`.

    Args:
        conductances: [wires, length] float64.
        segment: Conductance of a segment.
        both_ends: Whether there is a driver behind the last device, too.
        voltage: [wires, length] float64, the result.
    """
    length = conductances.shape[1]
    load, source = np.empty(length), np.zeros(length)
    for wire in range(first, last):
        load[length - 1] = conductances[wire, length - 1]
        if both_ends:
            load[length - 1] += segment
            source[length - 1] = segment
        for k in range(length - 2, -1, -1):
            passes = segment / (segment + load[k + 1])
            load[k] = conductances[wire, k] + load[k + 1] * passes
            source[k] = source[k + 1] * passes
        before = 1.0
        for k in range(length):
            before = (segment * before + source[k]) / (segment + load[k])
            voltage[wire, k] = before
