"""The running graph for benchmarks: started once, talked to through the demo's client."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wm_bridge.cli.demo import plain
from wm_bridge.cli.demo_client import DemoClient
from wm_bridge.core.goal_kinds import PictureGoal
from wm_bridge.core.types import ImageArray
from wm_bridge.errors import UserError
from wm_bridge.processes import look_at
from wm_bridge.ros import qos
from wm_bridge.ros.goal_request import to_request
from wm_bridge.ros.mailbox import Mailbox
from wm_bridge.sim.state import SimState
from wm_bridge.sim.world import SimWorld
from wm_bridge.supervisor import Graph
from wm_planner.weights import shipped_checkpoint

ON_TABLE_X = -5.0  # parked objects lie beyond, m
_READY_S = 120.0
FAST_DDS = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE", "ROS_AUTOMATIC_DISCOVERY_RANGE")


@dataclass(frozen=True)
class Live:
    """A graph that runs, and our node in it."""

    graph: Graph
    client: DemoClient

    def listen(self, name: str, callback: Callable[..., None]) -> None:
        """Call ``callback(message)`` or ``callback(message, info)`` for each message of a topic."""
        self.client.node.create_subscription(qos.message_type(name), name, callback, qos.monitor_profile(name))

    def mailbox(self, name: str) -> Mailbox:
        """The messages of a topic, to be taken now and then: that hardly burdens the graph."""
        return Mailbox(self.client.node, name, 500)

    def send(self, action: Any, picture: ImageArray, timeout_s: float, tolerance_m: float) -> Any:
        """Send a goal picture through an ActionClient; returns the accepted goal's handle.

        Raises:
            UserError: the planner did not take it.
        """
        self.client.wait(action.server_is_ready, 30.0, "no action wm/reach_goal")
        goal = to_request(PictureGoal(picture), timeout_s=timeout_s, tolerance_m=tolerance_m)
        future = action.send_goal_async(goal)
        self.client.wait(future.done, 20.0, "no answer to the goal")
        handle = future.result()
        if not handle.accepted:
            raise UserError("the planner refused the goal; it is not active", "run ./wm doctor: is the checkpoint there?")
        return handle


class CpuMeter:
    """CPU time of a graph's nodes from now on."""

    def __init__(self, graph: Graph) -> None:
        self._pids = {name: graph.process(name).pid for name in graph.nodes}
        self._begin, self._used = time.monotonic(), self._seconds()

    def percent(self) -> dict[str, float]:
        """Share of one core that each node has used since, %; NaN for one that has ended."""
        passed, now = time.monotonic() - self._begin, self._seconds()
        return {name: 100.0 * (now[name] - self._used[name]) / passed for name in self._pids}

    def _seconds(self) -> dict[str, float]:
        return {name: cpu_s(pid) for name, pid in self._pids.items()}


class OthersMeter:
    """CPU time of all programs that were not started by this one, from now on: what makes a rate lower than it is."""

    def __init__(self) -> None:
        self._begin, self._used = time.monotonic(), self._seconds()

    def percent(self) -> float:
        """Of one core, %."""
        return 100.0 * (self._seconds() - self._used) / (time.monotonic() - self._begin)

    def _seconds(self) -> float:
        user, nice, system, _, _, irq, softirq = map(int, Path("/proc/stat").read_text(encoding="utf-8").split()[1:8])
        own = (cpu_s(pid) for pid in _family(os.getpid()))
        return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK") - sum(used for used in own if used == used)


def _family(pid: int) -> set[int]:
    """A process, its children, and theirs."""
    numbers = (int(folder.name) for folder in Path("/proc").glob("[0-9]*"))
    parents = {number: process.parent for number in numbers if (process := look_at(number))}
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def cpu_s(pid: int) -> float:
    """Processor time of a process so far, s; NaN when it has ended."""
    process = look_at(pid)
    return process.cpu_s if process else math.nan


@contextmanager
def live_graph(
    overrides: Mapping[str, Mapping[str, Any]] | None = None, skip: tuple[str, ...] = ("goal",), profile: str = "sim", **how: Any
) -> Iterator[Live]:
    """Start a graph, the simulated one by default, in a temporary run folder; stop it and delete the folder at the end.

    The folder stays when a node fails: its logs say why. ``how``: as `Graph.start` takes it.

    Raises:
        UserError: a node could not start, or the planner or a required node died.
    """
    run_dir = Path(tempfile.mkdtemp(prefix="wm-bench-"))
    try:
        with Graph.start(profile, overrides, run_dir, skip, _READY_S, **how) as graph:
            for name in FAST_DDS:
                os.environ.setdefault(name, graph.env[name])

            def check() -> None:
                graph.check()
                for death in graph.deaths:
                    if death.name in ("planner", "camera"):
                        raise UserError(str(death), f"see {graph.log(death.name)}")

            client = DemoClient(graph.domain, check)
            try:
                yield Live(graph, client)
            finally:
                client.close()
    except UserError as error:
        raise plain(error) from error
    except BaseException:
        shutil.rmtree(run_dir, ignore_errors=True)
        raise
    shutil.rmtree(run_dir, ignore_errors=True)


def settings(checkpoint: Path, speed: float = 1.0) -> dict[str, dict[str, Any]]:
    """Node parameters for a checkpoint and a speed of the simulation (1 = real time).

    Raises:
        UserError: not a speed that the simulation can have.
    """
    if not 0.01 <= speed <= 10.0:
        raise UserError(f"--realtime-factor is {speed}", "give 0.01 to 10", 2)
    found: dict[str, dict[str, Any]] = {name: {"realtime_factor": speed} for name in ("driver", "safety", "camera", "planner")}
    found["planner"]["checkpoint"] = str(checkpoint)
    return found


def checkpoint_file(given: Path | None) -> Path:
    """The checkpoint named on the command line or the shipped one.

    Raises:
        UserError: the named one is no file.
    """
    if given is None:
        return shipped_checkpoint("nico")
    if not given.is_file():
        raise UserError(f"checkpoint {given} does not exist", "leave --checkpoint out for the shipped one", 2)
    return given.absolute()


def objects_of(world: SimWorld, state: SimState) -> dict[str, tuple[float, float, float, float]]:
    """(x, y, z, yaw) of the objects that are on the table in ``state``, for ``SimWorld.reset``."""
    world.load_state(state)
    poses = {item.name: tuple(map(float, world.object_pose(item.name))) for item in world.scene.objects}
    return {name: pose for name, pose in poses.items() if pose[0] > ON_TABLE_X}  # type: ignore[misc]
