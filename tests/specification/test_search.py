"""Bisection on chips: exact where nothing is random, and as often right as it says where the truth is planted."""

import numpy as np
import pytest
from scipy import stats

from analog_glue.specification.search import Rule, Scale, contour, factors, search

CONFIDENCE = 0.95
REPEATS = 4000
# of a share over so many repeats, near a probability of 0.05: four standard errors
FOUR_ERRORS = 4 * (0.05 * 0.95 / REPEATS) ** 0.5


def of(values, answer):
    return [look.value for look in answer.looks], answer.value, answer.denied


# --- the scale and the way down it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("looks", [1, 2, 5])
def test_factors_are_geometric_around_today_and_a_longer_bisection_looks_at_the_same_first(looks):
    scale, finer = factors(8.0, looks), factors(8.0, looks + 1)
    assert len(scale.values) == 2**looks - 1 and scale.least == 0.0
    assert scale.values[len(scale.values) // 2] == 1.0
    assert np.allclose(np.diff(np.log(scale.values)), 2 * np.log(8) / 2**looks, atol=1e-3)  # two numbers of four digits
    assert set(scale.values) < set(finer.values)
    for truth in (0.0, 0.3, 1.2, 9.0):
        answers = [search(own, Rule(0, 0.9, 9), lambda x, truth=truth: [truth - x]) for own in (scale, finer)]
        paths = [[look.value for look in answer.looks] for answer in answers]
        positive = [[value for value in path if value > 0] for path in paths]
        assert positive[1][: len(positive[0])] == positive[0]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 11, 31])
@pytest.mark.parametrize("least", [None, 0.0])
def test_every_answer_is_found_within_the_most_looks(count, least):
    scale = Scale(tuple(float(value) for value in range(1, count + 1)), least)
    most = 0
    for truth in np.arange(-0.5, count + 1):
        answer = search(scale, Rule(0, 0.9, 1), lambda x, truth=truth: [truth - x])
        borne = [value for value in (*(() if least is None else (least,)), *scale.values) if value <= truth]
        assert answer.value == (borne[-1] if borne else None)
        order = [*(() if least is None else (least,)), *scale.values]
        after = [value for value in order if value > truth]
        assert answer.denied == (after[0] if after else None)
        most = max(most, len(answer.looks))
    assert most == scale.most_looks


def test_first_values_of_a_scale_are_those_that_a_bisection_comes_to_first():
    assert factors(8.0, 5).first(3) == factors(8.0, 2).values
    assert factors(8.0, 5).first(7) == factors(8.0, 3).values
    assert Scale((1.0, 2.0, 3.0)).first(9) == (1.0, 2.0, 3.0)


# --- the bound -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("looks", [1, 6])
def test_the_lower_bound_is_that_of_students_test(looks):
    scores = np.random.default_rng(0).normal(80.0, 0.4, 10)
    level = 1 - 0.05 / looks
    theirs = stats.ttest_1samp(scores, 0.0, alternative="greater").confidence_interval(level)
    assert Rule(0, 0.95, looks).lower_bound(scores) == pytest.approx(theirs.low, rel=1e-12)


def test_scores_without_noise_are_compared_as_they_are_and_an_undefined_one_keeps_nothing():
    assert Rule(79.0, 0.95, 6).keeps([79.0]) and not Rule(79.0, 0.95, 6).keeps([78.99])
    assert Rule(79.0, 0.95, 6).keeps([79.0] * 5)
    assert not Rule(79.0, 0.95, 6).keeps([90.0, float("nan"), 90.0])


@pytest.mark.parametrize(
    ("scores", "verdict"), [([80, 81, 82], "holds"), ([78.9, 79.5, 78.0], "undecided"), ([70, 71, 72], "fails")]
)
def test_fresh_chips_hold_fail_or_leave_it_open(scores, verdict):
    assert Rule(79.0, 0.95, 6).verdict(scores) == verdict


# --- planted truth -------------------------------------------------------------------------------------------------------


def wrong_answers(mean, limit, looks, common, rng, chips=10, rule_looks=None):
    """Share of searches whose answer is more severe than the planted `limit`."""
    scale = factors(8.0, looks)
    rule = Rule(99.0, CONFIDENCE, rule_looks or scale.most_looks)
    wrong = 0
    for _ in range(REPEATS):
        of_chips = rng.standard_normal(chips)

        def scores(x, of_chips=of_chips):
            noise = of_chips if common else rng.standard_normal(chips)
            return mean(x) + 0.5 * noise

        answer = search(scale, rule, scores)
        wrong += answer.value is not None and answer.value > limit
    return wrong / REPEATS


