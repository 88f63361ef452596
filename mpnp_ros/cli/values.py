"""Types of command-line options; a wrong value is one line and exit code 2."""
from __future__ import annotations

import math
from argparse import ArgumentTypeError


def positive(text: str) -> float:
    """A finite number above 0, e.g. a time-out in seconds."""
    value = _number(text)
    if not (math.isfinite(value) and value > 0):
        raise ArgumentTypeError(f'{text} is not a number above 0')
    return value


def not_negative(text: str) -> float:
    """A finite number that is 0 or more, e.g. a period in seconds."""
    value = _number(text)
    if not (math.isfinite(value) and value >= 0):
        raise ArgumentTypeError(f'{text} is not a number of 0 or more')
    return value


def count(text: str) -> int:
    """A whole number that is 0 or more and fits a message."""
    if not text.isascii() or not text.isdigit() or int(text) > 2 ** 32 - 1:
        raise ArgumentTypeError(f'{text} is not a whole number from 0 to {2 ** 32 - 1}')
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArgumentTypeError(f'{text} is not a number') from None
