"""The fastest way by a clock that tests set, kept for the next process."""

import pytest

pytest.importorskip("numba", reason="numba does not import here", exc_type=ImportError)

from analog_glue.kernels import integer_product
from analog_glue.kernels.measured_choice import FILE, ROUNDS, fastest


class Clock:
    """Time passes only while a way is gone: as long as each turn of it is said to take [s]."""

    def __init__(self, **turns):
        self.now, self.went, self.turns = 0.0, [], {name: iter(times) for name, times in turns.items()}

    def __call__(self):
        return self.now

    @property
    def ways(self):
        def way(name):
            self.went.append(name)
            self.now += next(self.turns[name])

        return {name: lambda name=name: way(name) for name in self.turns}


def steady(seconds):
    return [9.0] + [seconds] * ROUNDS  # the first time is that of compiling


def test_the_shortest_turn_decides_and_the_first_does_not_count(tmp_path):
    clock = Clock(disturbed=[0.1] + [5.0] * (ROUNDS - 1) + [1.0], steady=steady(2.0))
    assert fastest("a", clock.ways, tmp_path, clock) == "disturbed"


def test_an_answer_is_kept_for_its_question(tmp_path):
    clock = Clock(one=steady(1.0), other=steady(2.0))
    assert fastest("a", clock.ways, tmp_path, clock) == "one"
    later = Clock(one=steady(2.0), other=steady(1.0))
    assert fastest("a", later.ways, tmp_path, later) == "one" and not later.went
    assert fastest("b", later.ways, tmp_path, later) == "other"
    assert fastest("a", {"third": lambda: None}, tmp_path) == "third"  # what was kept is no way any more


def test_another_limit_of_the_cpu_is_another_question(tmp_path, monkeypatch):
    assert fastest("a", (clock := Clock(one=steady(1.0), other=steady(2.0))).ways, tmp_path, clock) == "one"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert fastest("a", (clock := Clock(one=steady(2.0), other=steady(1.0))).ways, tmp_path, clock) == "other"


def test_a_spoiled_file_and_a_folder_that_cannot_be_are_no_obstacle(tmp_path):
    (tmp_path / FILE).write_text("{")
    clock = Clock(one=steady(1.0), other=steady(2.0))
    assert fastest("a", clock.ways, tmp_path, clock) == "one"
    clock = Clock(one=steady(1.0), other=steady(2.0))
    assert fastest("a", clock.ways, tmp_path / FILE / "below", clock) == "one"


@pytest.mark.parametrize(("has_units", "exact", "answer", "faster"), [
    (True, True, "torch", True), (True, True, "compiled", False), (True, False, "torch", False), (False, True, "torch", False),
])  # fmt: skip
def test_torch_multiplies_only_by_matrix_units_that_are_exact_and_faster(monkeypatch, has_units, exact, answer, faster):
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: has_units)
    monkeypatch.setattr(integer_product, "torch_is_exact", lambda rows: exact)
    monkeypatch.setattr("analog_glue.kernels.measured_choice.fastest", lambda *arguments: answer)
    assert integer_product.torch_is_faster.__wrapped__(48, 40) == faster
