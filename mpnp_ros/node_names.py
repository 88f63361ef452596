"""Names of the nodes of a robot, and their namespace."""
from __future__ import annotations

import re

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.modalities.registry import sensors

FUSION, ADAPTATION, REPLAY, WORLD = 'fusion', 'adaptation', 'replay', 'world'


def encoder_nodes() -> dict[str, str]:
    """Return the name of each sensor's node, by sensor."""
    return {name: f'{name}_encoder' for name, sensor in sensors().items() if sensor.node}


def all_nodes() -> tuple[str, ...]:
    """Return the names of all nodes in the order in which data passes through them."""
    return (*encoder_nodes().values(), FUSION, ADAPTATION, REPLAY, WORLD)


def checked_namespace(namespace: str) -> str:
    """Return a namespace with its leading slash, or an empty one as it is.

    Raises ConfigurationError where ROS does not allow the name.
    """
    if namespace and not re.fullmatch(r'(/?[A-Za-z_]\w*)+/?', namespace, re.ASCII):
        raise ConfigurationError(f'namespace {namespace}: letters, digits and _ only, no part beginning with '
                                 'a digit, e.g. /robot1')
    return '/' + namespace.strip('/') if namespace else ''
