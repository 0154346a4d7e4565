"""`./wm bench bus`: one cycle of NICO's fourteen servos, what it takes on a real wire, and the rate that is held."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from wm_bridge.bench.bus_faults import KINDS, Outcome, trial
from wm_bridge.bench.report import BenchResult, percent
from wm_bridge.core.types import Command, FloatArray
from wm_bridge.robots import spec as robots
from wm_bridge.robots.dynamixel import motors as motor_map
from wm_bridge.robots.dynamixel.bus import Block, ServoBus
from wm_bridge.robots.dynamixel.bus_process import BusProcess
from wm_bridge.robots.dynamixel.robot import BusSettings, DynamixelRobot

_MOTORS = "nico_rh4d"
_TARGET_HZ = 100.0
_BYTE_MS = 0.01  # ten bits at 1 Mbaud


@contextmanager
def connected(*arguments: str) -> Iterator[DynamixelRobot]:
    """A robot on a simulated bus in another process, every joint verified; cycled by the caller."""
    with tempfile.TemporaryDirectory() as folder:
        mine = Path(folder) / "verified.yaml"
        mine.write_text(motor_map.find(_MOTORS).read_text(encoding="utf-8").replace("verified: false", "verified: true"), encoding="utf-8")
        process = BusProcess(_MOTORS, *arguments)
        try:
            settings = BusSettings(process.path, str(mine), dry_run=False, patience_ms=20.0)
            with DynamixelRobot(robots.load("nico"), settings, threaded=False) as robot:
                yield robot
        finally:
            process.close()


def cycle_times(count: int) -> FloatArray:
    """(count,) ms of whole cycles: goals to 14 servos, all of them read, one servo's settings looked at."""
    with connected() as robot:
        spec, times = robot.spec, np.empty(count)
        for index in range(-20, count):
            position = spec.clip(spec.home + 0.1 * np.sin(index / 50.0))
            robot.write(Command(spec.joint_names, position, np.zeros_like(position), 1))
            begin = time.perf_counter()
            robot.cycle()
            if index >= 0:
                times[index] = (time.perf_counter() - begin) * 1e3
        return times


def wire_ms(return_delay_ms: float) -> float:
    """The same cycle on a real bus at 1 Mbaud, ms: goals, the common read, one read of twelve bytes."""
    motors = motor_map.load(_MOTORS)
    bus = ServoBus("", motors.baud, motors.protocol)
    blocks = [Block(motor.ident, *motor.model.block) for motor in motors.joints]
    goals = (8 + len(blocks) * (1 + motors.joints[0].model.target[1])) * _BYTE_MS
    one = (8 + 6 + 12) * _BYTE_MS + return_delay_ms
    return goals + bus.wire_ms(blocks, return_delay_ms) + one


def loop_rate(seconds: float) -> tuple[float, float]:
    """Loops per second with the safety filter in each of them, asked for 100, and the longest loop, ms.

    The simulated servos answer as late as on the wire, with return delay 0.
    """
    from wm_bridge.safety.config import SafetyConfig
    from wm_bridge.safety.filter import SafetyFilter

    with connected("--wire-time") as robot:
        spec = robot.spec
        guard = SafetyFilter(spec, SafetyConfig.load(spec.safety_path()))
        period, longest, loops = 1.0 / _TARGET_HZ, 0.0, 0
        begin = due = time.perf_counter()
        while time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            now, steady = time.time_ns(), time.monotonic_ns()
            guard.observe_state(robot.read(), now, steady)
            if loops in (5, 6):
                guard.reset(now, steady)
                guard.enable(True)
            command, _ = guard.tick(now, steady)
            if command is not None:
                robot.write(command)
            robot.cycle()
            longest = max(longest, (time.perf_counter() - start) * 1e3)
            loops += 1
            due = max(due + period, time.perf_counter() - period)
            time.sleep(max(due - time.perf_counter(), 0.0))
        return loops / (time.perf_counter() - begin), longest


