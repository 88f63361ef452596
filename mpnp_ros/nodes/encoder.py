"""Runs the node of a sensor, also of one of another package: ``python -m mpnp_ros.nodes.encoder radar``."""
from __future__ import annotations

import sys
from importlib import import_module

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.modalities.registry import find_sensor
from mpnp_ros.nodes.encoder_node import EncoderNode
from mpnp_ros.nodes.runtime import run_node


def node_class(sensor: str) -> type[EncoderNode]:
    """Return the class of a sensor's node; raises ConfigurationError where there is none."""
    module, _, name = find_sensor(sensor).node.partition(':')
    if not module:
        raise ConfigurationError(f'the modality {sensor} has no node')
    return getattr(import_module(module), name)


def main(sensor: str = '') -> int:
    """Run the node; returns the exit code.  sensor: default: the first argument of the command line."""
    try:
        node = node_class(sensor or ''.join(sys.argv[1:2]))
    except ConfigurationError as error:
        print(f'mpnp_ros.nodes.encoder: {error}', file=sys.stderr)
        return 2
    return run_node(node)


if __name__ == '__main__':
    sys.exit(main())
