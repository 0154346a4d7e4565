"""For the tests of a laboratory's own repository: a recorded run is planned again, and nothing may have changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wm_bridge.planner_setup import PlannerSetup
from wm_bridge.replay import golden as goldens
from wm_bridge.replay.run import Replay, ReplaySettings, replay_planner
from wm_bridge.replay.summary import summarise
from wm_bridge.safety.config import SafetyConfig


def assert_replay(
    bag: Path | str,
    golden: Path | str | None = None,
    *,
    tolerance: float = 0.0,
    may_stop: int | None = None,
    checkpoint: Path | str = "",
    search: Mapping[str, Any] | None = None,
    safety: Path | str | None = None,
    robot: str = "",
) -> Replay:
    """Plan a bag again and fail when a decision differs from the golden file, or the safety filter from the recording.

        from wm_bridge.testing import assert_replay
        def test_recorded_reach():
            assert_replay("bags/reach", golden="bags/reach.golden")

    Args:
        bag: folder or file. golden: see ``./wm replay --golden``; None: only safety filter and stops are judged.
        tolerance: see there; 0 = to the bit.
        may_stop: how many plans the safety filter may stop that the recorded run did not; None = any number.
        checkpoint, robot: instead of the recorded ones. search: settings of the search that differ.
        safety: settings of the filter; where they are given, the filter may differ from the recording.

    Returns:
        The replay, for further assertions.

    Raises:
        AssertionError: what differs first. UserError: bag or golden file cannot be used.
    """
    config = SafetyConfig.load(Path(safety)) if safety is not None else None
    setup = PlannerSetup(checkpoint=str(checkpoint), changes=dict(search or {}))
    replay = replay_planner(Path(bag), ReplaySettings(setup, robot, config))
    problems = []
    for report in replay.guarded.reports:
        if report.wrong and config is None:
            problems.append(f"the safety filter answers otherwise than recorded in {report.different} cases; the first:\n{report.first}")
    if golden is not None:
        comparison = goldens.compare(Path(golden), replay, tolerance)
        problems += [] if comparison.same else [str(comparison)]
    stops = int(summarise(replay).figures["would_have_stopped"])
    if may_stop is not None and stops > may_stop:
        problems.append(f"the safety filter would have stopped {stops} plans, allowed are {may_stop}")
    assert not problems, f"replay of {bag}:\n" + "\n".join(problems)
    return replay
