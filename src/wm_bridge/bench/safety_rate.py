"""`./wm bench safety --ros`: at which rate does the safety node tick in a running graph?

Periods are the gaps between the moments at which the middleware sent two `hw/command` messages in a row, so
this process may be late without spoiling a figure. The planner is the stand-in of the fault benchmark, which
swings the arm: what is asked is whether the ticks come in time, not where the arm goes.

| graph | what runs beside the safety node |
|---|---|
| full | NICO in MuJoCo, stepped and published at the same rate; the camera, 20 pictures a second |
| light | `arm6` behind the driver without physics, at the same rate; no camera |
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from wm_bridge import resources
from wm_bridge.bench.report import BenchResult
from wm_bridge.errors import UserError

GRAPHS = ("full", "light")
RATES_HZ = (250.0, 500.0)
_ORDINARY_HZ = 250.0  # up to here without real-time scheduling, faster with it
_SETTLE_S = 3.0
_ATTEMPTS = 3  # of enabling until the arm moves
_LEAST = 100  # periods


@dataclass
class Ticks:
    """What was heard of a node's ticks.

    Attributes:
        sent_ns: (T,) when each command was sent, system clock. counter: (T,) its number.
        filter_ms: time inside of the filter. moved: commands that moved the arm.
    """

    sent_ns: list[int] = field(default_factory=list)
    counter: list[int] = field(default_factory=list)
    filter_ms: list[float] = field(default_factory=list)
    moved: int = 0

    def figures(self, rate_hz: float) -> dict[str, float]:
        """Periods in ms, and the share of ticks that did not come.

        Raises:
            UserError: hardly anything was heard.
        """
        sent, number = np.array(self.sent_ns), np.array(self.counter)
        neighbours = np.diff(number) == 1
        period_ms = np.diff(sent)[neighbours] * 1e-6
        if len(period_ms) < _LEAST:
            raise UserError(f"only {len(period_ms)} periods were heard, expected {_LEAST}", "stop other programs; measure longer")
        p50, p99, p999 = np.percentile(period_ms, [50.0, 99.0, 99.9])
        span_s = (sent[-1] - sent[0]) * 1e-9
        done = int(number[-1] - number[0])
        filter50, filter999 = np.percentile(self.filter_ms, [50.0, 99.9])
        return {
            "rate_hz": done / span_s,
            "period_p50_ms": p50,
            "period_p99_ms": p99,
            "period_p999_ms": p999,
            "period_max_ms": float(period_ms.max()),
            "missed_share": max(0.0, 1.0 - done / (span_s * rate_hz)),
            "filter_p50_ms": filter50,
            "filter_p999_ms": filter999,
            "moving_share": self.moved / max(len(sent), 1),
            "seconds": span_s,
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of --ros."""
    parser.add_argument("--rate", type=float, nargs="+", default=list(RATES_HZ), metavar="HZ", help="with --ros: default 250 500")
    parser.add_argument("--graph", nargs="+", choices=GRAPHS, default=list(GRAPHS), help="with --ros: what runs beside it (default both)")
    parser.add_argument("--fifo", action=argparse.BooleanOptionalAction, help="with --ros: real-time scheduling; default: above 250 Hz")
    parser.add_argument("--seconds", type=float, default=30.0, help="with --ros: of each measurement (default 30)")


def measure(args: argparse.Namespace) -> int:
    """Print one line per graph and rate; status 1 when some could not be measured."""
    for rate in args.rate:
        if not 10.0 <= rate <= 1000.0:
            raise UserError(f"--rate is {rate}", "give 10 to 1000", 2)
    figures: dict[str, float] = {}
    rows: list[tuple[str, str]] = []
    failed = False
    for kind in args.graph:
        for rate in args.rate:
            fifo = rate > _ORDINARY_HZ if args.fifo is None else args.fifo
            name, title = f"{kind}_{rate:.0f}{'_fifo' if fifo else ''}", f"{kind}, {rate:.0f} Hz, {'SCHED_FIFO' if fifo else 'ordinary'}"
            try:
                found = record(kind, rate, fifo, args.seconds).figures(rate)
            except UserError as error:  # the others count all the same
                failed = True
                rows.append((title, f"not measured: {error.message}; {error.remedy}"))
                continue
            figures |= {f"{name}_{key}": value for key, value in found.items()}
            rows += [
                (
                    title,
                    f"{found['rate_hz']:.1f} Hz, missed {100 * found['missed_share']:.2f} % of {found['seconds']:.0f} s",
                ),
                (
                    "  period p50, p99, p99.9, max",
                    ", ".join(f"{found[f'period_{key}_ms']:.2f}" for key in ("p50", "p99", "p999", "max")) + " ms",
                ),
                (
                    "  filter p50, p99.9",
                    f"{found['filter_p50_ms']:.2f}, {found['filter_p999_ms']:.2f} ms; arm moving in {100 * found['moving_share']:.0f} % of ticks",
                ),
            ]
    BenchResult("safety --ros", args.seed, "", figures, rows).show(args.json)
    return int(failed)


