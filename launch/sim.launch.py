"""The whole graph with the simulated NICO: ``ros2 launch wm_bringup sim.launch.py rviz:=true``."""

import importlib.util
from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction

_file = Path(__file__).resolve().parent / "nodes.py"
_spec = importlib.util.spec_from_file_location("wm_launch_nodes", _file)
_nodes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_nodes)


def generate_launch_description():
    """Arguments, then the nodes of the profile ``sim``."""
    return LaunchDescription(
        [
            *_nodes.common_arguments(),
            DeclareLaunchArgument("realtime_factor", default_value="1.0", description="simulated seconds per second"),
            DeclareLaunchArgument("auto_enable", default_value="false", choices=["true", "false"], description="enable the safety node by itself (simulation only)"),
            OpaqueFunction(function=_nodes.actions, args=["sim"]),
        ]
    )
