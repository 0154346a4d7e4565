"""What can go wrong between planner, safety node, driver and arm: one small function per kind.

Each takes a running `Rig` and puts the fault where it acts. `Kind.due` says until when it need not
be noticed: at once for bad content, a time-out after the last good message for silence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from wm_bridge.bench.fault_rig import MS, Hop, Rig
from wm_bridge.core.types import Command, FloatArray, JointState, Reason, Trajectory
from wm_bridge.robots.follower import COMMAND_TIMEOUT_MS
from wm_bridge.robots.gate import Ticket, Writer


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    Attributes:
        name: in the table. apply: puts it into a rig.
        due: true time until which it need not be noticed, read after the run.
        seconds: how long to run on. passes: the cause is over at once: the arm must stand, and may
            move again with a fresh plan.
    """

    name: str
    apply: Callable[[Rig], None]
    due: Callable[[Rig], int]
    seconds: float = 1.2
    passes: bool = False


KINDS: list[Kind] = []


def at_once(rig: Rig) -> int:
    """Bad content: noticed in the tick after its first effect."""
    return rig.acted_ns if rig.acted_ns is not None else rig.now


def _after_plans(rig: Rig) -> int:
    return rig.heard.plan + round(rig.config.command_timeout_ms * MS)


def _after_states(rig: Rig) -> int:
    return rig.heard.state + round(rig.config.state_timeout_ms * MS)


def _after_frames(rig: Rig) -> int:
    return rig.heard.camera + round(rig.config.camera_timeout_ms * MS)


def _after_commands(rig: Rig) -> int:
    return rig.heard.command + round(COMMAND_TIMEOUT_MS * MS)


def _kind(due: Callable[[Rig], int], seconds: float = 1.2) -> Callable[[Callable[[Rig], None]], Callable[[Rig], None]]:
    def add(apply: Callable[[Rig], None]) -> Callable[[Rig], None]:
        KINDS.append(Kind(apply.__name__, apply, due, seconds))
        return apply

    return add


# Plans: content ---------------------------------------------------------------------------------


def _bad_plan(name: str, change: Callable[[Trajectory, np.random.Generator], Trajectory]) -> None:
    def apply(rig: Rig) -> None:
        def on_plan(plan: Trajectory) -> list[Trajectory]:
            rig.acted()
            return [change(plan, rig.rng)]

        rig.on_plan = on_plan

    KINDS.append(Kind(f"plan_{name}", apply, at_once))


def _poke(values: FloatArray, bad: float, rng: np.random.Generator) -> FloatArray:
    """One number of ``values`` replaced."""
    changed = np.array(values)
    changed[tuple(rng.integers(0, size) for size in changed.shape)] = bad
    return changed


_bad_plan("nan_position", lambda p, rng: replace(p, positions=_poke(p.positions, np.nan, rng)))
_bad_plan("inf_position", lambda p, rng: replace(p, positions=_poke(p.positions, np.inf, rng)))
_bad_plan("nan_velocity", lambda p, rng: replace(p, velocities=_poke(p.velocities, np.nan, rng)))
_bad_plan("unknown_joint", lambda p, rng: replace(p, names=(*p.names[:-1], "x_wing")))
_bad_plan("joint_twice", lambda p, rng: replace(p, names=(*p.names[:-1], p.names[0])))
_bad_plan("no_joints", lambda p, rng: Trajectory((), (), np.zeros((0, 0)), np.zeros((0, 0)), p.stamp_ns))
_bad_plan("times_backwards", lambda p, rng: replace(p, times_ns=p.times_ns[::-1]))
_bad_plan("time_twice", lambda p, rng: replace(p, times_ns=(p.times_ns[0], *p.times_ns[:-1])))
_bad_plan(
    "too_many_points",
    lambda p, rng: Trajectory(
        p.names,
        tuple((k + 1) * MS for k in range(999)),
        np.repeat(p.positions[:1], 999, axis=0),
        np.zeros((999, len(p.names))),
        p.stamp_ns,
    ),
)
_bad_plan("too_long", lambda p, rng: replace(p, times_ns=(*p.times_ns[:-1], 3_600_000 * MS)))


# Plans: time ------------------------------------------------------------------------------------


