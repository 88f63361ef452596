"""The LiDAR of the world: geometry, identities, and what light and weather change."""
from __future__ import annotations

import math

import numpy as np
import pytest

from mpnp_world.scene.identity import Conditions
from mpnp_world.scene.state import EgoState, Fixture, Patch, Scenery, WorldObject, WorldState
from mpnp_world.sensors.lidar import LidarSweep, sweep
from mpnp_world.sensors.rays import Rays
from mpnp_world.sensors.rig import LIDAR

STREET = Scenery(
    tuple(Fixture('building', x, y, 0.0, (18.0, 12.0, 15.0)) for x in range(-80, 81, 20) for y in (-25, 25)),
    (Patch('road', ((-150, -30), (150, -30), (150, 30), (-150, 30))),))
EGO = EgoState(30.0, 5.0, 0.5, 0.0)
BEARING = math.radians(-40)


def truck(distance: float = 15.0) -> WorldObject:
    """Rear towards the ego vehicle, `distance` metres from its LiDAR to its middle, ahead to the right."""
    x, y = EGO.pose.apply(LIDAR.translation)[:2]
    heading = EGO.yaw + BEARING
    return WorldObject(9, 'box_truck', 'parked', x + distance * math.cos(heading),
                       y + distance * math.sin(heading), heading, (8.0, 2.5, 3.1))


def world(light: str = 'day', weather: str = 'clear', *objects: WorldObject) -> WorldState:
    """A street in the light and the weather named."""
    return WorldState(4, Conditions(light, weather), 0.0, EGO, objects, (), STREET)


def ranges(result: LidarSweep) -> np.ndarray:
    """Metres from the sensor."""
    return np.linalg.norm(result.points[:, :3], axis=1)


def test_an_object_is_at_its_range_and_azimuth() -> None:
    """All points of its identity are in its box, the nearest on its rear."""
    thing = truck()
    result = sweep(world('day', 'clear', thing), Rays(), 0)
    mine = result.points[result.identities == 9]
    assert len(mine) > 200
    in_ego = LIDAR.pose.apply(mine[:, :3].astype(np.float64))
    offset = in_ego - LIDAR.translation
    azimuth = np.arctan2(offset[:, 1], offset[:, 0])
    assert azimuth.mean() == pytest.approx(BEARING, abs=0.01)
    assert np.hypot(*offset[:, :2].T).min() == pytest.approx(11.0, abs=0.3)
    in_world = EGO.pose.apply(in_ego) - (thing.x, thing.y, 0)
    along = in_world[:, :2] @ (math.cos(thing.yaw), math.sin(thing.yaw))
    across = in_world[:, :2] @ (-math.sin(thing.yaw), math.cos(thing.yaw))
    assert np.abs(along).max() < 4.0 + 0.15
    assert np.abs(across).max() < 1.25 + 0.15
    assert -0.15 < in_world[:, 2].min() < in_world[:, 2].max() < 3.1 + 0.15


def test_points_of_no_identity_are_outside_the_object() -> None:
    """No point of street or buildings is inside the truck's box."""
    thing = truck()
    result = sweep(world('day', 'clear', thing), Rays(), 0)
    others = LIDAR.pose.apply(result.points[result.identities == 0, :3].astype(np.float64))
    offset = EGO.pose.apply(others) - (thing.x, thing.y, 0)
    inside = ((np.abs(offset[:, :2] @ (math.cos(thing.yaw), math.sin(thing.yaw))) < 3.9)
              & (np.abs(offset[:, :2] @ (-math.sin(thing.yaw), math.cos(thing.yaw))) < 1.15)
              & (offset[:, 2] > 0.2))
    assert set(result.identities) == {0, 9}
    assert not inside.any()


