"""What moves is told from where it is seen over time."""
from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.detection.classes import MOVING
from mpnp_ros.detection.detections import Detections
from mpnp_ros.detection.motion import MotionTracker, moving_of_velocity
from mpnp_ros.poses import Transform, rotation_about_z
from mpnp_ros.questions.vocabulary import CATEGORIES

PERIOD = 200_000_000
STANDS = Transform(np.eye(3), np.zeros(3))


def seen(places, stamp_ns, category='car', deviation=.3, **more):
    categories = np.zeros((len(places), 10))
    categories[:, [CATEGORIES.index(name) for name in np.atleast_1d(category)]] = 1
    categories /= categories.sum(1, keepdims=True).clip(1)
    return Detections(np.array(places, float).reshape(-1, 2), np.ones(len(places)), categories,
                      range_deviation=np.full(len(places), deviation), stamp_ns=stamp_ns, **more)


def drive(place, frames=15, category='car', deviation=.3, noise=.1, ego=lambda time: STANDS, seed=0,
          tracker=None):
    """Follow objects at ``place(time)`` of the fixed frame; returns the last frame."""
    tracker, rng = tracker or MotionTracker(), np.random.default_rng(seed)
    for frame in range(frames):
        pose = ego(frame * PERIOD / 1e9)
        there = np.array([[*xy, 0.] for xy in place(frame * PERIOD / 1e9)]).reshape(-1, 3)
        here = pose.inverse().apply(there)[:, :2] + rng.normal(0, noise, (len(there), 2))
        last = tracker.follow(seen(here, frame * PERIOD, category, deviation), pose)
    return last


def test_what_stands_stands_and_what_goes_goes_at_its_speed():
    last = drive(lambda time: [(10, 5), (5 + 4 * time, -8), (-9, 12 - 6 * time)])
    assert last.moving[0] < .05 and (last.moving[1:] > .95).all()
    np.testing.assert_allclose(last.velocity, [(0, 0), (4, 0), (0, -6)], atol=1.)
    assert sorted(last.track) == [0, 1, 2]


def test_the_robot_moves_and_turns_and_the_velocity_is_along_its_own_axes():
    def ego(time):
        return Transform(rotation_about_z(math.pi / 2 + .3 * time), np.array([3 * time, 1., 0.]))

    last = drive(lambda time: [(10, 5), (5, -8 + 5 * time)], ego=ego)
    assert last.moving[0] < .05 and last.moving[1] > .95
    expected = rotation_about_z(-math.pi / 2 - .3 * 2.8)[:2, :2] @ [0, 5]
    np.testing.assert_allclose(last.velocity[1], expected, atol=1.2)


def test_without_a_pose_nothing_is_told_and_the_tracker_says_so():
    tracker = MotionTracker()
    for frame in range(5):
        last = tracker.follow(seen([(10 + frame, 5)], frame * PERIOD), None)
    assert np.isnan(last.moving).all() and last.track.tolist() == [-1]
    assert 'pose of the robot is not known' in tracker.concern
    tracker.follow(seen([(10, 5)], 6 * PERIOD), STANDS)
    assert tracker.concern == ''


def test_at_first_sight_nothing_is_told():
    last = drive(lambda time: [(10, 5)], frames=1)
    assert np.isnan(last.moving).all() and np.isnan(last.velocity).all() and last.track.tolist() == [0]


@pytest.mark.parametrize('seed', range(5))
def test_a_bad_distance_leaves_the_prior_and_a_direction_tells_even_so(seed):
    rng, tracker = np.random.default_rng(seed), MotionTracker()
    for frame in range(20):
        scale = 1 + .3 * rng.normal(size=2)
        crossing = np.array([15, -10 + 5 * frame * PERIOD / 1e9]) * scale[1]
        last = tracker.follow(seen([(20 * scale[0], 0), crossing], frame * PERIOD, deviation=6.), STANDS)
    assert abs(last.moving[0] - MOVING['vehicle']) < .3
    assert last.moving[1] > last.moving[0]


def test_how_sure_it_is_falls_with_the_deviation():
    told = [abs(drive(lambda time: [(12, 0)], deviation=deviation).moving[0] - .3)
            for deviation in (.3, 3., 12.)]
    assert told[0] > .25 and told[2] < told[0]


def test_what_the_detector_tells_stays():
    found = seen([(10, 0), (20, 0)], 0, moving=np.array([.9, math.nan]),
                 velocity=np.array([[math.nan] * 2, [0., 5.]]))
    for pose in (STANDS, None):
        last = MotionTracker().follow(found, pose)
        assert last.moving[0] == .9 and last.moving[1] > .99
        np.testing.assert_array_equal(last.velocity[1], [0, 5])


