"""What tokens of the IMU say: probabilities of own motion, by channel.

Each of the three groups sums to 1.  ``bump`` is a probability of its own.
"""
from __future__ import annotations

from mpnp_ros.questions.subjects import MOTION_CHANNELS

CHANNELS = MOTION_CHANNELS
"""Channels of a token in their order: (group, class); ``bump`` has no group."""

SPEEDS, TURNS, PACES = (tuple(name for group, name in CHANNELS if group == wanted and name is not None)
                        for wanted in ('speed', 'turn', 'pace'))
SPEED_BORDERS = (0.2, 3.0, 10.0)
"""Speeds between which the classes change, metres/second: standing is below 0.2, fast is 10 and above."""
TURN_BORDER = 0.05
"""Rotation rate about the vertical above which the robot turns, radians/second; mean of the last second."""
PACE_BORDER = 0.5
"""Change of speed above which the robot brakes or speeds up, metres/second^2; mean of the last second."""
BUMP = 'bump'
BUMP_SPAN = 2.0
"""Seconds for which a bump counts."""

GROUPS: dict[str, slice] = {'speed': slice(0, 4), 'turn': slice(4, 7), 'pace': slice(7, 10)}
"""Places of the channels of each group, whose probabilities sum to 1."""
