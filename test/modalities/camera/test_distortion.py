from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.modalities.camera.calibration import BROWN, EQUIDISTANT, Distortion, distort, undistort


def small(limit):
    return st.floats(-limit, limit)


brown = st.builds(lambda *numbers: Distortion(BROWN, numbers), small(.3), small(.1), small(.005), small(.005),
                  small(.02), small(.2), small(.05), small(.01), *[small(.005)] * 4, small(.03), small(.03))
fisheye = st.builds(lambda *numbers: Distortion(EQUIDISTANT, numbers), small(.1), small(.02), small(.005),
                    small(.001))
points = st.lists(st.tuples(small(.7), small(.5)), min_size=1, max_size=20).map(np.array)


@given(st.one_of(brown, fisheye), points)
def test_what_is_undistorted_and_distorted_again_is_where_it_was(lens, at):
    rays, told = undistort(lens, at)
    assert np.linalg.norm(rays, axis=1) == pytest.approx(np.ones(len(at)))
    assert distort(lens, rays)[told] == pytest.approx(at[told], abs=1e-6)


@given(st.one_of(brown, fisheye), st.floats(0, 6.3), st.floats(0, .3))
def test_of_several_solutions_the_one_nearest_to_the_middle_is_found(lens, around, out):
    ray = np.array([[np.sin(out) * np.cos(around), np.sin(out) * np.sin(around), np.cos(out)]])
    found, told = undistort(lens, distort(lens, ray))
    assert told.all() and found == pytest.approx(ray, abs=1e-6)


@given(st.lists(st.floats(-1e3, 1e3), max_size=4), st.sampled_from([BROWN, EQUIDISTANT]),
       st.lists(st.tuples(small(1e3), small(1e3)), min_size=1, max_size=9).map(np.array))
def test_any_coefficients_give_directions(numbers, family, at):
    rays, _ = undistort(Distortion(family, tuple(numbers)), at)
    assert np.linalg.norm(rays, axis=1) == pytest.approx(np.ones(len(at)))


def test_known_values():
    """Of cv2.undistortPoints and cv2.fisheye.undistortPoints."""
    for lens, degrees in ((Distortion(BROWN, (-.35, .12)), 34.98), (Distortion(EQUIDISTANT), np.degrees(.6))):
        rays, told = undistort(lens, np.array([[.6, 0], [0, .6], [0, 0]]))
        away = np.degrees(np.arccos(rays[:, 2]))
        assert told.all() and away == pytest.approx([degrees, degrees, 0], abs=.01)


def test_a_fisheye_sees_behind_itself():
    rays, told = undistort(Distortion(EQUIDISTANT), np.array([[2., 0]]))
    assert told.all() and rays == pytest.approx(np.array([[np.sin(2), 0, np.cos(2)]]))


def test_beyond_where_a_model_folds_back_the_last_direction_holds():
    fold = Distortion(BROWN, (-.35,))  # x - .35 x ** 3 is .6506 at most, at x = .976
    rays, told = undistort(fold, np.array([[.65, 0], [.7, 0], [5., 0]]))
    assert told.tolist() == [True, False, False]
    assert np.degrees(np.arctan2(rays[:, 0], rays[:, 2])) == pytest.approx([43.5, 43.9, 43.9], abs=.5)
