"""Effects of rain and fog on the light of a LiDAR."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class WeatherOptics:
    """Optical properties of a weather.

    extinction: loss of light per metre (1/m).  backscatter: share of laser rays returned by nearby drops;
    backscatter_range: their mean distance, metres.  cover_loss: maximum loss of power by drops on the cover
    of the sensor.  wet_loss: loss of reflectivity of wet ground.
    """

    extinction: float = 0.0
    backscatter: float = 0.0
    backscatter_range: float = 4.4
    cover_loss: float = 0.0
    wet_loss: float = 0.0

    def transmission(self, distance: np.ndarray) -> np.ndarray:
        """Transmitted share of light over ``distance`` metres, one way (Beer-Lambert)."""
        return np.exp(-self.extinction * distance)


OPTICS: dict[str, WeatherOptics] = {
    'clear': WeatherOptics(),
    'rain': WeatherOptics(extinction=0.010, backscatter=0.014, cover_loss=0.25, wet_loss=0.35),
    'fog': WeatherOptics(extinction=0.030, backscatter=0.036, cover_loss=0.10, wet_loss=0.10),
}
"""By weather of :mod:`~mpnp_world.scene.conditions`.  Visibility in fog is about 130 m (Koschmieder)."""
