"""A small generated street in nuScenes v1.0-mini schema, for those who do not have nuScenes.

Simple boxes drive, stand and walk around a vehicle with the sensor rig of nuScenes; what the cameras and
the LiDAR would see of them is painted and cast, and the tables say what is there.
"""
from __future__ import annotations

from mpnp_ros.nuscenes.standin.writer import write_standin

__all__ = ['write_standin']
