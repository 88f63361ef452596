"""What holds together above the ground, and what of it moves."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.detection.clusters import FEWEST, OWN_BODY, ClusterTracker, clusters_of
from mpnp_ros.poses import Transform, rotation_about_z

PERIOD = 100_000_000


def ground(rng, count=20000):
    return np.column_stack([rng.uniform(-40, 40, (count, 2)), rng.normal(0, .02, count)])


def block(rng, x, y, length=4.5, width=1.8, height=1.5, count=400, yaw=0.):
    there = rng.uniform(-.5, .5, (count, 3)) * [length, width, height] + [0, 0, height / 2 + .2]
    return there @ rotation_about_z(yaw).T + [x, y, 0]


def test_things_that_stand_apart_are_clusters_with_their_extent():
    rng = np.random.default_rng(0)
    cloud = np.concatenate([ground(rng), block(rng, 10, 4), block(rng, -12, -3, .6, .6, 1.5, 100),
                            block(rng, 0, 12, yaw=.6), np.full((5, 3), np.nan), np.full((9, 3), .1)])
    found = clusters_of(rng.permutation(cloud))
    order = found.centre[:, 0].argsort()
    np.testing.assert_allclose(found.centre[order], [(-12, -3), (0, 12), (10, 4)], atol=.2)
    np.testing.assert_allclose(found.length[order], [.6, 4.5, 4.5], atol=.35)
    np.testing.assert_allclose(found.width[order], [.6, 1.8, 1.8], atol=.35)
    np.testing.assert_allclose(found.top[order], 1.7, atol=.2)
    assert np.isnan(found.evidence).all() and np.isfinite(found.points).all()
    assert (found.count == np.bincount(found.index[found.index >= 0])).all()


@given(st.lists(st.tuples(*[st.floats(-60, 60, width=32)] * 2, st.floats(-3, 6, width=32)), max_size=40),
       st.floats(-3, 3), st.tuples(st.floats(-9, 9), st.floats(-9, 9)))
@settings(deadline=None, max_examples=60)
def test_every_cloud_gives_clusters_in_order(points, yaw, shift):
    found = clusters_of(np.array(points).reshape(-1, 3).repeat(3, axis=0))
    assert len(found.index) == len(found.points) and (found.index < len(found)).all()
    assert (found.count >= FEWEST).all() and (found.length >= found.width).all()
    assert (np.hypot(*found.points[:, :2].T) > OWN_BODY).all()
    for cluster in range(len(found)):
        away = np.hypot(*(found.points[found.index == cluster, :2] - found.centre[cluster]).T)
        assert (away <= np.hypot(found.length[cluster], found.width[cluster]) / 2 + 1e-6).all()
    way = Transform(rotation_about_z(yaw), np.array([*shift, 0.]))
    back = found.moved(way).moved(way.inverse())
    np.testing.assert_allclose(back.points, found.points, atol=1e-6)
    np.testing.assert_allclose(back.centre, found.centre, atol=1e-6)


def test_clusters_that_move_are_told_from_a_robot_that_moves():
    rng, tracker = np.random.default_rng(1), ClusterTracker()
    street = ground(rng)
    for sweep in range(12):
        time = sweep * PERIOD / 1e9
        ego = Transform(rotation_about_z(.2 * time), np.array([5 * time, 0., 0.]))
        things = np.concatenate([block(rng, 15, 6), block(rng, 8 + 6 * time, -5)])
        told = tracker.follow(clusters_of(np.concatenate([street, ego.inverse().apply(things)])),
                              sweep * PERIOD, ego)
        assert tracker.concern == ''
    place = ego.apply(np.column_stack([told.centre, np.zeros(2)]))[:, 1].argsort()
    assert told.evidence[place[0]] > 2 and told.evidence[place[1]] < -1


def test_without_a_pose_nothing_is_known_of_motion():
    rng, tracker = np.random.default_rng(1), ClusterTracker()
    for sweep in range(3):
        told = tracker.follow(clusters_of(np.concatenate([ground(rng), block(rng, 15 + sweep, 6)])),
                              sweep * PERIOD, None)
    assert np.isnan(told.evidence).all() and 'pose of the robot' in tracker.concern


def test_no_points_are_no_clusters():
    found = clusters_of(np.zeros((0, 3)))
    assert len(found) == 0 and found.centre.shape == (0, 2)
    assert len(ClusterTracker().follow(found, 0, Transform(np.eye(3), np.zeros(3)))) == 0


@pytest.mark.parametrize('apart', [.9, 3.])
def test_far_away_points_may_lie_farther_apart(apart):
    rng = np.random.default_rng(2)
    pair = np.concatenate([block(rng, 30, 0, .3, .3, 1.5, 30), block(rng, 30, apart, .3, .3, 1.5, 30)])
    assert len(clusters_of(np.concatenate([ground(rng), pair]))) == (1 if apart < 1 else 2)
