"""Lines 13 to 16 of Tiki-Taka (training/tiki_taka.py), rows of both arrays through all steps of a sequence."""

import numpy as np
from numba import float32, uint32

from analog_glue.in_situ.kernels.matvec import READ, converted
from analog_glue.in_situ.kernels.pulsed import (
    GROUP,
    PURPOSES,
    TRAIN,
    draw_normals,
    draw_trains,
    one_pulse,
    update_power,
    update_samples,
    work_space,
)
from analog_glue.kernels.jit import compiled

LATER = 16  # first counter of normal numbers after those of a read


@compiled
def update_and_transfer(a, reference, a_devices, a_noise, a_multiplicative, a_power, gentle, c, c_devices, c_noise,
                        c_multiplicative, c_power, words_x, words_d, inputs, ns, probability, longest, io, step, array, k0, k1,
                        first, last):  # fmt: skip
    samples, work = words_x.shape[0], work_space(words_x)
    normals, values, words = np.empty(128, np.float32), np.zeros(GROUP, np.float32), np.empty(GROUP, np.uint32)
    used = uint32(uint32(0xFFFFFFFF) >> uint32(32 - longest))
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
            if (step + t) % ns == 0:
                i = ((step + t) // ns - 1) % inputs  # line 16
                purpose = READ + PURPOSES * start
                draw_normals(normals, uint32(0), uint32(step + t), uint32(purpose), uint32(array), k0, k1)
                for k in range(start, end):  # line 14
                    values[k - start] = converted(a[k, i] - reference[k, i] + float32(io.noise) * normals[k - start], io)
                draw_trains(words, values, 0, float32(probability), used, uint32(step + t), uint32(purpose + 2), uint32(array),
                            k0, k1)  # fmt: skip
                drawn, left = uint32(LATER), 128 - GROUP
                for k in range(start, end):  # line 15
                    pulses = uint32(words[k - start] & uint32(TRAIN))
                    while pulses != uint32(0):
                        pulses = uint32(pulses & uint32(pulses - uint32(1)))
                        if left == 0:
                            draw_normals(normals, drawn, uint32(step + t), uint32(purpose), uint32(array), k0, k1)
                            drawn, left = uint32(drawn + uint32(16)), 128
                        left -= 1
                        c[k, i] = one_pulse(c[k, i], c_devices, k, i, values[k - start] > float32(0), c_noise, c_multiplicative,
                                            c_power, normals[127 - left])  # fmt: skip
