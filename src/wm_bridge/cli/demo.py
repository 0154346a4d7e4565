"""`./wm demo`: the whole graph, a goal picture, and what is left of the run."""

from __future__ import annotations

import argparse
import os
import re
import secrets
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wm_bridge.cli.demo_progress import LiveLine, describe, left
from wm_bridge.cli.node_facts import node_facts
from wm_bridge.core.goal_forms import FORMS
from wm_bridge.errors import UserError
from wm_bridge.processes import look_at
from wm_bridge.supervisor import Graph

NOT_REACHED = 3
_ROBOT = "nico"
_LOG_PREFIX = re.compile(r"^(\[[A-Z]+\] \[[\d.]+\] \[[\w./]+\]|[\w.]+): ")  # rclpy's, or a node's own at its end
_SCALED = ("driver", "safety", "camera", "planner")  # know realtime_factor


def parse(argv: list[str]) -> argparse.Namespace:
    """Arguments; a wrong one ends the program with code 2."""
    parser = argparse.ArgumentParser(prog="./wm demo", description="A simulated NICO reaches a goal (a picture, joints, a pose ...), through the whole ROS 2 graph.")
    parser.add_argument("--goals", type=_at_least(int, 1), default=1, metavar="N", help="goals in a row (default 1)")
    parser.add_argument("--goal", "--goal-image", metavar="GOAL", help=f"your own goal instead of a random picture: {FORMS}; m and rad, base frame")
    parser.add_argument("--mask", type=Path, metavar="FILE", help="picture of the goal picture's size: what is black does not count")
    parser.add_argument("--timeout", "--duration", type=_at_least(float, 0.1), default=20.0, metavar="S", help="longest attempt per goal, s (default 20)")
    parser.add_argument("--tolerance", type=_at_least(float, 0.0), default=0.0, metavar="M", help="decoded distance that counts as reached, m (default: the planner's)")
    parser.add_argument("--seed", type=_at_least(int, 0), help="of start and goals (default: a new one, printed)")
    parser.add_argument("--checkpoint", type=Path, help="world model (default: the shipped one)")
    parser.add_argument("--realtime-factor", type=_at_least(float, 0.01), default=1.0, metavar="X", help="simulated seconds per second (default 1)")
    parser.add_argument("--out", type=Path, help="folder of the run (default runs/DATE-TIME)")
    parser.add_argument("--no-bag", action="store_true", help="record nothing (then no video and no curves)")
    parser.add_argument("--no-video", action="store_true", help="make no video")
    parser.add_argument("--view", type=int, nargs="?", const=8080, metavar="PORT", help="a page in the browser (default port 8080); the graph stays until Ctrl-C")
    parser.add_argument("--rviz", action="store_true", help="print how to look at the run with RViz")
    parser.add_argument("--report", type=Path, metavar="RUN", help="only make the report of an earlier run again")
    parser.add_argument("--animation", type=Path, metavar="FILE", help="with --report: a moving picture of that run as well (.webp or .gif)")
    args = parser.parse_args(argv)
    if args.animation is not None and args.report is None:
        parser.error("--animation belongs to --report RUN")
    return args


def main(argv: list[str]) -> int:
    """Run the demo; 0 = reached, 3 = not reached, 130 = Ctrl-C."""
    args = parse(argv)
    if args.report is not None:
        from wm_bridge.report import make

        return make.main([str(args.report)], args.animation)
    return Demo(args).run()


@dataclass
class Facts:
    """What goes into report.json besides the bag."""

    values: dict[str, Any]
    goals: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {**self.values, "goals": self.goals}


