"""Light of sun, sky and haze by conditions, and of head lights and street lamps."""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpnp_world.scene.catalogue import KINDS
from mpnp_world.scene.identity import Conditions
from mpnp_world.scene.state import Scenery, WorldState
from mpnp_world.sensors.rig import EGO_REAR, EGO_SIZE

Light = tuple[float, float, float]

_HAZE_DENSITY = {'clear': 0.0009, 'rain': 0.006, 'fog': 0.035}
"""Extinction per metre."""
_CYCLES = ('vehicle.bicycle', 'vehicle.motorcycle')
_LAMP_POWER = 9.0


@dataclass(frozen=True)
class Lighting:
    """Light of one scene; colours are linear radiances.

    sun: zero if hidden by clouds or at night.  horizon: also the colour of haze; glow: around the sun at
    dusk. bounce: light from below.  darkness: weight of lamps, 0..1.  clouds: 0..1.  wetness: of roads.
    exposure: factor of the camera.
    """

    sun_direction: Light
    sun: Light
    zenith: Light
    horizon: Light
    glow: Light
    bounce: Light
    haze_density: float
    darkness: float
    clouds: float
    drift: float
    wetness: float
    exposure: float

    @property
    def shadows(self) -> bool:
        """Whether the sun casts shadows."""
        return max(self.sun) > 0.5


def lighting_of(seed: int, conditions: Conditions) -> Lighting:
    """The light of a scene; the position of the sun follows from the seed, the rest from the conditions."""
    rng = np.random.default_rng([seed, 0x11C47])
    azimuth, height, clouds, drift, warmth = rng.uniform([0, 0.45, 0.0, 0, 0], [math.tau, 1.1, 0.3, 50, 1])
    overcast = conditions.weather != 'clear'
    if conditions.light == 'dusk':
        height = 0.05
    direction = (math.cos(azimuth) * math.cos(height), math.sin(azimuth) * math.cos(height), math.sin(height))
    shade: dict[str, Any]
    if conditions.light == 'night':
        shade = {'sun': (0, 0, 0), 'zenith': (0.0030, 0.0035, 0.006), 'horizon': (0.012, 0.010, 0.009),
                 'glow': (0, 0, 0), 'bounce': (0.0012, 0.0012, 0.0014), 'darkness': 1.0, 'exposure': 2.0}
    elif conditions.light == 'dusk':
        glow = (0, 0, 0) if overcast else (0.34, 0.15 + 0.03 * warmth, 0.05)
        shade = {'sun': (0, 0, 0), 'zenith': (0.085, 0.10, 0.16), 'horizon': (0.17, 0.15, 0.17), 'glow': glow,
                 'bounce': (0.045, 0.043, 0.045), 'darkness': 0.55, 'exposure': 1.4}
    elif overcast:
        shade = {'sun': (0.3, 0.3, 0.3), 'zenith': (0.62, 0.66, 0.70), 'horizon': (0.70, 0.73, 0.75),
                 'glow': (0, 0, 0), 'bounce': (0.22, 0.22, 0.21), 'darkness': 0.0, 'exposure': 0.62}
    else:
        shade = {'sun': (2.6, 2.5 - 0.2 * warmth, 2.3 - 0.55 * warmth), 'zenith': (0.36, 0.50, 0.80),
                 'horizon': (0.62, 0.73, 0.90), 'glow': (0.12, 0.10, 0.06), 'bounce': (0.20, 0.19, 0.17),
                 'darkness': 0.0, 'exposure': 0.64}
    return Lighting(sun_direction=direction, clouds=0.45 if overcast else clouds, drift=drift,
                    haze_density=_HAZE_DENSITY[conditions.weather],
                    wetness=float(conditions.weather == 'rain'), **shade)


def head_lights(state: WorldState) -> np.ndarray:
    """Cones of head lights [N, 6]: position, horizontal direction, power; the ego vehicle's first."""
    ego = state.ego
    ahead = EGO_SIZE[0] - EGO_REAR + 0.15
    rows = [(ego.x, ego.y, 0.7, ego.yaw, ahead, 4.0)]
    for thing in state.objects:
        if thing.lights:
            power = 1.0 if KINDS[thing.kind].nuscenes in _CYCLES else 3.0
            rows.append((thing.x, thing.y, thing.z + 0.75, thing.yaw, thing.size[0] / 2 + 0.15, power))
    x, y, z, yaw, ahead, power = np.array(rows, np.float32).T
    return np.column_stack([x + ahead * np.cos(yaw), y + ahead * np.sin(yaw), z, np.cos(yaw), np.sin(yaw),
                            power])


def street_lamps(scenery: Scenery) -> np.ndarray:
    """Street lamps [N, 4]: position of the light, power."""
    rows = [(lamp.x + 0.85 * lamp.size[0] * math.cos(lamp.yaw),
             lamp.y + 0.85 * lamp.size[0] * math.sin(lamp.yaw),
             lamp.z + lamp.size[2] - 0.15, _LAMP_POWER) for lamp in scenery.fixtures if lamp.kind == 'lamp']
    return np.array(rows, np.float32).reshape(-1, 4)
