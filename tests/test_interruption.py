"""Signals: work in hand is saved, the exit code names the signal, and handlers of others keep their say."""

import os
import signal
import threading
import time

import pytest

from analog_glue.cli import main as cli
from analog_glue.interruption import ENDING, Interrupted, ended_by_signals, exit_code, holds

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGUSR1: 138, signal.SIGUSR2: 140}


@pytest.fixture(autouse=True)
def as_a_shell_leaves_them():
    """Handlers as in a fresh process on a terminal, whatever runs these tests."""
    before = {number: signal.getsignal(number) for number in ENDING}
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
    yield
    after = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == {
        number: signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler for number in ENDING
    }  # whoever takes a signal gives it back


@pytest.mark.parametrize("number", ENDING, ids=lambda number: signal.Signals(number).name)
def test_a_command_ends_with_128_and_the_number_of_the_signal(number, monkeypatch, capsys):
    monkeypatch.setattr(cli, "_dispatch", lambda words: os.kill(os.getpid(), number) or signal.pause())
    assert cli.main(["train"]) == CODES[number]
    assert "the same command goes on where it stopped" in capsys.readouterr().err


@pytest.mark.parametrize("number", ENDING, ids=lambda number: signal.Signals(number).name)
def test_what_holds_signals_off_finishes_what_it_does_and_a_second_one_ends_at_once(number):
    with ended_by_signals():
        steps = []
        with pytest.raises(Interrupted) as ended, holds() as asked:
            for step in range(5):
                steps.append(step)
                if step == 2:
                    os.kill(os.getpid(), number)
                if asked():
                    steps.append("saved")
                    asked.obey()
        assert steps == [0, 1, 2, "saved"] and exit_code(ended.value) == CODES[number]
        with pytest.raises(Interrupted), holds():
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
            pytest.fail("a second signal did not end it")


def test_a_handler_of_somebody_else_is_called_after_the_saving_and_the_work_goes_on():
    said = []
    signal.signal(signal.SIGUSR2, lambda number, frame: said.append("requeued"))
    with ended_by_signals(), holds() as asked:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGUSR2)
            assert said[-1:] != ["noted"] and asked()
            said.append("saved")
            asked.obey()
            assert not asked()
    assert said == ["saved", "requeued", "saved", "requeued"]
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)


def test_a_signal_that_comes_while_a_kernel_is_compiled_is_not_forgotten(capfd):
    llvm = pytest.importorskip("llvmlite.binding")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly("define i32 @one() { ret i32 1 }"), machine)
    asked = []

    def notify(module, content):
        asked.append(os.kill(os.getpid(), signal.SIGTERM))
        time.sleep(0)

    engine.set_object_cache(notify_func=notify)
    with pytest.raises(Interrupted) as ended, ended_by_signals():
        engine.finalize_object()
        signal.pause()
    assert exit_code(ended.value) == 143 and len(asked) == 1
    assert capfd.readouterr().err == ""


def test_a_signal_that_is_ignored_stays_so():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    with ended_by_signals(), holds() as asked:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not asked()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_other_threads_leave_signals_alone():
    seen = []

    def work():
        with ended_by_signals(), holds() as asked:
            seen.append((signal.getsignal(signal.SIGTERM), asked()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(signal.SIG_DFL, False)]
