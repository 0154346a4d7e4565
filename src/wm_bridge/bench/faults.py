"""`./wm bench faults`: break one thing at a time while the arm moves, and see whether it stands.

In process: filter, driver core and a simulated arm are stepped tick by tick (`fault_rig`); every
kind of `fault_kinds` is put in with 25 seeds (motion, moment and place differ). In the real graph:
processes are killed, stopped and fed with bad messages (`fault_graph`).

Counted as standing: no joint of the arm and none of the output above 0.02 rad/s (in the graph, with
sensor noise, 0.05 rad/s of the arm) at the end, for at least 0.2 s. `late_ticks`: first braking output
after it was due, where due is at once for bad content, and the time-out after the last good message for
silence; 1 is on time. `stop_s`: from the first braking output until arm and output stand.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from wm_bridge.bench import fault_graph
from wm_bridge.bench.fault_kinds import KINDS, Kind
from wm_bridge.bench.fault_rig import Outcome, Rig, judge
from wm_bridge.bench.report import BenchResult
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robot_spec
from wm_bridge.robots.spec import RobotSpec
from wm_bridge.safety.config import SafetyConfig

SEEDS = 25


@dataclass(frozen=True)
class Row:
    """All injections of one kind.

    Attributes:
        where: "process" or "graph". driver_ms: signal to the driver's own stop, where it counts.
    """

    name: str
    where: str
    outcomes: Sequence[Outcome]
    driver_ms: Sequence[float] = ()

    @property
    def stood(self) -> int:
        """How many ended in standstill."""
        return sum(outcome.stood for outcome in self.outcomes)

    def text(self) -> str:
        """The table's line."""
        count = len(self.outcomes)
        late = max(outcome.late_ticks for outcome in self.outcomes)
        lateness = f"late {late:4.1f} ticks  " if self.where == "process" else ""
        slow = max(outcome.stop_s for outcome in self.outcomes)
        by = Counter(outcome.braked_by or "nothing" for outcome in self.outcomes).most_common(1)[0][0]
        driver = f"  driver {max(self.driver_ms):5.1f} ms" if self.driver_ms else ""
        bad = "" if self.good() else "  FAILS"
        return f"{self.stood:3d}/{count:<3d} {lateness}stop {slow:5.3f} s  by {by}{driver}{bad}"

    def good(self) -> bool:
        """All stood, in time: one tick (in process), half a second, and 100 ms for the driver's own stop."""
        on_time = self.where == "graph" or all(outcome.late_ticks <= 1.0 for outcome in self.outcomes)
        driver = all(ms <= 100.0 for ms in self.driver_ms)
        return self.stood == len(self.outcomes) and on_time and driver and all(o.stop_s <= 0.5 for o in self.outcomes)


def inject(kind: Kind, seed: int, config: SafetyConfig | None = None) -> Outcome:
    """One in-process injection."""
    rng = np.random.default_rng([seed, *kind.name.encode()])
    rig = Rig(_robot(), config or _config(), rng)
    rig.start()
    kind.apply(rig)
    rig.run(kind.seconds)
    return judge(rig, kind.due(rig), kind.passes)


@functools.cache
def _robot() -> RobotSpec:
    return robot_spec.load("nico")


@functools.cache
def _config() -> SafetyConfig:
    return SafetyConfig.load()


def in_process(seeds: int, names: Sequence[str] = ()) -> list[Row]:
    """Every kind (or those named) with so many seeds."""
    wanted = [kind for kind in KINDS if not names or kind.name in names] if seeds else []
    return [Row(kind.name, "process", [inject(kind, seed) for seed in range(seeds)]) for kind in tqdm(wanted, unit="kind", leave=False)]


def in_graph(seeds: int, names: Sequence[str] = ()) -> list[Row]:
    """The kinds of the real graph (or those named), so many times."""
    wanted = [kind.name for kind in fault_graph.GRAPH_KINDS if not names or kind.name in names]
    if not seeds or not wanted:
        return []
    return [Row(kind.name, "graph", outcomes, ms) for kind, outcomes, ms in fault_graph.run(seeds, wanted)]


def result(rows: Sequence[Row], seed: int = 0) -> BenchResult:
    """Figures and table of all rows."""
    outcomes = [outcome for row in rows for outcome in row.outcomes]
    if not outcomes:
        raise ValueError("no injections: give seeds >= 1, or known kinds")
    late = [o.late_ticks for row in rows if row.where == "process" for o in row.outcomes]
    driver = [ms for row in rows for ms in row.driver_ms]
    figures = {
        "injections": len(outcomes),
        "kinds": len(rows),
        "standstill_rate": sum(o.stood for o in outcomes) / len(outcomes),
        "stop_s_max": max(o.stop_s for o in outcomes),
        "driver_stop_ms_max": max(driver, default=math.nan),
        "late_ticks_max": max(late, default=math.nan),
        "graph_kinds": sum(row.where == "graph" for row in rows),
        "failing_kinds": sum(not row.good() for row in rows),
    }
    lines = [(row.name, row.text()) for row in sorted(rows, key=lambda row: row.where, reverse=True)]
    return BenchResult("faults", seed, "", figures, [*lines, *((k, f"{v:g}") for k, v in figures.items())])


def main(argv: list[str]) -> int:
    """Run the benchmark; exit code 1 when a kind fails."""
    parser = argparse.ArgumentParser(prog="./wm bench faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"injections per kind in process ({SEEDS}; 0 = none)")
    parser.add_argument("--graph-seeds", type=int, default=1, help="injections per kind in the real graph (1; 0 = none)")
    parser.add_argument("--nightly", action="store_true", help=f"{SEEDS} injections per kind in the real graph as well")
    parser.add_argument("--kind", action="append", default=[], help="only this kind; may be repeated")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args(argv)
    known = [kind.name for kind in (*KINDS, *fault_graph.GRAPH_KINDS)]
    for name in args.kind:
        if name not in known:
            raise UserError(f"there is no kind of fault {name!r}", f"one of: {', '.join(known)}", 2)
    rows = in_process(args.seeds, args.kind)
    rows += in_graph(SEEDS if args.nightly else args.graph_seeds, args.kind)
    found = result(rows)
    found.show(args.json)
    return int(found.figures["failing_kinds"] > 0)
