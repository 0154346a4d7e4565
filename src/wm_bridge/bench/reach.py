"""`./wm bench reach`: goal pictures reached by the simulated arm, with controls beside them."""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from wm_bridge import resources
from wm_bridge.bench.controllers import Oracle, PoseRegressor, PriorPolicy, RandomActions
from wm_bridge.bench.reach_kinds import CONTROLS, KINDS, draw_request, score, success, wanted
from wm_bridge.bench.report import BenchResult, percent
from wm_bridge.core.effector import give_kinematics
from wm_bridge.core.types import FloatArray
from wm_bridge.robots import spec as robots
from wm_bridge.safety.clearance import Clearance
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.sim.closed_loop import LoopSettings, run_episode
from wm_bridge.sim.play import ARM, scatter_block
from wm_bridge.sim.sampling import sample_reachable
from wm_bridge.sim.world import SimWorld
from wm_planner.config import PlannerConfig, load_config
from wm_planner.mpc import Planner
from wm_planner.weights import weights_hash

_WORST = "furthest of the last 0.5 s, cm"  # of samples


@dataclass(frozen=True)
class Task:
    """One start and goal; all (J,) rad, (3,) m."""

    start: FloatArray
    goal: FloatArray
    goal_hand: FloatArray


def draw_task(world: SimWorld, rng: np.random.Generator, least_m: float = 0.10) -> Task:
    """Reachable start and goal at least ``least_m`` of hand travel apart."""
    while True:
        start, goal = sample_reachable(world, rng), sample_reachable(world, rng)
        world.reset(start, objects={})
        first = world.hand_position(ARM)
        world.reset(goal, objects={})
        if np.linalg.norm(world.hand_position(ARM) - first) >= least_m:
            return Task(start, goal, world.hand_position(ARM))


def apply_shift(world: SimWorld, rng: np.random.Generator, kind: str) -> None:
    """Light x0.6 to x1.4, or the camera moved by up to 5 cm and turned by up to 5 degrees."""
    if kind == "light":
        world.shift(light=float(rng.uniform(0.6, 1.4)))
    elif kind == "camera":
        offset, turn = rng.normal(size=3), rng.normal(size=3)
        offset *= rng.uniform(0, 0.05) / np.linalg.norm(offset)
        turn *= rng.uniform(0, 5.0) / np.linalg.norm(turn)
        world.shift(camera_offset=tuple(offset), camera_rotation_deg=tuple(turn))
    else:
        world.nominal()


@dataclass(frozen=True)
class Job:
    """One episode of one row of the table; picklable."""

    controller: str
    shift: str
    seed: int
    number: int
    checkpoint: Path
    planner: PlannerConfig
    settings: LoopSettings
    kind: str = "picture"
    control: bool = False  # of the kind: see ``reach_kinds.CONTROLS``
    trust: bool = False  # judged by the calibration beside the checkpoint, and the safety filter heeds it


_CACHE: dict[str, object] = {}


def world_and_planner(job: Job) -> tuple[SimWorld, Planner]:
    """One world and planner per process."""
    key = f"{job.checkpoint}{job.planner}"
    if _CACHE.get("key") != key:
        world, planner = SimWorld(robots.load("nico")), Planner.load(job.checkpoint, job.planner)
        planner.intrusion = Clearance(world.spec, SafetyConfig.load(world.spec.safety_path()), planner.joint_names)
        give_kinematics(planner, world.spec)
        _CACHE.update(key=key, world=world, planner=planner)
    world, planner = _CACHE["world"], _CACHE["planner"]
    assert isinstance(world, SimWorld) and isinstance(planner, Planner)
    return world, planner


def play(job: Job) -> dict[str, float]:
    """Run one episode; returns what it scored."""
    return play_with(*world_and_planner(job), job)


def play_with(world: SimWorld, planner: Planner, job: Job) -> dict[str, float]:
    """Run one episode in a world and with a planner that are there already."""
    rng = np.random.default_rng(np.random.SeedSequence([job.seed, job.number]))
    task = draw_task(world, rng)
    apply_shift(world, rng, job.shift)
    world.reset(task.goal, objects={})
    if rng.uniform() < 0.5:
        scatter_block(world, rng)
    block = tuple(world.object_pose("block"))
    request = draw_request(job.kind, world, task.start, task.goal, block, rng, job.settings, job.control)
    goal_hand = request.hand
    world.reset(task.start, objects={"block": block} if block[0] > -5 else {})
    planner.search.generator.manual_seed(job.number)
    safety = SafetyConfig.load()
    planner.watch.use(None)
    if job.trust:
        from wm_bridge.bench.reach_trust import heed_trust

        safety = heed_trust(planner, job.checkpoint, safety)
    controller = {
        "planner": lambda: planner,
        "blank": lambda: planner,
        "random": lambda: RandomActions(planner, job.number),
        "regressor": lambda: PoseRegressor(planner, job.number),
        "prior": lambda: PriorPolicy(planner, job.number),
        "oracle": lambda: Oracle(planner, job.number, world, goal_hand),
    }[job.controller]()
    start_distance = float(np.linalg.norm(world.hand_position(ARM) - goal_hand))
    forward = planner.forward
    planner.forward = None if job.control and job.kind == "pose" else forward
    trace = run_episode(world, controller, request.asked, rng, safety, job.settings, blank=job.controller == "blank")
    planner.forward = forward
    distances = np.linalg.norm(np.array(trace.hand) - goal_hand, axis=1)
    return {
        "number": job.number,
        "start_m": start_distance,
        "end_m": float(distances[-50:].max()),
        "least_m": float(distances.min()),
        "held_3cm": trace.held(goal_hand, 0.03),
        "held_5cm": trace.held(goal_hand, 0.05),
        "interventions": trace.interventions,
        "refused": trace.refused,
        "plan_ms": 1e3 * float(np.median(trace.plan_s)) if trace.plan_s else float("nan"),
        "reached": trace.outcome is not None and int(trace.outcome) == 0,
        "reached_s": trace.outcome_s,
        "least_trust": min(trace.trust, default=float("nan")),
        **score(request, world, trace),
    }


