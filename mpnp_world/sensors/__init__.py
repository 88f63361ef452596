"""Sensors of the vehicle in the world."""
