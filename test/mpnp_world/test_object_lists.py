"""Key frames without sensors, written and read."""
from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.errors import DatasetError
from mpnp_ros.poses import Transform
from mpnp_ros.questions.key_frame import AnnotatedObject, KeyFrame
from mpnp_ros.questions.vocabulary import CATEGORIES, STATUSES_OF_CATEGORY
from mpnp_world.dataset.object_lists import objects_file, read_objects, write_objects
from mpnp_world.scene.conditions import Conditions
from mpnp_world.scene.identity import SceneIdentity

NIGHT = SceneIdentity(12, Conditions('night', 'rain'))
metres = st.floats(-80, 80, width=32)
objects = st.sampled_from(CATEGORIES).flatmap(lambda category: st.builds(
    AnnotatedObject, instance=st.integers(1, 999).map(lambda number: NIGHT.token('instance', number)),
    category=st.just(category), attribute=st.sampled_from(STATUSES_OF_CATEGORY[category] or (None,)),
    centre=st.tuples(metres, metres, metres), size=st.tuples(metres, metres, metres),
    yaw=st.floats(-3, 3, width=32), velocity=st.none() | st.tuples(metres, metres),
    num_lidar_pts=st.integers(0, 30_000), num_radar_pts=st.integers(0, 100), visibility=st.integers(1, 4)))


def frame(index: int, items: list[AnnotatedObject]) -> KeyFrame:
    """A key frame of the scene with these objects."""
    pose = Transform(Transform.about_z(.3 * index).rotation, np.array((1. * index, -5., 0.)))
    return KeyFrame(NIGHT.token('sample', index), NIGHT.name, NIGHT.description, 10 ** 18 + index, pose, {},
                    None, {}, tuple(items))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(objects, max_size=4), min_size=1, max_size=4))
def test_what_is_written_is_read(tmp_path_factory, lists):
    frames = [frame(index, items) for index, items in enumerate(lists)]
    path = objects_file(tmp_path_factory.mktemp('lists'), NIGHT)
    write_objects(path, frames)
    for first, other in zip(read_objects(path), frames, strict=True):
        assert first.objects == other.objects
        assert math.isclose(first.ego_pose.yaw, other.ego_pose.yaw, abs_tol=1e-9)
        np.testing.assert_array_equal(first.ego_pose.translation, other.ego_pose.translation)
        assert replace(first, objects=(), ego_pose=None).__dict__ == replace(other, objects=(),
                                                                           ego_pose=None).__dict__
        assert first.is_night


def test_a_damaged_file_is_named(tmp_path):
    path = objects_file(tmp_path, NIGHT)
    write_objects(path, [frame(0, [])])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DatasetError, match='world-0012-night-rain.npz cannot be read'):
        list(read_objects(path))
