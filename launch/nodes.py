"""From config/graph.yaml to launch actions; shared by the launch files."""

from launch.actions import DeclareLaunchArgument, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from wm_bridge import graph, resources

# launch argument -> (nodes, parameter, type)
_ARGUMENTS = {
    "robot": (("driver", "safety", "camera", "camera2", "planner", "viz"), "robot", str),
    "checkpoint": (("planner",), "checkpoint", str),
    "bag": (("recorder",), "path", str),
    "realtime_factor": (("driver", "safety", "camera", "camera2", "planner"), "realtime_factor", float),
    "auto_enable": (("safety",), "auto_enable", lambda text: text == "true"),
    "robot_driver": (("driver",), "robot_driver", str),
    "port": (("driver",), "port", str),
    "motors": (("driver",), "motors", str),
    "dry_run": (("driver",), "dry_run", lambda text: text == "true"),
    "camera_source": (("camera",), "source", str),
    "camera2_source": (("camera2",), "source", str),
    "camera_extrinsics": (("camera",), "extrinsics", str),
}


def common_arguments():
    """Arguments of both launch files."""
    return [
        DeclareLaunchArgument("robot", default_value="nico", description="name in config/robots"),
        DeclareLaunchArgument("namespace", default_value="", description="for all nodes of this arm"),
        DeclareLaunchArgument("checkpoint", default_value="", description="world model; empty = the shipped one"),
        DeclareLaunchArgument("bag", default_value="", description="folder of a new bag; empty = record nothing"),
        DeclareLaunchArgument("cameras", default_value="camera", description="camera nodes of config/graph.yaml, e.g. camera,camera2; the first is planned from"),
        DeclareLaunchArgument("rviz", default_value="false", choices=["true", "false"], description="open RViz"),
    ]


def overrides(values):
    """Launch arguments (name -> text) as parameters per node; empty texts change nothing."""
    found = {}
    for name, text in values.items():
        if text and name in _ARGUMENTS:
            nodes, parameter, convert = _ARGUMENTS[name]
            for node in nodes:
                found.setdefault(node, {})[parameter] = convert(text)
    return found


def actions(context, profile):
    """One action per node of the profile, and RViz when asked for."""
    values = {name: LaunchConfiguration(name).perform(context) for name in context.launch_configurations}
    skip = () if values.get("bag") else ("recorder",)
    wanted = {node: given for node, given in overrides(values).items() if node not in skip}
    found = [
        Node(
            package=entry.package,
            executable=entry.executable,
            name=entry.name,
            namespace=values.get("namespace", ""),
            parameters=[*(str(resources.path(file)) for file in entry.parameter_files), dict(entry.parameters)],
            respawn=entry.respawn,
            respawn_delay=1.0,
            on_exit=[Shutdown(reason=f"{entry.name} has ended")] if entry.required else None,
            output="screen",
        )
        for entry in graph.load(profile, wanted, skip, cameras=values.get("cameras", "camera").split(","))
    ]
    if values.get("rviz") == "true":
        config = str(resources.path("config/rviz/wm.rviz"))
        use_sim_time = {"use_sim_time": profile == "sim"}
        found.append(Node(package="rviz2", executable="rviz2", arguments=["-d", config], parameters=[use_sim_time]))
    return found
