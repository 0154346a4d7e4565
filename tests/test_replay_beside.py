"""Parts of a work in processes beside each other: the same results as in one, and what goes wrong is told where it is waited for."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import cv2
import numpy as np
import pytest

from wm_bridge.errors import UserError
from wm_bridge.replay.beside import beside, possible

pytestmark = pytest.mark.skipif(not possible, reason="processes are copied on Linux only")
COUNTS = (3, 0, 2, 4)


def work(number: int) -> Iterator[tuple[int, int, int]]:
    """One result less than expected of the last part."""
    for k in range(COUNTS[number] - (number == 3)):
        yield number, k, os.getpid()


@pytest.mark.parametrize("jobs", [0, 1, 2, 9])
def test_every_result_comes_to_its_place_whatever_the_number_of_processes(jobs: int) -> None:
    with beside(work, COUNTS, jobs) as coming:
        found = [[future.result(20.0) for future in part] for part in coming]
    assert [[None if r is None else r[:2] for r in part] for part in found] == [[(n, k) for k in range(c)][: c - (n == 3)] + [None] * (n == 3) for n, c in enumerate(COUNTS)]
    pids = {r[2] for part in found for r in part if r}
    assert pids == {os.getpid()} if jobs == 0 else os.getpid() not in pids and len(pids) <= min(jobs, 4)


def test_results_come_one_by_one_and_a_process_does_the_parts_in_order() -> None:
    def slowly(number: int) -> Iterator[float]:
        for _ in range(2):
            yield time.monotonic()
            time.sleep(0.2)

    with beside(slowly, (2, 2), 1) as coming:
        first = coming[0][0].result(20.0)
        assert not coming[1][1].done()
        times = [future.result(20.0) for part in coming for future in part]
    assert times == sorted(times) and times[0] == first  # type: ignore[type-var]


def test_an_error_is_raised_where_its_results_are_waited_for() -> None:
    def fails(number: int) -> Iterator[int]:
        yield number
        if number == 1:
            raise UserError("no such thing", "look for it", 2)

    with beside(fails, (2, 2), 2) as coming:
        assert [future.result(20.0) for future in coming[0]] == [0, None] and coming[1][0].result(20.0) == 1
        with pytest.raises(UserError, match="no such thing\n  what to do: look for it") as raised:
            coming[1][1].result(20.0)
    assert raised.value.exit_code == 2


def test_a_process_that_is_killed_is_told_of_and_nothing_waits_for_ever() -> None:
    def dies(number: int) -> Iterator[int]:
        yield number
        os._exit(9)

    with beside(dies, (2, 1, 1), 1) as coming:
        assert coming[0][0].result(20.0) == 0
        for future in (coming[0][1], coming[1][0], coming[2][0]):
            with pytest.raises(UserError, match="has ended before its work was done"):
                future.result(20.0)


def test_the_block_leaves_no_process_behind() -> None:
    def endless(number: int) -> Iterator[int]:
        while True:
            yield os.getpid()
            time.sleep(0.05)

    pids: list[int] = []

    def leave() -> None:
        with beside(endless, (1000, 1000), 2) as coming:
            pids.extend(part[0].result(20.0) or 0 for part in coming)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_pictures_are_read_in_a_process_although_opencv_had_threads_here() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (1920, 2560, 3), np.uint8)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(2)
    before = cv2.GaussianBlur(picture, (9, 9), 3.0)
    cv2.setNumThreads(threads)

    def converted(number: int) -> Iterator[bool]:
        cv2.setNumThreads(2)
        yield bool((cv2.GaussianBlur(picture, (9, 9), 3.0) == before).all())

    with beside(converted, (1,), 1) as coming:
        assert coming[0][0].result(20.0)


def test_a_waiting_thread_is_not_the_one_that_reads() -> None:
    """Results are read while nobody waits: a process never stands still because its pipe is full."""

    def many(number: int) -> Iterator[bytes]:
        for _ in range(64):
            yield bytes(65536)

    with beside(many, (64,), 1) as coming:
        done = threading.Event()
        coming[0][-1].add_done_callback(lambda future: done.set())
        assert done.wait(20.0)
    assert isinstance(coming[0][0], Future)
