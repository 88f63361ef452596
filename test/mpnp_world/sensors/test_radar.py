"""The radars of the world: where, how fast, how strong, and what does not touch them."""
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mpnp_ros.nuscenes.sensor_files import RADAR_DTYPE, read_radar
from mpnp_world.scene.identity import Conditions
from mpnp_world.scene.state import EgoState, Fixture, Patch, Scenery, WorldObject, WorldState
from mpnp_world.sensors.radar import CROSSING, MOVING, ONCOMING, STATIONARY, RadarSweep, radar_sweeps, to_pcd
from mpnp_world.sensors.rays import Rays
from mpnp_world.sensors.rig import RADARS
from mpnp_world.sensors.visibility import visibility

EGO = EgoState(100.0, -40.0, 2.0, 5.0)
STREET = Scenery((Fixture('building', 100.0, 0.0, 0.0, (30.0, 12.0, 15.0)),),
                 (Patch('road', ((0, -100), (200, -100), (200, 0), (0, 0))),))


def thing(x: float, y: float, heading: float, speed: float, kind: str = 'sedan', identity: int = 1,
          ego: EgoState = EGO) -> WorldObject:
    """An object at x ahead and y left of the ego vehicle, turned left of it by `heading` degrees."""
    place = ego.pose.apply(np.array((x, y, 0.0)))
    return WorldObject(identity, kind, None, place[0], place[1], ego.yaw + math.radians(heading),
                       {'pedestrian': (0.75, 0.65, 1.75), 'bus': (11.2, 2.9, 3.5)}.get(kind, (4.6, 1.9, 1.5)),
                       speed)


def world(*objects: WorldObject, ego: EgoState = EGO, time: float = 0.0, light: str = 'day',
          weather: str = 'clear', scenery: Scenery = STREET) -> WorldState:
    """A state on a street."""
    return WorldState(5, Conditions(light, weather), time, ego, objects, (), scenery)


def sweeps(state: WorldState) -> dict[str, RadarSweep]:
    """All radars."""
    rays = Rays()
    return radar_sweeps(state, rays, visibility(state, rays))


def answers(state: WorldState, channel: str, identity: int = 1) -> np.ndarray:
    """Points of one object at twenty moments."""
    found = [sweeps(replace(state, time=number / 2))[channel] for number in range(20)]
    return np.concatenate([sweep.points[sweep.identities == identity] for sweep in found])


@pytest.mark.parametrize('heading, speed, over_ground, seen, dyn_prop', [
    (0, 10, 10, 5, MOVING), (180, 10, -10, -15, ONCOMING), (90, 10, 0, -5, CROSSING),
    (0, 0, 0, -5, STATIONARY)])
def test_speed_ahead_has_the_right_sign_and_size(heading: float, speed: float, over_ground: float,
                                                 seen: float, dyn_prop: int) -> None:
    """Away, towards, across and at rest, from a vehicle at 5 m/s."""
    points = answers(world(thing(40, 0, heading, speed)), 'RADAR_FRONT')
    assert len(points) >= 20
    assert points['vx_comp'].mean() == pytest.approx(over_ground, abs=0.35)
    assert points['vx'].mean() == pytest.approx(seen, abs=0.35)
    assert set(points['dyn_prop']) == {dyn_prop}


def test_speed_is_radial() -> None:
    """Velocity and place are on one line through the radar."""
    points = answers(world(thing(25, 12, 180, 8)), 'RADAR_FRONT')
    across = points['x'] * points['vy_comp'] - points['y'] * points['vx_comp']
    assert len(points) >= 20
    assert np.abs(across / np.hypot(points['x'], points['y'])).max() < 1e-3
    bearing = math.atan2(12, 25 - 3.4)
    radial = np.hypot(points['vx_comp'], points['vy_comp'])
    assert radial.mean() == pytest.approx(8 * math.cos(bearing), abs=0.4)


def test_the_vehicles_turning_moves_its_radars() -> None:
    """Turning left, the radar on the left side approaches what stands there."""
    ego = replace(EGO, speed=0.0, yaw_rate=0.8)
    points = answers(world(thing(2.4, 20, 0, 0, ego=ego), ego=ego), 'RADAR_FRONT_LEFT')
    assert points['vx'].mean() == pytest.approx(-0.8 * 2.422, abs=0.1)
    assert points['vx_comp'].mean() == pytest.approx(0.0, abs=0.1)


