from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.poses import (
    Transform,
    box_corners,
    quaternion_from_rotation,
    rotation_about_z,
    rotation_from_quaternion,
    wrap_angle,
)
from mpnp_ros.questions.vocabulary import RELATIONS, relation

ANGLES = st.floats(-10, 10)
UNIT = st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > .1)
PLACES = st.tuples(*[st.floats(-50, 50)] * 3)


@given(UNIT)
def test_quaternion_and_rotation_are_inverse(quaternion: list[float]) -> None:
    rotation = rotation_from_quaternion(quaternion)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    back = np.array(quaternion_from_rotation(rotation))
    assert abs(back @ quaternion) / np.linalg.norm(quaternion) == pytest.approx(1)
    assert back[0] >= 0


def test_quaternion_is_scalar_first() -> None:
    half = math.sqrt(.5)
    quarter = rotation_from_quaternion((half, 0, 0, half))
    np.testing.assert_allclose(quarter, rotation_about_z(math.pi / 2), atol=1e-12)


@given(UNIT, PLACES, PLACES)
def test_transform_and_its_inverse_cancel(quaternion: list[float], place: tuple, point: tuple) -> None:
    pose = Transform.from_quaternion(place, quaternion)
    np.testing.assert_allclose((pose.inverse() @ pose).apply(point), point, atol=1e-9)
    np.testing.assert_allclose(pose.inverse().apply(pose.apply(point)), point, atol=1e-9)


@given(ANGLES)
def test_yaw_of_a_turn_is_its_angle(angle: float) -> None:
    assert math.cos(Transform.about_z(angle).yaw - angle) == pytest.approx(1)
    assert -math.pi < wrap_angle(angle) <= math.pi


def test_box_corners_of_a_turned_box() -> None:
    corners = box_corners((10, 0, 1), (4, 2, 2), math.pi / 2)
    np.testing.assert_allclose(corners[0], (9, 2, 0), atol=1e-12)
    np.testing.assert_allclose(corners.mean(0), (10, 0, 1), atol=1e-12)
    np.testing.assert_allclose(np.ptp(corners, axis=0), (2, 4, 2), atol=1e-12)


@pytest.mark.parametrize(('degrees', 'name'), [
    (0, 'front'), (29, 'front'), (31, 'front left'), (89, 'front left'), (91, 'back left'),
    (149, 'back left'), (151, 'back'), (180, 'back'), (-151, 'back'), (-149, 'back right'),
    (-91, 'back right'), (-89, 'front right'), (-31, 'front right'), (-29, 'front'),
])
def test_relation_is_signed(degrees: float, name: str) -> None:
    angle = math.radians(degrees)
    assert relation(5 * math.cos(angle), 5 * math.sin(angle)) == name


@given(st.floats(-179.9, 180), st.floats(.1, 100))
def test_mirroring_swaps_left_and_right(degrees: float, distance: float) -> None:
    x, y = distance * math.cos(math.radians(degrees)), distance * math.sin(math.radians(degrees))
    swapped = relation(x, y).replace('left', '?').replace('right', 'left').replace('?', 'right')
    if min(abs(abs(degrees) - edge) for edge in (30, 90, 150)) > 1e-6:
        assert relation(x, -y) == swapped


@given(st.floats(-179.9, 180), st.integers(0, 5))
def test_turning_by_sixty_degrees_steps_round_the_relations(degrees: float, steps: int) -> None:
    ring = ('front', 'front left', 'back left', 'back', 'back right', 'front right')
    if abs((degrees - 30) % 60) < 1e-6 or abs((degrees - 30) % 60 - 60) < 1e-6:
        return
    here, there = (relation(math.cos(a), math.sin(a))
                   for a in (math.radians(degrees), math.radians(degrees + 60 * steps)))
    assert set(ring) == set(RELATIONS)
    assert ring.index(there) == (ring.index(here) + steps) % 6