@pytest.mark.parametrize("common", [True, False], ids=["same chips", "other chips at every look"])
@pytest.mark.parametrize("limit", [0.4, 1.0, 2.9])
def test_an_answer_is_really_borne_with_the_stated_confidence(common, limit):
    """A score that falls slowly from just below the threshold at the next value on, where a wrong answer is likeliest."""
    values = np.array(factors(8.0, 5).values)
    limit = values[values <= limit][-1]
    mean = lambda x: 99.0 - 1e-9 - 0.2 * np.log2(max(x, 1e-9) / np.nextafter(limit, 99) + 1e-12) if x > limit else 99.3  # noqa: E731
    share = wrong_answers(mean, limit, 5, common, np.random.default_rng(1))
    assert share <= 1 - CONFIDENCE + FOUR_ERRORS


def test_many_looks_on_a_plateau_just_below_the_threshold_need_the_smaller_level():
    """Nothing is borne, hardly: all six looks may say otherwise. The level of a single test would be wrong 1 − 0.95⁶ = 26 %."""
    below = lambda x: 99.0 - 1e-9  # noqa: E731
    assert wrong_answers(below, -1.0, 5, False, np.random.default_rng(2)) <= 1 - CONFIDENCE + FOUR_ERRORS
    naive = wrong_answers(below, -1.0, 5, False, np.random.default_rng(2), rule_looks=1)
    assert naive == pytest.approx(1 - 0.95**6, abs=4 * (0.265 * 0.735 / REPEATS) ** 0.5)


def test_skewed_scores_of_few_chips_still_keep_the_confidence():
    """Losses from an exponential law: a few bad chips, for which Student's bound errs to the wrong side at a single level."""
    rng, scale, wrong = np.random.default_rng(3), factors(8.0, 5), 0
    rule = Rule(99.0, CONFIDENCE, scale.most_looks)
    for _ in range(REPEATS):
        lost = rng.exponential(1.0, 10)
        # the mean over all chips is 100 − x: borne up to 1
        answer = search(scale, rule, lambda x, lost=lost: 100.0 - x * lost)
        wrong += answer.value is not None and answer.value > 1.0
    # The level of every look is α / 6, and only the looks near the limit are in danger.
    assert wrong / REPEATS <= 1 - CONFIDENCE + FOUR_ERRORS


def test_more_chips_bring_the_answer_to_the_planted_limit():
    scale = factors(8.0, 5)
    rng, found = np.random.default_rng(4), []
    for chips in (3, 10, 100):
        rule = Rule(99.0, CONFIDENCE, scale.most_looks)
        noise = rng.standard_normal((200, chips))
        answers = [search(scale, rule, lambda x, own=own: 100.0 - 0.5 * x + 0.3 * x * own).value or 0.0 for own in noise]
        found.append(np.median(answers))
    limit = max(value for value in scale.values if value <= 2.0)
    assert found[0] < found[1] < found[2] <= limit and found[2] >= limit / 1.3


# --- contours ------------------------------------------------------------------------------------------------------------


def test_a_contour_is_the_staircase_of_the_plane_and_looks_nowhere_that_is_denied_already():
    lines, scale, asked = factors(8.0, 2).values, factors(8.0, 5), []

    def scores(x, y):
        asked.append((x, y))
        return [4.0 - x - y]

    found = dict(contour(lines, scale, Rule(0.0, 0.95, scale.most_looks), scores))
    for x, answer in found.items():
        borne = [y for y in (0.0, *scale.values) if x + y <= 4.0]
        assert answer.value == (borne[-1] if borne else None)
    assert list(found) == list(lines) and len(asked) == len(set(asked)) < len(lines) * scale.most_looks
    assert all(
        x + y <= 4.0 or not any(other[1] <= y and other[0] < x and sum(other) > 4.0 for other in asked) for x, y in asked
    )


def test_a_contour_only_falls_whatever_the_scores_do():
    rng = np.random.default_rng(5)
    scale = factors(8.0, 4)
    for _ in range(50):
        found = contour(factors(8.0, 3).values, scale, Rule(0.0, 0.9, 5), lambda x, y: rng.standard_normal(3) + 1 - y / 4)
        heights = [-1.0 if answer.value is None else answer.value for _, answer in found]
        assert heights == sorted(heights, reverse=True)