def test_what_a_sensor_tells_of_motion_is_averaged_with_what_is_seen():
    def told(evidence, frames=8, ego=STANDS):
        tracker = MotionTracker()
        for frame in range(frames):
            last = tracker.follow(seen([(10, 5)], frame * PERIOD, motion_evidence=np.array([evidence])), ego)
        return last.moving[0]

    alone = told(math.nan)
    assert told(-4.) < MOVING['vehicle'] and alone < told(5.) < told(5., frames=1)
    assert told(0., frames=1) == pytest.approx(told(0., ego=None)) == pytest.approx(MOVING['vehicle'])
    assert told(5., ego=None) > .9


@given(st.floats(-6, 6), st.floats(-6, 6))
def test_more_evidence_is_never_less_probable(first, second):
    low, high = (MotionTracker().follow(seen([(10, 5)], 0, motion_evidence=np.array([evidence])), None).moving
                 for evidence in sorted((first, second)))
    assert low <= high


def test_a_velocity_tells_by_kind_what_moves():
    categories = np.eye(10)[[CATEGORIES.index(name) for name in ('car', 'car', 'pedestrian', 'car')]]
    velocity = np.array([[0, .1], [3, 0], [0, .8], [math.nan, 0]])
    chance = moving_of_velocity(velocity, categories)
    assert chance[0] < .05 and chance[1] > .95 and chance[2] > .7 and np.isnan(chance[3])


def test_a_cycle_that_moves_is_ridden():
    last = drive(lambda time: [(5 + 4 * time, -8), (10, 5)], category='bicycle')
    assert last.rider[0] > .95 and last.rider[1] < .35


def test_an_object_that_is_missed_is_known_again_and_one_that_is_long_gone_is_not():
    tracker = MotionTracker()
    for frame in range(5):
        tracker.follow(seen([(10 + frame * .8, 5)], frame * PERIOD), STANDS)
    for frame in (5, 6, 7):
        assert len(tracker.follow(seen([], frame * PERIOD), STANDS)) == 0
    again = tracker.follow(seen([(10 + 8 * .8, 5)], 8 * PERIOD), STANDS)
    assert again.track.tolist() == [0] and again.moving[0] > .9
    for frame in range(9, 18):
        tracker.follow(seen([], frame * PERIOD), STANDS)
    assert tracker.follow(seen([(10 + 18 * .8, 5)], 18 * PERIOD), STANDS).track.tolist() == [1]


def test_people_are_not_taken_for_cars_and_pickups_may_be_cars_or_trucks():
    tracker = MotionTracker()
    categories = {name: np.eye(10)[[CATEGORIES.index(name)]] for name in ('car', 'truck', 'pedestrian')}
    tracks = [tracker.follow(replace(seen([(10, 5)], frame * PERIOD), categories=categories[name]),
                             STANDS).track[0] for frame, name in enumerate(('car', 'truck', 'pedestrian'))]
    assert tracks == [0, 0, 1]


@pytest.mark.parametrize('stamp', [0, -5 * 10 ** 9, 10 ** 11])
def test_time_that_goes_back_or_far_ahead_starts_anew(stamp):
    tracker = MotionTracker()
    for frame in range(1, 6):
        before = tracker.follow(seen([(10, 5)], frame * PERIOD), STANDS)
    assert np.isfinite(before.moving).all()
    after = tracker.follow(seen([(10, 5)], stamp), STANDS)
    assert np.isnan(after.moving).all() and after.track[0] not in before.track


def test_a_correction_of_the_localisation_moves_nothing():
    tracker = MotionTracker()
    for frame in range(8):
        pose = Transform(np.eye(3), np.array([0. if frame < 6 else 40., 0, 0]))
        last = tracker.follow(seen([(10, 5), (12, -4)], frame * PERIOD), pose)
    assert (last.moving < .5).all()


def test_memory_is_bounded():
    tracker, rng = MotionTracker(most=20), np.random.default_rng(0)
    for frame in range(30):
        last = tracker.follow(seen(rng.uniform(-500, 500, (15, 2)), frame * 50_000_000), STANDS)
        assert len(tracker._tracks) <= 20
    assert len(last) == 15


@given(st.lists(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), max_size=6), max_size=6),
       st.lists(st.integers(-2, 5), min_size=6, max_size=6))
@settings(deadline=None, max_examples=60)
def test_whatever_comes_what_goes_out_is_in_order(frames, steps):
    tracker, stamp = MotionTracker(), 0
    for places, step in zip(frames, steps, strict=False):
        stamp += step * PERIOD
        found = seen(places, stamp, deviation=math.nan)
        last = tracker.follow(found, STANDS)
        told = last.moving[np.isfinite(last.moving)]
        assert ((told >= 0) & (told <= 1)).all()
        assert len(set(last.track)) == len(places) and (last.track >= 0).all()
        np.testing.assert_array_equal(last.position, found.position)
