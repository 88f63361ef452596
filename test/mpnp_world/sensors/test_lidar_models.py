"""Random LiDARs: they differ by scene, follow from its seed, and see the same world."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpnp_world.scene.identity import Conditions
from mpnp_world.scene.state import EgoState, Patch, Scenery, WorldState
from mpnp_world.sensors.lidar import sweep
from mpnp_world.sensors.lidar_models import HDL_32E, LidarModel, random_lidar
from mpnp_world.sensors.rays import Rays
from mpnp_world.sensors.rig import LIDAR

ROAD = Scenery((), (Patch('road', ((-90, -90), (90, -90), (90, 90), (-90, 90))),))
STATE = WorldState(4, Conditions('day', 'clear'), 0.0, EgoState(3., 5., .5, 0.), (), (), ROAD)


def points_of(model: LidarModel) -> np.ndarray:
    """x, y, z in the ego frame and intensity."""
    points = sweep(STATE, Rays(), 0, model).points.astype(np.float64)
    return np.column_stack([LIDAR.pose.apply(points[:, :3]), points[:, 3]])


def test_they_follow_from_the_seed_and_differ() -> None:
    models = [random_lidar(seed) for seed in range(60)]
    assert models == [random_lidar(seed) for seed in range(60)]
    beams = {len(model.elevations) for model in models}
    assert {16, 32, 64, 128} <= beams and 10 < sum(model.lift == 0 for model in models) < 40
    assert all(.35 <= 1 / model.rate <= .6 and len(model.elevations) * model.columns <= 90_000
               for model in models)
    assert all(list(model.elevations) == sorted(model.elevations) for model in models)


def test_a_higher_one_sees_the_same_road_from_above() -> None:
    model = LidarModel(elevations=(-20., -10.), columns=400, lift=.5, noise=0.)
    points = points_of(model)
    assert np.abs(points[:, 2]).max() < .05
    radius = np.hypot(points[:, 0] - LIDAR.translation[0], points[:, 1])
    assert np.median(radius) == pytest.approx((1.84 + .5) / np.tan(np.radians(10)), rel=.05)


def test_a_wrong_calibration_tilts_the_road() -> None:
    level, tilted = (points_of(LidarModel(columns=400, noise=0., tilt=tilt, sag=sag))
                     for tilt, sag in (((0., 0.), 0.), ((.01, 0.), .1)))
    np.testing.assert_allclose(tilted[:, :2], level[:, :2], atol=1e-3)
    rise = tilted[:, 2] - level[:, 2]
    np.testing.assert_allclose(rise, .1 + .01 * (level[:, 0] - LIDAR.translation[0]), atol=2e-3)


def test_nothing_is_seen_through_the_vehicle_itself() -> None:
    points = points_of(LidarModel(elevations=tuple(np.linspace(-70, -20, 40)), columns=400, lift=.4))
    inside = (points[:, 0] > -.6) & (points[:, 0] < 3.4) & (np.abs(points[:, 1]) < .85)
    assert len(points) > 3000 and not inside.any()


def test_intensities_have_a_scale_of_their_own_and_returns_are_lost() -> None:
    plain, other = (points_of(replace(HDL_32E, noise=.03, gamma=gamma, drop_out=lost))
                    for gamma, lost in ((1., 0.), (.5, .3)))
    assert np.median(other[:, 3]) > 1.3 * np.median(plain[:, 3]) and other[:, 3].max() <= 255
    assert len(other) / len(plain) == pytest.approx(.7, abs=.03)
