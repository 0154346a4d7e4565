"""The whole graph with the simulated NICO: ``ros2 launch wm_bringup sim.launch.py rviz:=true``."""

import importlib.util
from pathlib import Path

from launch import LaunchDescription
from launch.actions import OpaqueFunction

_file = Path(__file__).resolve().parent / "nodes.py"
_spec = importlib.util.spec_from_file_location("wm_launch_nodes", _file)
_nodes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_nodes)


def generate_launch_description():
    """Arguments, then the nodes of the profile ``sim``."""
    return LaunchDescription([*_nodes.declared("sim"), OpaqueFunction(function=_nodes.actions, args=["sim"])])
