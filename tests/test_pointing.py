"""Places that people point at in RViz: goals within frame and workspace only, through the planner's action; the marker's protocol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import rclpy
from conftest import wait_until
from geometry_msgs.msg import PointStamped, PoseStamped
from rclpy.action import ActionServer, CancelResponse
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import String
from visualization_msgs.msg import InteractiveMarkerFeedback as Feedback
from visualization_msgs.msg import InteractiveMarkerUpdate as Update
from visualization_msgs.srv import GetInteractiveMarkers
from wm_interfaces.action import ReachGoal

from wm_bridge.cli.domain import claim_domain_id
from wm_bridge.core.pointed import ABOVE_M, above, check_frame, is_flat, place_goal
from wm_bridge.nodes.goal import GoalNode
from wm_bridge.robots import spec as robots
from wm_bridge.ros import qos
from wm_bridge.ros.goal_marker import CANCEL, GO, GO_TURNED, NAME

BOX = robots.load("nico").workspaces["right_arm"]
WORKSPACE = (BOX.lower, BOX.upper)
INSIDE = (0.3, -0.2, 0.8)


# Places -----------------------------------------------------------------------------------------


def test_a_place_outside_of_the_workspace_or_not_finite_is_refused() -> None:
    assert np.array_equal(place_goal(np.array(INSIDE), None, WORKSPACE).position, INSIDE)
    for axis in range(3):
        for corner, out in ((BOX.lower, -1e-6), (BOX.upper, 1e-6)):
            place = np.array(INSIDE)
            place[axis] = corner[axis]
            place_goal(place, None, WORKSPACE)
            place[axis] += out
            with pytest.raises(ValueError, match="outside of the workspace"):
                place_goal(place, None, WORKSPACE)
    with pytest.raises(ValueError, match="finite"):
        place_goal(np.array([0.3, np.nan, 0.8]), None, WORKSPACE)


def test_an_orientation_that_is_none_is_refused() -> None:
    turned = place_goal(np.array(INSIDE), np.array([0.0, 0.0, 0.5**0.5, 0.5**0.5]), WORKSPACE)
    assert turned.rotation is not None and np.allclose(turned.rotation @ [1, 0, 0], [0, 1, 0])
    with pytest.raises(ValueError):
        place_goal(np.array(INSIDE), np.zeros(4), WORKSPACE)


@pytest.mark.parametrize("frame", ["", "map", "right/base_link", "base_link_2"])
def test_another_frame_is_refused_with_both_names(frame: str) -> None:
    check_frame("/base_link", "base_link")
    with pytest.raises(ValueError, match=f"frame '{frame}'; give it in 'base_link'"):
        check_frame(frame, "base_link")


def test_a_click_means_the_place_above_it_and_never_below_the_workspace() -> None:
    assert above(np.array([0.3, -0.2, 0.7]), WORKSPACE)[2] == pytest.approx(0.7 + ABOVE_M)
    assert above(np.array([0.3, -0.2, 0.0]), WORKSPACE)[2] == BOX.lower[2]
    assert is_flat(np.zeros(3), np.array([0, 0, 0.6, 0.8])) and not is_flat(np.array([0, 0, 0.1]), np.array([0, 0, 0, 1.0]))
    assert not is_flat(np.zeros(3), np.array([0.6, 0, 0, 0.8])) and not is_flat(np.zeros(3), np.array([0, 0.6, 0, 0.8])), "tilted: the tool's own pose"


# The goal node ------------------------------------------------------------------------------------


class Rviz:
    """What RViz and the planner do, in the thread of the test: the planner takes every goal and ends it when cancelled."""

    def __init__(self) -> None:
        self.node = rclpy.create_node("rviz")
        self.goal = GoalNode()
        self.goals: list[Any] = []
        self.updates: list[Update] = []
        self._executor = SingleThreadedExecutor()
        for node in (self.node, self.goal):
            self._executor.add_node(node)
        ActionServer(self.node, ReachGoal, "wm/reach_goal", self._pursue, cancel_callback=lambda _: CancelResponse.ACCEPT)
        self.node.create_subscription(Update, "goal/marker/update", self.updates.append, 100)
        self.pose, self.point, self.feedback = (
            self.node.create_publisher(kind, name, 10) for kind, name in ((PoseStamped, "goal_pose"), (PointStamped, "clicked_point"), (Feedback, "goal/marker/feedback"))
        )
        readers = (self.pose, self.point, self.feedback)
        self.until(lambda: all(item.get_subscription_count() for item in readers) and self.goal._sender.ready, "the goal node is found")

    async def _pursue(self, handle: Any) -> ReachGoal.Result:
        self.goals.append(handle)
        done = rclpy.task.Future()
        timer = self.node.create_timer(0.02, lambda: done.set_result(True) if handle.is_cancel_requested else None)
        await done
        self.node.destroy_timer(timer)
        handle.canceled()
        return ReachGoal.Result(outcome=3, message="by a person")

    def until(self, condition: Any, what: str) -> None:
        def spun() -> bool:
            self._executor.spin_once(timeout_sec=0.02)
            return bool(condition())

        wait_until(spun, 20.0, what)

    def asked(self, number: int) -> Any:
        """The request of a goal, from 1, once it is there."""
        self.until(lambda: len(self.goals) >= number, f"goal {number}")
        assert len(self.goals) == number
        return self.goals[-1].request

    def markers(self) -> GetInteractiveMarkers.Response:
        client = self.node.create_client(GetInteractiveMarkers, "goal/marker/get_interactive_markers")
        self.until(client.service_is_ready, "the marker's service")
        future = client.call_async(GetInteractiveMarkers.Request())
        self.until(future.done, "the markers")
        return future.result()

    def do(self, kind: int, place: tuple[float, float, float] = INSIDE, menu: int = 0, who: str = "me", frame: str = "base_link") -> None:
        message = Feedback(marker_name=NAME, client_id=who, event_type=kind, menu_entry_id=menu)
        message.header.frame_id = frame
        message.pose.position.x, message.pose.position.y, message.pose.position.z = place
        message.pose.orientation.z = message.pose.orientation.w = 0.5**0.5
        self.feedback.publish(message)

    def status(self) -> str:
        """What a late joiner is told."""
        heard: list[str] = []
        late = self.node.create_subscription(String, "goal/status", lambda message: heard.append(message.data), qos.profile("goal/status"))
        self.until(lambda: heard, "the latched status")
        self.node.destroy_subscription(late)
        return heard[-1]

    def close(self) -> None:
        self._executor.shutdown()
        for node in (self.goal, self.node):
            node.destroy_node()


@pytest.fixture
def rviz(request: pytest.FixtureRequest) -> Iterator[Rviz]:
    """``indirect`` parameters: those of the goal node, as NAME:=VALUE."""
    given = [word for value in getattr(request, "param", ()) for word in ("-p", value)]
    with claim_domain_id() as domain:
        rclpy.init(args=["--ros-args", *given] if given else None, domain_id=domain)
        made = Rviz()
        yield made
        made.close()
        rclpy.shutdown()


def pose(place: tuple[float, float, float], frame: str = "base_link") -> PoseStamped:
    message = PoseStamped()
    message.header.frame_id = frame
    message.pose.position.x, message.pose.position.y, message.pose.position.z = place
    return message


def place_of(request: Any) -> tuple[float, float, float]:
    place = request.pose.pose.position
    return place.x, place.y, place.z


def test_goal_pose_and_clicked_point_become_goals_and_what_is_wrong_is_refused(rviz: Rviz) -> None:
    rviz.pose.publish(pose(INSIDE))
    assert place_of(rviz.asked(1)) == INSIDE and not rviz.goals[0].request.turn and rviz.goals[0].request.kind == 2
    click = PointStamped()
    click.header.frame_id, click.point.x, click.point.y, click.point.z = "base_link", 0.35, -0.1, 0.62
    rviz.point.publish(click)
    assert place_of(rviz.asked(2)) == pytest.approx((0.35, -0.1, 0.68))
    rviz.pose.publish(pose((0.3, 0.0, 0.0)))  # RViz's 2D tool: the height that the marker has now
    assert place_of(rviz.asked(3)) == pytest.approx((0.3, 0.0, 0.68))
    rviz.until(lambda: rviz.goal._sender.text == "running", "the goal runs")
    assert rviz.status() == "running"
    for wrong, why in ((pose(INSIDE, "map"), "frame 'map'"), (pose(INSIDE, ""), "frame ''"), (pose((0.3, -0.2, 2.0)), "outside of the workspace"), (pose((np.nan, 0.0, 0.8)), "finite")):
        rviz.pose.publish(wrong)
        rviz.until(lambda: why in rviz.goal._sender.text, why)  # noqa: B023
        assert rviz.status().startswith("refused: ")
    assert len(rviz.goals) == 3
    written = {name for name, _ in rviz.goal.get_publisher_names_and_types_by_node("goal", "/")}
    assert written <= {"/diagnostics", "/goal/marker/update", "/goal/status", "/rosout", "/parameter_events"}, "no way to the arm but the planner's"


def test_the_marker_speaks_the_protocol_and_moves_the_arm_by_its_menu_only(rviz: Rviz) -> None:
    first = rviz.markers()
    (marker,) = first.markers
    assert (marker.name, marker.header.frame_id, marker.header.stamp.sec, first.sequence_number) == (NAME, "base_link", 0, rviz.updates[-1].seq_num if rviz.updates else 0)
    assert {entry.id for entry in marker.menu_entries} == {GO, GO_TURNED, CANCEL}
    assert sorted(control.name for control in marker.controls) == ["menu", "move_x", "move_y", "move_z", "turn_x", "turn_y", "turn_z"]
    rviz.do(Feedback.POSE_UPDATE)
    rviz.do(Feedback.POSE_UPDATE, (0.31, -0.2, 0.8))
    rviz.do(Feedback.POSE_UPDATE, (0.3, 0.1, 0.8), who="somebody else")  # while the first one drags
    rviz.do(Feedback.MOUSE_UP, (0.3, -0.2, 9.0))
    rviz.until(lambda: any(p.pose.position.z == BOX.upper[2] for update in rviz.updates for p in update.poses), "the marker comes back into the workspace")
    assert not any(p.pose.position.y == 0.1 for update in rviz.updates for p in update.poses)
    numbers = [update.seq_num for update in rviz.updates]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) and all(update.type == Update.UPDATE for update in rviz.updates)
    again = rviz.markers()
    assert again.sequence_number == numbers[-1] and again.markers[0].pose.position.z == BOX.upper[2]
    assert not rviz.goals, "dragging asks for nothing"

    rviz.do(Feedback.MENU_SELECT, menu=GO, frame="map")
    rviz.until(lambda: "frame 'map'" in rviz.goal._sender.text, "another frame is refused")
    rviz.do(Feedback.MENU_SELECT, (0.3, -0.2, 9.0), menu=GO)
    rviz.until(lambda: "outside" in rviz.goal._sender.text, "a place outside is refused")
    rviz.do(Feedback.MENU_SELECT, (np.inf, 0.0, 0.0), menu=GO)
    rviz.until(lambda: "not finite" in rviz.goal._sender.text, "no place is refused")
    assert not rviz.goals
    rviz.do(Feedback.MENU_SELECT, menu=GO)
    assert not rviz.asked(1).turn, "the place alone"
    rviz.until(lambda: rviz.goal._sender.running, "the goal runs")
    rviz.do(Feedback.MENU_SELECT, menu=CANCEL)
    rviz.until(lambda: "CANCELED" in rviz.goal._sender.text, "the goal is cancelled")
    rviz.goals.clear()
    rviz.do(Feedback.MENU_SELECT, menu=GO_TURNED)
    assert rviz.asked(1).turn and rviz.goals[0].request.pose.pose.orientation.z == pytest.approx(0.5**0.5)
    rviz.until(lambda: rviz.goal._sender.running, "the goal runs")
    rviz.do(Feedback.MENU_SELECT, menu=CANCEL, frame="map")  # an end is never refused
    rviz.until(lambda: "CANCELED" in rviz.goal._sender.text, "the goal is cancelled")
    rviz.until(lambda: rviz.updates[-1].markers and "CANCELED" in rviz.updates[-1].markers[0].description, "the marker says so")


def test_after_a_second_of_silence_somebody_else_may_drag_and_another_marker_is_not_ours(rviz: Rviz) -> None:
    rviz.do(Feedback.POSE_UPDATE)
    rviz.until(lambda: rviz.updates, "the marker follows")
    foreign = Feedback(marker_name="other", client_id="me", event_type=Feedback.MENU_SELECT, menu_entry_id=GO)
    foreign.header.frame_id, foreign.pose.position.z = "base_link", 9.0
    rviz.feedback.publish(foreign)

    def taken_over() -> bool:
        rviz.do(Feedback.POSE_UPDATE, (0.3, 0.1, 0.8), who="somebody else")
        return any(p.pose.position.y == 0.1 for update in rviz.updates for p in update.poses)

    rviz.until(taken_over, "the marker follows somebody else")
    assert not rviz.goals and rviz.goal._sender.text == "no goal yet"


@pytest.mark.parametrize("rviz", [("goal_pose_turn:=true", "arm:=left_arm", "tf_prefix:=left/")], indirect=True)
def test_a_goal_node_may_be_told_arm_frame_and_that_the_orientation_counts(rviz: Rviz) -> None:
    assert rviz.markers().markers[0].header.frame_id == "left/base_link"
    asked = pose((0.3, 0.3, 0.8), "left/base_link")
    asked.pose.orientation.z = asked.pose.orientation.w = 0.5**0.5
    rviz.pose.publish(asked)  # in the left arm's workspace, not in the right one's
    assert rviz.asked(1).turn and rviz.goals[0].request.pose.pose.orientation.z == pytest.approx(0.5**0.5)
    asked.pose.position.z = 0.0
    rviz.pose.publish(asked)
    assert not rviz.asked(2).turn and place_of(rviz.goals[1].request)[2] == pytest.approx(0.8), "the 2D tool's turn is about the way to look"
    rviz.pose.publish(pose((0.3, -0.3, 0.8), "left/base_link"))
    rviz.until(lambda: "outside of the workspace" in rviz.goal._sender.text, "the right arm's place is refused")
