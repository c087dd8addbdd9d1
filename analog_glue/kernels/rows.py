"""Many products of one analog array in one call, and the patches of pictures that a convolution sends through it.

A row is one product as in `kernels.matvec`; rows differ in the number of the step that names their noise, so the result of a
row does not depend on what it was computed together with.
"""

import numpy as np
from numba import float32

from analog_glue.kernels.jit import compiled
from analog_glue.kernels.matvec import analog_product


@compiled
def analog_rows(out, matrix, xs, count, io, scale, purpose, step, array, k0, k1, transposed):
    """out[r] = scale · Σ_k xs[r, k] matrix[k] through converters and noise, k < `count`; row r is named by `step` + r.

    Args:
        out: float32 [rows, width], width ≤ columns of `matrix`.
        matrix, io, scale, purpose, array, transposed: As in `matvec.analog_product`.
        xs: float32 [rows, at least `count`].
    """
    width = out.shape[1]
    rows, codes = np.arange(count), np.empty(count, np.float32)
    normals = np.empty((width + 127) // 128 * 128, np.float32)
    for r in range(xs.shape[0]):
        analog_product(out[r], matrix, xs[r], rows, count, io, scale, purpose, step + r, array, k0, k1, codes, normals,
                       transposed)  # fmt: skip


@compiled
def gather_patches(rows, images, kernel, stride, padding, dilation):
    """Patches of pictures as rows, picture after picture, line after line.

    Args:
        rows: float32 [pictures · positions, at least channels · kernel]: filled from the left, in the order (channel, y, x)
            that the weights of `torch.nn.Conv2d` have; beyond the edges a picture is 0.
        images: float32 [pictures, channels, height, width].
        kernel, stride, padding, dilation: Two integers each, vertical and horizontal.
    """
    pictures, channels, height, width = images.shape
    down = (height + 2 * padding[0] - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
    across = (width + 2 * padding[1] - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1
    r = 0
    for n in range(pictures):
        for top in range(down):
            for left in range(across):
                row = rows[r]
                r += 1
                i = 0
                for c in range(channels):
                    for v in range(kernel[0]):
                        y = top * stride[0] - padding[0] + v * dilation[0]
                        x = left * stride[1] - padding[1]
                        if dilation[1] == 1 and 0 <= y < height and 0 <= x and x + kernel[1] <= width:
                            for u in range(kernel[1]):
                                row[i + u] = images[n, c, y, x + u]
                        else:
                            for u in range(kernel[1]):
                                at = x + u * dilation[1]
                                inside = 0 <= y < height and 0 <= at < width
                                row[i + u] = images[n, c, y, at] if inside else float32(0)
                        i += kernel[1]


@compiled
def scatter_patches(images, rows, kernel, stride, padding, dilation):
    """The transpose of `gather_patches`: adds every number of `rows` to the pixel that it came from."""
    pictures, channels, height, width = images.shape
    down = (height + 2 * padding[0] - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
    across = (width + 2 * padding[1] - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1
    r = 0
    for n in range(pictures):
        for top in range(down):
            for left in range(across):
                row = rows[r]
                r += 1
                i = 0
                for c in range(channels):
                    for v in range(kernel[0]):
                        y = top * stride[0] - padding[0] + v * dilation[0]
                        x = left * stride[1] - padding[1]
                        if 0 <= y < height:
                            for u in range(kernel[1]):
                                at = x + u * dilation[1]
                                if 0 <= at < width:
                                    images[n, c, y, at] += row[i + u]
                        i += kernel[1]
