"""A recording through planner and safety code again: the same decisions, or where they differ. Knows no rclpy."""
