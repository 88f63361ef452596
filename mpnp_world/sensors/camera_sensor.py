"""Camera effects: noise, which increases in the dark, and rain drops."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpnp_world.scene.conditions import Conditions

GAMMA = 2.2


@dataclass(frozen=True)
class Noise:
    """Noise of linear light; 1 is white.  shot: variance per light; read: standard deviation in the dark."""

    shot: float
    read: float


NOISE = {'day': Noise(1e-5, 1e-3), 'dusk': Noise(3e-4, 3e-3), 'night': Noise(2.5e-3, 8e-3)}
"""Higher gain at night also amplifies noise."""
_STREAK_LIGHT = {'day': 200.0, 'dusk': 120.0, 'night': 45.0}
_STREAKS_PER_COLUMN = 0.2


class CameraSensor:
    """Adds the effects of a camera under some conditions to noiseless images."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        self._deviation = _deviations(NOISE[conditions.light])

    def expose(self, images: np.ndarray, seed: int, time: float) -> np.ndarray:
        """Images [N, H, W, 3] uint8 with noise and rain; deterministic in seed and time (seconds)."""
        rng = np.random.default_rng([seed, round(time * 1000), 0xCA3])
        values = images.astype(np.float32)
        if self._conditions.weather == 'rain':
            _rain(values, rng, _STREAK_LIGHT[self._conditions.light])
        values += self._deviation[images] * rng.standard_normal(images.shape, np.float32)
        return np.clip(values, 0, 255, out=values).astype(np.uint8)


def _deviations(noise: Noise) -> np.ndarray:
    """Standard deviation [256] of a pixel by its value."""
    light = (np.arange(256) / 255) ** GAMMA
    deviation = np.sqrt(noise.shot * light + noise.read ** 2)
    brighter = 255 * (light + deviation) ** (1 / GAMMA)
    return (brighter - np.arange(256)).astype(np.float32)


def _rain(images: np.ndarray, rng: np.random.Generator, light: float) -> None:
    """Draw streaks of falling drops into images [N, H, W, 3]."""
    count, height, width = images.shape[:3]
    number = int(width * _STREAKS_PER_COLUMN)
    for image in images[:count]:
        columns, rows = rng.integers(width, size=number), rng.integers(height, size=number)
        for column, row, length in zip(columns, rows, rng.integers(4, height // 12 + 6, number), strict=True):
            streak = image[row:row + length, column]
            streak += 0.25 * (light - streak)
