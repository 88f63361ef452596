"""The five radars: few points with radial speeds, independent of light and fog.

The points are like those of the ARS 408 in nuScenes.  Objects reflect from the sides of their boxes that face
the radar, sometimes also when they are hidden.  Static scenery reflects as clutter.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mpnp_ros.nuscenes.sensor_files import RADAR_DTYPE
from mpnp_ros.poses import rotation_about_z, wrap_angle
from mpnp_world.scene.catalogue import KINDS
from mpnp_world.scene.state import EgoState, WorldObject, WorldState
from mpnp_world.sensors.rays import Rays
from mpnp_world.sensors.rig import RADARS, RadarMounting

MIN_RANGE, MAX_RANGE = 1.0, 150.0
"""Range of points, metres."""
HALF_OPENING = math.radians(60)
CROSS_SECTIONS: dict[str, float] = {
    'car': 10.0, 'truck': 18.0, 'bus': 20.0, 'trailer': 20.0, 'construction vehicle': 17.0, 'barrier': 3.0,
    'motorcycle': 4.0, 'bicycle': -1.0, 'pedestrian': -4.0, 'traffic cone': -9.0,
}
"""Mean radar cross section by category of NuScenes-QA, dBsm."""
SECTION_SPREAD = 4.0
FAINTEST = -12.0
"""Smallest detected cross section at 20 m, dBsm; it increases by 25 dB per decade of distance."""
HIDDEN, SEEN_HIDDEN = 0.15, 0.3
"""Visible share below which an object is hidden, and detection probability of hidden objects."""
CLUTTER_RAYS = 32
"""Rays per radar for clutter of the scenery."""
RANGE_NOISE, AZIMUTH_NOISE, SPEED_NOISE = 0.2, math.radians(0.5), 0.1
"""Standard deviations: metres, radians, metres/second."""
STANDS = 0.3
"""Speed below which an object is stationary, metres/second."""
MOVING, STATIONARY, ONCOMING, CROSSING = 0, 1, 2, 6
"""Codes of dyn_prop."""
STEADY_FIELDS = {'is_quality_valid': 1, 'ambig_state': 3, 'x_rms': 19, 'y_rms': 19, 'invalid_state': 0,
                 'pdh0': 1, 'vx_rms': 16, 'vy_rms': 16}
"""Fields with constant values: valid, unambiguous, low false-alarm probability."""
STREAM = 2


@dataclass(frozen=True, eq=False)
class RadarSweep:
    """A sweep of one radar.  points: [N] of :data:`~mpnp_ros.nuscenes.sensor_files.RADAR_DTYPE`.

    identities: [N] int32, of the object of each point, 0 for none.
    """

    points: np.ndarray
    identities: np.ndarray


@dataclass(frozen=True, eq=False)
class _Reflections:
    """Reflecting places: position, velocity [N, 2] (world frame), section, dyn_prop, identity [N]."""

    position: np.ndarray
    velocity: np.ndarray
    section: np.ndarray
    dyn_prop: np.ndarray
    identity: np.ndarray

    @classmethod
    def join(cls, parts: list[_Reflections]) -> _Reflections:
        """All parts as one."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts])
                     for name in cls.__dataclass_fields__))

    def __getitem__(self, chosen: np.ndarray) -> _Reflections:
        return _Reflections(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def radar_sweeps(state: WorldState, rays: Rays, shares: Mapping[int, float]) -> dict[str, RadarSweep]:
    """The sweeps of all radars by channel.

    shares: visible shares by identity, from :func:`~mpnp_world.sensors.visibility.visibility`.  Noise follows
    from the seed and the time of the state; light and weather have no effect.
    """
    rng = np.random.default_rng([state.seed, round(state.time * 1e6), STREAM])
    clutter = _clutter(state, rays, rng)
    return {channel: _sweep(state, mounting, shares, standing, rng)
            for (channel, mounting), standing in zip(RADARS.items(), clutter, strict=True)}


def to_pcd(points: np.ndarray) -> bytes:
    """Radar points [N] as a nuScenes file; an empty sweep is one point of NaN.

    The devkit requires at least one point and at least one byte after the last point.
    """
    names = RADAR_DTYPE.names or ()
    if not len(points):
        points = np.zeros(1, RADAR_DTYPE)
        for name in names:
            if RADAR_DTYPE[name].kind == 'f':
                points[name] = np.nan
    kinds = [RADAR_DTYPE[name] for name in names]
    header = ['# .PCD v0.7 - Point Cloud Data file format', 'VERSION 0.7',
              f'FIELDS {" ".join(names)}',
              f'SIZE {" ".join(str(kind.itemsize) for kind in kinds)}',
              f'TYPE {" ".join("F" if kind.kind == "f" else "I" for kind in kinds)}',
              f'COUNT {" ".join("1" for _ in kinds)}', f'WIDTH {len(points)}', 'HEIGHT 1',
              'VIEWPOINT 0 0 0 1 0 0 0', f'POINTS {len(points)}', 'DATA binary']
    return '\n'.join(header).encode() + b'\n' + points.tobytes() + b'\n'


def _sweep(state: WorldState, mounting: RadarMounting, shares: Mapping[int, float], clutter: _Reflections,
           rng: np.random.Generator) -> RadarSweep:
    """The sweep of one radar: detected reflections in its field of view, with noise."""
    pose = state.ego.pose @ mounting.pose
    origin = pose.translation[:2]
    things = [_answers(thing, origin, state.ego, rng) for thing in state.objects
              if shares[thing.identity] >= HIDDEN or rng.random() < SEEN_HIDDEN]
    whole = _Reflections.join([*things, clutter])
    relative = (whole.position - origin) @ pose.rotation[:2, :2]
    distance = np.hypot(*relative.T)
    azimuth = np.arctan2(relative[:, 1], relative[:, 0])
    faintest = FAINTEST + 25 * np.log10(np.maximum(distance, 5.0) / 20) + rng.normal(0, 2, len(distance))
    chosen = ((distance > MIN_RANGE) & (distance < MAX_RANGE) & (np.abs(azimuth) < HALF_OPENING)
              & (whole.section > faintest))
    kept = whole[chosen]
    speed = np.einsum('nk,nk->n', kept.velocity, (kept.position - origin) / distance[chosen, None])
    toward = relative[chosen] / distance[chosen, None]
    x, y, _ = mounting.translation
    moving = np.array((state.ego.speed - state.ego.yaw_rate * y, state.ego.yaw_rate * x))
    own_speed = toward @ (pose.rotation[:2, :2].T @ (rotation_about_z(state.ego.yaw)[:2, :2] @ moving))
    return RadarSweep(_points(distance[chosen], azimuth[chosen], speed, own_speed, kept, rng), kept.identity)


def _points(distance: np.ndarray, azimuth: np.ndarray, speed: np.ndarray, own_speed: np.ndarray,
            kept: _Reflections, rng: np.random.Generator) -> np.ndarray:
    """The structured array of points.

    speed: radial speed over ground; own_speed: of the radar, metres/second.
    """
    count = len(distance)
    distance = distance + rng.normal(0, RANGE_NOISE, count)
    azimuth = azimuth + rng.normal(0, AZIMUTH_NOISE, count)
    speed = speed + rng.normal(0, SPEED_NOISE, count)
    ahead, left = np.cos(azimuth), np.sin(azimuth)
    points = np.zeros(count, RADAR_DTYPE)
    varying = {'x': distance * ahead, 'y': distance * left, 'id': np.arange(count), 'dyn_prop': kept.dyn_prop,
               'rcs': np.round(kept.section * 2) / 2, 'vx': ahead * (speed - own_speed),
               'vy': left * (speed - own_speed), 'vx_comp': ahead * speed, 'vy_comp': left * speed}
    for name, values in (varying | STEADY_FIELDS).items():
        points[name] = values
    return points


def _answers(thing: WorldObject, origin: np.ndarray, ego: EgoState, rng: np.random.Generator) -> _Reflections:
    """Reflecting places on the sides of a box that face the radar."""
    length, width, _ = thing.size
    count = 1 + (length > 3) + rng.poisson(0.6)
    turn, half = rotation_about_z(thing.yaw)[:2, :2], np.array((length, width)) / 2
    to_radar = (origin - (thing.x, thing.y)) @ turn / half
    places = rng.uniform(-0.9, 0.9, (count, 2))
    side = int(np.abs(to_radar).argmax())
    places[:, side] = 0.9 * np.sign(to_radar[side])
    position = (places * half) @ turn.T + (thing.x, thing.y)
    velocity = np.tile(thing.speed * turn[:, 0], (count, 1))
    section = rng.normal(CROSS_SECTIONS[KINDS[thing.kind].category], SECTION_SPREAD, count)
    turned = abs(wrap_angle(thing.yaw - ego.yaw))
    dyn_prop = (STATIONARY if thing.speed < STANDS else MOVING if turned < math.pi / 4
                else ONCOMING if turned > 3 * math.pi / 4 else CROSSING)
    return _Reflections(position, velocity, section, np.full(count, dyn_prop),
                        np.full(count, thing.identity, np.int32))


def _clutter(state: WorldState, rays: Rays, rng: np.random.Generator) -> Iterator[_Reflections]:
    """Clutter of static scenery for every radar, from horizontal rays; strongest at normal incidence."""
    poses = [state.ego.pose @ mounting.pose for mounting in RADARS.values()]
    angles = rng.uniform(-HALF_OPENING, HALF_OPENING, (len(poses), CLUTTER_RAYS))
    level = np.stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)], -1)
    directions = np.concatenate([fan @ pose.rotation.T for fan, pose in zip(level, poses, strict=True)])
    origins = np.repeat([pose.translation for pose in poses], CLUTTER_RAYS, axis=0)
    hits = rays.cast(state, origins, directions)
    section = rng.normal(-4 + 10 * hits.incidence, 5.0)
    for radar in range(len(poses)):
        own = np.arange(radar * CLUTTER_RAYS, (radar + 1) * CLUTTER_RAYS)
        own = own[(hits.distance[own] < MAX_RANGE) & (hits.identity[own] == 0)]
        position = origins[own] + hits.distance[own, None] * directions[own]
        yield _Reflections(position[:, :2], np.zeros((len(own), 2)), section[own],
                           np.full(len(own), STATIONARY), np.zeros(len(own), np.int32))
