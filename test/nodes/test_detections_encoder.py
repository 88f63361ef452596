"""The encoder of detections as a process: messages of detectors in, tokens out, and answers."""
from __future__ import annotations

import math
import os
import sys
import time

import numpy as np
import pytest
import yaml

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')
pytest.importorskip('vision_msgs', reason='vision_msgs is not installed')

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TransformStamped
from mpnp_ros.msg import EncoderInfo, ModalityStates, ModalityTokens, Question
from mpnp_ros.srv import Ask, SetModality
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import (
    Detection2D,
    Detection2DArray,
    Detection3D,
    Detection3DArray,
    ObjectHypothesisWithPose,
)
from visualization_msgs.msg import Marker, MarkerArray

from mpnp_ros.conversions.messages import from_message, from_nanoseconds, to_nanoseconds
from mpnp_ros.llm.weights import packaged_gguf
from mpnp_ros.methods.link_files import read_manifest
from mpnp_ros.methods.link_store import shipped_links
from mpnp_ros.questions.vocabulary import CHANNELS

pytestmark = pytest.mark.ros
MODULE = 'mpnp_ros.nodes.encoder detections'
READ_LIKE = f'objects/{shipped_links()["objects"].version}'
SECOND = 10 ** 9
STAMP = 1_700_000_000 * SECOND
LATCHED = QoSProfile(depth=5, durability=DurabilityPolicy.TRANSIENT_LOCAL)
CAR = [name == 'car' for name, _ in CHANNELS]


def hypothesis(name, score, covariance=0.):
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id, result.hypothesis.score = name, float(score)
    result.pose.covariance[0] = result.pose.covariance[7] = covariance
    return result


def boxes(stamp_ns, objects, frame_id='base_link'):
    """objects: (class, score, x, y)."""
    message = Detection3DArray()
    message.header.stamp, message.header.frame_id = from_nanoseconds(stamp_ns), frame_id
    for name, score, x, y in objects:
        item = Detection3D(results=[hypothesis(name, score)])
        item.bbox.center.position.x, item.bbox.center.position.y = float(x), float(y)
        item.bbox.size.x, item.bbox.size.y, item.bbox.size.z = 4.5, 1.8, 1.6
        message.detections.append(item)
    return message


def transform(parent, child, x=0., y=0., yaw=0., stamp_ns=0):
    made = TransformStamped(child_frame_id=child)
    made.header.frame_id, made.header.stamp = parent, from_nanoseconds(stamp_ns)
    made.transform.translation.x, made.transform.translation.y = float(x), float(y)
    made.transform.rotation.z, made.transform.rotation.w = math.sin(yaw / 2), math.cos(yaw / 2)
    return made


def stamp_of(message):
    return to_nanoseconds(message.header.stamp)


def next_tokens(publish, tokens, stamp, tries=20):
    """Publish until tokens of that stamp come."""
    for _ in range(tries):
        publish()
        found = []
        for _ in range(25):
            found = [message for message in list(tokens.messages) if stamp_of(message) == stamp]
            if found:
                return from_message(found[-1])
            time.sleep(.02)
    raise AssertionError(f'no tokens with the stamp {stamp}')


@pytest.fixture(scope='module')
def box(module_ros):
    """A detector of boxes in a turned frame behind the robot, found by itself; and odometry."""
    module_ros.publisher('/tf_static', TFMessage, LATCHED).publish(
        TFMessage(transforms=[transform('base_link', 'box_mount', x=-1., yaw=math.pi)]))
    module_ros.publisher('/box/camera_encoder/objects', Detection3DArray)  # of our own camera: not to be read
    publisher = module_ros.publisher('/box/lidar/detections', Detection3DArray)
    odometry = module_ros.publisher('/box/odom', Odometry)
    tokens = module_ros.collect('/box/tokens/detections', ModalityTokens)
    diagnostics = module_ros.collect('/diagnostics', DiagnosticArray, 10)
    process = module_ros.start(MODULE, namespace='/box')
    module_ros.wait_for_subscriber(publisher)
    return publisher, odometry, tokens, diagnostics, process


