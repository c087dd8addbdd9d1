"""Which layers should stay digital: what is computed of scores, against numbers by hand."""

import itertools
import math

import pytest

from analog_glue.costs.sourced import Amount
from analog_glue.reports.placement import (
    Judged,
    Placed,
    Placement,
    Price,
    answer,
    difference,
    front_grid,
    front_picture,
    front_records,
    greedy,
    group_records,
    groups_grid,
    page,
    sizes,
    terminal,
)


def judged(group, gain=None, loss=None, cost=1.0):
    def of(values):
        return dict(enumerate(values or ()))

    return Judged(group, 1, 10.0, of(gain), of(loss), cost)


def test_what_counts_is_the_mean_of_the_first_and_the_last_contribution():
    both = judged("a", [2.0, 4.0], [6.0, 4.0])
    assert both.value == {0: 4.0, 1: 4.0} and both.mean == 4.0
    assert judged("a", [2.0, 4.0]).mean == 3.0 and judged("a", None, [6.0, 4.0]).mean == 5.0


def test_it_is_the_fair_share_of_two_layers_whatever_they_do_together():
    """Of two groups the mean of first and last contribution is Shapley's value, which adds up to the whole loss."""
    score = {(): 80.0, ("a",): 83.0, ("b",): 81.0, ("a", "b"): 90.0}  # by what is digital
    shares = []
    for own, other in (("a", "b"), ("b", "a")):
        gain, loss = score[(own,)] - score[()], score[("a", "b")] - score[(other,)]
        shares.append(judged(own, [gain], [loss]).mean)
        orders = [score[(own,)] - score[()], score[("a", "b")] - score[(other,)]]  # of being first, and second
        assert shares[-1] == sum(orders) / 2
    assert sum(shares) == score[("a", "b")] - score[()]


def test_the_order_is_the_gain_for_its_cost_and_what_gains_nothing_is_left_out():
    groups = [judged("dear", [4.0], cost=8.0), judged("cheap", [1.0], cost=1.0), judged("worse", [-1.0], cost=0.1),
              judged("free", [0.1], cost=0.0), judged("unknown", [math.nan])]  # fmt: skip
    assert greedy(groups) == ["free", "cheap", "dear"]


def test_where_gains_add_up_the_order_is_as_good_as_any_at_each_of_its_steps():
    """Of additive gains and costs, no set of at most the same cost as a step of the order gains more (fractional knapsack)."""
    gains = {"a": (3.0, 2.0), "b": (1.0, 1.0), "c": (2.0, 4.0), "d": (0.5, 0.1)}
    order = greedy([judged(name, [gain], cost=cost) for name, (gain, cost) in gains.items()])
    assert sorted(order) == sorted(gains)
    for size in range(1, 5):
        gain, cost = (sum(gains[name][i] for name in order[:size]) for i in (0, 1))
        for other in itertools.chain.from_iterable(itertools.combinations(gains, n) for n in range(5)):
            other_gain, other_cost = (sum(gains[name][i] for name in other) for i in (0, 1))
            assert other_cost > cost + 1e-12 or other_gain <= gain + 1e-12


@pytest.mark.parametrize(("first", "last", "most"), [(2, 37, 8), (1, 7, 8), (2, 73, 8), (2, 73, 3), (2, 9, 1), (2, 9, 7)])
def test_sizes_are_bounded_and_dense_where_they_are_small(first, last, most):
    found = sizes(first, last, most)
    assert found == sorted(set(found)) and len(found) == min(most, last - first + 1)
    assert found[0] == first and (found[-1] == last or most == 1)
    ratios = [b / a for a, b in itertools.pairwise(found)]
    assert last - first < most or all(b <= a + 1 or b / a <= 1.5 * min(ratios) + 0.5 for a, b in itertools.pairwise(found))


def test_no_size_fits_between_bounds_that_cross():
    assert sizes(2, 1, 8) == [] and sizes(2, 9, 0) == []


