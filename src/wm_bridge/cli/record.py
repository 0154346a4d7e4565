"""`./wm record`: everything that a running graph says into a bag; keys mark success, failure and take-over."""

from __future__ import annotations

import argparse
import os
import select
import sys
import tempfile
import termios
import threading
import time
import tty
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from wm_bridge.cli.domain import find_domain, running_domains
from wm_bridge.errors import UserError

_QUIET = ("/rosout", "/parameter_events")  # written by every node, also by this one
_KEYS = {"s": "success", "f": "failure", "t": "take_over"}


def main(argv: list[str]) -> int:
    """Record until Ctrl-C, ``q`` or ``--duration``; 0: a whole bag, 1: recording stopped by itself, 2: it could not begin."""
    arguments = _parse(argv)
    if arguments.mend is not None:
        return _mend(arguments.mend, arguments.out)
    os.environ["ROS_DOMAIN_ID"] = str(find_domain(arguments.domain, otherwise=0))
    out = (arguments.out or Path("bags") / time.strftime("%Y%m%d-%H%M%S")).absolute()
    if out.exists():
        raise UserError(f"cannot record to {out}: it exists already", "choose a new folder: --out FOLDER", 2)
    from rclpy.node import Node

    from wm_bridge.nodes.recorder import RecorderNode
    from wm_bridge.ros.node import run

    clock = _look(arguments.wait, arguments.namespace)
    nodes: list[RecorderNode] = []
    begin = time.monotonic()

    def make() -> Node:
        nodes.append(RecorderNode())
        threading.Thread(target=_accompany, args=(nodes[0], arguments.duration, bool(arguments.quiet)), daemon=True).start()
        return nodes[0]

    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "recorder.yaml"
        settings.write_text(yaml.safe_dump({"/**": {"ros__parameters": _parameters(arguments, out, clock)}}), encoding="utf-8")
        code = run(make, ["--ros-args", "--params-file", str(settings), "-r", f"__ns:=/{arguments.namespace.strip('/')}"])
    if not nodes:
        return code
    node = nodes[0]
    print(f"{out}: {node.messages} messages" + (f"\n{node.problem}" if node.problem else ""), flush=True)
    print(f"page {_page(node, out, arguments, time.monotonic() - begin)}", flush=True)
    return 1 if node.problem else code


def _page(node: Any, out: Path, arguments: argparse.Namespace, seconds: float) -> Path:
    """What was recorded, under ``runs``."""
    from wm_bridge.report import short
    from wm_bridge.report.runs import new_folder

    marks = Counter(node.labels)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6
    figures = {"seconds": seconds, "messages": node.messages, "bag_mb": size, **{f"marks_{label}": count for label, count in marks.items()}}
    outcome = node.problem or f"whole: {out}"
    return short.make(new_folder("record", out.name), "recording", out.name, outcome, figures, {"arguments": vars(arguments)})


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./wm record", description=__doc__)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="of the bag; must not exist (default bags/DATE-TIME)")
    parser.add_argument("--domain", type=int, help="ROS_DOMAIN_ID of the graph (default: the one that runs here, else 0)")
    parser.add_argument("--namespace", default="", help="of the graph")
    parser.add_argument("--images", default="png", choices=("raw", "png", "jpeg", "none"), help="colour pictures (default png: without loss)")
    parser.add_argument("--storage", default="mcap", choices=("mcap", "sqlite3"))
    parser.add_argument("--split-mb", type=int, default=0, metavar="MB", help="a new file after so many MB")
    parser.add_argument("--split-s", type=float, default=0.0, metavar="S", help="a new file after so many seconds")
    parser.add_argument("--graph-only", action="store_true", help="only the topics of our graph, not all there are")
    parser.add_argument("--robot", default="", help="name, for the metadata")
    parser.add_argument("--operator", default="", help="name, for the metadata")
    parser.add_argument("--note", default="", help="for the metadata")
    parser.add_argument("--duration", type=float, default=0.0, metavar="S", help="end after so long")
    parser.add_argument("--wait", type=float, default=10.0, metavar="S", help="longest wait for a graph (default 10)")
    parser.add_argument("--sim-time", choices=("auto", "yes", "no"), default="auto", help="stamp with /clock (default: when there is one)")
    parser.add_argument("--quiet", action="store_true", help="no progress, no keys")
    parser.add_argument("--mend", type=Path, metavar="BAG", help="record nothing: copy a bag that was cut off into a whole one")
    return parser.parse_args(argv)


