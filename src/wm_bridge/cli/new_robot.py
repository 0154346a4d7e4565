"""`./wm new-robot URDF`: the files that describe an arm here, as far as its URDF tells, and what is left to fill in."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np

from wm_bridge import resources
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robots
from wm_bridge.cli.robot_skeleton import describe


def main(argv: list[str]) -> int:
    """Write urdf/NAME.urdf, config/robots/NAME.yaml and config/safety_NAME.yaml."""
    parser = argparse.ArgumentParser(prog="wm new-robot", description=__doc__)
    parser.add_argument("urdf", type=Path, help="URDF of the arm (of a xacro: ros2 run xacro xacro FILE > ROBOT.urdf)")
    parser.add_argument("--name", help="short name (default: that of the file)")
    parser.add_argument("--packages", type=Path, nargs="+", default=[], help="folders with the packages that package:// addresses name")
    parser.add_argument("--tool", default="", help="link at the grasp point (default: the last one)")
    parser.add_argument("--force", action="store_true", help="write over files that are there")
    args = parser.parse_args(argv)
    name = args.name or re.sub(r"\W", "_", args.urdf.stem).lower()
    if not re.fullmatch(r"[a-z]\w*", name):
        raise UserError(f"{name!r} is no name for a robot", "use small letters, digits and _: --name my_arm", 2)
    files = {key: resources.root() / path for key, path in _paths(name).items()}
    there = [str(path) for path in files.values() if path.exists()]
    if there and not args.force:
        raise UserError(f"{', '.join(there)} exist", "choose another --name, or write over them with --force", 2)
    print(f"reading {args.urdf} (meshes take a second each)", flush=True)
    made = describe(args.urdf, name, args.packages, args.tool)
    for key, path in files.items():
        path.write_text(getattr(made, key), encoding="utf-8")
        print(f"wrote {path}")
    for line in (*made.notes, _room_at_home(name)):
        print(f"  - {line}")
    print(f"\nnext: fill these in, then look at it: ./wm demo needs a world model of this robot; ./wm bench safety --quick --robot {name}")
    return 0


def _paths(name: str) -> dict[str, str]:
    return {"urdf": f"urdf/{name}.urdf", "robot": f"config/robots/{name}.yaml", "safety": f"config/safety_{name}.yaml"}


def _room_at_home(name: str) -> str:
    """Read what was written as every node does, and measure the home posture."""
    from wm_bridge.safety.config import SafetyConfig
    from wm_bridge.safety.guard import DistanceGuard
    from wm_bridge.safety.shapes import RobotShapes

    spec = robots.load(name)
    config = SafetyConfig.load(spec.safety_path())
    guard = DistanceGuard(RobotShapes.from_spec(spec), config.scene, config.dt)
    nearest = guard.tightest(np.asarray(spec.home))
    verdict = "free" if nearest.room >= 0.0 else "TOO NEAR: choose another home"
    return f"home posture: {nearest.name} {nearest.distance:.3f} m apart, {nearest.margin:.3f} m to be kept: {verdict}"


