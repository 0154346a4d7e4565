"""`./wm replay BAG --ros`: the recording on real topics, on its own clock, to the real planner and safety nodes."""

from __future__ import annotations

import heapq
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wm_bridge.core.goal_record import to_text
from wm_bridge.core.types import SafetyMode
from wm_bridge.errors import UserError
from wm_bridge.replay.recorded import Picture, Recorded, read
from wm_bridge.replay.page import write_html
from wm_bridge.report.about import made
from wm_bridge.report.sheet import table
from wm_bridge.report.runs import PAGE, new_folder, write_report
from wm_bridge.supervisor import Graph

S = 1_000_000_000
_CLOCK_NS = 10_000_000  # between two messages on /clock
PICTURES, COMMANDS, REQUESTS = "recorded/camera/image_raw/compressed", "recorded/hw/command", "goal/request"


def play(bag: Path, speed: float, namespace: str = "", camera: str = "", checkpoint: Path | None = None, json_path: Path | None = None) -> int:
    """Play a bag to a graph of its own ROS domain, and tell what its nodes made of it; 0: there were plans, 3: there were none.

    Raises:
        UserError: the bag lacks what is to be played, or the graph does not start.
    """
    recorded = read(bag, namespace, camera)
    for note in recorded.notes:
        print(f"! {note}")
    for what, there in (("pictures", recorded.pictures), ("joint_states", recorded.joints), ("hw/command", recorded.commands), ("goal", recorded.goals)):
        if not there:
            raise UserError(f"{bag} holds no {what}: it cannot be played to the planner", "record with ./wm record or ./wm demo", 2)
    run_dir = new_folder("replay", "ros")
    robot = {"robot": recorded.goals[0].record.robot or "nico"}
    overrides: dict[str, dict[str, Any]] = {name: dict(robot) for name in ("safety", "planner", "camera")}
    if checkpoint is not None:
        overrides["planner"]["checkpoint"] = str(checkpoint.absolute())
    print(f"starting planner and safety node (logs in {run_dir})", flush=True)
    with Graph.start("replay", overrides, run_dir, ready_s=120.0) as graph:
        for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE", "ROS_AUTOMATIC_DISCOVERY_RANGE"):
            os.environ.setdefault(name, graph.env[name])
        player = Player(graph.domain)
        try:
            player.wait_for_readers()
            player.play(recorded, speed, graph.check)
        finally:
            player.close()
    figures = player.figures(recorded)
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):<28} {value}")
    if json_path is not None:
        json_path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    report = {
        "kind": "replay", "name": "ros", "bag": str(bag.absolute()), "outcome": f"{figures['plans']} plans", "figures": figures,
        **made({"speed": speed, "namespace": namespace, "camera": camera, "checkpoint": str(checkpoint or "shipped")}),
    }  # fmt: skip
    write_report(run_dir, report)
    write_html(run_dir / PAGE, report, recorded.notes, [table(figures.items())])
    print(f"page {run_dir / PAGE}")
    return 0 if figures["plans"] else 3


