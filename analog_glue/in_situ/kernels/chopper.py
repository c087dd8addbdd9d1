"""Signs that change at random (training/chopped_ttv2.py): what they make of pulse trains and of reads."""

from numba import uint32

from analog_glue.in_situ.kernels.pulsed import SIGN
from analog_glue.kernels.jit import compiled
from analog_glue.kernels.threefry import threefry

CHOP = 72  # purpose of random words, beside those of kernels/pulsed.py and kernels/matvec.py


@compiled
def chop(words_x, chopper, signs, probability, ns, step, array, k0, k1):
    """Give the trains the choppers' signs; `signs` (reads,) becomes the chopper of each read, `chopper` what is next."""
    samples, inputs = words_x.shape[0], chopper.shape[0]
    for t in range(samples):
        for i in range(inputs):
            if chopper[i] < 0:
                words_x[t, i] ^= uint32(SIGN)
        if (step + t + 1) % ns == 0:
            number = (step + t + 1) // ns - 1
            i, read = number % inputs, number - step // ns
            signs[read] = chopper[i]
            zero = uint32(0)
            word = threefry(uint32(number), zero, uint32(CHOP), uint32(array), k0, k1, zero, zero)[0]
            if float(word) < probability * 2.0**32:
                chopper[i] = -chopper[i]
