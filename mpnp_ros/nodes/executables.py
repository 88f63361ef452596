"""Entry points of the nodes: signals are handled before heavy imports."""
from __future__ import annotations

from importlib import import_module

from mpnp_ros.nodes import signals


def camera_encoder() -> int:
    """Run the camera encoder; returns the exit code."""
    return _run('camera_encoder')


def lidar_encoder() -> int:
    """Run the LiDAR encoder; returns the exit code."""
    return _run('lidar_encoder')


def radar_encoder() -> int:
    """Run the radar encoder; returns the exit code."""
    return _run('radar_encoder')


def fusion() -> int:
    """Run the fusion node; returns the exit code."""
    return _run('fusion')


def adaptation() -> int:
    """Run the adaptation node; returns the exit code."""
    return _run('adaptation')


def replay() -> int:
    """Run the replay; returns the exit code."""
    return _run('replay')


def _run(node: str) -> int:
    signals.heed()
    return import_module(f'mpnp_ros.nodes.{node}').main()