@_kind(_after_plans)
def plan_silence(rig: Rig) -> None:
    """The planner is dead, frozen, or its plans are dropped."""
    rig.on_plan = lambda plan: []


@_kind(_after_plans)
def plan_zero_stamp(rig: Rig) -> None:
    rig.on_plan = lambda plan: [replace(plan, stamp_ns=0)]


@_kind(_after_plans)
def plan_future_stamp(rig: Rig) -> None:
    ahead = int(rig.rng.integers(21, 5000)) * MS
    rig.on_plan = lambda plan: [replace(plan, stamp_ns=plan.stamp_ns + ahead)]


@_kind(_after_plans)
def plan_too_old(rig: Rig) -> None:
    behind = round(rig.config.command_max_age_ms + rig.rng.integers(1, 5000)) * MS
    rig.on_plan = lambda plan: [replace(plan, stamp_ns=plan.stamp_ns - behind)]


@_kind(_after_plans)
def plan_duplicated_for_ever(rig: Rig) -> None:
    old = rig.last_plan
    assert old is not None
    rig.on_plan = lambda plan: [old, old]


@_kind(_after_plans, 1.6)
def plan_reordered(rig: Rig) -> None:
    """Every plan comes after a newer one: only the first of them can be followed."""
    backlog: list[Trajectory] = []

    def on_plan(plan: Trajectory) -> list[Trajectory]:
        backlog.append(plan)
        return [backlog.pop(-2)] if len(backlog) == 2 and rig.acted_ns is None else _older(rig, backlog)

    rig.on_plan = on_plan


def _older(rig: Rig, backlog: list[Trajectory]) -> list[Trajectory]:
    rig.acted()
    return [replace(backlog[0], stamp_ns=backlog[0].stamp_ns - len(backlog) * MS)]


@_kind(_after_plans, 2.0)
def plan_delayed(rig: Rig) -> None:
    """Every plan lies for a second before it is delivered."""
    backlog: list[Trajectory] = []

    def on_plan(plan: Trajectory) -> list[Trajectory]:
        backlog.append(plan)
        return [backlog.pop(0)] if len(backlog) > 10 else []

    rig.on_plan = on_plan


# Joint states: content --------------------------------------------------------------------------


def _bad_state(name: str, change: Callable[[JointState, np.random.Generator], JointState]) -> None:
    def apply(rig: Rig) -> None:
        def on_state(state: JointState) -> list[JointState]:
            rig.acted()
            return [change(state, rig.rng)]

        rig.on_state = on_state

    KINDS.append(Kind(f"state_{name}", apply, at_once))


_bad_state("nan_position", lambda s, rng: replace(s, position=_poke(s.position, np.nan, rng)))
_bad_state("inf_velocity", lambda s, rng: replace(s, velocity=_poke(s.velocity, np.inf, rng)))
_bad_state("nan_effort", lambda s, rng: replace(s, effort=_poke(s.effort, np.nan, rng)))
_bad_state("unknown_joint", lambda s, rng: replace(s, names=(*s.names[:-1], "x_wing")))
_bad_state("joint_twice", lambda s, rng: replace(s, names=(*s.names[:-1], s.names[0])))
_bad_state(
    "joint_missing",
    lambda s, rng: JointState(s.names[:-1], s.position[:-1], s.velocity[:-1], s.effort[:-1], s.stamp_ns),
)
_bad_state("jumps", lambda s, rng: replace(s, position=_poke(s.position, float(rng.uniform(1.5, 3.0)), rng)))


# Joint states: time and truth -------------------------------------------------------------------


@_kind(_after_states)
def state_silence(rig: Rig) -> None:
    """The driver is dead or frozen, or its states are dropped."""
    rig.on_state = lambda state: []


@_kind(_after_states)
def state_zero_stamp(rig: Rig) -> None:
    rig.on_state = lambda state: [replace(state, stamp_ns=0)]


@_kind(_after_states)
def state_future_stamp(rig: Rig) -> None:
    rig.on_state = lambda state: [replace(state, stamp_ns=state.stamp_ns + 500 * MS)]


@_kind(_after_states)
def state_frozen_stamp(rig: Rig) -> None:
    stamp = rig.now
    rig.on_state = lambda state: [replace(state, stamp_ns=stamp)]


