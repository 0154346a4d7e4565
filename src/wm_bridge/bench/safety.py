"""`./wm bench safety`: viability, distances, certificates, transparency, solver, and time of the filter."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wm_bridge.bench import safety_rate
from wm_bridge.bench.report import BenchResult
from wm_bridge.bench.safety_counts import Ledger
from wm_bridge.bench.safety_loop import LoopReport, SafetyLoop
from wm_bridge.core.types import FloatArray
from wm_bridge.robots import spec as robots
from wm_bridge.robots.spec import RobotSpec
from wm_bridge.safety import qp
from wm_bridge.safety.config import SafetyConfig

ROBOTS = ("arm6", "nico")  # the first one's tick has the plain figures: 6 joints, 24 pairs
PARTS = ("tick", "viability", "loop", "transparency", "solver")
LEDGER = Path("runs/bench-safety.json")
_SLICE = 200  # ticks of one robot before the next robot's turn
Case = tuple[RobotSpec, SafetyConfig]
Figures = dict[str, float]
Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class Size:
    """How many ticks (programmes for the solver) of each figure are run."""

    tick: int
    viability: int
    loop: int
    transparency: int
    solver: int


USUAL = Size(tick=10_000, viability=100_000_000, loop=100_000, transparency=100_000, solver=300)
NIGHTLY = Size(tick=100_000, viability=1_000_000_000, loop=1_000_000, transparency=1_000_000, solver=3000)
QUICK = Size(tick=300, viability=300_000, loop=600, transparency=600, solver=20)


def timing(cases: Sequence[Case], ticks: int) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Wall time and thread CPU time of each tick, two (T,) ms by robot: plans to anywhere, taken in turns."""
    loops = [SafetyLoop(spec, config, np.random.default_rng(3), timed=True) for spec, config in cases]
    for loop in loops:
        loop.run(100, hostile=False, check_every=0)
        loop.report = LoopReport()
    gc.collect()
    gc.freeze()  # as the safety node does
    for _ in range(-(-ticks // _SLICE)):
        for loop in loops:
            loop.run(min(_SLICE, ticks), hostile=False, check_every=0)
    gc.unfreeze()
    return {loop.spec.name: (np.array(loop.report.duration_ms), np.array(loop.report.cpu_ms)) for loop in loops}


def transparency(spec: RobotSpec, config: SafetyConfig, ticks: int) -> int:
    """Ticks that changed a plan which is smooth, inside all limits, and far from everything."""
    loop = SafetyLoop(spec, config, np.random.default_rng(0))
    phase = np.linspace(0.0, 2.0, len(loop.names))
    loop.report = LoopReport()

    def speed(k: int) -> FloatArray:
        return np.asarray(0.3 * np.sin(0.4 * k + phase) * min(1.0, k / 20))

    lift = np.zeros(len(loop.names))
    if "r_elbow_y" in loop.names:  # at home NICO's hand is just over the table
        lift[loop.names.index("r_elbow_y")] = -0.25
    changed = 0
    for k in range(-20, ticks // 10):
        steps = [lift * 0.5 if k < 0 else speed(k + h) for h in range(5)]
        start = loop.q[loop.place]
        loop.submit(np.concatenate([start[None], start + 0.1 * np.cumsum(steps, axis=0)]))
        loop.run_quietly(10)
        changed += loop.report.limited if k >= 0 else 0
        loop.report = LoopReport()
    return changed


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


def time_figures(times: Mapping[str, tuple[FloatArray, FloatArray]]) -> tuple[Figures, Rows]:
    """Percentiles; the first robot's under plain names."""
    figures: Figures = {}
    rows: Rows = []
    for number, (name, kinds) in enumerate(times.items()):
        for kind, values in zip(("", "cpu_"), kinds, strict=True):
            p50, p99, p999 = np.percentile(values, [50.0, 99.0, 99.9])
            prefix = f"tick_{'' if number == 0 else name + '_'}{kind}"
            figures |= {f"{prefix}p50_ms": p50, f"{prefix}p99_ms": p99, f"{prefix}p999_ms": p999}
            what = "  thread CPU" if kind else f"tick, {name}, wall: median, p99, p99.9"
            rows.append((what, f"{p50:.3f}, {p99:.3f}, {p999:.3f} ms"))
    return figures, rows


def main(argv: Sequence[str] | None = None) -> int:
    """Command-line entry point."""
    parser = argparse.ArgumentParser(prog="wm bench safety", description=__doc__)
    parser.add_argument("--json", type=Path, nargs="?", const=Path("safety.json"), help="write the figures here")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--robot", help=f"name in config/robots or path; all of {', '.join(ROBOTS)} when not given")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=f"some of: {', '.join(PARTS)}")
    parser.add_argument("--state", type=Path, help=f"long counts so far, to go on after an interruption; --nightly: {LEDGER}")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--nightly", action="store_true", help="1e9 viability ticks, 1e6 ticks in the loop; goes on where it stopped")
    sizes.add_argument("--quick", action="store_true", help="a few hundred ticks: does it run?")
    sizes.add_argument("--ros", action="store_true", help="period of the safety node in the running graph instead")
    safety_rate.add_arguments(parser)
    args = parser.parse_args(argv)
    if args.ros:
        return safety_rate.measure(args)
    size = NIGHTLY if args.nightly else QUICK if args.quick else USUAL
    specs = [robots.load(name) for name in ([args.robot] if args.robot else ROBOTS)]
    cases = [(spec, SafetyConfig.load(spec.safety_path())) for spec in specs]
    ledger = Ledger(args.state or (LEDGER if args.nightly else None), args.seed)
    figures: Figures = {}
    rows: Rows = []
    wrong: list[str] = []
    if "tick" in args.only:
        found, lines = time_figures(timing(cases, size.tick))
        figures |= found
        rows += lines
    if "viability" in args.only:
        box = ledger.viability(size.viability)
        figures |= {"viability_ticks": box.ticks, "viability_violations": box.violations}
        rows += [("viability: joint ticks, violations", f"{box.ticks:.3g}, {box.violations}"), ("  worst excess", f"{box.worst:.1e}")]
        wrong += ["viability"] * bool(box.violations)
    if "loop" in args.only:
        loop = ledger.closed_loop(cases, size.loop)
        figures |= {"loop_ticks": loop.ticks, "margin_breaches": loop.violations, "broken_certificates": loop.broken}
        figures |= {"least_room_m": -loop.worst, "loop_limited": loop.limited}
        rows += [
            ("closed loop: ticks, limited", f"{loop.ticks}, {loop.limited}"),
            ("  margin breaches (coal)", f"{loop.violations}, least room {-1e3 * loop.worst:.1e} mm"),
            ("  broken certificates", str(loop.broken)),
        ]
        wrong += ["closed loop"] * bool(loop.violations + loop.broken) + [f"latched: {loop.latched}"] * bool(loop.latched)
    if "transparency" in args.only:
        changed = transparency(*cases[-1], size.transparency)
        figures |= {"transparency_ticks": size.transparency, "false_interventions": changed}
        rows.append(("transparency: ticks, changed", f"{size.transparency}, {changed}"))
        wrong += ["transparency"] * bool(changed)
    if "solver" in args.only:
        gap = oracle_gap(np.random.default_rng(args.seed), size.solver)
        figures["oracle_gap"] = gap
        rows.append(("rows: quadprog against CLARABEL", f"{gap:.1e} rad/s"))
        wrong += ["solver"] * (gap > 1e-5)
    BenchResult("safety", args.seed, "", figures, rows).show(args.json)
    if wrong:
        print(f"not as it must be: {'; '.join(wrong)}")
    return 1 if wrong else 0
