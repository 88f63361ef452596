"""What the nodes of a robot are called."""
from __future__ import annotations

import re

from mpnp_ros.errors import ConfigurationError

ENCODERS = {'camera': 'camera_encoder', 'lidar': 'lidar_encoder', 'radar': 'radar_encoder'}
"""Node of each modality's encoder."""
FUSION, ADAPTATION, REPLAY, WORLD = 'fusion', 'adaptation', 'replay', 'world'
NODES = (*ENCODERS.values(), FUSION, ADAPTATION, REPLAY, WORLD)
"""In the order in which data passes through them."""


def checked_namespace(namespace: str) -> str:
    """Return a namespace with its leading slash, or an empty one as it is.

    Raises ConfigurationError where ROS does not allow the name.
    """
    if namespace and not re.fullmatch(r'(/?[A-Za-z_]\w*)+/?', namespace, re.ASCII):
        raise ConfigurationError(f'namespace {namespace}: letters, digits and _ only, no part beginning with '
                                 'a digit, e.g. /robot1')
    return '/' + namespace.strip('/') if namespace else ''
