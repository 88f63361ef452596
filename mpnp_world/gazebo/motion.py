"""Trajectories sampled from the traffic, as scripts of actors and commands to the ego vehicle.

Gazebo interpolates the waypoints of actors with a Catmull-Rom spline.  With one waypoint per second it is
within centimetres of the traffic (test/mpnp_world/gazebo/test_motion.py).  Actors of plain boxes need Gazebo
Fortress 6.15, Garden 7.5 or Harmonic (gz-sim pull request 1947).
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from mpnp_ros.poses import wrap_angle
from mpnp_world.gazebo.elements import element
from mpnp_world.scene.state import WorldObject, WorldState

STILL = 0.02
"""Movement below this counts as standing, metres or radians."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses over time.

    times: seconds [N].  poses: x, y, z (metres) and a continuous yaw (radians), [N, 4].
    """

    times: np.ndarray
    poses: np.ndarray

    @property
    def moves(self) -> bool:
        """Whether the thing moves."""
        return bool(np.ptp(self.poses, axis=0).max() > STILL)


def trajectories(states: Sequence[WorldState]) -> dict[int, tuple[WorldObject, Trajectory]]:
    """Every thing at its first appearance and its trajectory, by identity.

    A thing stays at its first pose before it appears, and at its last pose after it disappears.
    """
    seen: dict[int, dict[float, WorldObject]] = {}
    for state in states:
        for item in state.objects:
            seen.setdefault(item.identity, {})[state.time] = item
    times = np.array([state.time for state in states]) - states[0].time
    found = {}
    for identity, items in seen.items():
        first = current = next(iter(items.values()))
        poses = np.zeros((len(states), 4))
        for row, state in zip(poses, states, strict=True):
            current = items.get(state.time, current)
            row[:] = current.x, current.y, current.z, current.yaw
        poses[:, 3] = np.unwrap(poses[:, 3])
        found[identity] = first, Trajectory(times, poses)
    return found


def ego_trajectory(states: Sequence[WorldState]) -> Trajectory:
    """The trajectory of the ego vehicle."""
    poses = np.array([(state.ego.x, state.ego.y, 0.0, state.ego.yaw) for state in states])
    poses[:, 3] = np.unwrap(poses[:, 3])
    return Trajectory(np.array([state.time for state in states]) - states[0].time, poses)


def script(trajectory: Trajectory, tension: float = 0.0) -> Element:
    """The script of an actor that follows the trajectory once."""
    waypoints = [element('waypoint', element('time', float(time)), element('pose', (x, y, z, 0, 0, yaw)))
                 for time, (x, y, z, yaw) in zip(trajectory.times, trajectory.poses.round(3), strict=True)]
    curve = element('trajectory', *waypoints, id='0', type='drive', tension=f'{tension:g}')
    return element('script', element('loop', 'false'), element('auto_start', 'true'), curve)


def actor(name: str, parts: Iterable[Element], trajectory: Trajectory, tension: float = 0.0) -> Element:
    """An actor that follows a script and is visible to all sensors."""
    return element('actor', element('link', *parts, name='link'), script(trajectory, tension), name=name)


def twist(start: np.ndarray, end: np.ndarray, seconds: float) -> tuple[float, float, float]:
    """Velocities ahead and to the left (m/s) and yaw rate (rad/s) that lead from one pose to the next.

    start, end: x, y, z, yaw.  Constant velocities in the moving frame for ``seconds`` end exactly there: the
    logarithm of a planar motion.
    """
    turn = wrap_angle(end[3] - start[3])
    cos, sin = math.cos(start[3]), math.sin(start[3])
    x, y = end[0] - start[0], end[1] - start[1]
    ahead, left = cos * x + sin * y, cos * y - sin * x
    half = turn / 2
    stretch = half / math.tan(half) if abs(half) > 1e-6 else 1.0
    forward, sideways = stretch * ahead + half * left, stretch * left - half * ahead
    return forward / seconds, sideways / seconds, turn / seconds