def test_objects_become_tokens_in_the_base_frame(box):
    publisher, _, tokens, _, _ = box
    objects = [('car', .9, 9, 0), ('traffic_cone', .5, 0, 4), ('kangaroo', .9, 3, 3)]
    message = boxes(STAMP, objects, 'box_mount')
    read = next_tokens(lambda: publisher.publish(message), tokens, STAMP)
    assert (read.modality, read.sources, read.frame_id) == ('detections', ('lidar',), 'base_link')
    np.testing.assert_allclose(read.distance, [10, math.hypot(1, 4)], rtol=1e-5)
    np.testing.assert_allclose(read.azimuth, [math.pi, math.atan2(-4, -1)], atol=1e-5)
    np.testing.assert_allclose(read.values.sum(1), [.9, .5], atol=1e-5)
    assert read.values[0, CAR].sum() == pytest.approx(.9) and read.known.all() and read.looked.all()
    assert any('the pose of the robot is not known' in concern for concern in read.concerns)
    assert read.quality == 1


def test_an_empty_frame_is_a_token_of_zeros(box):
    publisher, _, tokens, _, _ = box
    read = next_tokens(lambda: publisher.publish(boxes(STAMP + 7, [])), tokens, STAMP + 7)
    assert read.values.shape == (1, 24) and not read.values.any() and np.isnan(read.azimuth).all()


def test_what_moves_is_told_by_odometry(box, module_ros):
    publisher, odometry, tokens, _, _ = box
    module_ros.wait_for_subscriber(odometry)
    for frame in range(15):
        stamp = STAMP + 100 * SECOND + frame * 200_000_000
        pose = Odometry(child_frame_id='base_link')
        pose.header.frame_id, pose.header.stamp = 'odom', from_nanoseconds(stamp)
        pose.pose.pose.position.x, pose.pose.pose.orientation.w = 2. * frame * .2, 1.
        ahead = 20 - 2 * frame * .2
        message = boxes(stamp, [('car', 1., ahead, -5), ('car', 1., 10 + 3 * frame * .2, 6)])

        def publish(pose=pose, message=message):
            odometry.publish(pose)
            time.sleep(.03)
            publisher.publish(message)

        read = next_tokens(publish, tokens, stamp)
    moving = read.values[:, CHANNELS.index(('car', 'moving'))]
    assert moving[0] < .1 and moving[1] > .9
    assert not read.concerns