def run_jobs(jobs: list[Job], workers: int, play_job=play) -> list[dict[str, float]]:
    """Run episodes in parallel with a progress bar."""
    return list(results_of(jobs, workers, play_job))


def results_of(jobs: list[Job], workers: int, play_job=play) -> Iterator[dict[str, float]]:
    """The results of episodes in their order, each as soon as it is there, with a progress bar."""
    if workers <= 1:
        yield from map(play_job, tqdm(jobs, unit="episode"))
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers) as pool:
        yield from tqdm(pool.imap(play_job, jobs), total=len(jobs), unit="episode")


def count(rows: list[dict[str, float]], key: str) -> int:
    """Number of successful episodes."""
    return sum(bool(row[key]) for row in rows)


def add_common_arguments(parser: argparse.ArgumentParser, episodes: int, parallel: bool = True, latency: bool = True) -> None:
    """The arguments of every closed-loop benchmark; ``parallel`` ones may use several processes."""
    parser.add_argument("--episodes", type=int, default=episodes, help=f"episodes per row (default {episodes})")
    parser.add_argument("--seed", type=int, default=1000, help="of starts and goals (training used other seeds)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--checkpoint", type=Path, help="world model (default: the one that ships)")
    if parallel:
        parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    if latency:
        parser.add_argument("--latency-ms", type=int, default=LoopSettings.latency_ms, help="camera frame to filter")
    parser.add_argument("--planner", type=Path, help="YAML with PlannerConfig keys")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="override a planner setting")


def planner_config(args: argparse.Namespace, **defaults: float) -> PlannerConfig:
    """PlannerConfig from file and words; one torch thread, since episodes run in parallel."""
    from wm_planner.train import overrides_from

    values = {"threads": 1, **defaults, **overrides_from(args.set)}
    path = args.planner or resources.path("config/compact_planner.yaml")
    return load_config(PlannerConfig, path, values)


def default_checkpoint(args: argparse.Namespace) -> Path:
    """The checkpoint named on the command line or the shipped one."""
    from wm_planner.weights import shipped_checkpoint

    return args.checkpoint or shipped_checkpoint("nico")


def kind_table(kind: str, args: argparse.Namespace, row: Callable[..., list[dict[str, float]]]) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """Figures and rows of one kind of goal: the planner, random actions, and what the kind adds left out."""
    figures: dict[str, float] = {"episodes": args.episodes}
    table: list[tuple[str, str]] = [("success", wanted(kind))]
    names = args.only or ["planner", "random", *(["control"] if kind in CONTROLS else [])]
    for name in names:
        rows = row("random" if name == "random" else "planner", args.episodes, control=name == "control")
        good = sum(success(kind, found) for found in rows)
        what = f"planner, {CONTROLS[kind]}" if name == "control" else name
        figures["success" if name == "planner" else name] = good / len(rows)
        table.append((f"{what}: success", percent(good, len(rows))))
        if name == "random":
            continue
        ends = 100 * np.array([found["end_m"] for found in rows])
        reached = count(rows, "reached")
        false = sum(bool(found["reached"]) and not success(kind, found) for found in rows)
        figures |= {f"{name}_end_cm_median": float(np.median(ends)), f"{name}_declared_reached": reached / len(rows)}
        table += [
            (f"{what}: worst of last 0.5 s, median", f"{np.median(ends):.2f} cm (p95 {np.quantile(ends, 0.95):.1f})"),
            (f"{what}: furthest joint, turn, median", f"{np.median([r['joint_rad'] for r in rows]):.3f}, {np.median([r['turn_rad'] for r in rows]):.3f} rad"),
            (f"{what}: declared REACHED by itself", f"{percent(reached, len(rows))}, {false} of them wrongly"),
            (f"{what}: REACHED after, plan time, median", f"{np.nanmedian([r['reached_s'] for r in rows]):.1f} s, {np.median([r['plan_ms'] for r in rows]):.0f} ms"),
        ]
    return figures, table