class Interrupt:
    """Ctrl-C, SIGTERM and a closed terminal: the first one asks the demo to stop, later ones change nothing."""

    def __init__(self) -> None:
        self.number = 0
        self.raises = True
        self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def _on_signal(self, number: int, _: Any) -> None:
        if self.number:
            return
        self.number = number
        if self.raises:
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raise once a signal has come."""
        if self.number:
            raise KeyboardInterrupt

    def restore(self) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Demo:
    """One run: start, goals, stop, report."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.seed = secrets.randbelow(1_000_000) if args.seed is None else args.seed
        self.run_dir = (args.out or Path("runs") / time.strftime("%Y%m%d-%H%M%S")).absolute()
        self.began = process_start()
        self.line = LiveLine()
        self.events: list[str] = []
        self.facts = Facts({"robot": _ROBOT, "seed": self.seed, "realtime_factor": args.realtime_factor, "date": time.strftime("%Y-%m-%dT%H:%M:%S%z")})
        self.own_goal: Any = None

    def run(self) -> int:
        """See the module."""
        self._prepare()
        interrupt = Interrupt()
        code, error, graph = 1, None, None
        try:
            with ThreadPoolExecutor(1, thread_name_prefix="scene") as pool:
                drawn = pool.submit(self._draw)
                try:
                    print(f"starting the graph (run folder {_short(self.run_dir)}, seed {self.seed})", flush=True)
                    graph = self._start()
                    interrupt.raises = False
                    code = self._pursue(graph, interrupt, pool, drawn)
                finally:
                    interrupt.raises = False
                    drawn.cancel()
                    if graph is not None:
                        self._note_nodes(graph)
                        graph.stop()
        except KeyboardInterrupt:
            code = 128 + (interrupt.number or signal.SIGINT)
            self.facts.values["error"] = "stopped by the user"
        except UserError as problem:
            error, code = plain(problem), problem.exit_code
            self.facts.values["error"] = str(error)
        finally:
            self.line.close()
            interrupt.restore()
        self._report(hurry=code >= 128 or error is not None)
        if error is not None:
            raise error
        return code

    # Before -------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Everything that can be wrong before a process is started."""
        args = self.args
        if args.checkpoint is not None:
            args.checkpoint = args.checkpoint.absolute()
            if not args.checkpoint.is_file():
                raise UserError(f"checkpoint {args.checkpoint} does not exist", "leave --checkpoint out for the shipped one", 2)
        if args.goal is not None:
            self.own_goal = self._own_goal(args.goal, args.mask)
        elif args.mask is not None:
            raise UserError("--mask belongs to a goal picture of yours", "add --goal FILE.png", 2)
        try:
            self.run_dir.mkdir(parents=True, exist_ok=True)
            (self.run_dir / "report.json").touch()
        except OSError as error:
            raise UserError(f"cannot write to {self.run_dir}: {error.strerror}", "name a writable folder: --out FOLDER", 2) from error
        if (self.run_dir / "bag").exists():
            raise UserError(f"{self.run_dir} already holds a bag", "name another folder: --out FOLDER", 2)

    def _own_goal(self, text: str, mask: Path | None) -> Any:
        from wm_bridge.cli.demo_scene import load_goal_picture
        from wm_bridge.core.goal_text import parse_goal

        def load(file: Path) -> Any:
            picture, done = load_goal_picture(file)
            print(f"goal picture {file}" + (f" ({done})" if done else ""))
            return picture

        return parse_goal(text, load, None if mask is None else load(mask).max(axis=2))

    def _draw(self) -> Any:
        """In the background while the nodes boot: imports, the world, start and first goal."""
        os.environ.setdefault("LP_NUM_THREADS", "1")
        import numpy as np

        from wm_bridge.cli import demo_client  # noqa: F401  imports rclpy
        from wm_bridge.cli.demo_scene import DemoScene

        scene = DemoScene(_ROBOT, np.random.default_rng(self.seed))
        start = scene.start()
        return scene, start, self._goal(scene, start)

    def _goal(self, scene: Any, state: Any) -> Any:
        return scene.goal(state) if self.own_goal is None else scene.told(self.own_goal, state)

    def _start(self) -> Graph:
        args = self.args
        overrides: dict[str, dict[str, Any]] = {name: {"realtime_factor": args.realtime_factor} for name in _SCALED}
        if args.checkpoint is not None:
            overrides["planner"]["checkpoint"] = str(args.checkpoint)
        skip = ("recorder", "goal") if args.no_bag else ("goal",)
        also = () if args.view is None else ("view",)
        overrides.update({name: {"port": args.view} for name in also})
        return Graph.start("sim", overrides, self.run_dir, skip, 120.0, say=self._say, also=also)

    def _say(self, text: str) -> None:
        self.events.append(text.splitlines()[0])

    # During -------------------------------------------------------------------------------

    def _pursue(self, graph: Graph, interrupt: Interrupt, pool: ThreadPoolExecutor, drawn: Any) -> int:
        for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE", "ROS_AUTOMATIC_DISCOVERY_RANGE"):
            os.environ.setdefault(name, graph.env[name])
        self._hint(graph)
        while not drawn.done():
            interrupt.check()
            graph.check()
            time.sleep(0.02)
        scene, start, goal = drawn.result()
        from wm_bridge.cli.demo_client import DemoClient

        client = DemoClient(graph.domain, lambda: self._check(graph, interrupt))
        try:
            client.place(scene.spec.joint_names, start.reference)
            client.enable()
            client.watch_first_motion()
            reached = 0
            for number in range(1, self.args.goals + 1):
                state = client.state()
                if number > 1:
                    goal = pool.submit(self._goal, scene, state).result()
                reached += self._one(client, number, goal, pool, scene, state)
            if self.args.view is not None:
                self._stay(client, interrupt)
            client.disable()
        except KeyboardInterrupt:
            self.line.close()
            stands = client.cancel()
            print("stopped: the arm stands" if stands else "stopping: the safety node brakes the arm", flush=True)
            raise
        finally:
            pool.submit(scene.close).result()
            client.close()
        return 0 if reached == self.args.goals else NOT_REACHED

    def _stay(self, client: Any, interrupt: Interrupt) -> None:
        """Until Ctrl-C, which is no failure any more, people give goals in the page."""
        print("the graph stays: goals can be given in the page; Ctrl-C ends it", flush=True)
        try:
            client.wait(lambda: False, 1e9, "nobody ends the demo")
        except KeyboardInterrupt:
            client.cancel()
            interrupt.number = 0

    def _one(self, client: Any, number: int, goal: Any, pool: ThreadPoolExecutor, scene: Any, state: Any) -> bool:
        """Pursue one goal; True when it was reached."""
        entry: dict[str, Any] = {"number": number, "outcome": "UNFINISHED", "message": "", "goal_hand": None if goal.hand is None else goal.hand.tolist()}
        entry["true_start_m"] = self._truth(pool, scene, state, goal)
        self.facts.goals.append(entry)
        distance = "" if entry["true_start_m"] is None else f", {entry['true_start_m'] * 100:.0f} cm away (true)"
        print(f"goal {number} of {self.args.goals}{distance}", flush=True)
        future = client.send(goal.asked, self.args.timeout, self.args.tolerance)

        def tick() -> None:
            self._first_motion(client)
            if client.feedback is not None:
                entry["last_energy"] = float(client.feedback.energy)
            self.line.update(describe(client.feedback, client.safety_text))

        patience = self.args.timeout / self.args.realtime_factor * 3 + 30.0
        result = client.follow(future, patience, tick)
        self.line.close()
        true_m = self._truth(pool, scene, client.state(), goal)
        entry.update(outcome=result.outcome.name, message=result.message, duration_s=result.duration_s, plans=result.plans, decoded_m=result.distance_m, angle_rad=result.angle_rad, true_m=true_m)
        known = "not known (your own picture)" if true_m is None else f"{true_m * 100:.1f} cm"
        print(f"{result.outcome.name} after {result.duration_s:.1f} s: {result.message}")
        print(f"  left to the goal: {left(result)} as the planner sees it; hand {known} true (simulator, for scoring only)", flush=True)
        return result.outcome.name == "REACHED"

    @staticmethod
    def _truth(pool: ThreadPoolExecutor, scene: Any, state: Any, goal: Any) -> float | None:
        """True distance of the hand to the goal, m: for scoring only."""
        if goal.hand is None:
            return None
        hand = pool.submit(scene.hand, state).result()
        return float(sum((a - b) ** 2 for a, b in zip(hand, goal.hand, strict=True)) ** 0.5)

    def _first_motion(self, client: Any) -> None:
        if client.first_motion is not None and "start_s" not in self.facts.values:
            self.facts.values["start_s"] = round(client.first_motion - self.began, 2)
            self.line.close()
            print(f"  first motion {self.facts.values['start_s']:.1f} s after ./wm was started", flush=True)

    def _check(self, graph: Graph, interrupt: Interrupt) -> None:
        """Called all the time while waiting."""
        interrupt.check()
        while self.events:
            self.line.close()
            print(f"! {self.events.pop(0)}", file=sys.stderr, flush=True)
        graph.check()
        if any(death.name == "planner" for death in graph.deaths):
            raise UserError("the planner died during the run; the safety node has stopped the arm", f"see {graph.log('planner')}")

    def _hint(self, graph: Graph) -> None:
        if self.args.view is not None:
            print(f"page: http://localhost:{self.args.view}", flush=True)
        if self.args.rviz:
            print(f"RViz, in a terminal with ROS 2 sourced: ROS_DOMAIN_ID={graph.domain} rviz2 -d config/rviz/wm.rviz")

    # After --------------------------------------------------------------------------------

    def _note_nodes(self, graph: Graph) -> None:
        """What each node used and said, before they are stopped."""
        self.facts.values["nodes"] = node_facts(graph)
        self.facts.values["deaths"] = [str(death).splitlines()[0] for death in graph.deaths]

    def _configuration(self) -> dict[str, Any]:
        """Arguments, and the settings that planner and safety node read."""
        import yaml

        from wm_bridge import resources
        from wm_bridge.robots.spec import load

        files = {"planner": "config/planner.yaml", "search": "config/compact_planner.yaml", "safety": load(_ROBOT).safety_path()}
        settings = {name: yaml.safe_load(resources.root().joinpath(file).read_text(encoding="utf-8")) for name, file in files.items()}
        settings["planner"] = settings["planner"]["/**"]["ros__parameters"]
        return {"arguments": {name: value for name, value in vars(self.args).items() if value not in (None, False)}, **settings}

    def _report(self, hurry: bool) -> None:
        """Write what there is; never hides how the run ended."""
        from wm_bridge.report import make
        from wm_bridge.report.about import made as about

        path = self.args.checkpoint or shipped_checkpoint_path(_ROBOT)
        began = self.facts.values["date"]
        self.facts.values.update(about(self._configuration()), date=began, checkpoint=path.name, checkpoint_hash=file_hash(path))
        if not hurry:
            print("making the report ...", flush=True)
        try:
            made = make.make(self.run_dir, self.facts.as_dict(), with_page=not hurry, with_video=not (hurry or self.args.no_video))
        except OSError as error:
            print(f"no report: {self.run_dir} cannot be written: {error.strerror}", file=sys.stderr)
            return
        kept = [("bag", self.run_dir / "bag"), ("video", made.video), ("page", made.html), ("numbers", made.json)]
        for name, file in kept:
            if file is not None and file.exists():
                print(f"  {name:<8} {_short(file)}")
        if made.note:
            print(f"  note     {made.note}")
        if hurry and (self.run_dir / "bag").exists():
            print(f"  page and video of it: ./wm demo --report {_short(self.run_dir)}", flush=True)


