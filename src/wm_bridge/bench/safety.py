"""`./wm bench safety`: viability, distances, certificates, transparency, solver and time of the filter."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wm_bridge.bench.report import BenchResult
from wm_bridge.bench.safety_loop import LoopReport, SafetyLoop
from wm_bridge.core.types import FloatArray
from wm_bridge.robots import spec as robots
from wm_bridge.robots.spec import RobotSpec
from wm_bridge.safety import qp
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.viability import ViabilityReport, run_random_ticks

PERIODS_S = (0.001, 0.004, 0.01)


@dataclass(frozen=True)
class Size:
    """How much of each figure is run."""

    viability: int
    loop: int
    transparency: int
    timing: int
    programmes: int


SUITE = Size(viability=3_000_000, loop=6_000, transparency=6_000, timing=6_000, programmes=300)  # half a minute alone
NIGHTLY = Size(viability=1_000_000_000, loop=1_000_000, transparency=1_000_000, timing=100_000, programmes=3000)
QUICK = Size(viability=300_000, loop=600, transparency=600, timing=300, programmes=20)


def viability(rng: np.random.Generator, ticks: int) -> ViabilityReport:
    """Random adversarial ticks, shared out over three control periods."""
    parts = [run_random_ticks(rng, ticks // len(PERIODS_S) + 1, dt) for dt in PERIODS_S]
    worst = np.max([part.worst for part in parts], axis=0)
    a, b, c, d, e = (float(x) for x in worst)
    return ViabilityReport(sum(p.ticks for p in parts), sum(p.violations for p in parts), (a, b, c, d, e))


def closed_loop(spec: RobotSpec, config: SafetyConfig, seed: int, ticks: int) -> LoopReport:
    """One and two arms, bad messages, things that come and go; coal looks on every tick."""
    total = LoopReport()
    for number, arms in enumerate((("right_arm",), ("right_arm", "left_arm"))):
        loop = SafetyLoop(spec, config, np.random.default_rng(seed + number), arms)
        found = loop.run(ticks // 2, hostile=True)
        total.ticks += found.ticks
        total.breaches += found.breaches
        total.broken_certificates += found.broken_certificates
        total.limited += found.limited
        total.least_room_m = min(total.least_room_m, found.least_room_m)
        total.latched = total.latched or found.latched
    return total


def transparency(spec: RobotSpec, config: SafetyConfig, ticks: int) -> int:
    """Ticks that changed a plan which is smooth, inside all limits, and far from everything."""
    loop = SafetyLoop(spec, config, np.random.default_rng(0))
    phase = np.linspace(0.0, 2.0, len(loop.names))
    loop.report = LoopReport()

    def speed(k: int) -> FloatArray:
        return np.asarray(0.3 * np.sin(0.4 * k + phase) * min(1.0, k / 20))

    lift = np.zeros(len(loop.names))
    lift[loop.names.index("r_elbow_y")] = -0.25
    for k in range(-20, ticks // 10):
        steps = [lift * 0.5 if k < 0 else speed(k + h) for h in range(5)]
        start = loop.q[loop.place]
        loop.submit(np.concatenate([start[None], start + 0.1 * np.cumsum(steps, axis=0)]))
        loop.run_quietly(10)
        if k < 0:
            loop.report = LoopReport()
    return loop.report.limited


def timing(spec: RobotSpec, config: SafetyConfig, ticks: int) -> tuple[FloatArray, FloatArray]:
    """(T,) wall time and thread CPU time of each tick, ms: the right arm reaching about."""
    loop = SafetyLoop(spec, config, np.random.default_rng(3), timed=True)
    loop.run(100, hostile=False, check_every=0)
    loop.report = LoopReport()
    gc.collect()
    gc.freeze()  # as the safety node does
    loop.run(ticks, hostile=False, check_every=0)
    gc.unfreeze()
    return np.array(loop.report.duration_ms), np.array(loop.report.cpu_ms)


def oracle_gap(rng: np.random.Generator, programmes: int) -> float:
    """Largest difference of quadprog and cvxpy with CLARABEL on random rows, rad/s."""
    reference, worst = qp.CvxpySolver(), 0.0
    for _ in range(programmes):
        joints = 14
        low = rng.uniform(-1.0, 0.0, joints)
        high = low + rng.uniform(0.01, 1.0, joints)
        inside = rng.uniform(low, high)
        G = rng.normal(size=(8, joints)) * (rng.random((8, joints)) < 0.5)
        h = G @ inside - rng.uniform(0.0, 0.2, 8)
        wish = rng.uniform(-2.0, 2.0, joints)
        ours = qp.solve(wish, low, high, G, h)
        theirs = qp.solve(wish, low, high, G, h, reference)
        if ours is None or theirs is None:
            return float("inf")
        worst = max(worst, float(np.abs(ours - theirs).max()))
    return worst


def main(argv: Sequence[str] | None = None) -> int:
    """Command-line entry point."""
    parser = argparse.ArgumentParser(prog="wm bench safety", description=__doc__)
    parser.add_argument("--json", type=Path, nargs="?", const=Path("safety.json"), help="write the figures here")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--robot", default="nico")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--nightly", action="store_true", help="1e9 viability ticks, 1e6 ticks in the loop")
    sizes.add_argument("--quick", action="store_true", help="a few hundred ticks: does it run?")
    args = parser.parse_args(argv)
    size = NIGHTLY if args.nightly else QUICK if args.quick else SUITE
    spec, config = robots.load(args.robot), SafetyConfig.load()
    wall, cpu = timing(spec, config, size.timing)
    box = viability(np.random.default_rng(args.seed), size.viability)
    loop = closed_loop(spec, config, args.seed, size.loop)
    changed = transparency(spec, config, size.transparency)
    gap = oracle_gap(np.random.default_rng(args.seed), size.programmes)
    p50, p99, p999 = np.percentile(wall, [50, 99, 99.9])
    cpu50, cpu99, cpu999 = np.percentile(cpu, [50, 99, 99.9])
    BenchResult(
        "safety",
        args.seed,
        "",
        {
            "viability_ticks": box.ticks,
            "viability_violations": box.violations,
            "loop_ticks": loop.ticks,
            "margin_breaches": loop.breaches,
            "broken_certificates": loop.broken_certificates,
            "least_room_m": loop.least_room_m,
            "tick_p50_ms": p50,
            "tick_p99_ms": p99,
            "tick_p999_ms": p999,
            "tick_cpu_p50_ms": cpu50,
            "tick_cpu_p99_ms": cpu99,
            "tick_cpu_p999_ms": cpu999,
            "transparency_ticks": size.transparency,
            "false_interventions": changed,
            "oracle_gap": gap,
        },
        (
            ("viability: joint ticks, violations", f"{box.ticks:.3g}, {box.violations}"),
            ("  worst excess: q, v, a, jerk, stop", ", ".join(f"{x:.1e}" for x in box.worst)),
            ("closed loop: ticks, limited", f"{loop.ticks}, {loop.limited}"),
            ("  margin breaches (coal)", f"{loop.breaches}, least room {1e3 * loop.least_room_m:.4f} mm"),
            ("  broken certificates", str(loop.broken_certificates)),
            ("tick, wall: median, p99, p99.9", f"{p50:.3f}, {p99:.3f}, {p999:.3f} ms"),
            ("  thread CPU", f"{cpu50:.3f}, {cpu99:.3f}, {cpu999:.3f} ms"),
            ("transparency: ticks, changed", f"{size.transparency}, {changed}"),
            ("rows: quadprog against CLARABEL", f"{gap:.1e} rad/s"),
        ),
    ).show(args.json)
    bad = box.violations + loop.breaches + loop.broken_certificates + changed + (gap > 1e-5) + bool(loop.latched)
    if loop.latched:
        print(f"latched: {loop.latched}")
    return 1 if bad else 0
