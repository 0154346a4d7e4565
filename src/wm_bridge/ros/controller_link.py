"""ros2_control over ROS: joint states in, trajectories or positions out."""

from __future__ import annotations

import time

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSPresetProfiles
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from wm_bridge.core.types import FloatArray, JointState, Trajectory
from wm_bridge.errors import UserError
from wm_bridge.ros import convert

_SILENT_S = 0.2
_TAILS = {"trajectory": "joint_trajectory", "position": "commands"}


class ControllerLink:
    """``robots.ros2_control.ControllerLink`` of one controller.

    Args:
        node: subscribes and publishes. state_topic: of the joint_state_broadcaster, usually /joint_states.
        controller: name, for example arm_controller. interface: see ``ControllerSettings``.
        patience_s: how long is waited for both when it is made.

    Raises:
        UserError: the node would hear itself on ``state_topic``.
    """

    def __init__(self, node: Node, state_topic: str, controller: str, interface: str, patience_s: float) -> None:
        self._newest: JointState | None = None
        self._heard = 0.0
        self._malformed = ""
        self._topic = node.resolve_topic_name(state_topic)
        if self._topic == node.resolve_topic_name("joint_states"):
            raise UserError(
                f"the robot's joint states come on {self._topic}, on which this graph publishes its own",
                "start the graph in a namespace (--ros-args -r __ns:=/wm), or the robot's driver",
                2,
            )
        kind = JointTrajectory if interface == "trajectory" else Float64MultiArray
        self._out = node.create_publisher(kind, f"{controller}/{_TAILS[interface]}", 1)
        node.create_subscription(JointStateMsg, self._topic, self._on_state, QoSPresetProfiles.SENSOR_DATA.value)
        executor, end = SingleThreadedExecutor(context=node.context), time.monotonic() + patience_s
        while self.missing() and time.monotonic() < end:  # nothing is spinning yet
            rclpy.spin_once(node, executor=executor, timeout_sec=0.1)
        executor.shutdown()

    def newest(self) -> JointState | None:
        """See the protocol."""
        return self._newest

    def missing(self) -> str:
        """See the protocol."""
        if self._malformed:
            return self._malformed
        if self._newest is None:
            return f"no joint states on {self._topic}"
        if time.monotonic() - self._heard > _SILENT_S:
            return f"no joint states on {self._topic} for {_SILENT_S:.1f} s"
        return "" if self._out.get_subscription_count() else f"nobody takes commands on {self._out.topic_name}"

    def send_trajectory(self, trajectory: Trajectory) -> None:
        """See the protocol."""
        self._out.publish(convert.to_trajectory(trajectory))

    def send_positions(self, names: tuple[str, ...], position: FloatArray) -> None:
        """See the protocol; the controller's joints have to be in this order."""
        self._out.publish(Float64MultiArray(data=position.tolist()))

    def _on_state(self, message: JointStateMsg) -> None:
        try:
            self._newest, self._malformed = convert.from_joint_state(message), ""
            self._heard = time.monotonic()
        except ValueError as error:
            self._malformed = f"joint states on {self._topic} are malformed: {error}"