def test_points_are_on_the_near_side_of_the_object_and_in_view() -> None:
    """A car ahead answers from its rear; every point is within 60 degrees, other radars do not see it."""
    state = world(thing(30, 0, 0, 0))
    points = answers(state, 'RADAR_FRONT')
    assert points['x'].mean() == pytest.approx(30 - 2.3 - 3.41, abs=0.4)
    assert np.abs(points['y']).max() < 2.0
    for channel, sweep in sweeps(state).items():
        azimuth = np.arctan2(sweep.points['y'], sweep.points['x'])
        assert np.abs(azimuth).max(initial=0.0) < math.radians(63)
        assert (1 in sweep.identities) == (channel == 'RADAR_FRONT')


def test_clutter_comes_from_what_stands() -> None:
    """Points of no identity lie on the building and have no speed over ground."""
    found = [sweep for number in range(8) for sweep in _placed(world(time=number / 2))]
    places = np.concatenate(found)
    assert len(places) > 30
    assert np.abs(places[:, 0] - 100).max() < 15 + 2
    assert np.abs(places[:, 1]).max() < 6 + 2


def _placed(state: WorldState) -> Iterator[np.ndarray]:
    for channel, sweep in sweeps(state).items():
        assert np.hypot(sweep.points['vx_comp'], sweep.points['vy_comp']).max(initial=0.0) < 1
        local = np.column_stack([sweep.points[axis] for axis in 'xyz']).astype(float)
        yield (state.ego.pose @ RADARS[channel].pose).apply(local)


def test_larger_things_answer_more_strongly_and_farther_off() -> None:
    """A bus and a pedestrian, near and far."""
    bus, walker = thing(30, 5, 0, 0, 'bus', 1), thing(25, -5, 0, 0, 'pedestrian', 2)
    near = world(bus, walker)
    assert answers(near, 'RADAR_FRONT', 1)['rcs'].mean() > answers(near, 'RADAR_FRONT', 2)['rcs'].mean() + 15
    far = world(thing(120, 5, 0, 0, 'bus', 1), thing(120, -5, 0, 0, 'pedestrian', 2), scenery=Scenery((), ()))
    assert len(answers(far, 'RADAR_FRONT', 1)) > 20
    assert len(answers(far, 'RADAR_FRONT', 2)) == 0


def test_what_is_hidden_answers_seldom() -> None:
    """A car behind a bus."""
    car = thing(40, 0, 0, 0)
    hidden = answers(world(car, thing(20, 0, 90, 0, 'bus', 2)), 'RADAR_FRONT')
    assert 0 < len(hidden) < 0.6 * len(answers(world(car), 'RADAR_FRONT'))


def test_light_and_weather_change_no_byte() -> None:
    """Fog, rain and night."""
    cars = [thing(10 * number, 3, 0, number, identity=number) for number in range(1, 6)]
    twins = [sweeps(world(*cars, light=light, weather=weather))
             for light, weather in (('day', 'clear'), ('night', 'clear'), ('day', 'fog'), ('dusk', 'rain'))]
    for twin in twins[1:]:
        assert all(to_pcd(twin[channel].points) == to_pcd(twins[0][channel].points) for channel in RADARS)


def test_noise_follows_from_seed_and_time() -> None:
    """The same moment twice is the same, the next is not."""
    first, again, later = (to_pcd(sweeps(world(thing(20, 0, 0, 0), time=time))['RADAR_FRONT'].points)
                           for time in (0.0, 0.0, 0.5))
    assert first == again
    assert first != later


def test_files_are_read_back(tmp_path: Path) -> None:
    """All 18 fields, one byte after the last point; an empty sweep has width 1 and comes back empty."""
    points = sweeps(world(thing(20, 0, 180, 7)))['RADAR_FRONT'].points
    assert len(points) > 0
    for content in (points, points[:0]):
        data = to_pcd(content)
        path = tmp_path / 'radar.pcd'
        path.write_bytes(data)
        header, body = data.split(b'DATA binary\n', 1)
        assert f'WIDTH {max(len(content), 1)}\n'.encode() in header
        assert len(body) == max(len(content), 1) * RADAR_DTYPE.itemsize + 1
        assert read_radar(path).tobytes() == content.tobytes()
