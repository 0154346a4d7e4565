"""`./wm bench pipeline`: how long a camera picture takes to become a command to the hardware.

The whole graph of `./wm demo` runs in real time and pursues goal pictures. One *passage* is one
plan: the world's state at the camera stamp -> picture -> planner -> ``wm/action`` -> safety tick ->
first ``hw/command`` that names this stamp as its source.

How it is measured. Every DDS sample carries the wall-clock time at which its writer wrote it
(``source_timestamp``) and at which the middleware of the reader got it (``received_timestamp``); all
processes share this machine's clock. So no figure depends on when this benchmark's own Python
ran. The stamps themselves are simulated time in steps of 10 ms; they serve as names only: the wall
time of a camera stamp is the time at which the driver wrote ``/clock`` with exactly that value.
Simulated time inside a step does not exist, so nothing is rounded. The simulated camera is triggered by
the state of each whole period. Durations inside the planner are
its own, by the steady clock (``wm/report``): preprocess, encode, plan, and the whole time from the
picture's arrival in its callback, which gives that arrival.

Stages, in order; their sum is the total of each passage:
    camera: state to picture written (drawing in software; a real camera's exposure and read-out take
        its place)
    transport of the picture: written to the planner's callback
    planner, other: thread hand-over, joint look-up, trajectory and messages
    preprocess, encode, plan
    transport of the plan: written to received
    wait for the safety tick: ticks are 10 ms apart, so 5 ms on average are inherent
    filter: as the safety node measures it
overhead = total - encode - plan.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from wm_bridge.bench.report import BenchResult
from wm_bridge.errors import UserError

MS = 1e-6  # per nanosecond
_TOLERANCE_M = 0.015
_GOAL_S = 8.0
_LEAST = 20  # passages


@dataclass(frozen=True)
class Passage:
    """Durations of one plan's way from camera to command, ms, in order; they add up to ``total``."""

    camera: float
    image_transport: float
    planner_other: float
    preprocess: float
    encode: float
    plan: float
    action_transport: float
    tick_wait: float
    filter: float

    @property
    def total(self) -> float:
        """Camera stamp to hw/command written."""
        return float(sum(getattr(self, item.name) for item in fields(self)))

    @property
    def overhead(self) -> float:
        """Everything but the model."""
        return self.total - self.encode - self.plan


@dataclass(repr=False)
class Marks:
    """Wall-clock times in ns, by camera stamp in ns, as the messages came.

    Attributes:
        clock: /clock of this value written. image: picture written.
        action, action_received: wm/action written, and received here.
        command: first hw/command from this picture written.
        reports: stage durations of the planner, ms (preprocess, encode, plan, total).
        filter_ms: of every safety tick.
        cpu_percent: share of one core that each node used.
    """

    clock: dict[int, int] = field(default_factory=dict)
    image: dict[int, int] = field(default_factory=dict)
    action: dict[int, int] = field(default_factory=dict)
    action_received: dict[int, int] = field(default_factory=dict)
    command: dict[int, int] = field(default_factory=dict)
    reports: dict[int, tuple[float, float, float, float]] = field(default_factory=dict)
    filter_ms: list[float] = field(default_factory=list)
    cpu_percent: dict[str, float] = field(default_factory=dict)

    def attach(self, listen: Callable[[str, Callable[..., None]], None]) -> None:
        """Subscribe through ``listen(topic, callback(message, info))``."""
        from wm_bridge.ros.convert import from_time, source_stamp

        def clock(message: Any, info: Mapping[str, int]) -> None:
            self.clock[from_time(message.clock)] = info["source_timestamp"]

        def image(message: Any, info: Mapping[str, int]) -> None:
            self.image[from_time(message.header.stamp)] = info["source_timestamp"]

        def action(message: Any, info: Mapping[str, int]) -> None:
            stamp = from_time(message.header.stamp)
            self.action[stamp] = info["source_timestamp"]
            self.action_received[stamp] = info["received_timestamp"]

        def command(message: Any, info: Mapping[str, int]) -> None:
            if source := source_stamp(message):
                self.command.setdefault(source, info["source_timestamp"])

        def report(message: Any, info: Mapping[str, int]) -> None:
            parts = (message.preprocess_ms, message.encode_ms, message.plan_ms, message.total_ms)
            self.reports[from_time(message.header.stamp)] = parts

        def verdict(message: Any, info: Mapping[str, int]) -> None:
            self.filter_ms.append(message.filter_us * 1e-3)

        callbacks = {"/clock": clock, "camera/image_raw": image, "wm/action": action, "hw/command": command}
        callbacks |= {"wm/report": report, "safety/verdict": verdict}
        for name, callback in callbacks.items():
            listen(name, callback)

    def __str__(self) -> str:
        """How many of each came."""
        names = ("clock", "image", "action", "command", "reports")
        return ", ".join(f"{name} {len(getattr(self, name))}" for name in names)

    def complete(self) -> list[int]:
        """Stamps of the plans whose whole way was seen, in order."""
        every = [self.clock, self.image, self.action, self.command, self.reports]
        return sorted(set.intersection(*(set(marks) for marks in every)))


