"""What several of these tests build and compare with."""

import math

import numpy as np

from analog_glue.in_situ.devices.soft_bounds import SoftBounds
from analog_glue.in_situ.kernels.matvec import IO
from analog_glue.in_situ.tasks.characters import Characters
from analog_glue.in_situ.training.chopped_ttv2 import ChoppedTTv2
from analog_glue.in_situ.training.mode import Periphery
from analog_glue.in_situ.training.sgd_pulsed import SGDPulsed
from analog_glue.in_situ.training.tiki_taka import TikiTaka
from analog_glue.in_situ.training.ttv2 import TTv2

CLEAN = Periphery(
    dac_bits=0, adc_bits=0, output_bound=math.inf, output_noise=0.0, noise_management=False, bound_management=False
)


MODES = (SGDPulsed, TikiTaka, TTv2, ChoppedTTv2)


NOISY = IO(0.0, 0.0, math.inf, 0.06, True, False)


def largest_correlation(samples):
    """Between any two columns of `samples`, in sampling errors."""
    assert np.all(samples.std(0) > 0)
    correlations = np.corrcoef(samples.T) - np.eye(samples.shape[1])
    return np.abs(correlations).max() * math.sqrt(len(samples))


def characters(mode, seed=0, sequences=12):
    text = np.random.default_rng(1).integers(0, 11, 20 * sequences + 1)
    return Characters(text, text[:101], 11, 16, 2, 20, 50, mode, SoftBounds(dw_min=0.02), seed)
