"""What the fusion node does without ROS: usable modalities, queued and standing questions, answers."""
