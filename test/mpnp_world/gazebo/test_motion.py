"""Actors follow the traffic, and the ego vehicle's commands lead along its path."""
from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_world.gazebo.export import TICK, world_sdf
from mpnp_world.gazebo.motion import trajectories, twist

METRES = st.floats(-20, 20)
HEADING = st.floats(-10, 10)


def waypoints(drive_states, name: str) -> np.ndarray:
    """Time, x, y, z, yaw of an actor's script, [N, 5]."""
    actor = ElementTree.fromstring(world_sdf(drive_states)).find(f"world/actor[@name='{name}']")
    rows = [[float(item.findtext('time')), *map(float, item.findtext('pose').split())]
            for item in actor.iter('waypoint')]
    return np.array(rows)[:, [0, 1, 2, 3, 6]]


@pytest.mark.parametrize(('name', 'identity'), [('sedan_101', 101), ('pedestrian_102', 102)])
def test_waypoints_are_where_the_traffic_is(drive_states, name, identity):
    for state, (time, x, y, z, yaw) in zip(drive_states, waypoints(drive_states, name), strict=True):
        item = next(item for item in state.objects if item.identity == identity)
        assert (time, x, y, z, yaw) == pytest.approx((state.time, item.x, item.y, item.z, item.yaw), abs=6e-4)


def test_between_waypoints_the_spline_stays_with_the_traffic(drive_states, at):
    """Catmull-Rom, halfway between two inner waypoints: (-1, 9, 9, -1) / 16."""
    points = waypoints(drive_states, 'sedan_101')[:, 1:3]
    for index in range(1, len(points) - 2):
        middle = np.array([-1, 9, 9, -1]) / 16 @ points[index - 1:index + 3]
        true = next(item for item in at(index + .5).objects if item.identity == 101)
        assert np.hypot(*(middle - (true.x, true.y))) < 0.05


def test_what_comes_late_waits_where_it_will_come(drive_states):
    points = waypoints(drive_states, 'bus_103')
    assert points[:3, 1] == pytest.approx([-30, -30, -30])
    assert points[-1, 1] == pytest.approx(-10)


def test_yaw_is_continuous(drive_states):
    for _, trajectory in trajectories(drive_states).values():
        assert np.abs(np.diff(trajectory.poses[:, 3])).max() < math.pi


@given(METRES, METRES, HEADING, METRES, METRES, st.floats(-3, 3), st.floats(0.1, 5))
def test_a_twist_kept_up_leads_to_the_next_pose(x, y, yaw, dx, dy, turn, seconds):
    """Checked by small steps in the moving frame."""
    ahead, left, rate = twist(np.array([x, y, 0, yaw]), np.array([x + dx, y + dy, 0, yaw + turn]), seconds)
    steps = 2000
    headings = yaw + rate * seconds * (np.arange(steps) + .5) / steps
    speed = np.array([ahead * np.cos(headings) - left * np.sin(headings),
                      ahead * np.sin(headings) + left * np.cos(headings)])
    assert speed.mean(1) * seconds == pytest.approx([dx, dy], abs=1e-3)
    assert rate * seconds == pytest.approx(turn)


def test_commands_drive_the_ego_along_its_path(drive_states):
    """Play what the file publishes: first velocities, then commands at their clock times."""
    ego = ElementTree.fromstring(world_sdf(drive_states)).find("world/model[@name='ego']")
    x, y, *_, yaw = map(float, ego.findtext('pose').split())
    pose = np.array([x, y, yaw])
    start = next(item for item in ego.findall('plugin') if 'VelocityControl' in item.get('name'))
    current = [*map(float, start.findtext('initial_linear').split()[:2]),
               float(start.findtext('initial_angular').split()[2])]
    orders = {clock(item): order(item) for item in ego.findall('plugin') if item.find('output') is not None}
    steps = round(drive_states[-1].time / TICK)
    for step in range(steps):
        pose = moved(pose, current, TICK)
        current = orders.get(round((step + 1) * TICK - TICK, 6), current)
        if (step + 1) % round(1 / TICK) == 0:
            true = drive_states[round((step + 1) * TICK)].ego
            assert pose == pytest.approx((true.x, true.y, true.yaw), abs=0.02)
    assert orders[round(drive_states[-1].time - TICK, 6)] == [0, 0, 0]


def clock(plugin: ElementTree.Element) -> float:
    """Seconds of the trigger."""
    seconds, nanoseconds = (int(item.text) for item in plugin.find('input'))
    return round(seconds + nanoseconds / 1e9, 6)


def order(plugin: ElementTree.Element) -> list[float]:
    """Ahead, left, yaw rate of the message."""
    text = plugin.findtext('output')
    return [float(text.split(f'{name}: ')[1].split(',')[0].split('}')[0]) for name in ('{x', ' y', '{z')]


def moved(pose: np.ndarray, velocity: list[float], seconds: float) -> np.ndarray:
    """A short step in the moving frame."""
    ahead, left, rate = velocity
    middle = pose[2] + rate * seconds / 2
    return pose + seconds * np.array([ahead * math.cos(middle) - left * math.sin(middle),
                                      ahead * math.sin(middle) + left * math.cos(middle), rate])


def test_a_free_vehicle_has_no_orders(drive_states):
    ego = ElementTree.fromstring(world_sdf(drive_states, free=True)).find("world/model[@name='ego']")
    assert not [item for item in ego.findall('plugin') if item.find('output') is not None]
    assert ego.find('plugin/initial_linear') is None
    assert ego.findtext('plugin/topic') == '/cmd_vel'
