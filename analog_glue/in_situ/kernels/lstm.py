"""A recurrent network of long short-term memory on analog arrays: a whole sequence forward and backward in one call.

Every layer is one array [gates, inputs] with gates (i, f, g, o) and inputs (own last output, 1, input from below), the
last array the decoder (outputs of the last layer, 1). What a rank-1 update needs is recorded for every array and step.

    a = W (h', 1, x)     i, f, o = σ(a),  g = tanh(a)     c = f c' + i g     h = o tanh(c)
"""

import math

import numpy as np
from numba import float32, int32

from analog_glue.in_situ.kernels.matvec import BACKWARD, FORWARD, analog_product
from analog_glue.kernels.jit import compiled, float_of, inlined

LOG2E = 1 / math.log(2)
EXPONENTIAL = (1.0, 0.6931471825, 0.2402264923, 0.0555041283, 0.0096181240, 0.0013333558, 0.0001540353)  # 2^f, |f| ≤ 1/2


@inlined
def exponential(x):
    """eˣ to 2·10⁻⁷ for |x| < 80, in a form that loops vectorise."""
    y = min(max(x * float32(LOG2E), float32(-120)), float32(120))
    whole = int32(y + float32(1000.5)) - int32(1000)
    f = y - float32(whole)
    p = float32(EXPONENTIAL[6])
    p = p * f + float32(EXPONENTIAL[5])
    p = p * f + float32(EXPONENTIAL[4])
    p = p * f + float32(EXPONENTIAL[3])
    p = p * f + float32(EXPONENTIAL[2])
    p = p * f + float32(EXPONENTIAL[1])
    p = p * f + float32(EXPONENTIAL[0])
    return p * float_of(int32(int32(int32(whole) + int32(127)) << int32(23)))


@inlined
def sigmoid(x):
    return float32(1) / (float32(1) + exponential(-x))


@inlined
def tangent(x):
    """tanh x."""
    return float32(2) / (float32(1) + exponential(float32(-2) * x)) - float32(1)


@compiled
def _cell(gates, below_c, c, h, tanh_c):
    """Activations in place of the sums `gates` (4 hidden,), new state `c` and output `h`."""
    n = c.shape[0]
    for j in range(2 * n):
        gates[j] = sigmoid(gates[j])
    for j in range(2 * n, 3 * n):
        gates[j] = tangent(gates[j])
    for j in range(3 * n, 4 * n):
        gates[j] = sigmoid(gates[j])
    i, f, g, o = gates[:n], gates[n : 2 * n], gates[2 * n : 3 * n], gates[3 * n :]
    for j in range(n):
        new = f[j] * below_c[j] + i[j] * g[j]
        c[j] = new
        tanh_c[j] = tangent(new)
        h[j] = o[j] * tanh_c[j]


@compiled
def _cell_backward(gates, below_c, tanh_c, dh, dc, delta):
    """Gradient of the sums (`delta`) from that of the output (`dh`); `dc` is carried from step to step."""
    n = dh.shape[0]
    i, f, g, o = gates[:n], gates[n : 2 * n], gates[2 * n : 3 * n], gates[3 * n :]
    d_i, d_f, d_g, d_o = delta[:n], delta[n : 2 * n], delta[2 * n : 3 * n], delta[3 * n :]
    one = float32(1)
    for j in range(n):
        into = dc[j] + dh[j] * o[j] * (one - tanh_c[j] * tanh_c[j])
        d_o[j] = dh[j] * tanh_c[j] * o[j] * (one - o[j])
        d_i[j] = into * g[j] * i[j] * (one - i[j])
        d_f[j] = into * below_c[j] * f[j] * (one - f[j])
        d_g[j] = into * i[j] * (one - g[j] * g[j])
        dc[j] = into * f[j]


@compiled
def softmax_gradient(logits, symbols, target, gradient):
    """Cross-entropy [nats] of `target`; its gradient, negative (along the change that lowers it)."""
    largest = logits[0]
    for s in range(symbols):
        largest = max(largest, logits[s])
    total = float32(0)
    for s in range(symbols):
        gradient[s] = exponential(logits[s] - largest)
    for s in range(symbols):
        total += gradient[s]
    loss = math.log(total) + largest - logits[target]
    inverse = float32(-1) / total
    for s in range(symbols):
        gradient[s] *= inverse
    gradient[target] += float32(1)
    return loss


