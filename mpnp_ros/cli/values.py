"""Types of command line options; a wrong value is a one-line error with exit code 2."""
from __future__ import annotations

import math
from argparse import ArgumentTypeError


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
