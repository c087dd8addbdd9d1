"""When a fleet is to be read out and programmed again: planted ages are found, shares and numbers of chips are exact."""

import csv
import math
from pathlib import Path

import pytest

from analog_glue.cli.main import main
from analog_glue.cli.reading import priced
from analog_glue.errors import UserError
from analog_glue.reports.maintenance import Wish, chips_without_a_law, maintenance, plans_of
from analog_glue.reports.measured import Measured, find_measured
from analog_glue.reports.reprogramming import tolerance_factor
from analog_glue.reports.sections import pivot
from analog_glue.runs.rows import Measurement

RECORD = Path(__file__).resolve().parents[2] / "outputs" / "records" / "spoon2021_figure5_minilm"
HOUR, DAY, WEEK, MONTH = 3600.0, 86_400.0, 604_800.0, 2_592_000.0


@pytest.mark.parametrize("fleet", [1, 2, 10, 1000])
def test_a_fleet_is_good_with_the_wanted_probability_if_each_chip_is_with_its_share(fleet):
    assert Wish(fleet=fleet).share ** fleet == pytest.approx(0.95, rel=1e-12)


@pytest.mark.parametrize(
    ("share", "confidence", "chips"), [(0.95, 0.95, 59), (0.9, 0.95, 29), (0.99, 0.95, 299), (0.9, 0.9, 22)]
)
def test_chips_without_a_law_are_those_of_the_published_table(share, confidence, chips):
    """Wilks (1941), first order, one-sided. The smallest of n lies below the quantile with 1 − share^n."""
    assert chips_without_a_law(share, confidence) == chips
    assert 1 - share**chips >= confidence > 1 - share ** (chips - 1)


def row(stage, value, chip=None, t=None, compensated=None):
    return Measurement(
        run="r", sweep="s", task="stsb", model="minilm", training="digital", seed=0, noise="pcm", tile="spoon2021", stage=stage,
        chip=chip, t_seconds=t, compensated=compensated, extrapolated=False, split="validation", metric="spearman",
        headline=True, value=value, examples=1500, train_ids="a", hardware_id="h", wall_seconds=1.0, data="d", recipe="x",
    )  # fmt: skip


def planted(levels, chips=10, spread=0.1):
    """A section whose chips have exactly these means, by (compensated, age), and a sample standard deviation of `spread`."""
    steps = [2 * chip / (chips - 1) - 1 for chip in range(chips)]
    scale = spread / math.sqrt(sum(step * step for step in steps) / (chips - 1))
    rows = [row("digital", 80.0)]
    rows += [
        row("chip", mean + scale * step, chip, t, compensated)
        for (compensated, t), mean in levels.items()
        for chip, step in enumerate(steps)
    ]
    (section,) = pivot(rows)[0]
    return section


def plan(levels, wish, **more):
    (found,) = plans_of(planted(levels, **more), Measured([], {}), None, wish)
    return found


GOOD, BAD = 80.0, 78.0  # 99 % of 80 are 79.2
LEVELS = {(False, 1.0): GOOD, (False, HOUR): GOOD, (False, DAY): BAD, (False, WEEK): GOOD,
          (True, 1.0): GOOD, (True, HOUR): GOOD, (True, DAY): GOOD, (True, WEEK): GOOD, (True, MONTH): BAD}  # fmt: skip


def test_planted_ages_are_found_and_a_failure_between_counts():
    found = plan(LEVELS, Wish())
    assert (found.raw.single_chip, found.compensated.single_chip) == (HOUR, WEEK)
    assert found.last is found.compensated and found.last.threshold == pytest.approx(79.2)


def test_a_larger_fleet_asks_more_of_each_chip():
    """Ten chips a distance of 3.5 standard deviations above: k is 2.911 for one chip of 95 %, and above 3.5 for ten."""
    levels = {(True, 1.0): 79.2 + 0.35}
    assert tolerance_factor(10, Wish().share, 0.95) == pytest.approx(2.911, abs=0.001)
    assert tolerance_factor(10, Wish(fleet=10).share, 0.95) > 3.5
    assert plan(levels, Wish()).last.single_chip == 1.0
    ten = plan(levels, Wish(fleet=10)).last
    assert ten.single_chip is None
    needed = ten.points[0].needed  # with as many the bound holds, with one fewer it does not
    assert plan(levels, Wish(fleet=10), chips=needed).last.single_chip == 1.0
    assert plan(levels, Wish(fleet=10), chips=needed - 1).last.single_chip is None


def test_a_lower_wish_is_kept_longer():
    assert plan(LEVELS, Wish(keep=97)).last.single_chip == MONTH  # 77.6


def cells(wish, levels, costs=None):
    made = maintenance([planted(levels)], Measured([], {}), costs, wish)
    ((name, grid),) = made.parts
    return name, grid, dict(zip(grid.header, grid.rows[0], strict=True)), made.records["maintenance.csv"][0]


