"""Detections: objects that the robot's own perception finds, one token each; no network of ours between."""
