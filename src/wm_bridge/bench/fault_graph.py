"""Faults in the real graph: processes that die, freeze and lie, over real DDS, in real time.

Driver (MuJoCo), safety and camera are the nodes of `config/graph.yaml` with the parameters of the simulation;
the planner is a stand-in that swings the arm (`fault_nodes`). Times are those at which the middleware of
the writing process sent a message, so this process may be late without spoiling a figure.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from wm_bridge import graph as description
from wm_bridge import resources
from wm_bridge.bench import fault_nodes
from wm_bridge.bench.fault_rig import Outcome
from wm_bridge.cli.domain import claim_domain_id
from wm_bridge.cli.environment import run_environment
from wm_bridge.core.types import SafetyMode
from wm_bridge.errors import UserError
from wm_bridge.ros import convert, qos

STILL_RAD_S = 0.05  # of the measured joints: their noise is 0.005 rad/s
_MOVING_RAD_S = 0.2
_STOOD_NS = 200_000_000  # for good
_PAUSED_NS = 20_000_000  # until a fresh plan moves the arm again
_NODES = ("driver", "safety", "camera", "planner")
_HEARD = ("hw/command", "joint_states", "safety/verdict", "safety/state", "driver/heartbeat")


@dataclass
class Log:
    """(sent at, wall clock ns; value) per message, oldest first."""

    output: list[tuple[int, float]] = field(default_factory=list)  # largest speed of hw/command
    arm: list[tuple[int, float]] = field(default_factory=list)  # largest measured speed
    mode: list[tuple[int, int, str]] = field(default_factory=list)  # of safety/verdict, with reasons
    following: list[tuple[int, bool]] = field(default_factory=list)  # of driver/heartbeat


class FaultGraph:
    """The running processes and a listener; a context manager that leaves none behind."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._domain = claim_domain_id()
        domain = self._domain.__enter__()
        self.env = run_environment(resources.root(), Path(sys.prefix), os.environ)
        self.env.update(ROS_DOMAIN_ID=str(domain), ROS_LOG_DIR=str(folder), PYTHONUNBUFFERED="1")
        for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE", "ROS_AUTOMATIC_DISCOVERY_RANGE"):
            os.environ.setdefault(name, self.env[name])
        self._entries = {entry.name: entry for entry in description.load("sim", skip=("goal", "viz", "recorder"))}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.log = Log()
        self.recording = True
        self.commands: list[Any] = []
        self.last: dict[str, Any] = {}
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node("fault_bench", context=self.context)
        for name in _HEARD:
            self.node.create_subscription(qos.message_type(name), name, self._hear(name), qos.monitor_profile(name))
        self.mode = self.node.create_publisher(String, "fault/mode", 10)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._closing = False
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def __enter__(self) -> FaultGraph:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        self._closing = True
        self._thread.join(5.0)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)
        self._domain.__exit__(None, None, None)

    def stop(self) -> None:
        """End all processes: gently first, so that discovery forgets them at once."""
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(4.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    def signal(self, name: str, number: int) -> None:
        """Send a signal to one process."""
        self.processes[name].send_signal(number)

    def ready(self) -> None:
        """All processes run, safety is enabled and the arm moves; starts what is needed.

        Raises:
            UserError: it does not come to that.
        """
        for _ in range(3):
            dead = {name for name in _NODES if name not in self.processes or self.processes[name].poll() is not None}
            if dead and dead <= {"planner", "camera"}:
                for name in dead:
                    self._start(name)
            elif dead:
                self.stop()
                self.until(lambda: self.node.count_publishers("hw/command") == 0, 15.0)
                self.last.clear()
                for name in _NODES:
                    self._start(name)
            self.mode.publish(String(data=""))
            self.recording = True
            if self.until(self._enabled_and_moving, 45.0):
                self.log = Log()
                self.commands.clear()
                return
            self.stop()
        raise UserError("the graph of the fault benchmark does not move", f"see the logs in {self._folder}")

    def wait(self, seconds: float) -> None:
        """Let the graph run; a measured stretch of real time is the point here."""
        time.sleep(seconds)

    def call(self, kind: Any, name: str, request: Any) -> bool:
        """Call a service; False when it did not answer or refused."""
        client = self.node.create_client(kind, name)
        try:
            if not client.wait_for_service(2.0):
                return False
            future = client.call_async(request)
            return self.until(future.done, 5.0) and bool(future.result().success)
        finally:
            self.node.destroy_client(client)

    def _enabled_and_moving(self) -> bool:
        state = self.last.get("safety/state")
        if state is None or "joint_states" not in self.last:
            return False
        if not state.enabled:
            reset = self.call(Trigger, "safety/reset", Trigger.Request())
            self.call(SetBool, "safety/enable", SetBool.Request(data=True)) if reset else time.sleep(0.2)
            self.until(lambda: self.last["safety/state"] is not state, 2.0)
            return False
        beat = self.last.get("driver/heartbeat")
        recent = [speed for _, speed in self.log.output[-3:]]
        return beat is not None and beat.following and bool(recent) and min(recent) > _MOVING_RAD_S

    def _start(self, name: str) -> None:
        entry = self._entries[name]
        own = self._folder / f"{name}.yaml"
        own.write_text(description.parameter_file(entry), encoding="utf-8")
        module = [entry.module] if name in ("driver", "camera") else ["wm_bridge.bench.fault_nodes", name]
        command = [sys.executable, "-m", *module, "--ros-args", "--disable-external-lib-logs", "-r", f"__node:={name}"]
        with (self._folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*command, "--params-file", str(own)], env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def until(self, done: Callable[[], Any], timeout_s: float) -> bool:
        """Wait for a condition; False when it does not come true in time."""
        deadline = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def _spin(self) -> None:
        while not self._closing:
            self._executor.spin_once(timeout_sec=0.1)

    def _hear(self, name: str) -> Callable[[Any, Any], None]:
        def hear(message: Any, info: Any) -> None:
            at, log = info["source_timestamp"], self.log
            self.last[name] = message
            if not self.recording:
                return
            if name == "hw/command":
                log.output.append((at, float(np.abs(message.velocity).max(initial=0.0))))
                self.commands.append(message)
            elif name == "joint_states":
                log.arm.append((at, float(np.abs(message.velocity).max(initial=0.0))))
            elif name == "safety/verdict":
                log.mode.append((at, message.mode, "+".join(message.reason_names)))
            elif name == "driver/heartbeat":
                log.following.append((at, message.following))

        return hear


@dataclass(frozen=True)
class GraphKind:
    """One kind of fault in the real graph.

    Attributes:
        name: in the table. act: does it, and undoes it where it must be undone.
        driver: the driver itself has to stop: its time is measured.
        passes: the cause is over before the end: the arm must have stood in between.
        stays: the fault stays in a living process, which has to be ended.
    """

    name: str
    act: Callable[[FaultGraph, np.random.Generator], None]
    driver: bool = False
    passes: bool = False
    stays: bool = False


def judge(log: Log, fault_ns: int, passes: bool) -> Outcome:
    """What the logs say; see `fault_rig.judge`. Lateness is not judged: this is not a real-time machine."""
    braked = [(at, reasons or "HOLD") for at, mode, reasons in log.mode if at > fault_ns and mode >= SafetyMode.HOLD][:1]
    braked += [(at, "driver") for at, following in log.following if at > fault_ns and not following][:1]
    if not braked:
        return Outcome(False, float("nan"), float("inf"), "")
    first, why = min(braked)
    moves = [(at, speed > STILL_RAD_S) for at, speed in _without_gaps(log.arm) if at >= first]
    if why != "driver":  # else the arm stands by the driver's own stop, whatever the output says
        moves += [(at, speed > 0.0) for at, speed in log.output if at >= first]
    moves.sort()
    begin, stands, end = first, 0, max([at for at, _ in moves], default=first)
    for at, moving in [*moves, (end, True)]:
        stands = max(stands, at - begin)
        if moving and at < end:
            if passes and stands >= _PAUSED_NS:
                break
            begin, stands = at, 0
    # A dead driver measures nothing more: in simulation the world stands with it.
    stood = stands >= (_PAUSED_NS if passes else _STOOD_NS) or not _goes_on(log, begin)
    return Outcome(stood, float("nan"), (begin - first) * 1e-9 if stood else float("inf"), why)


def _without_gaps(series: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Times without the stretches in which the simulated world stood because its driver did."""
    shift, before, found = 0, None, []
    for at, speed in series:
        if before is not None and at - before > _STOOD_NS:
            shift += at - before
        before = at
        found.append((at - shift, speed))
    return found


def _goes_on(log: Log, since_ns: int) -> bool:
    """True when the arm's measurements go on after this time."""
    return bool(log.arm) and log.arm[-1][0] > since_ns + _STOOD_NS


def driver_stop_ms(log: Log, fault_ns: int) -> float:
    """From the signal to the driver's own stop; infinite when it did not stop."""
    stops = [at for at, following in log.following if at > fault_ns and not following]
    return (stops[0] - fault_ns) * 1e-6 if stops else float("inf")


# The kinds ----------------------------------------------------------------------------------


def _signal(node: str, number: int, seconds: float = 1.2) -> Callable[[FaultGraph, np.random.Generator], None]:
    def act(graph: FaultGraph, rng: np.random.Generator) -> None:
        graph.signal(node, number)
        graph.wait(seconds)

    return act


def _freeze(node: str, thaw: bool) -> Callable[[FaultGraph, np.random.Generator], None]:
    """SIGSTOP; then SIGCONT, watched for another second when it is the thawing that counts."""

    def act(graph: FaultGraph, rng: np.random.Generator) -> None:
        graph.signal(node, signal.SIGSTOP)
        graph.wait(1.6)
        graph.recording = thaw  # else what comes after the thaw is not looked at
        graph.signal(node, signal.SIGCONT)
        graph.wait(1.0 if thaw else 0.0)

    return act


def _planner(mode: str, seconds: float = 1.4) -> Callable[[FaultGraph, np.random.Generator], None]:
    def act(graph: FaultGraph, rng: np.random.Generator) -> None:
        graph.mode.publish(String(data=mode))
        graph.wait(seconds)

    return act


@contextmanager
def _publisher(graph: FaultGraph, name: str) -> Iterator[Any]:
    writer = graph.node.create_publisher(qos.message_type(name), name, qos.profile(name))
    try:
        yield writer
    finally:
        graph.node.destroy_publisher(writer)


def _second_writer(graph: FaultGraph, rng: np.random.Generator) -> None:
    with _publisher(graph, "hw/command"):
        graph.wait(1.0)


def _talking_writer(graph: FaultGraph, rng: np.random.Generator) -> None:
    """It is there for as long as it takes to send one message, a jump without a ticket."""
    with _publisher(graph, "hw/command") as writer:
        graph.until(lambda: writer.get_subscription_count() >= 2, 5.0)
        message = graph.commands[-1]
        message.header.frame_id = ""
        message.position = [q + float(rng.uniform(0.05, 0.15)) for q in message.position]
        writer.publish(message)
    graph.wait(1.0)


def _replaying_writer(graph: FaultGraph, rng: np.random.Generator) -> None:
    with _publisher(graph, "hw/command") as writer:
        graph.until(lambda: writer.get_subscription_count() >= 2, 5.0)
        writer.publish(graph.commands[-5])
    graph.wait(1.0)


def _clock(leap_s: float) -> Callable[[FaultGraph, np.random.Generator], None]:
    """A second source of simulated time says something else."""

    def act(graph: FaultGraph, rng: np.random.Generator) -> None:
        with _publisher(graph, "/clock") as writer:
            graph.until(lambda: writer.get_subscription_count() >= graph.node.count_subscribers("/clock"), 5.0)
            stamp = convert.from_time(graph.last["joint_states"].header.stamp)
            for _ in range(100):
                writer.publish(convert.to_clock(max(1, stamp + round(leap_s * 1e9))))
                graph.wait(0.004)
        graph.wait(0.8)

    return act


def _hog(graph: FaultGraph, rng: np.random.Generator) -> None:
    """Every core is busy when the planner dies."""
    count = 2 * (os.cpu_count() or 2)
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        graph.wait(0.3)
        graph.signal("planner", signal.SIGKILL)
        graph.wait(1.6)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


GRAPH_KINDS: tuple[GraphKind, ...] = (
    *(GraphKind(f"{mode}_plans", _planner(mode, 2.0 if mode in ("delay", "besteffort") else 1.4)) for mode in fault_nodes.MODES[1:]),
    GraphKind("planner_sigstop", _freeze("planner", False)),
    GraphKind("planner_sigcont", _freeze("planner", True), passes=True),
    GraphKind("camera_sigstop", _freeze("camera", False)),
    GraphKind("camera_sigcont", _freeze("camera", True), passes=True),
    GraphKind("driver_sigstop", _freeze("driver", False)),
    GraphKind("driver_sigcont", _freeze("driver", True)),
    GraphKind("safety_sigstop", _freeze("safety", False), driver=True),
    GraphKind("safety_sigcont", _freeze("safety", True), driver=True, passes=True),
    GraphKind("second_writer_idle", _second_writer),
    GraphKind("second_writer_talks", _talking_writer),
    GraphKind("second_writer_replays", _replaying_writer),
    GraphKind("clock_leaps_ahead", _clock(5.0), passes=True),
    GraphKind("clock_leaps_back", _clock(-5.0), passes=True),
    GraphKind("cpu_hog_and_planner_dies", _hog),
    GraphKind("planner_sigkill", _signal("planner", signal.SIGKILL)),
    GraphKind("camera_sigkill", _signal("camera", signal.SIGKILL)),
    GraphKind("exception_in_a_callback", _signal("safety", fault_nodes.RAISE)),  # it brakes on its way out
    GraphKind("exception_in_the_filter", _signal("safety", fault_nodes.CORE), stays=True),
    GraphKind("solver_hangs", _signal("safety", fault_nodes.HANG), driver=True, stays=True),
    GraphKind("solver_slow", _signal("safety", fault_nodes.SLOW), stays=True),
    GraphKind("safety_sigkill", _signal("safety", signal.SIGKILL), driver=True),
    GraphKind("driver_sigkill", _signal("driver", signal.SIGKILL)),
)


def run(seeds: int, names: Sequence[str] = (), say: Callable[[str], None] = print) -> Iterator[tuple[GraphKind, list[Outcome], list[float]]]:
    """Every kind (or those named), so many times; yields a kind with its outcomes and the driver's times."""
    with tempfile.TemporaryDirectory(prefix="wm-faults-") as folder, FaultGraph(Path(folder)) as graph:
        for number, kind in enumerate(GRAPH_KINDS):
            if names and kind.name not in names:
                continue
            outcomes, driver_ms = [], []
            for seed in range(seeds):
                graph.ready()
                rng = np.random.default_rng([seed, number])
                graph.wait(float(rng.uniform(0.0, 0.1)))  # another phase of everybody's periods
                fault_ns = time.time_ns()
                kind.act(graph, rng)
                log = graph.log
                outcomes.append(judge(log, fault_ns, kind.passes))
                if kind.driver:
                    driver_ms.append(driver_stop_ms(log, fault_ns))
                if kind.stays:
                    graph.stop()
            say(f"  {kind.name}: {sum(o.stood for o in outcomes)}/{seeds} stood")
            yield kind, outcomes, driver_ms
