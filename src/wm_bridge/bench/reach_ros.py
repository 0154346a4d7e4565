"""`./wm bench reach --ros`: the reach task through the running graph, in real time.

The starts and goals of `bench reach` (same seed, same numbers), each episode in the one graph
that is started at the beginning: safety disabled, arm placed, goal picture drawn here by an own
copy of the world, safety enabled, ReachGoal sent. Scored as `bench reach`: the true hand, from
``sim/state``, within the tolerance for the last 0.5 s of 8 s of simulated time. Unlike there, the
table holds the scene's own objects; a task whose start or goal would push one of them is redrawn.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.action import ActionClient
from tqdm import tqdm
from wm_interfaces.action import ReachGoal

from wm_bridge.bench.live import Live, checkpoint_file, live_graph, objects_of
from wm_bridge.bench.live import settings as node_settings
from wm_bridge.bench.reach import Task, count, draw_task
from wm_bridge.bench.report import BenchResult, percent
from wm_bridge.core.goal import Outcome
from wm_bridge.core.types import FloatArray, ImageArray
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robots
from wm_bridge.ros import convert
from wm_bridge.sim.closed_loop import TICK_NS, LoopSettings, Trace
from wm_bridge.sim.play import ARM
from wm_bridge.sim.state import SimState
from wm_bridge.sim.world import SimWorld
from wm_planner.weights import weights_hash

TOLERANCE_M = 0.015  # decoded distance at which the planner may say REACHED, as in `bench reach`
_SETTLE_S = 0.3
_UNTOUCHED_M = 0.002
_STARTED_RAD = 0.1  # hw/command further from the start than this: the safety node did not begin there
_TRIES = 5


@dataclass
class Heard:
    """What the graph said since ``clear``."""

    states: list[SimState] = field(default_factory=list)
    total_ms: list[float] = field(default_factory=list)

    def clear(self) -> None:
        """Begin anew."""
        self.states.clear()
        self.total_ms.clear()

    def attach(self, live: Live) -> None:
        """Start listening."""
        live.listen("sim/state", lambda m: self.states.append(SimState.from_array(convert.from_numbers(m))))
        live.listen("wm/report", lambda m: self.total_ms.append(float(m.total_ms)))

    @property
    def now_ns(self) -> int:
        """Newest simulated time, 0 before the first state."""
        return self.states[-1].time_ns if self.states else 0


def untouched(world: SimWorld, q: FloatArray) -> bool:
    """True when the arm at ``q`` (J,) leaves the objects at their default places alone."""
    world.reset(q)
    names = [item.name for item in world.scene.objects]
    before = np.array([world.object_pose(name)[:3] for name in names])
    world.step(_SETTLE_S)
    after = np.array([world.object_pose(name)[:3] for name in names])
    return bool(np.abs(after - before).max(initial=0.0) < _UNTOUCHED_M)


def draw(world: SimWorld, seed: int, number: int) -> Task:
    """Task ``number`` of `bench reach`, drawn on while an object is in its way."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, number]))
    while True:
        task = draw_task(world, rng)
        if untouched(world, task.start) and untouched(world, task.goal):
            return task


def hands(world: SimWorld, states: Sequence[SimState], begin_ns: int, duration_s: float) -> list[FloatArray]:
    """True hand (3,) m at each control tick after ``begin_ns``, from the newest state at that time.

    Raises:
        ValueError: no state at or before the first tick.
    """
    times = np.array([state.time_ns for state in states])
    ticks = begin_ns + TICK_NS * np.arange(1, round(duration_s * 1e9 / TICK_NS) + 1)
    newest = np.searchsorted(times, ticks, side="right") - 1
    if not len(times) or newest[0] < 0:
        raise ValueError(f"states begin after the first tick at {int(ticks[0])} ns")
    path: dict[int, FloatArray] = {}
    for index in np.unique(newest):
        world.load_state(states[index])
        path[int(index)] = world.hand_position(ARM)
    return [path[int(index)] for index in newest]


def prepare(live: Live, world: SimWorld, task: Task, settings: LoopSettings) -> tuple[ImageArray, FloatArray]:
    """Put the arm at the start and draw the goal; returns picture and true goal hand (3,).

    Raises:
        UserError: the graph does not get there.
    """
    client = live.client
    for _ in range(_TRIES):
        client.disable()
        client.take("safety/state", lambda m: not m.enabled)
        client.take("hw/command", lambda m: not np.any(m.velocity))
        client.place(world.spec.joint_names, task.start)
        present = client.state()
        client.enable()
        command = client.take("hw/command", lambda m: len(m.position) == len(task.start))
        if np.abs(np.asarray(command.position) - task.start).max() < _STARTED_RAD:
            break
    else:
        raise UserError(f"the arm did not begin at its start in {_TRIES} tries", f"see the logs in {live.graph.run_dir}")
    world.reset(task.goal, objects_of(world, present))
    world.step(_SETTLE_S)
    return world.render("front", settings.width, settings.height), world.hand_position(ARM)


