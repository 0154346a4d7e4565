"""From config/graph.yaml to launch actions; shared by the launch files."""

import sys
import tempfile

from launch.actions import DeclareLaunchArgument, ExecuteProcess, LogInfo, RegisterEventHandler, Shutdown
from launch.event_handlers import OnProcessExit
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node

from wm_bridge import arguments, graph, resources, rviz_view

READY_S = 60.0  # longest wait for the nodes of one group


def declared(profile):
    """The launch arguments of a profile."""
    found = []
    for name, argument in arguments.PROFILES[profile].items():
        choices = {"choices": ["true", "false"]} if argument.flag else {}
        found.append(DeclareLaunchArgument(name, default_value=argument.default, description=argument.help, **choices))
    return [*found, DeclareLaunchArgument("rviz", default_value="false", choices=["true", "false"], description="open RViz")]


def actions(context, profile):
    """The nodes of the profile, group by group: each group waits for the one before. And RViz when asked for."""
    values = {name: LaunchConfiguration(name).perform(context) for name in context.launch_configurations}
    plan = arguments.plan(profile, values)
    namespace, tf_prefix = values.get("namespace", ""), values.get("tf_prefix", "")
    entries = graph.load(profile, plan.overrides, plan.skip, cameras=plan.cameras, namespace=namespace, tf_prefix=tf_prefix, also=plan.also)
    found = [LogInfo(msg=note) for note in plan.notes]
    found += bring_up(graph.stages(entries))
    if values.get("rviz") == "true":
        config = rviz_config(namespace.strip("/"), graph.frame_prefix(namespace, tf_prefix))
        use_sim_time = {"use_sim_time": profile == "sim"}
        found.append(Node(package="rviz2", executable="rviz2", arguments=["-d", config], parameters=[use_sim_time]))
    return found


def rviz_config(namespace, prefix):
    """The view that ships, or one of the same displays with the names of a namespace, in a file of its own."""
    if not namespace:
        return str(resources.path(rviz_view.SHIPPED))
    with tempfile.NamedTemporaryFile("w", prefix=f"{namespace}-", suffix=".rviz", delete=False) as file:
        file.write(rviz_view.view_of({namespace: prefix}))
    return file.name


def bring_up(groups):
    """Start the first group; the others follow when its nodes are there, or all ends when one is not."""
    nodes = [node(entry) for entry in groups[0]]
    if len(groups) == 1:
        return nodes
    names = [entry.full_name for entry in groups[0]]
    ready = ExecuteProcess(cmd=[sys.executable, "-m", "wm_bridge.ros.await_nodes", str(READY_S), *names], name="bring_up", output="screen")

    def follow(event, _):
        if event.returncode == 0:
            return bring_up(groups[1:])
        return [Shutdown(reason=f"{', '.join(names)} did not come up within {READY_S:.0f} s")]

    return [*nodes, RegisterEventHandler(OnProcessExit(target_action=ready, on_exit=follow)), ready]


def node(entry):
    """One node; managed ones configure and activate themselves (parameter autostart) when their group is started."""
    return (LifecycleNode if entry.lifecycle else Node)(
        package=entry.package,
        executable=entry.executable,
        name=entry.name,
        namespace=entry.namespace,
        parameters=[*(str(resources.path(file)) for file in entry.parameter_files), dict(entry.parameters)],
        respawn=entry.respawn,
        respawn_delay=1.0,
        on_exit=[Shutdown(reason=f"{entry.full_name} has ended")] if entry.required else None,
        output="screen",
    )
