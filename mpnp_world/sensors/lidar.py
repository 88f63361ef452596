"""The roof LiDAR: sweeps of an HDL-32E with noise, weather and lost returns.

Sweeps do not depend on light: a night sweep equals the day sweep bit for bit.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from mpnp_world.models.mesh import MATERIALS, REFLECTIVITY
from mpnp_world.scene.state import WorldState
from mpnp_world.sensors.rays import Hits, Rays
from mpnp_world.sensors.rig import EGO_SIZE, LIDAR, lidar_rays

MIN_RANGE, MAX_RANGE = 1.0, 105.0
"""Range of returns, metres."""
RANGE_NOISE = 0.02
"""Standard deviation, metres (HDL-32E data sheet: 2 cm)."""
DROP_OUT = 0.01
"""Share of returns lost at random."""
ROOF = ((0.25, 1.65), (-0.5, 0.5))
"""The part of the ego vehicle's roof in view of the LiDAR: x and y in the ego frame, metres."""
THRESHOLD = 0.12 / 90 ** 2
"""Detection threshold of power: a surface of reflectivity 0.12 at 90 m and normal incidence."""
STREAM = 1
_WET = np.isin(list(MATERIALS), ('road', 'marking', 'line', 'sidewalk'))


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
"""By weather of :mod:`~mpnp_world.scene.identity`.  Visibility in fog is about 130 m (Koschmieder)."""


@dataclass(frozen=True, eq=False)
class LidarSweep:
    """A sweep.  points: [N, 5] float32, x y z (metres, sensor frame), intensity 0..255, ring.

    identities: [N] int32, of the object that each point lies on, 0 for none.
    """

    points: np.ndarray
    identities: np.ndarray


@dataclass(frozen=True, eq=False)
class _Echoes:
    """Echoes per ray: validity, distance (metres), intensity 0..255 and identity."""

    heard: np.ndarray
    distance: np.ndarray
    intensity: np.ndarray
    identity: np.ndarray


@cache
def _free_rays() -> tuple[np.ndarray, np.ndarray]:
    """Directions [N, 3] float32 in the ego frame and rings of the rays that miss the ego vehicle's roof."""
    directions, rings = lidar_rays()
    drop = EGO_SIZE[2] - LIDAR.translation[2]
    reach = drop / np.minimum(directions[:, 2:], -1e-9)
    crossing = np.asarray(LIDAR.translation[:2]) + reach * directions[:, :2]
    (back, front), (right, left) = ROOF
    free = ~((crossing[:, 0] > back) & (crossing[:, 0] < front)
             & (crossing[:, 1] > right) & (crossing[:, 1] < left))
    return directions[free].astype(np.float32), rings[free]


def sweep(state: WorldState, rays: Rays, frame: int) -> LidarSweep:
    """The sweep of LIDAR_TOP; noise follows from the scene's seed and ``frame``, a number of the moment."""
    directions, rings = _free_rays()
    ego = state.ego.pose
    hits = rays.cast(state, ego.apply(LIDAR.translation), directions @ ego.rotation.T.astype(np.float32))
    optics = OPTICS[state.conditions.weather]
    rng = np.random.default_rng([state.seed, frame, STREAM])
    echoes = _droplets(_surfaces(hits, optics, rng), optics, rng)
    heard = echoes.heard
    points = (directions[heard] * echoes.distance[heard, None]) @ LIDAR.pose.rotation.astype(np.float32)
    return LidarSweep(
        np.column_stack((points, np.floor(echoes.intensity[heard]), rings[heard])).astype('<f4'),
        echoes.identity[heard])


def _surfaces(hits: Hits, optics: WeatherOptics, rng: np.random.Generator) -> _Echoes:
    """Echoes of surfaces; power depends on distance, incidence and weather."""
    count = len(hits.distance)
    distance = np.minimum(hits.distance, 2 * MAX_RANGE)
    reflectivity = REFLECTIVITY[hits.material] * np.where(_WET[hits.material], 1 - optics.wet_loss, 1.0)
    returned = reflectivity * optics.transmission(2 * distance)
    covered = 1 - optics.cover_loss * rng.random(count, np.float32)
    power = returned * (0.15 + 0.85 * hits.incidence) * covered / np.maximum(distance, 3.0) ** 2
    threshold = THRESHOLD * (0.6 + 0.8 * rng.random(count, np.float32))
    heard = ((distance > MIN_RANGE) & (distance < MAX_RANGE) & (power > threshold)
             & (rng.random(count, np.float32) > DROP_OUT))
    noise = RANGE_NOISE * rng.standard_normal(count, np.float32)
    intensity = np.clip(150 * returned * (0.3 + 0.7 * hits.incidence), 0, 255)
    return _Echoes(heard, distance + noise, intensity, hits.identity)


def _droplets(echoes: _Echoes, optics: WeatherOptics, rng: np.random.Generator) -> _Echoes:
    """Echoes with some replaced by weak returns of nearby drops, without identity."""
    count = len(echoes.distance)
    distance = rng.gamma(2.0, optics.backscatter_range / 2, count).astype(np.float32)
    scattered = ((rng.random(count, np.float32) < optics.backscatter)
                 & (distance > 1.5) & (distance < echoes.distance))
    intensity = 2 + 4 * rng.random(count, np.float32)
    return _Echoes(echoes.heard | scattered, np.where(scattered, distance, echoes.distance),
                   np.where(scattered, intensity, echoes.intensity),
                   np.where(scattered, 0, echoes.identity))