class Player:
    """A node that says what was recorded, and listens to what planner and safety node make of it."""

    def __init__(self, domain: int) -> None:
        import rclpy
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.signals import SignalHandlerOptions

        from wm_bridge.ros import qos

        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node("player", context=self.context)

        def writer(topic: str, row: str) -> Any:
            return self.node.create_publisher(qos.message_type(row), topic, qos.profile(row))

        self._pictures = writer(PICTURES, "camera/image_raw/compressed")
        self._joints, self._commands = writer("joint_states", "joint_states"), writer(COMMANDS, "hw/command")
        self._requests, self._clock = writer(REQUESTS, REQUESTS), writer("/clock", "/clock")
        self.reports: dict[int, Any] = {}
        self.modes: Counter[int] = Counter()
        self.reasons: Counter[str] = Counter()
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        for topic, heard in (("wm/report", self._on_report), ("safety/verdict", self._on_verdict)):
            self.node.create_subscription(qos.message_type(topic), topic, heard, qos.monitor_profile(topic))
        self._closing = False
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def wait_for_readers(self, timeout_s: float = 30.0) -> None:
        """Wait until every topic is heard by the nodes that need it.

        Raises:
            UserError: one is not.
        """
        end = time.monotonic() + timeout_s
        wanted = ((self._pictures, 1), (self._joints, 2), (self._commands, 1), (self._requests, 1), (self._clock, 3))
        while any(publisher.get_subscription_count() < count for publisher, count in wanted):
            if time.monotonic() > end:
                raise UserError("the nodes do not listen to what is played", "see the logs in the run folder")
            time.sleep(0.05)

    def play(self, recorded: Recorded, speed: float, check: Any = lambda: None) -> None:
        """Say everything in the order and, at ``speed`` 1, at the pace of the recording."""
        first_ns, begin, clock_ns = 0, 0.0, 0
        for log_ns, say in _messages(self, recorded):
            if not first_ns:
                first_ns, begin = log_ns, time.monotonic()
            while clock_ns < log_ns:
                clock_ns = min(clock_ns + _CLOCK_NS, log_ns) if clock_ns else log_ns
                time.sleep(max(0.0, begin + (clock_ns - first_ns) / S / speed - time.monotonic()))
                self.tick(clock_ns)
            say()
            check()
        for _ in range(100):  # the last plans are still on their way
            clock_ns += _CLOCK_NS
            time.sleep(_CLOCK_NS / S / speed)
            self.tick(clock_ns)

    def tick(self, now_ns: int) -> None:
        """The time on /clock."""
        from wm_bridge.ros import convert

        self._clock.publish(convert.to_clock(now_ns))

    def picture(self, picture: Picture) -> None:
        """A recorded picture, compressed as it was, or without loss."""
        from sensor_msgs.msg import CompressedImage

        from wm_bridge.core.goal_record import to_png
        from wm_bridge.ros import convert

        try:
            data = picture.data if picture.raw is None else to_png(picture.decoded())
        except ValueError:
            return
        message = CompressedImage(format="rgb8; png compressed bgr8", data=np.frombuffer(data, np.uint8))
        message.header.stamp, message.header.frame_id = convert.to_time(picture.stamp_ns), picture.frame_id
        self._pictures.publish(message)

    def joints(self, state: Any) -> None:
        """Recorded joint states."""
        from wm_bridge.ros import convert

        self._joints.publish(convert.to_joint_state(state))

    def command(self, command: Any) -> None:
        """A recorded reference."""
        from wm_bridge.ros import convert

        self._commands.publish(convert.to_command(command))

    def goal(self, record: Any) -> None:
        """A recorded goal, for the goal node."""
        from std_msgs.msg import String

        self._requests.publish(String(data=to_text(record)))

    def figures(self, recorded: Recorded) -> dict[str, Any]:
        """What the nodes made of it."""
        both = [(self.reports[stamp], recorded.plans[stamp]) for stamp in self.reports if stamp in recorded.plans]
        modes = {SafetyMode(mode).name: count for mode, count in sorted(self.modes.items())}
        return {
            "plans": len(self.reports),
            "recorded_plans": len(recorded.plans),
            "of_the_same_pictures": len(both),
            "with_the_same_energy": sum(float(now.goal_energy) == then.goal_energy for now, then in both),
            "plan_ms_p50": float(np.median([m.preprocess_ms + m.encode_ms + m.plan_ms for m in self.reports.values()])) if self.reports else None,
            "safety_ticks_by_mode": modes,
            "safety_reasons": dict(self.reasons.most_common(8)),
        }

    def close(self) -> None:
        """Leave the graph."""
        import rclpy

        self._closing = True
        self._thread.join(5.0)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def _spin(self) -> None:
        while not self._closing:
            self._executor.spin_once(timeout_sec=0.1)

    def _on_report(self, message: Any) -> None:
        from wm_bridge.ros import convert

        self.reports[convert.from_time(message.header.stamp)] = message

    def _on_verdict(self, message: Any) -> None:
        self.modes[int(message.mode)] += 1
        self.reasons.update(message.reason_names)


def _messages(player: Player, recorded: Recorded) -> Iterator[tuple[int, Any]]:
    """When each message was recorded, and what says it again, in that order."""
    rows = (
        [(p.log_ns, lambda p=p: player.picture(p)) for p in recorded.pictures],
        [(log_ns, lambda s=state: player.joints(s)) for log_ns, state in recorded.joints],
        [(log_ns, lambda c=command: player.command(c)) for log_ns, command in recorded.commands],
        [(goal.log_ns, lambda g=goal: player.goal(g.record)) for goal in recorded.goals],
    )
    yield from heapq.merge(*rows, key=lambda row: row[0])
