"""What an answer rests on as markers and as boxes in images."""
from __future__ import annotations

import importlib.util
import math

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from mpnp_ros.msg import Answer, Grounding
from visualization_msgs.msg import Marker

from mpnp_ros.conversions.grounding import UNPLACED, grounding_boxes, grounding_markers, grounding_text

pytestmark = pytest.mark.ros
CAR = Grounding(modality='camera', source='front', azimuth=math.pi / 2, distance=10., sort='car', expected=.9,
                weight=.6, box=[10., 20., 30., 60.])
EMPTY = Grounding(modality='lidar', source='top', azimuth=0., distance=math.nan, sort='car', weight=.3)
NOWHERE = Grounding(modality='radar', azimuth=math.nan, distance=math.nan, sort='car', weight=.1)


def answer() -> Answer:
    message = Answer(grounding=[CAR, EMPTY, NOWHERE])
    message.header.frame_id, message.header.stamp.sec = 'base_link', 7
    return message


def test_each_token_with_a_direction_is_a_shape_and_a_text():
    first, *markers = grounding_markers(answer()).markers
    assert first.action == Marker.DELETEALL
    assert [marker.type for marker in markers] == [
        Marker.CYLINDER, Marker.TEXT_VIEW_FACING, Marker.TRIANGLE_LIST, Marker.TEXT_VIEW_FACING]
    assert {marker.header.frame_id for marker in markers} == {'base_link'}
    assert len({(marker.ns, marker.id) for marker in markers}) == len(markers)
    car, text, sector, _ = markers
    assert (car.pose.position.x, car.pose.position.y) == pytest.approx((0., 10.), abs=1e-5)
    assert car.color.a > sector.color.a and text.text == grounding_text(CAR) == '0.9 car, 60 %'
    far = [math.hypot(point.x, point.y) for point in sector.points]
    assert far == pytest.approx([0., UNPLACED, UNPLACED])


@pytest.mark.skipif(importlib.util.find_spec('vision_msgs') is None, reason='vision_msgs is not installed')
def test_tokens_with_boxes_are_detections_in_their_views():
    message = grounding_boxes(answer())
    assert (message.header.stamp.sec, len(message.detections)) == (7, 1)
    box = message.detections[0]
    assert box.header.frame_id == 'front'
    assert (box.bbox.center.position.x, box.bbox.center.position.y) == (20., 40.)
    assert (box.bbox.size_x, box.bbox.size_y) == (20., 40.)
    assert box.results[0].hypothesis.class_id == 'car'
    assert box.results[0].hypothesis.score == pytest.approx(.6)
