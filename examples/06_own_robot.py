"""An arm that nobody has described yet: from its URDF to a safety filter that keeps it from itself and the table.

    .venv/bin/python examples/06_own_robot.py

`./wm new-robot ROBOT.urdf` does the first step and keeps the files. Here a two-joint arm is written, described, and asked to hit the table.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import yaml

from wm_bridge import resources
from wm_bridge.cli.robot_skeleton import describe
from wm_bridge.core.types import JointState, Reason, Trajectory
from wm_bridge.robots import spec as robots
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.filter import SafetyFilter

URDF = """<robot name="two_joints">
  <link name="base"/>
  <joint name="shoulder" type="revolute"><parent link="base"/><child link="upper"/><origin xyz="0 0 0.3"/><axis xyz="0 1 0"/>
    <limit lower="-2" upper="2" velocity="1.5" effort="20"/></joint>
  <link name="upper"><collision><origin xyz="0 0 0.15"/><geometry><cylinder radius="0.03" length="0.3"/></geometry></collision></link>
  <joint name="elbow" type="revolute"><parent link="upper"/><child link="hand"/><origin xyz="0 0 0.3"/><axis xyz="0 1 0"/>
    <limit lower="-2" upper="2" velocity="1.5" effort="10"/></joint>
  <link name="hand"><collision><origin xyz="0 0 0.1"/><geometry><box size="0.05 0.05 0.2"/></geometry></collision></link>
</robot>"""


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    (folder / "arm.urdf").write_text(URDF)
    made = describe(folder / "arm.urdf", "two_joints")  # what ./wm new-robot writes, and what it leaves to you
    print("left to fill in:", *made.notes, sep="\n  - ")
    (folder / "arm.yaml").write_text(made.robot.replace("urdf/two_joints.urdf", str(folder / "arm.urdf")))
    settings = yaml.safe_load(made.safety) | {"camera_required": False}  # filled in: goals without pictures, and the table
    settings["scene"] |= {"table": True, "table_lower": [-1.0, -1.0, -0.5], "table_upper": [1.0, 1.0, 0.0]}
    (folder / "safety_arm.yaml").write_text(yaml.safe_dump(settings))
    shutil.copy(resources.path("config/safety.yaml"), folder)  # which those extend
    spec, config = robots.load(str(folder / "arm.yaml")), SafetyConfig.load(folder / "safety_arm.yaml")

    guard = SafetyFilter(spec, config, clock=lambda: 0)  # not in real time: no time budget
    q, rest, now = spec.home, np.zeros(2), 1_000_000_000
    guard.observe_state(JointState(spec.joint_names, q, rest, rest, now), now, now)
    guard.tick(now, now)
    print(guard.reset(now, now).message, "|", guard.enable(True).message)
    seen = Reason.NONE
    for tick in range(300):
        now += 10_000_000
        guard.observe_state(JointState(spec.joint_names, q, rest, rest, now), now, now)
        if tick % 10 == 0:  # the shoulder all the way down: the arm would go through the table
            guard.submit(Trajectory(spec.joint_names, (1_500_000_000,), np.array([[1.95, 1.1]]), np.zeros((1, 2)), now), now, now)
        command, verdict = guard.tick(now, now)
        assert command is not None
        q, seen = command.position, seen | verdict.reasons
    print(f"asked for [1.95, 1.1] rad, held at {np.round(q, 2).tolist()}: {'|'.join(r.name or '' for r in Reason if r and r in seen)}")


if __name__ == "__main__":
    main()
