"""Entry points of the nodes: signals are handled before heavy imports."""
from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from importlib import import_module

from mpnp_ros.nodes import signals


def fusion() -> int:
    """Run the fusion node; returns the exit code."""
    return _run('fusion')


def adaptation() -> int:
    """Run the adaptation node; returns the exit code."""
    return _run('adaptation')


def replay() -> int:
    """Run the replay; returns the exit code."""
    return _run('replay')


def __getattr__(name: str) -> Callable[[], int]:
    """``<sensor>_encoder`` runs the node of a sensor."""
    sensor, _, kind = name.rpartition('_')
    if kind != 'encoder' or not sensor:
        raise AttributeError(f'no node is called {name}')
    return partial(_run, 'encoder', sensor)


def _run(node: str, *arguments: str) -> int:
    signals.heed()
    gc.disable()  # until the node has started; see mpnp_ros/nodes/__init__.py
    return import_module(f'mpnp_ros.nodes.{node}').main(*arguments)
