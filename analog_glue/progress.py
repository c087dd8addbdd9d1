"""Progress of long work: a bar on a terminal, elsewhere a line now and then."""

import time
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

LINE_EVERY = 30.0  # [s] between two lines


class Progress:
    """Counts units of work; a context manager.

    Args:
        what: Is being done; may be changed.
        total: Units of all the work, of which `done` are there already.
        unit: "char", "image", "product".
        log: Prints the lines where there is no terminal, and what is `said`.
        shown: Whether there is a bar on a terminal: of several processes that share one, only the first has it.
    """

    def __init__(
        self, what: str, total: int, unit: str, done: int = 0, log: Callable[[str], None] = print, shown: bool = True
    ) -> None:
        self._bar = tqdm(
            desc=what, total=total, initial=done, unit=unit, unit_scale=True, disable=None if shown else True, mininterval=1.0
        )
        self._total, self._done, self._begun_with, self._unit, self._log = total, done, done, unit, log
        self._started = self._last = time.monotonic()
        self.what = what

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()

    def begin(self, what: str) -> None:
        """Name the next part of the work."""
        self.what = what
        self._bar.set_description(what)

    def update(self, units: int, note: Callable[[], str] | None = None) -> None:
        """So many more are done; `note` is asked only when it is shown, since a loss may have to come from a GPU."""
        self._done += units
        if self._bar.update(units) and note is not None:
            self._bar.set_postfix_str(note(), refresh=False)  # shown when the bar is drawn next
        if self._bar.disable and time.monotonic() - self._last > LINE_EVERY:
            self._last = time.monotonic()
            pace = (self._done - self._begun_with) / (self._last - self._started)
            left = duration((self._total - self._done) / pace)
            speed = f"{pace:,.0f} {self._unit}s/s" if pace >= 1 else f"{1 / pace:.1f} s for each {self._unit}"
            noted = f"{note()}, " if note is not None else ""
            self._log(f"  {self.what}: {100 * self._done / self._total:.0f} %, {noted}{speed}, {left} left")

    def say(self, text: str) -> None:
        """A line of its own, above the bar where there is one."""
        with tqdm.external_write_mode():
            self._log(text)


def duration(seconds: float) -> str:
    """A time to wait, in words: "40 s", "12 min", "1 h 50 min"."""
    if seconds < 100:
        return f"{round(seconds, 1 if seconds < 10 else None):g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60:,} h {minutes % 60} min"
