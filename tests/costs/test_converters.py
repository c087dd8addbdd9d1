"""Closed forms of converters against the numbers that their packages give."""

import pytest

from analog_glue.costs.converters import (
    adc_floor_area,
    adc_floor_energy,
    zigzag_adc_area,
    zigzag_adc_energy,
    zigzag_dac_energy,
)

# hwcomponents-adc 1.0.21, run: (process [nm], bits, rate [1/s]) → energy [pJ], area [µm²].
RUN = {
    (14, 8, 25e6): (0.362, 847),
    (14, 9, 25e6): (0.495, 930),
    (14, 10, 25e6): (0.700, 1032),
    (22, 8, 25e6): (0.847, 1712),
    (22, 9, 25e6): (1.157, 1879),
    (22, 10, 25e6): (1.636, 2084),
    (14, 8, 1e9): (0.362, 1650),
    (14, 9, 1e9): (0.993, 2231),
    (14, 10, 1e9): (2.948, 3090),
    (22, 10, 1e9): (6.894, 6242),
    (14, 8, 7.8e6): (0.362, 687),
    (14, 10, 7.8e6): (0.700, 836),
}


@pytest.mark.parametrize("case", RUN, ids=str)
def test_the_floor_is_what_its_package_computes(case):
    process, bits, rate = case
    energy, area = RUN[case]
    assert adc_floor_energy(bits, rate, process) == pytest.approx(energy, abs=0.00051)  # three decimals are printed
    assert adc_floor_area(bits, rate, process) == pytest.approx(area, abs=0.51)


def test_ten_bits_cost_more_the_faster_they_are():
    def ratio(rate: float) -> float:
        return adc_floor_energy(10, rate, 14) / adc_floor_energy(8, rate, 14)

    assert ratio(1e6) == ratio(1e8) == pytest.approx(1.93, abs=0.005)
    assert ratio(1e9) == pytest.approx(8.1, abs=0.05)


def test_zigzag_at_its_supply():
    assert zigzag_adc_energy(8, 0.8) == pytest.approx(0.554, abs=0.0005)
    assert zigzag_adc_energy(10, 0.8) == pytest.approx(1.311, abs=0.0005)
    assert zigzag_adc_area(8) == pytest.approx(2085, abs=0.5)
    assert zigzag_adc_area(10) == pytest.approx(7036, abs=0.5)
    assert zigzag_dac_energy(8, 0.8) == pytest.approx(0.256)
    assert zigzag_dac_energy(1, 0.8) == 0
