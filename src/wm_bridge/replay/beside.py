"""Independent parts of a work in processes beside each other, their results handed over one by one as they come."""

from __future__ import annotations

import gc
import multiprocessing
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from wm_bridge.errors import UserError

Result = TypeVar("Result")
Work = Callable[[int], Iterator[Result]]
Coming = list[list["Future[Result | None]"]]

possible = sys.platform == "linux"  # elsewhere a process cannot go on from a copy of another that has threads


@contextmanager
def beside(work: Work[Result], counts: Sequence[int], jobs: int) -> Iterator[Coming[Result]]:
    """The results of all parts, to be waited for in any order.

    Each process is a copy of this one, made when the block begins, and does one part after the other: nothing of a part
    may depend on another one. What ``work`` calls must not wait for threads of this process, as OpenMP with several of them
    and autograd do. The processes end with the block.

    Args:
        work: gives the results of a part, by its number from 0. counts: how many each part has at most; what a part does
            not give is None. jobs: processes; 0: in this one, before the block begins.
    """
    coming: Coming[Result] = [[Future() for _ in range(count)] for count in counts]
    if jobs == 0 or not possible:
        for number in range(len(counts)):
            _hand_over(coming[number], work(number))
        yield coming
        return
    context = multiprocessing.get_context("fork")
    following = context.Value("i", 0)
    gc.freeze()  # what is there now: collections in the copies would touch, and so copy, all of it
    workers, ends = [], []
    try:
        for _ in range(min(jobs, len(counts))):
            end, far = context.Pipe(duplex=False)
            worker = context.Process(target=_worker, args=(work, len(counts), following, far), daemon=True)
            with warnings.catch_warnings():  # of Python 3.12 on, about threads: see above
                warnings.simplefilter("ignore", DeprecationWarning)
                worker.start()
            far.close()  # so that the end of the process is the end of the pipe, and no later process holds it open
            workers.append(worker)
            ends.append(end)
        threading.Thread(target=_receive, args=(coming, ends), daemon=True, name="results").start()
        yield coming
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
        gc.unfreeze()


def _hand_over(places: list[Future[Result | None]], results: Iterator[Result]) -> None:
    given = 0
    for given, result in enumerate(results, 1):
        places[given - 1].set_result(result)
    for place in places[given:]:
        place.set_result(None)


def _worker(work: Work[Any], count: int, following: Any, far: Connection) -> None:
    """Take parts until none is left; send (number, result), and at a part's end (number, None) or (number, error)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that waits ends this one
    while True:
        with following.get_lock():
            number = following.value
            following.value += 1
        if number >= count:
            return
        try:
            for result in work(number):
                far.send((number, result))
            far.send((number, None))
        except Exception as error:  # noqa: BLE001  raised where its results are waited for
            far.send((number, error))


def _receive(coming: Coming[Any], ends: list[Connection]) -> None:
    """Resolve the futures until all processes have ended."""
    rests = [iter(places) for places in coming]
    while ends:
        for end in wait(ends):
            try:
                number, result = end.recv()  # type: ignore[union-attr]
            except Exception:  # noqa: BLE001  its end, or what cannot be brought over
                ends.remove(end)  # type: ignore[arg-type]
                continue
            if result is not None and not isinstance(result, Exception):
                next(rests[number]).set_result(result)
                continue
            for place in rests[number]:
                place.set_result(None) if result is None else place.set_exception(result)
    for rest in rests:
        for place in rest:
            place.set_exception(UserError("a process that plans has ended before its work was done", "is there enough memory? try --jobs 1"))
