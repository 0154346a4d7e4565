"""Fixtures of the suite: a ROS domain of one's own, and waiting for a condition with a deadline."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from wm_bridge.cli.domain import claim_domain_id
from wm_bridge.cli.environment import run_environment

ROOT = Path(__file__).resolve().parents[1]
# Real processes, servos on a pseudo-terminal, cameras in real time: a neighbour that computes would make them late.
# So are single tests with the marker ``alone``, and all that take ``ros_env`` or ``recorded_run``.
ALONE = ("test_ros_", "test_driver_", "test_demo", "test_two_arms", "test_nico", "test_bus_sim", "test_dynamixel_", "test_usb_", "test_realsense")
NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"  # HYPOTHESIS_PROFILE=nightly ./wm test tests/test_safety_*.py
settings.register_profile("nightly", max_examples=10_000, deadline=None)
if NIGHTLY:
    settings.load_profile("nightly")


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `./wm test` runs alone; files that take long begin first, so that no core waits for them at the end."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)
    for item in items:
        if item.path.stem.startswith(ALONE) or {"ros_env", "recorded_run"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.alone)
        if NIGHTLY:
            item.add_marker(pytest.mark.timeout(0))  # ten thousand examples take longer than any test may otherwise


def examples(count: int) -> int:
    """How many examples a state machine tries: ``count``, or ten thousand in the nightly profile."""
    return 10_000 if NIGHTLY else count


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture
def ros_env() -> Iterator[dict[str, str]]:
    """Environment for processes of one test: no other test or program shares its ROS domain."""
    with claim_domain_id() as domain:
        yield {
            **run_environment(ROOT, Path(sys.prefix), os.environ),
            "ROS_DOMAIN_ID": str(domain),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        }


@pytest.fixture(scope="session")
def recorded_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag of the real graph, see ``recorded_run.py``."""
    from recorded_run import record_run

    return record_run(tmp_path_factory.mktemp("recorded"))


@pytest.fixture(name="wait_until")
def _wait_until() -> Callable[..., object]:
    """The function `wait_until`, for tests that take it as an argument."""
    return wait_until


def wait_until(predicate: Callable[[], object], timeout: float = 10.0, what: str = "") -> object:
    """Wait until `predicate()` is truthy and return its value; fail after `timeout` seconds.

    Args:
        predicate: asked every 10 ms.
        timeout: s; ten or more where another process has to answer.
        what: for the failure's message.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout:g} s: {what or getattr(predicate, '__name__', predicate)}")
        time.sleep(0.01)
