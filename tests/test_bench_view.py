"""`./wm bench view` without a browser: what counts as a period, when a STOP took effect, and the figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sensor_msgs.msg import JointState

from wm_bridge.bench.view import PAGES, Findings, first_stop, periods_ms, result
from wm_bridge.core.types import Reason

MS = 1_000_000


def command(counter: int, writer: int = 7, stamp_ms: int = 0) -> JointState:
    message = JointState()
    message.header.frame_id = f"5:{writer}:1:{counter}:1"
    message.header.stamp.nanosec = stamp_ms * MS
    return message


def test_a_period_lies_between_outputs_that_follow_one_another() -> None:
    sent = [(command(1), 0.0), (command(2), 10.0 * MS), (command(4), 30.0 * MS), (command(5), 45.0 * MS), (command(6, writer=8), 55.0 * MS)]
    assert periods_ms(sent) == [10.0, 15.0]
    assert periods_ms([]) == periods_ms(sent[:1]) == []


class Box:
    """A mailbox that gets one batch of messages at each look."""

    def __init__(self, *batches: list[tuple[Any, dict[str, float]]]) -> None:
        self._batches = list(batches)

    def take(self) -> Iterator[tuple[Any, dict[str, float]]]:
        yield from self._batches.pop(0) if self._batches else []


def looked(done: Callable[[], Any], timeout_s: float, what: str) -> Any:
    return next(filter(None, (done() for _ in range(5))))


def verdict(stamp_ms: int, reasons: Reason) -> Any:
    return SimpleNamespace(header=command(0, stamp_ms=stamp_ms).header, reasons=int(reasons))


def test_a_stop_takes_effect_with_the_first_output_of_its_tick_or_the_next_one_that_was_heard() -> None:
    sent = [[(command(1, stamp_ms=10), {"source_timestamp": 100.0})], [(command(k, stamp_ms=10 * k), {"source_timestamp": 100.0 * k}) for k in (2, 3, 4)]]
    told = [[(verdict(10, Reason.JERK_LIMIT), {})], [(verdict(20, Reason.NONE), {}), (verdict(30, Reason.STOP_REQUEST), {}), (verdict(40, Reason.STOP_REQUEST), {})]]
    assert first_stop(Box(*told), Box(*sent), looked) == 300.0
    lost = [[(command(4, stamp_ms=40), {"source_timestamp": 400.0})]]
    assert first_stop(Box(*told), Box(*lost), looked) == 400.0


def test_the_figures_compare_stretches_and_name_what_was_not_measured() -> None:
    found = Findings(stop_ms=[50.0, 60.0], busy_hz=(12.0, 9.0, 15.0), periods_ms={0: [10.0] * 99 + [12.0], PAGES: [10.0] * 99 + [15.0]}, cpu={0: [5.0], 1: [10.0], PAGES: []})
    figures = result(found, "abc", 0).figures
    assert figures["control_period_ratio"] == pytest.approx(np.quantile(found.periods_ms[PAGES], 0.99) / np.quantile(found.periods_ms[0], 0.99))
    assert (figures["camera_hz"], figures["view_cpu"], figures["stop_ms_p50"], figures["presses"]) == (12.0, 10.0, 55.0, 2)
    assert np.isnan(figures["view_cpu_three_pages"]) and np.isnan(figures["others_cpu"])
    assert np.isnan(result(Findings(), "", 0).figures["stop_ms_p99"])
