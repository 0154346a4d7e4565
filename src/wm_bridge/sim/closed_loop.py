"""The whole control loop in one process, faster than real time.

The same parts as the running graph - camera picture, `PlanLoop`, `SafetyFilter`, servos - with
the topics between them replaced by calls. Simulator truth is read for scoring only.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from wm_bridge.core.goal import GoalConfig, Outcome
from wm_bridge.core.goal_kinds import Asked
from wm_bridge.core.plan_loop import PlanLoop
from wm_bridge.core.plan_step import PlanLoopConfig, PlanStep
from wm_bridge.core.plan_view import PlannerView
from wm_bridge.core.types import FloatArray, Frame, JointState, Observation, Reason
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.filter import SafetyFilter
from wm_bridge.sim.episodes import block_position
from wm_bridge.sim.play import ARM
from wm_bridge.sim.world import SimWorld

TICK_NS = 10_000_000


@dataclass(frozen=True)
class LoopSettings:
    """Timing of the loop.

    Attributes:
        duration_s: of an episode.
        latency_ms: from the camera frame to the plan's arrival at the safety filter.
        compensate: plan from what will be seen after the latency.
        width, height: of the camera picture.
        position_noise: standard deviation of the measured joints, rad.
        rest_s: an episode ends so long after its goal is done, when the arm only holds; None: it goes on.
    """

    duration_s: float = 8.0
    latency_ms: int = 50
    compensate: bool = False
    width: int = 320
    height: int = 240
    position_noise: float = 0.001
    rest_s: float | None = None


@dataclass
class Trace:
    """What happened in one episode; lists grow by one per control tick (10 ms) or plan.

    hand (T, 3), object (T, 3) true positions, m; decoded: planner's own distance, m; trust: p-values, NaN = unknown.
    """

    hand: list[FloatArray] = field(default_factory=list)
    object: list[FloatArray] = field(default_factory=list)
    decoded: list[float] = field(default_factory=list)
    energy: list[float] = field(default_factory=list)
    plan_s: list[float] = field(default_factory=list)
    trust: list[float] = field(default_factory=list)
    interventions: int = 0
    refused: int = 0
    outcome: Outcome | None = None
    outcome_s: float = float("nan")

    def held(self, goal: FloatArray, tolerance_m: float, what: str = "hand", hold_s: float = 0.5) -> bool:
        """True when the last ``hold_s`` were spent wholly within ``tolerance_m`` of ``goal``.

        The object is judged in the table plane.
        """
        path = np.array(getattr(self, what))[-max(1, round(hold_s * 100)) :]
        axes = 3 if what == "hand" else 2
        return bool((np.linalg.norm((path - goal)[:, :axes], axis=1) <= tolerance_m).all())


def measure(world: SimWorld, rng: np.random.Generator, noise: float) -> JointState:
    """Joint state with encoder noise."""
    return JointState(
        world.spec.joint_names, world.q + rng.normal(0, noise, len(world.q)), world.dq, world.tau, world.time_ns + 1
    )


def run_episode(
    world: SimWorld,
    planner: PlannerView,
    goal: Asked,
    rng: np.random.Generator,
    safety: SafetyConfig,
    settings: LoopSettings = LoopSettings(),
    *,
    target: str = "hand",
    blank: bool = False,
    go_on: Callable[[PlanStep], bool] = lambda step: True,
) -> Trace:
    """Pursue ``goal`` from the world's present state.

    Args:
        target: "hand" or "object", what the goal monitor watches.
        blank: control experiment: the planner is shown a black camera picture.
        go_on: asked after each planning step; False ends the episode.
    """
    loop = PlanLoop(
        planner,
        world.spec,
        PlanLoopConfig(target=target, delay_s=settings.latency_ms * 1e-3 if settings.compensate else 0.0),
        GoalConfig(tolerance_m=0.015, timeout_s=settings.duration_s + 1, stall_s=settings.duration_s + 1),
    )
    guard = SafetyFilter(world.spec, safety, clock=lambda: 0)  # not in real time: no time budget
    now = world.time_ns + 1
    guard.observe_state(measure(world, rng, settings.position_noise), now, now)
    guard.tick(now, now)
    guard.reset(now, now)
    guard.enable(True)
    answer = loop.set_goal(goal, now)
    if not answer.ok:
        raise ValueError(answer.message)
    trace, begun = Trace(), now
    reference = world.reference
    ticks = round(settings.duration_s * 1e9 / TICK_NS)
    every = round(planner.period_s * 1e9 / TICK_NS)
    delay = settings.latency_ms * 1_000_000 // TICK_NS
    waiting: dict[int, PlanStep] = {}
    for tick in range(ticks):
        if settings.rest_s is not None and tick * 0.01 > trace.outcome_s + settings.rest_s:
            break
        now = world.time_ns + 1
        joints = measure(world, rng, settings.position_noise)
        guard.observe_state(joints, now, now)
        if tick % every == 0:
            picture = world.render("front", settings.width, settings.height)
            guard.observe_camera(now, zlib.crc32(picture.tobytes()), now, now)
            if blank:
                picture = np.zeros_like(picture)
            step = loop.step(Observation(Frame(picture, now, "front_optical"), joints, reference), now)
            if step.plan is not None:
                trace.decoded.append(float(step.plan.distance_m))
                trace.energy.append(float(step.plan.goal_energy))
                trace.plan_s.append(step.plan_s)
                trace.trust.append(float(step.plan.trust))
            if step.outcome is not None and trace.outcome is None:
                trace.outcome, trace.outcome_s = step.outcome, tick * 0.01
            waiting[tick + delay] = step
            if not go_on(step):
                break
        arrived = waiting.pop(tick, None)
        if arrived is not None and arrived.plan is not None:
            guard.observe_trust(float(arrived.plan.trust), (tick - delay) * TICK_NS + begun, now)
        if arrived is not None and arrived.trajectory is not None and guard.submit(arrived.trajectory, now, now) != Reason.NONE:
            trace.refused += 1
        command, verdict = guard.tick(now, now)
        if command is not None:
            reference = np.asarray(command.position)
            world.set_reference(reference)
        trace.interventions += verdict.intervened
        world.step(TICK_NS * 1e-9)
        trace.hand.append(world.hand_position(ARM))
        trace.object.append(block_position(world))
    return trace
