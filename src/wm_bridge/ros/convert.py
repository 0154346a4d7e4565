"""Messages to values and back. Markers are in ``markers.py``, the notes of the
safety filter in ``safety_log.py``; nothing else builds messages.

``hw/command`` is a JointState, which every tool can read; what it has no field for travels in
``header.frame_id``, since a joint command has no frame: ``source:writer:reader:counter:epoch``,
decimal numbers. ``source`` is the stamp of the camera frame behind the command in nanoseconds
(0 = none), the others are the ``Ticket`` that the driver's gate asks for.
"""

from __future__ import annotations

import array
import sys
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PointStamped, TransformStamped
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo as CameraInfoMsg
from sensor_msgs.msg import CompressedImage, Image, PointCloud2, PointField
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from transforms3d.quaternions import mat2quat
from wm_interfaces.msg import Heartbeat, JointHealth, PlanReport, SafetyState, SafetyVerdict

from wm_bridge.cameras.base import CameraInfo
from wm_bridge.core.images import decode, decompress
from wm_bridge.core.types import (
    Command,
    DepthImage,
    FloatArray,
    Frame,
    ImageArray,
    JointState,
    Reason,
    SafetyMode,
    Trajectory,
    Verdict,
    frozen_array,
)
from wm_bridge.robots.base import MotorHealth
from wm_bridge.robots.gate import CommandGate, Refusal, Ticket
from wm_bridge.safety.health import Health

S = 1_000_000_000
MS = 1e-6  # ns to ms
_PATH_FIELDS = ("x", "y", "z", "energy")


# Time ---------------------------------------------------------------------------------------


