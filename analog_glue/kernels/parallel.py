"""Independent pieces of work, each from beginning to end on one core.

torch splits every single operation over the cores and waits for the slowest at its end. A chain of small operations is
quicker, and suffers less from other programs on the machine, when every core runs whole chains by itself.

torch's own threads go on spinning for milliseconds after each operation, on the very cores that are needed here;
OMP_WAIT_POLICY=PASSIVE in the environment, before torch is imported, sends them to sleep. The command line sets it.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from threading import Barrier, local
from typing import TypeVar

import torch

Piece = TypeVar("Piece")


class _Thread(local):
    of_pool = False


_thread = _Thread()


def run(function: Callable[[Piece], object], pieces: Iterable[Piece], device: torch.device | str = "cpu") -> None:
    """Call `function` without gradients on every one of `pieces`, in any order, on as many threads as torch has.

    Pieces must not depend on each other. On a GPU, with one thread, and inside another `run` they follow one another.
    """
    todo = deque(pieces)
    threads = torch.get_num_threads()
    inference = torch.is_inference_mode_enabled()  # a property of the thread, like the gradient mode

    def work() -> None:
        with torch.inference_mode(inference), torch.no_grad():
            while todo:
                try:
                    piece = todo.popleft()
                except IndexError:  # another thread took the last one
                    return
                function(piece)

    if len(todo) < 2 or threads == 1 or _thread.of_pool or torch.device(device).type != "cpu":
        work()
        return
    # This thread works too: waking another takes longer than some of the pieces do.
    helpers = [_pool(threads).submit(work) for _ in range(min(threads, len(todo)) - 1)]
    _thread.of_pool = True
    torch.set_num_threads(1)
    try:
        work()
    except BaseException:
        todo.clear()
        raise
    finally:
        torch.set_num_threads(threads)
        _thread.of_pool = False
        wait(helpers)
    for helper in helpers:
        helper.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads in which torch uses one core each."""
    all_started = Barrier(threads, timeout=60)  # [s]

    def start() -> None:
        _thread.of_pool = True
        torch.get_num_threads()  # the first call in a thread takes over the default, so it must come before
        torch.set_num_threads(1)  # of this thread, and the default of threads to come
        all_started.wait()

    pool = ThreadPoolExecutor(threads - 1, thread_name_prefix="analog-glue", initializer=start)
    for _ in range(threads - 1):
        pool.submit(int)
    all_started.wait()
    torch.set_num_threads(threads)  # the default again
    return pool


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
