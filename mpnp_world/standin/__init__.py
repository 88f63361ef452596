"""A small generated data set in nuScenes v1.0-mini schema, for use without nuScenes.

Simple boxes drive, stand and walk around a vehicle with the sensor rig of nuScenes.  Camera images are
painted and LiDAR sweeps are ray-cast; the tables have the annotations.
"""
from __future__ import annotations

from mpnp_world.standin.writer import write_standin

__all__ = ['write_standin']
