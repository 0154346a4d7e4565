#!/usr/bin/env bash
# Source ROS and the workspace, then become the command (so that it receives the signals).
set -eo pipefail
source /opt/ros/${ROS_DISTRO:?the image sets it}/setup.bash
source /opt/wm/ros2_ws/install/setup.bash
exec "$@"
