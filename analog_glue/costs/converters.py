"""Energy and area of converters in closed form, as two published models have them.

Both are fits to converters of the literature, not to a chip of phase-change memory; they disagree by a factor of 1.5 at 8 bits.
"""

import math

# hwcomponents-adc 1.0.21 (Accelergy-Project; arXiv 2404.06553), model.py and adc_data/model.yaml; it calls itself optimistic.
_FOM_BY_RATE = (213.7806687, 2.871903040)  # [dB]
_FOM_BY_BITS = (128.3068287, 3.22052252)  # [dB]
_ENERGY = (26.04962157, 1.880036921, 2.829125605, 1.470202213)
_AREA = (1.346191644, 0.9932794745, 0.1807153842, 0.2991242619)


def adc_floor_energy(bits: int, rate: float, technology: float) -> float:
    """Energy of one conversion by the best of the ADCs published from 1997 to 2023 [pJ].

        FOM  = min(213.8 − 2.872 ln f, 128.3 + 3.221 b)  dB,   SNDR = 20 b log₁₀ 2 + 10 log₁₀ 1.5  dB
        E    = ½ · 10^((SNDR − FOM)/10) · exp(26.05 + 1.880 ln tech − 2.829 ln b − 1.470)  pJ

    The rate matters once it limits the figure of merit: 10 bits cost 1.9 times as much as 8 up to 100 MS/s, 8.1 at 1 GS/s.

    Args:
        bits: Effective number of bits, b, a whole number. The fit rises again below 4: 2 bits cost more than 8.
        rate: Conversions a second, f [1/s].
        technology: Of the process, tech [nm]; outside of the survey it extrapolates its power law.
    """
    fom = min(_FOM_BY_RATE[0] - _FOM_BY_RATE[1] * math.log(rate), _FOM_BY_BITS[0] + _FOM_BY_BITS[1] * bits)
    sndr = 20 * bits * math.log10(2) + 10 * math.log10(1.5)
    constant, of_technology, of_bits, offset = _ENERGY
    in_process = math.exp(constant + of_technology * math.log(technology) - of_bits * math.log(bits) - offset)
    return 0.5 * 10 ** ((sndr - fom) / 10) * in_process


def adc_floor_area(bits: int, rate: float, technology: float) -> float:
    """Area of the same ADC [µm²]: exp(1.346 + 0.9933 ln tech + 0.1807 ln f + 0.2991 ln(E/pJ))."""
    constant, of_technology, of_rate, of_energy = _AREA
    energy = adc_floor_energy(bits, rate, technology)
    return math.exp(constant + of_technology * math.log(technology) + of_rate * math.log(rate) + of_energy * math.log(energy))


def zigzag_adc_energy(bits: int, supply: float) -> float:
    """Energy of one conversion [pJ] in ZigZag-IMC (28 nm): (100 b + 0.001 · 4^b) Vdd² fJ.

    Args:
        supply: Vdd [V].
    """
    return (100 * bits + 0.001 * 4**bits) * supply**2 / 1000


def zigzag_adc_area(bits: int) -> float:
    """Area of an ADC [µm²] in ZigZag-IMC (28 nm): 10^(1.206 − 0.0369 b) · 2^b."""
    return float(10 ** (1.206 - 0.0369 * bits) * 2**bits)


def zigzag_dac_energy(bits: int, supply: float) -> float:
    """Energy of one conversion [pJ] in ZigZag-IMC (28 nm): 0.05 b Vdd²; 0 for a single bit, which is a driver."""
    return 0.0 if bits == 1 else 0.05 * bits * supply**2