@_kind(_after_states)
def state_delayed(rig: Rig) -> None:
    backlog: list[JointState] = []

    def on_state(state: JointState) -> list[JointState]:
        backlog.append(state)
        return [backlog.pop(0)] if len(backlog) > 12 else []

    rig.on_state = on_state


@_kind(_after_states)
def state_reordered(rig: Rig) -> None:
    newest = rig.now
    rig.on_state = lambda state: [replace(state, stamp_ns=newest - (state.stamp_ns - newest))]


@_kind(lambda rig: at_once(rig) + round(rig.config.tracking_error_ms * MS), 2.0)
def encoder_slips(rig: Rig) -> None:
    """One measured joint drifts away from the truth, slowly enough to look like motion."""
    joint = int(rig.rng.integers(0, len(rig.spec.joint_names)))
    drift = [0.0]

    def on_state(state: JointState) -> list[JointState]:
        drift[0] += 0.008
        position = np.array(state.position)
        position[joint] += drift[0]
        output = rig.verdicts[-1][1].output
        if np.abs(position - output).max() > rig.config.tracking_error_rad:
            rig.acted()
        return [replace(state, position=position)]

    rig.on_state = on_state


# Camera -----------------------------------------------------------------------------------------


@_kind(_after_frames, 1.6)
def camera_silence(rig: Rig) -> None:
    rig.on_frame = lambda stamp, digest: []


@_kind(lambda rig: at_once(rig) + round(rig.config.camera_timeout_ms * MS) + 50 * MS, 2.5)
def camera_frozen_picture(rig: Rig) -> None:
    """The same picture with new stamps while the arm moves."""

    def on_frame(stamp: int, digest: int) -> list[tuple[int, int]]:
        rig.acted()
        return [(stamp, 7)]

    rig.on_frame = on_frame


@_kind(_after_frames, 1.6)
def camera_zero_stamp(rig: Rig) -> None:
    rig.on_frame = lambda stamp, digest: [(0, digest)]


@_kind(_after_frames, 1.6)
def camera_future_stamp(rig: Rig) -> None:
    rig.on_frame = lambda stamp, digest: [(stamp + 900 * MS, digest)]


@_kind(_after_frames, 1.6)
def camera_replayed(rig: Rig) -> None:
    old = rig.now - 60 * MS
    rig.on_frame = lambda stamp, digest: [(old, digest)]


@_kind(_after_frames, 1.6)
def camera_delayed(rig: Rig) -> None:
    rig.on_frame = lambda stamp, digest: [(stamp - 900 * MS, digest)]


# Clocks -----------------------------------------------------------------------------------------


def _clock(
    name: str, told: Callable[[int, int], int], due: Callable[[Rig], int] = at_once, passes: bool = True
) -> None:
    def apply(rig: Rig) -> None:
        since = rig.now

        def clock(now: int) -> int:
            rig.acted()
            return told(now, since)

        rig.clock = clock

    KINDS.append(Kind(f"clock_{name}", apply, due, passes=passes))


_clock("jumps_ahead", lambda now, since: now + 2_000 * MS)
_clock("jumps_back", lambda now, since: now - 2_000 * MS)
_clock("is_reset", lambda now, since: now - since)
_clock("stands_still", lambda now, since: since, _after_states, False)


# Inside the safety node -------------------------------------------------------------------------


@_kind(at_once)
def filter_core_raises(rig: Rig) -> None:
    """An exception where nobody expected one."""

    def broken(*_: object) -> None:
        rig.acted()
        raise RuntimeError("injected")

    rig.filter._watch = broken  # type: ignore[method-assign, assignment]


_LATE_MS = 20


@_kind(lambda rig: at_once(rig) + round(rig.config.tick_latch_ms / _LATE_MS) * rig.tick_ns)
def filter_over_time_budget(rig: Rig) -> None:
    """Every look at the clock finds 20 ms gone: the prepared brake goes out at once, a row of such ticks latches."""
    spent = [0]

    def clock() -> int:
        rig.acted()
        spent[0] += _LATE_MS * MS
        return spent[0]

    rig.filter_clock = clock


@_kind(at_once)
def safety_stop_requested(rig: Rig) -> None:
    rig.acted()
    rig.filter.stop()


