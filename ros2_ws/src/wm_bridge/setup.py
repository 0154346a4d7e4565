"""colcon packaging of the nodes. The code is the symlink to src/wm_bridge, data the symlinks beside it."""

import os

from setuptools import find_packages, setup

NODES = ("camera", "driver", "planner", "safety", "goal", "viz", "view", "recorder")


def tree(folder):
    """Every file below a folder, for share/wm_bridge (where wm_bridge.resources looks)."""
    return [(f"share/wm_bridge/{place}", [f"{place}/{name}" for name in names]) for place, _, names in os.walk(folder) if names]


setup(
    name="wm_bridge",
    version="0.1.0",
    packages=find_packages(include=["wm_bridge", "wm_bridge.*"]),
    package_data={"": ["py.typed", "*.html", "*.css", "*.js"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/wm_bridge"]),
        ("share/wm_bridge", ["package.xml"]),
        *tree("config"),
        *tree("urdf"),
    ],
    entry_points={"console_scripts": [f"{node}_node = wm_bridge.nodes.{node}:main" for node in NODES]},
    zip_safe=False,
    license="Apache-2.0",
    maintainer="wm-robot maintainers",
    maintainer_email="maintainers@example.org",
    description="Nodes and ROS-free cores around the world-model planner",
)
