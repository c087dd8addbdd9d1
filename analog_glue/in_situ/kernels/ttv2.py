"""Lines 13 to 22 of TTv2 (training/ttv2.py), rows of both arrays through all steps of a sequence."""

import numpy as np
from numba import float32, uint32

from analog_glue.in_situ.kernels.matvec import READ, converted
from analog_glue.in_situ.kernels.pulsed import (
    GROUP,
    PURPOSES,
    draw_normals,
    one_pulse,
    update_power,
    update_samples,
    work_space,
)
from analog_glue.kernels.jit import compiled


@compiled
def update_and_transfer(a, reference, a_devices, a_noise, a_multiplicative, a_power, gentle, c, c_devices, c_noise,
                        c_multiplicative, c_power, h, vectors, words_x, words_d, signs, inputs, ns, lam, threshold, momentum,
                        io, step, array, k0, k1, first, last):  # fmt: skip
    samples = words_x.shape[0]
    coefficients = h.shape[1]
    one_hot = vectors.shape[0] == 0
    work = work_space(words_x)
    normals, normals_of_pulses = np.empty(128, np.float32), np.empty(128, np.float32)
    for start in range(first, last, GROUP):
        end = min(start + GROUP, last)
        t = 0
        while t < samples:
            until = min(samples, t + ns - (step + t) % ns)
            # line 13
            if a_power:
                update_power(a, a_devices, words_x[t:until], words_d[t:until], a_noise, a_multiplicative, gentle, step + t,
                             array, k0, k1, start, end)  # fmt: skip
            else:
                update_samples(a, a_devices, words_x, words_d, t, until, work, a_noise, a_multiplicative, gentle, step + t,
                               array, k0, k1, start, end)  # fmt: skip
            t = until
            if (step + t) % ns == 0:  # line 14
                number = (step + t) // ns - 1
                i = number % coefficients  # line 22
                sign = signs[number - step // ns]
                draw_normals(normals, uint32(0), uint32(step + t), uint32(READ + PURPOSES * start), uint32(array), k0, k1)
                for k in range(start, end):
                    if one_hot:
                        v = a[k, i] - reference[k, i]  # line 15
                    else:
                        v = float32(0)
                        for j in range(inputs):
                            v += (a[k, j] - reference[k, j]) * vectors[i, j]
                    v = converted(v + float32(io.noise) * normals[k - start], io) * sign
                    h[k, i] += float32(lam) * (v if one_hot else v / float32(coefficients))  # line 16
                    if abs(h[k, i]) >= float32(threshold):  # line 18
                        up = h[k, i] > float32(0)  # line 19
                        h[k, i] *= float32(momentum)  # line 20
                        if one_hot:  # line 21
                            c[k, i] = one_pulse(c[k, i], c_devices, k, i, up, c_noise, c_multiplicative, c_power,
                                                normals[k - start + GROUP])  # fmt: skip
                        else:
                            drawn = 128
                            for j in range(inputs):
                                if drawn == 128:
                                    draw_normals(normals_of_pulses, uint32(16 + j), uint32(step + t),
                                                 uint32(READ + PURPOSES * (k + 65536)), uint32(array), k0, k1)  # fmt: skip
                                    drawn = 0
                                c[k, j] = one_pulse(c[k, j], c_devices, k, j, up == (vectors[i, j] > float32(0)), c_noise,
                                                    c_multiplicative, c_power, normals_of_pulses[drawn])  # fmt: skip
                                drawn += 1
