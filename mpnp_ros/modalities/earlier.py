"""Which earlier reading of a sensor shows what has moved since: that of about half a second before."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mpnp_ros.questions.key_frame import KeyFrame, SensorReading
from mpnp_ros.tokens import SECOND

EARLIER, EARLIEST, LATEST = 0.5, 0.3, 0.7
"""Best, least and greatest age of an earlier reading, seconds."""


def earlier_of(ages: Sequence[float]) -> int | None:
    """Return which of some readings serves as the earlier one, by their ages in seconds; None: none does."""
    usable = [(abs(age - EARLIER), place) for place, age in enumerate(ages) if EARLIEST <= age <= LATEST]
    return min(usable)[1] if usable else None


def earlier_reading(frame: KeyFrame, newest: SensorReading) -> SensorReading | None:
    """Return the earlier reading of the sensor of a key frame's reading; None where no file is there.

    Its extrinsics contain the motion of the vehicle, so what stands is where it is at the key frame.
    """
    before = [reading for reading in frame.earlier(newest.channel, LATEST) if reading.path.is_file()]
    chosen = earlier_of([(newest.stamp_ns - reading.stamp_ns) / SECOND for reading in before])
    return None if chosen is None else replace(before[chosen], extrinsics=frame.to_base(before[chosen]))
