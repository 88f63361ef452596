"""What tokens of the IMU say: probabilities of own motion, by channel.

Each of the three groups sums to 1.  ``bump`` is a probability of its own.
"""
from __future__ import annotations

from mpnp_ros.questions.vocabulary import Channel

SPEEDS = ('standing', 'slow', 'driving', 'fast')
SPEED_BORDERS = (0.2, 3.0, 10.0)
"""Speeds between which the classes change, metres/second: standing is below 0.2, fast is 10 and above."""
TURNS = ('left', 'right', 'none')
TURN_BORDER = 0.05
"""Rotation rate about the vertical above which the robot turns, radians/second; mean of the last second."""
PACES = ('braking', 'steady', 'speeding up')
PACE_BORDER = 0.5
"""Change of speed above which the robot brakes or speeds up, metres/second^2; mean of the last second."""
BUMP = 'bump'
BUMP_SPAN = 2.0
"""Seconds for which a bump counts."""

CHANNELS: tuple[Channel, ...] = (
    *(('speed', name) for name in SPEEDS), *(('turn', name) for name in TURNS),
    *(('pace', name) for name in PACES), (BUMP, None))
"""Channels of a token in their order: (group, class); ``bump`` has no group."""
GROUPS: dict[str, slice] = {'speed': slice(0, 4), 'turn': slice(4, 7), 'pace': slice(7, 10)}
"""Places of the channels of each group, whose probabilities sum to 1."""
