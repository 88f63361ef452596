"""Key frames without sensors: named like those with sensors, in order, the same from several processes."""
from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.errors import DatasetError
from mpnp_ros.poses import Transform
from mpnp_ros.questions.generator import scene_questions
from mpnp_ros.questions.key_frame import AnnotatedObject, KeyFrame
from mpnp_ros.questions.vocabulary import CATEGORIES, STATUSES_OF_CATEGORY
from mpnp_world.dataset.annotations import MAX_DISTANCE
from mpnp_world.dataset.objects_only import (
    object_key_frames,
    objects_file,
    read_objects,
    scene_key_frames,
    write_objects,
)
from mpnp_world.scene.identity import Conditions, SceneIdentity

NIGHT = SceneIdentity(12, Conditions('night', 'rain'))
metres = st.floats(-80, 80, width=32)
objects = st.sampled_from(CATEGORIES).flatmap(lambda category: st.builds(
    AnnotatedObject, instance=st.integers(1, 999).map(lambda number: NIGHT.token('instance', number)),
    category=st.just(category), attribute=st.sampled_from(STATUSES_OF_CATEGORY[category] or (None,)),
    centre=st.tuples(metres, metres, metres), size=st.tuples(metres, metres, metres),
    yaw=st.floats(-3, 3, width=32), velocity=st.none() | st.tuples(metres, metres),
    num_lidar_pts=st.integers(0, 30_000), num_radar_pts=st.integers(0, 100), visibility=st.integers(1, 4)))


def test_frames_come_in_order_with_their_names() -> None:
    """Two scenes of three frames."""
    frames = list(object_key_frames([4, 9], 3, 1.5, workers=1, progress=False))
    identities = [SceneIdentity(seed, Conditions()) for seed in (4, 9)]
    assert [frame.scene for frame in frames] == [item.name for item in identities for _ in range(3)]
    assert [frame.token for frame in frames] == \
        [item.token('sample', index) for item in identities for index in range(3)]
    assert (frames[1].stamp_ns - frames[0].stamp_ns) / 1e9 == pytest.approx(1.5)
    assert all(not frame.readings for frame in frames)


def test_processes_change_nothing() -> None:
    """Two processes give what one gives."""
    alone = list(object_key_frames(range(3), 2, workers=1, progress=False))
    together = list(object_key_frames(range(3), 2, workers=2, progress=False))
    assert [frame.objects for frame in alone] == [frame.objects for frame in together]
    assert [frame.token for frame in alone] == [frame.token for frame in together]


def test_frames_have_things_seen_and_hidden_to_ask_about() -> None:
    """Within range, some of them hidden, enough for questions of every type."""
    frames = scene_key_frames(1, 4)
    items = [item for frame in frames for item in frame.objects]
    assert all(math.hypot(*item.centre[:2]) <= MAX_DISTANCE for item in items)
    assert {True, False} == {item.num_lidar_pts > 0 for item in items}
    assert {1, 4} <= {item.visibility for item in items}
    types = {question.type for frame in frames for question in scene_questions(frame, per_kind=3)}
    assert types == {'exist', 'count', 'object', 'status', 'comparison'}


def test_an_instance_keeps_its_name() -> None:
    """What is seen in two frames of a scene is one instance of one category."""
    first, second = scene_key_frames(6, 2)
    names = {item.instance: item.category for item in first.objects}
    common = [item for item in second.objects if item.instance in names]
    assert len(common) > 10
    assert all(names[item.instance] == item.category for item in common)
    assert len(names) == len(first.objects)


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
