"""What settings and machine make of an accelerator on paper: product, digits of the weights, stream of the noise."""

import pytest

from analog_glue.devices.ideal import Ideal
from analog_glue.devices.pcm import PCM
from analog_glue.kernels.gaussian import COUNTED
from analog_glue.kernels.products import MARGIN, ROUNDING
from analog_glue.nn.computation import Computation
from analog_glue.nn.hardware import Hardware
from analog_glue.tiles.crossbar import Crossbar

TILE = Crossbar()


@pytest.fixture(params=[True, False], ids=["integer units", "no integer units"])
def integer_units(request, monkeypatch):
    """Whether the CPU has fast products of 8-bit integers."""
    monkeypatch.setattr("analog_glue.kernels.integer_product.is_fast", lambda *tile: request.param)
    return request.param


def test_nothing_stays_undecided(integer_units):
    for device in (PCM(), Ideal()):
        computation = Computation.resolved(Hardware(device, TILE), "cpu")
        assert computation.kernel in ("reference", "compiled")
        assert "auto" not in (computation.fine, computation.coarse, computation.product, computation.stream)


@pytest.mark.parametrize(
    ("device", "product", "digits"), [(PCM(), "int8_single", 8), (PCM(noise_scale=0.5), "int8", 15), (Ideal(), "int8", 15)]
)
def test_rows_of_another_cpu_can_have_another_product(integer_units, device, product, digits):
    computation = Computation.resolved(Hardware(device, TILE), "cpu")
    found = computation.product, computation.weight_digits
    assert found == ((product, digits) if integer_units else ("float32", 24))


@pytest.mark.parametrize("asked", ["float32", "int8", "int8_single"])
def test_a_product_that_is_asked_for_is_that_of_all_weights(asked):
    computation = Computation.resolved(Hardware(PCM(), TILE), "cpu", product=asked)
    assert {computation.beside_noise(noise).product for noise in (0.0, ROUNDING, 1.0)} == {asked}


def test_noise_of_training_decides_for_itself(monkeypatch):
    monkeypatch.setattr("analog_glue.kernels.integer_product.is_fast", lambda *tile: True)
    computation = Computation.resolved(Hardware(Ideal(), TILE), "cpu")
    assert computation.beside_noise(1.01 * MARGIN * ROUNDING).product == "int8_single"
    assert computation.beside_noise(0.99 * MARGIN * ROUNDING).product == "int8"


@pytest.mark.parametrize("bits", [None, 9])
def test_inputs_that_are_no_8_bit_numbers_are_multiplied_as_floats_and_rows_say_so(bits):
    hardware = Hardware(PCM(), Crossbar(dac_bits=bits))
    assert Computation.resolved(hardware, "cpu", product="int8").product == "float32"


def test_the_stream_is_that_of_the_kernel_that_computes(kernel):
    stream = Computation.resolved(Hardware(PCM(), TILE), "cpu", kernel).stream
    assert stream == {"reference": "torch", "compiled": COUNTED}[kernel]
