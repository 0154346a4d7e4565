"""`./wm goal`: give goals to a graph that runs already, and follow them to their end."""

from __future__ import annotations

import argparse
import difflib
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from wm_bridge.cli.demo import NOT_REACHED, Interrupt
from wm_bridge.cli.demo_progress import LiveLine, describe, left
from wm_bridge.cli.domain import find_domain
from wm_bridge.core.goal_forms import FORMS
from wm_bridge.errors import UserError

_HEARD_S = 15.0


@dataclass(frozen=True)
class SubGoal:
    """One goal of a list.

    Attributes:
        goal: in words, see ``core.goal_forms``; "" = the camera's picture.
        mask: picture file of the goal picture's size; "" = all of it counts. target: hand, or an object's name.
        timeout_s, tolerance_m: 0 = the planner's own tolerance.
    """

    goal: str
    mask: str = ""
    target: str = ""
    timeout_s: float = 20.0
    tolerance_m: float = 0.0


def parse(argv: list[str]) -> argparse.Namespace:
    """Arguments; a wrong one ends the program with code 2."""
    parser = argparse.ArgumentParser(prog="./wm goal", description="Gives a goal to a running graph and follows it; Ctrl-C cancels it and the arm stands.")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--image", nargs="+", type=Path, metavar="FILE", help="goal picture; several are pursued one after the other")
    kind.add_argument("--capture", nargs="?", const="", metavar="FILE", help="the camera's picture of now is the goal; FILE keeps it (PNG)")
    kind.add_argument("--bag", metavar="BAG", help="a picture of a bag, with --time")
    kind.add_argument("--joints", metavar="NAME=RAD,...", help="joints; those not named stay where they are")
    kind.add_argument("--pose", metavar="X,Y,Z[,QX,QY,QZ,QW]", help="place of the tool, m, base frame; without a quaternion any orientation")
    kind.add_argument("--yaml", type=Path, metavar="FILE", help=f"a list of goals, each in words ({FORMS}) or a mapping: {', '.join(item.name for item in fields(SubGoal))}")
    parser.add_argument("--time", type=float, default=0.0, metavar="S", help="of --bag: seconds after its start")
    parser.add_argument("--topic", default="", help="of --bag: of the pictures (default camera/image_raw)")
    parser.add_argument("--mask", default="", metavar="FILE", help="picture of the goal picture's size: what is black does not count")
    parser.add_argument("--target", default="", help="hand (default), or the object that must match")
    parser.add_argument("--timeout", type=float, default=20.0, metavar="S", help="longest attempt per goal, s (default 20)")
    parser.add_argument("--tolerance", type=float, default=0.0, metavar="M", help="distance that counts as reached, m (default: the planner's)")
    parser.add_argument("--enable", action="store_true", help="reset and enable the safety node first")
    parser.add_argument("--namespace", default="", help="of the graph, where two arms share a domain")
    parser.add_argument("--domain", type=int, metavar="N", help="ROS_DOMAIN_ID of the graph (default: the one that runs here)")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Pursue the goals in order; 0 = all reached, 3 = one was not, 130 = Ctrl-C."""
    args = parse(argv)
    asked = sub_goals(args)
    domain = find_domain(args.domain)
    from wm_bridge.cli.demo_client import DemoClient

    interrupt, line = Interrupt(), LiveLine()
    interrupt.raises = False  # but where it is asked for: never within rclpy
    client = DemoClient(domain, interrupt.check, "goal_command", args.namespace)
    try:
        _ready(client, args.enable)
        for number, item in enumerate(asked, 1):
            if not _pursue(client, item, args, line, interrupt, f"goal {number} of {len(asked)}: " if len(asked) > 1 else ""):
                return NOT_REACHED
        return 0
    except KeyboardInterrupt:
        line.close()
        stands = client.cancel()
        if not stands:
            client.call("safety/stop", _stop_request(), checked=False)
        print("cancelled: the arm stands" if stands else "cancelled, and the safety node was told to stop the arm", flush=True)
        return 128 + interrupt.number
    finally:
        line.close()
        interrupt.restore()
        client.close()


def sub_goals(args: argparse.Namespace) -> tuple[SubGoal, ...]:
    """What the arguments ask for, in order; files are looked at, nothing is sent.

    Raises:
        UserError: a file that is missing, or a YAML that is no list of goals.
    """
    common = SubGoal("", args.mask, args.target, args.timeout, args.tolerance)
    if args.yaml is not None:
        return _from_yaml(args.yaml, common)
    if args.bag is not None:
        words = f"bag:{args.bag}@{args.time}" + (f"@{args.topic}" if args.topic else "")
    elif args.image is not None:
        words = ",".join(map(str, args.image))
    else:
        words = f"joints:{args.joints}" if args.joints is not None else f"pose:{args.pose}" if args.pose is not None else ""
    goal = replace(common, goal=words)
    if words:
        _request(goal)
    return (goal,)


def _from_yaml(path: Path, common: SubGoal) -> tuple[SubGoal, ...]:
    names = [item.name for item in fields(SubGoal)]
    remedy = f"write a list; each entry is a goal in words ({FORMS}) or has the keys {', '.join(names)}"
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read: {error}", remedy, 2) from error
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path} holds no list of goals", remedy, 2)
    found = []
    for number, entry in enumerate(entries, 1):
        values = {"goal": entry} if isinstance(entry, str) else entry
        if not isinstance(values, dict) or not isinstance(values.get("goal"), str):
            raise UserError(f"{path}: entry {number} is no goal: {entry!r}", remedy, 2)
        for key in values:
            if key not in names:
                near = difflib.get_close_matches(str(key), names, n=1, cutoff=0.0)
                raise UserError(f"{path}: entry {number}: key {key!r} is unknown", f"did you mean {near[0]!r}?", 2)
        try:
            goal = replace(common, **{key: float(value) if key.endswith(("_s", "_m")) else str(value) for key, value in values.items()})
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}: entry {number}: {error}", "times and tolerances are numbers", 2) from error
        goal = replace(goal, goal=_beside(path, goal.goal), mask=_beside(path, goal.mask))
        _request(goal)
        found.append(goal)
    return tuple(found)


def _beside(path: Path, words: str) -> str:
    """File names in a YAML file count from its folder."""
    if not words or words.startswith(("joints:", "pose:")):
        return words
    if words.startswith("bag:"):
        return f"bag:{path.absolute().parent / words.removeprefix('bag:')}"
    return ",".join(str(path.absolute().parent / file) for file in words.split(","))


def _request(goal: SubGoal) -> Any:
    from wm_bridge.core.goal_text import parse_goal
    from wm_bridge.nodes.goal import read_picture

    mask = read_picture(Path(goal.mask)).max(axis=2) if goal.mask else None
    return parse_goal(goal.goal, read_picture, mask)


def _ready(client: Any, enable: bool) -> None:
    """The graph is there, and lets plans through."""
    if enable:
        client.enable()
    client.wait(lambda: client.safety is not None, _HEARD_S, "no safety node in this ROS domain")
    if not client.safety.enabled:
        raise UserError(f"the safety node is {client.safety_text}, not enabled: the arm would not move", "look at the robot, then: --enable, or ENABLE in ./wm view")


def _pursue(client: Any, goal: SubGoal, args: argparse.Namespace, line: LiveLine, interrupt: Interrupt, name: str) -> bool:
    asked = _request(goal) if goal.goal else _captured(client, args.capture, interrupt)
    print(f"{name}{goal.goal or 'the picture of the camera'}", flush=True)
    future = client.send(asked, goal.timeout_s, goal.tolerance_m, goal.target)
    result = client.follow(future, goal.timeout_s * 10 + 60.0, lambda: line.update(describe(client.feedback, client.safety_text)))
    line.close()
    print(f"{result.outcome.name} after {result.duration_s:.1f} s: {result.message}; {left(result)} left", flush=True)
    return bool(result.outcome.name == "REACHED")


def _captured(client: Any, keep: str, interrupt: Interrupt) -> Any:
    """The camera's picture; a person at a terminal gets the time to put things back."""
    from wm_bridge.core.goal_kinds import PictureGoal
    from wm_bridge.ros.convert import as_picture

    picture = as_picture(client.take("camera/image_raw"))
    if keep:
        import cv2

        if not cv2.imwrite(keep, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
            raise UserError(f"the picture cannot be written to {keep}", "name a PNG file in a folder that exists", 2)
    if sys.stdin.isatty():
        interrupt.raises = True
        input("the picture is taken; bring the arm elsewhere, then press Enter ... ")
        interrupt.raises = False
    return PictureGoal(picture)


def _stop_request() -> Any:
    from std_srvs.srv import Trigger

    return Trigger.Request()
