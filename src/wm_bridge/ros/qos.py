"""Every topic of the graph in one table: type, QoS, who writes it, whether it is recorded."""

# rclpy is annotated in parts only.
# mypy: disable-error-code="no-untyped-call,attr-defined"

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


@dataclass(frozen=True)
class Topic:
    """One topic.

    Attributes:
        name: relative, except for the global ones of ROS (``/tf``, ``/clock`` ...).
        type: for example ``sensor_msgs/msg/Image``.
        writer: node that writes it; "" = every node, or tools outside of the graph.
        reliable: retransmits; False = sensor data, the newest counts.
        latched: late joiners get the last message.
        depth: messages kept.
        deadline_ms: promised longest gap; 0 = none.
        recorded: goes into the bag.
        on_request: written only where a parameter asks for it.
    """

    name: str
    type: str
    writer: str
    reliable: bool = True
    latched: bool = False
    depth: int = 1
    deadline_ms: int = 0
    recorded: bool = True
    on_request: bool = False


TOPICS = (
    Topic("camera/image_raw", "sensor_msgs/msg/Image", "camera", reliable=False),
    Topic("camera/image_raw/compressed", "sensor_msgs/msg/CompressedImage", "camera", reliable=False, on_request=True),
    Topic("camera/image_rect", "sensor_msgs/msg/Image", "camera", reliable=False, on_request=True),
    Topic("camera/depth/image_raw", "sensor_msgs/msg/Image", "camera", reliable=False, on_request=True),
    Topic("camera/camera_info", "sensor_msgs/msg/CameraInfo", "camera", reliable=False),
    Topic("joint_states", "sensor_msgs/msg/JointState", "driver"),
    Topic("sim/state", "std_msgs/msg/Float64MultiArray", "driver", reliable=False),
    Topic("sim/set_joints", "sensor_msgs/msg/JointState", ""),
    Topic("robot_description", "std_msgs/msg/String", "driver", latched=True),
    Topic("wm/action", "trajectory_msgs/msg/JointTrajectory", "planner"),
    Topic("wm/report", "wm_interfaces/msg/PlanReport", "planner", depth=10),
    Topic("wm/paths", "sensor_msgs/msg/PointCloud2", "planner"),
    Topic("wm/goal", "sensor_msgs/msg/Image", "planner", latched=True),
    Topic("wm/goal_hand", "geometry_msgs/msg/PointStamped", "planner", latched=True),
    Topic("wm/request", "std_msgs/msg/String", "planner", latched=True),
    Topic("wm/landscape", "visualization_msgs/msg/MarkerArray", "planner", recorded=False, on_request=True),
    Topic("wm/plan", "visualization_msgs/msg/MarkerArray", "viz"),
    Topic("hw/command", "sensor_msgs/msg/JointState", "safety", deadline_ms=50),
    Topic("driver/heartbeat", "wm_interfaces/msg/Heartbeat", "driver", recorded=False),
    Topic("safety/verdict", "wm_interfaces/msg/SafetyVerdict", "safety", latched=True),
    Topic("safety/state", "wm_interfaces/msg/SafetyState", "safety", latched=True),
    Topic("safety/journal", "wm_interfaces/msg/SafetyJournal", "safety", latched=True, depth=240),  # a minute
    Topic("safety/interventions", "wm_interfaces/msg/SafetyInterventions", "safety", depth=20),
    Topic("driver/health", "wm_interfaces/msg/JointHealth", "driver"),
    Topic("safety/human_distance", "sensor_msgs/msg/Range", "", depth=5),
    Topic("safety/deadman", "std_msgs/msg/Bool", ""),
    Topic("safety/obstacles", "visualization_msgs/msg/MarkerArray", "safety", latched=True),
    Topic("safety/markers", "visualization_msgs/msg/MarkerArray", "viz", latched=True),
    Topic("goal/image_path", "std_msgs/msg/String", ""),
    Topic("goal/request", "std_msgs/msg/String", "", depth=5, recorded=False),
    Topic("goal_pose", "geometry_msgs/msg/PoseStamped", "", depth=5, recorded=False),  # what was asked for is on wm/request
    Topic("clicked_point", "geometry_msgs/msg/PointStamped", "", depth=5, recorded=False),
    Topic("goal/marker/feedback", "visualization_msgs/msg/InteractiveMarkerFeedback", "", depth=100, recorded=False),
    Topic("goal/marker/update", "visualization_msgs/msg/InteractiveMarkerUpdate", "goal", depth=100, recorded=False),
    Topic("goal/status", "std_msgs/msg/String", "goal", latched=True),
    Topic("record/mark", "std_msgs/msg/String", "", depth=10),
    Topic("/clock", "rosgraph_msgs/msg/Clock", "driver", reliable=False),
    Topic("/tf", "tf2_msgs/msg/TFMessage", "", depth=100),
    Topic("/tf_static", "tf2_msgs/msg/TFMessage", "", latched=True, depth=100),
    Topic("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", "", depth=10),
)
CONTROL_RATE = frozenset({"joint_states", "hw/command", "safety/verdict"})  # a hundred a second
_CAMERA = "camera/"
_BY_NAME = {topic.name: topic for topic in TOPICS}


