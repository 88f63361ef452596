"""Light and weather of a scene from its description."""
from __future__ import annotations

import re

LIGHTS = {'night': r'\bnight\b', 'dusk': r'\bdusk\b'}
WEATHERS = {'rain': r'\brain(y|ing)?\b', 'fog': r'\bfog(gy)?\b'}


def conditions_of(description: str) -> tuple[str, str]:
    """Return (light, weather): night, dusk or day; rain, fog or clear, the default.

    description: of a scene of nuScenes ("Night, after rain, ...") or of the simulated world.
    """
    return _first(LIGHTS, description, 'day'), _first(WEATHERS, description, 'clear')


def _first(patterns: dict[str, str], description: str, default: str) -> str:
    return next((name for name, pattern in patterns.items()
                 if re.search(pattern, description, re.IGNORECASE)), default)
