"""The roof LiDAR: sweeps of an HDL-32E, or of another make, with noise, weather and lost returns.

Sweeps do not depend on light: a night sweep equals the day sweep bit for bit.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mpnp_world.models.mesh import MATERIALS, REFLECTIVITY
from mpnp_world.scene.state import WorldState
from mpnp_world.sensors.lidar_models import HDL_32E, LidarModel
from mpnp_world.sensors.rays import Hits, Rays
from mpnp_world.sensors.rig import EGO_REAR, EGO_SIZE, LIDAR

MIN_RANGE, MAX_RANGE = 1.0, 105.0
"""Range of returns, metres."""
ROOF = ((0.25, 1.65), (-0.5, 0.5))
"""The part of the ego vehicle's roof in view of the LiDAR: x and y in the ego frame, metres."""
BODY = ((-EGO_REAR, EGO_SIZE[0] - EGO_REAR), (-EGO_SIZE[1] / 2, EGO_SIZE[1] / 2))
"""The ego vehicle from above; the world has no model of it, so that rays of other makes pass through it."""
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


@lru_cache(4)
def _free_rays(model: LidarModel) -> tuple[np.ndarray, np.ndarray]:
    """Directions [N, 3] float32 in the ego frame and rings of the rays that miss the ego vehicle's roof."""
    directions, rings = model.directions()
    drop = EGO_SIZE[2] - LIDAR.translation[2] - model.lift
    reach = drop / np.minimum(directions[:, 2:], -1e-9)
    crossing = np.asarray(LIDAR.translation[:2]) + reach * directions[:, :2]
    (back, front), (right, left) = ROOF
    free = ~((crossing[:, 0] > back) & (crossing[:, 0] < front)
             & (crossing[:, 1] > right) & (crossing[:, 1] < left))
    return directions[free].astype(np.float32), rings[free]


def sweep(state: WorldState, rays: Rays, frame: int, model: LidarModel = HDL_32E) -> LidarSweep:
    """The sweep of LIDAR_TOP; noise follows from the scene's seed and ``frame``, a number of the moment."""
    directions, rings = _free_rays(model)
    ego = state.ego.pose
    origin = np.asarray(LIDAR.translation) + (0, 0, model.lift)
    hits = rays.cast(state, ego.apply(origin), directions @ ego.rotation.T.astype(np.float32))
    optics = OPTICS[state.conditions.weather]
    rng = np.random.default_rng([state.seed, frame, STREAM])
    echoes = _droplets(_surfaces(hits, optics, model, rng), optics, rng)
    heard, intensity = echoes.heard, echoes.intensity
    offsets = directions * echoes.distance[:, None]
    if model is not HDL_32E:
        heard = heard & ~_in_body(offsets + origin)
        intensity = (255 * model.gain * (intensity / 255) ** model.gamma).clip(0, 255)
        offsets = _misplaced(offsets, model)
    points = offsets[heard] @ LIDAR.pose.rotation.astype(np.float32)
    return LidarSweep(np.column_stack((points, np.floor(intensity[heard]), rings[heard])).astype('<f4'),
                      echoes.identity[heard])


def _in_body(points: np.ndarray) -> np.ndarray:
    """Which points [N, 3] of the ego frame lie in the ego vehicle, or on the ground below it."""
    (rear, front), (right, left) = BODY
    x, y, z = points.T
    return (x > rear) & (x < front) & (y > right) & (y < left) & (z < EGO_SIZE[2])


def _misplaced(offsets: np.ndarray, model: LidarModel) -> np.ndarray:
    """Points [N, 3] from the LiDAR of the rig, along the ego axes, as a wrong calibration has them."""
    rise = model.lift + model.sag + offsets[:, 0] * model.tilt[0] + offsets[:, 1] * model.tilt[1]
    return offsets + np.column_stack((np.zeros((len(rise), 2)), rise)).astype(np.float32)


def _surfaces(hits: Hits, optics: WeatherOptics, model: LidarModel, rng: np.random.Generator) -> _Echoes:
    """Echoes of surfaces; power depends on distance, incidence and weather."""
    count = len(hits.distance)
    distance = np.minimum(hits.distance, 2 * MAX_RANGE)
    reflectivity = REFLECTIVITY[hits.material] * np.where(_WET[hits.material], 1 - optics.wet_loss, 1.0)
    returned = reflectivity * optics.transmission(2 * distance)
    covered = 1 - optics.cover_loss * rng.random(count, np.float32)
    power = returned * (0.15 + 0.85 * hits.incidence) * covered / np.maximum(distance, 3.0) ** 2
    threshold = THRESHOLD * (0.6 + 0.8 * rng.random(count, np.float32))
    heard = ((distance > MIN_RANGE) & (distance < MAX_RANGE) & (power > threshold)
             & (rng.random(count, np.float32) > model.drop_out))
    noise = model.noise * rng.standard_normal(count, np.float32)
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
