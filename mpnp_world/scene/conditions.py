"""Light and weather of a scene."""
from __future__ import annotations

from dataclasses import dataclass

from mpnp_ros.errors import ConfigurationError

LIGHTS = ('day', 'dusk', 'night')
WEATHERS = ('clear', 'rain', 'fog')


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