def to_time(stamp_ns: int) -> Time:
    """Nanoseconds (not negative) to a Time message."""
    return Time(sec=stamp_ns // S, nanosec=stamp_ns % S)


def from_time(stamp: Time) -> int:
    """Time (or Duration) message to nanoseconds."""
    return int(stamp.sec) * S + int(stamp.nanosec)


def to_clock(stamp_ns: int) -> Clock:
    """Simulated time for ``/clock``."""
    return Clock(clock=to_time(stamp_ns))


# Pictures -----------------------------------------------------------------------------------


def to_image(frame: Frame) -> Image:
    """Frame to an rgb8 Image."""
    height, width = frame.image.shape[:2]
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    message.header.stamp = to_time(frame.stamp_ns)
    message.header.frame_id = frame.frame_id
    # An array goes in as it is; any other sequence would be checked value by value.
    message.data = array.array("B", frame.image.tobytes())
    return message


def to_depth_image(depth: DepthImage) -> Image:
    """Depth to a 16UC1 Image, mm (REP 118)."""
    height, width = depth.depth.shape
    message = Image(height=height, width=width, encoding="16UC1", step=2 * width, is_bigendian=sys.byteorder == "big")
    message.header.stamp = to_time(depth.stamp_ns)
    message.header.frame_id = depth.frame_id
    message.data = array.array("B", depth.depth.tobytes())
    return message


def from_image(message: Image) -> Frame:
    """Image (rgb8, bgr8, mono8, rgba8, bgra8; padded rows allowed) to a Frame.

    Raises:
        ValueError: unknown encoding, or sizes that do not fit together.
    """
    image = decode(message.data, message.height, message.width, message.encoding, message.step)
    return Frame(image, from_time(message.header.stamp), message.header.frame_id)


def from_compressed(message: CompressedImage) -> Frame:
    """PNG or JPEG picture to a Frame.

    Raises:
        ValueError: another format (depth, h264), or damaged.
    """
    return Frame(decompress(bytes(message.data)), from_time(message.header.stamp), message.header.frame_id)


def to_mask(mask: ImageArray) -> Image:
    """(H, W) uint8 to a mono8 Image."""
    height, width = mask.shape
    return Image(height=height, width=width, encoding="mono8", step=width, data=array.array("B", mask.tobytes()))


def from_mask(message: Image) -> ImageArray:
    """Image to (H, W) uint8: any of its colours counts.

    Raises:
        ValueError: see ``from_image``.
    """
    return np.ascontiguousarray(from_image(message).image.max(axis=2))


def to_jpeg(frame: Frame, quality: int = 85) -> CompressedImage:
    """Frame to a JPEG picture."""
    import cv2

    bgr = np.ascontiguousarray(frame.image[:, :, ::-1])
    good, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not good:
        raise ValueError(f"OpenCV cannot encode a {frame.image.shape} picture as JPEG")
    message = CompressedImage(format="rgb8; jpeg compressed bgr8")
    message.header.stamp = to_time(frame.stamp_ns)
    message.header.frame_id = frame.frame_id
    message.data = array.array("B", data.tobytes())
    return message


def to_camera_info(info: CameraInfo, stamp_ns: int) -> CameraInfoMsg:
    """Intrinsics of a camera, stamped like the picture they belong to."""
    message = CameraInfoMsg(
        height=info.height,
        width=info.width,
        distortion_model=info.model,
        d=info.D.tolist(),
        k=info.K.ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([np.asarray(info.rectified), np.zeros((3, 1))]).ravel(),
    )
    message.header.stamp = to_time(stamp_ns)
    message.header.frame_id = info.frame_id
    return message


def from_camera_info(message: CameraInfoMsg) -> CameraInfo:
    """Intrinsics as another driver tells them; no coefficients reads as no distortion.

    Raises:
        ValueError: sizes, numbers or a distortion model that make no sense here.
    """
    model = message.distortion_model or "plumb_bob"
    D = np.array(message.d) if len(message.d) else np.zeros(4 if model == "equidistant" else 5)
    P = np.array(message.p).reshape(3, 4)[:, :3]
    rectified = P if P.any() else None
    return CameraInfo(message.width, message.height, np.array(message.k).reshape(3, 3), message.header.frame_id, D, model, rectified)


# Joints -------------------------------------------------------------------------------------


def to_joint_state(state: JointState) -> JointStateMsg:
    """Measured joints; velocity and effort are always filled."""
    message = JointStateMsg(
        name=list(state.names),
        position=_doubles(state.position),
        velocity=_doubles(state.velocity),
        effort=_doubles(state.effort),
    )
    message.header.stamp = to_time(state.stamp_ns)
    return message


def from_joint_state(message: JointStateMsg) -> JointState:
    """JointState message to a value; a missing velocity or effort reads as 0.

    Raises:
        ValueError: arrays of different lengths.
    """
    names, position = tuple(message.name), np.asarray(message.position, dtype=float)
    velocity, effort = (
        np.asarray(values, dtype=float) if len(values) else np.zeros(len(names))
        for values in (message.velocity, message.effort)
    )
    return JointState(names, position, velocity, effort, from_time(message.header.stamp))


def to_command(command: Command, ticket: Ticket | None = None) -> JointStateMsg:
    """Command to ``hw/command``; see the module for where source stamp and ticket go."""
    message = JointStateMsg(
        name=list(command.names),
        position=_doubles(command.position),
        velocity=_doubles(command.velocity),
        effort=_doubles(np.zeros(len(command.names))),
    )
    message.header.stamp = to_time(command.stamp_ns)
    message.header.frame_id = str(command.source_stamp_ns)
    if ticket is not None:
        message.header.frame_id += f":{ticket.writer}:{ticket.reader}:{ticket.counter}:{ticket.epoch}"
    return message


def from_command(message: JointStateMsg) -> Command:
    """``hw/command`` to a Command.

    Raises:
        ValueError: arrays of different lengths, or an unreadable ``header.frame_id``.
    """
    return Command(
        tuple(message.name),
        np.asarray(message.position, dtype=float),
        np.asarray(message.velocity, dtype=float),
        from_time(message.header.stamp),
        _numbers(message)[0],
    )


def source_stamp(message: JointStateMsg) -> int:
    """Stamp of the camera frame behind a ``hw/command``, nanoseconds; 0 when there is none.

    Raises:
        ValueError: an unreadable ``header.frame_id``.
    """
    return _numbers(message)[0]


def from_ticket(message: JointStateMsg) -> Ticket | None:
    """Ticket of a ``hw/command``; None when it carries none.

    Raises:
        ValueError: an unreadable ``header.frame_id``.
    """
    numbers = _numbers(message)
    return Ticket(*numbers[1:]) if len(numbers) == 5 else None


def _numbers(message: JointStateMsg) -> tuple[int, ...]:
    parts = (message.header.frame_id or "0").split(":")
    if len(parts) not in (1, 5) or not all(part.isdecimal() and len(part) <= 20 for part in parts):
        raise ValueError(
            "hw/command header.frame_id must be source:writer:reader:counter:epoch in decimal numbers, "
            f"got '{message.header.frame_id}'"
        )
    return tuple(int(part) for part in parts)


def to_heartbeat(
    gate: CommandGate, counter: int, following: bool, detail: str, stamp_ns: int
) -> Heartbeat:
    """Sign of life of the driver; see Heartbeat.msg."""
    last = gate.last
    message = Heartbeat(
        session=gate.session,
        counter=counter,
        writer=last.writer if last is not None else 0,
        heard=last.counter if last is not None else 0,
        following=following,
        latched=gate.latched is not Refusal.NONE,
        detail=detail,
    )
    message.header.stamp = to_time(stamp_ns)
    return message


def to_joint_health(health: MotorHealth, names: Sequence[str], stamp_ns: int) -> JointHealth:
    """What the motors say; see JointHealth.msg."""
    message = JointHealth(
        joint_names=list(names),
        effort=_doubles(np.asarray(health.effort)),
        temperature=_doubles(np.asarray(health.temperature)),
        voltage=_doubles(np.asarray(health.voltage)),
        error=[int(code) for code in health.error],
    )
    message.header.stamp = to_time(stamp_ns)
    return message


def from_joint_health(message: JointHealth, names: Sequence[str]) -> Health:
    """JointHealth message to what the safety filter takes; effort in the order of ``names``.

    Raises:
        ValueError: other joints, or arrays of another length than the joints.
    """
    told = list(message.joint_names)
    if sorted(told) != sorted(names):
        raise ValueError(f"driver/health names {told}, expected {list(names)}")
    for field in ("effort", "temperature", "voltage", "error"):
        if len(getattr(message, field)) not in (0, len(told)):
            raise ValueError(f"driver/health: {field} has {len(getattr(message, field))} values for {len(told)} joints")
    effort = dict(zip(told, message.effort, strict=True)) if len(message.effort) else {}
    return Health(
        temperature_c=tuple(message.temperature),
        voltage_v=tuple(message.voltage),
        effort=tuple(effort[name] for name in names) if effort else (),
        errors=tuple(f"{n} error {code}" for n, code in zip(told, message.error or [0] * len(told), strict=True) if code),
    )


def to_trajectory(plan: Trajectory) -> JointTrajectory:
    """Short plan to ``wm/action``."""
    message = JointTrajectory(joint_names=list(plan.names))
    message.header.stamp = to_time(plan.stamp_ns)
    for time_ns, position, velocity in zip(
        plan.times_ns, plan.positions, plan.velocities, strict=True
    ):
        point = JointTrajectoryPoint(positions=_doubles(position), velocities=_doubles(velocity))
        point.time_from_start.sec, point.time_from_start.nanosec = divmod(time_ns, S)
        message.points.append(point)
    return message


def from_trajectory(message: JointTrajectory) -> Trajectory:
    """``wm/action`` to a Trajectory; numbers are not judged here, shapes are.

    Raises:
        ValueError: no points, or arrays of different lengths.
    """
    points = message.points
    if not points:
        raise ValueError("JointTrajectory without points")
    count = len(message.joint_names)
    for index, point in enumerate(points):
        if len(point.positions) != count or len(point.velocities) not in (0, count):
            raise ValueError(
                f"point {index} has {len(point.positions)} positions and "
                f"{len(point.velocities)} velocities for {count} joints"
            )
    return Trajectory(
        tuple(message.joint_names),
        tuple(from_time(point.time_from_start) for point in points),
        np.array([point.positions for point in points]),
        np.array([point.velocities or np.zeros(count) for point in points]),
        from_time(message.header.stamp),
    )


# Simulator ----------------------------------------------------------------------------------


def to_numbers(values: FloatArray) -> Float64MultiArray:
    """Flat numbers to a message."""
    return Float64MultiArray(data=_doubles(values))


def from_numbers(message: Float64MultiArray) -> FloatArray:
    """The flat numbers of a message."""
    return np.array(message.data, dtype=float)


# Safety -------------------------------------------------------------------------------------


def reason_names(reasons: Reason | int) -> list[str]:
    """The single bits in words."""
    return [reason.name for reason in Reason if reason.value and reason.value & int(reasons) and reason.name]


def to_verdict(
    verdict: Verdict, names: Sequence[str], sequence: int, source_stamp_ns: int
) -> SafetyVerdict:
    """One tick of the safety filter."""
    message = SafetyVerdict(
        sequence=sequence,
        mode=int(verdict.mode),
        reasons=int(verdict.reasons),
        reason_names=reason_names(verdict.reasons) if verdict.reasons else [],
        joint_names=list(names),
        requested=_doubles(verdict.requested),
        output=_doubles(verdict.output),
        margin=float(verdict.margin),
        filter_us=verdict.duration_ns * 1e-3,
        source_age_ns=verdict.stamp_ns - source_stamp_ns if source_stamp_ns else -1,
        detail=verdict.detail,
    )
    message.header.stamp = to_time(verdict.stamp_ns)
    return message


def to_safety_state(
    mode: SafetyMode,
    reasons: Reason,
    enabled: bool,
    latched: bool,
    ticks: int,
    interventions: int,
    refused: int,
    detail: str,
    stamp_ns: int,
) -> SafetyState:
    """Summary of the safety filter."""
    message = SafetyState(
        mode=int(mode),
        mode_name=mode.name,
        reasons=int(reasons),
        reason_names=reason_names(reasons),
        enabled=enabled,
        latched=latched,
        ticks=ticks,
        interventions=interventions,
        refused=refused,
        detail=detail,
    )
    message.header.stamp = to_time(stamp_ns)
    return message


# Plans --------------------------------------------------------------------------------------


def to_report(
    plan: object, stamp_ns: int, sequence: int, progress: float, total_ms: float, budget_ms: float
) -> PlanReport:
    """A plan of ``wm_planner`` (see docs/contracts.md) as numbers."""
    numbers = (
        "energy goal_energy distance_m object_distance_m joint_distance_rad trust trust_score".split()
    )
    planned_ms = 1e3 * (plan.preprocess_s + plan.encode_s + plan.optimise_s)  # type: ignore[attr-defined]
    message = PlanReport(
        sequence=sequence,
        energy_per_iteration=[float(value) for value in plan.energy_per_iteration],  # type: ignore[attr-defined]
        progress=float(progress),
        samples=int(plan.samples),  # type: ignore[attr-defined]
        iterations=int(plan.iterations),  # type: ignore[attr-defined]
        horizon=len(plan.predicted_hand),  # type: ignore[attr-defined]
        nan_costs=int(plan.nan_costs),  # type: ignore[attr-defined]
        preprocess_ms=plan.preprocess_s * 1e3,  # type: ignore[attr-defined]
        encode_ms=plan.encode_s * 1e3,  # type: ignore[attr-defined]
        plan_ms=plan.optimise_s * 1e3,  # type: ignore[attr-defined]
        total_ms=float(total_ms),
        budget_ms=float(budget_ms),
        budget_used=planned_ms / budget_ms if budget_ms > 0.0 else 0.0,
        deadline_met=bool(plan.deadline_met),  # type: ignore[attr-defined]
        trust_state=int(plan.trust_state),  # type: ignore[attr-defined]
        trust_cause=str(plan.trust_cause),  # type: ignore[attr-defined]
        **{name: float(getattr(plan, name)) for name in numbers},
    )
    message.header.stamp = to_time(stamp_ns)
    return message


def to_paths(
    hands: FloatArray, energies: FloatArray, stamp_ns: int, frame_id: str
) -> PointCloud2:
    """Hand paths as an organised cloud: one row per path, the first is the chosen one.

    Args:
        hands: (P, H, 3) positions, m. energies: (P,) energy of each path.
    """
    count, length = hands.shape[:2]
    data = np.empty((count, length, 4), dtype=np.float32)
    data[..., :3] = hands
    data[..., 3] = np.asarray(energies)[:, None]
    message = PointCloud2(
        height=count,
        width=length,
        fields=[
            PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
            for index, name in enumerate(_PATH_FIELDS)
        ],
        point_step=16,
        row_step=16 * length,
        is_dense=bool(np.isfinite(data).all()),
        data=array.array("B", data.tobytes()),
    )
    message.header.stamp = to_time(stamp_ns)
    message.header.frame_id = frame_id
    return message


def from_paths(message: PointCloud2) -> tuple[FloatArray, FloatArray]:
    """Undo ``to_paths``: (P, H, 3) hands and (P,) energies.

    Raises:
        ValueError: another layout.
    """
    names = tuple(field.name for field in message.fields)
    size = message.height * message.width * 16
    if names != _PATH_FIELDS or message.point_step != 16 or len(message.data) != size:
        raise ValueError(f"expected a cloud of {_PATH_FIELDS} float32, got {names}")
    values = np.frombuffer(message.data, dtype=np.float32)
    values = values.reshape(message.height, message.width, 4).astype(float)
    energies = values[:, 0, 3] if message.width else np.zeros(message.height)
    return frozen_array(values[..., :3]), frozen_array(energies)


def to_point(position: FloatArray, stamp_ns: int, frame_id: str) -> PointStamped:
    """One (3,) position, m."""
    message = PointStamped()
    message.header.stamp = to_time(stamp_ns)
    message.header.frame_id = frame_id
    message.point.x, message.point.y, message.point.z = (float(value) for value in position)
    return message


# Frames -------------------------------------------------------------------------------------


def to_transform(
    parent: str, child: str, T: FloatArray, stamp_ns: int
) -> TransformStamped:
    """(4, 4) ``T_parent_child`` to a stamped transform."""
    return to_transform_parts(parent, child, T[:3, 3], quaternion(T[:3, :3]), stamp_ns)


def to_transform_parts(
    parent: str, child: str, xyz: FloatArray, xyzw: FloatArray, stamp_ns: int
) -> TransformStamped:
    """Translation (3,) and quaternion (4,) x, y, z, w to a stamped transform."""
    message = TransformStamped(child_frame_id=child)
    message.header.stamp = to_time(stamp_ns)
    message.header.frame_id = parent
    place, turn = message.transform.translation, message.transform.rotation
    place.x, place.y, place.z = (float(value) for value in xyz)
    turn.x, turn.y, turn.z, turn.w = (float(value) for value in xyzw)
    return message


def quaternion(R: FloatArray) -> FloatArray:
    """(3, 3) rotation to a unit quaternion x, y, z, w (ROS order)."""
    w, x, y, z = mat2quat(R)
    return np.array([x, y, z, w])


def as_picture(message: Image) -> ImageArray:
    """The RGB pixels of an Image; see ``from_image``."""
    return from_image(message).image


def _doubles(values: FloatArray) -> array.array[float]:
    return array.array("d", np.ascontiguousarray(values, dtype=np.float64).tobytes())