def play(
    live: Live, action: Any, heard: Heard, world: SimWorld, task: Task, settings: LoopSettings
) -> dict[str, Any]:
    """Run one episode; returns what it scored."""
    client = live.client
    picture, goal_hand = prepare(live, world, task, settings)
    changed = client.safety.interventions
    heard.clear()
    client.wait(lambda: heard.states, 20.0, "no message on sim/state")
    handle = live.send(action, picture, settings.duration_s, TOLERANCE_M)
    ended = handle.get_result_async()
    begin_ns, began = heard.now_ns, time.monotonic()
    end_ns = begin_ns + round(settings.duration_s * 1e9)
    client.wait(lambda: heard.now_ns >= end_ns, 100 * settings.duration_s, "simulated time hardly moves")
    wall_s = time.monotonic() - began
    client.wait(ended.done, 30.0, "the planner gives no result for the goal")
    client.disable()
    client.wait(lambda: not client.safety.enabled, 20.0, "no message on safety/state")
    path = hands(world, heard.states, begin_ns, settings.duration_s)
    trace = Trace(hand=path)
    distances = np.linalg.norm(np.array(path) - goal_hand, axis=1)
    return {
        "start_m": float(distances[0]),
        "end_m": float(distances[-50:].max()),
        "held_3cm": trace.held(goal_hand, 0.03),
        "held_5cm": trace.held(goal_hand, 0.05),
        "outcome": Outcome(ended.result().result.outcome).name,
        "interventions": client.safety.interventions - changed,
        "plan_ms": list(heard.total_ms),
        "speed": settings.duration_s / wall_s,
    }


def figures_of(rows: Sequence[dict[str, Any]]) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """Figures and table of the episodes."""
    n = len(rows)
    held = {name: count(list(rows), name) for name in ("held_3cm", "held_5cm")}
    ends = np.array([row["end_m"] for row in rows]) * 100
    plan_ms = np.concatenate([row["plan_ms"] for row in rows]) if rows else np.zeros(0)
    p50, p99 = np.quantile(plan_ms, [0.5, 0.99]) if len(plan_ms) else (np.nan, np.nan)
    outcomes = Counter(row["outcome"] for row in rows)
    figures = {
        "success_3cm": held["held_3cm"] / n,
        "success_5cm": held["held_5cm"] / n,
        "episodes": n,
        "end_cm_median": float(np.median(ends)),
        "planner_p50_ms": float(p50),
        "planner_p99_ms": float(p99),
        "plans_per_episode": len(plan_ms) / n,
        "interventions_per_episode": float(np.mean([row["interventions"] for row in rows])),
        "declared_reached": outcomes["REACHED"] / n,
        "realtime_factor": float(np.median([row["speed"] for row in rows])),
    }
    table = [
        ("graph: held < 3 cm", percent(held["held_3cm"], n)),
        ("graph: held < 5 cm", percent(held["held_5cm"], n)),
        ("worst of last 0.5 s, median", f"{np.median(ends):.2f} cm (p95 {np.quantile(ends, 0.95):.1f})"),
        ("start distance, median", f"{100 * np.median([row['start_m'] for row in rows]):.1f} cm"),
        ("outcomes by the planner itself", ", ".join(f"{name} {number}" for name, number in outcomes.most_common())),
        ("picture received to plan sent", f"p50 {p50:.1f} ms, p99 {p99:.1f} ms ({figures['plans_per_episode']:.0f} plans per episode)"),
        ("safety: changed ticks per episode", f"{figures['interventions_per_episode']:.1f} of about 800"),
        ("simulated seconds per second", f"{figures['realtime_factor']:.2f}"),
    ]
    return figures, table


def main(argv: list[str]) -> int:
    """Print the table of reach through the graph."""
    parser = argparse.ArgumentParser(prog="wm bench reach --ros", description=__doc__)
    parser.add_argument("--episodes", type=int, default=20, help="default 20; each takes about 12 s")
    parser.add_argument("--seed", type=int, default=1000, help="of starts and goals, as in bench reach")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--checkpoint", type=Path, help="world model (default: the one that ships)")
    parser.add_argument("--realtime-factor", type=float, default=1.0, help="slow the simulation on a busy machine")
    args = parser.parse_args(argv)
    if args.episodes < 1:
        raise UserError(f"--episodes is {args.episodes}", "give at least 1", 2)
    checkpoint = checkpoint_file(args.checkpoint)
    weights = weights_hash(checkpoint)
    settings = LoopSettings()
    world = SimWorld(robots.load("nico"))
    tasks = [draw(world, args.seed, number) for number in range(args.episodes)]
    rows: list[dict[str, Any]] = []
    print("starting the graph", flush=True)
    with live_graph(node_settings(checkpoint, args.realtime_factor)) as live:
        action = ActionClient(live.client.node, ReachGoal, "wm/reach_goal")
        heard = Heard()
        heard.attach(live)
        with tqdm(tasks, unit="episode") as bar:
            for task in bar:
                rows.append(play(live, action, heard, world, task, settings))
                bar.set_postfix_str(f"{rows[-1]['outcome']} {rows[-1]['end_m'] * 100:.1f} cm")
        action.destroy()
    world.close()
    figures, table = figures_of(rows)
    BenchResult("reach --ros", args.seed, weights, figures, table).show(args.json)
    return 0
