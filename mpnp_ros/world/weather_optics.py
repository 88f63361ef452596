"""What rain and fog do to the light of a LiDAR on its way."""
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

    def transmission(self, distance: np.ndarray) -> np.ndarray:
        """Share of light that passes ``distance`` metres, once (Beer-Lambert)."""
        return np.exp(-self.extinction * distance)


OPTICS: dict[str, WeatherOptics] = {
    'clear': WeatherOptics(),
    'rain': WeatherOptics(extinction=0.010, backscatter=0.014, cover_loss=0.25, wet_loss=0.35),
    'fog': WeatherOptics(extinction=0.030, backscatter=0.036, cover_loss=0.10, wet_loss=0.10),
}
"""By weather of :mod:`~mpnp_ros.world.conditions`.  In fog as here one sees about 130 m far (Koschmieder)."""
