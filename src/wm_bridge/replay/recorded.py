"""What a replay needs of a bag, in the order in which it was recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wm_bridge.bags.messages import header_ns
from wm_bridge.bags.reader import opened
from wm_bridge.bags.stamps import findings
from wm_bridge.bags.topics import COMPRESSED, IMAGE, JOINTS, contents, find
from wm_bridge.core.goal import GoalConfig
from wm_bridge.core.goal_kinds import GoalKind, PictureGoal
from wm_bridge.core.goal_record import GoalRecord, from_text
from wm_bridge.core.images import decode, decompress
from wm_bridge.core.plan_step import PlanLoopConfig
from wm_bridge.core.types import Command, ImageArray, JointState, Trajectory
from wm_bridge.errors import UserError
from wm_bridge.safety.journal import Pages
from wm_bridge.safety.replay import same_bits

S = 1_000_000_000
CAMERA = "camera/image_raw"


@dataclass(frozen=True)
class Picture:
    """A recorded picture, still encoded. ``log_ns``: when it was recorded."""

    stamp_ns: int
    log_ns: int
    frame_id: str
    data: bytes
    raw: tuple[int, int, str, int] | None  # height, width, encoding, step; None: PNG or JPEG

    def decoded(self) -> ImageArray:
        """(H, W, 3) uint8 RGB.

        Raises:
            ValueError: damaged, or of an unknown encoding.
        """
        return decompress(self.data) if self.raw is None else decode(self.data, *self.raw)


@dataclass(frozen=True)
class RecordedGoal:
    """A goal, when it was recorded, and the stamps of the pictures that were planned from."""

    record: GoalRecord
    log_ns: int
    frames: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class RecordedPlan:
    """The numbers of a recorded plan, see wm_interfaces/msg/PlanReport."""

    goal_energy: float
    energy: float
    trust: float
    total_ms: float
    iterations: int
    deadline_met: bool


@dataclass
class Session:
    """What one start of the safety node left in a bag.

    Attributes:
        pages: its journal. sent: hw/command by counter, the first where one came more than once.
        repeated: counters of those that came once more, the same. contradicted: with another content.
    """

    pages: list[Pages] = field(default_factory=list)
    sent: dict[int, Command] = field(default_factory=dict)
    repeated: list[int] = field(default_factory=list)
    contradicted: list[int] = field(default_factory=list)

    def add(self, counter: int, command: Command) -> None:
        """One more hw/command."""
        first = self.sent.setdefault(counter, command)
        if first is not command:
            (self.repeated if same_bits(first, command) else self.contradicted).append(counter)


@dataclass
class Recorded:
    """A bag.

    Attributes:
        pictures, joints, commands: in recorded order; the latter two with the time of recording, ns.
        goals: with the pictures that were planned from for each of them.
        plans, actions: by the stamp of their picture.
        sessions: of the safety node, by their numbers.
        simulated: of a simulated robot. robot: its name, "" = not recorded.
        begin_ns, end_ns: first and last message. notes: what is wrong or odd, in sentences.
    """

    pictures: list[Picture] = field(default_factory=list)
    joints: list[tuple[int, JointState]] = field(default_factory=list)
    commands: list[tuple[int, Command]] = field(default_factory=list)
    goals: list[RecordedGoal] = field(default_factory=list)
    plans: dict[int, RecordedPlan] = field(default_factory=dict)
    actions: dict[int, Trajectory] = field(default_factory=dict)
    sessions: dict[int, Session] = field(default_factory=dict)
    simulated: bool = False
    begin_ns: int = 0
    end_ns: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def duration_s(self) -> float:
        """From the first message to the last."""
        return (self.end_ns - self.begin_ns) / S


def read(bag: Path, namespace: str = "", camera: str = "") -> Recorded:
    """Read a bag, as far as it can be read; what is odd is told in ``notes``.

    Args:
        bag: folder or file of a bag. namespace: of the graph that was recorded. camera: topic of the pictures,
            without ``/compressed``; "" = the one that was planned from.

    Raises:
        UserError: no such bag, or nothing in it that is a message.
    """
    recorded = Recorded()
    try:
        with opened(bag) as (reader, note):
            recorded.notes += [note] if note else []
            camera = camera or _planned_from(reader, namespace)
            _read(reader, recorded, namespace, camera)
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001  foreign files raise anything
        raise UserError(f"{bag} cannot be read: {error}", "name the folder of a bag, or its mcap or db3 file", 2) from error
    recorded.sessions = {number: session for number, session in recorded.sessions.items() if session.pages}
    _judge(recorded, camera)
    return recorded


def _read(reader: Any, recorded: Recorded, namespace: str, camera: str) -> None:
    takers: dict[str, Callable[[Recorded, int, Any], None]] = {}
    chosen: list[Any] = []

    def want(name: str, types: Sequence[str], take: Callable[[Recorded, int, Any], None]) -> bool:
        connections, problem = find(reader.connections, name, types, namespace)
        recorded.notes += [problem] if problem else []
        takers.update({c.topic: take for c in connections})
        chosen.extend(connections)
        return bool(connections)

    if not want(f"{camera}/compressed", (COMPRESSED,), _picture):
        want(camera, (IMAGE, COMPRESSED), _picture)
    want("joint_states", (JOINTS,), _joints)
    want("hw/command", (JOINTS,), _command)
    want("wm/report", ("wm_interfaces/msg/PlanReport",), _report)
    want("wm/action", ("trajectory_msgs/msg/JointTrajectory",), _action)
    want("safety/journal", ("wm_interfaces/msg/SafetyJournal",), _journal)
    if not want("wm/request", ("std_msgs/msg/String",), _request) and want("wm/goal", (IMAGE,), _goal):
        recorded.notes.append("the bag lacks wm/request: goals are taken from the pictures on wm/goal, with the planner's usual settings")
    recorded.simulated = any(c.topic.strip("/").endswith(("sim/state", "clock")) for c in reader.connections)
    if not chosen:
        raise UserError(f"the bag holds no topic of the graph; it holds {contents(reader.connections)}", "name its topics: --namespace, --camera", 2)
    recorded.begin_ns, recorded.end_ns = reader.start_time, reader.end_time
    damaged: dict[str, int] = {}
    last = reader.start_time
    try:
        for connection, log_ns, data in reader.messages(chosen):
            last = log_ns
            try:
                takers[connection.topic](recorded, log_ns, reader.deserialize(data, connection.msgtype))
            except Exception:  # noqa: BLE001  one message that makes no sense
                damaged[connection.topic] = damaged.get(connection.topic, 0) + 1
    except Exception as error:  # noqa: BLE001  the rest of the file
        recorded.notes.append(f"the bag cannot be read further than {(last - recorded.begin_ns) / S:.2f} s: {error}")
        recorded.end_ns = last
    recorded.notes += [f"{topic}: {count} message{'s' * (count > 1)} could not be understood and {'are' if count > 1 else 'is'} left out" for topic, count in damaged.items()]


def _planned_from(reader: Any, namespace: str) -> str:
    """Topic of the pictures that the planner node says it plans from."""
    connections, _ = find(reader.connections, "wm/request", ("std_msgs/msg/String",), namespace)
    for connection, _, data in reader.messages(connections) if connections else ():
        try:
            return str(from_text(str(reader.deserialize(data, connection.msgtype).data)).planner.get("image_topic") or CAMERA)
        except ValueError:
            continue
    return CAMERA


def _judge(recorded: Recorded, camera: str) -> None:
    """Notes about times."""
    if recorded.pictures:
        stamps, logged = zip(*((p.stamp_ns, p.log_ns) for p in recorded.pictures), strict=True)
        recorded.notes += findings(camera, stamps, logged, recorded.begin_ns)
    if recorded.joints:
        stamps, logged = zip(*((state.stamp_ns, log_ns) for log_ns, state in recorded.joints), strict=True)
        recorded.notes += findings("joint_states", stamps, logged, recorded.begin_ns)


def _picture(recorded: Recorded, log_ns: int, message: Any) -> None:
    raw = (int(message.height), int(message.width), str(message.encoding), int(message.step)) if hasattr(message, "encoding") else None
    recorded.pictures.append(Picture(header_ns(message), log_ns, str(message.header.frame_id), bytes(message.data), raw))


def _joints(recorded: Recorded, log_ns: int, message: Any) -> None:
    names = tuple(message.name)
    values = (np.asarray(v, dtype=float) if len(v) else np.zeros(len(names)) for v in (message.velocity, message.effort))
    recorded.joints.append((log_ns, JointState(names, np.asarray(message.position, dtype=float), *values, header_ns(message))))


def _command(recorded: Recorded, log_ns: int, message: Any) -> None:
    numbers = str(message.header.frame_id).split(":")
    ours = all(number.isdecimal() for number in numbers)
    position = np.asarray(message.position, dtype=float)
    velocity = np.asarray(message.velocity, dtype=float) if len(message.velocity) else np.zeros(len(position))
    command = Command(tuple(message.name), position, velocity, header_ns(message), int(numbers[0]) if ours else 0)
    recorded.commands.append((log_ns, command))
    if ours and len(numbers) == 5:
        recorded.sessions.setdefault(int(numbers[1]), Session()).add(int(numbers[3]), command)


def _report(recorded: Recorded, _: int, message: Any) -> None:
    stamp = header_ns(message)
    recorded.plans[stamp] = RecordedPlan(
        float(message.goal_energy), float(message.energy), float(message.trust), float(message.total_ms), int(message.iterations), bool(message.deadline_met)
    )
    if recorded.goals:
        recorded.goals[-1].frames.append(stamp)


def _action(recorded: Recorded, _: int, message: Any) -> None:
    points = message.points
    times = tuple(int(p.time_from_start.sec) * S + int(p.time_from_start.nanosec) for p in points)
    names = tuple(message.joint_names)
    positions = np.array([p.positions for p in points], dtype=float).reshape(len(points), len(names))
    velocities = np.array([p.velocities if len(p.velocities) else np.zeros(len(names)) for p in points]).reshape(positions.shape)
    stamp = header_ns(message)
    # The report of a plan comes after it; what has the same stamp and comes later is the rest of a goal that was cancelled.
    if stamp not in recorded.plans or stamp not in recorded.actions:
        recorded.actions[stamp] = Trajectory(names, times, positions, velocities, stamp)


def _journal(recorded: Recorded, _: int, message: Any) -> None:
    recorded.sessions.setdefault(int(message.session), Session()).pages.append(Pages(int(message.first), int(message.count), bytes(message.entries)))


def _request(recorded: Recorded, log_ns: int, message: Any) -> None:
    recorded.goals.append(RecordedGoal(from_text(str(message.data)), log_ns))


def _goal(recorded: Recorded, log_ns: int, message: Any) -> None:
    """A goal of a bag without ``wm/request``: its picture, with usual settings."""
    picture = decode(bytes(message.data), message.height, message.width, message.encoding, message.step)
    recorded.goals.append(RecordedGoal(usual_goal((PictureGoal(picture),), len(recorded.goals) + 1), log_ns))


def usual_goal(stages: tuple[GoalKind, ...], number: int = 1) -> GoalRecord:
    """A goal with the settings that the planner node has by itself."""
    return GoalRecord(stages, GoalConfig(tolerance_m=0.015), PlanLoopConfig(), number)
