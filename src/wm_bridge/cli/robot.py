"""`./wm robot`: the graph on a robot, without a native ROS; the same arguments as `ros2 launch wm_bringup robot.launch.py`.

Everything runs and nothing is sent until --live. The safety node comes up first, the driver next, the planner last.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from pathlib import Path

from wm_bridge import arguments
from wm_bridge.cli.node_facts import node_facts
from wm_bridge.core.settings import read_value
from wm_bridge.errors import UserError
from wm_bridge.graph import Parameter
from wm_bridge.report import short
from wm_bridge.supervisor import Graph

_SWITCH = "dry_run"


def main(argv: list[str]) -> int:
    """Run until Ctrl-C; returns the exit code."""
    args = parse(argv)
    values = {name: getattr(args, name) for name in arguments.PROFILES["robot"] if name != _SWITCH} | {_SWITCH: "false" if args.live else "true"}
    try:
        plan = arguments.plan("robot", values)
    except ValueError as error:
        raise UserError(str(error), "--robot names a file of config/robots, or is the path of one", 2) from error
    overrides = _more(plan.overrides, args.settings)
    os.environ.setdefault("ROS_DOMAIN_ID", "0")  # where the tools of ROS look
    for note in plan.notes:
        print(note, flush=True)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    print(f"starting {values['robot']}: {'LIVE, it can move' if args.live else 'dry run, nothing is sent'}", flush=True)
    given = {"namespace": args.namespace, "tf_prefix": args.tf_prefix, "also": plan.also}
    graph, outcome, begin = None, "ended by the operator", time.monotonic()
    try:
        with Graph.start("robot", overrides, args.out, plan.skip, args.wait, cameras=plan.cameras, **given) as graph:
            where = f"/{args.namespace.strip('/')}/" if args.namespace else "/"
            print(f"running in ROS_DOMAIN_ID={graph.domain} under {where}, logs in {graph.run_dir}; Ctrl-C stops the arm, then all", flush=True)
            while not stop.wait(0.2):
                graph.check()
    except UserError as error:
        outcome = str(error).partition("\n")[0]
        raise
    finally:
        if graph is not None:
            print(f"page {_page(graph, values, overrides, outcome, time.monotonic() - begin)}", flush=True)
    return 0


def _page(graph: Graph, values: dict[str, str], overrides: dict[str, dict[str, Parameter]], outcome: str, seconds: float) -> Path:
    """How the graph ran, in its folder; made when all stands still."""
    facts = node_facts(graph)
    figures = {"seconds": seconds, "deaths": len(graph.deaths), "warnings": sum(node["warnings"] for node in facts.values())}
    parts = {
        "Nodes that ended": [(death.name, str(death).splitlines()[0]) for death in graph.deaths],
        "Last warnings": [(name, line) for name, node in facts.items() for line in node["last_warnings"]],
    }
    name = f"{values['robot']} {'dry run' if values[_SWITCH] == 'true' else 'live'}"
    return short.make(graph.run_dir, "robot", name, outcome, figures, {"arguments": values, "parameters": overrides}, parts)


def parse(argv: list[str]) -> argparse.Namespace:
    """Arguments; a wrong one ends the program with code 2."""
    parser = argparse.ArgumentParser(prog="./wm robot", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, argument in arguments.PROFILES["robot"].items():
        if name != _SWITCH:
            parser.add_argument(_option(name), dest=name, default=argument.default, metavar="TEXT", help=argument.help)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--dry-run", action="store_true", help="everything runs, nothing is sent (the default)")
    which.add_argument("--live", action="store_true", help="commands are sent to the motors")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for logs (default runs/DATE-TIME)")
    parser.add_argument("--wait", type=float, default=60.0, metavar="S", help="longest wait for each group of nodes, s (default 60)")
    parser.add_argument("settings", nargs="*", metavar="NODE.PARAMETER=VALUE", help="any other parameter, as safety.rate_hz=50")
    return parser.parse_args(argv)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _more(overrides: dict[str, dict[str, Parameter]], words: list[str]) -> dict[str, dict[str, Parameter]]:
    """Add single parameters."""
    for word in words:
        key, found, value = word.partition("=")
        node, dot, name = key.partition(".")
        if not (found and dot and name):
            raise UserError(f"{word!r} is no setting", "write NODE.PARAMETER=VALUE, as safety.rate_hz=50", 2)
        overrides.setdefault(node, {})[name] = read_value(value, key)
    return overrides
