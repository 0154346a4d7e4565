"""The safety filter: the only road to the hardware. No ROS, no torch."""
