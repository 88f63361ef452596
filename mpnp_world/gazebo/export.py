"""A drive through the world as one SDF file."""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from mpnp_ros.errors import ConfigurationError
from mpnp_world.gazebo.bodies import body
from mpnp_world.gazebo.ego import ego_model
from mpnp_world.gazebo.elements import Triple, document, element, plugin, still_model, visuals
from mpnp_world.gazebo.motion import Trajectory, actor, ego_trajectory, trajectories
from mpnp_world.gazebo.street import fixtures, ground, lamp_lights, signals
from mpnp_world.scene.identity import Conditions
from mpnp_world.scene.state import Fixture, Signal, WorldState
from mpnp_world.scene.world import World

NAME = 'mpnp_street'
TICK = 0.01
"""Seconds of a simulation step; it divides the periods of LiDAR, IMU and odometry."""
REACH = 50.0
"""Distance from the ego trajectory within which things are exported, metres."""
STEPS = 10
"""Steps of the traffic between two waypoints, one second."""
LAMPS = 24
"""Number of street lamps with light, those nearest to the start of the drive."""
IMAGE_WIDTH = 800
LATITUDE, LONGITUDE = 42.3367, -71.0578
"""Degrees, in Boston."""


@dataclass(frozen=True)
class Sky:
    """Light of the sky: colours 0..1, and direction of the light of sun or moon."""

    ambient: Triple
    background: Triple
    sun: Triple
    direction: Triple


SKIES = {
    'day': Sky((0.45, 0.47, 0.5), (0.55, 0.7, 0.9), (1.0, 0.96, 0.88), (-0.4, -0.5, -0.8)),
    'dusk': Sky((0.16, 0.15, 0.18), (0.55, 0.36, 0.3), (0.6, 0.36, 0.2), (-0.9, -0.3, -0.25)),
    'night': Sky((0.025, 0.028, 0.04), (0.006, 0.008, 0.015), (0.02, 0.024, 0.035), (0.3, -0.4, -0.85)),
}


def drive_states(seed: int, light: str, seconds: int) -> list[WorldState]:
    """The state of every second of a drive, including its start and end."""
    world = World(seed, Conditions(light))
    states = [world.state()]
    for _ in range(seconds):
        for _ in range(STEPS):
            world.step(1 / STEPS)
        states.append(world.state())
    return states


def world_sdf(states: Sequence[WorldState], free: bool = False, image_width: int = IMAGE_WIDTH) -> str:
    """An SDF 1.9 file of a drive.  states: at least two of one drive, in order.

    Moving things are actors that follow their trajectories once.  The ego vehicle follows its trajectory
    unless it is ``free`` for commands on ``/cmd_vel``.  image_width: of the cameras, pixels. Raises
    ConfigurationError for too few states and for rain or fog, which Gazebo does not have.
    """
    if len(states) < 2:
        raise ConfigurationError(f'a world for Gazebo needs at least 2 moments of a drive, not {len(states)}')
    conditions = states[0].conditions
    if conditions.weather != 'clear':
        raise ConfigurationError(f'Gazebo has no {conditions.weather}; export clear weather')
    trajectory, dark = ego_trajectory(states), conditions.light != 'day'
    scenery, (x, y) = states[0].scenery, trajectory.poses[0, :2]
    near = [item for item in scenery.fixtures if _is_near(item, trajectory, max(item.size[:2]) / 2)]
    standing = sorted(near, key=lambda item: math.hypot(item.x - x, item.y - y))
    patches, shares = [], np.linspace(0, 1, 8, endpoint=False)[:, None, None]
    for patch in scenery.patches:  # near are those with a point of an edge within reach
        corners = np.array(patch.corners)
        edges = ((1 - shares) * corners + shares * np.roll(corners, -1, 0)).reshape(-1, 2)
        if _distance(edges, trajectory).min() < REACH:
            patches.append(patch)
    parts = [*_systems(), *_scene(conditions), ground(tuple(patches)), *fixtures(standing, dark),
             *(lamp_lights(standing, LAMPS) if dark else ()),
             *signals(states, lambda item: _is_near(item, trajectory)), *_things(states, trajectory),
             ego_model(trajectory, TICK, image_width, dark, free)]
    return document(element('sdf', element('world', *parts, name=NAME), version='1.9'))


def _systems() -> list[Element]:
    """The plugins of the simulator."""
    steps = (element('max_step_size', TICK), element('real_time_factor', 1.0))
    return [element('physics', *steps, name='steps', type='ignored'), plugin('physics', 'Physics'),
            plugin('user-commands', 'UserCommands'), plugin('scene-broadcaster', 'SceneBroadcaster'),
            plugin('sensors', 'Sensors', element('render_engine', 'ogre2')), plugin('imu', 'Imu')]


def _scene(conditions: Conditions) -> list[Element]:
    """Sky, sun and geographic position, which the IMU needs for north."""
    sky = SKIES[conditions.light]
    place = element('spherical_coordinates', element('surface_model', 'EARTH_WGS84'),
                    element('world_frame_orientation', 'ENU'), element('latitude_deg', LATITUDE),
                    element('longitude_deg', LONGITUDE), element('elevation', 0.0),
                    element('heading_deg', 0.0))
    scene = element('scene', element('ambient', (*sky.ambient, 1)),
                    element('background', (*sky.background, 1)), element('shadows', 'true'),
                    element('grid', 'false'))
    sun = element('light', element('pose', (0, 0, 60, 0, 0, 0)), element('cast_shadows', 'true'),
                  element('diffuse', (*sky.sun, 1)), element('specular', (0.2, 0.2, 0.2, 1)),
                  element('direction', sky.direction), name='sun', type='directional')
    return [place, scene, sun]


def _things(states: Sequence[WorldState], ego: Trajectory) -> list[Element]:
    """All things that are ever within reach: static ones as models, others as actors."""
    made = []
    for identity, (item, trajectory) in trajectories(states).items():
        if np.linalg.norm(trajectory.poses[:, :2] - ego.poses[:, :2], axis=1).min() > REACH:
            continue
        name, parts = f'{item.kind}_{identity}', visuals(body(item), item.colour)
        x, y, z, yaw = trajectory.poses[0]
        made.append(actor(name, parts, trajectory) if trajectory.moves
                    else still_model(name, (x, y, z, 0, 0, yaw), parts))
    return made


def _is_near(item: Fixture | Signal, trajectory: Trajectory, radius: float = 0.0) -> bool:
    return bool(_distance(np.array([(item.x, item.y)]), trajectory)[0] < REACH + radius)


def _distance(places: np.ndarray, trajectory: Trajectory) -> np.ndarray:
    """Metres from each of ``places`` [N, 2] to the nearest point of the trajectory."""
    return np.linalg.norm(places[:, None] - trajectory.poses[None, :, :2], axis=-1).min(1)
