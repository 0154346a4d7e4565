"""Send a goal to a running graph and follow it.

    ROS_DOMAIN_ID=5 .venv/bin/python -m wm_bridge.supervisor sim safety.auto_enable=true     # one terminal
    ROS_DOMAIN_ID=5 .venv/bin/python examples/03_send_goal.py my_goal.png                       # another one
    ROS_DOMAIN_ID=5 .venv/bin/python examples/03_send_goal.py joints:r_elbow_y=-0.8,r_wrist_z=0.2
    ROS_DOMAIN_ID=5 .venv/bin/python examples/03_send_goal.py pose:0.30,-0.20,0.80              # m, base frame; any orientation
    ROS_DOMAIN_ID=5 .venv/bin/python examples/03_send_goal.py bag:runs/20260101-120000/bag@4.5

A picture has to come from the planner's camera (320x240 in the simulation).
"""

from __future__ import annotations

import argparse

import rclpy
from rclpy.action import ActionClient
from wm_interfaces.action import ReachGoal

from wm_bridge.core.goal import Outcome
from wm_bridge.core.goal_forms import FORMS
from wm_bridge.core.goal_text import parse_goal
from wm_bridge.nodes.goal import read_picture
from wm_bridge.ros.goal_request import to_request


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("goal", help=FORMS)
    parser.add_argument("--timeout", type=float, default=20.0, help="s")
    args = parser.parse_args()
    goal = to_request(parse_goal(args.goal, read_picture), timeout_s=args.timeout)

    rclpy.init()
    node = rclpy.create_node("send_goal")
    client = ActionClient(node, ReachGoal, "wm/reach_goal")
    if not client.wait_for_server(timeout_sec=10.0):
        print("no planner in this ROS domain; is the graph running, with the same ROS_DOMAIN_ID?")
        return 1

    def show(message: object) -> None:
        feedback = message.feedback  # type: ignore[attr-defined]
        print(f"{feedback.elapsed_s:5.1f} s   energy {feedback.energy:7.3f}   distance {feedback.distance_m * 100:5.1f} cm, {feedback.angle_rad:.2f} rad")

    sent = client.send_goal_async(goal, feedback_callback=show)
    rclpy.spin_until_future_complete(node, sent)
    ended = sent.result().get_result_async()
    try:
        rclpy.spin_until_future_complete(node, ended)
    except KeyboardInterrupt:
        sent.result().cancel_goal_async()
        rclpy.spin_until_future_complete(node, ended)
    result = ended.result().result
    print(f"{Outcome(result.outcome).name}: {result.message}")
    node.destroy_node()
    rclpy.try_shutdown()
    return 0 if result.outcome == Outcome.REACHED else 3


if __name__ == "__main__":
    raise SystemExit(main())
