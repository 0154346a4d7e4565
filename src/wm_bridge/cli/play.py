"""`./wm play`: moves an arm of a running graph through its whole workspace, so that a world model can be learned from it.

One posture after the other, drawn evenly over what the arm can reach; only straight ways on which the safety settings'
distances are kept. Every motion goes through the safety node, which has to be enabled, like a plan. Run `./wm record`
beside it. Ends, and does not begin again by itself, when the safety node stops it or somebody else plans.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from wm_bridge.cli.demo import NOT_REACHED, Interrupt
from wm_bridge.cli.domain import find_domain
from wm_bridge.core.roam import Roam
from wm_bridge.core.types import FloatArray
from wm_bridge.report import short
from wm_bridge.report.runs import new_folder
from wm_bridge.robots import spec as robots
from wm_bridge.safety.clearance import Clearance
from wm_bridge.safety.config import SafetyConfig

_LOOK_S = 0.05
_STANDS_S, _STANDING_RAD_S = 5.0, 0.05
_HEARD_S = 3.0  # for the safety node's state
_STALLED_S, _STALLED_RAD = 1.5, 0.01  # held by the safety node, or by something in the way: on to another posture
_SLOWEST = 0.5  # of a way, share of --speed


def parse(argv: list[str]) -> argparse.Namespace:
    """Arguments; a wrong one ends the program with code 2."""
    parser = argparse.ArgumentParser(prog="./wm play", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default %(default)s); the same command again adds more")
    parser.add_argument("--robot", default="nico", help="name or YAML file, as the graph was started with")
    parser.add_argument("--arm", default="", help="group of joints with a tool (default: the robot's first)")
    parser.add_argument("--speed", type=float, default=0.5, help="largest share of the joints' speed limits; each way draws its own below (default %(default)s)")
    parser.add_argument("--safety-config", type=Path, help="safety YAML with the distances (default: the robot's)")
    parser.add_argument("--enable", action="store_true", help="reset and enable the safety node first")
    parser.add_argument("--seed", type=int, help="of the postures (default: another one each time)")
    parser.add_argument("--namespace", default="", help="of the graph, where two arms share a domain")
    parser.add_argument("--domain", type=int, metavar="N", help="ROS_DOMAIN_ID of the graph (default: the one that runs here)")
    args = parser.parse_args(argv)
    if not (0.0 < args.minutes <= 1440.0 and 0.05 <= args.speed <= 1.0):
        parser.error("--minutes must be above 0 and --speed in 0.05..1")
    return args


def main(argv: list[str]) -> int:
    """Play; 0 = for as long as asked, 3 = it was ended before, 130 = Ctrl-C."""
    args = parse(argv)
    spec = robots.load(args.robot)
    arm = args.arm or next(iter(spec.tools), "")
    rng = np.random.default_rng(args.seed)
    names = spec.groups.get(arm, ())
    clearance = Clearance(spec, SafetyConfig.load(args.safety_config or spec.safety_path()), names)
    roam = Roam(spec, arm, clearance, rng)
    index = spec.indices(arm)
    domain = find_domain(args.domain)
    from wm_bridge.ros.nicomotion import Motion

    interrupt = Interrupt()
    interrupt.raises = False  # but where it is asked for: never within rclpy
    try:
        if args.enable:
            _enable(domain, args.namespace, interrupt)
        with Motion(args.robot, args.namespace, domain=domain) as motion:

            def here() -> FloatArray:
                clearance.observe(motion.state())
                return motion.state().position[index]

            motion.wait_enabled(_HEARD_S)
            play = Play(motion, names, roam, here, args.speed, rng, interrupt)
            try:
                code = play.run(60.0 * args.minutes)
            except KeyboardInterrupt:
                code = 128 + interrupt.number
            print("the arm stands" if stands(motion) else "the arm was not seen to stand: look at it", flush=True)
        print(f"page {_page(play, args, arm)}", flush=True)
        return code
    finally:
        interrupt.restore()


class Play:
    """One stretch of play.

    Args:
        motion: of the running graph (``ros.nicomotion.Motion``). names: (A,) the arm's joints. here: (A,) rad, where they are.
        share: of the speed limits, at most.
    """

    def __init__(
        self, motion: Any, names: Sequence[str], roam: Roam, here: Callable[[], FloatArray], share: float, rng: np.random.Generator, interrupt: Interrupt
    ) -> None:
        self._motion, self._names, self._roam, self._here = motion, names, roam, here
        self._share, self._rng, self._interrupt = share, rng, interrupt
        self.reached, self.held, self.seconds, self.outcome = 0, 0, 0.0, "ended by the operator"

    def run(self, seconds: float) -> int:
        """For so long, with a progress bar."""
        begin = time.monotonic()
        with tqdm(total=round(seconds), unit="s", bar_format="{l_bar}{bar}| {n:.0f} of {total_fmt} s{postfix}") as bar:
            while self.seconds < seconds and not self._motion.problem:
                bar.set_postfix_str(f"{self.reached} postures reached, {self.held} ways not ended")
                arrived = self._way(begin + seconds)
                self.seconds = time.monotonic() - begin
                self.reached += arrived
                self.held += not (arrived or self._motion.problem or self.seconds >= seconds)
                bar.update(min(self.seconds, seconds) - bar.n)
        print(f"{self.reached} postures in {self.seconds / 60:.1f} minutes; {self.held} ways were not ended", flush=True)
        if self._motion.problem:
            self.outcome = f"play was ended: {self._motion.problem}"
            print(self.outcome, flush=True)
            return NOT_REACHED
        self.outcome = "for as long as asked"
        return 0

    def _way(self, end: float) -> bool:
        """One way; False when the arm came to a stand on it, or time was up."""
        goal = self._roam.goal(self._here())
        self._motion.toward(self._names, goal, self._share * self._rng.uniform(_SLOWEST, 1.0))
        seen, since = self._here(), time.monotonic()
        while time.monotonic() < end and not self._motion.problem:
            self._interrupt.check()
            time.sleep(_LOOK_S)
            here = self._here()
            if np.abs(goal - here).max() < self._roam.near_rad:
                return True
            if np.abs(here - seen).max() > _STALLED_RAD:
                seen, since = here, time.monotonic()
            elif time.monotonic() - since > _STALLED_S:
                return False
        return False


def stands(motion: Any) -> bool:
    """Propose nothing more, and wait until no joint moves; False when one still does after some seconds, or nothing new is heard."""
    motion.stop()
    before, end = motion.state(), time.monotonic() + _STANDS_S
    while motion.state() is before or np.abs(motion.state().velocity).max() > _STANDING_RAD_S:
        if time.monotonic() > end:
            return False
        time.sleep(_LOOK_S)
    return True


def _enable(domain: int, namespace: str, interrupt: Interrupt) -> None:
    from wm_bridge.cli.demo_client import DemoClient

    client = DemoClient(domain, interrupt.check, "play", namespace)
    try:
        client.enable()
    finally:
        client.close()


def _page(play: Play, args: argparse.Namespace, arm: str) -> Path:
    figures = {"seconds": play.seconds, "postures": play.reached, "not_ended": play.held}
    name = f"{args.robot} {arm}"
    return short.make(new_folder("play", arm), "play", name, play.outcome, figures, {"arguments": vars(args)})