def main(argv: list[str]) -> int:
    """Print the reach table."""
    if "--ros" in argv:
        from wm_bridge.bench import reach_ros

        return reach_ros.main([word for word in argv if word != "--ros"])
    parser = argparse.ArgumentParser(prog="wm bench reach", description=__doc__)
    add_common_arguments(parser, 200)
    parser.add_argument("--shift", action="store_true", help="under changed light and a moved camera")
    parser.add_argument("--ros", action="store_true", help="through the running graph in real time; see --ros --help")
    parser.add_argument("--goal-kind", choices=KINDS, default="picture", help="how the goal is asked for (default picture), see bench/reach_kinds.py")
    parser.add_argument("--trust", action="store_true", help="the planner alone, without and with a safety filter that heeds its trust (trust.enabled)")
    parser.add_argument("--only", nargs="*", help="rows to run, e.g. planner random")
    parser.add_argument("--oracle-episodes", type=int, default=20, help="the oracle simulates: 10x slower")
    args = parser.parse_args(argv)
    checkpoint, config = default_checkpoint(args), planner_config(args)
    kind = args.goal_kind
    settings = LoopSettings(latency_ms=args.latency_ms)

    def row(controller: str, episodes: int, shift: str = "none", control: bool = False, trust: bool = False) -> list[dict[str, float]]:
        jobs = [
            Job(controller, shift, args.seed, number, checkpoint, config, settings, kind, control, trust)
            for number in range(episodes)
        ]
        words = [controller, *([shift] if shift != "none" else []), *([CONTROLS[kind]] if control else [])]
        print(f"{' / '.join(words)}: {episodes} episodes")
        return run_jobs(jobs, args.workers)

    if args.trust:
        from wm_bridge.bench.reach_trust import trust_table

        result = trust_table(checkpoint, row("planner", args.episodes), row("planner", args.episodes, trust=True))
        BenchResult("reach --trust", args.seed, weights_hash(checkpoint), *result).show(args.json)
        return 0
    if kind != "picture":
        settings = dataclasses.replace(settings, duration_s=12.0 if kind == "sequence" else 8.0, rest_s=1.0)
        result = kind_table(kind, args, row)
        BenchResult(f"reach --goal-kind {kind}", args.seed, weights_hash(checkpoint), *result).show(args.json)
        return 0
    figures: dict[str, float] = {"episodes": args.episodes}
    table: list[tuple[str, str]] = []
    samples: dict[str, list[float]] = {}
    if args.shift:
        for name, shift in (("nominal", "none"), ("light", "light"), ("camera", "camera")):
            rows = row("planner", args.episodes, shift)
            samples[f"{name}: {_WORST}"] = [100 * r["end_m"] for r in rows]
            figures[f"{name}_3cm"] = count(rows, "held_3cm") / len(rows)
            figures[f"{name}_5cm"] = count(rows, "held_5cm") / len(rows)
            table.append((f"{name}: held < 5 cm", percent(count(rows, "held_5cm"), len(rows))))
            table.append((f"{name}: held < 3 cm", percent(count(rows, "held_3cm"), len(rows))))
    else:
        wanted = args.only or ["planner", "random", "blank", "prior", "regressor", "oracle"]
        for controller in wanted:
            episodes = min(args.episodes, args.oracle_episodes) if controller == "oracle" else args.episodes
            rows = row(controller, episodes)
            samples[f"{controller}: {_WORST}"] = [100 * r["end_m"] for r in rows]
            name = {"planner": "success", "blank": "blank_image"}.get(controller, controller)
            figures[f"{name}_3cm"] = count(rows, "held_3cm") / len(rows)
            figures[f"{name}_5cm"] = count(rows, "held_5cm") / len(rows)
            table.append((f"{controller}: held < 3 cm", percent(count(rows, "held_3cm"), len(rows))))
            table.append((f"{controller}: held < 5 cm", percent(count(rows, "held_5cm"), len(rows))))
            if controller == "planner":
                ends = np.array([r["end_m"] for r in rows]) * 100
                figures["end_cm_median"] = float(np.median(ends))
                figures["plan_ms_median"] = float(np.median([r["plan_ms"] for r in rows]))
                figures["interventions_per_episode"] = float(np.mean([r["interventions"] for r in rows]))
                figures["declared_reached"] = count(rows, "reached") / len(rows)
                table += [
                    ("planner: worst of last 0.5 s, median", f"{np.median(ends):.2f} cm (p95 {np.quantile(ends, 0.95):.1f})"),
                    ("planner: start distance, median", f"{100 * np.median([r['start_m'] for r in rows]):.1f} cm"),
                    ("planner: declared REACHED by itself", percent(count(rows, "reached"), len(rows))),
                    ("planner: plan time, median", f"{figures['plan_ms_median']:.1f} ms (1 thread, {args.workers} at once)"),
                    ("safety: changed ticks per episode", f"{figures['interventions_per_episode']:.1f} of 800"),
                    ("safety: refused plans", f"{sum(r['refused'] for r in rows):.0f}"),
                ]
    BenchResult("reach --shift" if args.shift else "reach", args.seed, weights_hash(checkpoint), figures, table, samples).show(
        args.json
    )
    return 0
