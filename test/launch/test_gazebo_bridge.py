"""config/gazebo_bridge.yaml: Gazebo sends what a replayed bag sends and what the encoders listen to."""
from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from mpnp_ros.bags.messages import MessageFactory, message_types
from mpnp_ros.bags.writer import SceneRecording
from mpnp_ros.cli.node_processes import source_files
from mpnp_ros.endpoints import SUBSCRIBES
from mpnp_ros.modalities.registry import find_sensor
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_world.standin.writer import write_standin

ROOT = Path(__file__).parents[2]
ROWS = yaml.safe_load((ROOT / 'config/gazebo_bridge.yaml').read_text())
GAZEBO_TYPES = {  # the table in the README of ros_gz_bridge
    'rosgraph_msgs/msg/Clock': 'gz.msgs.Clock', 'sensor_msgs/msg/PointCloud2': 'gz.msgs.PointCloudPacked',
    'sensor_msgs/msg/Imu': 'gz.msgs.IMU', 'nav_msgs/msg/Odometry': 'gz.msgs.Odometry',
    'tf2_msgs/msg/TFMessage': 'gz.msgs.Pose_V', 'geometry_msgs/msg/Twist': 'gz.msgs.Twist',
    'sensor_msgs/msg/CameraInfo': 'gz.msgs.CameraInfo',
}
TO_ROS = {row['ros_topic_name']: row['ros_type_name'] for row in ROWS if row['direction'] == 'GZ_TO_ROS'}


@pytest.fixture(scope='module')
def recorded(tmp_path_factory) -> dict[str, str]:
    """Topic -> type of what a bag of nuScenes holds, and of its IMU, which the stand-in lacks."""
    folder = tmp_path_factory.mktemp('standin')
    write_standin(folder, 0, scenes=1, key_frames=2)
    root, factory = NuScenes(folder), MessageFactory(message_types())
    entries = SceneRecording(root, root.scenes[0], factory, None).entries()
    imu = factory.imu(0, (1, 0, 0, 0), (0, 0, 0), (0, 0, 9.8))
    return {'/imu': imu.__msgtype__} | {entry.topic: entry.type_name for entry in entries}


@pytest.fixture(scope='module')
def ego() -> ElementTree.Element:
    """The vehicle of a shipped world."""
    return ElementTree.parse(ROOT / 'worlds/street_day.sdf').find("world/model[@name='ego']")


def parameters(node: str) -> dict[str, Any]:
    """The node's parameters with config/nuscenes.yaml, which the launch file gives it."""
    files = [ROOT / 'config/mpnp.yaml', *source_files('config/nuscenes.yaml')]
    sections = [yaml.safe_load(file.read_text()).get(f'/**/{node}', {}) for file in files]
    return {name: value for entry in sections for name, value in entry.get('ros__parameters', {}).items()}


def listened_type(endpoints: tuple[Any, ...], name: str) -> str:
    """The type of a subscription by its name in the table of interfaces."""
    return next(entry.type for entry in endpoints if (entry.kind, entry.name) == (SUBSCRIBES, name))


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row['ros_topic_name'])
def test_rows_are_whole_and_their_types_belong_together(row):
    assert set(row) == {'ros_topic_name', 'gz_topic_name', 'ros_type_name', 'gz_type_name', 'direction'}
    assert row['gz_type_name'] == GAZEBO_TYPES[row['ros_type_name']]
    assert row['direction'] == ('ROS_TO_GZ' if row['ros_topic_name'] == '/cmd_vel' else 'GZ_TO_ROS')


def test_no_topic_comes_twice():
    for side in ('ros_topic_name', 'gz_topic_name'):
        names = [row[side] for row in ROWS]
        assert len(set(names)) == len(names)


def test_topics_and_types_are_those_of_a_bag(recorded):
    """The clock comes from whatever plays the bag."""
    assert {topic: kind for topic, kind in TO_ROS.items() if topic != '/clock'}.items() <= recorded.items()
    assert TO_ROS['/clock'] == 'rosgraph_msgs/msg/Clock'


def test_cameras_are_those_of_a_bag(recorded, ego):
    images = {f'{sensor.findtext("topic")}/compressed' for sensor in ego.iter('sensor')
              if sensor.get('type') == 'camera'}
    assert images == {topic for topic in recorded if topic.endswith('/compressed')}


def test_encoders_hear_it():
    """With the parameters that the launch file gives them."""
    camera, lidar = parameters('camera_encoder'), parameters('lidar_encoder')
    for name in camera['cameras']:
        topic = camera['camera_info_topic'].replace('{camera}', name)
        assert TO_ROS[topic] == listened_type(find_sensor('camera').endpoints, '<camera_info_topic>')
    assert TO_ROS[lidar['topic']] == listened_type(find_sensor('lidar').endpoints, '<topic>')
    assert camera['transport'] == 'compressed'


def test_the_images_have_the_names_the_encoder_listens_to(ego):
    camera = parameters('camera_encoder')
    wanted = {camera['image_topic'].replace('{camera}', name) for name in camera['cameras']}
    assert wanted == {f'{sensor.findtext("topic")}/compressed' for sensor in ego.iter('sensor')
                      if sensor.get('type') == 'camera'}


def test_gazebo_sends_and_hears_it(ego):
    """A camera's calibration is beside its images, a LiDAR's points below its scans."""
    beside = {f'{sensor.findtext("topic").rsplit("/", 1)[0]}/camera_info' for sensor in ego.iter('sensor')
              if sensor.get('type') == 'camera'}
    below = {f'{sensor.findtext("topic")}/points' for sensor in ego.iter('sensor')
             if sensor.get('type') == 'gpu_lidar'}
    plain = {sensor.findtext('topic') for sensor in ego.iter('sensor') if sensor.get('type') == 'imu'}
    odometry = {ego.findtext('plugin/odom_topic'), ego.findtext('plugin/tf_topic')}
    heard = {row['gz_topic_name'] for row in ROWS if row['direction'] == 'GZ_TO_ROS'}
    assert heard == beside | below | plain | odometry | {'/clock'}
    assert [row['gz_topic_name'] for row in ROWS if row['direction'] == 'ROS_TO_GZ'] == [
        ego.findtext('plugin/topic')]


def test_poses_are_in_the_frames_of_a_bag(ego):
    assert ego.findtext('plugin/odom_frame') == 'map'
    assert ego.findtext('plugin/robot_base_frame') == 'base_link'
