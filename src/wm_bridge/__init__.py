"""ROS-free cores (core, safety, robots, cameras, sim) and the thin ROS 2 nodes around them."""

__version__ = "0.1.0"
