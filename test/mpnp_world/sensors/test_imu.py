"""The inertial measurement unit and odometry agree with each other."""
from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_world.scene.identity import Conditions
from mpnp_world.scene.state import EgoState, Scenery, WorldState
from mpnp_world.sensors.imu import (
    BUMP_EVERY,
    BUMP_SECONDS,
    GRAVITY,
    RATE,
    bump,
    inertial_readings,
    odometry,
    reading_numbers,
    road_vibration,
)

NOWHERE = Scenery((), ())


def drive(seconds: float, step: float, gain: float = 1.2, turning: float = 0.25) -> list[WorldState]:
    """From 4 m/s with an acceleration, on a spiral; positions by fine integration."""
    states, x, y, fine = [], 0.0, 0.0, 20
    for number in range(round(seconds / step) + 1):
        time = number * step
        states.append(WorldState(8, Conditions(), time, EgoState(x, y, 3.0 + turning * time, 4 + gain * time,
                                                                 gain, turning), (), (), NOWHERE))
        for part in range(fine):
            now = time + (part + 0.5) * step / fine
            x += step / fine * (4 + gain * now) * math.cos(3.0 + turning * now)
            y += step / fine * (4 + gain * now) * math.sin(3.0 + turning * now)
    return states


def test_readings_integrate_to_the_odometry() -> None:
    """Six seconds of dead reckoning end within half a metre; heading goes through pi on the way."""
    states = drive(6.0, 0.1)
    first, last = odometry(states[0]), odometry(states[-1])
    x, y, _ = first.position
    yaw, speed = 3.0, first.velocity[0]
    for before, after in zip(states, states[1:], strict=False):
        for reading in inertial_readings(before, after):
            yaw += reading.rotation_rate[2] / RATE
            speed += reading.acceleration[0] / RATE
            x, y = x + speed * math.cos(yaw) / RATE, y + speed * math.sin(yaw) / RATE
    assert math.dist((x, y), last.position[:2]) < 0.7
    assert math.dist(first.position, last.position) > 20
    assert speed == pytest.approx(last.velocity[0], abs=0.2)
    assert math.cos(yaw / 2) * last.orientation[0] + math.sin(yaw / 2) * last.orientation[3] == pytest.approx(
        math.copysign(1, math.cos(yaw / 2) * last.orientation[0]), abs=1e-3)


def test_a_mass_feels_gravity_the_bend_and_the_throttle() -> None:
    """Means over six seconds."""
    states = drive(6.0, 0.1)
    readings = [reading for before, after in zip(states, states[1:], strict=False)
                for reading in inertial_readings(before, after)]
    acceleration = np.array([reading.acceleration for reading in readings])
    speeds = np.array([4 + 1.2 * reading.time for reading in readings])
    assert acceleration[:, 0].mean() == pytest.approx(1.2, abs=0.08)
    assert (acceleration[:, 1] - 0.25 * speeds).mean() == pytest.approx(0.0, abs=0.08)
    assert acceleration[:, 2].mean() == pytest.approx(GRAVITY, abs=0.08)
    assert np.mean([reading.rotation_rate[2] for reading in readings]) == pytest.approx(0.25, abs=0.005)


def test_a_standing_car_shakes_little_and_a_fast_one_more() -> None:
    """Noise and engine at rest; the body and the wheels grow with speed, across the vertical less."""
    def spread(speed: float) -> np.ndarray:
        return np.std([road_vibration(8, number / RATE, speed) for number in range(700)], axis=0)

    rest, slow, fast = spread(0.), spread(2.), spread(12.)
    assert 0.005 < rest[5] < 0.04 and rest[:3].max() < 0.002
    assert slow[5] / rest[5] > 2 and 1.5 < fast[5] / slow[5] < 10 and fast[5] < 1.5
    assert fast[3:5].max() < fast[5] and fast[:2].max() < 0.1
    standing = [WorldState(8, Conditions(), time, EgoState(0, 0, 0, 0), (), (), NOWHERE) for time in (0., 6.)]
    acceleration = np.array([reading.acceleration for reading in inertial_readings(*standing)])
    assert acceleration[:, 2].std() == pytest.approx(0.03, rel=0.25)


def test_bumps_are_felt_by_a_moving_car_only() -> None:
    """As long as they last, and as the seed has them."""
    found = [bump(5, slot) for slot in range(40)]
    assert 10 < sum(size > 0 for _, size in found) < 35
    assert found == [bump(5, slot) for slot in range(40)] != [bump(6, slot) for slot in range(40)]
    start, size = next(each for each in found if each[1])
    during = np.linspace(start, start + BUMP_SECONDS, 20)
    assert max(abs(road_vibration(5, time, 10.)[5]) for time in during) > size / 2
    assert max(abs(road_vibration(5, time, 0.)[5]) for time in during) < 0.1
    assert all(slot * BUMP_EVERY <= start <= (slot + 1) * BUMP_EVERY - BUMP_SECONDS
               for slot, (start, _) in enumerate(found))


def test_bias_is_of_the_scene_and_not_zero() -> None:
    """It stays when noise is averaged out, and another scene has another."""
    def mean(seed: int) -> np.ndarray:
        still = EgoState(0, 0, 0, 0)
        readings = inertial_readings(*(WorldState(seed, Conditions(), time, still, (), (), NOWHERE)
                                       for time in (0.0, 9.0)))
        return np.mean([reading.acceleration for reading in readings], axis=0) - (0, 0, GRAVITY)

    first, other = mean(1), mean(2)
    assert 0.004 < np.linalg.norm(first) < 0.12
    assert np.linalg.norm(first - other) > 0.004
    assert first.tolist() == mean(1).tolist()


def test_cutting_an_interval_in_two_changes_nothing() -> None:
    """Speed and heading change evenly, so the halves say the same as the whole."""
    states = drive(1.0, 0.5)
    whole = inertial_readings(states[0], states[2])
    halves = inertial_readings(*states[:2]) + inertial_readings(*states[1:])
    assert len(whole) == RATE
    assert [reading.time for reading in whole] == [reading.time for reading in halves]
    for first, other in zip(whole, halves, strict=True):
        assert first.acceleration == pytest.approx(other.acceleration, abs=1e-9)
        assert first.rotation_rate == pytest.approx(other.rotation_rate, abs=1e-9)
        assert first.orientation == pytest.approx(other.orientation, abs=1e-9)


@given(st.lists(st.integers(1, 70), min_size=1, max_size=30),
       st.sampled_from([0.01, 0.05, 0.1, 1 / 12, 0.003]))
def test_successive_intervals_miss_no_reading_and_repeat_none(steps: list[int], step: float) -> None:
    """Whatever the steps of the simulation are, times being sums of floats."""
    times = np.cumsum([0.0] + [count * step for count in steps])
    numbers = [number for start, end in zip(times, times[1:], strict=False)
               for number in reading_numbers(start, end)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) == math.floor(times[-1] * RATE + 1e-6)
