"""Messages of detectors to arrays."""
from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point
from hypothesis import given, settings
from hypothesis import strategies as st
from visualization_msgs.msg import Marker, MarkerArray

from mpnp_ros.conversions import detections
from mpnp_ros.conversions.detections import (
    BOXES,
    StampedMarkers,
    from_detections_2d,
    from_detections_3d,
    from_markers,
    message_class,
    to_detections_3d,
)
from mpnp_ros.detection.classes import load_class_map
from mpnp_ros.detection.detections import Detections
from mpnp_ros.detection.hypotheses import ClassReader
from mpnp_ros.errors import ConfigurationError, DetectionsError
from mpnp_ros.modalities.detections.places import in_space

CLASSES = ('car', 'pedestrian', 'traffic cone')


def vision():
    """The messages, where they are installed."""
    return pytest.importorskip('vision_msgs.msg', reason='vision_msgs is not installed')


def result(name, score, x=0., variance=0.):
    made = vision().ObjectHypothesisWithPose()
    made.hypothesis.class_id, made.hypothesis.score = name, score
    made.pose.pose.position.x = x
    made.pose.covariance[0] = variance
    return made


def marker(kind, name='', number=0, frame='base_link', text='', x=0., **more):
    made = Marker(type=kind, ns=name, id=number, text=text, **more)
    made.header.frame_id, made.pose.position.x = frame, x
    made.scale.x, made.scale.y, made.scale.z = 4., 2., 1.5
    return made


def read(*markers, score=.7):
    return from_markers(StampedMarkers(MarkerArray(markers=list(markers)), Time(sec=7)),
                        lambda name: name.lower() in CLASSES, score)


def test_boxes_have_their_place_size_and_heading():
    message = vision().Detection3DArray(detections=[vision().Detection3D(results=[
        result('car', .7, variance=4.), result('truck', .2)])])
    message.header.frame_id = 'lidar'
    box = message.detections[0].bbox
    box.center.position.x, box.center.position.y, box.size.x, box.size.z = 3., 4., 4.5, 1.5
    box.center.orientation.w = box.center.orientation.z = math.sqrt(.5)
    found = from_detections_3d(message)
    assert found.frame_id == 'lidar' and found.hypotheses == ([('car', .7), ('truck', .2)],)
    np.testing.assert_allclose(found.centre, [[3, 4, 0]])
    np.testing.assert_allclose(found.size, [[4.5, math.nan, 1.5]])
    np.testing.assert_allclose(found.axis, [[0, 1, 0]], atol=1e-9)
    assert found.covariance[0, 0, 0] == 4


def test_without_a_box_the_pose_of_the_likeliest_class_is_taken():
    message = vision().Detection3DArray(detections=[
        vision().Detection3D(results=[result('car', .3, 5.), result('truck', .6, 9.)]),
        vision().Detection3D()])
    found = from_detections_3d(message)
    np.testing.assert_allclose(found.centre[:, 0], [9, 0])
    assert np.isnan(found.size).all() and found.hypotheses[1] == [] and np.isnan(found.covariance[1]).all()
    assert from_detections_3d(vision().Detection3DArray()).centre.shape == (0, 3)


def test_boxes_in_images_are_upright_boxes():
    item = vision().Detection2D(results=[result('person', .5)])
    item.bbox.center.position.x, item.bbox.center.position.y = 100., 50.
    item.bbox.size_x, item.bbox.size_y, item.bbox.center.theta = 20., 40., math.pi / 2
    found = from_detections_2d(vision().Detection2DArray(detections=[item]))
    np.testing.assert_allclose(found.corners, [[80, 40, 120, 60]])
    item.bbox.size_x = 0.
    item.bbox.size_y = 0.
    with pytest.raises(DetectionsError, match='no size'):
        from_detections_2d(vision().Detection2DArray(detections=[item]))


def test_places_that_are_not_finite_are_refused():
    item = vision().Detection3D(results=[result('car', .5)])
    item.bbox.center.position.x = math.inf
    with pytest.raises(DetectionsError, match='not finite'):
        from_detections_3d(vision().Detection3DArray(detections=[item]))


def test_the_namespace_of_a_marker_is_its_class_and_others_are_left_out():
    found = read(marker(Marker.CUBE, 'car', 1, x=5.), marker(Marker.CUBE, 'lane', 2),
                 marker(Marker.ARROW, 'car', 3), marker(Marker.CUBE, 'car', 4, action=Marker.DELETE))
    assert found.hypotheses == ([('car', .7)],) and found.centre.tolist() == [[5, 0, 0]]
    assert found.size.tolist() == [[4, 2, 1.5]]