@compiled
def sequence(text, symbols, forward, backward, xs, ds, state, io, io_back, scale, learn, step, k0, k1):
    """Read `text`, predict every next symbol, and (`learn`) send the errors back through time.

    Args:
        text: int64 [steps + 1] symbols.
        symbols: Size of the alphabet.
        forward: Tuple of transposed weights float32 [inputs, padded outputs] of every array, the decoder last; what the tuples
            hold behind it is left alone.
        backward: Tuple of weights float32 [outputs, padded inputs].
        xs, ds: Tuples of float32 [steps, padded inputs or outputs]: filled with the inputs of every array and with the
            change of its outputs that lowers the loss (minus the gradient). Padding must be 0.
        state: float32 [layers, 2, hidden]: output and cell of every layer, carried on.
        io, io_back: `matvec.IO` of the products forward and backward.
        scale: Digital factor behind every array.
        step: Number of the first step; names the noise.

    Returns:
        Sum of the cross-entropy over the steps [nats].
    """
    steps = text.shape[0] - 1
    layers, hidden = state.shape[0], state.shape[2]
    gates = np.empty((layers, steps, 4 * hidden), np.float32)
    cells = np.empty((layers, steps + 1, hidden), np.float32)
    tanh_cells = np.empty((layers, steps, hidden), np.float32)
    most = max(2 * hidden + 1, hidden + 1 + symbols)
    rows = np.arange(max(most, 4 * hidden, symbols))
    first_rows = np.arange(hidden + 2)
    codes = np.empty(max(most, 4 * hidden, symbols), np.float32)
    normals = np.empty((max(4 * hidden, symbols, most) + 127) // 128 * 128, np.float32)
    logits = np.empty(symbols, np.float32)
    h = np.empty((layers, hidden), np.float32)
    one = float32(1)
    for layer in range(layers):
        h[layer] = state[layer, 0]
        cells[layer, 0] = state[layer, 1]
    loss = 0.0
    for t in range(steps):
        for layer in range(layers):
            x = xs[layer][t]
            x[:hidden] = h[layer]
            x[hidden] = one
            if layer == 0:
                x[hidden + 1 :] = float32(0)
                x[hidden + 1 + text[t]] = one
                first_rows[hidden + 1] = hidden + 1 + text[t]
                analog_product(gates[layer, t], forward[layer], x, first_rows, hidden + 2, io, scale, FORWARD, step + t, layer,
                               k0, k1, codes, normals)  # fmt: skip
            else:
                x[hidden + 1 : 2 * hidden + 1] = h[layer - 1]
                analog_product(gates[layer, t], forward[layer], x, rows, 2 * hidden + 1, io, scale, FORWARD, step + t, layer,
                               k0, k1, codes, normals)  # fmt: skip
            _cell(gates[layer, t], cells[layer, t], cells[layer, t + 1], h[layer], tanh_cells[layer, t])
        x = xs[layers][t]
        x[:hidden] = h[layers - 1]
        x[hidden] = one
        analog_product(logits, forward[layers], x, rows, hidden + 1, io, scale, FORWARD, step + t, layers, k0, k1, codes,
                       normals)  # fmt: skip
        loss += softmax_gradient(logits, symbols, text[t + 1], ds[layers][t])
    for layer in range(layers):
        state[layer, 0] = h[layer]
        state[layer, 1] = cells[layer, steps]
    if not learn:
        return loss
    carried = np.zeros((layers, hidden), np.float32)  # gradient of the output of every layer, from the next step
    dc = np.zeros((layers, hidden), np.float32)
    dh = np.empty(hidden, np.float32)
    below = np.empty(2 * hidden + 1, np.float32)
    top = np.empty(hidden, np.float32)
    for t in range(steps - 1, -1, -1):
        analog_product(top, backward[layers], ds[layers][t], rows, symbols, io_back, scale, BACKWARD, step + t, layers, k0, k1,
                       codes, normals)  # fmt: skip
        dh[:] = top
        for layer in range(layers - 1, -1, -1):
            for j in range(hidden):
                dh[j] += carried[layer, j]
            delta = ds[layer][t]
            _cell_backward(gates[layer, t], cells[layer, t], tanh_cells[layer, t], dh, dc[layer], delta)
            if layer > 0:
                analog_product(below, backward[layer], delta, rows, 4 * hidden, io_back, scale, BACKWARD, step + t, layer, k0,
                               k1, codes, normals)  # fmt: skip
                dh[:] = below[hidden + 1 :]
                carried[layer] = below[:hidden]
            else:
                analog_product(top, backward[layer], delta, rows, 4 * hidden, io_back, scale, BACKWARD, step + t, layer, k0, k1,
                               codes, normals)  # fmt: skip
                carried[layer] = top
    return loss
