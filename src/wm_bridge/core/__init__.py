"""ROS-free parts of the stack: values in, values out, time as integer nanoseconds."""
