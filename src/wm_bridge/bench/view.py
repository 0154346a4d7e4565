"""`./wm bench view`: the page in real browsers: STOP, pictures, and what it costs the graph.

A press of STOP counts from the click event's own time in the page to the publication stamp (of the middleware) of the first
`hw/command` that the safety node sent because of it. The safety node's period is compared between stretches with three pages
open and stretches with none, by turns in one run, the page's process running all the time. Browsers draw in software here, on
the cores of the graph: so they run behind it (niceness), as if they were on another machine; STOP is pressed in one that does not.
"""

from __future__ import annotations

import argparse
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from wm_bridge.bench.browser import chromium, open_page
from wm_bridge.bench.live import CpuMeter, Live, OthersMeter, checkpoint_file, live_graph, settings
from wm_bridge.bench.report import BenchResult
from wm_bridge.core.goal_kinds import PictureGoal
from wm_bridge.core.types import FloatArray, Reason, Trajectory
from wm_bridge.errors import UserError
from wm_bridge.ros import qos
from wm_bridge.ros.convert import from_ticket, from_time, to_trajectory
from wm_bridge.ros.mailbox import Mailbox
from wm_planner.weights import weights_hash

PAGES = 3
_BEHIND = 15  # niceness of browsers that only watch
_GOAL_S = 60.0
_SETTLE_S = 2.0
_LOADED_S = 6.0  # a page that has just been opened compiles and lays itself out
_ELBOW, _SWAY_S, _SWAY_RAD = "r_elbow_y", 0.6, 0.25
_STOPPED_S = 10.0  # longest wait for the effect of a press
# Times of clicks on STOP by the wall clock, ms; event.timeStamp counts as performance.now() does.
_CLICKS = """() => { window.wmClicks = []; document.addEventListener('click', event => {
  const button = event.target.closest('button');
  if (button && button.textContent.trim() === 'STOP') wmClicks.push(Date.now() + event.timeStamp - performance.now()); }, true); }"""
# Pictures of the camera (the first one on the page) that the browser has loaded, each once.
_LOADS = """() => { const again = 'wmLoads' in window;
  window.wmLoads = 0; window.wmLast = '';
  if (again) return;
  document.addEventListener('load', event => {
    if (event.target !== document.querySelector('img[src^=blob]') || event.target.src === wmLast) return;
    wmLast = event.target.src; wmLoads += 1; }, true); }"""
_DRAWN = "__viserTestpoints.rendererInfo.render.frame"  # times that the scene was drawn so far


@dataclass
class Findings:
    """What was seen: times in ms, rates in Hz, shares of one core in %."""

    stop_ms: list[float] = field(default_factory=list)
    busy_hz: tuple[float, ...] = (float("nan"),) * 3  # pictures, drawings of the scene, sent by the view
    idle_hz: tuple[float, ...] = (float("nan"),) * 3
    others: tuple[float, ...] = (float("nan"),) * 2  # programs that are not part of this, busy and idle
    periods_ms: dict[int, list[float]] = field(default_factory=lambda: {0: [], PAGES: []})
    cpu: dict[int, list[float]] = field(default_factory=lambda: {0: [], 1: [], PAGES: []})


