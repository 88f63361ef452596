"""The simulator, the package `mpnp_world`, on machines that have it.

No other module of mpnp_ros imports or names that package.
"""
from __future__ import annotations

from importlib import import_module
from types import ModuleType

from mpnp_ros.errors import ConfigurationError

PACKAGE = 'mpnp_world'
ABSENT = f'the simulator is not installed on this machine: Python finds no package {PACKAGE}'


def is_installed() -> bool:
    """Return whether the simulator can be imported."""
    try:
        import_module(PACKAGE)
    except ModuleNotFoundError as error:
        if error.name != PACKAGE:
            raise
        return False
    return True


def load(module: str) -> ModuleType:
    """Import a module of the simulator, such as ``demo.command``.

    Raises ConfigurationError where the simulator is not installed.
    """
    return import_module(_name(module))


def node_module() -> str:
    """Return the module that ``python -m`` runs as the world node; raises as :func:`load` does."""
    return _name('node')


def _name(module: str) -> str:
    if not is_installed():
        raise ConfigurationError(ABSENT)
    return f'{PACKAGE}.{module}'
