"""A recording played to the real nodes: ``ros2 launch wm_bringup replay.launch.py play:=runs/.../bag``.

Planner, safety, camera and goal node run with use_sim_time on the clock of ``ros2 bag play --clock``. All of it lies in a
namespace (``replay``): what the safety node decides reaches no robot. Without ROS: ``./wm replay BAG --ros``.
"""

import importlib.util
from pathlib import Path

from launch import LaunchDescription
from launch.actions import ExecuteProcess, OpaqueFunction, TimerAction
from launch.substitutions import LaunchConfiguration

_file = Path(__file__).resolve().parent / "nodes.py"
_spec = importlib.util.spec_from_file_location("wm_launch_nodes", _file)
_nodes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_nodes)

START_S = 10.0  # for the world model to be loaded
PLAYED = {  # recorded topic: where the nodes listen
    "camera/image_raw/compressed": "recorded/camera/image_raw/compressed",
    "camera/camera_info": "recorded/camera/camera_info",
    "joint_states": "joint_states",
    "hw/command": "recorded/hw/command",
    "wm/request": "goal/request",
}


def _start(context):
    values = {name: LaunchConfiguration(name).perform(context) for name in ("play", "rate", "namespace")}
    nodes = _nodes.actions(context, "replay")
    if not values["play"]:
        return nodes
    space = f"/{values['namespace'].strip('/')}".rstrip("/")
    play = ["ros2", "bag", "play", values["play"], "--clock", "100", "--rate", values["rate"], "--topics", *(f"/{topic}" for topic in PLAYED)]
    play += ["--remap", *(f"/{topic}:={space}/{to}" for topic, to in PLAYED.items())]
    return [*nodes, TimerAction(period=START_S, actions=[ExecuteProcess(cmd=play, name="play", output="screen")])]


def generate_launch_description():
    """Arguments, then the nodes of the profile ``replay``, then the recording."""
    return LaunchDescription([*_nodes.declared("replay"), OpaqueFunction(function=_start)])
