"""Key frames without sensors: named like those with sensors, in order, the same from several processes."""
from __future__ import annotations

import math

import pytest

from mpnp_ros.questions.generator import scene_questions
from mpnp_world.dataset.annotations import MAX_DISTANCE
from mpnp_world.dataset.key_frames import object_key_frames, scene_key_frames
from mpnp_world.scene.conditions import Conditions
from mpnp_world.scene.identity import SceneIdentity


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
