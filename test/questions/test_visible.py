"""What cameras, LiDARs and radars of a vehicle see of annotated objects."""
from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.poses import Transform
from mpnp_ros.questions.generator import Scope, objects_of, scene_questions
from mpnp_ros.questions.key_frame import AnnotatedObject, KeyFrame, SensorReading
from mpnp_ros.questions.visible import seen_by_cameras, seen_only, sensors_of
from mpnp_ros.training.true_objects import TrueObjects

STILL = Transform(np.eye(3), np.zeros(3))
AHEAD = Transform(np.array([[0., 0, 1], [-1, 0, 0], [0, -1, 0]]), np.array([0., 0, 1.5]))
CAMERA = SensorReading('CAM_FRONT', 'camera', Path('none.jpg'), 0, True, AHEAD, STILL,
                       np.array([[800., 0, 800], [0, 800, 450], [0, 0, 1]]), (1600, 900))
"""It looks ahead, 45 degrees to both sides."""
BY_CAMERA = ('camera',)


def thing(name: str, x: float, y: float = 0., width: float = 2., category: str = 'car',
          **more) -> AnnotatedObject:
    return AnnotatedObject(name, category, 'parked', (x, y, 1.), (width, width, 2.), 0., num_lidar_pts=9,
                           **more)


def frame(*objects: AnnotatedObject, cameras: tuple[SensorReading, ...] = (CAMERA,)) -> KeyFrame:
    return KeyFrame('token', 'scene', '', 0, STILL, {one.channel: one for one in cameras}, None, {}, objects)


BUS = thing('bus', 10., width=4., category='bus')


def test_what_is_behind_another_or_in_no_image_is_not_seen():
    seen = seen_by_cameras(frame(BUS, thing('behind', 20.), thing('beside', 20., 12.), thing('back', -10.),
                                 thing('left', 10., 14.)))
    assert seen == {'bus', 'beside'}
    assert seen_by_cameras(frame(thing('behind', 20.))) == {'behind'}
    assert seen_by_cameras(frame(BUS, cameras=())) == seen_by_cameras(frame()) == frozenset()


@pytest.mark.parametrize(('y', 'seen'), [(4.1, False), (4.6, True), (6., True)])
def test_a_fifth_in_sight_is_enough(y: float, seen: bool):
    """The shadow of the bus ends about 5 m left at the distance of the other."""
    assert ('other' in seen_by_cameras(frame(BUS, thing('other', 20., y)))) == seen


def test_visibility_of_nuscenes_above_the_lowest_level_counts_in_an_image():
    for level, seen in ((0, False), (1, False), (2, True), (4, True)):
        hidden, away = thing('hidden', 20., visibility=level), thing('away', -10., visibility=level)
        assert seen_by_cameras(frame(BUS, hidden, away)) == {'bus', *['hidden'] * seen}


def test_sensors_see_by_their_points():
    few = replace(thing('few', -10.), num_lidar_pts=4, num_radar_pts=1)
    everything = frame(BUS, thing('behind', 20.), few)

    def names(*sensors: str) -> list[str]:
        return [item.instance for item in seen_only(everything, sensors).objects]

    assert names('lidar') == ['bus', 'behind'] and names('radar') == ['few']
    assert names('camera') == ['bus'] and names('camera', 'radar') == ['bus', 'few']
    assert sensors_of(['lidar', 'camera', 'audio']) == ('camera', 'lidar')
    assert sensors_of(['objects']) == BY_CAMERA


def test_what_is_seen_does_not_turn_with_the_vehicle(small_root: NuScenes):
    recorded = next(small_root.key_frames(small_root.scenes[0]))
    seen = seen_only(recorded, BY_CAMERA)
    assert 0 < len(seen.objects) < len(recorded.objects)
    turned = seen.turned(1.)
    assert seen_only(turned, BY_CAMERA) is turned
    assert seen_by_cameras(recorded.turned(1.)) == {item.instance for item in turned.objects}


def test_hidden_objects_are_neither_asked_about_nor_counted():
    scope = Scope(seen_by=BY_CAMERA)
    everything = frame(BUS, thing('behind', 20.), thing('beside', 20., 12.),
                       thing('truck', -9., category='truck'))
    assert [item.instance for item in objects_of(everything, scope)] == ['bus', 'beside']
    asked = {question.text: question.answer for question in scene_questions(everything, 0, 2000, scope)}
    for text, answer in asked.items():
        if text.startswith(('How many cars are there?', 'What number of cars are there?')):
            assert answer == '1'
        if 'trucks' in text and text.startswith(('Are', 'How many')):
            assert answer in ('no', '0')
    assert asked != {one.text: one.answer for one in scene_questions(everything, 0, 2000, Scope())}
    tokens = TrueObjects(scope).encode(everything)
    assert tokens.count == 2 and tokens.azimuth[1] == pytest.approx(math.atan2(12, 20))