def plain(error: UserError) -> UserError:
    """Two lines: a node that could not start has said itself what to do, at the end of its log."""
    lines = error.message.splitlines()
    for index, line in enumerate(lines):
        what, found, remedy = line.partition("what to do:")
        if found and index > 0:
            return UserError(_LOG_PREFIX.sub("", lines[index - 1]).strip(), remedy.strip(), error.exit_code)
    last = next((line for line in reversed(lines) if line.strip()), "")
    message = lines[0] if len(lines) == 1 else f"{lines[0]}: {last.strip()}"
    return UserError(message, error.remedy, error.exit_code)


def process_start() -> float:
    """When this process (``./wm`` itself: it becomes the demo) was started, on the steady clock, s."""
    here = look_at(os.getpid())
    return time.monotonic() - (here.age_s if here else 0.0)


def shipped_checkpoint_path(robot: str) -> Path:
    """As ``wm_planner.weights.shipped_checkpoint``, without loading torch."""
    from importlib.util import find_spec

    spec = find_spec("wm_planner")
    folder = Path(next(iter(spec.submodule_search_locations or ["."]))) if spec else Path()
    return folder / "checkpoints" / f"compact_{robot}.safetensors"


def file_hash(path: Path) -> str | None:
    """As ``wm_planner.weights.weights_hash``; None when the file is gone."""
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else None


def _at_least(kind: type, least: float) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        value = kind(text)
        if not least <= value < 1e9:
            raise argparse.ArgumentTypeError(f"{text} is not between {least:g} and 1e9")
        return value

    convert.__name__ = kind.__name__
    return convert


def _short(path: Path) -> str:
    """Relative to the current folder where possible."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


if __name__ == "__main__":
    from wm_bridge.cli.terminal import guarded

    sys.exit(guarded(lambda: main(sys.argv[1:])))
