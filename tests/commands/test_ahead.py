"""Kernels are compiled ahead of need by a second process, which ends with the first one's work."""

import os
import subprocess
from contextlib import suppress

import pytest

pytest.importorskip("numba")

from analog_glue.cli import jobs
from analog_glue.commands import ahead
from analog_glue.configuration.compose import Composer
from analog_glue.kernels import kept


@pytest.fixture
def started(monkeypatch, tmp_path):
    """The second processes that a test starts, with a cache of their own."""
    processes, start = [], subprocess.Popen

    def popen(*arguments, **named):
        processes.append(start(*arguments, **named))
        return processes[-1]

    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    return processes


def test_it_ends_with_what_it_ran_beside(started):
    with ahead.kernels_ahead():
        assert [process.poll() for process in started] == [None]
    assert started[0].poll() is not None
    with pytest.raises(KeyError), ahead.kernels_ahead():
        raise KeyError
    assert all(process.poll() is not None for process in started) and len(started) == 2


def test_nothing_is_started_where_kernels_are_kept_or_a_core_is_alone(started, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with ahead.kernels_ahead():
        pass
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    kept.folder().mkdir(parents=True)
    ahead._mark().touch()
    with ahead.kernels_ahead():
        pass
    assert not started


def test_nothing_is_started_where_nothing_can_be_kept(started, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with ahead.kernels_ahead():
        pass
    assert not started


def test_modules_of_the_working_folder_are_not_taken_for_others(started, monkeypatch, tmp_path):
    (tmp_path / "torch.py").write_text(f"open({str(tmp_path / 'taken')!r}, 'w')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with ahead.kernels_ahead(), suppress(subprocess.TimeoutExpired):
        started[0].wait(timeout=4)  # long enough to reach the import of torch, its first one
    assert not (tmp_path / "taken").exists()


@pytest.mark.slow
def test_it_compiles_what_training_and_a_score_call():
    from analog_glue.kernels import one_hot, phase_change, weights

    ahead.compile_kernels()
    called = (weights.noisy, weights.finish_gradient, phase_change.program, phase_change.age, one_hot.sum_of_codes)
    assert all(kernel.signatures for kernel in called)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["task=demo"], True),
        (["task=demo", "dry_run=true"], False),
        (["task=demo", "runtime.kernel=reference"], False),
        (["task=demo", "runtime.device=cuda"], False),
        (["+experiment=digits_in_situ"], False),
    ],
    ids=str,
)
def test_only_runs_on_compiled_kernels_of_phase_change_memory_want_it(words, expected):
    with Composer("train") as composer:
        assert jobs._compiles(composer.compose(words), "train") is expected
