"""The three criteria of reprogramming against chips whose law is known."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from analog_glue.reports.reprogramming import chips_needed, tolerance_factor, verdict

HOUR, DAY, WEEK = 3600.0, 86_400.0, 604_800.0


def around(mean, spread, chips):
    """Scores with exactly this mean and sample standard deviation."""
    scores = np.linspace(-1, 1, chips)
    return list(mean + spread * scores / scores.std(ddof=1))


@pytest.mark.parametrize(
    ("chips", "factor"),
    [(2, 26.260), (3, 7.656), (5, 4.203), (10, 2.911), (25, 2.292), (50, 2.065)],
)
def test_factors_of_95_in_95_are_those_of_the_published_table(chips, factor):
    assert tolerance_factor(chips, 0.95, 0.95) == pytest.approx(factor, abs=0.001)  # Hahn and Meeker, Table A.12


def test_the_factor_falls_to_the_quantile_of_the_normal_law():
    assert tolerance_factor(1, 0.95, 0.95) == math.inf
    assert tolerance_factor(1_000_000, 0.95, 0.95) == pytest.approx(norm.ppf(0.95), abs=0.005)


@pytest.mark.parametrize(("chips", "share", "confidence"), [(5, 0.95, 0.95), (10, 0.9, 0.9), (25, 0.95, 0.95)])
def test_the_bound_covers_a_single_chip_as_often_as_it_says(chips, share, confidence):
    """Of many sweeps of normal chips, the bound lies below the true quantile in `confidence` of them."""
    sweeps = 4000
    scores = np.random.default_rng(chips).normal(80.0, 1.5, (sweeps, chips))
    bounds = scores.mean(axis=1) - tolerance_factor(chips, share, confidence) * scores.std(axis=1, ddof=1)
    quantile = 80.0 - 1.5 * norm.ppf(share)  # which so many chips exceed
    held = (bounds <= quantile).mean()
    assert held == pytest.approx(confidence, abs=4 * math.sqrt(confidence * (1 - confidence) / sweeps))


def test_the_verdict_s_bound_is_that_of_its_chips():
    scores = around(80.0, 1.0, 10)
    (point,) = verdict({HOUR: scores}, 82.0, 1.0, 0.95, 0.95).points
    assert (point.mean, point.spread, point.sem) == pytest.approx((80.0, 1.0, 1 / math.sqrt(10)))
    assert point.bound == pytest.approx(80.0 - 2.911, abs=0.001)


def test_the_mean_may_fail_and_hold_again():
    by_time = {1.0: around(82.0, 0.1, 10), HOUR: around(80.0, 0.1, 10), DAY: around(82.0, 0.1, 10), WEEK: around(70.0, 0.1, 10)}
    said = verdict(by_time, 82.0, 1.0, 0.95, 0.95)
    assert (said.last_mean, said.before_failure, said.single_chip) == (DAY, 1.0, 1.0)
    assert said.threshold == 81.0


def test_a_single_chip_fails_before_the_mean():
    by_time = {1.0: around(82.0, 0.1, 10), HOUR: around(82.0, 1.0, 10), DAY: around(82.0, 3.0, 10)}
    said = verdict(by_time, 82.0, 1.0, 0.95, 0.95)
    assert said.before_failure == HOUR  # 82 − 2 · 1/√10 = 81.4; a day: 80.1
    assert said.single_chip == 1.0  # 82 − 2.9 · 1 is below 81


def test_two_errors_are_taken_off_the_mean():
    # A mean at the threshold plus 2 standard errors holds, a little less does not.
    spread, chips = 1.0, 16
    for more, holds in ((1e-9, True), (-1e-9, False)):
        scores = around(81.0 + 2 * spread / math.sqrt(chips) + more, spread, chips)
        assert (verdict({1.0: scores}, 82.0, 1.0, 0.95, 0.95).last_mean == 1.0) == holds


def test_too_few_chips_are_told_how_many_it_takes():
    said = verdict({1.0: around(82.0, 0.4, 3)}, 82.0, 1.0, 0.95, 0.95)  # 2.5 deviations above: k of 3 chips is 7.7
    assert said.single_chip is None
    needed = said.points[0].needed
    assert tolerance_factor(needed, 0.95, 0.95) <= 2.5 < tolerance_factor(needed - 1, 0.95, 0.95)
    assert verdict({1.0: around(82.0, 0.4, needed)}, 82.0, 1.0, 0.95, 0.95).single_chip == 1.0
    assert verdict({1.0: around(82.0, 0.4, needed - 1)}, 82.0, 1.0, 0.95, 0.95).single_chip is None


def test_no_number_of_chips_helps_where_too_many_are_below():
    said = verdict({1.0: around(82.0, 1.0, 5)}, 82.0, 1.0, 0.95, 0.95)  # 16 % of such chips are below 81
    assert said.points[0].needed is None
    assert chips_needed(1.6, 0.95, 0.95) is None and chips_needed(float("nan"), 0.95, 0.95) is None


def test_one_chip_says_nothing_of_others():
    said = verdict({1.0: [85.0]}, 82.0, 1.0, 0.95, 0.95)
    assert (said.last_mean, said.single_chip, said.points[0].needed) == (None, None, None)
    assert said.means == said.single_chips == [None]


def test_chips_that_score_alike_hold_if_they_hold():
    said = verdict({1.0: [82.0, 82.0], HOUR: [80.0, 80.0]}, 82.0, 1.0, 0.95, 0.95)
    assert (said.last_mean, said.single_chip) == (1.0, 1.0) and said.points[1].needed is None


def test_undefined_scores_hold_nothing():
    said = verdict({1.0: [float("nan"), 82.0]}, 82.0, 1.0, 0.95, 0.95)
    assert (said.last_mean, said.before_failure, said.single_chip) == (None, None, None)
    assert said.means == said.single_chips == [None]
    assert verdict({1.0: [81.0, 82.0]}, math.nan, 1.0, 0.95, 0.95).means == [None]  # nor does an undefined reference
    assert verdict({1.0: [70.0, 70.1]}, 82.0, 1.0, 0.95, 0.95).means == [False]
