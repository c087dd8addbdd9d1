"""Variance components against simulated rows of known components, a design worked out by hand, and the errors they foretell."""

import math

import numpy
import pytest

from analog_glue.reports.build import build
from analog_glue.reports.sections import pivot
from analog_glue.reports.statistics import summarise
from analog_glue.reports.variance import Components, balanced, components, variance
from tests.reports.test_tables import HOUR, MONTH, C, chips, write

SEED, CHIP, MOMENT = 1.5, 0.8, 0.5  # [points] standard deviations
TREND = numpy.array([0.0, -2.0, -5.0, -9.0])  # of all chips over time


def simulated(seeds: int, on_each: int, draws: numpy.random.Generator) -> numpy.ndarray:
    """(seeds, chips, times)"""
    of_seed = draws.normal(0, SEED, (seeds, 1, 1))
    of_chip = draws.normal(0, CHIP, (seeds, on_each, 1))
    return 85 + TREND + of_seed + of_chip + draws.normal(0, MOMENT, (seeds, on_each, len(TREND)))


def test_components_of_a_simulation_come_back():
    a, b, n = 200, 10, len(TREND)
    found = components(simulated(a, b, numpy.random.default_rng(0)))
    # A mean square has variance 2 E²/degrees of freedom; errors of differences add; five standard deviations.
    rest = MOMENT**2
    chip = rest + n * CHIP**2
    seed = chip + b * n * SEED**2
    error = {
        "moment": rest * math.sqrt(2 / ((a * b - 1) * (n - 1))),
        "chip": math.hypot(chip * math.sqrt(2 / (a * (b - 1))), rest * math.sqrt(2 / ((a * b - 1) * (n - 1)))) / n,
        "seed": math.hypot(seed * math.sqrt(2 / (a - 1)), chip * math.sqrt(2 / (a * (b - 1)))) / (b * n),
    }
    assert abs(found.moment - MOMENT**2) < 5 * error["moment"]
    assert abs(found.chip - CHIP**2) < 5 * error["chip"]
    assert abs(found.seed - SEED**2) < 5 * error["seed"]


def test_the_estimates_have_no_bias_with_few_seeds():
    draws, designs = numpy.random.default_rng(1), 4000
    found = [components(simulated(3, 4, draws)) for _ in range(designs)]
    for name, true in (("seed", SEED), ("chip", CHIP), ("moment", MOMENT)):
        values = numpy.array([getattr(one, name) for one in found])
        assert abs(values.mean() - true**2) < 5 * values.std() / math.sqrt(designs)


def test_a_design_worked_out_by_hand():
    # Seed means 1 and 5 around 3, chips ±1 about them: MS_seed = 2·(4 + 4) = 16, MS_chip = 4/2 = 2; σ²_seed = (16 − 2)/2.
    found = components(numpy.array([[[0.0], [2.0]], [[4.0], [6.0]]]))
    assert (found.seed, found.chip, found.moment) == (7.0, 2.0, None)
    # Two times, where one chip of a seed gains what the other loses: chips do not differ on average.
    crossed = components(numpy.array([[[0.0, 2.0], [2.0, 0.0]], [[0.0, 2.0], [2.0, 0.0]]]))
    assert crossed.moment == pytest.approx(8 / 3) and crossed.chip == pytest.approx(-4 / 3) and crossed.seed == 0.0
    assert crossed.parts == (0.0, 0.0, crossed.moment)


def test_chips_for_a_wanted_error():
    parts = Components(seed=0.04, chip=0.3, moment=0.1, seeds=4, chips=5, times=3)
    # Of 0.25² = 0.0625 the seeds take 0.01; 0.4/4 = 0.1 of the chips needs two of them for the rest. 0.1² is all of the seeds'.
    assert [parts.chips_for(error) for error in (0.1, 0.25, 0.5)] == [None, 2, 1]
    assert parts.error(2) <= 0.25 < parts.error(1)
    assert parts.seeds_for(0.1) == 12  # (0.04 + 0.4/5)/0.01


def test_the_foretold_error_is_that_of_the_mean():
    draws = numpy.random.default_rng(2)
    exact = Components(SEED**2, CHIP**2, MOMENT**2, seeds=5, chips=6, times=4)
    means = [simulated(5, 6, draws)[:, :, 0].mean() for _ in range(4000)]
    assert numpy.std(means) == pytest.approx(exact.error(6), rel=5 / math.sqrt(2 * 4000))
    errors = [
        summarise({s: dict(enumerate(c)) for s, c in enumerate(simulated(5, 6, draws)[:, :, 0])}).error for _ in range(500)
    ]
    assert math.sqrt(numpy.mean(numpy.square(errors))) == pytest.approx(exact.error(6), rel=5 / math.sqrt(2 * 500 * 4))


def rows_of(scores: numpy.ndarray):
    """Hardware-aware rows of (seeds, chips, two times)."""
    return [
        measured
        for seed, of_seed in enumerate(scores)
        for k, t in enumerate((HOUR, MONTH))
        for measured in chips(list(of_seed[:, k]), t, True, "hardware_aware", seed)
    ]


def test_only_chips_and_times_that_every_seed_has_are_taken():
    rows = rows_of(simulated(3, 4, numpy.random.default_rng(3))[:, :, :2])
    rows = [r for r in rows if (r.seed, r.chip) != (1, 2)]
    rows += chips([80.0, 81.0], 1.0, True, "hardware_aware", seed=0)
    (section,), _ = pivot(rows)
    scores = balanced(section, C)
    assert scores.shape == (3, 3, 2)
    assert scores[2, 2, 1] == next(r.value for r in rows if (r.seed, r.chip, r.t_seconds) == (2, 3, MONTH))


def test_one_seed_or_one_chip_tells_nothing():
    scores = simulated(3, 4, numpy.random.default_rng(3))[:, :, :2]
    assert variance(pivot(rows_of(scores[:1]))[0]).parts == []
    assert variance(pivot(rows_of(scores[:, :1]))[0]).parts == []


@pytest.mark.slow
def test_tables_say_where_the_variance_comes_from_and_that_a_negative_estimate_counts_as_zero(tmp_path):
    crossed = numpy.array([[[0.0, 2.0], [2.0, 0.0]], [[0.0, 2.0], [2.0, 0.0]]]) + 80
    markdown = build(write(tmp_path, rows_of(crossed))).markdown
    line = next(line for line in markdown.splitlines() if "2 × 2 × 2" in line)
    assert [cell.strip() for cell in line.split("|")[3:7]] == ["1.63", "0 %", "0 %*", "100 %"]
    assert "was negative and counts as 0" in markdown
    assert (tmp_path / "tables" / "variance.csv").is_file()
