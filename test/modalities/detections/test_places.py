"""Where objects are that a detector has found in space or in an image."""
from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.detection.hypotheses import NamedObjects
from mpnp_ros.modalities.camera.calibration import Distortion
from mpnp_ros.modalities.detections.places import ImageBoxes, SpaceBoxes, in_image, in_space, looked_between
from mpnp_ros.poses import rotation_about_z
from mpnp_ros.questions.vocabulary import CATEGORIES
from mpnp_ros.tokens import SECTORS

SIZE, MATRIX = (1600, 900), np.array([[1000., 0, 800], [0, 1000, 450], [0, 0, 1]])
AHEAD = np.array([[0., 0, 1], [-1, 0, 0], [0, -1, 0]])


def named(*categories):
    """categories: the name of each, or the names that each may be."""
    rows = np.zeros((len(categories), 10))
    for row, names in zip(rows, categories, strict=True):
        row[[CATEGORIES.index(name) for name in np.atleast_1d(names)]] = 1 / len(np.atleast_1d(names))
    return NamedObjects(np.full(len(categories), .8), rows)


def camera(yaw=0., x=0., z=1.5):
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation_about_z(yaw) @ AHEAD, [x, 0, z]
    return pose


def in_the_image(far, side, height, width=.6, base=0.):
    """Corners of an upright thing, seen by ``camera()``."""
    u = 800 - 1000 * side / far
    top, bottom = (450 - 1000 * (z - 1.5) / far for z in (base + height, base))
    return [u - 500 * width / far, top, u + 500 * width / far, bottom]


def boxes(*corners):
    return ImageBoxes(([],) * len(corners), np.array(corners, float).reshape(-1, 4), 'camera')


def test_boxes_in_space_come_into_the_base_frame():
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation_about_z(math.pi / 2), [1., 0, 2]
    covariance = np.full((2, 3, 3), np.nan)
    covariance[0] = np.diag([9., 1, 1])
    given_boxes = SpaceBoxes(([],) * 2, np.array([[5., 0, 0], [0, 5, 0]]), np.ones((2, 3)),
                             np.array([[1., 0, 0], [np.nan] * 3]), covariance)
    found = in_space(given_boxes, named('car', 'bus'), pose, .4, looked_between(()))
    np.testing.assert_allclose(found.position, [[1, 5], [-4, 0]], atol=1e-9)
    assert found.yaw[0] == pytest.approx(math.pi / 2) and np.isnan(found.yaw[1])
    assert 2.8 < found.range_deviation[0] <= 3 and found.range_deviation[1] == .4


@given(st.floats(4, 40), st.floats(-.6, .6),
       st.sampled_from([('pedestrian', 1.7), ('car', 1.6), ('bus', 3.2)]), st.floats(-3.1, 3.1))
@settings(deadline=None)
def test_direction_and_distance_of_what_is_as_tall_as_usual(far, slope, kind, yaw):
    name, height = kind
    box = boxes(in_the_image(far, slope * far, height))
    found = in_image(box, named(name), camera(yaw), MATRIX, None, SIZE)
    apart = math.remainder(found.azimuth[0] - yaw - math.atan(slope), math.tau)
    assert abs(apart) < .01
    assert found.distance[0] == pytest.approx(far * math.hypot(1, slope), rel=.02)
    assert .05 < found.range_deviation[0] / found.distance[0] < .6


def test_what_is_not_told_makes_the_distance_less_sure():
    box = in_the_image(15, 0, 1.6)
    shares = []
    for corners, kind in ((box, 'car'), (box, ('car', 'bus')), (in_the_image(60, 0, 1.6), 'car'),
                          ([700, 0, 900, 600], 'car')):
        found = in_image(boxes(corners), named(kind), camera(), MATRIX, None, SIZE)
        shares.append(float(found.range_deviation[0] / found.distance[0]))
    assert shares[0] < .2 and shares[1] > shares[0] and shares[2] > shares[0] and shares[3] > .3


def test_a_camera_looks_between_the_sides_of_its_images():
    looked = in_image(boxes(), named(), camera(math.pi / 2), MATRIX, None, SIZE).looked
    middles = np.flatnonzero(looked) * 5 - 177.5
    assert abs(middles.mean() - 90) < 3 and len(middles) in (14, 15)
    assert len(in_image(boxes(), named(), camera(), MATRIX, None, SIZE)) == 0


def test_a_lens_that_distorts_is_taken_into_account():
    lens = Distortion('plumb_bob', (-.3, .1))
    box = in_the_image(10, 5, 1.7)
    plain, bent = (in_image(boxes(box), named('pedestrian'), camera(), MATRIX, given_lens, SIZE)
                   for given_lens in (None, lens))
    assert bent.azimuth[0] > plain.azimuth[0] + .01


def test_the_view_of_a_detector():
    assert looked_between(()).all() and looked_between((-60., 60.)).sum() == 24
    assert not looked_between((-60., 60.))[0] and looked_between((120., -120.))[[0, SECTORS - 1]].all()
