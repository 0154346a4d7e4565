"""colcon packaging of the planner library. The code is the symlink to src/wm_planner."""

from setuptools import find_packages, setup

setup(
    name="wm_planner",
    version="0.1.0",
    packages=find_packages(include=["wm_planner", "wm_planner.*"]),
    package_data={"wm_planner": ["py.typed", "checkpoints/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/wm_planner"]),
        ("share/wm_planner", ["package.xml"]),
    ],
    zip_safe=False,
    license="Apache-2.0",
    maintainer="wm-robot maintainers",
    maintainer_email="maintainers@example.org",
    description="Latent world model and the planner that searches in it",
)
