"""Detections: objects from the robot's own perception, one token each, without a network in between."""
