"""What rain and fog do to light on its way, for laser and camera alike."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class WeatherOptics:
    """Air and wetness of a weather.

    extinction: share of light lost per metre (1/m).  backscatter: share of laser rays that drops close
    by answer, and backscatter_range: how far off, metres on average.  cover_loss: the largest share of
    power that drops on the sensor's cover take from a ray.  wet_loss: share of the ground's reflectivity
    that is gone where it is wet and mirrors light away.
    """

    extinction: float = 0.0
    backscatter: float = 0.0
    backscatter_range: float = 4.4
    cover_loss: float = 0.0
    wet_loss: float = 0.0

    @property
    def visual_range(self) -> float:
        """Metres at which black on the horizon keeps 2 % contrast (Koschmieder)."""
        return 3.912 / self.extinction if self.extinction else float('inf')

    def transmission(self, distance: np.ndarray) -> np.ndarray:
        """Share of light that passes ``distance`` metres, once (Beer-Lambert)."""
        return np.exp(-self.extinction * distance)


OPTICS: dict[str, WeatherOptics] = {
    'clear': WeatherOptics(),
    'rain': WeatherOptics(extinction=0.010, backscatter=0.014, cover_loss=0.25, wet_loss=0.35),
    'fog': WeatherOptics(extinction=0.030, backscatter=0.036, cover_loss=0.10, wet_loss=0.10),
}
"""By weather of :mod:`~mpnp_ros.world.conditions`.  Fog as here leaves about 130 m of sight."""