@_kind(at_once)
def safety_disabled(rig: Rig) -> None:
    rig.acted()
    rig.filter.enable(False)


@_kind(at_once)
def second_writer_reported(rig: Rig) -> None:
    rig.acted()
    rig.filter.stop("2 nodes write hw/command", Reason.SECOND_WRITER)


# From the safety node to the driver -------------------------------------------------------------


@_kind(_after_commands)
def safety_dies(rig: Rig) -> None:
    rig.safety_alive = False


@_kind(_after_commands)
def command_dropped(rig: Rig) -> None:
    rig.on_hop = lambda hop: []


@_kind(_after_commands)
def command_delayed(rig: Rig) -> None:
    backlog: list[Hop] = []

    def on_hop(hop: Hop) -> list[Hop]:
        backlog.append(hop)
        return [backlog.pop(0)] if len(backlog) > 12 else []

    rig.on_hop = on_hop


def _bad_command(name: str, change: Callable[[Hop, Rig], Hop], due: Callable[[Rig], int] = at_once) -> None:
    def apply(rig: Rig) -> None:
        def on_hop(hop: Hop) -> list[Hop]:
            rig.acted()
            return [change(hop, rig)]

        rig.on_hop = on_hop

    KINDS.append(Kind(f"command_{name}", apply, due))


def _arrival(hop: Hop, **changes: object) -> Hop:
    return Hop(hop.command, replace(hop.arrival, **changes))  # type: ignore[arg-type]


def _joints(hop: Hop, **changes: object) -> Hop:
    return Hop(replace(hop.command, **changes), hop.arrival)  # type: ignore[arg-type]


_NOBODY = Ticket(99, 11, 10_000, 0)
_bad_command("nan_position", lambda h, rig: _joints(h, position=_poke(h.command.position, np.nan, rig.rng)))
_bad_command("nan_velocity", lambda h, rig: _joints(h, velocity=_poke(h.command.velocity, np.nan, rig.rng)))
_bad_command("jumps", lambda h, rig: _joints(h, position=_poke(h.command.position, 3.0, rig.rng)))
_bad_command("wrong_order", lambda h, rig: _joints(h, names=h.command.names[::-1]))
_bad_command("without_ticket", lambda h, rig: _arrival(h, ticket=None))
_bad_command("of_another_session", lambda h, rig: _arrival(h, ticket=_NOBODY))
_bad_command("of_another_publisher", lambda h, rig: _arrival(h, sequence=1))
_bad_command("counter_frozen", lambda h, rig: _arrival(h, ticket=rig.gate.last))
_bad_command("stamp_back", lambda h, rig: _arrival(h, stamp_ns=h.arrival.stamp_ns - 30 * MS))
_bad_command("zero_stamp", lambda h, rig: _arrival(h, stamp_ns=0), _after_commands)
_bad_command("future_stamp", lambda h, rig: _arrival(h, stamp_ns=h.arrival.stamp_ns + 50 * MS), _after_commands)
_bad_command("queued_too_long", lambda h, rig: _arrival(h, queued_ns=101 * MS), _after_commands)


@_kind(at_once)
def second_publisher_appears(rig: Rig) -> None:
    rig.acted()
    rig.gate.writers([Writer("aa", "safety", "/"), Writer("bb", "joint_gui", "/")])


@_kind(at_once)
def another_writer_takes_over(rig: Rig) -> None:
    """The safety node is dead and a foreign node goes on, with stolen tickets and a fast sweep."""
    rig.gate.writers([Writer("bb", "joint_gui", "/")])

    def on_hop(hop: Hop) -> list[Hop]:
        rig.acted()
        position = hop.command.position + 0.02
        return [Hop(Command(hop.command.names, position, hop.command.velocity, hop.command.stamp_ns), hop.arrival)]

    rig.on_hop = on_hop


@_kind(at_once)
def old_command_replayed(rig: Rig) -> None:
    """A recorded command of 80 ms ago, once, between the true ones."""
    kept: list[Hop] = []
    begin = rig.now + 90 * MS

    def on_hop(hop: Hop) -> list[Hop]:
        kept.append(hop)
        if rig.now < begin or rig.acted_ns is not None:
            return [hop]
        rig.acted()
        return [hop, kept[-9]]

    rig.on_hop = on_hop
