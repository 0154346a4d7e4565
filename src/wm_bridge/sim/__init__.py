"""A MuJoCo world around the robot: scene, physics, pictures and random poses. No ROS, no torch."""
