"""What a run leaves behind for people: numbers, curves, a video and a page. Reads bags, knows no rclpy."""