def test_or_its_text_or_that_of_the_text_with_its_id():
    found = read(marker(Marker.CYLINDER, 'shape', 1, x=5.),
                 marker(Marker.CUBE, 'shape', 2, text='Traffic cone', x=6.),
                 marker(Marker.TEXT_VIEW_FACING, 'label', 1, text='PEDESTRIAN 0.87'),
                 marker(Marker.TEXT_VIEW_FACING, 'label', 9, text='car', x=8.))
    assert [each[0][0] for each in found.hypotheses] == ['PEDESTRIAN', 'Traffic cone', 'car']
    assert found.centre[:, 0].tolist() == [5, 6, 8] and np.isnan(found.size[2]).all()


def test_an_outline_lies_where_its_points_do_and_counts_once_with_its_box():
    points = [Point(x=-2., y=-1.), Point(x=4., y=1., z=1.5)]
    outline = marker(Marker.LINE_LIST, 'car', 1, x=10., points=points)
    found = read(outline)
    assert found.centre.tolist() == [[11, 0, .75]] and found.size.tolist() == [[6, 2, 1.5]]
    assert read(outline, marker(Marker.CUBE, 'car', 1, x=10.)).centre.tolist() == [[10, 0, 0]]


def test_markers_without_a_stamp_are_of_now_and_those_of_two_frames_are_refused():
    stamped = StampedMarkers(MarkerArray(markers=[marker(Marker.CUBE, 'car')]), Time(sec=7))
    assert stamped.header.stamp.sec == 7 and stamped.header.frame_id == 'base_link'
    assert StampedMarkers(MarkerArray(), Time(sec=7)).header.stamp.sec == 7
    with pytest.raises(DetectionsError, match='frames base_link, map'):
        read(marker(Marker.CUBE, 'car', 1), marker(Marker.CUBE, 'car', 2, frame='map'))


def test_messages_of_a_package_that_is_not_installed_are_refused_with_the_remedy(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f'No module named {name!r}')

    monkeypatch.setattr(detections.importlib, 'import_module', missing)
    with pytest.raises(ConfigurationError, match='vision_msgs is not installed .*-vision-msgs'):
        message_class(BOXES)


@given(st.lists(st.tuples(*[st.floats(-50, 50)] * 2, st.floats(0, 1), st.integers(0, 9), st.floats(.5, 1),
                          st.floats(.3, 9)), max_size=5))
@settings(deadline=None, max_examples=40)
def test_what_is_published_reads_as_what_was_detected(objects):
    vision()
    n = len(objects)
    position = np.array([(x, y) for x, y, *_ in objects]).reshape(n, 2)
    categories = np.zeros((n, 10))
    for row, (_, _, _, category, share, _) in enumerate(objects):
        categories[row, category] += share
        categories[row, (category + 1) % 10] += 1 - share
    existence = np.array([entry[2] for entry in objects])
    deviation = np.array([entry[5] for entry in objects])
    message = to_detections_3d(Detections(position, existence, categories, range_deviation=deviation,
                                          stamp_ns=7 * 10 ** 9, frame_id='base'))
    assert message.header.stamp.sec == 7 and message.header.frame_id == 'base'
    boxes = from_detections_3d(message)
    named = ClassReader(load_class_map('nuscenes')).read(boxes.hypotheses)
    read = in_space(boxes, named, np.eye(4), .4, np.ones(72, bool))
    np.testing.assert_allclose(read.position, position, atol=1e-6)
    np.testing.assert_allclose(read.existence[:, None] * read.categories, existence[:, None] * categories,
                               atol=detections.LEAST_TOLD + 1e-6)
    far = np.hypot(*position.T) > .1
    np.testing.assert_allclose(read.range_deviation[far], deviation[far], rtol=1e-5)
    assert (boxes.size > 0).all() and np.isfinite(boxes.axis).all()


def test_what_is_published_heads_along_its_velocity_and_has_its_track():
    vision()
    found = Detections(np.array([[5., 2.], [9., 0.]]), np.ones(2), np.eye(10)[[3, 5]],
                       track=np.array([4, -1]), velocity=np.array([[0., 6.], [np.nan] * 2]))
    first, second = to_detections_3d(found).detections
    assert (first.id, second.id) == ('4', '')
    assert first.bbox.center.orientation.z == pytest.approx(math.sqrt(.5))
    assert second.bbox.center.orientation.w == 1 and second.bbox.size.z > 0
