"""A filter that writes down, in order, what it is told and what it answers.

With these entries alone `replay` builds the filter again and has it do the same, bit for bit.
A tick is written down when the next call comes: never before its output is on its way.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import struct
import time
from collections import Counter
from collections.abc import Callable, Sequence

import numba
import numpy as np

from wm_bridge.core.joints import JointTable
from wm_bridge.core.kinematics import RobotDescription
from wm_bridge.core.types import Command, FloatArray, JointState, Reason, Trajectory, Verdict
from wm_bridge.safety.answers import Answer, FilterStatus
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.filter import SafetyFilter
from wm_bridge.safety.health import Health, Level
from wm_bridge.safety.obstacles import Obstacle
from wm_bridge.safety.packing import Value, pack
from wm_bridge.safety.record import Intervention

BEGIN, TICK, UNWRITABLE = "begin", "tick", "unwritable"
_Arguments = Callable[[], tuple[Value, ...]]
TABLE = ("lower", "upper", "velocity", "acceleration", "jerk")


@dataclasses.dataclass(frozen=True)
class Pages:
    """Entries that belong together: number of the first, how many, packed one after the other."""

    first: int
    count: int
    data: bytes


class Journal:
    """Entries since the last `take`, each (kind, arguments, answer)."""

    def __init__(self) -> None:
        self._first, self._count, self._data = 0, 0, bytearray()

    def add(self, kind: str, make: Callable[[], tuple[tuple[Value, ...], Value]]) -> None:
        """Write an entry; never raises: what cannot be written leaves a note that says so.

        Args:
            kind: of the entry. make: gives its arguments and the answer.
        """
        length = len(self._data)
        try:
            arguments, answer = make()
            pack((kind, arguments, answer), self._data)
        except Exception as error:  # noqa: BLE001  a journal must not stop the robot
            del self._data[length:]
            pack((UNWRITABLE, (kind, repr(error)[:200]), None), self._data)
        self._count += 1

    def take(self) -> Pages:
        """What was added since the last call."""
        pages = Pages(self._first, self._count, bytes(self._data))
        self._first, self._count, self._data = self._first + self._count, 0, bytearray()
        return pages


class JournaledFilter:
    """A `SafetyFilter` with a journal; every method is that of the filter.

    Args:
        spec, config, clock: of the filter. Readings of the clock are written down as well.
    """

    def __init__(
        self, spec: JointTable, config: SafetyConfig, clock: Callable[[], int] = time.perf_counter_ns
    ) -> None:
        self._spec, self._config, self._clock = spec, config, clock
        self._journal = Journal()
        self._readings: list[int] = []
        self._pending: tuple[int, int, Command | None, Verdict] | None = None
        self.renew()

    def renew(self) -> None:
        """Begin with a new filter, as after a start; nothing of the old one is kept."""
        self._filter = SafetyFilter(self._spec, self._config, self._read_clock)
        self._note(BEGIN, lambda: _begin(self._spec, self._config), None)

    def take_pages(self) -> Pages:
        """The journal since the last call."""
        self._write_tick()
        return self._journal.take()

    # ---- what is written down ------------------------------------------------------

    def tick(self, now_ns: int, steady_ns: int) -> tuple[Command | None, Verdict]:
        """See `SafetyFilter.tick`."""
        self._write_tick()
        command, verdict = self._filter.tick(now_ns, steady_ns)
        self._pending = now_ns, steady_ns, command, verdict
        return command, verdict

    def observe_state(self, state: JointState, now_ns: int, steady_ns: int) -> Reason:
        """See `SafetyFilter.observe_state`."""
        reason = self._filter.observe_state(state, now_ns, steady_ns)
        return self._reason("observe_state", lambda: (*self._values(state), now_ns, steady_ns), reason)

    def observe_camera(self, stamp_ns: int, digest: int, now_ns: int, steady_ns: int) -> Reason:
        """See `SafetyFilter.observe_camera`."""
        reason = self._filter.observe_camera(stamp_ns, digest, now_ns, steady_ns)
        return self._reason("observe_camera", lambda: (stamp_ns, digest, now_ns, steady_ns), reason)

    def submit(self, plan: Trajectory, now_ns: int, steady_ns: int) -> Reason:
        """See `SafetyFilter.submit`."""
        reason = self._filter.submit(plan, now_ns, steady_ns)
        return self._reason("submit", lambda: (*_plan(plan), now_ns, steady_ns), reason)

    def observe_human(self, distance_m: float, stamp_ns: int, now_ns: int) -> Reason:
        """See `Watching.observe_human`."""
        reason = self._filter.observe_human(distance_m, stamp_ns, now_ns)
        return self._reason("observe_human", lambda: (distance_m, stamp_ns, now_ns), reason)

    def observe_trust(self, trust: float, stamp_ns: int, now_ns: int) -> Reason:
        """See `Watching.observe_trust`."""
        reason = self._filter.observe_trust(trust, stamp_ns, now_ns)
        return self._reason("observe_trust", lambda: (trust, stamp_ns, now_ns), reason)

    def observe_health(self, health: Health, now_ns: int) -> Level:
        """See `Watching.observe_health`."""
        level = self._filter.observe_health(health, now_ns)
        self._note("observe_health", lambda: (*_motors(health), now_ns), int(level))
        return level

    def deadman(self, pressed: bool, now_ns: int) -> None:
        """See `Watching.deadman`."""
        self._filter.deadman(pressed, now_ns)
        self._note("deadman", lambda: (pressed, now_ns), None)

    def observe_driver(self, counter: int, now_ns: int) -> None:
        """See `Watching.observe_driver`."""
        self._filter.observe_driver(counter, now_ns)
        self._note("observe_driver", lambda: (counter, now_ns), None)

    def writers(self, found: int | Sequence[str]) -> None:
        """See `Watching.writers`."""
        self._filter.writers(found)
        self._note("writers", lambda: (found if isinstance(found, int) else tuple(found),), None)

    def stop(self, detail: str = "stop requested", reason: Reason = Reason.STOP_REQUEST) -> Answer:
        """See `SafetyFilter.stop`."""
        answer = self._filter.stop(detail, reason)
        return self._answer("stop", lambda: (detail, int(reason)), answer)

    def enable(self, on: bool) -> Answer:
        """See `SafetyFilter.enable`."""
        answer = self._filter.enable(on)
        return self._answer("enable", lambda: (on,), answer)

    def reset(self, now_ns: int, steady_ns: int) -> Answer:
        """See `SafetyFilter.reset`."""
        answer = self._filter.reset(now_ns, steady_ns)
        return self._answer("reset", lambda: (now_ns, steady_ns), answer)

    def set_reduced(self, on: bool) -> Answer:
        """See `Watching.set_reduced`."""
        answer = self._filter.set_reduced(on)
        return self._answer("set_reduced", lambda: (on,), answer)

    def add_obstacle(self, obstacle: Obstacle) -> Answer:
        """See `Watching.add_obstacle`."""
        answer = self._filter.add_obstacle(obstacle)
        return self._answer("add_obstacle", lambda: _thing(obstacle), answer)

    def remove_obstacle(self, name: str) -> Answer:
        """See `Watching.remove_obstacle`."""
        answer = self._filter.remove_obstacle(name)
        return self._answer("remove_obstacle", lambda: (name,), answer)

    def tighten(self, config: SafetyConfig) -> Answer:
        """See `SafetyFilter.tighten`; a filter that is renewed later begins with these settings."""
        answer = self._filter.tighten(config)
        if answer.ok:
            self._config = config
        return self._answer("tighten", lambda: (to_text(config),), answer)

    # ---- what changes nothing that goes out ----------------------------------------

    def status(self) -> FilterStatus:
        """See `SafetyFilter.status`."""
        return self._filter.status()

    def take_interventions(self) -> tuple[Intervention, ...]:
        """See `Watching.take_interventions`."""
        return self._filter.take_interventions()

    @property
    def obstacles(self) -> tuple[Obstacle, ...]:
        """See `Watching.obstacles`."""
        return self._filter.obstacles

    @property
    def health(self) -> tuple[Level, str]:
        """See `Watching.health`."""
        return self._filter.health

    @property
    def prepared_brake(self) -> FloatArray:
        """See `SafetyFilter.prepared_brake`."""
        return self._filter.prepared_brake

    @property
    def refusals(self) -> Counter[Reason]:
        """See `SafetyFilter.refusals`."""
        return self._filter.refusals

    # --------------------------------------------------------------------------------

    def _read_clock(self) -> int:
        now = self._clock()
        self._readings.append(now)
        return now

    def _write_tick(self) -> None:
        if self._pending is None:
            return
        now_ns, steady_ns, command, verdict = self._pending
        self._pending = None
        readings, self._readings[:] = tuple(self._readings), []
        self._journal.add(TICK, lambda: ((now_ns, steady_ns, readings), outcome(command, verdict)))

    def _note(self, kind: str, arguments: _Arguments, answer: Value) -> None:
        self._write_tick()
        self._journal.add(kind, lambda: (arguments(), answer))

    def _reason(self, kind: str, arguments: _Arguments, reason: Reason) -> Reason:
        self._note(kind, arguments, int(reason))
        return reason

    def _answer(self, kind: str, arguments: _Arguments, answer: Answer) -> Answer:
        self._note(kind, arguments, (answer.ok, answer.message))
        return answer

    def _values(self, state: JointState) -> tuple[Value, ...]:
        names = None if state.names == self._spec.joint_names else state.names
        return names, state.position, state.velocity, state.effort, state.stamp_ns


def _plan(plan: Trajectory) -> tuple[Value, ...]:
    return plan.names, plan.times_ns, plan.positions, plan.velocities, plan.stamp_ns


def _motors(health: Health) -> tuple[Value, ...]:
    return tuple(health.temperature_c), tuple(health.voltage_v), tuple(health.effort), tuple(health.errors)


def _thing(thing: Obstacle) -> tuple[Value, ...]:
    return thing.name, thing.shape, thing.size, thing.position, thing.orientation, thing.speed_bound_m_s


def outcome(command: Command | None, verdict: Verdict) -> tuple[int, int, bool, str]:
    """Mode, reasons, whether a command went out, and a fingerprint of every bit of both."""
    digest = hashlib.blake2b(digest_size=8)
    if command is not None:
        digest.update(command.position.tobytes() + command.velocity.tobytes())
        digest.update(struct.pack("<qq", command.stamp_ns, command.source_stamp_ns))
    digest.update(verdict.requested.tobytes() + verdict.output.tobytes() + verdict.detail.encode("utf-8", "surrogatepass"))
    digest.update(struct.pack("<dqq", verdict.margin, verdict.stamp_ns, verdict.duration_ns))
    return int(verdict.mode), int(verdict.reasons), command is not None, digest.hexdigest()


def _begin(spec: JointTable, config: SafetyConfig) -> tuple[Value, ...]:
    """Everything that a filter is made of, and what computes."""
    table = np.array([getattr(spec, name) for name in TABLE], dtype=np.float64)
    effort = getattr(spec, "effort", None)
    rated = None if effort is None else np.array(effort, dtype=np.float64)
    described = isinstance(spec, RobotDescription)
    urdf = (spec.base_frame, spec.urdf_path().read_text(encoding="utf-8")) if described else None  # type: ignore[attr-defined]
    return tuple(spec.joint_names), table, rated, urdf, to_text(config), computed_by()


def to_text(config: SafetyConfig) -> str:
    """Settings as they stand in a journal."""
    return json.dumps(dataclasses.asdict(config))


def from_text(text: str) -> SafetyConfig:
    """Settings of a journal.

    Raises:
        ValueError: not the settings of this version.
    """
    return SafetyConfig.from_mapping(json.loads(text))


def computed_by() -> str:
    """What may round differently elsewhere."""
    return f"numpy {np.__version__} and numba {numba.__version__} on {platform.machine()}"