def record(kind: str, rate_hz: float, fifo: bool, seconds: float) -> Ticks:
    """Run a graph and listen to its safety node.

    Raises:
        UserError: the graph does not run, or its safety node cannot be enabled.
    """
    from wm_bridge.bench.live import live_graph
    from wm_bridge.ros.mailbox import Mailbox

    with tempfile.TemporaryDirectory(prefix="wm-rate-") as folder:
        robot, overrides, skip = _graph(kind, rate_hz, fifo, Path(folder))
        print(f"starting the {kind} graph at {rate_hz:.0f} Hz", flush=True)
        with live_graph(overrides, ("goal", "planner", "viz", "recorder", *skip)) as live:
            planner = subprocess.Popen(
                [sys.executable, "-m", "wm_bridge.bench.fault_nodes", "planner", "--ros-args", "--disable-external-lib-logs",
                 "-p", f"robot:={robot}", "-p", "use_sim_time:=true"],
                env=live.graph.env, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                ticks, client = Ticks(), live.client
                boxes = {name: Mailbox(client.node, name, round(4 * rate_hz)) for name in ("hw/command", "safety/verdict")}
                _set_going(client)
                _listen(live, boxes, _SETTLE_S, Ticks())
                with tqdm(total=round(seconds), unit="s") as bar:
                    _listen(live, boxes, seconds, ticks, bar)
                client.disable()
            finally:
                planner.terminate()
                planner.wait(10.0)
    return ticks


def _set_going(client: Any) -> None:
    """Enable until the arm moves: at a high rate the start of a graph may itself latch the safety node."""
    for attempt in range(_ATTEMPTS):
        client.enable()
        try:
            client.take("hw/command", lambda message: np.any(message.velocity))
            return
        except UserError:
            if attempt == _ATTEMPTS - 1:
                raise


def _listen(live: Any, boxes: dict[str, Any], seconds: float, ticks: Ticks, bar: Any = None) -> None:
    from wm_bridge.ros import convert

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        live.graph.check()
        if live.client.safety is not None and not live.client.safety.enabled:
            live.client.enable()  # a machine that is too busy may latch it
        live.client.wait(lambda: True, 1.0, "")
        time.sleep(0.2)
        for message, info in boxes["hw/command"].take():
            ticket = convert.from_ticket(message)
            if ticket is not None:
                ticks.sent_ns.append(info["source_timestamp"])
                ticks.counter.append(ticket.counter)
                ticks.moved += bool(np.any(message.velocity))
        ticks.filter_ms += [message.filter_us * 1e-3 for message, _ in boxes["safety/verdict"].take()]
        if bar is not None:
            bar.update(round(seconds - max(end - time.monotonic(), 0.0)) - bar.n)


def _graph(kind: str, rate_hz: float, fifo: bool, folder: Path) -> tuple[str, dict[str, dict[str, Any]], tuple[str, ...]]:
    """Robot, parameters, and nodes that are left out."""
    usual: dict[str, Any] = {"rate_hz": rate_hz, "realtime": fifo}
    if kind == "full":
        return "nico", {"driver": dict(usual), "safety": dict(usual)}, ()
    settings = folder / "safety.yaml"
    settings.write_text(resources.path("config/safety_arm6.yaml").read_text().replace("safety.yaml", str(resources.path("config/safety.yaml"))))
    settings.write_text(settings.read_text() + "\ncamera_required: false\n")
    light = {**usual, "robot": "arm6"}
    overrides = {"driver": {**light, "robot_driver": "fake"}, "safety": {**light, "config": str(settings)}}
    return "arm6", overrides, ("camera",)
