"""Random numbers of the compiled kernels: published answers of the cipher, then the laws of words and of normal numbers.

Seeds are fixed, so every test gives the same answer each time. Tolerances are 5 standard deviations of the sampling error
(p = 6·10⁻⁷) unless a test says otherwise.
"""

import itertools
import math

import numpy as np
import pytest
from scipy import special, stats

numba = pytest.importorskip("numba", reason="numba does not import here", exc_type=ImportError)

from analog_glue.kernels.threefry import (
    GOLDEN,
    ROW,
    SHARE,
    direction,
    fill,
    fill_row,
    make_threefry,
    scale_row,
    squared_length,
    threefry,
    words,
)  # fmt: skip

SIGMAS = 5
P_VALUE = math.erfc(SIGMAS / math.sqrt(2))  # of an error beyond ±5 σ
KEY = (np.uint32(2026), np.uint32(7))
ROWS = 1024
N = ROWS * ROW  # 4.2 million numbers
ZERO = np.uint32(0)


def kernel_of(cipher):
    """Words of any counters under any keys: [n, 4], [n, 4] → [n, 4]; `words` counts up from 0 under one key."""

    @numba.njit
    def encrypt(counters, keys, out):
        for i in range(out.shape[0]):
            c, k = counters[i], keys[i]
            out[i, 0], out[i, 1], out[i, 2], out[i, 3] = cipher(c[0], c[1], c[2], c[3], k[0], k[1], k[2], k[3])

    def encrypted(counters, keys):
        out = np.empty((len(counters), 4), np.uint32)
        encrypt(np.asarray(counters, np.uint32), np.asarray(keys, np.uint32), out)
        return out

    return encrypted


@pytest.fixture(scope="module")
def encrypted():
    return kernel_of(threefry)


@numba.njit
def polar(numbers, squares, sines, cosines):
    """`squared_length` and `direction` of every word."""
    for i in range(len(numbers)):
        squares[i] = squared_length(numbers[i])
        sines[i], cosines[i] = direction(numbers[i])


@numba.njit
def stream(out, c1, c2, c3, k0, k1):
    """As many numbers as `out` holds, from one call of `fill_row`."""
    fill_row(out, len(out), c1, c2, c3, k0, k1)


@numba.njit
def scaled(row, numbers, c1, c2, c3, k0, k1):
    """`row` as one call of `scale_row` leaves it."""
    scale_row(row, numbers, c1, c2, c3, k0, k1)


def bits(numbers):
    """[n, 4] words → [n, 128] bits 0 or 1."""
    return np.unpackbits(np.ascontiguousarray(numbers).view(np.uint8), axis=1)


def filled(numbers, row=0, key=KEY):
    out = np.empty(numbers, np.float32)
    fill(out, row, *key)
    return out


# --- words ---------------------------------------------------------------------------------------------