def test_the_table_says_it_in_words_and_what_it_does_not_know():
    name, grid, said, record = cells(Wish(), LEVELS)
    assert name.startswith("maintenance-stsb-") and "between and beyond them nothing is judged" in grid.note
    assert (said["read out first by"], said["reprogram by"]) == ("1 h", "1 week")
    assert (said["a read-out"], said["devices"], said["programming"]) == ("unknown", "unknown", "not given")
    assert (record["read_out_first_by_seconds"], record["reprogram_by_seconds"]) == (HOUR, WEEK)
    assert record["fails_at_seconds"] == MONTH and said["chips needed"] == "no number"
    _, grid, said, _ = cells(Wish(), {(False, 1.0): GOOD, (False, DAY): GOOD})
    assert (said["read out first by"], said["reprogram by"]) == ("none needed", "1 day, last measured")
    assert "without compensation where no other was measured" in grid.note
    _, _, said, _ = cells(Wish(), {(True, 1.0): BAD})
    assert (said["read out first by"], said["reprogram by"]) == ("not measured", "not even at 1 s")


@pytest.mark.parametrize(
    ("flag", "asked"),
    [("keep", {"keep": 0}), ("keep", {"keep": 101}), ("probability", {"probability": 1.0}), ("confidence", {"confidence": 0}),
     ("fleet", {"fleet": 0}), ("programming-energy", {"programming_energy": -1.0})],
)  # fmt: skip
def test_a_wish_out_of_its_bounds_is_refused_by_its_flag(flag, asked):
    with pytest.raises(UserError, match=f"Flag --{flag} must"):
        Wish(**asked)


def test_a_read_out_is_one_product_for_every_row_of_every_tile():
    """MiniLM: 6 (4 · 384² + 2 · 384 · 1536) + 384² + 2 · 384 weights, each read through its ADC; rows of 512 one by one."""
    measured = find_measured(RECORD)
    section = next(one for one in pivot(measured.rows, measured.settings)[0] if one.headline and one.score.task == "mrpc")
    costs = priced()
    (first, *_) = plans_of(section, measured, costs, Wish())
    weights = 6 * (4 * 384**2 + 2 * 384 * 1536) + 384**2 + 2 * 384
    assert first.devices == weights
    energy, time = first.read_out
    dacs = 6 * (4 * 384 + 384 * 3 + 1536) + 384 + 384  # inputs × column tiles; 1536 outputs lie on three
    for end in ("low", "high"):
        each = {name: getattr(amount, end) for name, amount in
                {"array": costs.array_energy(), "dac": costs.dac_energy(8), "adc": costs.adc_energy(10)}.items()}  # fmt: skip
        by_hand = 1e-6 * (weights * (each["array"] + each["adc"]) + dacs * each["dac"])
        assert getattr(energy, end) == pytest.approx(by_hand, rel=1e-9)
    assert (time.low, time.high) == pytest.approx((512 * 40e-6, 512 * 130e-6))


def test_tables_has_the_plan_where_it_is_asked_for_alone(tmp_path, capsys):
    assert main(["tables", str(RECORD), "--out", str(tmp_path), "--fleet", "3"]) == 2
    assert "--fleet must stand beside --maintenance" in capsys.readouterr().err and not list(tmp_path.iterdir())
    assert main(["tables", str(RECORD), "--out", str(tmp_path), "--maintenance", "--keep", "200"]) == 2
    assert "--keep must lie in (0, 100]" in capsys.readouterr().err
    words = ["--maintenance", "--keep", "98", "--programming-energy", "100"]
    assert main(["tables", str(RECORD), "--out", str(tmp_path), *words]) == 0
    assert "## Maintenance: STS-B, Spearman, minilm, pcm on spoon2021" in capsys.readouterr().out
    with (tmp_path / "maintenance.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["keep_percent"] for line in lines} == {"98"} and len(lines) == 4
    assert [float(line["programming_uj"]) for line in lines] == pytest.approx([10_765_056 * 100e-6] * 4, abs=1e-6)


def test_the_page_has_the_plan_where_it_is_asked_for(tmp_path, capsys):
    pytest.importorskip("vl_convert")
    assert main(["report", str(RECORD), "--out", str(tmp_path / "wrong.html"), "--keep", "98"]) == 2
    assert "--keep must stand beside --maintenance" in capsys.readouterr().err and not list(tmp_path.iterdir())
    for name, words in (("without", []), ("with", ["--maintenance", "--fleet", "100"])):
        assert main(["report", str(RECORD), "--out", str(tmp_path / f"{name}.html"), *words]) == 0
    pages = [(tmp_path / f"{name}.html").read_text() for name in ("without", "with")]
    assert "<h2>Maintenance" not in pages[0] and "<h2>Maintenance" in pages[1]