def fault_rows(seeds: int, first: int) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """Each kind of fault with so many seeds: did the arm hold or recover, and was there a jump?"""
    outcomes: list[Outcome] = []
    for seed in range(first, first + seeds):
        for kind in KINDS:
            outcomes.append(trial(kind, seed))
            word = "ok" if outcomes[-1].good else f"NOT {outcomes[-1].detail}"
            print(f"  seed {seed} {kind}: {word}, fastest {outcomes[-1].fastest:.2f}, drift {outcomes[-1].drift_rad:.3f} rad", flush=True)
    figures: dict[str, float] = {}
    rows = []
    for kind in KINDS:
        of_kind = [outcome for outcome in outcomes if outcome.kind == kind]
        good, fastest = sum(outcome.good for outcome in of_kind), max(outcome.fastest for outcome in of_kind)
        drift = float(np.nanmax([outcome.drift_rad for outcome in of_kind]))
        figures[f"{kind}_good"], figures[f"{kind}_fastest"] = good / len(of_kind), fastest
        text = f"{percent(good, len(of_kind))} hold or recover; fastest joint {fastest:.2f} of its limit, moved {drift:.3f} rad while lost"
        bad = [f"{outcome.seed} ({outcome.detail})" for outcome in of_kind if not outcome.good]
        rows.append((kind, text + (f"; NOT: {', '.join(bad[:5])}" if bad else "")))
    return figures, rows


def main(argv: list[str]) -> int:
    """Run it; returns the exit code: 1 when a fault ended badly."""
    parser = argparse.ArgumentParser(prog="wm bench bus", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--cycles", type=int, default=2000, help="cycles that are timed")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the loop with the safety filter")
    parser.add_argument("--faults", type=int, default=0, metavar="N", help="also every kind of fault with N seeds (about 5 s each)")
    parser.add_argument("--reach", type=int, default=0, metavar="N", help="also N goal pictures through the running graph on this bus (about 15 s each)")
    parser.add_argument("--graph", type=float, default=0.0, metavar="S", help="also the running graph on this bus for so many seconds: rates, and CPU of each node")
    parser.add_argument("--motion", type=float, default=0.0, metavar="S", help="also --robot on its simulated buses, moved through the running graph for so many seconds")
    parser.add_argument("--robot", default="nicol", help="of --motion: a robot with servos (default nicol)")
    parser.add_argument("--seed", type=int, default=0, help="first seed of the faults")
    options = parser.parse_args(argv)
    times = cycle_times(options.cycles)
    rate, longest = loop_rate(options.seconds)
    quick, usual = wire_ms(0.0), wire_ms(0.5)
    p50, p99 = (float(np.percentile(times, share)) for share in (50, 99))
    figures = {"cycle_p50_ms": p50, "cycle_p99_ms": p99, "loop_hz": rate, "wire_ms": quick, "wire_delay_ms": usual}
    rows = [
        ("cycle on the pty, 14 servos", f"p50 {p50:.2f} ms, p99 {p99:.2f} ms ({options.cycles} cycles)"),
        ("the same on a wire, computed", f"{quick:.1f} ms at 1 Mbaud with return delay 0, {usual:.1f} ms with 500 us"),
        ("loop with the safety filter", f"{rate:.1f} Hz of {_TARGET_HZ:.0f} asked for, longest {longest:.1f} ms (answers as late as on the wire)"),
    ]
    if options.faults:
        more, table = fault_rows(options.faults, options.seed)
        figures |= more
        rows += table
    if options.reach:
        from wm_bridge.bench import bus_reach

        more, table = bus_reach.run(options.reach, 1000 + options.seed)
        figures |= more
        rows += table
    if options.graph > 0.0:
        from wm_bridge.bench import bus_graph

        more, table = bus_graph.run(options.graph, 1000 + options.seed)
        figures |= more
        rows += table
    if options.motion > 0.0:
        from wm_bridge.bench import bus_motion

        more, table = bus_motion.run(options.robot, options.motion)
        figures |= more
        rows += table
    BenchResult("bus", options.seed, "", figures, rows).show(options.json)
    return 0 if all(value == 1.0 for name, value in figures.items() if name.endswith("_good")) else 1