def _parameters(arguments: argparse.Namespace, out: Path, clock: bool) -> dict[str, Any]:
    named = {name: getattr(arguments, name) for name in ("images", "storage", "split_mb", "split_s", "robot", "operator", "note")}
    sim = clock if arguments.sim_time == "auto" else arguments.sim_time == "yes"
    return {**named, "path": str(out), "discover": not arguments.graph_only, "use_sim_time": sim}


def _look(wait_s: float, namespace: str) -> bool:
    """Wait until somebody in this domain (and namespace) writes something; true when there is a /clock.

    Raises:
        UserError: nobody does.
    """
    import rclpy
    from rclpy.context import Context
    from rclpy.signals import SignalHandlerOptions

    context = Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("record_look", context=context)
    try:
        if _wait(node, wait_s, f"/{namespace.strip('/')}".rstrip("/")):
            return bool(node.count_publishers("/clock"))
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    domain, others = os.environ.get("ROS_DOMAIN_ID", "0"), running_domains()
    where = f"graphs of this machine run in domain {', '.join(map(str, others))}" if others else "no graph of this project runs on this machine"
    raise UserError(f"nothing to record: no topic in ROS domain {domain} within {wait_s:g} s", f"start the graph, or name its domain: --domain N ({where})", 2)


def _wait(node: Any, wait_s: float, prefix: str = "") -> bool:
    """True when somebody else writes a topic."""
    end = time.monotonic() + wait_s
    while True:
        topics = [name for name, _ in node.get_topic_names_and_types() if name not in _QUIET and (name.startswith(prefix) or name.count("/") == 1)]
        if any(node.count_publishers(name) for name in topics):
            time.sleep(0.5)  # discovery goes on
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.1)


def _accompany(node: Any, duration_s: float, quiet: bool) -> None:
    """Keys and progress, until the end of the process; ends the recording where that is asked for."""
    keys = not quiet and sys.stdin is not None and sys.stdin.isatty()
    begin = time.monotonic()
    if keys:
        print(f"recording to {node.params.path}; keys: s success, f failure, t take-over, q end", flush=True)
    with _single_keys(keys):
        while not node.problem and not (duration_s and time.monotonic() - begin > duration_s):
            if keys and select.select([sys.stdin], [], [], 0.5)[0]:
                key = sys.stdin.read(1)
                if key == "q":
                    break
                if key in _KEYS:
                    node.mark(_KEYS[key])
                    print(f"\nmarked: {_KEYS[key]}", flush=True)
            elif not keys:
                time.sleep(0.1)
            if not quiet and sys.stdout.isatty():
                print(f"\r{time.monotonic() - begin:7.1f} s  {node.messages:9d} messages  {node.size / 1e6:9.1f} MB", end="", flush=True)
    os.kill(os.getpid(), 2)  # as Ctrl-C: the node closes the bag


@contextmanager
def _single_keys(wanted: bool) -> Iterator[None]:
    """Keys without Enter."""
    if not wanted:
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _mend(bag: Path, out: Path | None) -> int:
    from wm_bridge.bags.mend import mend

    into = out or bag.with_name(f"{bag.stem}-mended")
    count, note = mend(bag, into)
    print(f"{into}: {count} messages; {note or 'the bag was whole'}")
    return 0
