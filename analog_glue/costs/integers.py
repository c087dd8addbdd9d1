"""Energy of a multiply-add of integers, the unit of quantised attention."""

# Spoon et al. (2021), Sec. 3.2.1, Fig. 7B: bfloat16 → INT6 multiply-add, adders wide enough for 64 terms, 14 nm.
INT6_ENERGY_GAIN, INT6_AREA_GAIN = 11.3, 4.7


def integer_energy(bits: int) -> float:
    """Energy of one multiply-add of integers in a 45 nm process [pJ]: 0.0031 n² + 0.0033 (2n + 6).

    A product grows with the square of the digits, an addition with the digits of the accumulator, which holds 64 products of 2n
    digits. The factors are fitted to INT8 and INT32 of Horowitz, ISSCC (2014): products of 0.2 and 3.1 pJ, sums of 0.03 and
    0.1 pJ.
    """
    return 0.0031 * bits**2 + 0.0033 * (2 * bits + 6)


def integer_energy_gain(bits: int) -> float:
    """How many times less energy than a bfloat16 multiply-add takes one of `bits`-bit integers.

    Published for 6 bits (11.3); for others derived: that number times the ratio of `integer_energy`. The law alone gives 11.7
    for INT6 against Horowitz's float16 product and float32 sum (2.0 pJ), which is within 4 % of the published one.
    """
    return INT6_ENERGY_GAIN * integer_energy(6) / integer_energy(bits)