def amount(low, high):
    return Amount(low, high, "µJ", "computed")


def placed(role, off, digital, scores, energy, macs=0):
    layers = ("*", *(f"!{name}" for name in off)) if role != "digital" else ()
    return Placed(role, layers, tuple(off), digital, 5.0 * digital, Price(energy, macs), dict(enumerate(scores)))


def found(**more):
    choices = [
        placed("full", [], 0, [80.0, 82.0], amount(1.0, 2.0)),
        placed("one", ["a"], 1, [85.0, 86.0], amount(1.1, 2.2)),
        placed("one", ["b"], 1, [81.0, 82.0], amount(1.2, 2.4)),
        placed("greedy", ["a", "b"], 2, [89.5, 90.5], amount(1.3, 2.6)),
        placed("digital", ["a", "b", "c"], 3, [90.0, 90.0], amount(3.0, 6.0)),
    ]
    of = {"grouping": "layer", "priced": "an inference", "digital": 90.0, "metric": "Spearman", "placed": choices}
    of["judged"] = [judged("a", [5.0, 4.0], cost=0.14), judged("b", [1.0, 0.0], cost=0.28), judged("c", [-1.0, 0.0], cost=1.0)]
    return Placement("run, pcm on spoon2021", "after 1 month, compensated", **(of | more))


def test_the_front_marks_what_nobody_beats_and_names_the_cheapest_that_is_enough():
    one = found()
    assert one.front == [True, True, False, True, False]  # the digital network takes more for the same score
    assert [choice.off for choice, _ in one.shown] == [(), ("a",), ("a", "b"), ("a", "b", "c")]  # of single ones the best
    assert one.enough.off == ("a", "b")
    told = answer(one)
    assert "99 % of the digital 90.00: 90.00 ± 0.50 with 2 layers digital, 10.00 % of the weights" in told
    assert "+30.0 % energy" in told and "All on tiles: 81.00 ± 1.00" in told
    assert "No choice" in answer(found(digital=99.0)) and "All layers may stay" in answer(found(digital=81.0))


def test_without_a_price_of_energy_digital_work_is_compared():
    choices = [placed("full", [], 0, [80.0], None), placed("one", ["a"], 1, [85.0], amount(1, 2), 7)]
    one = found(placed=choices)
    assert not one.by_energy and one.front == [True, True] and one.placed[1].price.cost(False) == 7.0
    assert "digital multiply-adds, since the energy of some is unknown" in front_grid(one).note
    assert "added [10⁶ MAC]" in groups_grid(one).header


def test_differences_are_of_the_same_chips():
    assert difference({0: 3.0, 1: 5.0}, {1: 1.0, 2: 9.0}) == {1: 4.0}
    (line,) = (row for row in groups_grid(found()).rows if row[0] == "a")
    assert line[3] == "+4.50 ± 0.50"  # the spread of the difference, not of either score


def test_every_format_says_the_same():
    one = found()
    text, markdown = terminal(one), page(one, "front.png")
    for words in ('\'hardware.layers=["*","!a","!b"]\'', "90.00 ± 0.50", "Rasch et al. 2023"):
        assert words in text.replace("\n", " ") and words in markdown
    records = front_records(one)
    assert [record["unbeaten"] for record in records] == one.front
    assert records[3]["setting"] == '\'hardware.layers=["*","!a","!b"]\'' and records[4]["setting"] == ""
    assert [record["gain"] for record in group_records(one)] == [4.5, 0.5, -0.5]
    (chart,) = front_picture(one).charts
    law = next(line for line in chart.lines if line.law)
    assert list(law.y) == [81.0, 85.5, 90.0] and chart.levels[0].value == 90.0
    assert front_picture(one).draw().png[:4] == b"\x89PNG"


def test_undefined_scores_are_on_no_front():
    choices = [placed("full", [], 0, [math.nan], amount(1, 2)), placed("one", ["a"], 1, [80.0], amount(1, 2))]
    assert found(placed=choices).front == [False, True]
