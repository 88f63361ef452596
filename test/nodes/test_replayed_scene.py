"""The real key frame as a bag, through replay and encoders: mounts, stamps, time that jumps back."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from mpnp_ros.msg import ModalityTokens
from rosbags.rosbag2 import Reader, StoragePlugin, Writer

from mpnp_ros.bags.messages import message_types
from mpnp_ros.bags.writer import write_bag
from mpnp_ros.conversions.messages import from_message
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_world.sensors.rig import CAMERAS

KEYFRAME = Path(__file__).parents[3] / 'shared/data/nuscenes_keyframe'
pytestmark = [pytest.mark.ros, pytest.mark.skipif(not KEYFRAME.exists(), reason='no nuScenes key frame here')]
YAWS = {'cam_front': 0, 'cam_front_left': 55, 'cam_front_right': -55, 'cam_back': 180, 'cam_back_left': 110,
        'cam_back_right': -110}


def test_a_looping_scene_gives_directed_tokens_again_and_again(ros, tmp_path, tiny_camera, tiny_lidar):
    root = NuScenes(KEYFRAME)
    bag = write_bag(root, tmp_path / 'bag', progress=False)
    cameras = ros.collect('/tokens/camera', ModalityTokens)
    lidars = ros.collect('/tokens/lidar', ModalityTokens)
    names = [camera.lower() for camera in CAMERAS]
    ros.start('mpnp_ros.nodes.encoder camera',
              parameters={**tiny_camera, 'use_sim_time': True, 'cameras': names})
    ros.start('mpnp_ros.nodes.encoder lidar',
              parameters={**tiny_lidar, 'use_sim_time': True, 'topic': 'lidar_top'})
    ros.start('mpnp_ros.nodes.replay', parameters={'bag': str(bag), 'loop': True, 'wait_for': [
        '/lidar_top', *(f'/{camera}/image_rect/compressed' for camera in names)]})
    tokens = from_message(cameras.wait(3, where=lambda message: len(message.sources) == 6)[-1])
    sweep = from_message(lidars.wait(3)[-1])

    frame = next(root.key_frames(root.scenes[0]['name']))
    stamps = {name.lower(): reading.stamp_ns for name, reading in frame.cameras.items()}
    assert dict(zip(tokens.sources, tokens.source_stamps_ns, strict=True)) == stamps
    assert tokens.stamp_ns == min(stamps.values())
    assert sweep.stamp_ns == frame.lidar.stamp_ns
    for index, name in enumerate(tokens.sources):
        azimuth = np.degrees(tokens.azimuth[tokens.source_index == index])
        off = (azimuth - YAWS[name] + 180) % 360 - 180
        assert np.abs(off).max() < 40 and off[0] > 0 > off[-1], (name, azimuth)


def test_the_first_frame_knows_the_mounts_though_the_bag_says_nothing_of_qos(ros, tmp_path, tiny_camera):
    """As rosbags-convert leaves it, with the transforms recorded last."""
    scene = write_bag(NuScenes(KEYFRAME), tmp_path / 'scene', progress=False)
    types = message_types()
    with Reader(scene) as reader, Writer(tmp_path / 'bag', version=8,
                                         storage_plugin=StoragePlugin.MCAP) as writer:
        for given in reader.connections:
            connection = writer.add_connection(given.topic, given.msgtype, typestore=types)
            for _, stamp, data in reader.messages([given]):
                writer.write(connection, stamp + 10 ** 9 * (given.topic == '/tf_static'), data)
    cameras = ros.collect('/tokens/camera', ModalityTokens)
    encoder = ros.start('mpnp_ros.nodes.encoder camera', parameters={**tiny_camera, 'use_sim_time': True})
    replay = ros.start('mpnp_ros.nodes.replay', parameters={'bag': str(tmp_path / 'bag'), 'wait_for': [
        f'/{camera}/image_rect/compressed' for camera in map(str.lower, CAMERAS)]})
    tokens = from_message(cameras.wait(1)[0])
    azimuth = np.degrees(tokens.azimuth)
    for index, name in enumerate(tokens.sources):
        assert np.abs((azimuth[tokens.source_index == index] - YAWS[name] + 180) % 360 - 180).max() < 40, name
    assert 'does not connect' not in encoder.output
    assert replay.wait() == 0