def test_scores_that_are_none_are_told_or_refused(box):
    from ros_harness import wait_until

    publisher, _, tokens, diagnostics, process = box
    read = next_tokens(lambda: publisher.publish(boxes(STAMP + 201 * SECOND, [('car', 0, 9, 0)])), tokens,
                       STAMP + 201 * SECOND)
    assert any('every score is 0' in concern for concern in read.concerns)
    stamps = (STAMP + (202 * 1000 + number) * SECOND // 1000 for number in range(1000))
    for score, ahead in ((90, 9), (.5, math.nan)):
        before = diagnostics.counters('/box/lidar/detections')['rejected']

        def refused(score=score, ahead=ahead, before=before):
            publisher.publish(boxes(next(stamps), [('car', score, ahead, 0)]))
            return diagnostics.counters('/box/lidar/detections')['rejected'] > before

        wait_until(refused, f'a score of {score}, {ahead} m ahead, refused')
    read = next_tokens(lambda: publisher.publish(boxes(STAMP + 204 * SECOND, [('car', .9, 9, 0)])), tokens,
                       STAMP + 204 * SECOND)
    assert not any('class' in concern or 'score' in concern for concern in read.concerns) and process.running


def test_what_lies_in_an_unknown_world_is_refused_with_the_remedy(box):
    publisher, _, _, _, process = box
    for number in range(60):
        publisher.publish(boxes(STAMP + (300 + number) * SECOND, [('car', .9, 9, 0)], 'map'))
        time.sleep(.5)
        if "frame 'map' is not connected to 'base_link'" in process.output:
            break
    assert "frame 'map' is not connected to 'base_link'" in process.output


def test_objects_in_the_map_come_by_the_pose_of_their_time(ros):
    publisher = ros.publisher('/mapped/objects', Detection3DArray)
    poses = ros.publisher('/tf', TFMessage)
    tokens = ros.collect('/mapped/tokens/detections', ModalityTokens)
    ros.start(MODULE, namespace='/mapped', parameters={'topic': 'objects', 'type': 'boxes'})
    ros.wait_for_subscriber(publisher)
    ros.wait_for_subscriber(poses)

    def publish():
        for second in range(3):  # ten metres a second
            poses.publish(TFMessage(transforms=[transform(
                'map', 'base_link', x=10. * second, stamp_ns=STAMP + second * SECOND)]))
        time.sleep(.05)
        publisher.publish(boxes(STAMP + SECOND // 2, [('car', 1., 25, 0)], 'map'))

    number = boxes(STAMP, [('3', .9, 9, 0)])
    read = next_tokens(lambda: publisher.publish(number), tokens, STAMP)
    assert read.quality <= .25 and any('no class of 3 is in the class map nuscenes' in concern
                                       for concern in read.concerns)
    read = next_tokens(publish, tokens, STAMP + SECOND // 2)
    assert not any('no class' in concern for concern in read.concerns)
    assert read.distance[0] == pytest.approx(20, abs=.01) and read.sources == ('objects',)


def test_boxes_in_images_have_a_direction_and_a_distance(ros):
    ros.publisher('/tf_static', TFMessage, LATCHED).publish(
        TFMessage(transforms=[optical('left_optical', 90)]))
    info = ros.publisher('/eyes/left/camera_info', CameraInfo)
    publisher = ros.publisher('/eyes/left/detections', Detection2DArray)
    tokens = ros.collect('/eyes/tokens/detections', ModalityTokens)
    ros.start(MODULE, namespace='/eyes', parameters={'classes': 'coco'})
    ros.wait_for_subscriber(publisher)
    camera = CameraInfo(width=1600, height=900, k=[1000., 0, 800, 0, 1000, 450, 0, 0, 1])
    camera.header.frame_id = 'left_optical'
    message = Detection2DArray()
    message.header.stamp, message.header.frame_id = from_nanoseconds(STAMP), 'left_optical'
    for middle in (800., 1400.):
        item = Detection2D(results=[hypothesis('person', .8)])
        item.bbox.center.position.x, item.bbox.center.position.y = middle, 470.
        item.bbox.size_x, item.bbox.size_y = 60., 170.
        message.detections.append(item)

    def publish():
        info.publish(camera)
        time.sleep(.05)
        publisher.publish(message)

    read = next_tokens(publish, tokens, STAMP)
    np.testing.assert_allclose(np.degrees(read.azimuth), [90, 90 - math.degrees(math.atan(.6))], atol=.5)
    assert read.distance[0] == pytest.approx(10, rel=.05)
    assert read.sources == ('left',) and 10 < read.looked.sum() < 20
    assert not read.known[CHANNELS.index(('traffic cone', None))]


def optical(name, degrees):
    """A camera that looks to the left by so many degrees: its z axis is where it looks."""
    from mpnp_ros.poses import Transform, rotation_about_z
    look = rotation_about_z(math.radians(degrees)) @ np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    made = transform('base_link', name)
    turn = made.transform.rotation
    turn.w, turn.x, turn.y, turn.z = Transform(look, np.zeros(3)).quaternion
    return made


def test_markers_are_read_where_a_parameter_names_them(ros):
    publisher = ros.publisher('/shown/perception/markers', MarkerArray)
    tokens = ros.collect('/shown/tokens/detections', ModalityTokens)
    ros.start(MODULE, namespace='/shown', parameters={'topic': 'perception/markers', 'marker_score': .7})
    ros.wait_for_subscriber(publisher)
    message = MarkerArray(markers=[Marker(action=Marker.DELETEALL)])
    for number, (name, x) in enumerate((('CAR', 8.), ('lane', 3.), ('PEDESTRIAN', -4.))):
        marker = Marker(ns=name, id=number, type=Marker.CUBE)
        marker.header.frame_id, marker.header.stamp = 'base_link', from_nanoseconds(STAMP)
        marker.pose.position.x, marker.pose.orientation.w = x, 1.
        marker.scale.x = marker.scale.y = marker.scale.z = 1.
        message.markers.append(marker)
    read = next_tokens(lambda: publisher.publish(message), tokens, STAMP)
    np.testing.assert_allclose(read.values.sum(1), [.7, .7], atol=1e-5)
    np.testing.assert_allclose(read.distance, [8, 4])


def test_without_the_messages_the_reason_is_told(ros, tmp_path):
    (tmp_path / 'vision_msgs').mkdir()
    (tmp_path / 'vision_msgs' / '__init__.py').write_text('raise ImportError("hidden")')
    ros.publisher('/bare/detections', Detection3DArray)
    diagnostics = ros.collect('/diagnostics', DiagnosticArray, 10)
    ros.start(MODULE, namespace='/bare', environment={
        'PYTHONPATH': os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])})
    said = '/bare/detections: vision_msgs/msg/Detection3DArray cannot be read: vision_msgs is not installed'
    diagnostics.wait(where=lambda message: said in message.status[0].message)


@pytest.mark.weights
@pytest.mark.timeout(400)
def test_a_robot_with_a_detector_answers_out_of_the_box(ros, tmp_path):
    """`mpnp bringup` starts the node; answers count its objects until it is unplugged."""
    from ros_harness import wait_until

    if packaged_gguf() is None:
        pytest.skip('the default language model is not installed')
    parameters = {'/**/fusion': {'device': 'cpu', 'dtype': 'float32', 'threads': 1, 'link_store': ''}}
    (tmp_path / 'robot.yaml').write_text(yaml.safe_dump(
        {node: {'ros__parameters': values} for node, values in parameters.items()}))
    publisher = ros.publisher('/whole/detections', Detection3DArray)
    states = ros.collect('/whole/modalities', ModalityStates, LATCHED)
    objects = [('car', .97, 12, -2), ('car', .97, 20, 3), ('car', .95, 8, 2), ('pedestrian', .9, -9, 3)]
    running = [True]

    def publish():
        if running[0]:
            publisher.publish(boxes(ros.node.get_clock().now().nanoseconds, objects))

    timer = ros.node.create_timer(.1, publish)
    system = ros.run(
        [sys.executable, '-m', 'mpnp_ros.cli.main', 'bringup', '--modalities', 'detections',
         '--no-adaptation', '--namespace', 'whole', '--params-file', str(tmp_path / 'robot.yaml')],
        {**os.environ, **ros.environment})

    def answer(text):
        return ros.call(Ask, '/whole/ask', Ask.Request(question=Question(text=text))).answer

    def state():
        rows = states.messages[-1].modalities if states.messages else []
        return next((row for row in rows if row.modality == 'detections'), None)

    try:
        system.wait_for_output('nodes are ready', 180)
        wait_until(lambda: answer('How many cars are there?').status == 0, 'an answer', 60)
        reply = answer('How many cars are there?')
        assert (reply.text, list(reply.used_modalities)) == ('3', ['detections'])
        assert answer('Are there any pedestrians to the back of me?').text == 'yes'
        assert answer('Are there any buses?').text == 'no'
        objects.pop(0)
        wait_until(lambda: answer('How many cars are there?').text == '2', 'two cars')
        assert state().links_version == READ_LIKE and state().plugged

        ros.call(SetModality, '/whole/set_modality', SetModality.Request(modality='detections', command=2))
        assert answer('How many cars are there?').status != 0
        ros.call(SetModality, '/whole/set_modality', SetModality.Request(modality='detections', command=0))
        wait_until(lambda: answer('How many cars are there?').text == '2', 'two cars again')
        running[0] = False
        wait_until(lambda: state().state == 4, 'a detector that is silent is stale')
        assert answer('How many cars are there?').status != 0
    finally:
        ros.node.destroy_timer(timer)
        system.stop()


@pytest.mark.weights
@pytest.mark.timeout(300)
def test_tokens_that_no_links_fit_are_read_like_counts_of_objects(ros):
    if packaged_gguf() is None:
        pytest.skip('the default language model is not installed')
    encoders = ros.publisher('/alike/encoders', EncoderInfo, LATCHED)
    camera = {'modality': 'camera', 'node': '/test/test'}
    encoders.publish(EncoderInfo(**camera, encoder='camera-detections', token_width=24))
    fusion = ros.start('mpnp_ros.nodes.fusion', namespace='/alike', parameters={
        'device': 'cpu', 'dtype': 'float32', 'threads': 1, 'link_store': ''})
    fusion.wait_for_output(f'camera links {READ_LIKE} are in use', 200)
    assert 'do not fit' not in fusion.output  # links that are replaced at once are no reason to warn
    encoders.publish(EncoderInfo(**camera, encoder='camera-columns', token_width=768))
    fusion.wait_for_output('do not fit encoder camera-columns')
    shipped = read_manifest(shipped_links()['camera'].path)
    encoders.publish(EncoderInfo(**camera, encoder=shipped.config.encoder, token_width=24))
    fusion.wait_for_output(f'camera links {shipped.version} are in use')
