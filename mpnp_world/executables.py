"""Entry point of the world node: signals are handled before heavy imports."""
from __future__ import annotations

from importlib import import_module

from mpnp_ros.nodes import signals


def world() -> int:
    """Run the driving world; returns the exit code."""
    signals.heed()
    return import_module('mpnp_world.node').main()
