"""ROS messages to numpy and back, and nothing else."""