def passages(marks: Marks) -> list[Passage]:
    """The stages of every plan that was seen from end to end.

    The filter's time is the median of all ticks: a verdict does not name the picture behind it.
    """
    filter_ms = float(np.median(marks.filter_ms)) if marks.filter_ms else 0.0
    found = []
    for stamp in marks.complete():
        preprocess, encode, plan, inside = marks.reports[stamp]
        sent, received = marks.action[stamp], marks.action_received[stamp]
        found.append(
            Passage(
                camera=(marks.image[stamp] - marks.clock[stamp]) * MS,
                image_transport=(sent - marks.image[stamp]) * MS - inside,
                planner_other=inside - preprocess - encode - plan,
                preprocess=preprocess,
                encode=encode,
                plan=plan,
                action_transport=(received - sent) * MS,
                tick_wait=(marks.command[stamp] - received) * MS - filter_ms,
                filter=filter_ms,
            )
        )
    return found


def figures_of(found: Sequence[Passage], spacing_s: Sequence[float]) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """Figures and table of the passages; ``spacing_s`` between the pictures planned from."""
    total = np.array([item.total for item in found])
    overhead = np.array([item.overhead for item in found])
    behind = overhead - np.array([item.camera for item in found])
    figures = {
        "overhead_p50_ms": float(np.quantile(overhead, 0.5)),
        "total_p50_ms": float(np.quantile(total, 0.5)),
        "total_p99_ms": float(np.quantile(total, 0.99)),
        "overhead_p99_ms": float(np.quantile(overhead, 0.99)),
        "overhead_after_picture_p50_ms": float(np.quantile(behind, 0.5)),
        "passages": len(found),
        "plan_period_s": float(np.median(spacing_s)) if len(spacing_s) else float("nan"),
    }
    table = []
    for item in fields(Passage):
        values = np.array([getattr(passage, item.name) for passage in found])
        p50, p99 = np.quantile(values, [0.5, 0.99])
        figures[f"{item.name}_p50_ms"], figures[f"{item.name}_p99_ms"] = float(p50), float(p99)
        share = 100 * values.mean() / total.mean()
        table.append((item.name.replace("_", " "), f"p50 {p50:6.1f} ms   p99 {p99:6.1f} ms   {share:4.0f} % of the total"))
    table += [
        ("total: camera stamp to hw/command", f"p50 {figures['total_p50_ms']:6.1f} ms   p99 {figures['total_p99_ms']:6.1f} ms"),
        ("overhead: without encode and plan", f"p50 {figures['overhead_p50_ms']:6.1f} ms   p99 {figures['overhead_p99_ms']:6.1f} ms"),
        ("  of it behind the written picture", f"p50 {figures['overhead_after_picture_p50_ms']:6.1f} ms"),
        ("plans", f"{len(found)}, one every {figures['plan_period_s'] * 1e3:.0f} ms (simulated)"),
    ]
    return figures, table


