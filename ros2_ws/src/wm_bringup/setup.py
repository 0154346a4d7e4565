"""colcon packaging of launch files, robot descriptions and configuration: symlinks to the top-level folders."""

import os

from setuptools import setup


def tree(folder):
    """Every file below a folder, for share/wm_bringup."""
    return [
        (f"share/wm_bringup/{place}", [f"{place}/{name}" for name in names if not name.endswith(".pyc")])
        for place, _, names in os.walk(folder)
        if names and not place.endswith("__pycache__")
    ]


setup(
    name="wm_bringup",
    version="0.1.0",
    packages=[],
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/wm_bringup"]),
        ("share/wm_bringup", ["package.xml"]),
        *tree("launch"),
        *tree("urdf"),
        *tree("config"),
    ],
    zip_safe=False,
    license="Apache-2.0",
    maintainer="wm-robot maintainers",
    maintainer_email="maintainers@example.org",
    description="Launch files and configuration of the world-model graph",
)
