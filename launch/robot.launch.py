"""The whole graph on the robot: ``ros2 launch wm_bringup robot.launch.py robot:=nico``."""

import importlib.util
from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction

_file = Path(__file__).resolve().parent / "nodes.py"
_spec = importlib.util.spec_from_file_location("wm_launch_nodes", _file)
_nodes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_nodes)


def generate_launch_description():
    """Arguments, then the nodes of the profile ``robot``."""
    return LaunchDescription(
        [
            *_nodes.common_arguments(),
            DeclareLaunchArgument("robot_driver", default_value="fake", description="driver of the robot"),
            DeclareLaunchArgument("port", default_value="", description="serial device of the servos, or sim"),
            DeclareLaunchArgument("motors", default_value="nico_rh4d", description="name in config/motors, or your verified file"),
            DeclareLaunchArgument("dry_run", default_value="true", choices=["true", "false"], description="true: everything runs, nothing is sent"),
            DeclareLaunchArgument("camera_source", default_value="", description="camera device (/dev/v4l/by-id/...), number, path or address"),
            DeclareLaunchArgument("camera2_source", default_value="", description="the same of camera2"),
            DeclareLaunchArgument("camera_extrinsics", default_value="", description="file of ./wm calibrate-camera hand-eye"),
            OpaqueFunction(function=_nodes.actions, args=["robot"]),
        ]
    )
