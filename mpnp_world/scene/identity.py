"""Name, light, weather, time and tokens of a scene."""
from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from mpnp_ros.errors import ConfigurationError, DatasetError

LIGHTS = ('day', 'dusk', 'night')
WEATHERS = ('clear', 'rain', 'fog')

FIRST_TIMESTAMP = 1_600_000_000_000_000
"""Beginning of the first scene, microseconds."""
SLOT = 600
"""Seconds between the beginnings of scenes, and maximum duration of a scene."""
MAX_SEED = 99_999
"""Largest seed whose scenes fit into a ROS time stamp, which ends in 2038."""
_NAME = re.compile(r'world-(\d+)-([a-z]+)-([a-z]+)')


@dataclass(frozen=True)
class Conditions:
    """Light (day, dusk, night) and weather (clear, rain, fog).  Raises ConfigurationError for others."""

    light: str = 'day'
    weather: str = 'clear'

    def __post_init__(self) -> None:
        for name, value, known in (('light', self.light, LIGHTS), ('weather', self.weather, WEATHERS)):
            if value not in known:
                raise ConfigurationError(f'{name} {value!r} is unknown; use one of {", ".join(known)}')

    @property
    def description(self) -> str:
        """The text of nuScenes scene descriptions, e.g. ``Night, rain``."""
        return ', '.join(([] if self.light == 'day' else [self.light.capitalize()]) + [self.weather])


@dataclass(frozen=True)
class SceneIdentity:
    """Seed and conditions of a scene; twins share the seed.  Raises ConfigurationError for invalid seeds."""

    seed: int
    conditions: Conditions

    def __post_init__(self) -> None:
        if not 0 <= self.seed <= MAX_SEED:
            raise ConfigurationError(f'seed {self.seed} is out of range; it must be 0 to {MAX_SEED}')

    @classmethod
    def of_name(cls, name: str) -> SceneIdentity:
        """The scene of a name such as ``world-0007-night-clear``; raises DatasetError for others."""
        match = _NAME.fullmatch(name)
        if not match:
            raise DatasetError(f'{name!r} is not a scene of the world; they are called '
                               'world-<seed>-<light>-<weather>')
        return cls(int(match[1]), Conditions(match[2], match[3]))

    @property
    def name(self) -> str:
        """The name, e.g. ``world-0007-night-clear``."""
        return f'world-{self.seed:04d}-{self.conditions.light}-{self.conditions.weather}'

    @property
    def description(self) -> str:
        """Light and weather as in nuScenes descriptions, and the origin of the scene."""
        return f'{self.conditions.description}; embedded world, seed {self.seed}'

    @property
    def start(self) -> int:
        """The beginning, microseconds; scenes do not overlap in time."""
        light, weather = LIGHTS.index(self.conditions.light), WEATHERS.index(self.conditions.weather)
        slot = (self.seed * len(LIGHTS) + light) * len(WEATHERS) + weather
        return FIRST_TIMESTAMP + slot * SLOT * 1_000_000

    def stamp(self, seconds: float) -> int:
        """The time ``seconds`` after the beginning of the scene, microseconds."""
        return self.start + round(seconds * 1e6)

    def token(self, *parts: object) -> str:
        """A token of this scene: 32 hex digits, the same for the same parts."""
        return token(self.name, *parts)


def token(*parts: object) -> str:
    """A token of 32 hex digits, determined by ``parts``."""
    return hashlib.md5('/'.join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()