ONES, PI_COUNTER = (0xFFFFFFFF,) * 4, (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
PI_KEY = (0xA4093822, 0x299F31D0, 0x082EFA98, 0xEC4E6C89)
# Counter, key, words: the known answers that come with Random123.
ANSWERS = {
    13: [
        ((0,) * 4, (0,) * 4, (0x531C7E4F, 0x39491EE5, 0x2C855A92, 0x3D6ABF9A)),
        (ONES, ONES, (0xC4189358, 0x1C9CC83A, 0xD5881C67, 0x6A0A89E0)),
        (PI_COUNTER, PI_KEY, (0x4AA71D8F, 0x734738C2, 0x431FC6A8, 0xAE6DEBF1)),
    ],
    20: [
        ((0,) * 4, (0,) * 4, (0x9C6CA96A, 0xE17EAE66, 0xFC10ECD4, 0x5256A7D8)),
        (ONES, ONES, (0x2A881696, 0x57012287, 0xF6C7446E, 0xA16A6732)),
        (PI_COUNTER, PI_KEY, (0x59CD1DBB, 0xB8879579, 0x86B5D00C, 0xAC8B6D84)),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("rounds", ANSWERS)
def test_the_cipher_gives_the_published_answers(encrypted, rounds):
    encrypt = encrypted if rounds == 13 else kernel_of(make_threefry(rounds))  # 13 is the kernels' own
    counters, keys, expected = zip(*ANSWERS[rounds], strict=True)
    assert np.array_equal(encrypt(counters, keys), np.array(expected, np.uint32))


def test_words_are_those_of_counters_from_zero_on(encrypted):
    (_, *counter), key = PI_COUNTER, PI_KEY
    out = np.empty((100, 4), np.uint32)
    words(out, *np.array([*counter, *key], np.uint32))
    assert np.array_equal(out, encrypted([(i, *counter) for i in range(100)], [key] * 100))


@pytest.fixture(scope="module")
def word_bits():
    out = np.empty((1 << 17, 4), np.uint32)
    words(out, ZERO, ZERO, ZERO, *KEY, ZERO, ZERO)
    return bits(out)


def test_every_bit_of_the_words_is_one_half_of_the_time(word_bits):
    tolerance = SIGMAS * 0.5 / math.sqrt(len(word_bits))
    assert np.abs(word_bits.mean(axis=0) - 0.5).max() < tolerance


@pytest.mark.slow
def test_no_two_bits_of_a_counter_or_of_neighbouring_counters_know_of_each_other(word_bits):
    signs = word_bits.astype(np.float32) * 2 - 1
    here, n = signs[:-1], len(signs) - 1
    next_to_it = signs[1:]
    tolerance = SIGMAS / math.sqrt(n)
    assert np.abs(here.T @ here / n - np.eye(128)).max() < tolerance
    assert np.abs(here.T @ next_to_it / n).max() < tolerance


@pytest.mark.parametrize("flipped", ["counter", "key"])
def test_one_flipped_bit_flips_every_output_bit_half_of_the_time(encrypted, flipped):
    n = 4096
    # Counters and keys as kernels use them, nearly all bits zero: the hardest case for a cipher.
    inputs = np.zeros((2, n, 4), np.uint32)
    inputs[0, :, 0], inputs[0, :, 1] = np.arange(n) % 64, np.arange(n) // 64
    inputs[1, :, :2] = KEY
    before = encrypted(*inputs)
    for word, bit in itertools.product(range(4), range(32)):
        changed = inputs.copy()
        changed[0 if flipped == "counter" else 1, :, word] ^= np.uint32(1 << bit)
        flips = bits(before ^ encrypted(*changed))
        assert np.abs(flips.mean(axis=0) - 0.5).max() < SIGMAS * 0.5 / math.sqrt(n), f"bit {bit} of word {word}"
        # Independent flips: their number is binomial of 128 with p = 1/2, mean 64 and variance 32.
        count = flips.sum(axis=1, dtype=np.int64)
        assert count.mean() == pytest.approx(64, abs=SIGMAS * math.sqrt(32 / n))
        assert count.var() == pytest.approx(32, abs=SIGMAS * 32 * math.sqrt(2 / n))


# --- from words to normal numbers ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def probes():
    """Words at both ends of their range, where logarithm and sine are delicate, and a million between."""
    ends = np.arange(1 << 19, dtype=np.uint32)
    of_angle = ends * np.uint32(pow(GOLDEN, -1, 1 << 32))  # words whose angles begin at 0
    between = np.random.default_rng(0).integers(1 << 32, size=1 << 20, dtype=np.uint32)
    return np.concatenate(
        [ends, ~ends, np.uint32(1 << 31) + ends, np.uint32(1 << 31) - ends, ends << np.uint32(8), of_angle, between]
    )


@pytest.fixture(scope="module")
def computed(probes):
    out = np.empty((3, len(probes)), np.float32)
    polar(probes, *out)
    return out


def lengths(numbers):
    """√(−2 ln u) in double precision. u is rounded to float32 first: that is part of what a word means, seen near u = 1."""
    u = (numbers >> np.uint32(8)) * 2.0**-24 + 2.0**-25
    return np.sqrt(-2 * np.log(u.astype(np.float32).astype(np.float64)))


def angles(numbers):
    return math.pi * 2.0**-31 * (numbers * np.uint32(GOLDEN)).view(np.int32)


@pytest.mark.slow
def test_the_length_of_a_pair_is_that_of_the_formula_to_a_hundred_thousandth(probes, computed):
    expected = lengths(probes)
    found = np.sqrt(computed[0].astype(np.float64))
    assert (np.abs(found - expected) <= 5e-6 * expected).all()  # the fit of the logarithm: 7.2·10⁻⁶, of which a root takes half
    assert found.max() == pytest.approx(math.sqrt(50 * math.log(2)))  # 5.9: as far as a number can lie
    assert found.min() == 0


@pytest.mark.slow
def test_the_direction_of_a_pair_is_that_of_the_formula_to_a_hundred_thousandth(probes, computed):
    # The fits: 9.4·10⁻⁷ of sin, 6.7·10⁻⁶ of cos; φ/π is rounded to float32, which costs up to π·2⁻²⁵.
    assert np.abs(computed[1] - np.sin(angles(probes))).max() < 1e-5
    assert np.abs(computed[2] - np.cos(angles(probes))).max() < 1e-5


def test_a_row_holds_the_pairs_of_its_counters_share_by_share():
    out = np.empty((ROW // SHARE, 4), np.uint32)
    words(out, np.uint32(3), ZERO, ZERO, *KEY, ZERO, ZERO)
    shares = [lengths(w) * f(angles(w)) for w in np.ascontiguousarray(out.T) for f in (np.sin, np.cos)]
    assert np.abs(filled(ROW, row=3) - np.concatenate(shares)).max() < 5.9 * 2e-5


@pytest.mark.parametrize("numbers", [1, 8, 47, 768])
def test_numbers_of_given_variances_are_the_same_numbers_times_their_roots(numbers):
    room = -(-numbers // SHARE) * SHARE
    normals, row = np.empty(room, np.float32), np.random.default_rng(0).exponential(size=room).astype(np.float32)
    expected = np.sqrt(row)
    stream(normals, *map(np.uint32, (5, 6, 7)), *KEY)
    scaled(row, numbers, *map(np.uint32, (5, 6, 7)), *KEY)
    assert np.allclose(row, expected * normals, rtol=1e-6, atol=1e-7)


# --- the law of the numbers ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def normals():
    return filled(N)


@pytest.fixture(scope="module")
def levels(normals):
    """Φ(z): uniform in (0, 1) if z is normal."""
    return special.ndtr(normals.astype(np.float64))


def assert_even(counts):
    """χ² of counts in equally likely cells, in units of its own spread; too even is as wrong as too uneven."""
    expected = counts.sum() / counts.size
    chi2, freedom = np.square(counts - expected).sum() / expected, counts.size - 1
    assert chi2 == pytest.approx(freedom, abs=SIGMAS * math.sqrt(2 * freedom))


@pytest.mark.slow
def test_moments_are_those_of_a_standard_normal(normals):
    z = normals.astype(np.float64)
    # Variances of z, z², z³ and z⁴.
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert (z**power).mean() == pytest.approx(expected, abs=SIGMAS * math.sqrt(variance / N))


def test_no_hole_and_no_heap_near_zero(normals):
    for width in (1e-4, 1e-3, 1e-2):
        p = math.erf(width / math.sqrt(2))
        assert np.count_nonzero(np.abs(normals) < width) == pytest.approx(N * p, abs=SIGMAS * math.sqrt(N * p))


@pytest.mark.parametrize("beyond", [1, 2, 3, 4])
def test_both_tails_hold_as_many_numbers_as_they_should(normals, beyond):
    p = math.erfc(beyond / math.sqrt(2)) / 2
    for tail in (normals > beyond, normals < -beyond):
        assert np.count_nonzero(tail) == pytest.approx(N * p, abs=SIGMAS * math.sqrt(N * p * (1 - p)))


def test_a_thousand_quantile_bins_are_equally_full(levels):
    assert_even(np.bincount((levels * 1000).astype(np.int64), minlength=1000))


@pytest.mark.slow
def test_the_distribution_function_is_that_of_a_standard_normal(levels):
    # Kolmogorov and Smirnov: the largest distance times √N exceeds the bound with the probability of 5 σ.
    ordered, steps = np.sort(levels), np.arange(N + 1) / N
    distance = max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max())
    assert distance * math.sqrt(N) < stats.kstwobign.isf(P_VALUE)


def test_lengths_and_angles_of_all_words_cover_the_square_more_evenly_than_chance_would():
    # 2²² words, every 1024th: whatever cell of u and φ, it holds its share to far below the sampling error of as many draws.
    chosen = np.arange(0, 1 << 32, 1 << 10, dtype=np.int64).astype(np.uint32)
    u, phi = chosen / 2.0**32, (chosen * np.uint32(GOLDEN)) / 2.0**32
    for across, along in ((64, 64), (4, 1024), (1024, 4)):
        counts = np.bincount(((u * across).astype(int) * along + (phi * along).astype(int)), minlength=across * along)
        expected = len(chosen) / counts.size
        assert np.square(counts - expected).mean() < 0.1 * expected  # chance: 1


def test_lengths_of_the_far_tail_come_from_all_sides():
    # Words whose length exceeds 5 are 3.7·10⁻⁶ of all: 16,006. Their angles fill 64 sectors more evenly than chance would.
    far = np.arange(round((1 << 32) * math.exp(-12.5)), dtype=np.uint32)
    assert lengths(far).min() > 4.99
    counts = np.bincount(((far * np.uint32(GOLDEN)) / 2.0**32 * 64).astype(int), minlength=64)
    assert np.abs(counts - len(far) / 64).max() < 0.5 * math.sqrt(len(far) / 64)


# --- independence --------------------------------------------------------------------------------------

LAYOUT = tuple(ROW // SHARE * n for n in range(1, SHARE + 1))  # other numbers of a counter; that of the next row
LAGS = [*range(1, 65), *LAYOUT, *(lag + 1 for lag in LAYOUT), *(lag - 1 for lag in LAYOUT), 2 * ROW, 64 * ROW]


@pytest.mark.parametrize("of", ["numbers", "squares"])
def test_numbers_do_not_correlate_at_short_lags_nor_at_those_of_the_layout(normals, of):
    x = normals if of == "numbers" else (np.square(normals) - 1) / np.float32(math.sqrt(2))  # mean 0, variance 1
    for lag in LAGS:
        n = N - lag
        assert abs(x[:n] @ x[lag:]) / n < SIGMAS / math.sqrt(n), f"lag {lag}"


# Shares of a row hold: length · sine, length · cosine of word 1 of its counters, the same of word 2, 3 and 4.
@pytest.mark.parametrize("shares", [*itertools.combinations(range(SHARE), 2)], ids=str)
def test_two_numbers_of_one_counter_fill_the_plane_evenly(levels, shares):
    cells = (levels.reshape(ROWS, SHARE, -1)[:, shares, :] * 32).astype(np.int64)
    assert_even(np.bincount((cells[:, 0] * 32 + cells[:, 1]).ravel(), minlength=1024))


def test_three_numbers_in_a_row_fill_space_evenly(levels):
    cells = (levels[: N // 3 * 3].reshape(-1, 3) * 10).astype(np.int64)
    assert_even(np.bincount(cells @ np.array([100, 10, 1]), minlength=1000))


@pytest.mark.slow
@pytest.mark.parametrize("of", ["numbers", "squares"])
def test_streams_whose_names_differ_in_one_bit_are_independent(of):
    n = 1 << 16
    names = np.zeros((161, 5), np.uint32)  # c1 (the row in `fill`), c2, c3, k0, k1
    names[:, 3:] = KEY
    for i in range(160):
        names[i + 1, i // 32] ^= np.uint32(1 << (i % 32))
    streams = np.empty((len(names), n), np.float32)
    for out, name in zip(streams, names, strict=True):
        stream(out, *name)
    if of == "squares":
        streams = (np.square(streams) - 1) / np.float32(math.sqrt(2))
    correlation = streams @ streams.T / n
    np.fill_diagonal(correlation, 0)
    assert np.abs(correlation).max() < SIGMAS / math.sqrt(n)


# --- identity ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [[], [ROW], [3 * ROW, 4 * ROW], range(ROW, 6 * ROW, ROW)], ids=str)
def test_a_stream_is_the_same_however_it_is_cut_at_whole_rows(cuts):
    numbers = 5 * ROW + 777
    whole = filled(numbers, row=40)
    parts = np.split(np.full(numbers, np.nan, np.float32), list(cuts))
    for part, start in zip(parts, [0, *cuts], strict=True):
        fill(part, 40 + start // ROW, *KEY)
    assert np.array_equal(np.concatenate(parts), whole)


def test_a_short_last_row_holds_the_first_numbers_of_a_whole_one():
    assert np.array_equal(filled(ROW + 5), filled(2 * ROW)[: ROW + 5])


def test_another_key_and_another_row_give_other_numbers():
    first = filled(ROW)
    one = np.uint32(1)
    for other in (filled(ROW, 1), filled(ROW, 0, (KEY[0] + one, KEY[1])), filled(ROW, 0, (KEY[0], KEY[1] + one))):
        assert np.count_nonzero(first == other) < 5  # of 4096 float32 numbers, which meet by chance now and then
