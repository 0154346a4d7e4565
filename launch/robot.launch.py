"""The whole graph on the robot: ``ros2 launch wm_bringup robot.launch.py robot:=nico``. A dry run unless ``dry_run:=false``.

The safety node comes up first, the driver next, the planner last. Two arms: once with ``namespace:=left``, once with
``namespace:=right``, each with a robot, ports and a safety node of its own.
"""

import importlib.util
from pathlib import Path

from launch import LaunchDescription
from launch.actions import OpaqueFunction

_file = Path(__file__).resolve().parent / "nodes.py"
_spec = importlib.util.spec_from_file_location("wm_launch_nodes", _file)
_nodes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_nodes)


def generate_launch_description():
    """Arguments, then the nodes of the profile ``robot``."""
    return LaunchDescription([*_nodes.declared("robot"), OpaqueFunction(function=_nodes.actions, args=["robot"])])
