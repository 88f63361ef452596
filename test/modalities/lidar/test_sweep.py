from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mpnp_ros.errors import PointCloudError
from mpnp_ros.modalities.geometry import levelled
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.sweep import (
    IntensityScale,
    LidarFrame,
    are_shares,
    paint,
    project,
    range_view,
    usable_points,
    view_azimuths,
)

CONFIG = LidarConfig(rows=8, columns=16, sectors=4)
RNG = np.random.default_rng(0)
SHARES = (RNG.integers(0, 100, 5000) / 100).astype(np.float32)  # as KITTI has them


def about_z(yaw):
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def at(azimuth, distance=10.0, height=0.0):
    return [distance * np.cos(azimuth), distance * np.sin(azimuth), height]


def columns_hit(frame, config=CONFIG):
    return np.flatnonzero((range_view(frame, config)[0] > 0).any(axis=0)).tolist()


def test_columns_run_clockwise_from_behind_and_rows_from_the_highest_beam():
    azimuth = np.radians([179, 90, 0, -90, -179])
    assert (project(azimuth, np.zeros(5), 8, 16, 10, -30) % 16).tolist() == [0, 4, 8, 12, 15]
    elevation = np.radians([30, 9.9, 4.9, -29.9, -60])
    assert (project(np.zeros(5), elevation, 8, 16, 10, -30) // 16).tolist() == [0, 0, 1, 7, 7]


@given(st.integers(1, 60), st.integers(0, 2 ** 32 - 1))
def test_the_nearest_point_wins_in_any_order(count, seed):
    random = np.random.default_rng(seed)
    pixels, distance = random.integers(0, 12, count), random.permutation(count) + 1.0
    picture, filled = paint(pixels, distance, distance[None], 3, 4)
    for pixel in range(12):
        own = distance[pixels == pixel]
        assert filled.flat[pixel] == (len(own) > 0)
        assert picture[0].flat[pixel] == (own.min() if len(own) else 0)


@given(arrays.arrays(np.float32, st.tuples(st.integers(0, 30), st.integers(3, 5)),
                     elements=st.floats(width=32, allow_nan=True, allow_infinity=True)))
@settings(max_examples=200)
def test_any_numbers_give_a_finite_view_or_a_named_error(points):
    frame = LidarFrame(points, points[:, 2], about_z(0.3), np.array([1.0, 0, 2]))
    try:
        view = range_view(frame, CONFIG)
    except PointCloudError:
        with np.errstate(over='ignore'):
            distance = np.linalg.norm(points[:, :3].astype(np.float64), axis=1)
        assert not ((distance > 1.001) & (distance < 1e18)).any()
    else:
        assert view.shape == (3, 8, 16) and view.dtype == np.float32
        assert np.isfinite(view).all() and view.min() >= 0 and view.max() <= 1


def test_fields_are_log_range_intensity_and_height_above_the_base():
    frame = LidarFrame(np.array([at(0.0, 80.0)]), np.array([51]), translation=np.array([0, 0, 2.0]))
    view = range_view(frame, CONFIG)
    row, column = np.argwhere(view[0] > 0)[0]
    assert view[:, row, column] == pytest.approx([1.0, 0.2, 0.5])


def test_a_near_point_is_seen_from_the_base_not_from_the_sensor():
    frame = LidarFrame(np.array([[0.0, 2.0, 0.0]]), translation=np.array([2.0, 0, 0]))
    assert columns_hit(frame) == [6] and columns_hit(LidarFrame(frame.points)) == [4]


def test_turning_the_sensor_on_the_robot_leaves_the_view_alone():
    points = np.random.default_rng(0).normal(size=(500, 3)) * [20, 20, 2]
    straight = LidarFrame(points, None, about_z(0.4), np.array([1.0, 0.2, 1.8]))
    for theta in (1.1, -2.5, np.pi):
        turn = about_z(theta)
        turned = LidarFrame(points, None, turn @ straight.rotation, turn @ straight.translation)
        assert np.mean(range_view(turned, CONFIG) != range_view(straight, CONFIG)) < 0.01


def about_x(roll):
    return np.roll(np.roll(about_z(roll), 1, axis=0), 1, axis=1)


def street(seed=0):
    """Points of the world around the origin, within the rows of CONFIG."""
    random = np.random.default_rng(seed)
    azimuth, distance = random.uniform(-np.pi, np.pi, 40_000), random.uniform(3, 60, 40_000)
    height = distance * np.tan(np.radians(random.uniform(-25, 8, 40_000)))
    return np.stack([distance * np.cos(azimuth), distance * np.sin(azimuth), height], axis=1)


@pytest.mark.parametrize('roll', [180, 90, 20, -8])
def test_a_sensor_that_is_not_level_sees_what_a_level_one_sees(roll):
    world, config = street(), LidarConfig(rows=32, columns=720)
    lean = about_z(0.7) @ about_x(np.radians(roll))
    level = range_view(LidarFrame(world @ about_z(0.7), world[:, 2], about_z(0.7)), config)
    leaning = range_view(LidarFrame(world @ lean, world[:, 2], lean), config)
    assert (level[0] > 0).mean() > 0.7
    assert np.mean(~np.isclose(leaning, level, atol=1e-5)) < 0.001


def test_the_points_of_a_sensor_that_is_about_level_are_as_they_were():
    points = np.float32(street()[:50])
    for rotation in (None, about_z(2.), about_x(np.radians(2.9)) @ about_z(1.)):
        assert levelled(LidarFrame(points, rotation=rotation), points) is points
    frame = LidarFrame(points, rotation=about_x(np.radians(3.1)))
    assert np.allclose(levelled(frame, points), points @ frame.rotation.T)


def test_lost_and_near_returns_are_dropped():
    points = np.array([[np.nan, 1, 1], [np.inf, 0, 0], [0.5, 0, 0], [0, 0, 0], [3, 4, 0]], np.float64)
    cloud = usable_points(LidarFrame(points, np.array([1, 2, 3, 4, np.nan])), 1.0)
    assert cloud.points.tolist() == [[3, 4, 0]] and cloud.distance == [5] and cloud.intensity == [0]


@pytest.mark.parametrize('points, intensity, message', [
    (np.zeros((0, 3)), None, 'none of 0 points'),
    (np.full((7, 3), np.nan), None, 'none of 7 points.*min_range'),
    (np.ones((4, 2)), None, r'shape \[4, 2\]'), (np.ones(9), None, r'shape \[9\]'),
    (np.ones((4, 3)), np.ones(3), '4 points but intensity')])
def test_a_cloud_without_usable_points_is_refused_by_the_name_of_the_sensor(points, intensity, message):
    with pytest.raises(PointCloudError, match=f'roof: .*{message}'):
        range_view(LidarFrame(points, intensity, name='roof'), CONFIG)


@pytest.mark.parametrize('mounting, message', [
    ({'rotation': np.zeros((3, 3))}, 'rotation'), ({'translation': np.array([0, np.nan, 0])}, 'translation'),
    ({'translation': np.zeros(2)}, 'translation')])
def test_a_broken_mounting_is_refused(mounting, message):
    with pytest.raises(PointCloudError, match=f'lidar: its {message}'):
        range_view(LidarFrame(np.ones((4, 3)), **mounting), CONFIG)


def test_sectors_follow_the_columns():
    centres = view_azimuths(16)
    assert np.degrees(centres[:2]) == pytest.approx([168.75, 146.25]) and centres.sum() == pytest.approx(0)
    for sector, azimuth in enumerate(centres):
        assert columns_hit(LidarFrame(np.array([at(azimuth)]))) == [sector]


def test_shares_come_on_the_scale_of_the_encoder():
    scaled, misfit = IntensityScale(255.).fit(SHARES)
    np.testing.assert_allclose(scaled, SHARES * 255)
    assert not misfit
    with_a_few_beyond = np.append(SHARES, np.full(20, 1.2, np.float32))
    assert IntensityScale(255.).fit(with_a_few_beyond)[0].max() == pytest.approx(306)


@pytest.mark.parametrize('values', [
    RNG.integers(0, 256, 5000), RNG.integers(0, 100, 5000), np.append(RNG.integers(0, 80, 5000), [255] * 40),
    RNG.uniform(0, 255, 5000), np.zeros(5000)])
def test_the_scale_of_nuscenes_is_left_as_it_is(values):
    values = values.astype(np.float32)
    scaled, misfit = IntensityScale(255.).fit(values)
    assert scaled is values and not misfit


@pytest.mark.parametrize('values, full, given, words', [
    (RNG.uniform(0, 6000, 5000), 255., 0., '9[5-6]% of the intensities are above 255, up to [56][0-9]+'),
    (RNG.integers(0, 65536, 5000), 255., 0., 'above 255, up to 655'),
    (RNG.integers(0, 2, 5000), 255., 0., 'reach 1 of 255 only'),
    (RNG.integers(0, 256, 5000), 255., 65535., 'reach 255 of 65535 only; set full_intensity'),
    (RNG.integers(0, 256, 5000), 255., 1., 'above 1, up to 255; set full_intensity')])
def test_what_does_not_fit_is_said(values, full, given, words):
    _, misfit = IntensityScale(full, given).fit(values.astype(np.float32))
    assert re.search(words, misfit)


def test_a_given_scale_and_an_encoder_for_shares_are_obeyed():
    photons = np.array([0., 3000., 6000.], np.float32)
    np.testing.assert_allclose(IntensityScale(255., 6000.).fit(photons)[0], [0, 127.5, 255])
    assert IntensityScale(1.).fit(SHARES)[0] is SHARES
    assert IntensityScale(255.).fit(None) == (None, '')


def test_a_small_sweep_has_the_scale_of_the_one_before():
    scale = IntensityScale(255.)
    few = np.array([0.5, np.nan], np.float32)
    np.testing.assert_array_equal(scale.fit(few)[0], few)
    scale.fit(np.append(SHARES, np.nan))
    np.testing.assert_array_equal(scale.fit(few)[0], few * 255)
    assert not are_shares(-SHARES)
