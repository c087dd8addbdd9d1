"""Signals that end a command: what is in hand is saved first, and the exit code names the signal.

Ctrl-C and what a machine or a scheduler sends before it takes the process away (SIGTERM, SIGHUP, SIGUSR1, SIGUSR2) raise
`Interrupted` in the main thread, with which files are closed and records written. A loop that holds more than the disk does
`holds` them off: it saves when it is asked to, then lets the signal have its way. A second one ends at once.

Signals that are ignored (nohup) stay so, and a handler of somebody else is kept: it is called after the saving, and where it
returns, the work goes on. So a launcher that requeues its jobs by SIGUSR2 still does.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Interrupted(KeyboardInterrupt):
    """A signal that ends the command. As Ctrl-C it is no `Exception`, so that nothing takes it for a failed job."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """128 + the number of the signal, as shells have it: 130 for Ctrl-C, 143 for SIGTERM, 129, 138, 140."""
    return 128 + getattr(interrupt, "number", signal.SIGINT)


@contextmanager
def ended_by_signals(also: tuple[int, ...] = ()) -> Iterator[None]:
    """Let the signals of `ENDING` that nobody handles raise `Interrupted` meanwhile; nothing outside the main thread.

    Args:
        also: Signals that raise it whoever handles them.
    """
    unhandled = (signal.SIG_DFL, signal.default_int_handler)
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        found = {number: signal.getsignal(number) for number in (*ENDING, *also)}
        before = {number: handler for number, handler in found.items() if number in also or handler in unhandled}
    try:
        for number in before:
            signal.signal(number, _raise)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# Python that llvmlite's C calls while it compiles a kernel: what is raised there is printed and forgotten.
CALLED_BY_C = ("_raw_object_cache_notify", "_raw_object_cache_getbuffer")
SOON = 0.05  # [s]


def _raise(number: int, frame: FrameType | None) -> None:
    above = frame
    while above is not None:
        if above.f_code.co_name in CALLED_BY_C:
            again = threading.Timer(SOON, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        above = above.f_back
    raise Interrupted(number)


class Held:
    """Signals that came and wait until something is saved."""

    def __init__(self) -> None:
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._came: int | None = None

    def __call__(self) -> bool:
        """Whether one came: save, then call `obey`."""
        return self._came is not None

    def obey(self) -> None:
        """Let the handler of the signal that came have its way; where it returns, hold the next one off."""
        assert self._came is not None
        number, self._came = self._came, None
        handler = self._handlers[number]
        self.release()
        handler(number, None)
        self.hold()

    def hold(self) -> None:
        found = {number: signal.getsignal(number) for number in ENDING}
        self._handlers = {number: handler for number, handler in found.items() if callable(handler)}
        for number in self._handlers:
            signal.signal(number, self._note)

    def release(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = number
        self.release()


@contextmanager
def holds() -> Iterator[Held]:
    """Hold signals off meanwhile; outside the main thread none ever comes."""
    held = Held()
    if threading.current_thread() is not threading.main_thread():
        yield held
        return
    held.hold()
    try:
        yield held
    finally:
        held.release()
