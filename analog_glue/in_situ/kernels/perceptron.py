"""A fully connected network on analog arrays, one sample at a time: x → σ(W (x, 1)) → … → softmax."""

import numpy as np
from numba import float32

from analog_glue.in_situ.kernels.lstm import sigmoid, softmax_gradient
from analog_glue.in_situ.kernels.matvec import BACKWARD, FORWARD, analog_product
from analog_glue.kernels.jit import compiled


@compiled
def sample(x, target, arrays, weights, xs, ds, io, io_back, scale, learn, step, k0, k1):
    """Classify one sample, and (`learn`) send the error back.

    Args:
        x: float32 (inputs of the first array, without the 1).
        target: Class.
        arrays: Number of arrays; the tuples may hold more, which are left alone.
        weights: Tuple of float32 [outputs, padded inputs] of every array.
        xs, ds: Tuples of float32 [1, padded inputs or outputs]: filled with the inputs of every array, and the change of its
            outputs that lowers the loss. Padding must be 0.
        io, io_back, scale, step: As in `kernels.lstm.sequence`.

    Returns:
        Cross-entropy [nats], whether the largest output is the target's.
    """
    most = 0
    for layer in range(arrays):
        most = max(most, max(xs[layer].shape[1], ds[layer].shape[1]))
    rows = np.arange(most)
    codes, normals = np.empty(most, np.float32), np.empty((most + 127) // 128 * 128, np.float32)
    out = np.empty(most, np.float32)
    n = x.shape[0]
    xs[0][0, :n] = x
    for layer in range(arrays):
        xs[layer][0, n] = float32(1)
        outputs = weights[layer].shape[0]
        analog_product(out[:outputs], weights[layer], xs[layer][0], rows, n + 1, io, scale, FORWARD, step, layer, k0, k1, codes,
                       normals, True)  # fmt: skip
        if layer + 1 < arrays:
            h = xs[layer + 1][0]
            for o in range(outputs):
                h[o] = sigmoid(out[o])
        n = outputs
    right = True
    for o in range(n):
        right = right and (o == target or out[o] < out[target])
    loss = softmax_gradient(out, n, target, ds[arrays - 1][0])
    if learn:
        for layer in range(arrays - 1, 0, -1):
            outputs, below = weights[layer].shape[0], weights[layer - 1].shape[0]
            analog_product(out[:below], weights[layer], ds[layer][0], rows, outputs, io_back, scale, BACKWARD, step, layer, k0,
                           k1, codes, normals)  # fmt: skip
            for o in range(below):
                h_o = xs[layer][0, o]
                ds[layer - 1][0, o] = out[o] * h_o * (float32(1) - h_o)
    return loss, right


@compiled
def score(images, targets, arrays, weights, xs, ds, io, scale, step, k0, k1):
    """Sum of the cross-entropy [nats] and number of right answers over all `images` [samples, inputs]."""
    total, hits = 0.0, 0
    for i in range(images.shape[0]):
        loss, right = sample(images[i], targets[i], arrays, weights, xs, ds, io, io, scale, False, step + i, k0, k1)
        total += loss
        hits += 1 if right else 0
    return total, hits
