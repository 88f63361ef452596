"""Conversions of ROS messages to numpy and back."""