def topic(name: str) -> Topic:
    """Return the row of this name; an unknown name lists the known ones.

    Every camera node has topics of its own: ``left_eye/image_raw`` is like ``camera/image_raw``.
    """
    camera, _, rest = name.strip("/").partition("/")
    if name not in _BY_NAME and camera and f"{_CAMERA}{rest}" in _BY_NAME:
        return replace(_BY_NAME[f"{_CAMERA}{rest}"], name=name, writer=camera)
    if name not in _BY_NAME:
        raise KeyError(f"no topic {name!r} in wm_bridge.ros.qos; known are {sorted(_BY_NAME)}")
    return _BY_NAME[name]


def of_camera(name: str, camera: str) -> str:
    """A topic of ``camera/`` as that of another camera node; other topics stay as they are."""
    return f"{camera}/{name.removeprefix(_CAMERA)}" if name.startswith(_CAMERA) else name


def require_pictures(name: str) -> None:
    """Raise ValueError when this is no topic of uncompressed pictures of a camera node."""
    if name.strip("/").partition("/")[2] not in ("image_raw", "image_rect"):
        raise ValueError(f"image_topic must be CAMERA/image_raw or CAMERA/image_rect, got '{name}'")


def rows(cameras: Sequence[str] = ("camera",)) -> tuple[Topic, ...]:
    """The topics of a graph with these camera nodes."""
    found = [row for row in TOPICS if not row.name.startswith(_CAMERA)]
    return tuple(topic(of_camera(row.name, camera)) for camera in cameras for row in TOPICS if row not in found) + tuple(found)


def message_type(name: str) -> Any:
    """Return the message class of a topic."""
    return message_class(topic(name).type)


def message_class(kind: str) -> Any:
    """Return the class of a message type such as ``sensor_msgs/msg/Image``.

    Raises:
        ImportError, AttributeError, ValueError: it is not installed.
    """
    package, _, name = kind.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), name)


def profile(name: str) -> QoSProfile:
    """Return the QoS that writers and readers of a topic use."""
    row = topic(name)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=row.depth,
        reliability=ReliabilityPolicy.RELIABLE if row.reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if row.latched else DurabilityPolicy.VOLATILE,
        deadline=Duration(nanoseconds=row.deadline_ms * 1_000_000),
    )


def monitor_profile(name: str, depth: int = 100) -> QoSProfile:
    """QoS for onlookers (bag, tests): what is offered, a deeper queue, no deadline asked for."""
    wanted = profile(name)
    wanted.depth = max(depth, wanted.depth)
    wanted.deadline = Duration()
    return wanted


def mailbox_profile(name: str, depth: int) -> QoSProfile:
    """QoS for readers that look now and then: a deep queue, and no acknowledgements at control rate.

    A reliable reader answers every message, in its process and in the writer's. Of a
    hundred a second the next one is as good as the one that was lost.
    """
    wanted = monitor_profile(name, depth)
    if name in CONTROL_RATE:
        wanted.reliability = ReliabilityPolicy.BEST_EFFORT
        wanted.durability = DurabilityPolicy.VOLATILE
    return wanted
