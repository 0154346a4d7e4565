"""Any robot on simulated servo buses, moved through the running graph as `./wm robot --live` starts it: the rates that hold, and what stops it.

No planner: plans of a slow sine of each arm's first joint are sent where a planner would send them.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from wm_bridge import arguments
from wm_bridge.bench.live import CpuMeter, Live, live_graph
from wm_bridge.core.types import FloatArray, Trajectory
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robots
from wm_bridge.robots.spec import RobotSpec
from wm_bridge.ros import convert, qos

_AMPLITUDE_RAD, _RATE_RAD_S = 0.15, 0.8
_PLAN_S, _POINTS = 0.1, 6
_MOVING = ("NORMAL", "LIMITED")


class Watch:
    """What the graph tells: ages of the joint states, and each time that the safety node did not let the arm move."""

    def __init__(self, live: Live) -> None:
        self.position: dict[str, float] = {}
        self.ages_ms: list[float] = []
        self.stops: list[str] = []
        self._moving = False
        live.listen("joint_states", self._on_joints)
        live.listen("safety/state", self._on_safety)

    def _on_joints(self, message: Any) -> None:
        self.position = dict(zip(message.name, message.position, strict=True))
        self.ages_ms.append((time.time_ns() - convert.from_time(message.header.stamp)) * 1e-6)

    def _on_safety(self, message: Any) -> None:
        moving = message.mode_name in _MOVING
        if self._moving and not moving:
            self.stops.append(f"{message.mode_name} {' '.join(message.reason_names)}: {message.detail}")
        self._moving = moving


def run(robot: str, seconds: float) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """Figures and rows: messages per second, age of the joint states, stops, and CPU in percent of one core.

    Raises:
        UserError: no robot of that name, or it has no servos.
    """
    try:
        spec = robots.load(robot)
    except (FileNotFoundError, ValueError) as error:
        raise UserError(str(error), "name a file of config/robots", 2) from error
    if spec.driver.get("robot_driver") not in ("dynamixel", "nico"):
        raise UserError(f"{robot} has no servo bus that could be simulated", "nico or nicol", 2)
    with tempfile.TemporaryDirectory() as folder:
        blind = Path(folder) / "without_camera.yaml"
        blind.write_text(f"extends: {spec.safety_path()}\ncamera_required: false\n", encoding="utf-8")
        values = {name: argument.default for name, argument in arguments.PROFILES["robot"].items()}
        plan = arguments.plan("robot", values | {"robot": robot, "dry_run": "false", "port": "sim", "cameras": "none"})
        overrides = {name: dict(given) for name, given in plan.overrides.items()}
        overrides.setdefault("safety", {})["config"] = str(blind)
        skip = (*plan.skip, "planner", "recorder")
        with live_graph(overrides, skip, "robot", cameras=plan.cameras, also=plan.also) as live:
            return _measure(live, spec, seconds)


def _measure(live: Live, spec: RobotSpec, seconds: float) -> tuple[dict[str, float], list[tuple[str, str]]]:
    watch, boxes = Watch(live), {name: live.mailbox(name) for name in ("hw/command", "joint_states")}
    out = live.client.node.create_publisher(qos.message_type("wm/action"), "wm/action", qos.profile("wm/action"))
    live.client.wait(lambda: watch.position, 30.0, "no joint states")
    names = tuple(spec.groups[arm][0] for arm in spec.tools)
    home = np.array([watch.position[name] for name in names])
    live.client.enable()
    for box in boxes.values():
        list(box.take())
    watch.ages_ms.clear()
    meter, counts, begin = CpuMeter(live.graph), dict.fromkeys(boxes, 0), time.monotonic()
    due = begin
    while (passed := time.monotonic() - begin) < seconds:
        out.publish(convert.to_trajectory(_sine(names, home, passed)))
        due = max(due + _PLAN_S, time.monotonic())
        live.client.wait(lambda: time.monotonic() >= due, 10.0, "time stands still")
        for name, box in boxes.items():
            counts[name] += sum(1 for _ in box.take())
    cost, age = meter.percent(), float(np.percentile(watch.ages_ms, 99))
    commands, states = (counts[name] / passed for name in boxes)
    figures = {"motion_commands_hz": commands, "motion_states_hz": states, "motion_state_age_p99_ms": age, "motion_stops": float(len(watch.stops))}
    figures |= {f"motion_cpu_{name}": value for name, value in cost.items()}
    rows = [
        (f"{spec.name} on simulated buses, moved", f"commands {commands:.1f} Hz, joint states {states:.1f} Hz, p99 of their age {age:.0f} ms"),
        ("stopped by the safety node", f"{len(watch.stops)} times in {passed:.0f} s" + "".join(f"; {why}" for why in watch.stops[:3])),
        ("CPU of each node, % of one core", ", ".join(f"{name} {value:.0f}" for name, value in cost.items())),
    ]
    return figures, rows


def _sine(names: tuple[str, ...], home: FloatArray, now_s: float) -> Trajectory:
    """The next part of the sine, from where it is."""
    times = (np.arange(_POINTS) + 0.5) * _PLAN_S
    phase = (_RATE_RAD_S * (now_s + times))[:, None]
    position = home + _AMPLITUDE_RAD * np.sin(phase)
    velocity = np.repeat(_AMPLITUDE_RAD * _RATE_RAD_S * np.cos(phase), len(names), axis=1)
    return Trajectory(names, tuple(int(t * 1e9) for t in times), position, velocity, time.time_ns())
