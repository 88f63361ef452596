"""Options that several commands have, and types of option values, whose errors have exit code 2."""
from __future__ import annotations

import math
from argparse import ArgumentTypeError
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, _ArgumentGroup

SHIPPED, ROBOT = 'shipped', 'robot'
"""Names in place of a store of links: the links of the package, and those that the robot uses."""


def add_namespace(parser: ArgumentParser | _ArgumentGroup) -> None:
    """Add the option that selects the robot."""
    parser.add_argument('--namespace', default='', metavar='NS', help='namespace of the nodes, e.g. /robot1')


def add_fusion(parser: ArgumentParser) -> None:
    """Add the options that select the fusion node and limit the waiting for it."""
    parser.add_argument('--timeout', type=positive, default=10., metavar='S',
                        help='seconds to wait for the fusion node (default: %(default)s)')
    add_namespace(parser)


def add_params_file(parser: ArgumentParser | _ArgumentGroup) -> None:
    """Add the option for parameter files."""
    parser.add_argument('--params-file', type=Path, action='append', default=[], metavar='YAML',
                        help='parameters on top of config/mpnp.yaml; repeatable, later ones win')


def positive(text: str) -> float:
    """Parse a finite number above 0, e.g. a time-out in seconds."""
    value = _number(text)
    if not (math.isfinite(value) and value > 0):
        raise ArgumentTypeError(f'{text} is not a number above 0')
    return value


def not_negative(text: str) -> float:
    """Parse a finite number >= 0, e.g. a period in seconds."""
    value = _number(text)
    if not (math.isfinite(value) and value >= 0):
        raise ArgumentTypeError(f'{text} is not a number >= 0')
    return value


def share(text: str) -> float:
    """Parse a number from 0 to 1, e.g. a confidence."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f'{text} is not a number from 0 to 1')
    return value


def count(text: str) -> int:
    """Parse a whole number >= 0 that fits a message."""
    if not text.isascii() or not text.isdigit() or int(text) > 2 ** 32 - 1:
        raise ArgumentTypeError(f'{text} is not a whole number from 0 to {2 ** 32 - 1}')
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArgumentTypeError(f'{text} is not a number') from None
