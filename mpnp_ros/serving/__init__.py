"""The fusion node without ROS: usable modalities, queued and standing questions, answers."""