def test_a_sweep_is_made_as_those_of_nuscenes_are() -> None:
    """Type, rings, intensities; ground lies at the height of the sensor below it."""
    result = sweep(world(), Rays(), 0)
    x, y, z, intensity, ring = result.points.T
    assert result.points.dtype == np.dtype('<f4')
    assert len(result.identities) == len(result.points)
    assert set(range(3, 32)) <= set(ring) <= set(range(32))
    assert 0 <= intensity.min() <= intensity.max() <= 255
    assert (intensity == np.floor(intensity)).all()
    elevation = np.degrees(np.arcsin(z / ranges(result)))
    assert elevation[ring == 5].mean() == pytest.approx(-30.67 + 5 * 41.34 / 31, abs=0.3)
    below = LIDAR.pose.apply(result.points[(ring < 12) & (np.hypot(x, y) < 7), :3])[:, 2]
    assert below.mean() == pytest.approx(0.0, abs=0.01)
    assert below.std() == pytest.approx(0.02 * 0.4, abs=0.006)


def test_the_ego_vehicle_hides_the_ground_beside_it() -> None:
    """The roof stops the steepest rays ahead and astern; nothing is nearer than the ground can be."""
    result = sweep(world(), Rays(), 0)
    steep = result.points[result.points[:, 4] == 2]
    ahead = LIDAR.pose.apply(steep[:, :3]) - LIDAR.translation
    assert len(steep) > 150
    assert (np.abs(np.arctan2(ahead[:, 1], ahead[:, 0])) > math.radians(15)).all()
    assert ranges(result).min() > 3.0


def test_night_changes_no_byte() -> None:
    """Nor does dusk."""
    day, dusk, night = (sweep(world(light, 'clear', truck()), Rays(), 3)
                        for light in ('day', 'dusk', 'night'))
    assert day.points.tobytes() == dusk.points.tobytes() == night.points.tobytes()
    assert day.identities.tobytes() == night.identities.tobytes()


def test_noise_follows_from_the_frame() -> None:
    """The same frame twice is the same, another is not."""
    first, again, other = (sweep(world(), Rays(), frame).points.tobytes() for frame in (0, 0, 1))
    assert first == again
    assert first != other


def test_weather_takes_far_points_fog_most_and_rain_some() -> None:
    """Beyond 40 m fog leaves less than a tenth; drops close by answer and belong to nothing."""
    clear, rain, fog = (sweep(world('day', weather, truck(8.0)), Rays(), 0)
                        for weather in ('clear', 'rain', 'fog'))
    far_clear, far_rain, far_fog = ((ranges(result) > 40).sum() for result in (clear, rain, fog))
    assert far_clear > 500
    assert 0.3 * far_clear < far_rain < 0.9 * far_clear
    assert far_fog < 0.1 * far_clear
    for result, least in ((clear, 0), (rain, 50), (fog, 200)):
        close = ranges(result) < 2.9
        assert close.sum() >= least
        assert not result.identities[close].any()
    assert (fog.identities == 9).sum() > 0.5 * (clear.identities == 9).sum()


def test_intensity_tells_markings_from_asphalt_and_falls_in_the_wet() -> None:
    """A marking all over one half of the road."""
    halves = Scenery((), (Patch('road', ((-150, -60), (150, -60), (150, 60), (-150, 60))),
                          Patch('marking', ((-150, 5), (150, 5), (150, 60), (-150, 60)))))
    medians = {}
    for weather in ('clear', 'rain'):
        state = WorldState(4, Conditions('day', weather), 0.0, EgoState(0, 5, 0, 0), (), (), halves)
        points = sweep(state, Rays(), 0).points
        points = points[(np.abs(points[:, 0]) > 1) & (points[:, 4] > 5)]
        left = LIDAR.pose.apply(points[:, :3])[:, 1] > 0
        medians[weather] = np.median(points[left, 3]), np.median(points[~left, 3])
    assert medians['clear'][0] > 3 * medians['clear'][1]
    assert medians['rain'][0] < 0.8 * medians['clear'][0]