def record(seconds: float, seed: int, checkpoint: Path, speed: float = 1.0) -> Marks:
    """Run the graph with goals one after another for ``seconds`` of wall time.

    Args:
        seconds: wall time. seed: of start and goals. checkpoint: world model.
        speed: simulated seconds per second.

    Raises:
        UserError: the graph fails, or hardly any plan was seen.
    """
    from rclpy.action import ActionClient
    from wm_interfaces.action import ReachGoal

    from wm_bridge.bench.live import CpuMeter, live_graph, objects_of, settings
    from wm_bridge.bench.reach_ros import draw
    from wm_bridge.robots import spec as robots
    from wm_bridge.ros.mailbox import Mailbox
    from wm_bridge.sim.world import SimWorld

    world, marks, number = SimWorld(robots.load("nico")), Marks(), 0
    print("starting the graph", flush=True)
    with live_graph(settings(checkpoint, speed)) as live:
        client = live.client
        action = ActionClient(client.node, ReachGoal, "wm/reach_goal")
        client.place(world.spec.joint_names, draw(world, seed, 0).start)
        client.enable()
        boxes: list[tuple[Mailbox, Callable[..., None]]] = []
        marks.attach(lambda name, callback: boxes.append((live.mailbox(name), callback)))
        end, meter = time.monotonic() + seconds, CpuMeter(live.graph)
        with tqdm(total=round(seconds), unit="s") as bar:
            while time.monotonic() < end:
                objects = objects_of(world, client.state())
                world.reset(draw(world, seed, number).goal, objects)
                number += 1
                handle = live.send(action, world.render("front", 320, 240), _GOAL_S, _TOLERANCE_M)
                future = handle.get_result_async()

                def over() -> bool:
                    for box, callback in boxes:
                        for message, info in box.take():
                            callback(message, info)
                    bar.update(round(seconds - max(end - time.monotonic(), 0.0)) - bar.n)
                    return bool(future.done() or time.monotonic() >= end)

                client.wait(over, seconds + 60.0, "the planner gives no result for the goal")
        marks.cpu_percent = meter.percent()
        client.disable()
        action.destroy()
    world.close()
    if len(marks.complete()) < _LEAST:
        raise UserError(
            f"only {len(marks.complete())} plans were seen from end to end in {seconds:.0f} s, expected {_LEAST} ({marks})",
            "stop other programs; measure longer (--seconds 60); or slow the simulation down (--realtime-factor 0.5)",
        )
    return marks


def main(argv: list[str]) -> int:
    """Print the stages."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="wm bench pipeline", description=summary)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long goals are pursued (default 30)")
    parser.add_argument("--seed", type=int, default=1000, help="of start and goals")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--checkpoint", type=Path, help="world model (default: the one that ships)")
    parser.add_argument(
        "--realtime-factor", type=float, default=1.0, help="slow the simulation on a busy machine; stretches the tick's wait"
    )
    args = parser.parse_args(argv)
    if not 1.0 <= args.seconds <= 3600.0:
        raise UserError(f"--seconds is {args.seconds}", "give 1 to 3600", 2)
    from wm_bridge.bench.live import checkpoint_file
    from wm_planner.weights import weights_hash

    checkpoint = checkpoint_file(args.checkpoint)
    weights = weights_hash(checkpoint)
    marks = record(args.seconds, args.seed, checkpoint, args.realtime_factor)
    found = passages(marks)
    figures, table = figures_of(found, np.diff(marks.complete()) * 1e-9)
    figures["realtime_factor"] = args.realtime_factor
    figures |= {f"cpu_{name}_percent": share for name, share in marks.cpu_percent.items()}
    table.append(("CPU of each node, % of one core", ", ".join(f"{name} {share:.0f}" for name, share in marks.cpu_percent.items())))
    samples = {"camera stamp to hw/command, ms": [item.total for item in found], "overhead, ms": [item.overhead for item in found]}
    BenchResult("pipeline", args.seed, weights, figures, table, samples).show(args.json)
    return 0