class Bench:
    """The graph under way, with a goal that is never reached.

    Args:
        live: the graph. url: of the page.
    """

    def __init__(self, live: Live, url: str) -> None:
        self._live, self._client, self._url = live, live.client, url
        self._verdicts, self._commands = live.mailbox("safety/verdict"), live.mailbox("hw/command")
        self._result: Any = None
        self._action = live.client.node.create_publisher(qos.message_type("wm/action"), "wm/action", qos.profile("wm/action"))
        self._swayed, self._side = 0.0, -1.0
        self.found = Findings()

    def run_for(self, seconds: float, tick: Callable[[], None] = lambda: None) -> None:
        """Take part in the graph; a goal that ends is given again, and a safety node that a busy machine latched is reset."""
        end = time.monotonic() + seconds

        def over() -> bool:
            tick()
            if self._result.done() or not self._client.safety.enabled:
                self.busy()
            return time.monotonic() >= end

        self._client.wait(over, seconds + 120.0, "the graph stands still")

    def busy(self) -> None:
        """Enabled, with a goal."""
        client = self._client
        client.enable()
        client.wait(lambda: client.safety is not None and client.safety.enabled, 15.0, "the safety node is not enabled")
        dark = PictureGoal(np.zeros((240, 320, 3), np.uint8))
        self._result = client.send(dark, _GOAL_S, tolerance_m=1e-9)

    def watch(self, page: Any, seconds: float, busy: bool = True) -> None:
        """Pictures per second in the page, and what the view's process needs with one page; ``busy``: while a goal is pursued."""
        page.evaluate(_LOADS)
        drawn, meter, others, begin = page.evaluate(_DRAWN), CpuMeter(self._live.graph), OthersMeter(), time.monotonic()
        if busy:
            self.run_for(seconds)
        else:
            self._client.wait(lambda: self._sway() or time.monotonic() >= begin + seconds, seconds + 60.0, "the graph stands still")
        passed = time.monotonic() - begin
        rates = (page.evaluate("wmLoads") / passed, (page.evaluate(_DRAWN) - drawn) / passed, self._sent_hz())
        self.found.others = (others.percent(), self.found.others[1]) if busy else (self.found.others[0], others.percent())
        if busy:
            self.found.busy_hz = rates
            self.found.cpu[1].append(meter.percent()["view"])
        else:
            self.found.idle_hz = rates

    def press(self, page: Any, rng: np.random.Generator) -> None:
        """Press STOP while plans are followed; notes how long it took."""
        self.busy()
        self._client.take("wm/report")
        self.run_for(float(rng.uniform(0.0, 0.2)))
        self._empty()
        before = page.evaluate("wmClicks.length")
        box = page.get_by_role("button", name="STOP").bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        stopped = first_stop(self._verdicts, self._commands, self._client.wait)
        clicked = self._client.wait(lambda: page.evaluate("wmClicks")[before:], _STOPPED_S, "the page saw no click")[0]
        self.found.stop_ms.append(stopped * 1e-6 - clicked)

    def stretch(self, pages: int, seconds: float) -> None:
        """The safety node's periods for a while, and the view's share of a core."""
        self.run_for(_SETTLE_S)
        self._empty()
        meter, sent = CpuMeter(self._live.graph), []

        def collect() -> None:
            sent.extend((message, info["source_timestamp"]) for message, info in self._commands.take())

        self.run_for(seconds, collect)
        self.found.periods_ms[pages] += periods_ms(sent)
        self.found.cpu[pages].append(meter.percent()["view"])

    def by_turns(self, program: Any, rounds: int, seconds: float) -> None:
        """Stretches without and with pages; pages stay open from one stretch to the next where that has them as well."""
        opened: list[Any] = []
        for number in tqdm(range(2 * rounds), unit="stretch"):
            pages = (0, PAGES, PAGES, 0)[number % 4]
            while len(opened) > pages:
                opened.pop().close()
            while len(opened) < pages:
                opened.append(open_page(program, self._url)[0])
            self.stretch(pages, seconds)

    def _sway(self) -> None:
        """The elbow to and fro without a planner: pictures change, and the browser has the planner's processor."""
        newest = None
        for newest, _ in self._commands.take():
            pass
        if newest is None or time.monotonic() < self._swayed + _SWAY_S:
            return
        self._swayed, self._side = time.monotonic(), -self._side
        elbow = list(newest.name).index(_ELBOW)
        ends = np.array([[newest.position[elbow] + self._side * _SWAY_RAD]])
        self._action.publish(to_trajectory(Trajectory((_ELBOW,), (round(_SWAY_S * 1e9),), ends, np.zeros((1, 1)), from_time(newest.header.stamp))))

    def _sent_hz(self) -> float:
        """How often the view's process has just sent what is new, as its diagnostics say."""

        def status(message: Any) -> Any:
            return next((item for item in message.status if item.hardware_id == "view"), None)

        values = {pair.key: pair.value for pair in status(self._client.take("/diagnostics", status)).values}
        return float(values["drawn [Hz]"])

    def _empty(self) -> None:
        for box in (self._verdicts, self._commands):
            for _ in box.take():
                pass


def periods_ms(sent: Sequence[tuple[Any, float]]) -> list[float]:
    """Between outputs that follow one another, ms; where our reader lost one there is no period.

    Args:
        sent: hw/command, and when the safety node published it, ns.
    """
    found = []
    for (a, begin), (b, end) in pairwise(sent):
        first, second = from_ticket(a), from_ticket(b)
        if first is not None and second is not None and (second.writer, second.counter) == (first.writer, first.counter + 1):
            found.append((end - begin) * 1e-6)
    return found


def first_stop(verdicts: Mailbox, commands: Mailbox, wait: Callable[..., Any]) -> float:
    """When the first hw/command of a tick with STOP_REQUEST was published, ns of the system clock.

    Args:
        wait: ``DemoClient.wait``.
    """
    sent: dict[int, float] = {}
    stop: list[int] = []

    def seen() -> float | None:
        for message, info in commands.take():
            sent[from_time(message.header.stamp)] = info["source_timestamp"]
        for message, _ in verdicts.take():
            if int(message.reasons) & int(Reason.STOP_REQUEST):
                stop.append(from_time(message.header.stamp))
        return next((sent[stamp] for stamp in sorted(sent) if stamp >= stop[0]), None) if stop else None

    return float(wait(seen, _STOPPED_S, "the safety node was not stopped by the page"))


def quantile(values: Sequence[float] | FloatArray, share: float) -> float:
    """NaN for none."""
    return float(np.quantile(values, share)) if len(values) else float("nan")


