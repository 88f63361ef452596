"""Time stamps of messages <-> integer nanoseconds."""
from __future__ import annotations

from builtin_interfaces.msg import Time

SECOND = 1_000_000_000


def to_nanoseconds(stamp: Time) -> int:
    """Return the nanoseconds of ``stamp``."""
    return stamp.sec * SECOND + stamp.nanosec


def from_nanoseconds(nanoseconds: int) -> Time:
    """Return the stamp of ``nanoseconds``; a negative one has a negative sec, and nanosec >= 0."""
    sec, nanosec = divmod(nanoseconds, SECOND)
    return Time(sec=sec, nanosec=nanosec)