def result(found: Findings, weights: str, seed: int) -> BenchResult:
    """Figures and table."""
    stop, none, three = found.stop_ms, found.periods_ms[0], found.periods_ms[PAGES]
    cpu = {pages: float(np.mean(values)) if values else float("nan") for pages, values in found.cpu.items()}
    figures = {
        "stop_ms_p99": quantile(stop, 0.99),
        "camera_hz": found.busy_hz[0],
        "control_period_ratio": quantile(three, 0.99) / quantile(none, 0.99),
        "view_cpu": cpu[1],
        "stop_ms_p50": quantile(stop, 0.5),
        "stop_ms_max": max(stop, default=float("nan")),
        "presses": len(stop),
        "drawn_hz": found.busy_hz[1],
        "sent_hz": found.busy_hz[2],
        "camera_hz_no_planner": found.idle_hz[0],
        "drawn_hz_no_planner": found.idle_hz[1],
        "others_cpu": found.others[0],
        "others_cpu_no_planner": found.others[1],
        "period_ms_p99_no_page": quantile(none, 0.99),
        "period_ms_p99_three_pages": quantile(three, 0.99),
        "period_ms_p50_no_page": quantile(none, 0.5),
        "period_ms_p50_three_pages": quantile(three, 0.5),
        "view_cpu_no_page": cpu[0],
        "view_cpu_three_pages": cpu[PAGES],
    }
    rows = [
        ("STOP in the page to the first braking hw/command", f"p50 {figures['stop_ms_p50']:.0f} ms, p99 {figures['stop_ms_p99']:.0f} ms, longest {figures['stop_ms_max']:.0f} ms, n={len(stop)}"),
        ("camera pictures in the page, goal pursued / moved without the planner", f"{found.busy_hz[0]:.1f} / {found.idle_hz[0]:.1f} Hz"),
        ("  sent by the view; robot and plan drawn by the browser", f"{found.busy_hz[2]:.1f} / {found.idle_hz[2]:.1f}; {found.busy_hz[1]:.1f} / {found.idle_hz[1]:.1f} Hz"),
        ("  CPU of programs that are not part of this, meanwhile", f"{found.others[0]:.0f} / {found.others[1]:.0f} % of one core"),
        ("safety node's period, no page / three pages", f"p50 {figures['period_ms_p50_no_page']:.2f} / {figures['period_ms_p50_three_pages']:.2f} ms, p99 {figures['period_ms_p99_no_page']:.2f} / {figures['period_ms_p99_three_pages']:.2f} ms, n={len(none)} / {len(three)}"),
        ("  p99 with three pages against none", f"{figures['control_period_ratio']:.3f}"),
        ("CPU of the view's process, no / one / three pages", f"{cpu[0]:.0f} / {cpu[1]:.0f} / {cpu[PAGES]:.0f} % of one core"),
    ]
    samples = {"STOP to hw/command, ms": stop, "period, no page, ms of the tick": none, "period, three pages, ms of the tick": three}
    return BenchResult("view", seed, weights, figures, rows, samples)


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def main(argv: list[str]) -> int:
    """Print the figures of the page."""
    parser = argparse.ArgumentParser(prog="wm bench view", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--presses", type=int, default=50, help="of STOP, while plans are followed (default 50; 0: none)")
    parser.add_argument("--rounds", type=int, default=4, help="stretches with three pages and with none, by turns (default 4; 0: none)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each stretch, and of the pictures (default 8)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the presses")
    parser.add_argument("--checkpoint", type=Path, help="world model (default: the one that ships)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args(argv)
    if args.presses < 0 or args.rounds < 0 or not 1.0 <= args.seconds <= 600.0:
        raise UserError("--presses and --rounds are 0 or more, --seconds 1 to 600", "./wm bench view --help", 2)
    checkpoint, port = checkpoint_file(args.checkpoint), free_port()
    overrides, rng = {**settings(checkpoint), "view": {"port": port}}, np.random.default_rng(args.seed)
    print("starting the graph", flush=True)
    with live_graph(overrides, skip=("recorder", "goal", "viz"), also=("view",)) as live:
        bench = Bench(live, f"http://localhost:{port}")
        bench.busy()
        if args.rounds:
            with chromium(_BEHIND) as program:
                bench.by_turns(program, args.rounds, args.seconds)
        with chromium() as program:
            page, _ = open_page(program, f"http://localhost:{port}")
            page.evaluate(_CLICKS)
            bench.run_for(_LOADED_S)
            bench.watch(page, args.seconds)
            live.client.cancel()
            bench.watch(page, args.seconds, busy=False)
            for _ in tqdm(range(args.presses), unit="press"):
                bench.press(page, rng)
        live.client.disable()
    result(bench.found, weights_hash(checkpoint), args.seed).show(args.json)
    return 0
